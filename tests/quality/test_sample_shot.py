"""What README says of both shipped models on the sample shot, guarded on its first frames.

The bounds leave room for another processor's rounding, not for another algorithm. They are on
frames 1001 and 1002 of the shot at full size: rendering all of it belongs to `mattebridge demo`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest

from mattebridge.color import srgb_encode
from mattebridge.engine.engine import Engine
from mattebridge.evaluate import metrics
from mattebridge.evaluate.judge import change_where_still
from mattebridge.wire.params import RenderParams
from mattebridge_sample import SampleFrame, render_frames

# Drawing frames at full size takes seconds for each; the default run has one small frame
# (e2e/test_default_model.py).
pytestmark = pytest.mark.slow

MODELS = ("twoplate", "difference")
# Mean absolute error e-3 over the frame and inside the unknown region, frames 1001 and 1002.
LARGEST_MAD, LARGEST_BAND = 40.0, 270.0
# Of alpha from frame to frame, e-3, where the true one stands still: the goal is 2.
LARGEST_CHANGE = 2.0


@pytest.fixture(scope="module")
def frames() -> list[SampleFrame]:
    """The beginning of the shot."""
    return list(render_frames(frames=2))


@pytest.fixture(scope="module")
def mattes_of(frames: list[SampleFrame]) -> Callable[[str], list[np.ndarray]]:
    """The mattes of a model, one for each frame, computed once."""

    @functools.cache
    def mattes(model: str) -> list[np.ndarray]:
        engine = Engine("cpu")
        return [_matte(frame, model, engine)["alpha"] for frame in frames]

    return mattes


def _matte(
    frame: SampleFrame, model: str, engine: Engine, **params: object
) -> dict[str, np.ndarray]:
    height, width = frame.plate.shape[:2]
    out = {
        "alpha": np.empty((height, width, 1), np.float32),
        "foreground": np.empty((height, width, 3), np.float32),
        "premultiplied": np.empty((height, width, 4), np.float32),
    }
    engine.matte(
        {"plate": frame.plate, "clean_plate": frame.clean_plate},
        RenderParams(**{"colorspace": "linear", **params}),
        model=model,
        out=out,
    )
    return out


@pytest.mark.parametrize("model", MODELS)
def test_the_matte_is_as_good_as_readme_says(
    frames: list[SampleFrame], mattes_of: Callable[[str], list[np.ndarray]], model: str
) -> None:
    pairs = list(zip(mattes_of(model), [frame.alpha for frame in frames]))
    assert np.mean([metrics.mad(*pair) for pair in pairs]) < LARGEST_MAD
    assert np.mean([metrics.band_error(*pair) for pair in pairs]) < LARGEST_BAND


@pytest.mark.parametrize("model", MODELS)
def test_the_matte_hardly_changes_where_nothing_moves(
    frames: list[SampleFrame], mattes_of: Callable[[str], list[np.ndarray]], model: str
) -> None:
    mattes = mattes_of(model)
    changes = [
        change_where_still(mattes[n], mattes[n - 1], frames[n].alpha, frames[n - 1].alpha)
        for n in range(1, len(frames))
    ]
    assert np.mean(changes) < LARGEST_CHANGE


@pytest.mark.parametrize("model", MODELS)
def test_it_beats_a_plain_difference_key_by_far(
    frames: list[SampleFrame], mattes_of: Callable[[str], list[np.ndarray]], model: str
) -> None:
    for frame, matte in zip(frames, mattes_of(model)):
        plain = metrics.difference_key(srgb_encode(frame.plate), srgb_encode(frame.clean_plate))
        ours = metrics.mad(matte, frame.alpha)
        assert ours < 0.7 * metrics.mad(plain, frame.alpha)


@pytest.mark.parametrize("model", MODELS)
def test_unmixed_light_over_the_clean_plate_is_the_plate(
    frames: list[SampleFrame], model: str
) -> None:
    frame = frames[0]
    matte = _matte(
        frame, model, Engine("cpu"), foreground="unmix", alignment="off", match_exposure=False
    )
    alpha = matte["alpha"]
    comp = matte["premultiplied"][..., :3] + (1 - alpha) * frame.clean_plate
    unmixed = alpha[..., 0] >= 1 / 1024
    assert np.abs(comp - frame.plate)[unmixed].max() < 1e-4 * frame.plate.max()
