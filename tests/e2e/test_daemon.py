"""The daemon's life: start, several workers, models, idling, draining, its log and its status."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess, StartDaemon, is_alive, slot_maps, wait_for
from fakes.light_python import light_python
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, same, shot
from mattebridge.client import MatteClient
from mattebridge.errors import (
    Cancelled,
    ConnectionFailed,
    DaemonLost,
    DrainingError,
    MattebridgeError,
    ModelError,
    PlateError,
    QuotaError,
)


def _pair(height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    clean_plate = np.random.default_rng(3).random((height, width, 3), np.float32) * 0.3 + 0.2
    plate = clean_plate.copy()
    plate[height // 4 : height // 2, width // 4 : width // 2] = (0.9, 0.6, 0.1)
    return plate, clean_plate


@pytest.mark.slow
def test_the_first_client_is_accepted_before_any_worker_is_ready(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True)
    client = daemon.client()
    assert client.ping()["state"] in ("starting", "ready")
    plate, clean_plate = _pair()
    assert client.matte(plate, clean_plate).alpha is not None


def test_two_workers_compute_two_frames_at_once(start_daemon: StartDaemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    daemon = start_daemon(light=True, devices="cpu:0,cpu:1", hooks=f"model=gate:{gate}")
    client = daemon.client(in_flight=3)
    plate, clean_plate = _pair()
    handles = [client.submit(plate, clean_plate, frame=n, alignment="off") for n in (1, 2, 3)]
    wait_for(lambda: _busy(client) == 2, SOON_S, "both workers are busy")
    assert client.status()["queue"]["interactive"] == 1
    gate.unlink()
    mattes = [handle.result(SOON_S) for handle in handles]
    assert all(np.array_equal(matte.alpha, mattes[0].alpha) for matte in mattes)
    frames = [worker["frames"] for worker in client.status()["workers"]]
    assert sum(frames) == 3
    assert min(frames) >= 1


def _busy(client: MatteClient) -> int:
    return sum(worker["state"] == "busy" for worker in client.ping()["workers"])


def test_one_of_two_workers_may_die_while_the_other_serves(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True, devices="cpu:0,cpu:1", hooks="model#13=kill")
    client = daemon.client()
    plate, clean_plate = _pair()
    doomed = client.submit(plate, clean_plate, frame=13)
    good = client.submit(plate, clean_plate, frame=1)
    assert good.result(SOON_S).alpha is not None
    with pytest.raises(MattebridgeError) as caught:
        doomed.result(SOON_S)
    assert caught.value.code == "E_WORKER_LOST"
    assert client.matte(plate, clean_plate, frame=2).alpha is not None


@pytest.mark.slow
def test_models_are_listed_loaded_and_unloaded_on_every_worker(start_daemon: StartDaemon) -> None:
    client = start_daemon(light=True, devices="cpu:0,cpu:1").client()
    names = {model["name"]: model for model in client.models()}
    assert names["difference"]["needs"] == ["plate", "clean_plate"]
    unloaded = {model["name"]: model for model in client.unload_model("difference")}
    assert not unloaded["difference"]["loaded"]
    loaded = {model["name"]: model for model in client.load_model("difference")}
    assert loaded["difference"]["loaded"]
    with pytest.raises(ModelError, match="no-such"):
        client.load_model("no-such")


def test_the_status_is_plain_values_and_lies_in_the_folder_too(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True).wait_ready()
    client = daemon.client(name="looker", host="a test")
    plate, clean_plate = _pair()
    matte = client.matte(plate, clean_plate, frame=7)
    status = json.loads(json.dumps(client.status()))
    assert status["state"] == "ready"
    assert status["frames"]["done"] == 1
    assert status["timings"]["render_ms"] > 0
    looker = next(s for s in status["sessions"] if s["client"] == "looker")
    assert (looker["host"], looker["arenas"], looker["frames"]) == ("a test", 2, 1)
    on_disk = json.loads((daemon.folder / "status.json").read_text())
    assert on_disk["pid"] == daemon.pid
    (line,) = _frames(daemon)
    assert "frame=7 model=default size=64x48 status=done queue_ms=" in line
    times = {name: float(value) for name, value in re.findall(r"(\w+_ms)=([\d.]+)", line)}
    assert list(times) == ["queue_ms", "infer_ms", "render_ms", "total_ms"]
    # What the model alone took, and the whole in the worker.
    for logged, timing in (("infer_ms", "model_ms"), ("render_ms", "render_ms")):
        assert times[logged] == pytest.approx(matte.timings[timing], abs=0.051)
    assert times["infer_ms"] <= times["render_ms"] <= times["total_ms"]


@pytest.mark.slow
def test_an_idle_worker_is_released_and_comes_back_for_the_next_frame(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(light=True, MATTEBRIDGE_WORKER_IDLE_S="0.5")
    client = daemon.client()
    plate, clean_plate = _pair()
    client.matte(plate, clean_plate)
    (first,) = daemon.worker_pids()
    wait_for(lambda: not daemon.worker_pids(), SOON_S, "the idle worker is released")
    assert client.ping()["state"] == "ready"
    assert client.matte(plate, clean_plate).alpha is not None
    assert daemon.worker_pids() != [first]


def test_an_unused_front_leaves_by_itself() -> None:
    daemon = DaemonProcess(light=True, arguments=["--idle-exit=0.5"])
    try:
        # Nobody asks whether it accepts: it may be gone before that.
        daemon.start(wait=False)
        assert daemon.process is not None
        assert daemon.process.wait(SOON_S) == 0
        assert daemon.files() <= {"lock", "log", "status.json"}
        assert " serving in " in daemon.log()
    finally:
        daemon.end()


@pytest.mark.slow
def test_a_front_in_use_does_not_leave(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True, arguments=["--idle-exit=4"])
    client = daemon.client()
    plate, clean_plate = _pair()
    client.matte(plate, clean_plate)
    time.sleep(5)
    assert client.matte(plate, clean_plate).alpha is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains(start_daemon: StartDaemon, tmp_path: Path, number: signal.Signals) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    daemon = start_daemon(light=True, hooks=f"model=gate:{gate}").wait_ready()
    client = daemon.client()
    plate, clean_plate = _pair()
    running = client.submit(plate, clean_plate, frame=1)
    wait_for(lambda: _busy(client) == 1, SOON_S, "the first frame runs")
    waiting = client.submit(plate, clean_plate, frame=2)
    os.kill(daemon.pid, number)
    with pytest.raises(DrainingError):
        waiting.result(SOON_S)
    assert client.status()["state"] == "draining"
    with MatteClient.connect(str(daemon.folder)) as late, pytest.raises(DrainingError):
        late.matte(plate, clean_plate)
    gate.unlink()
    assert running.result(SOON_S).alpha is not None
    assert daemon.process is not None
    assert daemon.process.wait(SOON_S) == 0
    assert daemon.files() <= {"lock", "log", "status.json"}
    with pytest.raises(ConnectionFailed, match="no daemon is running"):
        MatteClient.connect(str(daemon.folder))


@pytest.mark.slow
def test_a_client_that_may_start_daemons_goes_on_to_the_next_when_its_own_is_stopped(
    start_daemon: StartDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", light_python())
    gate = tmp_path / "gate"
    gate.touch()
    daemon = start_daemon(light=True, hooks=f"model=gate:{gate}").wait_ready()
    client = daemon.client(start=True)
    other = daemon.client(start=True)
    plate, clean_plate = _pair()
    running = client.submit(plate, clean_plate, frame=1)
    wait_for(lambda: _busy(client) == 1, SOON_S, "the first frame runs")
    waiting = client.submit(plate, clean_plate, frame=2)
    os.kill(daemon.pid, signal.SIGTERM)
    wait_for(lambda: client.ping()["state"] == "draining", SOON_S, "it drains")
    assert not waiting.done()
    # A client that has no arenas yet waits for them, not for nothing.
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(other.matte, plate, clean_plate)
        time.sleep(0.5)
        assert not late.done()
        gate.unlink()
        mattes = [running.result(SOON_S), waiting.result(SOON_S), late.result(SOON_S)]
    assert all(np.array_equal(matte.alpha, mattes[0].alpha) for matte in mattes)
    assert client.status()["pid"] == other.status()["pid"] != daemon.pid
    assert client.shutdown()


def test_a_frame_that_waits_for_the_next_daemon_can_be_cancelled(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    daemon = start_daemon(light=True, hooks=f"model=gate:{gate}").wait_ready()
    client = daemon.client(start=True)
    plate, clean_plate = _pair()
    running = client.submit(plate, clean_plate, frame=1)
    wait_for(lambda: _busy(client) == 1, SOON_S, "the first frame runs")
    waiting = client.submit(plate, clean_plate, frame=2)
    os.kill(daemon.pid, signal.SIGTERM)
    wait_for(lambda: client.ping()["state"] == "draining", SOON_S, "it drains")
    waiting.cancel()
    with pytest.raises(Cancelled):
        waiting.result(SOON_S)
    client.close()
    with pytest.raises(DaemonLost):
        running.result(SOON_S)


@pytest.mark.slow
def test_draining_ends_even_when_a_worker_does_not(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True, hooks="model=hang", MATTEBRIDGE_DRAIN_S="0.5").wait_ready()
    client = daemon.client()
    plate, clean_plate = _pair()
    handle = client.submit(plate, clean_plate)
    wait_for(lambda: _busy(client) == 1, SOON_S, "the frame hangs")
    workers = daemon.worker_pids()
    assert daemon.stop() == 0
    assert not any(is_alive(pid) for pid in workers)
    with pytest.raises(MattebridgeError) as caught:
        handle.result(SOON_S)
    assert caught.value.code in ("E_DRAINING", "E_DAEMON_LOST")


def test_stop_if_unused_leaves_a_daemon_in_use_alone(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True)
    client = daemon.client()
    plate, clean_plate = _pair()
    client.matte(plate, clean_plate)
    with MatteClient.connect(str(daemon.folder)) as other:
        assert other.shutdown(if_unused=True) is False
    client.close()
    with MatteClient.connect(str(daemon.folder)) as other:
        assert other.shutdown(if_unused=True) is True
    assert daemon.process is not None
    assert daemon.process.wait(SOON_S) == 0


@pytest.mark.slow
def test_a_removed_folder_ends_the_daemon(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True)
    (daemon.folder / "door").unlink()
    assert daemon.process is not None
    assert daemon.process.wait(SOON_S) == 0


def test_the_log_is_rotated() -> None:
    daemon = DaemonProcess(light=True)
    daemon.folder.mkdir(mode=0o700)
    (daemon.folder / "log").write_bytes(b"old line\n" * (600 << 10))
    with daemon:
        daemon.wait_ready()
        names = daemon.files()
    assert {"log", "log.1"} <= names


@pytest.mark.slow
def test_held_clean_plates_outlive_their_session_and_make_room(start_daemon: StartDaemon) -> None:
    plate, clean_plate = _pair(256, 256)
    budget = 2 * 256 * 256 * 3 * 4 + 4096
    daemon = start_daemon(light=True, MATTEBRIDGE_PLATE_BYTES=str(budget))
    with MatteClient.connect(str(daemon.folder)) as first:
        assert [p["name"] for p in first.hold_clean_plate("a", clean_plate)] == ["a"]
        expected = first.matte(plate, clean_plate, alignment="off", match_exposure=False)
    client = daemon.client()
    by_name = client.matte(plate, "a", alignment="off", match_exposure=False)
    assert np.array_equal(by_name.premultiplied, expected.premultiplied)
    client.hold_clean_plate("b", clean_plate)
    client.matte(plate, "a")
    client.hold_clean_plate("c", clean_plate)
    assert [p["name"] for p in client.held_clean_plates()] == ["a", "c"]
    with pytest.raises(PlateError, match="'b'"):
        client.matte(plate, "b")
    with pytest.raises(QuotaError, match="MATTEBRIDGE_PLATE_BYTES"):
        client.hold_clean_plate("large", np.zeros((600, 600, 3), np.float32))
    client.drop_clean_plate("a")
    client.drop_clean_plate("c")
    assert client.held_clean_plates() == []
    assert slot_maps(daemon.pid) == 0


def test_batch_work_waits_for_interactive_work_but_not_for_ever(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    daemon = start_daemon(
        light=True, hooks=f"model#1=gate:{gate}", MATTEBRIDGE_BATCH_AGEING_S="3600"
    )
    artist, farm = daemon.client(in_flight=4), daemon.client(in_flight=4)
    plate, clean_plate = _pair()
    first = artist.submit(plate, clean_plate, frame=1)
    wait_for(lambda: _busy(artist) == 1, SOON_S, "the gate holds frame 1")
    batch = farm.submit(plate, clean_plate, frame=100, priority="batch")
    later = [artist.submit(plate, clean_plate, frame=n) for n in (2, 3)]
    gate.unlink()
    for handle in (first, *later, batch):
        handle.result(SOON_S)
    farm.ping()  # the front writes a frame's line behind its reply
    order = [line.split("frame=")[1].split()[0] for line in _frames(daemon)]
    assert order == ["1", "2", "3", "100"]


def _frames(daemon: DaemonProcess) -> list[str]:
    return [line for line in daemon.log().splitlines() if " frame=" in line]


@pytest.mark.slow
def test_a_worker_waits_asleep_for_its_own_threads(shared_daemon: DaemonProcess) -> None:
    """Spinning they would take the processors from the clients that read and write frames."""
    plate, clean_plate = _pair()
    # A worker that was idle for long has ended.
    with MatteClient.connect(str(shared_daemon.folder)) as client:
        client.matte(plate, clean_plate)
    assert b"OMP_WAIT_POLICY=PASSIVE" in _worker_environment(shared_daemon)


def test_a_worker_asks_for_large_pages_unless_the_user_sets_otherwise(
    start_daemon: StartDaemon,
) -> None:
    """A frame's temporaries in pages of 4 KB take longer than what is computed in them."""
    for given, wanted in (
        ({}, b"GLIBC_TUNABLES=glibc.malloc.hugetlb=1"),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=0"}, b"GLIBC_TUNABLES=glibc.malloc.check=0"),
    ):
        daemon = start_daemon(light=True, **given)
        with MatteClient.connect(str(daemon.folder)) as client:
            client.matte(*_pair())
        assert wanted in _worker_environment(daemon)


def _worker_environment(daemon: DaemonProcess) -> list[bytes]:
    (pid,) = daemon.worker_pids()
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_a_light_worker_of_these_tests_loads_no_torch(
    start_daemon: StartDaemon, shared_daemon: DaemonProcess
) -> None:
    frame = shot(seed=5)
    for daemon in (start_daemon(light=True), shared_daemon):
        with MatteClient.connect(str(daemon.folder)) as client:
            assert same(client.matte(*frame, **PLAIN), daemon.matted(*frame))
        (pid,) = daemon.worker_pids()
        assert ("libtorch" in Path(f"/proc/{pid}/maps").read_text()) is not daemon.light
