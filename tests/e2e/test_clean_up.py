"""The clean-up through a real daemon: a client gets the engine's own pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess
from fakes.pictures import PLAIN, matted_here, same, shot
from mattebridge.client import MatteClient
from mattebridge.errors import InputsError

SHOT = shot(seed=8)
CLEAN_UP: dict[str, Any] = {
    "source_passthrough": True,
    "auto_despeckle": True,
    "despeckle_size": 20,
    "despeckle_hysteresis": True,
    "despill_strength": 0.7,
    "spill_method": "double_limit",
    "screen": "blue",
}


def test_a_client_gets_the_clean_up_of_the_engine(shared_daemon: DaemonProcess) -> None:
    asked = {**PLAIN, "colorspace": "srgb"}
    with MatteClient.connect(str(shared_daemon.folder)) as client:
        cleaned = client.matte(SHOT.plate, SHOT.clean_plate, **asked, **CLEAN_UP)
        plain = client.matte(SHOT.plate, SHOT.clean_plate, **asked)
    assert same(cleaned, matted_here(*SHOT, colorspace="srgb", **CLEAN_UP))
    assert same(plain, matted_here(*SHOT, colorspace="srgb"))
    assert not np.array_equal(cleaned.foreground, plain.foreground)
    assert set(cleaned.notes["clean_up"]) == {"despeckle_islands", "despeckle_removed"}
    assert "clean_up" not in plain.notes


def test_another_strength_gives_the_pixels_of_a_frame_that_is_asked_for_once(
    shared_daemon: DaemonProcess,
) -> None:
    with MatteClient.connect(str(shared_daemon.folder)) as client:
        for strength in (0.0, 0.5, 1.0, 0.5):
            matte = client.matte(
                SHOT.plate,
                SHOT.clean_plate,
                **PLAIN,
                colorspace="srgb",
                despill_strength=strength,
                screen="blue",
            )
            expected = matted_here(
                *SHOT, colorspace="srgb", despill_strength=strength, screen="blue"
            )
            assert same(matte, expected)


def test_a_client_that_sends_no_hint_to_sharpen_by_is_told(shared_daemon: DaemonProcess) -> None:
    with (
        MatteClient.connect(str(shared_daemon.folder)) as client,
        pytest.raises(InputsError, match="hint_sharpen needs an alpha hint"),
    ):
        client.matte(SHOT.plate, SHOT.clean_plate, hint_sharpen=True)
