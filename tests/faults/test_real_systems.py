"""F31, F32, F33 on the real thing: a reused process id, a full file system, a clock that jumps.

The first two run in a namespace of their own, as root; the last preloads a small library that moves
the wall clock of one process. Where a machine does not allow that, the test skips and says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import ofx_build
from fakes.base_line import AbusedDaemon
from fakes.daemon_process import wait_for
from fakes.host_process import HostProcess
from fakes.light_python import light_python
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, same, shot

pytestmark = pytest.mark.slow

SHOT = shot(seed=7)
HOUR_S = 3600
# Into another month, whatever the day and the month.
FORTY_DAYS_S = 40 * 24 * HOUR_S

PREAMBLE = """
import os, signal, subprocess, sys, time
from pathlib import Path
import numpy as np
from fakes.base_line import AbusedDaemon
from fakes.daemon_process import DaemonProcess, is_alive, wait_for
from fakes.pictures import PLAIN, same, shot
from mattebridge import cli
from mattebridge.client import MatteClient

SHOT = shot(seed=7)
"""


def in_namespaces(flags: list[str], code: str, *arguments: str) -> str:
    """Run code in new namespaces; what it printed. Skips where the system refuses them."""
    command = ["unshare", *flags]
    try:
        probe = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=SOON_S)
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here")
    if probe.returncode:
        pytest.skip(f"no new namespaces here: {probe.stderr.strip()[-200:]}")
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [*command, light_python(), "-c", PREAMBLE + textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- F31: a process id that is used again -----------------------------------------------------


def test_f31_a_process_that_got_the_pid_of_a_killed_daemon_is_left_alone() -> None:
    last = Path("/proc/sys/kernel/ns_last_pid")
    if not last.exists() or not os.access(last, os.W_OK):
        pytest.skip("the next process id cannot be chosen here (ns_last_pid, as root)")
    code = """
        daemon = DaemonProcess(light=True).start()
        folder, old = daemon.folder, daemon.pid
        wait_for(lambda: str(old) in (folder / "status.json").read_text(), 60, "status.json")
        daemon.kill()
        for _try in range(200):
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(old - 1))
            innocent = subprocess.Popen(["sleep", "600"])
            if innocent.pid == old:
                break
            innocent.kill()
            innocent.wait()
        assert innocent.pid == old, (innocent.pid, old)
        os.environ["MATTEBRIDGE_RUNTIME_DIR"] = str(folder)
        for command in ("status", "stop"):
            status = cli.main([command])
            assert innocent.poll() is None, f"{command} ended a process that is no daemon"
        again = DaemonProcess(folder=folder, light=True).start()
        with MatteClient.connect(str(folder)) as client:
            assert client.status()["pid"] == again.pid != old
            assert same(client.matte(*SHOT, **PLAIN), again.matted(*SHOT))
        assert cli.main(["stop"]) == 0
        assert again.process.wait(60) == 0
        assert innocent.poll() is None
        innocent.kill()
        innocent.wait()
        again.end()
        daemon.end()
        print("left alone")
    """
    assert "left alone" in in_namespaces(["--pid", "--fork", "--mount-proc"], code)


# -- F32: a file system that is full ----------------------------------------------------------

MOUNT = """
home = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "full", str(home)], check=True)

