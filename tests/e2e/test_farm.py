"""A shot on a farm: the job that we ship, run by the real `openjd`, with the real daemon.

Rows J1 to J15 are those of the acceptance list of the farm; each docstring names its own.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from fakes.daemon_process import DaemonProcess, children, is_alive, wait_for
from fakes.farm import ROOT, TEMPLATE, Farm, paint_shot
from fakes.limits import SOON_S
from mattebridge.client import MatteClient
from mattebridge.client.session import Session
from mattebridge.daemon import private
from mattebridge.image_io import read_frame
from mattebridge.image_io.frame_ranges import parse_frames

pytestmark = pytest.mark.slow

FRAMES = range(1001, 1007)
OUTPUTS = ("alpha", "foreground", "premultiplied")


@pytest.fixture
def farm(tmp_path):
    """A worker's host with the light engine, and six frames to matte on it."""
    farm = Farm(tmp_path, light=True)
    paint_shot(tmp_path, FRAMES)
    yield farm
    farm.close()


@pytest.fixture
def real_farm(tmp_path):
    """The same with the real engine."""
    farm = Farm(tmp_path)
    paint_shot(tmp_path, FRAMES)
    yield farm
    farm.close()


def whole(frames) -> list[str]:
    return sorted(f"{output}/plate.{frame}.exr" for output in OUTPUTS for frame in frames)


def progress_of(words: str) -> list[float]:
    return [float(value) for value in re.findall(r"^openjd_progress: (.*)$", words, re.M)]


# --------------------------------------------------------------------------------- the whole way


def test_a_shot_is_matted_in_chunks_by_one_daemon_that_is_gone_afterwards(real_farm):
    """J1, J6, J9."""
    farm = real_farm
    run = farm.job("-p", "Frames=1001-1006", "-p", "ChunkSize=3")
    assert run.status == 0, run.log
    assert run.endings == [("enter", 0), ("1001-1003", 0), ("1004-1006", 0), ("exit", 0)]
    assert sorted(farm.made()) == whole(FRAMES)
    assert farm.leftovers() == []
    assert farm.daemons_so_far() == 1
    assert not farm.daemon_lives()
    assert sorted(os.listdir(farm.runtime)) == ["lock", "log", "status.json"]
    assert "STDOUT stream is still open" not in run.log
    assert "-- ERROR" not in run.log
    assert f"openjd_env: MATTEBRIDGE_INSTANCE={farm.instance}" in run["enter"].words
    for chunk in ("1001-1003", "1004-1006"):
        said = progress_of(run[chunk].words)
        assert said == sorted(said)
        assert said[-1] == 100.0
        assert "openjd_status: 3 frames: 3 done" in run[chunk].words


def test_a_submitted_shot_is_run_with_its_own_options(tmp_path):
    """J1, J12: blanks in every path, a relative output, no home that can be written, umask 077."""
    folder = tmp_path / "a shot" / "with blanks"
    paint_shot(folder, [1, 2, 3, 5], name="my plate")
    nowhere = {"HOME": "/proc/nowhere", "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": ""}
    farm = Farm(folder, light=True, **nowhere)
    try:
        job = ["mattebridge", "farm", "submit", "my plate.####.exr", "--clean-plate", "clean.exr"]
        options = ["--frames", "1-5x2", "--cpu", "--chunk", "2"]
        options += ["--outputs", "alpha,comp", "--format", "exr,comp=png"]
        more = ["-o", "the mattes", "--instance", farm.instance, "--queue", "openjd"]
        bin_folder = os.path.dirname(os.path.realpath(_openjd_command()))
        path = f"{farm.environment['PATH']}{os.pathsep}{bin_folder}"
        process = farm.start([*job, *options, *more], umask=0o077, PATH=path)
        run = farm.end_job(process)
        assert run.status == 0, run.log
        assert [what for what, _ in run.endings] == ["enter", "1,3", "5", "exit"]
        mattes = folder / "the mattes"
        assert sorted(path.name for path in (mattes / "alpha").iterdir()) == [
            f"my plate.000{frame}.exr" for frame in (1, 3, 5)
        ]
        assert read_frame(mattes / "comp" / "my plate.0005.png").pixels.dtype == "uint8"
        assert not farm.daemon_lives()
    finally:
        farm.close()


