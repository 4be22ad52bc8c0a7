"""F28, F31, F33-F35, F38, F39, F41, F42, F47, F49, F50: other users, starts, hosts, signals."""

from __future__ import annotations

import ast
import contextlib
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from fakes.base_line import (
    KILL_TURNS,
    SMALL_FILES,
    AbusedDaemon,
    StartAbused,
    assert_nothing_remains,
)
from fakes.daemon_process import ARENA_NAMES, DaemonProcess, children, is_alive, slot_maps, wait_for
from fakes.front_race import ForkedFronts
from fakes.host_process import HostProcess
from fakes.light_python import light_python, matted_light
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, same, shot
from fakes.places import BRIDGE
from fakes.raw_client import Raw, ask_door, connect_to_door, hello
from mattebridge import interpreter
from mattebridge.client import MatteClient, autostart
from mattebridge.daemon import control
from mattebridge.errors import (
    Cancelled,
    ConnectionFailed,
    MattebridgeError,
    QuotaError,
    UnsafeRuntimeError,
)
from mattebridge.wire.door import Door

SHOT = shot(seed=7)
PACKAGE = BRIDGE / "mattebridge"


@pytest.fixture
def light() -> bool:
    return True


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose sockets' paths are short enough, gone afterwards with whatever it serves."""
    home = Path(tempfile.mkdtemp(prefix="mb-"))
    yield home / "run"
    _stop(home / "run")
    shutil.rmtree(home, ignore_errors=True)


def _stop(folder: Path) -> None:
    """End the daemon of a folder, by the pid that it says itself."""
    try:
        with MatteClient.connect(str(folder)) as client:
            pid = client.status()["pid"]
            client.shutdown()
    except MattebridgeError:
        return
    wait_for(lambda: not is_alive(pid), SOON_S, "the daemon stops")


# -- F28: another user ---------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")
NOBODY = 65534

INTRUDER = """
import os, socket, sys, time
import msgpack, zmq
folder = sys.argv[1]
os.setgid(65534); os.setuid(65534)
door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    door.connect(f"{folder}/door")
except PermissionError:
    print("closed"); sys.exit()
door.settimeout(60)
hello = {"op": "hello", "proto": [1, 1], "client": {"name": "x", "ver": "0"},
         "want": {"slots": 1, "bytes": 64}}
try:
    door.send(msgpack.packb(hello))
except BrokenPipeError:
    pass
try:
    answer = door.recv(8192)
except ConnectionResetError:
    answer = door.recv(8192)
print(msgpack.unpackb(answer)["code"])
ctl = zmq.Context().socket(zmq.DEALER)
ctl.setsockopt(zmq.LINGER, 0)
ctl.connect(f"ipc://{folder}/ctl")
ctl.send_multipart([b"MTB1", msgpack.packb(
    {"v": 1, "op": "shutdown", "id": bytes(16), "sid": bytes.fromhex(sys.argv[2])})])
print("answered" if ctl.poll(500) else "silence")
"""


def _intrude(folder: Path, sid: bytes) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", INTRUDER, str(folder), sid.hex()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@as_root
def test_f28_another_user_is_kept_out_by_the_folder_and_by_the_peers_credentials(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon)
    assert _intrude(daemon.folder, client.sid) == ["closed"]
    opened = [daemon.home, daemon.folder, daemon.folder / "door", daemon.folder / "ctl"]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in opened]
    with daemon.connect() as other:
        before = other.status()["refused"].get("E_UID", 0)
        try:
            for path in opened:
                path.chmod(0o777)
            assert _intrude(daemon.folder, client.sid) == ["E_UID", "silence"]
        finally:
            for path, mode in zip(opened, modes):
                path.chmod(mode)
        assert other.status()["refused"]["E_UID"] == before + 2
        assert other.ping()["state"] == "ready"


