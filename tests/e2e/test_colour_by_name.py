"""Colour spaces by name with a real daemon: requests, `colors`, `status`, a config that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess, StartDaemon, wait_for
from fakes.places import BRIDGE
from mattebridge.errors import ColorError, MattebridgeError, MessageError

LOGC = "ARRI LogC3 (EI800)"
BROKEN = "ocio_profile_version: 2\nroles: [\n"


def _pair() -> tuple[np.ndarray, np.ndarray]:
    clean_plate = np.random.default_rng(3).random((40, 56, 3), np.float32) * 0.3 + 0.2
    plate = clean_plate.copy()
    plate[10:30, 15:40] = (0.9, 0.05, 0.1)
    return plate, clean_plate


def _command(*words: str, instance: object, **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "mattebridge", *words, "--instance", str(instance)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(BRIDGE), **environment},
    )


def test_a_frame_in_acescg_comes_back_in_acescg(shared_daemon: DaemonProcess) -> None:
    plate, clean_plate = _pair()
    with shared_daemon.client() as client:
        given = {"foreground": "unmix", "alignment": "off", "model": "difference"}
        matte = client.matte(plate, clean_plate, colorspace="scene_linear", **given)
        linear = client.matte(plate, clean_plate, colorspace="linear", **given)
        logc = client.matte(plate, clean_plate, colorspace=LOGC, **given)
    again = matte.premultiplied[..., :3] + (1 - matte.alpha) * clean_plate
    solid = matte.alpha[..., 0] >= 1 / 1024
    assert solid.any()
    assert np.abs(again - plate)[solid].max() <= 1e-4
    # The same numbers are other colours in other spaces, so the keyer sees other pictures.
    assert not np.array_equal(matte.alpha, linear.alpha)
    assert not np.array_equal(matte.alpha, logc.alpha)
    assert matte.notes["color"]["config"] == "ocio://studio-config-latest"
    assert "color" not in linear.notes


def test_an_unknown_space_is_an_error_with_the_nearest(shared_daemon: DaemonProcess) -> None:
    plate, clean_plate = _pair()
    with shared_daemon.client() as client:
        with pytest.raises(ColorError, match="the nearest are") as refused:
            client.matte(plate, clean_plate, colorspace="ACECg")
        assert "ACEScg" in refused.value.details["nearest"]
        with pytest.raises(MessageError, match=r"params\.output_colorspace"):
            client.matte(plate, clean_plate, colorspace="linear", output_colorspace="a\nb")
        assert client.matte(plate, clean_plate, colorspace="linear").alpha is not None


def test_the_spaces_are_listed_over_several_replies(shared_daemon: DaemonProcess) -> None:
    with shared_daemon.client() as client:
        colors = client.colors()
        status = client.status()
    names = [space["name"] for space in colors["spaces"]]
    assert len(set(names)) == len(names) > 50
    acescg = next(space for space in colors["spaces"] if space["name"] == "ACEScg")
    assert "scene_linear" in acescg["roles"]
    assert "lin_ap1" in acescg["aliases"]
    assert status["color"] == {"config": colors["config"], "digest": colors["digest"]}
    listed = _command("colors", "logc", instance=shared_daemon.folder)
    assert listed.returncode == 0, listed.stderr
    assert LOGC in listed.stdout
    assert "ACEScg" not in listed.stdout
    shown = _command("status", instance=shared_daemon.folder)
    assert "ocio://studio-config-latest (digest" in shown.stdout


@pytest.mark.slow
def test_a_config_of_the_environment_is_the_daemons(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    config = tmp_path / "shop.ocio"
    matrix = "[2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1]"
    config.write_text(
        "ocio_profile_version: 2\nroles: {default: half}\ncolorspaces:\n"
        "  - !<ColorSpace> {name: lin_rec709}\n  - !<ColorSpace>\n    name: half\n"
        f"    to_scene_reference: !<MatrixTransform> {{matrix: {matrix}}}\n"
    )
    daemon = start_daemon(OCIO=str(config))
    plate, clean_plate = _pair()
    with daemon.client() as client:
        given: dict[str, Any] = {"alignment": "off", "model": "difference"}
        half = client.matte(plate / 2, clean_plate / 2, colorspace="half", **given)
        linear = client.matte(plate, clean_plate, colorspace="linear", **given)
        assert np.abs(half.alpha - linear.alpha).max() < 1e-5
        assert [space["name"] for space in client.colors()["spaces"]] == ["lin_rec709", "half"]
        with pytest.raises(ColorError, match="'ACEScg' is no colour space"):
            client.matte(plate, clean_plate, colorspace="ACEScg")
        assert client.status()["color"]["config"] == str(config)


@pytest.mark.slow
def test_serve_fails_with_a_config_that_cannot_be_loaded(tmp_path: Path) -> None:
    config, folder = tmp_path / "broken.ocio", tmp_path / "run"
    config.write_text(BROKEN)
    for words in (("--detach",), ()):
        failed = _command("serve", *words, "--devices", "cpu", instance=folder, OCIO=str(config))
        assert failed.returncode == ColorError.exit_status, failed.stderr
        assert "broken.ocio cannot be loaded" in failed.stderr
        assert "correct OCIO" in failed.stderr
    missing = _command(
        "serve", "--detach", "--devices", "cpu", "--ocio", "none.ocio", instance=folder
    )
    assert missing.returncode == ColorError.exit_status
    assert f"{Path.cwd() / 'none.ocio'} cannot be loaded" in missing.stderr
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"


def test_a_request_fails_with_the_error_of_the_config(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    config = tmp_path / "broken.ocio"
    config.write_text(BROKEN)
    daemon = start_daemon(MATTEBRIDGE_OCIO=str(config))
    plate, clean_plate = _pair()
    # Sent before or after the worker has found out: the daemon's own error, or that it stops.
    with pytest.raises(MattebridgeError):
        daemon.client().matte(plate, clean_plate, colorspace="linear")
    wait_for(lambda: daemon.process.poll() is not None, 60, "the daemon has ended")
    assert "broken.ocio cannot be loaded" in daemon.words()
