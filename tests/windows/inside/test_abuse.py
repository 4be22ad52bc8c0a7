"""A daemon whose pipes are misused, whose clients are killed early, and that meets other daemons.

Each daemon is in a folder whose name has to be quoted. Runs on Windows, or under Wine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from fakes.other_versions import ANOTHER_PROTOCOL, OLDER_RELEASE
from mattebridge.client import MatteClient
from mattebridge.client.autostart import ANOTHER_INSTANCE
from mattebridge.daemon import control
from mattebridge.errors import VersionError
from mattebridge.hosts import route
from mattebridge.wire import oslayer, win32
from mattebridge.wire.folder import CTL, DOOR
from mattebridge.wire.windows_pipes import COUNT, HANDLE, PipeConnection
from windows import digests, handles
from windows.patience import LIMIT_S, connect
from windows.running import Daemon, start, wait_for

STARTERS = 3
# Seconds from the first arena of a client to its end.
MOMENTS_S = (0.0, 0.02, 0.1)
# Opens one session after the other, and is given the memory of eight arenas each time.
GREEDY = """
import sys; from pathlib import Path; from mattebridge.wire.door import Door, close_all
hello = {"op": "hello", "proto": [1, 1], "client": {"name": "greedy", "ver": "0"},
         "want": {"slots": 8, "bytes": 1 << 20}}
while True:
    door = Door.connect(Path(sys.argv[1]))
    close_all(door.ask(hello)[1])
    door.close()
    print("one", flush=True)
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    started = Daemon(tmp_path_factory.mktemp("Élodie's shots & 100% of them") / "v 1")
    yield started
    started.kill()


def hello(**changes: object) -> bytes:
    message = {
        "op": "hello", "proto": [1, 1], "client": {"name": "raw", "ver": "0"},
        "want": {"slots": 1, "bytes": 1 << 20}, **changes,
    }  # fmt: skip
    return msgpack.packb(message)


def bare(handles_named: int, data: bytes) -> bytes:
    """A record as it is on the pipe, with numbers of handles that its sender made up."""
    numbers = b"".join(HANDLE.pack(4 * number) for number in range(1, handles_named + 1))
    return COUNT.pack(handles_named) + numbers + data


BAD = {
    "nothing": b"",
    "less than a count": b"\1\0",
    "no data": bare(0, b""),
    "a count without its handles": COUNT.pack(0xFFFFFFFF),
    "seventeen handles": bare(17, hello()),
    "handles of the daemon's own": bare(2, hello()),
    "no message": bare(0, b"\xc1" * 40),
    "a message that is no map": bare(0, msgpack.packb([1])),
    "a deep message": bare(0, b"\x91" * 4000),
    "a message with the tag of the other channel": bare(0, b"MTB1" + hello()),
    "too many arenas": bare(0, hello(want={"slots": 9, "bytes": 1})),
    "longer than any record": bare(0, b"x" * (1 << 18)),
}


def test_what_is_no_message_ends_its_own_connection_and_nothing_else(daemon: Daemon) -> None:
    with connect(daemon.folder) as client:
        before = None
        for _turn in range(2):
            for name in (DOOR, CTL):
                for raw in BAD.values():
                    connection = opened(daemon.folder / name)
                    write(connection, raw)
                    connection.close()
            matte = client.matte(*digests.frame(0), model="difference", timeout_s=LIMIT_S)
            assert matte.alpha.any()
            wait_for(
                lambda: [one["pid"] for one in client.status(LIMIT_S)["sessions"]] == [os.getpid()],
                "a session of a bad hello is still there",
            )
            before = before or handles.kinds_of(daemon.process.pid)
        handles.wait_until_closed(before, daemon.process.pid)


def opened(address: Path) -> PipeConnection:
    """A connection, as soon as the daemon waits for one."""
    until = time.monotonic() + LIMIT_S
    while True:
        try:
            connection = oslayer.current().connect(address)
        except BlockingIOError:
            assert time.monotonic() < until, "the daemon waits for no connection"
            time.sleep(0.01)
        else:
            assert isinstance(connection, PipeConnection)
            return connection


def write(connection: PipeConnection, raw: bytes) -> None:
    """The bytes of one record, until the daemon has read them or ended the connection."""
    try:
        connection._begin_write(raw)
    except BrokenPipeError:
        return
    until = time.monotonic() + LIMIT_S
    while connection._write.pending and connection._write.result() is None:
        assert time.monotonic() < until, "the daemon does not read"
        time.sleep(0.002)