def test_f28_nothing_in_the_folder_is_open_to_others(daemon: AbusedDaemon) -> None:
    for path in [daemon.folder, *daemon.folder.iterdir()]:
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("trap", ["open to others", "link", "file", "dangling link"])
def test_f28_an_unsafe_folder_is_refused_with_what_to_do(short_folder: Path, trap: str) -> None:
    elsewhere = short_folder.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    if trap == "open to others":
        short_folder.mkdir()
        short_folder.chmod(0o777)
    elif trap == "link":
        short_folder.symlink_to(elsewhere)
    elif trap == "dangling link":
        short_folder.symlink_to(short_folder.with_name("nowhere"))
    else:
        short_folder.touch()
    done = _serve(short_folder)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert str(short_folder) in done.stderr
    # Nor does a client trust it: another user's daemon may wait there.
    with pytest.raises(UnsafeRuntimeError, match=str(short_folder)):
        MatteClient.connect(str(short_folder))
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["lock", "log", "door"])
def test_f28_a_link_planted_in_the_folder_is_not_followed(short_folder: Path, name: str) -> None:
    short_folder.mkdir(mode=0o700)
    target = short_folder.with_name("target")
    target.write_text("precious")
    (short_folder / name).symlink_to(target)
    daemon = DaemonProcess(folder=short_folder, light=True)
    try:
        daemon.start(wait=False)
        assert daemon.process is not None
        wait_for(lambda: daemon.accepts() or not daemon.alive(), SOON_S, "it starts, or refuses")
        if name == "lock":
            assert daemon.process.wait(SOON_S) == 5
    finally:
        daemon.end()
    assert target.read_text() == "precious"


def _serve(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a front that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "mattebridge.daemon", f"--folder={folder}", "--devices=cpu"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


# -- F31: two starts at once ---------------------------------------------------------------------


def test_f31_of_many_starters_one_wins_and_the_others_exit_with_status_17(
    short_folder: Path,
) -> None:
    for _turn in range(2):
        starters = [
            subprocess.Popen(
                [light_python(), "-m", "mattebridge.daemon", f"--folder={short_folder}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(6)
        ]
        try:
            wait_for(
                lambda starters=starters: sum(s.poll() is None for s in starters) == 1,
                SOON_S,
                "all but one have left",
            )
            assert sorted(s.returncode for s in starters if s.poll() is not None) == [17] * 5
            (winner,) = [s for s in starters if s.poll() is None]
            workers = _workers_of(short_folder, winner.pid)
        finally:
            for starter in starters:
                if starter.poll() is None:
                    starter.kill()
                starter.wait(SOON_S)
        _assert_small_files_remain(short_folder, workers)


@pytest.mark.slow
def test_f31_of_fronts_that_start_at_the_same_moment_one_wins_every_time(
    short_folder: Path,
) -> None:
    with ForkedFronts(short_folder) as fronts:
        for _turn in range(KILL_TURNS):
            winner, statuses = fronts.race(6)
            assert statuses == [17] * 5
            workers = _workers_of(short_folder, winner)
            fronts.kill(winner)
            _assert_small_files_remain(short_folder, workers)


def _workers_of(folder: Path, front: int) -> list[int]:
    """The children of the front that serves a folder, which is this one."""
    # The losers may be gone before the winner has opened its door.
    wait_for(lambda: _accepts(folder), SOON_S, "the winner accepts")
    with MatteClient.connect(str(folder)) as client:
        assert client.status()["pid"] == front
        return children(front)


def _accepts(folder: Path) -> bool:
    try:
        MatteClient.connect(str(folder)).close()
    except ConnectionFailed:
        return False
    return True


def _assert_small_files_remain(folder: Path, workers: list[int]) -> None:
    """What the next turn meets: stale sockets and the unlocked lock of a killed predecessor."""
    for pid in workers:
        wait_for(lambda pid=pid: not is_alive(pid), SOON_S, "the worker dies with its front")
    assert {path.name for path in folder.iterdir()} <= SMALL_FILES


def test_f31_a_loser_takes_nothing_from_the_daemon_that_runs(daemon: AbusedDaemon) -> None:
    before = {name: (daemon.folder / name).lstat().st_ino for name in ("door", "ctl", "lock")}
    with daemon.connect() as client:
        for _turn in range(3):
            assert _serve(daemon.folder).returncode == 17
        assert {name: (daemon.folder / name).lstat().st_ino for name in before} == before
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))


def test_f31_leftovers_of_a_killed_daemon_do_not_hinder_the_next(short_folder: Path) -> None:
    short_folder.mkdir(mode=0o700)
    for name in ("door", "ctl", ".status.json.123.tmp", "ctl.tmp"):
        (short_folder / name).write_text("stale")
    (short_folder / "lock").write_text("4711")
    daemon = DaemonProcess(folder=short_folder, light=True)
    try:
        daemon.start()
        assert daemon.files() <= {"door", "ctl", "lock", "status.json", "log"}
    finally:
        daemon.end()


# -- F32: disk full ----------------------------------------------------------------------------


def test_f32_a_disk_that_is_full_stops_the_log_and_the_status_but_no_frame(
    start_abused: StartAbused,
) -> None:
    daemon = start_abused()
    with daemon.connect() as client, daemon.connect() as late:
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        _soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
        # Nothing that the front writes from now on fits: not a line, not a status.
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1, hard))
        written = len(daemon.log())
        for _frame in range(20):
            assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        assert len(daemon.log()) == written
        # Memory counts as a file here: what cannot be had is an answer, too.
        with pytest.raises(QuotaError, match="shared memory"):
            late.matte(*SHOT, **PLAIN)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert same(late.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        wait_for(lambda: len(daemon.log()) > written, SOON_S, "it logs again")
        assert daemon.files() <= {"door", "ctl", "lock", "status.json", "log"}


# -- F33: clocks ---------------------------------------------------------------------------------


@cache
def _modules() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text("utf-8"))) for path in sorted(PACKAGE.rglob("*.py"))]


