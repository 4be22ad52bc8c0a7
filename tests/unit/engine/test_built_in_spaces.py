"""`linear` and `srgb` are not converted: only the curve of sRGB is between plate and results.

So their pixels are the ones that they were before other colour spaces could be named. What the
engine gives is held against the formulas of docs/colour.md, bit for bit: both sides take the same
curve of the same values, so that no rounding of a processor can part them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mattebridge.engine import engine as engine_module
from mattebridge.engine import in_memory
from mattebridge.engine import space as on_tensors
from mattebridge.engine.engine import Engine
from mattebridge.engine.infer import InferredFrame
from mattebridge.engine.light import unmix, unpremultiply
from mattebridge.engine.preprocess import PreparedFrame
from mattebridge.engine.space import code_of, in_rec709, light_of, of_rec709
from mattebridge.models.pytorch.curves import decoded, encoded
from mattebridge.ocio.space import LINEAR, SRGB, Spaces
from mattebridge.wire.params import RenderParams

SIZE = (45, 61)
CHANNELS = {"alpha": 1, "foreground": 3, "premultiplied": 4}
# What is done for spaces of the config alone.
CONVERSIONS = [(on_tensors, name) for name in ("_in_steps", "_by_config", "_to_light", "_to_code")]
CONVERSIONS += [(in_memory, name) for name in ("run", "show", "encode", "decode")]


class NoConfig(Spaces):
    @property
    def config(self) -> Any:
        raise AssertionError("the config was asked for")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PreparedFrame, InferredFrame]]:
    """What every model was given and gave; a conversion of a named space fails the test."""
    found: list[tuple[PreparedFrame, InferredFrame]] = []
    infer = engine_module.infer

    def noted(model: Any, prepared: PreparedFrame, **how: Any) -> InferredFrame:
        made = infer(model, prepared, **how)
        found.append((prepared, made))
        return made

    def refuse(*_args: Any, **_how: Any) -> None:
        raise AssertionError("colours were converted")

    monkeypatch.setattr(engine_module, "infer", noted)
    for module, name in CONVERSIONS:
        monkeypatch.setattr(module, name, refuse)
    return found


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(spaces=NoConfig())


def pair() -> dict[str, Any]:
    """A grey and red block before a green screen with noise, all within 0.01 to 0.95."""
    random = np.random.default_rng(11)
    clean_plate = np.float32([0.1, 0.6, 0.15]) + random.uniform(-0.05, 0.05, (*SIZE, 3))
    plate = clean_plate + random.uniform(-0.01, 0.01, (*SIZE, 3))
    plate[8:38, 20:44] = random.uniform(0.2, 0.95, (30, 24, 3)) * [1, 0.4, 0.5]
    return {"plate": np.float32(plate), "clean_plate": np.float32(clean_plate)}


def test_the_built_in_spaces_have_no_step_but_the_curve() -> None:
    pixels = torch.rand(3, 5, 3)
    for space in (LINEAR, SRGB):
        assert space.to_rec709 is None
        assert space.of_rec709 is None
        assert in_rec709(pixels, space) is pixels
        assert of_rec709(pixels, space) is pixels
    assert light_of(pixels, LINEAR) is pixels
    assert code_of(pixels, LINEAR) is pixels
    assert torch.equal(light_of(pixels, SRGB), decoded(pixels))
    assert torch.equal(code_of(pixels, SRGB), encoded(pixels))


@pytest.mark.parametrize("foreground", ["model", "unmix", "plate"])
@pytest.mark.parametrize("space", ["linear", "srgb"])
@pytest.mark.parametrize(
    "model", ["difference", "screen", pytest.param("twoplate", marks=pytest.mark.slow)]
)
def test_results_are_the_formulas_of_the_page_bit_for_bit(
    engine: Engine, seen: list[Any], model: str, space: str, foreground: str
) -> None:
    planes = pair()
    out = {role: np.empty((*SIZE, count), np.float32) for role, count in CHANNELS.items()}
    params = RenderParams(space, foreground=foreground, alignment="off")
    engine.matte(planes, params, model=model, out=out)
    ((prepared, made),) = seen
    is_encoded = space == "srgb"
    plate, clean_plate = (torch.from_numpy(planes[role]) for role in ("plate", "clean_plate"))
    # What the model saw.
    assert torch.equal(prepared.plate.display, plate if is_encoded else encoded(plate))
    # The results, as the page has them.
    alpha = torch.from_numpy(out["alpha"])
    assert 0 < float(alpha.mean()) < 1
    assert torch.equal(alpha[..., 0], made.alpha.clamp(0, 1))
    light = [decoded(each) if is_encoded else each for each in (plate, clean_plate)]
    if foreground == "model":
        colour = made.foreground if is_encoded else decoded(made.foreground)
    elif foreground == "plate":
        colour = plate
    else:
        own = unpremultiply(unmix(*light, alpha), alpha)
        colour = encoded(own) if is_encoded else own
    assert torch.equal(torch.from_numpy(out["foreground"]), colour)
    product = encoded(decoded(colour) * alpha) if is_encoded else colour * alpha
    assert torch.equal(torch.from_numpy(out["premultiplied"][..., :3]), product)
    assert np.array_equal(out["premultiplied"][..., 3:], out["alpha"])