def test_a_client_killed_while_it_is_given_memory_leaves_none_of_it(daemon: Daemon) -> None:
    with connect(daemon.folder) as watching:
        before = None
        for moment_s in (*MOMENTS_S, 0.0):
            greedy = subprocess.Popen(
                [sys.executable, "-c", GREEDY, str(daemon.folder)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert greedy.stdout is not None
            assert greedy.stdout.readline().strip() == b"one"
            time.sleep(moment_s)
            greedy.kill()
            greedy.wait(LIMIT_S)
            greedy.stdout.close()
            wait_for(
                lambda: not watching.status(LIMIT_S)["memory"]["arena_bytes"], "memory is left"
            )
            before = before or handles.kinds_of(daemon.process.pid)
        handles.wait_until_closed(before, daemon.process.pid)


def test_of_daemons_that_start_at_the_same_moment_one_stays(tmp_path: Path) -> None:
    folder = tmp_path / "v 1"
    fronts = [start(folder) for _number in range(STARTERS)]
    try:
        with connect(folder) as client:
            winner = client.status(LIMIT_S)["pid"]
            losers = [front for front in fronts if front.pid != winner]
            assert len(losers) == STARTERS - 1
            assert [front.wait(LIMIT_S) for front in losers] == [ANOTHER_INSTANCE] * len(losers)
            assert client.status(LIMIT_S)["pid"] == winner
    finally:
        for front in fronts:
            front.kill()
            front.wait(LIMIT_S)
            assert front.stdout is not None
            front.stdout.close()


def test_a_daemon_of_another_protocol_is_refused_in_a_sentence_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STOP_LIMIT_S", LIMIT_S)
    old = Daemon(tmp_path / "v1", program=("-c", ANOTHER_PROTOCOL))
    try:
        with pytest.raises(VersionError, match="The client is older: install it again") as caught:
            MatteClient.connect(str(old.folder))
        assert f"is process {old.process.pid}: `mattebridge stop` ends it" in str(caught.value)
        assert control.stop(str(old.folder)) is control.Outcome.STOPPED
    finally:
        old.kill()


def test_a_daemon_of_an_older_release_is_named_by_the_panel_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STOP_LIMIT_S", LIMIT_S)
    old = Daemon(tmp_path / "v1", program=("-c", OLDER_RELEASE))
    try:
        line = route.status_line(str(old.folder))
        assert "end it with `mattebridge stop`, and start the new one" in line
        assert control.stop(str(old.folder)) is control.Outcome.STOPPED
        assert old.process.wait(LIMIT_S) == 0
    finally:
        old.kill()


# Ends with its job, as do its children that may not leave it; prints the number of a child.
IN_A_JOB = """
import ctypes, sys, time; from mattebridge.wire import oslayer, win32
limits = win32.ExtendedLimits()
limits.BasicLimitInformation.LimitFlags = int(sys.argv[1])
job = win32.check(win32.kernel32.CreateJobObjectW(None, None))
size = ctypes.sizeof(limits)
win32.check(win32.kernel32.SetInformationJobObject(job, 9, ctypes.byref(limits), size))
me = win32.kernel32.GetCurrentProcess()
win32.check(win32.kernel32.AssignProcessToJobObject(job, me))
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
print(oslayer.current().start_detached(sleeper).pid, flush=True)
time.sleep(600)
"""
KILL_ON_CLOSE, BREAKAWAY_OK = 0x2000, 0x800


@pytest.mark.parametrize("leaves", [True, False])
def test_a_daemon_outlives_the_job_of_its_host_where_that_job_lets_it(leaves: bool) -> None:
    flags = KILL_ON_CLOSE | (BREAKAWAY_OK if leaves else 0)
    host = subprocess.Popen(
        [sys.executable, "-c", IN_A_JOB, str(flags)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert host.stdout is not None
    pid = int(host.stdout.readline())
    rights = win32.SYNCHRONIZE | 1  # to end it
    child = win32.check(win32.kernel32.OpenProcess(rights, False, pid))
    try:
        host.kill()
        host.wait(LIMIT_S)
        host.stdout.close()
        wait = win32.kernel32.WaitForSingleObject
        if leaves:
            assert wait(child, 500) == win32.WAIT_TIMEOUT
        else:
            assert wait(child, int(LIMIT_S * 1000)) == win32.WAIT_OBJECT_0
    finally:
        win32.kernel32.TerminateProcess(child, 1)
        win32.close(child)
