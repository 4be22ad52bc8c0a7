"""Devices that are not there: `serve` refuses them with the reason, `status` and frames name it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.daemon_process import StartDaemon, wait_for
from fakes.pictures import shot
from mattebridge import cli
from mattebridge.daemon import devices
from mattebridge.errors import UsageError, WorkerLostError

# No machine has this many GPUs, and no torch this device.
NOT_THERE = ["cuda:77", "banana", "cuda:x"]
LOAD_S = 120.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket, and of this test alone."""
    with tempfile.TemporaryDirectory(prefix="mb-") as home:
        yield Path(home) / "run"


@pytest.mark.parametrize(
    ("device", "how"), [(name, ["--detach"]) for name in NOT_THERE] + [(NOT_THERE[0], [])]
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
    monkeypatch.setattr(devices, "CHECK_LIMIT_S", 0.5)
    with pytest.raises(UsageError, match=why):
        devices.check_named("cuda:0")


def test_a_worker_whose_device_is_gone_stays_down_and_the_others_serve(
    start_daemon: StartDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = start_daemon(devices="cpu,cuda:77")
    client = daemon.client()
    wait_for(lambda: client.ping()["state"] == "degraded", LOAD_S, daemon.words)
    assert client.matte(*shot(seed=3)).alpha.shape[-1] == 1
    (lost,) = [w for w in client.status()["workers"] if w["device"] == "cuda:77"]
    assert (lost["state"], lost["restarts"], lost["pid"]) == ("failed", 0, 0)
    assert "CUDA devices" in lost["reason"]
    assert cli.main(["status", "--instance", str(daemon.folder)]) == 0
    assert f"cuda:77 is not used: {lost['reason']}" in capsys.readouterr().out


def test_frames_for_a_daemon_without_a_device_are_refused_with_the_reason(
    start_daemon: StartDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = start_daemon(devices="banana")
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
