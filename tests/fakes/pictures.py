"""Small frames with known mattes: made from a seed, matted in this process by the real engine."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from mattebridge.wire.params import RenderParams

if TYPE_CHECKING:
    from mattebridge.engine.engine import Engine

Image = np.ndarray[Any, Any]

# No search for a camera move: these frames are noise, and the tests are about other things.
PLAIN = {"alignment": "off", "match_exposure": False}
CHANNELS = {"alpha": 1, "foreground": 3, "premultiplied": 4}


class Shot(NamedTuple):
    """One plate with its clean plate, (H, W, 3) float32."""

    plate: Image
    clean_plate: Image


def shot(width: int = 64, height: int = 48, seed: int = 1) -> Shot:
    """A textured set with a flat rectangle in front of it; another seed, another picture."""
    random = np.random.default_rng(seed)
    clean_plate = random.uniform(0.05, 0.6, (height, width, 3)).astype(np.float32)
    plate = clean_plate.copy()
    plate[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = random.uniform(0.7, 0.95, 3)
    return Shot(plate, clean_plate)


def matted_here(
    plate: Image, clean_plate: Optional[Image], *, colorspace: str = "linear", **changes: Any
) -> dict[str, Image]:
    """The same frame through the engine, without a daemon: what every host must get, bit by bit."""
    params = {**PLAIN, "colorspace": colorspace, **changes}
    height, width = plate.shape[:2]
    out = {
        role: np.empty((height, width, channels), np.float32) for role, channels in CHANNELS.items()
    }
    planes = {"plate": plate}
    if clean_plate is not None:
        planes["clean_plate"] = clean_plate
    _engine().matte(planes, RenderParams(**params), model="default", out=out)
    return out


@cache
def _engine() -> Engine:
    # Imported where it is used: a host of a test makes these pictures and needs no torch.
    from mattebridge.engine.engine import Engine

    return Engine("cpu")


def same(matte: Any, expected: dict[str, Image]) -> bool:
    """Whether a client's matte is bit for bit what was expected."""
    return all(np.array_equal(getattr(matte, role), image) for role, image in expected.items())