def _room(path: Path) -> str:
    """The folder or loose file of the package that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def _names(tree: ast.AST) -> list[str]:
    """Every dotted name that is mentioned, and every imported one."""
    return list(_walk_names(tree))


def _walk_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            with contextlib.suppress(ValueError):
                yield ast.unparse(node)
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.slow
def test_f33_nothing_between_host_and_worker_goes_by_the_wall_clock() -> None:
    for path, tree in _modules():
        if _room(path) in {"wire", "client", "daemon"}:
            found = set(_names(tree)) & {"time.time", "time.time_ns", "datetime.now", "gmtime"}
            assert not found, (path, found)


# -- F34: life inside a host ---------------------------------------------------------------------


def test_f34_a_host_that_quits_mid_render_is_gone_at_once(daemon: AbusedDaemon) -> None:
    quits = """
        client.submit(plate, clean_plate, frame=13, **PLAIN)
        say("leaving")
        sys.exit(0)
    """
    with daemon.gate(), HostProcess(daemon.folder, quits) as host:
        host.heard("leaving")
        # A hang would be endless, or the linger of a socket.
        assert host.process.wait(SOON_S) == 0


def test_f34_a_forked_child_has_to_connect_itself_and_does_not_disturb_its_parent(
    daemon: AbusedDaemon,
) -> None:
    forks = """
        from fakes.light_python import light_python, matted_light
        from fakes.pictures import same
        expected = matted_light(plate, clean_plate)
        assert same(client.matte(plate, clean_plate, **PLAIN), expected)
        pid = os.fork()
        if pid == 0:
            try:
                client.ping()
            except errors.LeaseError as error:
                say("child told", error.message)
            try:
                client.matte(plate, clean_plate)
            except errors.LeaseError as error:
                say("child told again", error.message)
            client.close()
            with MatteClient.connect(folder) as own:
                say("child matte", same(own.matte(plate, clean_plate, **PLAIN), expected))
            sys.exit(0)
        say("child status", os.waitpid(pid, 0)[1])
        say("parent matte", same(client.matte(plate, clean_plate, **PLAIN), expected))
    """
    with HostProcess(daemon.folder, forks) as host:
        assert "connect again" in host.heard("child told")
        assert host.heard("child matte") == "True"
        assert host.heard("child status") == "0"
        assert host.heard("parent matte") == "True"


def test_f34_two_clients_in_one_host_do_not_disturb_each_other(daemon: AbusedDaemon) -> None:
    shots = [shot(seed=seed) for seed in (51, 52)]
    with daemon.connect() as one, daemon.connect() as other:
        handles = [
            client.submit(*shots[index], **PLAIN) for index, client in enumerate((one, other))
        ]
        for handle, picture in zip(handles, shots):
            assert same(handle.result(SOON_S), matted_light(*picture))
        one.close()
        assert same(other.matte(*shots[0], **PLAIN), matted_light(*shots[0]))


# -- F35: signals --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_f35_a_signal_finishes_what_runs_answers_what_waits_and_exits_clean(
    start_abused: StartAbused, raw: Raw, number: signal.Signals
) -> None:
    daemon = start_abused()
    client = raw(daemon, slots=2)
    with daemon.gate() as gate:
        running = client.send(client.render(frame=13, slot=0))
        gate.wait_reached()
        waiting = client.send(client.render(slot=1))
        wait_for(lambda: _queue(daemon) == 1, SOON_S, "one request waits")
        workers = daemon.worker_pids()
        os.kill(daemon.pid, number)
        reply = client.terminal(waiting)
        assert (reply["code"], reply["retry"], reply["held"]) == ("E_DRAINING", True, False)
        with contextlib.closing(connect_to_door(daemon.folder)) as door:
            answer, _fds = ask_door(door, hello(1, 64))
            assert (answer["code"], answer["retry"]) == ("E_DRAINING", True)
        late = client.terminal(client.send(client.render(slot=1, gen=2)))
        assert late["code"] == "E_DRAINING"
        gate.open()
        assert client.terminal(running)["op"] == "done"
    assert client.lease_is_over()
    assert daemon.process is not None
    assert daemon.process.wait(SOON_S) == 0
    assert_nothing_remains(daemon, workers)
    assert daemon.files() == {"lock", "status.json", "log"}


def _queue(daemon: AbusedDaemon) -> int:
    with daemon.connect() as client:
        return int(client.ping()["queue"])


@pytest.mark.slow
def test_f35_a_daemon_whose_folder_was_removed_exits(start_abused: StartAbused) -> None:
    daemon = start_abused()
    workers = daemon.worker_pids()
    # In one step: the daemon may be writing its status.
    shutil.rmtree(daemon.folder.rename(daemon.folder.with_name("removed")))
    assert daemon.process is not None
    assert daemon.process.wait(SOON_S) == 0
    for pid in workers:
        wait_for(lambda pid=pid: not is_alive(pid), SOON_S, "its worker dies with it")


# -- F38, F39: environment and log ---------------------------------------------------------------


@pytest.mark.slow
def test_f38_a_poisoned_environment_of_the_host_does_not_reach_the_daemon(
    short_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mattebridge.py").write_text("raise SystemExit('the wrong one')")
    poisoned = """
        client.close()
        poison = dict(
            PYTHONHOME="/nowhere", PYTHONPATH=sys.argv[0], LD_LIBRARY_PATH="/nowhere",
            QT_PLUGIN_PATH="/nowhere", PYTHONSTARTUP="/nowhere", LC_ALL="no_SUCH.locale",
            OMP_NUM_THREADS="many",
        )
        os.environ.update(poison, PYTHONPATH=os.environ["TRAP"])
        os.umask(0)
        os.rmdir(os.environ["TARGET"]) if os.path.isdir(os.environ["TARGET"]) else None
        client = MatteClient.connect(os.environ["TARGET"], start=True)
        matte = client.matte(plate, clean_plate, **PLAIN)
        say("matte", matte.alpha.mean() > 0)
        say("pid", client.status()["pid"])
        sleep()
    """
    with (
        AbusedDaemon(light=True) as other,
        HostProcess(
            other.folder,
            poisoned,
            TRAP=str(tmp_path),
            TARGET=str(short_folder),
            MATTEBRIDGE_DAEMON_PYTHON=sys.executable,
        ) as host,
    ):
        assert host.heard("matte", 60) == "True"
        pid = int(host.heard("pid"))
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        names = {entry.split(b"=")[0].decode() for entry in environment}
        assert not names & set(interpreter.HOST_VARIABLES)
        for path in [short_folder, *short_folder.iterdir()]:
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(pid) != os.getsid(host.pid)


def test_f39_names_cannot_forge_lines_of_the_log_and_secrets_are_not_in_it(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    nasty = "evil\n2026-01-01 00:00:00 INFO forged: line\x1b[31m\u202e"
    with contextlib.closing(connect_to_door(daemon.folder)) as door:
        client = {"name": nasty, "ver": "0", "host": nasty}
        welcome, _fds = ask_door(door, hello(client=client))
        assert welcome["op"] == "welcome"
        with daemon.connect() as other:
            assert "\n" not in str(other.status()["sessions"])
    victim = raw(daemon, slots=1)
    message = victim.render()
    victim.terminal(victim.send({**message, "clean_plate": "x" * 60}))
    victim.terminal(victim.send({**message, "model": nasty}))
    victim.terminal(victim.send({**message, nasty[:60]: 1}))
    wait_for(lambda: "evil" in daemon.log(), SOON_S, "the connection is logged")
    log = daemon.log()
    assert "\x1b" not in log
    assert "\u202e" not in log
    assert not [line for line in log.splitlines() if line.startswith("2026-01-01")]
    for secret in (welcome["sid"], victim.sid):
        assert secret.hex() not in log
        assert repr(secret) not in log


# -- F41, F42: descriptors -----------------------------------------------------------------------


def test_f41_a_forked_child_does_not_keep_its_killed_parents_lease(daemon: AbusedDaemon) -> None:
    forks = """
        client.matte(plate, clean_plate, **PLAIN)
        pid = os.fork()
        if pid == 0:
            sleep()
        say("child", pid)
        sleep()
    """
    with daemon.connect() as client, HostProcess(daemon.folder, forks) as host:
        child = int(host.heard("child"))
        try:
            wait_for(lambda: slot_maps(child) == 0, SOON_S, "the child has no arena mapped")
            host.kill()
            wait_for(
                lambda: host.pid not in [s["pid"] for s in client.status()["sessions"]],
                SOON_S,
                "the lease ends with its owner",
            )
            assert is_alive(child)
        finally:
            os.kill(child, signal.SIGKILL)


def test_f41_a_worker_holds_its_link_and_nothing_else_of_the_fronts(daemon: AbusedDaemon) -> None:
    with daemon.connect() as client:
        client.matte(*SHOT, **PLAIN)
        (worker,) = daemon.worker_pids()
        targets = []
        for fd in Path(f"/proc/{worker}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                targets.append(os.readlink(fd))
        sockets = [target for target in targets if target.startswith("socket:")]
        assert len(sockets) == 1
        assert not [target for target in targets if str(daemon.folder) in target]
        # Of arenas only what each map keeps for itself.
        arenas = [target for target in targets if target.startswith(ARENA_NAMES)]
        assert len(arenas) == slot_maps(worker)


def test_f42_a_child_of_the_host_inherits_no_descriptor_of_ours(daemon: AbusedDaemon) -> None:
    spawns = """
        import subprocess
        client.matte(plate, clean_plate, **PLAIN)
        code = "import os; [print(os.readlink(f'/proc/self/fd/{fd}'), flush=True)" \\
            " for fd in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{fd}')]"
        done = subprocess.run(
            [sys.executable, "-c", code], close_fds=False, capture_output=True, text=True
        )
        say("child", done.returncode, done.stdout.split())
    """
    with HostProcess(daemon.folder, spawns) as host:
        inherited = host.heard("child")
        assert inherited.startswith("0 [")
        assert "memfd" not in inherited
        assert "socket:" not in inherited
        assert "eventfd" not in inherited


# -- F47, F49: a daemon that cannot, or does not, start ------------------------------------------


def test_f47_without_the_c_msgpack_the_daemon_refuses_to_start(short_folder: Path) -> None:
    done = _serve(short_folder, MSGPACK_PUREPYTHON="1")
    assert done.returncode == 5
    assert "C extension" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_f49_without_a_daemon_a_client_that_may_not_start_one_fails_at_once(
    short_folder: Path, tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectionFailed, match=r"no daemon is running.*mattebridge serve"):
        MatteClient.connect(str(short_folder))
    # A socket that nobody serves any more is no daemon either.
    short_folder.mkdir(mode=0o700)
    stale = RawDoor(short_folder)
    stale.close()
    with pytest.raises(ConnectionFailed, match="no daemon is running"):
        MatteClient.connect(str(short_folder))
    assert time.monotonic() - started < autostart.LAUNCH_LIMIT_S


class RawDoor:
    """A bound door that listens, or not any more."""

    def __init__(self, folder: Path) -> None:
        import socket

        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(folder / "door"))
        self._socket.listen(1)

    def close(self) -> None:
        self._socket.close()


def _script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
def test_f49_a_daemon_that_dies_at_its_start_is_noticed_at_once_with_the_end_of_its_log(
    short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = _script(tmp_path / "python", "echo 'no torch in here' >&2; exit 3")
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", dying)
    started = time.monotonic()
    with pytest.raises(ConnectionFailed, match="no torch in here"):
        MatteClient.connect(str(short_folder), start=True)
    assert time.monotonic() - started < 0.9 * autostart.LAUNCH_LIMIT_S


@pytest.mark.slow
def test_f49_a_front_that_dies_at_its_start_is_noticed_at_once(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", sys.executable)
    monkeypatch.setenv("MATTEBRIDGE_QUEUE", "many")
    started = time.monotonic()
    with pytest.raises(ConnectionFailed, match="MATTEBRIDGE_QUEUE must be a number"):
        MatteClient.connect(str(short_folder), start=True)
    assert time.monotonic() - started < 0.9 * autostart.LAUNCH_LIMIT_S


@pytest.mark.slow
def test_f49_a_launcher_that_hangs_is_ended_at_the_limit(
    short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    hanging = _script(tmp_path / "python", f"echo $$ > {pid_file}; exec sleep 600")
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", hanging)
    monkeypatch.setattr(autostart, "LAUNCH_LIMIT_S", 5.0)
    monkeypatch.setattr(autostart, "LAUNCHER_GRACE_S", 0.0)
    with pytest.raises(ConnectionFailed, match="within 5 s"):
        MatteClient.connect(str(short_folder), start=True)
    assert not is_alive(int(pid_file.read_text()))


@pytest.mark.slow
def test_f49_a_front_that_hangs_is_ended_by_its_launcher(
    short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    hanging = _script(tmp_path / "python", f"echo $$ > {pid_file}; exec sleep 600")
    monkeypatch.setattr(control.sys, "executable", hanging)
    monkeypatch.setattr(control, "LAUNCH_LIMIT_S", 5.0)
    with pytest.raises(ConnectionFailed, match="within 5 s"):
        control.serve(str(short_folder), detach=True, auto=True)
    assert not is_alive(int(pid_file.read_text()))
    # The launcher gives up first: killed before, it would leave the front behind.
    assert autostart.LAUNCHER_GRACE_S > 1


README_EXAMPLE = """
import sys
from mattebridge.client import MatteClient
with MatteClient.connect(sys.argv[1], start=True) as client:
    print(client.ping()["state"])
