"""A frame's files are the same whatever was matted before: chunks of a farm, resumed jobs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess
from mattebridge.client import MatteClient
from mattebridge.image_io import write_frame
from mattebridge.shot.job import MatteJob
from mattebridge.shot.run import run_job

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 320, 208
FRAMES = range(1, 7)


def wall() -> np.ndarray:
    """A scene-linear set with corners everywhere."""
    rng = np.random.default_rng(8)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for _ in range(300):
        centre = tuple(int(v) for v in rng.uniform(0, 1, 2) * (WIDTH, HEIGHT))
        axes = tuple(int(v) for v in rng.uniform(4, 20, 2))
        colour = rng.uniform(25, 205, 3).tolist()
        cv2.ellipse(picture, centre, axes, rng.uniform(0, 360), 0, 360, colour, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(picture.astype(np.float32) / 255, (0, 0), 0.8) ** 2.2 + 0.02


def steady(frame: int, picture: np.ndarray) -> np.ndarray:
    """A camera that was touched between clean plate and shot."""
    return moved(picture, 0.8, 0.4)


def hand_held(frame: int, picture: np.ndarray) -> np.ndarray:
    return moved(picture, 0.25 * frame, -0.6 * np.sin(frame))


def brightening(frame: int, picture: np.ndarray) -> np.ndarray:
    return picture * np.float32(1 + 0.004 * frame)


def moved(picture: np.ndarray, right: float, down: float) -> np.ndarray:
    matrix = np.float32([[1, 0.0004, right], [-0.0004, 1, down]])
    size = picture.shape[1], picture.shape[0]
    return cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE)


def render(folder: Path, drift) -> None:
    clean = wall()
    write_frame(folder / "clean.exr", clean)
    for frame in FRAMES:
        plate = drift(frame, clean)
        left = 60 + 14 * frame
        plate[70:, left : left + 70] = (0.8, 0.06, 0.1)
        grain = np.random.default_rng(frame).normal(0, 0.004, plate.shape)
        write_frame(folder / f"plate.{frame:04d}.exr", np.float32(plate + grain))


def matte(folder: Path, out: str, daemon: DaemonProcess, frames: str) -> None:
    job = MatteJob(
        plate=str(folder / "plate.####.exr"),
        clean_plate=str(folder / "clean.exr"),
        output=folder / out,
        frames=frames,
        formats="exr-float",
    )
    summary = run_job(job, lambda: MatteClient.connect(daemon.folder))
    assert summary.exit_status == 0


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*.exr")
        if int(path.name.split(".")[1]) >= 4
    }


@pytest.mark.parametrize("drift", [steady, hand_held, brightening])
def test_a_chunk_of_a_shot_gives_the_files_of_the_whole_shot(drift, tmp_path, shared_daemon):
    render(tmp_path, drift)
    matte(tmp_path, "whole", shared_daemon, "1-6")
    matte(tmp_path, "chunk", shared_daemon, "4-6")
    whole, chunk = files(tmp_path / "whole"), files(tmp_path / "chunk")
    assert len(chunk) == 9
    assert whole == chunk