def fill():
    # To the last byte: first large pieces, then small ones.
    with open(home / "ballast", "ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
"""


def test_f32_a_daemon_whose_file_system_is_full_goes_on_rendering(tmp_path: Path) -> None:
    code = """
        daemon = AbusedDaemon(light=True)
        daemon.folder = home / "run"
        daemon.start()
        daemon.wait_ready()
        fill()
        written = len(daemon.log())
        for _turn in range(2):
            with daemon.connect() as client:
                for _frame in range(20):
                    assert same(client.matte(*SHOT, **PLAIN), daemon.matted(*SHOT))
                assert client.status()["state"] == "ready"
        time.sleep(6)  # a status is written every 5 s
        assert not list(daemon.folder.glob(".*.tmp")), "half a file is left"
        (home / "ballast").unlink()
        with daemon.connect() as client:
            client.matte(*SHOT, **PLAIN)
        wait_for(lambda: len(daemon.log()) > written, 60, "it logs again")
        assert daemon.stop() == 0
        daemon.end()
        print("went on")
    """
    found = in_namespaces(["--mount"], MOUNT + textwrap.dedent(code), str(tmp_path))
    assert "went on" in found


def test_f32_a_shot_on_a_full_file_system_leaves_whole_files_and_can_go_on(
    tmp_path: Path,
) -> None:
    code = """
        from mattebridge.errors import FrameWriteError
        from mattebridge.image_io import write_frame
        inputs = Path(sys.argv[2])
        inputs.mkdir()
        # Without compression a frame has 720 kB: two fit, or one beside what else is written.
        for frame in range(1, 13):
            plate, clean = shot(400, 300, seed=frame)
            write_frame(inputs / f"plate.{frame:04d}.png", plate)
        write_frame(inputs / "clean.png", clean)
        words = ["matte", str(inputs / "plate.####.png"), "--clean-plate",
                 str(inputs / "clean.png"), "-o", str(home / "out"), "--outputs", "foreground",
                 "--model", "difference", "--format", "exr-none", "--private"]
        first = cli.main(words)
        made = sorted((home / "out").rglob("*.exr"))
        assert first == FrameWriteError.exit_status, first
        assert 0 < len(made) < 12, made
        assert not list((home / "out").rglob(".*.tmp*")), "half a file is left"
        kept = {path: path.read_bytes() for path in made}
        subprocess.run(["mount", "-o", "remount,size=64m", str(home)], check=True)
        assert cli.main([*words, "--resume"]) == 0
        assert len(list((home / "out").rglob("*.exr"))) == 12
        assert all(path.read_bytes() == data for path, data in kept.items())
        print("went on")
    """
    home = tmp_path / "full"
    home.mkdir()
    found = in_namespaces(
        ["--mount"], MOUNT + textwrap.dedent(code), str(home), str(tmp_path / "inputs")
    )
    assert "went on" in found


# -- F33: the clock jumps ---------------------------------------------------------------------

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

// The wall clock of this process runs ahead by the seconds that a file holds.
static long ahead(void) {
  const char *path = getenv("CLOCK_FILE");
  FILE *file = path ? fopen(path, "r") : NULL;
  long seconds = 0;
  if (file) {
    if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
    fclose(file);
  }
  return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
  int status = real(clock, now);
  if (status == 0 && clock == CLOCK_REALTIME) now->tv_sec += ahead();
  return status;
}

int gettimeofday(struct timeval *now, void *zone) {
  struct timespec exact;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (out) *out = exact.tv_sec;
  return exact.tv_sec;
}
"""


@pytest.fixture(scope="module")
def moved_clock(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, str]]:
    """A function: the environment in which a process has the clock of a file."""
    folder = tmp_path_factory.mktemp("clock")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(CLOCK)
    try:
        command = [*ofx_build.compiler(), "-x", "c", "-shared", "-fPIC", "-O1"]
    except ofx_build.NoCompiler as missing:
        pytest.skip(str(missing))
    done = subprocess.run(
        [*command, str(source), "-o", str(library), "-ldl"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return lambda path: {"LD_PRELOAD": str(library), "CLOCK_FILE": str(path)}


def test_f33_a_clock_that_jumps_expires_nothing_and_ends_nobody(
    moved_clock: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    environment = moved_clock(clock)
    daemon = AbusedDaemon(light=True, **environment)
    host_code = """
        from fakes.light_python import matted_light
        from fakes.pictures import same
        expected = matted_light(plate, clean_plate)
        handle = client.submit(plate, clean_plate, frame=13, timeout_s=120, **PLAIN)
        say("sent", int(time.time()))
        while not handle.done():
            time.sleep(0.01)
        say("frame", same(handle.result(60), expected), int(time.time()))
        for _turn in range(3):
            assert same(client.matte(plate, clean_plate, frame=14, **PLAIN), expected)
        say("state", client.ping()["state"])
    """
    try:
        daemon.start()
        daemon.wait_ready()
        with daemon.gate() as gate, HostProcess(daemon.folder, host_code, **environment) as host:
            sent_at = int(host.heard("sent"))
            gate.wait_reached()
            workers = daemon.worker_pids()
            for ahead_s in (HOUR_S, -HOUR_S, FORTY_DAYS_S):
                clock.write_text(str(ahead_s))
                # Several ticks of the front, and looks of the watchdog.
                time.sleep(1.0)
            gate.open()
            right, seen_at = host.heard("frame").split()
            assert right == "True"
            # The host's own clock did jump.
            assert int(seen_at) - sent_at >= FORTY_DAYS_S
            assert host.heard("state") == "ready"
            assert daemon.worker_pids() == workers
        # So did the daemon's.
        months = {line[:7] for line in daemon.log().splitlines() if line[:2] == "20"}
        assert len(months) >= 2, months
        assert "hang" not in daemon.log()
        with daemon.connect() as client:
            assert same(client.matte(*SHOT, **PLAIN), daemon.matted(*SHOT))
        clock.write_text(str(-HOUR_S))
        wait_for(daemon.accepts_everything, SOON_S, "it serves after a jump back")
    finally:
        daemon.end()
