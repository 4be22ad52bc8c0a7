"""What a user gets who names no model: the shipped network, through a real daemon and command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess
from mattebridge.client import MatteClient
from mattebridge.evaluate import metrics
from mattebridge.image_io import read_frame
from mattebridge.models.registry import DEFAULT_MODEL, Registry
from mattebridge_sample import SampleShot, render_shot

pytestmark = pytest.mark.slow

SIZE = {"width": 320, "height": 180}


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    """A daemon without the word of this suite's environment on its default."""
    with DaemonProcess(MATTEBRIDGE_DEFAULT_MODEL="") as daemon:
        yield daemon.wait_ready()


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> SampleShot:
    return render_shot(tmp_path_factory.mktemp("shot"), frames=2, **SIZE)


def test_a_request_that_names_no_model_gets_the_shipped_network(
    daemon: DaemonProcess, shot: SampleShot
) -> None:
    roles = ("plate", "clean_plate", "alpha")
    plate, clean_plate, truth = (read_frame(shot.file(role, 1001)).pixels for role in roles)
    with MatteClient.connect(str(daemon.folder)) as client:
        matte = client.matte(plate, clean_plate, colorspace="linear")
        keyed = client.matte(plate, clean_plate, colorspace="linear", model="difference")
    assert matte.model == DEFAULT_MODEL == "twoplate"
    assert matte.digest == Registry().card(DEFAULT_MODEL).digest
    assert not np.array_equal(matte.alpha, keyed.alpha)
    errors = [metrics.mad(made.alpha, truth.astype(np.float32)) for made in (matte, keyed)]
    assert errors[0] < 60
    assert errors[0] < 1.1 * errors[1]


def test_the_command_notes_whose_matte_it_is(
    daemon: DaemonProcess, shot: SampleShot, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mattebridge", "matte"]
    command += [str(shot.plate), "--clean-plate", str(shot.clean_plate)]
    command += ["-o", str(tmp_path / "out"), "--instance", str(daemon.folder)]
    command += ["--progress", "none"]
    subprocess.run(command, check=True, timeout=120)
    text = (tmp_path / "out/plate.mattebridge.jsonl").read_text(encoding="utf-8")
    assert Registry().card(DEFAULT_MODEL).digest in text
    for number in (1001, 1002):
        alpha = read_frame(tmp_path / f"out/alpha/plate.{number}.exr").pixels
        assert alpha.shape == (180, 320, 1)
        assert 0.02 < alpha.mean() < 0.9
