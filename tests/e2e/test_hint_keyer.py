"""A plate + hint checkpoint: added by the command, served by a real daemon, with its inputs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes.daemon_process import DaemonProcess
from fakes.generated_weights import plate_pair
from fakes.places import BRIDGE
from fakes.reuse import check_reuse
from fakes.seeded_keyer import seeded_state
from mattebridge.errors import InputsError, ModelError
from mattebridge.models.greenformer.fit import Fit
from mattebridge.models.greenformer.network import network_input
from mattebridge.models.greenformer.recognise import network_from
from mattebridge.models.weights.installed import InstalledModels

HEIGHT, WIDTH, SIZE = 72, 100, 64
SETTINGS = {"img_size": SIZE}

pytestmark = pytest.mark.slow  # a file of 275 MB is written, hashed, copied and loaded


class Served:
    """A daemon with the checkpoint added as `key`."""

    def __init__(self, folder: Path) -> None:
        self.models = InstalledModels(folder / "models")
        self.daemon = DaemonProcess(MATTEBRIDGE_MODELS=str(self.models.folder))
        self.file = folder / "CorridorKey.pth"

    def command(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mattebridge", *arguments],
            env={
                **self.daemon.environment,
                "PYTHONPATH": str(BRIDGE),
                "MATTEBRIDGE_RUNTIME_DIR": str(self.daemon.folder),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    torch.save(seeded_state(), served.file)
    with served.daemon:
        served.daemon.wait_ready()
        said = served.command(
            "models", "add", str(served.file), "--name", "key", "--screen", "blue"
        )
        assert "greenformer" in said
        assert "screen blue" in said
        assert "sha256:" in said
        yield served
    os.unlink(served.file)


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plate, clean plate (H, W, 3) and a hint (H, W, 1)."""
    pair = (
        np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
        for image in plate_pair(HEIGHT, WIDTH)
    )
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    hint = np.hypot((x - 45) / 20, (y - 40) / 25) < 1
    return (*pair, hint.astype(np.float32)[..., None])


def by_hand(plate: np.ndarray, hint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alpha and foreground of the plain network."""
    fit = Fit.of(plate.shape, SIZE, "stretch")
    seen = torch.from_numpy(plate).permute(2, 0, 1)[None]
    plain = {"image_upsample_mode": "bilinear", "sharpen_strength": 0.0}
    seen = fit.plate(seen, linear=False, settings=plain)
    hinted = fit.hint(torch.from_numpy(hint).permute(2, 0, 1)[None])
    with torch.inference_mode():
        made = torch.cat(network_from(seeded_state())(network_input(seen, hinted)), dim=1)
        frame = fit.back(made, "lanczos4")[0].permute(1, 2, 0).numpy()
    return frame[..., :1], frame[..., 1:]


def test_plate_and_hint_go_through_the_daemon_to_the_networks_own_matte(served: Served) -> None:
    plate, clean, hint = pictures()
    client = served.daemon.client()
    made = client.matte(plate, alpha_hint=hint, colorspace="srgb", model="key", settings=SETTINGS)
    alpha, foreground = by_hand(plate, hint)
    # Measured 3e-6: the fast path against the plain one.
    assert np.abs(made.alpha - alpha).max() <= 5e-5
    assert np.abs(made.foreground - foreground).max() <= 5e-5
    assert made.digest == served.models.records()["key"].digest
    assert made.notes["model"] == {
        **made.notes["model"],
        "img_size": SIZE,
        "hint": "sent",
        "screen": "blue",
        "refiner": "full_frame",
        "precision": "float32",
    }
    unmixed = client.matte(
        plate, clean, hint, colorspace="srgb", model="key", foreground="unmix", settings=SETTINGS
    )
    assert np.array_equal(unmixed.alpha, made.alpha)
    assert np.abs(unmixed.foreground - made.foreground).max() > 0.1
    made = client.matte(plate, clean, colorspace="srgb", model="key", settings=SETTINGS)
    assert made.notes["model"]["hint"] == "difference"


def test_what_is_missing_or_wrong_is_said_in_a_sentence(served: Served) -> None:
    plate, _, hint = pictures()
    grey = np.full_like(plate, 0.5)
    client = served.daemon.client()
    with pytest.raises(InputsError, match="model 'key' needs an alpha hint of 100x72"):
        client.matte(grey, colorspace="srgb", model="key", settings=SETTINGS)
    with pytest.raises(ModelError, match="multiple of 32"):
        client.matte(
            plate, alpha_hint=hint, colorspace="srgb", model="key", settings={"img_size": 500}
        )
    shown = served.command("models", "show", "key")
    assert "trained on blue screens" in shown
    assert "img_size" in shown
    assert "good" in served.command("models", "verify", "key")


def test_the_matte_command_reads_plate_and_hint(served: Served, tmp_path: Path) -> None:
    import cv2

    plate, _, hint = pictures()
    images = {
        "plate": plate[..., ::-1],
        "hint": np.repeat(hint, 3, axis=2),
        "grey": np.full_like(plate, 0.5),
    }
    for name, image in images.items():
        assert cv2.imwrite(
            str(tmp_path / f"{name}.1001.png"), np.round(image * 255).astype(np.uint8)
        )
    served.command(
        "matte", str(tmp_path / "plate.####.png"), "--alpha-hint", str(tmp_path / "hint.####.png"),
        "--model", "key", "--set", f"img_size={SIZE}", "-o", str(tmp_path / "mattes"),
    )  # fmt: skip
    assert any((tmp_path / "mattes").rglob("*1001*"))
    said = served.command(
        "matte", str(tmp_path / "grey.####.png"), "--model", "key", "-o", str(tmp_path / "none"),
        "--set", f"img_size={SIZE}", status=3,
    )  # fmt: skip
    assert "needs an alpha hint" in said


def test_a_frame_that_is_asked_for_again_has_the_pixels_of_a_fresh_one(served: Served) -> None:
    # Mirrored: the daemon may have kept the frame of another test.
    plate, clean, hint = (np.ascontiguousarray(image[:, ::-1]) for image in pictures())
    asked = {"model": "key", "colorspace": "srgb", "settings": SETTINGS}
    check_reuse(served.daemon.client(), {"plate": plate, "alpha_hint": hint}, **asked)
    images = {"plate": plate, "clean_plate": clean, "alpha_hint": hint}
    check_reuse(served.daemon.client(), images, **asked, alignment="auto")