def test_a_shot_of_a_windows_drive_is_matted_where_the_workers_see_it(tmp_path):
    """A job that was submitted on Windows, with the studio's path mapping rules."""
    folder = tmp_path / "mount" / "sh010"
    paint_shot(folder, [7])
    rule = {"source_path_format": "WINDOWS", "source_path": "P:\\Shots"}
    rules = [{**rule, "destination_path": str(tmp_path / "mount")}]
    listed = {"version": "pathmapping-1.0", "path_mapping_rules": rules}
    (tmp_path / "rules.json").write_text(json.dumps(listed))
    farm = Farm(folder, light=True)
    try:
        job = ["mattebridge", "farm", "submit", "P:\\shots\\sh010\\plate.####.exr", "--cpu"]
        job += ["--clean-plate", "P:/Shots/sh010/clean.exr", "-o", "P:\\Shots\\sh010\\mattes"]
        job += ["--map", str(tmp_path / "rules.json"), "--to", str(tmp_path / "job")]
        job += ["--unchecked", "--frames", "7", "--outputs", "alpha"]
        job += ["--instance", farm.instance, "--queue", "openjd"]
        bin_folder = os.path.dirname(os.path.realpath(_openjd_command()))
        path = f"{farm.environment['PATH']}{os.pathsep}{bin_folder}"
        run = farm.end_job(farm.start(job, PATH=path))
        assert run.status == 0, run.log
        made = [path.name for path in (folder / "mattes" / "alpha").iterdir()]
        assert made == ["plate.0007.exr"]
    finally:
        farm.close()


def _openjd_command() -> str:
    beside = os.path.join(os.path.dirname(sys.executable), "openjd")
    found = beside if os.path.exists(beside) else shutil.which("openjd")
    assert found is not None
    return found


def test_the_shipped_job_is_valid_and_its_actions_are_programs_and_not_shells(farm):
    """J1, J3: a shell would keep the cancel to itself."""
    checked = farm.openjd("check", str(TEMPLATE))
    assert "passes validation checks" in checked.stdout, checked.stdout
    values = f"file://{ROOT / 'farm' / 'openjd' / 'parameters.yaml'}"
    summary = farm.openjd("summary", str(TEMPLATE), "-p", values)
    assert summary.returncode == 0, summary.stdout
    assert "Total tasks: 100" in summary.stdout
    for path in (ROOT / "farm").rglob("*.*"):
        text = path.read_text()
        assert not re.search(r"\b(ba|z|c)?sh\b.*-c\b|command: *(ba|z|c)?sh\b", text), path
    commands = re.findall(r"command: (.*)", TEMPLATE.read_text())
    assert commands == ["mattebridge"] * 3


