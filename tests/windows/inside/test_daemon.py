"""A daemon in one Windows process and its clients in others. Runs on Windows, or under Wine.

The engine in the worker is the one of `without_torch`; daemon, worker and client are the real ones.
Starting a Python takes long under Wine, so the tests share one daemon as far as they can, and each
waits for a state, with a bound that only a hang would break.
"""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mattebridge.client import Matte, MatteClient
from mattebridge.daemon import control
from mattebridge.errors import ConnectionFailed, DaemonLost, WorkerLostError
from mattebridge.wire import oslayer
from mattebridge.wire.folder import CTL, DOOR
from mattebridge.wire.windows_children import real_python
from windows import digests, handles
from windows.patience import LIMIT_S, connect
from windows.running import Daemon, wait_for

KILLS = 2
# Renders frame after frame until it is killed; says when the first one is there.
ANOTHER_CLIENT = """
import sys
from windows import digests, patience
with patience.connect(sys.argv[1]) as client:
    while True:
        client.matte(*digests.frame(1), model="difference", timeout_s=patience.LIMIT_S)
        print("rendered", flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("Run Folder") / "v1"


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Daemon]:
    started = Daemon(folder)
    yield started
    started.kill()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[MatteClient]:
    with connect(daemon.folder) as connected:
        yield connected


def outputs(matte: Matte) -> bytes:
    assert matte.foreground is not None
    assert matte.premultiplied is not None
    return b"".join(np.ascontiguousarray(plane).tobytes()
                    for plane in (matte.alpha, matte.foreground, matte.premultiplied))  # fmt: skip


def render(client: MatteClient, number: int) -> bytes:
    return outputs(client.matte(*digests.frame(number), model="difference", timeout_s=LIMIT_S))


def worker_pid(client: MatteClient) -> int:
    return int(client.ping(LIMIT_S)["workers"][0]["pid"])


def arena_bytes(client: MatteClient) -> int:
    return int(client.status(LIMIT_S)["memory"]["arena_bytes"])


def session_pids(client: MatteClient) -> list[int]:
    return [session["pid"] for session in client.status(LIMIT_S)["sessions"]]


def test_without_a_daemon_connecting_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match="no daemon is running"):
        MatteClient.connect(str(tmp_path / "none"))


def test_frames_of_a_worker_have_the_bytes_of_the_same_arithmetic_on_linux(
    client: MatteClient,
) -> None:
    expected = os.environ["MATTEBRIDGE_TEST_DIGESTS"].split(",")
    found = [hashlib.sha256(render(client, number)).hexdigest() for number in range(len(expected))]
    assert found == expected


def test_an_instance_is_the_same_in_capitals_and_with_slashes(daemon: Daemon) -> None:
    other = str(daemon.folder).upper().replace("\\", "/")
    with connect(other) as client:
        assert client.status(LIMIT_S)["pid"] == daemon.process.pid


def test_many_threads_that_end_leave_their_session_open(client: MatteClient) -> None:
    """Windows ends what a thread has under way when that thread ends."""
    for number in range(3):
        made: list[bytes] = []
        thread = threading.Thread(target=lambda n=number, m=made: m.append(render(client, n)))
        thread.start()
        thread.join(LIMIT_S)
        assert made == [render(client, number)]


def test_killed_clients_leave_no_session_no_arena_and_no_handle_of_the_daemon(
    daemon: Daemon,
) -> None:
    with connect(daemon.folder) as watching:
        before = None
        for _turn in range(KILLS + 1):
            other = subprocess.Popen(
                [sys.executable, "-c", ANOTHER_CLIENT, str(daemon.folder)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert other.stdout is not None
            assert other.stdout.readline().strip() == b"rendered"
            assert arena_bytes(watching) > 0
            other.kill()
            other.wait(LIMIT_S)
            other.stdout.close()
            wait_for(lambda: not arena_bytes(watching), "its arenas are still there")
            wait_for(lambda: session_pids(watching) == [os.getpid()], "its session is still there")
            before = before or handles.kinds_of(daemon.process.pid)
        assert before is not None
        assert before["pipe"] > 0
        handles.wait_until_closed(before, daemon.process.pid)


def test_killed_daemons_leave_their_client_no_handle_no_pipe_and_no_process(
    tmp_path: Path,
) -> None:
    layer, folder = oslayer.current(), tmp_path / "v1"
    before, running = None, handles.processes()
    for number in range(KILLS + 1):
        own = Daemon(folder)
        with connect(folder) as client:
            render(client, number)
            worker = worker_pid(client)
            waiting = client.submit(*digests.frame(number), model="difference", timeout_s=LIMIT_S)
            own.kill()
            with pytest.raises(DaemonLost):
                waiting.result()
        del waiting, client
        gc.collect()
        wait_for(lambda pid=worker: not layer.runs(pid), "its worker still runs")
        wait_for(lambda: handles.processes() <= running, "a process is still there")
        for name in (DOOR, CTL):
            with pytest.raises(FileNotFoundError):
                layer.connect(folder / name)
        # The first turn opens what a process opens once for ever.
        before = before or handles.kinds_of()
    handles.wait_until_closed(before)


def test_a_killed_worker_is_replaced_and_its_request_answered(
    daemon: Daemon, client: MatteClient
) -> None:
    before = render(client, 0)
    (worker,) = client.status(LIMIT_S)["workers"]
    os.kill(worker["pid"], signal.SIGTERM)  # Windows ends it at once
    wait_for(
        lambda: client.status(LIMIT_S)["workers"][0]["pid"] not in (0, worker["pid"]), "no new one"
    )
    try:
        after = render(client, 0)
    except WorkerLostError:  # it had been given to the old one
        after = render(client, 0)
    assert after == before


def test_status_and_stop_reach_the_daemon_and_the_folder_keeps_no_socket(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STOP_LIMIT_S", LIMIT_S)
    done = subprocess.run(
        [sys.executable, "-m", "mattebridge", "status", "--instance", str(daemon.folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert str(daemon.process.pid).encode() in done.stdout
    with connect(daemon.folder) as client:
        worker = worker_pid(client)
    assert control.stop(str(daemon.folder)) is control.Outcome.STOPPED
    assert daemon.process.wait(LIMIT_S) == 0
    wait_for(lambda: not oslayer.current().runs(worker), "its worker still runs")
    assert sorted(path.name for path in daemon.folder.iterdir()) == ["lock", "log", "status.json"]


# Of a launcher that is still there, which outside of tests ends before its daemon.
@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")
def test_a_killed_daemon_takes_its_worker_along_and_the_client_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon that `serve --detach` starts."""
    monkeypatch.setattr(control, "LAUNCH_LIMIT_S", LIMIT_S)
    # mattebridge is not installed in this Python, but on its path.
    monkeypatch.setattr(control, "clean_environment", lambda: dict(os.environ))
    assert control.serve(str(folder), detach=True, devices="cpu") == 0
    with connect(folder) as client:
        wait_for(lambda: worker_pid(client), "it starts no worker")
        worker, front = worker_pid(client), client.status(LIMIT_S)["pid"]
        waiting = client.submit(*digests.frame(0), model="difference", timeout_s=LIMIT_S)
        os.kill(front, signal.SIGTERM)
        with pytest.raises(DaemonLost):
            waiting.result()
    wait_for(lambda: not oslayer.current().runs(worker), "its worker still runs")
    wait_for(lambda: not control.lock_is_held(folder), "its lock is still held")


def test_the_python_of_a_virtual_environment_is_passed_over(tmp_path: Path) -> None:
    real, made = tmp_path / "Python 3.13", tmp_path / "venv"
    for place in (real, made / "Scripts"):
        place.mkdir(parents=True)
        (place / "python.exe").touch()
    program = str(made / "Scripts" / "python.exe")
    assert real_python(program) == program
    (made / "pyvenv.cfg").write_text(f"home = {real}\nversion = 3.13.2\n", "utf-8")
    assert real_python(program) == str(real / "python.exe")