"""


@pytest.mark.slow
def test_f49_the_example_of_the_readme_runs_in_a_fresh_environment_without_its_commands_on_path(
    short_folder: Path, tmp_path: Path
) -> None:
    fresh = {"PATH": "/usr/bin:/bin", "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    assert shutil.which("mattebridge", path=fresh["PATH"]) is None
    done = subprocess.run(
        [sys.executable, "-c", README_EXAMPLE, str(short_folder)],
        env={**os.environ, **fresh},
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("starting", "ready")


@pytest.mark.slow
def test_f49_an_interpreter_that_is_not_there_is_named(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", "/nowhere/python")
    with pytest.raises(ConnectionFailed, match="/nowhere/python"):
        MatteClient.connect(str(short_folder), start=True)


@pytest.mark.slow
def test_f49_a_stopped_daemon_keeps_no_client_waiting_for_ever(start_abused: StartAbused) -> None:
    daemon = start_abused()
    with daemon.connect() as client:
        assert client.ping()["state"] == "ready"
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(ConnectionFailed, match="did not answer"):
                client.ping(timeout_s=0.5)
            with pytest.raises(Cancelled):
                client.models(10 * SOON_S, cancelled=lambda: time.monotonic() > started + 0.7)
            door = Door.connect(daemon.folder)
            with contextlib.closing(door), pytest.raises(ConnectionFailed, match="at the door"):
                door.ask(hello(), timeout_s=0.5)
            assert time.monotonic() - started < SOON_S
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))


@pytest.mark.slow
def test_f49_stopping_tells_a_daemon_that_hangs_from_one_that_is_not_there(
    start_abused: StartAbused, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start_abused()
    instance = str(daemon.folder)
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr(control, "STOP_LIMIT_S", 0.5)
            impatient.setattr(control, "LEAVE_LIMIT_S", 0.5)
            with pytest.raises(
                ConnectionFailed, match=rf"still runs: .*`kill -9 {daemon.pid}` ends it"
            ):
                control.stop(instance)
            assert control.leave(instance).startswith(
                "the daemon is left running until its idle limit: "
            )
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    assert control.stop(instance) is control.Outcome.STOPPED
    assert control.stop(instance) is control.Outcome.NONE


# -- F50: forbidden calls ------------------------------------------------------------------------

FORBIDDEN = {
    "multiprocessing.shared_memory": "leaks, and starts the host a second time",
    "shared_memory": "the same",
    "recv_fds": "ignores its flags: descriptors become inheritable",
    "ROUTER_HANDOVER": "gives one client's replies to another",
    "ROUTING_ID": "a chosen routing id collides",
    "IDENTITY": "the same",
}
# Ours to start from our own command line alone; a host's executable is the host.
MAY_NAME_THE_INTERPRETER = {
    "commands/demo.py",
    "commands/install.py",
    "commands/matte.py",
    "commands/plates.py",
    "daemon/control.py",
    "daemon/device_search.py",
    "daemon/devices.py",
    "daemon/workers.py",
}
# What runs inside a host before it chooses to run anything else.
CLIENT_HALF = {"errors", "color", "whole_files", "interpreter", "wire", "client"}


def test_f50_no_module_uses_what_was_found_to_leak_or_to_steal() -> None:
    for path, tree in _modules():
        names = set(_names(tree))
        found = {name for name in FORBIDDEN if name in names or f"zmq.{name}" in names}
        assert not found, (path, {name: FORBIDDEN[name] for name in found})


def test_f50_code_that_runs_in_a_host_never_looks_at_the_hosts_executable() -> None:
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path, tree in _modules()
        if "sys.executable" in set(_names(tree))
    }
    assert users <= MAY_NAME_THE_INTERPRETER
    assert not {_room(PACKAGE / name) for name in users} & {*CLIENT_HALF, "hosts"}


def test_f50_only_the_front_binds_and_no_module_ends_a_context_in_atexit() -> None:
    binders = set()
    for path, tree in _modules():
        names = list(_names(tree))
        # Set to False on what weakref finalizes, it prevents a call at the end.
        ended = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & {"atexit"}
        ended |= {name for name in names if name.startswith("atexit.")}
        assert not ended or _room(path) not in CLIENT_HALF, path
        # A signature of `inspect` is bound to arguments.
        bound = [name for name in names if not name.startswith("inspect.")]
        if any(name.endswith((".bind", ".bind_to_random_port")) for name in bound):
            binders.add(path.relative_to(PACKAGE).as_posix())
    # The layer binds for the doorkeeper, the transport or the layer for the mailbox.
    assert binders == {
        "wire/linux.py",
        "wire/posix.py",
        "wire/transport.py",
        "daemon/doorkeeper.py",
        "daemon/record_carrier.py",
    }
    router = next(
        node
        for path, tree in _modules()
        if path.name == "transport.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "router"
    )
    assert any(name.endswith(".bind") for name in _names(router))


def test_f50_the_front_imports_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, mattebridge.daemon.front;"
        "print(sorted({'numpy', 'torch', 'cv2', 'OpenImageIO'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