@pytest.mark.parametrize("frames", ["1-10:2", "1-3,7,9-12", "10-1:-1", "-3-5", "5"])
def test_every_chunk_text_of_the_queue_means_the_frames_it_was_cut_from(farm, frames):
    """J7: what `openjd` makes of a range is what `--frames openjd:` reads."""
    template = farm.folder / "echo.yaml"
    text = re.sub(r"(?s)    stepEnvironments:.*?(?=    script:\n      actions:\n        onRun)", "",
                  TEMPLATE.read_text())  # fmt: skip
    template.write_text(text.replace("command: mattebridge", "command: echo"))
    run = farm.job("-p", f"Frames={frames}", "-p", "ChunkSize=4", template=template)
    assert run.status == 0, run.log
    chunks = [what for what, _ in run.endings]
    wanted = parse_frames(f"openjd:{frames}")
    assert sorted(n for chunk in chunks for n in parse_frames(f"openjd:{chunk}")) == wanted
    assert len(chunks) == -(-len(wanted) // 4)
    assert all(f"--frames=openjd:{chunk}" in run.log for chunk in chunks)


# ------------------------------------------------------------------ failures, and running again


def test_a_failing_frame_ends_its_chunk_with_three_and_only_it_is_made_again(farm):
    """J2: and in the end all is byte for byte what one clean run makes."""
    plate = farm.folder / "plate.1003.exr"
    good = plate.read_bytes()
    plate.write_bytes(good[: len(good) // 2])
    first = farm.job("-p", "Frames=1001-1006", "-p", "ChunkSize=2")
    assert first.status == 1
    assert first.endings == [("enter", 0), ("1001,1002", 0), ("1003,1004", 3), ("exit", 0)]
    assert not farm.daemon_lives()
    assert sorted(farm.made()) == whole([1001, 1002, 1004])
    failed = re.findall(r"^openjd_fail: (.*)$", first["1003,1004"].words, re.M)
    assert len(failed) == 1
    assert "1 done" in failed[0]
    assert "plate.1003.exr" in failed[0]
    plate.write_bytes(good)
    second = farm.job("-p", "Frames=1001-1006", "-p", "ChunkSize=2")
    assert second.status == 0, second.log
    assert "2 found good" in second["1001,1002"].words
    assert "1 done" in second["1003,1004"].words
    assert "1 found good" in second["1003,1004"].words
    arguments = ("plate.####.exr", "--clean-plate", "clean.exr", "-o", "clean")
    clean = farm.mattebridge("matte", *arguments, "--private")
    assert clean.returncode == 0, clean.stdout
    assert farm.made() == farm.made("clean")
    # The private daemon has left nothing, either.
    assert os.listdir(farm.home / "run" / "mattebridge") == [farm.instance]


def test_a_task_over_its_time_is_cancelled_with_four_and_the_daemon_serves_on(farm):
    """J3, J13: nothing half-written, and the next task on the same daemon does real work."""
    gate = farm.home / "gate"
    gate.touch()
    hooks = {"MATTEBRIDGE_TEST_HOOKS": f"model#1002=gate:{gate}"}
    assert _serve(farm, **hooks).returncode == 0
    template = farm.folder / "short.yaml"
    template.write_text(TEMPLATE.read_text().replace("timeout: 3600", "timeout: 8"))
    run = farm.job("-tp", "Frame=1001-1003", "-p", "Frames=1001-1006", template=template)
    assert run.status == 1
    assert run.endings == [("enter", 0), ("1001-1003", 4), ("exit", 0)]
    assert "openjd_fail: " in run["1001-1003"].words
    assert run.seconds_between('Sending signal "term"', "exited with code: 4") < SOON_S / 2
    assert "in use and keeps running" in run["exit"].words
    assert farm.leftovers() == []
    for name in farm.made():
        read_frame(farm.folder / "out" / name)
    assert not (farm.folder / "out" / "alpha" / "plate.1002.exr").exists()
    gate.unlink()
    again = farm.job("-tp", "Frame=1001-1003", "-p", "Frames=1001-1006")
    assert again.status == 0, again.log
    assert sorted(farm.made()) == whole([1001, 1002, 1003])
    assert farm.daemons_so_far() == 1
    assert farm.mattebridge("stop", "--instance", farm.instance).returncode == 0


def _serve(farm: Farm, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    detached = ("serve", "--detach", "--devices", "cpu", "--instance", farm.instance)
    return farm.mattebridge(*detached, *arguments, **environment)


def test_a_cancelled_session_never_ends_with_zero(farm):
    """J3: the queue cancels while a frame is computed."""
    gate = farm.home / "gate"
    gate.touch()
    process = farm.start_job(
        "-p", "Frames=1001-1006", MATTEBRIDGE_TEST_HOOKS=f"model#1002=gate:{gate}"
    )
    wait_for((farm.home / "gate.reached").exists, 60, "the frame is being computed")
    process.send_signal(signal.SIGINT)
    run = farm.end_job(process)
    assert run.status != 0
    assert run.endings[:2] == [("enter", 0), ("1001-1006", 4)]
    assert not (farm.folder / "out" / "alpha" / "plate.1002.exr").exists()
    assert farm.leftovers() == []


def test_a_private_daemon_goes_with_its_command_also_when_that_is_cancelled(farm):
    """J3: for queues that keep no daemon between tasks."""
    gate = farm.home / "gate"
    gate.touch()
    task = ["mattebridge", "matte", "plate.####.exr", "--clean-plate", "clean.exr", "-o", "out",
            "--private", "--progress", "deadline"]  # fmt: skip
    process = farm.start(task, MATTEBRIDGE_TEST_HOOKS=f"model#1002=gate:{gate}")
    wait_for((farm.home / "gate.reached").exists, 60, "the frame is being computed")
    status = next((farm.home / "run" / "mattebridge").glob("private-*/status.json"))
    daemon = json.loads(status.read_text())["pid"]
    process.terminate()
    words, _ = process.communicate(timeout=60)
    assert process.returncode == 4, words
    assert "Progress: 100%" not in words
    wait_for(lambda: not is_alive(daemon), 60, "its daemon ends")
    assert farm.leftovers() == []


PRIVATE = ["mattebridge", "matte", "plate.####.exr", "--clean-plate", "clean.exr", "-o", "out",
           "--private", "--progress", "deadline"]  # fmt: skip


def private_daemon_of(farm, process):
    """The folder and the pid of the daemon that a running `matte --private` has."""
    folder = next((farm.home / "run" / "mattebridge").glob(f"private-{process.pid}-*"))
    return folder, json.loads((folder / "status.json").read_text())["pid"]


def test_a_private_daemon_ends_at_once_with_a_command_that_was_killed(farm):
    """A task that is tried again must not meet the daemon of the one before on its card."""
    gate = farm.home / "gate"
    gate.touch()
    process = farm.start(PRIVATE, MATTEBRIDGE_TEST_HOOKS=f"model#1002=gate:{gate}")
    wait_for((farm.home / "gate.reached").exists, 60, "the frame is being computed")
    folder, daemon = private_daemon_of(farm, process)
    workers = children(daemon)
    process.kill()
    process.communicate(timeout=60)
    # Far below the time that a daemon drains (30 s): nobody waits for the frame in it.
    wait_for(lambda: not any(map(is_alive, [daemon, *workers])), SOON_S, "its daemon ends")
    wait_for(lambda: not folder.exists(), SOON_S, "its folder is gone")


def test_what_a_killed_private_daemon_left_is_swept_by_the_next(farm):
    gate = farm.home / "gate"
    gate.touch()
    process = farm.start(PRIVATE, MATTEBRIDGE_TEST_HOOKS=f"model#1002=gate:{gate}")
    wait_for((farm.home / "gate.reached").exists, 60, "the frame is being computed")
    folder, daemon = private_daemon_of(farm, process)
    os.kill(daemon, signal.SIGSTOP)
    process.kill()
    process.communicate(timeout=60)
    living = folder.with_name(f"private-{os.getpid()}-00000000")
    living.mkdir(mode=0o700)
    try:
        long_ago = folder.stat().st_mtime - 3600
        for path in (folder, living):
            os.utime(path, (long_ago, long_ago))
        # Its lock is held as long as it lives, if only stopped.
        assert private.sweep(folder.parent) == []
        os.kill(daemon, signal.SIGKILL)
        wait_for(lambda: not is_alive(daemon), 60, "it is killed")
        gate.unlink()
        assert farm.mattebridge(*PRIVATE[1:], "--resume").returncode == 0
        assert [path.name for path in folder.parent.glob("private-*")] == [living.name]
    finally:
        living.rmdir()


# ---------------------------------------------------------------------------------- a lost daemon


def test_a_daemon_that_is_killed_inside_a_chunk_ends_it_with_five(farm):
    """J4: no hang, no success with holes, and the session's end is none of the worse for it."""
    gate = farm.home / "gate"
    gate.touch()
    process = farm.start_job(
        "-p",
        "Frames=1001-1006",
        "-p",
        "ChunkSize=3",
        MATTEBRIDGE_TEST_HOOKS=f"model#1005=gate:{gate}",
    )
    wait_for((farm.home / "gate.reached").exists, 60, "the frame is being computed")
    farm.kill_daemon()
    run = farm.end_job(process)
    assert run.status == 1
    assert run.endings == [("enter", 0), ("1001-1003", 0), ("1004-1006", 5), ("exit", 0)]
    assert sorted(farm.made())[:3] == [f"alpha/plate.{frame}.exr" for frame in (1001, 1002, 1003)]
    assert "openjd_fail: " in run["1004-1006"].words


def test_a_daemon_that_is_killed_between_chunks_is_missed_and_a_zombie_is_not_taken_for_it(farm):
    """J4: only the door tells who is alive."""
    matte = ("matte", "plate.####.exr", "--clean-plate", "clean.exr", "-o", "out", "--resume")
    with DaemonProcess(light=True) as daemon:
        here = ("--instance", str(daemon.folder))
        assert farm.mattebridge(*matte, "--frames", "1001", "--no-spawn", *here).returncode == 0
        os.kill(daemon.pid, signal.SIGKILL)  # and not waited for: a zombie of ours from now on
        wait_for(lambda: not is_alive(daemon.pid), SOON_S, "the daemon dies")
        os.kill(daemon.pid, 0)
        lost = farm.mattebridge(*matte, "--frames", "1002", "--no-spawn", *here)
        assert lost.returncode == 5, lost.stdout
        assert sorted(farm.made()) == whole([1001])
        assert farm.mattebridge("stop", "--if-unused", *here).returncode == 0
        assert farm.mattebridge("serve", "--detach", "--devices", "cpu", *here).returncode == 0
        assert farm.mattebridge(*matte, "--frames", "1002", "--no-spawn", *here).returncode == 0
        assert farm.mattebridge("stop", *here).returncode == 0


# --------------------------------------------------------------------------- sessions of one host


def test_the_first_session_to_end_leaves_the_daemon_to_one_that_is_between_its_tasks(farm):
    """J5: nobody is connected at that moment, and yet the daemon is in use."""
    other = {"OPENJD_SESSION_WORKING_DIR": "/sessions/other"}
    matte = ["matte", "plate.####.exr", "--clean-plate", "clean.exr", "-o", "other", "--no-spawn",
             "--instance", farm.instance]  # fmt: skip
    assert _serve(farm, **other).returncode == 0
    pid = farm.daemon_pid()
    assert farm.mattebridge(*matte, "--frames", "1001-1002", **other).returncode == 0
    run = farm.job("-p", "Frames=1001-1006")
    assert run.status == 0, run.log
    assert "in use and keeps running" in run["exit"].words
    assert farm.daemon_pid() == pid
    assert farm.mattebridge(*matte, "--frames", "1003-1004", **other).returncode == 0
    left = farm.mattebridge("stop", "--if-unused", "--instance", farm.instance, **other)
    assert (left.returncode, left.stdout) == (0, "mattebridge: the daemon has stopped\n")
    assert not is_alive(pid)


def test_a_session_stops_what_its_own_task_has_started_and_nothing_of_anybody_else(farm):
    """J5: with a template of one's own, in which tasks may start the daemon."""
    session = {"OPENJD_SESSION_WORKING_DIR": "/sessions/own"}
    here = ("--instance", farm.instance)
    matte = ("matte", "plate.1001.exr", "--clean-plate", "clean.exr", "-o", "out", *here)
    assert farm.mattebridge(*matte, **session).returncode == 0
    assert "has stopped" in farm.mattebridge("stop", "--if-unused", *here, **session).stdout
    assert _serve(farm).returncode == 0  # by hand
    assert "keeps running" in farm.mattebridge("stop", "--if-unused", *here, **session).stdout
    assert "has stopped" in farm.mattebridge("stop", "--if-unused", *here).stdout


def test_sessions_that_never_end_are_forgotten_one_by_one(start_daemon):
    """J5: a host whose workers die often does not fill the daemon with names."""
    daemon = start_daemon(light=True)
    for number in range(70):
        Session.open(daemon.folder, name="serve", host="", user=f"openjd-{number}").close()
    users = daemon.client().status()["users"]
    assert users == [f"openjd-{number}" for number in range(6, 70)]


def test_two_jobs_at_once_share_a_daemon_and_both_end_well(farm):
    """J5."""
    slow = {"MATTEBRIDGE_TEST_HOOKS": "model=sleep:0.1"}
    jobs = [
        farm.start_job(
            *("-p", "Frames=1001-1004", "-p", "ChunkSize=2"),
            values={"Output": str(farm.folder / output)},
            **slow,
        )
        for output in ("one", "two")
    ]
    runs = [farm.end_job(job) for job in jobs]
    assert [run.status for run in runs] == [0, 0], runs[0].log + runs[1].log
    assert farm.made("one") == farm.made("two")
    assert sorted(farm.made("one")) == whole(range(1001, 1005))
    assert not farm.daemon_lives()


def test_a_daemon_that_is_stopping_is_not_joined_but_followed(farm):
    """J5: a session that begins while the last one's daemon drains."""
    gate = farm.home / "gate"
    gate.touch()
    hooks = {"MATTEBRIDGE_TEST_HOOKS": f"model=deaf:{gate}"}
    assert _serve(farm, **hooks).returncode == 0
    first = farm.daemon_pid()
    plate, clean = (
        read_frame(farm.folder / name).pixels for name in ("plate.1001.exr", "clean.exr")
    )
    with MatteClient.connect(str(farm.runtime)) as client:
        client.submit(plate, clean)
        wait_for((farm.home / "gate.reached").exists, 60, "the frame is being computed")
        os.kill(first, signal.SIGTERM)
        wait_for(lambda: client.ping()["state"] == "draining", SOON_S, "the daemon drains")
        gate.unlink()
        assert _serve(farm).returncode == 0
    assert farm.daemon_pid() != first
    assert farm.daemons_so_far() == 2
    assert farm.mattebridge("stop", "--instance", farm.instance).returncode == 0


def test_when_the_queues_worker_is_killed_the_daemon_goes_by_itself(farm):
    """J5: the session has joined, and its last action is never run."""
    session = {"OPENJD_SESSION_WORKING_DIR": "/sessions/killed"}
    assert _serve(farm, "--idle-exit", "3", **session).returncode == 0
    wait_for(lambda: farm.daemons_so_far() == 1 and not farm.daemon_lives(), 60, "it leaves")
    assert sorted(os.listdir(farm.runtime)) == ["lock", "log", "status.json"]


def test_a_start_that_fails_says_why_and_ends_the_session(farm):
    """J6: the sentence stands in the queue's log."""
    farm.runtime.mkdir(parents=True)
    farm.runtime.parent.chmod(0o700)
    farm.runtime.chmod(0o755)
    run = farm.job("-p", "Frames=1001-1006")
    assert run.status == 1
    assert run.endings == [("enter", 5), ("exit", 0)]
    assert "openjd_fail: " in run["enter"].words
    assert "is open to other users" in run["enter"].words


def test_a_long_session_folder_and_no_runtime_variable_are_no_obstacle(farm):
    """J12: sockets never lie in the session's folder."""
    long = farm.home / ("session-" * 12)
    long.mkdir()
    run = farm.job("-p", "Frames=1001-1001", TMPDIR=str(long))
    assert run.status == 0, run.log
    assert str(long) in run.log
    arguments = ("--detach", "--devices", "cpu", "--instance", "no-xdg", "--idle-exit", "60")
    unset = {"XDG_RUNTIME_DIR": ""}
    served = farm.mattebridge("serve", *arguments, **unset)
    assert served.returncode == 0, served.stdout
    folder = served.stdout.split("accepts in ")[1].strip()
    try:
        matte = (
            "matte",
            "plate.1002.exr",
            "--clean-plate",
            "clean.exr",
            "-o",
            "bare",
            "--no-spawn",
        )
        made = farm.mattebridge(*matte, "--instance", "no-xdg", **unset)
        assert made.returncode == 0, made.stdout
    finally:
        farm.mattebridge("stop", "--instance", "no-xdg", **unset)
    assert sorted(os.listdir(folder)) == ["lock", "log", "status.json"]
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)


# -------------------------------------------------------------------------------------------- soak


def test_whatever_is_killed_all_frames_are_made_in_the_end_and_nothing_is_left(farm):
    """J15: chunks at random, with their daemon or themselves killed at random moments."""
    frames = range(1, 25)
    paint_shot(farm.folder, frames, name="long")
    dice = random.Random(7)
    matte = ["matte", "long.####.exr", "--clean-plate", "clean.exr", "-o", "out", "--resume",
             "--no-spawn", "--instance", farm.instance]  # fmt: skip
    chunks = [(first, first + 2) for first in range(1, 25, 3)] * 2
    dice.shuffle(chunks)
    for first, last in chunks:
        assert _serve(farm, "--idle-exit", "60").returncode == 0
        process = farm.start(["mattebridge", *matte, f"--frames={first}-{last}"])
        fate = dice.choice(("left alone", "killed", "cancelled", "its daemon"))
        time.sleep(dice.uniform(0.2, 1.0))  # anywhere on its way, on purpose
        if fate == "its daemon" and farm.daemon_lives():
            farm.kill_daemon()
        elif fate == "killed":
            process.kill()
        elif fate == "cancelled":
            process.terminate()
        words, _ = process.communicate(timeout=60)
        assert process.returncode in (0, 4, 5, -signal.SIGKILL, -signal.SIGTERM), words
    assert _serve(farm, "--idle-exit", "60").returncode == 0
    done = farm.mattebridge(*matte)
    assert done.returncode == 0, done.stdout
    assert len(farm.made()) == 3 * len(frames)
    assert farm.leftovers() == []
    left = farm.mattebridge("stop", "--if-unused", "--instance", farm.instance)
    assert (left.returncode, left.stdout) == (0, "mattebridge: the daemon has stopped\n")
    assert not farm.daemon_lives()
    status = json.loads((farm.runtime / "status.json").read_text())
    assert status["state"] == "stopped"
