"""A user with a green screen and nothing else: matte and hint, by a real daemon and command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess
from mattebridge.image_io import read_frame, write_frame
from mattebridge_sample import SampleShot, render_shot

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with DaemonProcess() as daemon:
        yield daemon.wait_ready()


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> SampleShot:
    folder = tmp_path_factory.mktemp("shot")
    return render_shot(folder, frames=1, width=480, height=270, screen="green")


def run(daemon: DaemonProcess, command: str, plate: Path, out: Path, *more: str) -> tuple[int, str]:
    line = [sys.executable, "-m", "mattebridge", command, str(plate), "-o", str(out)]
    line += ["--instance", str(daemon.folder), "--progress", "none", *more]
    done = subprocess.run(line, timeout=120, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_plate_alone_gives_a_matte_and_a_smaller_hint(
    daemon: DaemonProcess, shot: SampleShot, tmp_path: Path
) -> None:
    assert run(daemon, "matte", shot.plate, tmp_path / "matte", "--model", "screen")[0] == 0
    assert run(daemon, "hint", shot.plate, tmp_path / "hint")[0] == 0
    truth = read_frame(shot.file("alpha", 1001)).pixels.astype(np.float32)
    alpha, hint = (
        read_frame(tmp_path / name / "alpha/plate.1001.exr").pixels.astype(np.float32)
        for name in ("matte", "hint")
    )
    # Measured: 0.019. An empty matte has 0.2; the scarf is most of it.
    assert np.abs(alpha - truth).mean() < 0.03
    assert hint.mean() < 0.98 * alpha.mean()
    assert sorted(path.name for path in (tmp_path / "hint").iterdir() if path.is_dir()) == ["alpha"]


def test_a_plate_without_a_screen_is_refused_in_one_sentence(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    grey = np.random.default_rng(1).random((64, 96, 3), np.float32)
    write_frame(tmp_path / "grey.exr", grey)
    status, said = run(daemon, "hint", tmp_path / "grey.exr", tmp_path / "hint")
    assert status != 0
    assert "no green or blue screen was found in this plate" in said
    assert not list((tmp_path / "hint").glob("alpha/*.exr"))
