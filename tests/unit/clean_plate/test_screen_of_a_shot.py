"""The empty screen of a shot: from all frames that show it, continued under who never leaves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mattebridge.clean_plate.estimate import CleanPlate, make_clean_plate
from mattebridge.clean_plate.screen import NotScreen, continued_screen
from mattebridge.color import srgb_decode, srgb_encode
from mattebridge.errors import ModelError

HEIGHT, WIDTH, FRAMES = 120, 200, 9
GREEN = (0.16, 0.62, 0.27)


def wall() -> np.ndarray:
    """A green screen, lit from one side, with a seam; display-encoded."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    light = 0.7 + 0.4 * np.exp(-(np.square(x / WIDTH - 0.35) + np.square(y / HEIGHT - 0.4)) / 0.2)
    light[:, 40:42] *= 0.9
    return np.asarray(light[..., None] * np.float32(GREEN), np.float32)


def subject(index: int) -> np.ndarray:
    """Somebody who sways, and never leaves the middle: coverage (H, W)."""
    x = WIDTH // 2 + round(12 * np.sin(index))
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.ellipse(mask, (x, HEIGHT), (34, 80), 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(mask, (0, 0), 1.0)


def frame(index: int) -> np.ndarray:
    """(H, W, 3) scene-linear, with grain."""
    alpha = subject(index)[..., None]
    seen = alpha * np.float32([0.6, 0.4, 0.3]) + (1 - alpha) * wall()
    grain = np.random.default_rng(index).normal(0, 0.006, seen.shape)
    return srgb_decode(np.maximum(seen + grain, 0).astype(np.float32))


def made(read=frame, wanted: str = "auto") -> CleanPlate:
    outside = NotScreen(read, wanted)
    plate = make_clean_plate(read, FRAMES, subject=outside, align=False)
    outside.refuse_none()
    return plate


def test_the_screen_is_whole_under_who_never_leaves() -> None:
    plate = made()
    never = np.min([subject(index) for index in range(FRAMES)], axis=0) > 0.5
    assert plate.hidden[never].all()
    screen = continued_screen(plate)
    off = np.abs(srgb_encode(screen.pixels) - wall())
    # Measured: 0.005 where it was seen, 0.05 at most under the subject, where the light is highest.
    assert off[~plate.hidden].mean() < 0.01
    assert off[never].max() < 0.1
    assert np.array_equal(screen.confidence, plate.confidence)


def test_what_was_seen_stays_as_it_was_seen() -> None:
    plate = made()
    screen = continued_screen(plate)
    away = cv2.erode((~plate.hidden).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    assert away.mean() > 0.3
    assert np.abs(screen.pixels - plate.pixels)[away].max() < 1e-5
    seam = srgb_encode(screen.pixels[20:60])
    assert seam[:, 40:42, 1].mean() < 0.95 * seam[:, 36:38, 1].mean()


def test_frames_without_the_screen_are_left_out() -> None:
    def dark_first(index: int) -> np.ndarray:
        return np.full((HEIGHT, WIDTH, 3), 0.01, np.float32) if index < 4 else frame(index)

    screen = continued_screen(made(dark_first))
    assert np.abs(srgb_encode(screen.pixels) - wall()).mean() < 0.02


def test_a_shot_without_a_screen_is_refused() -> None:
    def grey(_: int) -> np.ndarray:
        return np.full((HEIGHT, WIDTH, 3), 0.2, np.float32)

    with pytest.raises(ModelError, match="no green or blue screen"):
        made(grey)
    with pytest.raises(ModelError, match="no blue screen"):
        made(wanted="blue")
