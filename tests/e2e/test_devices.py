"""Devices: those that are not there, those that are found, and when their workers start."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes.daemon_process import DaemonProcess, StartDaemon, wait_for
from fakes.limits import SOON_S
from fakes.pictures import shot
from mattebridge import cli
from mattebridge.client import MatteHandle
from mattebridge.daemon import device_search, devices, workers
from mattebridge.daemon.device_search import DeviceSearch
from mattebridge.daemon.loop import Loop
from mattebridge.errors import UsageError, WorkerLostError
from mattebridge.wire.linux import LinuxLayer

pytestmark = pytest.mark.slow

# No machine has this many GPUs, and no torch this device.
NOT_THERE = ["cuda:77", "banana", "cuda:x"]
LOAD_S = 120.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket, and of this test alone."""
    with tempfile.TemporaryDirectory(prefix="mb-") as home:
        yield Path(home) / "run"


@pytest.mark.parametrize(
    ("device", "how"),
    [*((name, ["--detach"]) for name in NOT_THERE), (NOT_THERE[0], [])],
)
def test_serve_refuses_a_device_that_does_not_compute_and_starts_nothing(
    device: str, how: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = f"cpu,{device}"
    command = ["serve", *how, "--devices", wanted, "--instance", str(folder)]
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert f"--devices {wanted} cannot be served ({device}: " in said
    assert "sees" in said
    assert "CUDA devices" in said
    assert len(said.splitlines()) == 1
    assert not (folder / "door").exists()


@pytest.mark.parametrize("wanted", ["", " , "])
def test_a_list_that_names_no_device_is_refused(wanted: str) -> None:
    with pytest.raises(UsageError, match="names no device"):
        devices.check_named(wanted)


@pytest.mark.parametrize("wanted", ["cpu", "cpu:0,cpu:1", "auto"])
def test_the_processor_is_served_without_loading_torch(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    devices.check_named(wanted)


def test_a_device_that_computes_passes() -> None:
    assert devices.reason_against("cpu") is None


@pytest.mark.parametrize(
    ("program", "why"),
    [("exit 3", "status 3: no output"), ("sleep 600", "within 0.5 s"), ("echo x", "check failed")],
)
def test_a_check_that_fails_itself_is_no_permission(
    program: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\n{program.replace('sleep', 'exec sleep')}\n")
    broken.chmod(0o755)
    monkeypatch.setattr(devices.sys, "executable", str(broken))
    monkeypatch.setattr(devices, "CHECK_LIMIT_S", 0.5 if "sleep" in program else SOON_S)
    with pytest.raises(UsageError, match=why):
        devices.check_named("cuda:0")


def test_a_worker_whose_device_is_gone_stays_down_and_the_others_serve(
    start_daemon: StartDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = start_daemon(light=True, devices="cpu,cuda:77")
    client = daemon.client()
    with pytest.raises(WorkerLostError, match=r"cuda:77 is not used any more: .* CUDA devices"):
        client.load_model("difference")  # on every device
    assert client.ping()["state"] == "degraded"
    assert any(model["loaded"] for model in client.load_model("difference"))
    assert client.matte(*shot(seed=3)).alpha.shape[-1] == 1
    (lost,) = [w for w in client.status()["workers"] if w["device"] == "cuda:77"]
    assert (lost["state"], lost["restarts"], lost["pid"]) == ("failed", 0, 0)
    assert "CUDA devices" in lost["reason"]
    assert cli.main(["status", "--instance", str(daemon.folder)]) == 0
    assert f"cuda:77 is not used: {lost['reason']}" in capsys.readouterr().out


def test_frames_for_a_daemon_without_a_device_are_refused_with_the_reason(
    start_daemon: StartDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = start_daemon(light=True, devices="banana")
    client = daemon.client()
    with pytest.raises(WorkerLostError, match=r"every worker stays down \(banana: .*banana"):
        client.matte(*shot(seed=3))
    with pytest.raises(WorkerLostError, match="banana"):
        client.matte(*shot(seed=4))
    assert client.ping()["state"] == "failed"
    assert cli.main(["status", "--json", "--instance", str(daemon.folder)]) == 0
    assert json.loads(capsys.readouterr().out)["workers"][0]["reason"]


def test_eval_refuses_such_a_device_too(tmp_path: Path) -> None:
    from mattebridge_sample import render_shot

    render_shot(tmp_path / "set", frames=1, width=64, height=48)
    options = ["--device", "banana", "--model", "difference", "--set", str(tmp_path / "set")]
    done = subprocess.run(
        [sys.executable, "-m", "mattebridge", "eval", *options],
        capture_output=True,
        text=True,
        timeout=LOAD_S,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "--device banana cannot be served (banana: " in done.stderr


# -- what `auto` finds ----------------------------------------------------------------------------

# A front that believes that a GPU driver is installed, and asks `CHILD` for the devices.
FRONT = """
import sys
from mattebridge.daemon import __main__, device_search
from mattebridge.wire import linux_machine
linux_machine.DRIVERS = ("/dev/null",)
device_search.CHILD = {child!r}
sys.exit(__main__.main())
"""


class AutoDaemon(DaemonProcess):
    """A daemon with `--devices auto` on a machine with a driver."""

    def __init__(self, answer: str | None = None, **environment: str) -> None:
        """answer: what is asked for the devices; None: the real program, and real workers."""
        super().__init__(devices="auto", light=answer is not None, **environment)
        child = devices.CHILD
        if answer is not None:
            child = "what_is_found"
            (self.home / f"{child}.py").write_text(answer)
            self.environment["PYTHONPATH"] = str(self.home)
        self.program = [self.python, "-c", FRONT.format(child=child)]

    def notes(self) -> str:
        return "; ".join(self.client().status()["notes"])


@pytest.fixture
def start_auto() -> Iterator[Callable[..., AutoDaemon]]:
    started: list[AutoDaemon] = []

    def start(*answer: str, **environment: str) -> AutoDaemon:
        daemon = AutoDaemon(*answer, **environment)
        started.append(daemon)
        daemon.start()
        return daemon

    yield start
    for daemon in started:
        daemon.end()


def _found(*names: str, **reasons: str) -> str:
    answer = {"devices": names, "reasons": reasons, "seen": "torch 0 sees 0 CUDA devices"}
    return f"print({json.dumps(answer)!r}); print('a warning')"


def test_the_door_is_open_before_the_devices_are_known_and_requests_wait(
    start_auto: Callable[..., AutoDaemon], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    waits = f"import os, time\nwhile os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    daemon = start_auto(waits + _found("cpu"))
    client = daemon.client()
    assert (client.ping()["state"], client.status()["workers"]) == ("starting", [])
    assert client.release() == []
    handle = client.submit(*shot(seed=3))
    wait_for(lambda: client.ping()["queue"] == 1, SOON_S, "it waits")
    gate.unlink()
    assert handle.result(LOAD_S).device == "cpu"
    assert [worker["device"] for worker in client.status()["workers"]] == ["cpu"]


def test_a_driver_without_a_gpu_that_torch_can_use_ends_with_the_cpu_and_a_note(
    start_auto: Callable[..., AutoDaemon],
) -> None:
    """With the real search, whose torch sees no device (or none that is hidden from it)."""
    daemon = start_auto(None, CUDA_VISIBLE_DEVICES="", HIP_VISIBLE_DEVICES="")
    client = daemon.client()
    assert client.matte(*shot(seed=3)).device == "cpu"
    assert re.search("a GPU driver is installed, but torch .* sees 0 .* CPU", daemon.notes())


def test_auto_leaves_out_a_card_that_does_not_compute_and_says_so(
    start_auto: Callable[..., AutoDaemon], capsys: pytest.CaptureFixture[str]
) -> None:
    why = "CUDA error: no kernel image is available for execution on the device"
    daemon = start_auto(_found("cpu:0", **{"cuda:1": why}))
    daemon.client().matte(*shot(seed=3))
    assert daemon.notes() == f"cuda:1 is not used: {why}"
    assert cli.main(["status", "--instance", str(daemon.folder)]) == 0
    assert f"note: cuda:1 is not used: {why}" in capsys.readouterr().out


def test_auto_goes_on_with_the_cpu_where_a_worker_finds_that_its_card_cannot_be_used(
    start_auto: Callable[..., AutoDaemon],
) -> None:
    daemon = start_auto(_found("cuda:77"))
    client = daemon.client()
    assert client.matte(*shot(seed=3)).device == "cpu"
    assert "no GPU can be used (cuda:77: " in daemon.notes()
    assert client.ping()["state"] == "degraded"
    states = {worker["device"]: worker["state"] for worker in client.ping()["workers"]}
    assert states["cuda:77"] == "failed"


def test_a_frame_that_met_an_unsupported_card_is_rendered_on_the_cpu_under_auto(
    start_auto: Callable[..., AutoDaemon], tmp_path: Path
) -> None:
    """The card passes the check and fails in a frame: the client sends that one again."""
    hooks = tmp_path / "hooks"
    daemon = start_auto(_found("cpu:5"), MATTEBRIDGE_TEST_HOOKS=f"@{hooks}")
    client = daemon.client()
    client.matte(*shot(seed=3))
    hooks.write_text("model#13=unsupported")
    handle = client.submit(*shot(seed=3), frame=13)
    wait_for(lambda: "cpu:5 stays down" in daemon.log(), SOON_S, "the device is given up")
    hooks.unlink()
    assert handle.result(LOAD_S).device == "cpu"
    assert "no GPU can be used (cpu:5: CUDA error: no kernel image" in daemon.notes()


def test_a_named_card_that_is_unsupported_stays_down_and_frames_say_why(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(light=True, devices="cpu", hooks="model#13=unsupported")
    client = daemon.client()
    with pytest.raises(WorkerLostError, match="cpu: CUDA error: no kernel image is available"):
        client.matte(*shot(seed=3), frame=13)
    assert client.ping()["state"] == "failed"
    assert client.status()["workers"][0]["restarts"] == 0


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("raise SystemExit('torch is broken')", "torch is broken"),
        ("print('{}')", "{}"),
        ("print('[]')", "[]"),
        ("import os; os.close(1); os.close(2)", "no output"),
    ],
)
def test_a_search_that_fails_ends_with_the_cpu_and_its_last_words(
    answer: str, why: str, start_auto: Callable[..., AutoDaemon]
) -> None:
    daemon = start_auto(answer)
    wait_for(daemon.notes, SOON_S, "the search ends")
    assert daemon.notes() == f"the search for GPUs failed ({why}): serving on the CPU"
    assert [worker["device"] for worker in daemon.client().ping()["workers"]] == ["cpu"]


def test_a_search_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(device_search, "CHILD", "hangs")
    found: list[tuple[list[str], list[str]]] = []
    search = DeviceSearch(Loop(), lambda *what: found.append(what), limit_s=5.0)
    search.start()
    search.tick(time.monotonic())
    assert found == []
    process = search._process
    assert process is not None
    with monkeypatch.context() as context:
        # The front serves clients meanwhile: a driver may hold a killed process for long.
        context.setattr(subprocess.Popen, "wait", lambda *_: pytest.fail("the loop waits"))
        search.tick(time.monotonic() + 5.1)
    why = "the search for GPUs failed (it did not end within 5 s): serving on the CPU"
    assert found == [(["cpu"], [why])]
    deadline = time.monotonic() + SOON_S
    while process.returncode is None and time.monotonic() < deadline:
        search.tick(time.monotonic() + 60)
    assert process.returncode == -signal.SIGKILL
    search.stop()
    assert len(found) == 1


# -- when workers start ---------------------------------------------------------------------------


def test_one_frame_after_the_other_starts_one_worker_and_two_at_once_start_two(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    daemon = start_daemon(light=True, devices="cpu:0,cpu:1,cpu:2", hooks=f"model#13=gate:{gate}")
    client = daemon.client()
    for seed in range(3):
        client.matte(*shot(seed=seed), frame=1)
    assert [worker["state"] for worker in client.ping()["workers"]] == ["idle", "absent", "absent"]
    gate.touch()
    held = client.submit(*shot(seed=1), frame=13)
    wait_for(gate.with_name("gate.reached").exists, SOON_S, "the first worker computes")
    assert client.matte(*shot(seed=2), frame=14).device == "cpu:1"
    assert [worker["state"] for worker in client.ping()["workers"]] == ["busy", "idle", "absent"]
    gate.unlink()
    assert held.result(SOON_S).device == "cpu:0"


def test_no_worker_is_idle_while_a_frame_waits_and_one_that_computes_holds_up_no_other(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """Where frames take as long as their device and no processor, N workers are N times one: all
    compute at once, and the one that ends gets the next frame. `python -m benchmarks workers`
    measures the ratio."""
    workers, frames = 4, 9
    gates = [tmp_path / f"gate{frame}" for frame in range(frames)]
    for gate in gates:
        gate.touch()
    hooks = ",".join(f"probe#{frame}=gate:{gate}" for frame, gate in enumerate(gates))
    devices = ",".join(f"cpu:{number}" for number in range(workers))
    daemon = start_daemon(light=True, devices=devices, hooks=f"bridge_probe,{hooks}")
    client = daemon.client(in_flight=workers + 1)
    client.load_model("difference")  # on all of them: every worker runs
    plates = shot(seed=5)

    def submit(frame: int) -> MatteHandle:
        return client.submit(*plates, frame=frame, model="bridge_probe", outputs=("alpha",))

    def is_computed(frame: int) -> bool:
        return gates[frame].with_name(f"gate{frame}.reached").exists()

    handles = {frame: submit(frame) for frame in range(workers + 1)}
    for frame in range(workers):
        wait_for(lambda frame=frame: is_computed(frame), SOON_S, f"frame {frame} is computed")
    states = [worker["state"] for worker in client.ping()["workers"]]
    assert states == ["busy"] * workers
    # None of them is done, and no worker has two frames.
    assert not is_computed(workers)
    inside = list(range(workers))
    for waiting in range(workers, frames):
        # Any of them, not the first: frames end in another order than they came in.
        done = inside.pop(waiting % len(inside))
        gates[done].unlink()
        handles.pop(done).result(SOON_S)
        wait_for(lambda frame=waiting: is_computed(frame), SOON_S, f"frame {waiting} is computed")
        inside.append(waiting)
        if waiting + 1 < frames:
            handles[waiting + 1] = submit(waiting + 1)
    for frame in inside:
        gates[frame].unlink()
        handles.pop(frame).result(SOON_S)
    assert not handles


def test_each_worker_has_its_share_of_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinuxLayer, "cores", lambda _self: 12)
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 12)
    assert workers.thread_environment(1) == {}
    for count, threads in ((2, "6"), (5, "2"), (12, "1"), (40, "1")):
        assert set(workers.thread_environment(count).values()) == {threads}
    monkeypatch.setattr(LinuxLayer, "cores", lambda _self: 3)
    assert workers.thread_environment(1)["OMP_NUM_THREADS"] == "3"


def test_two_workers_on_one_device_are_told_apart(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True, devices="cpu,cpu")
    client = daemon.client()
    models = client.load_model("difference")
    assert any(model["loaded"] for model in models)
    status = client.status()["workers"]
    assert [worker["device"] for worker in status] == ["cpu", "cpu#2"]
    assert all("difference" in worker["memory"]["models"] for worker in status)
    assert [worker["device"] for worker in client.release()] == ["cpu", "cpu#2"]
