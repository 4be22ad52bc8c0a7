"""Frames of every model, made with one thread and with several: how far their planes differ.

A program of its own, because torch's threads wait for each other in a busy loop unless the
environment says otherwise before torch is loaded (`OMP_WAIT_POLICY`): on busy processors that takes
longer than the frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Optional

import cv2
import numpy as np
import torch

from fakes.generated_model import background_matting
from fakes.grainy_pair import given
from fakes.seeded_keyer import seeded_state
from mattebridge.engine.engine import Engine
from mattebridge.models.base import MattingModel
from mattebridge.models.entry import Entry
from mattebridge.models.greenformer.card import card_of
from mattebridge.models.greenformer.model import GreenformerModel
from mattebridge.models.registry import Registry
from mattebridge.models.weights.file import WeightsRecord
from mattebridge.wire.params import RenderParams

# Large enough for torch to deal each step out to several threads.
HEIGHT, WIDTH = 360, 640
COUNTS = (1, 2)
CHANNELS = {"alpha": 1, "foreground": 3, "premultiplied": 4}

Planes = Mapping[str, np.ndarray]


def hint_keyer() -> MattingModel:
    settings = {"img_size": 256, "refiner": "present", "screen": "green"}
    card = card_of(WeightsRecord("key", "", "sha256:0", "greenformer", settings))
    return GreenformerModel(card, seeded_state, "green")


def engine_with(make: Callable[[], MattingModel]) -> Engine:
    card = make().card
    entry = Entry(card, lambda _card: make())
    return Engine("cpu", registry=Registry(lambda: {card.name: entry}, aliases={}))


def shot() -> dict[str, np.ndarray]:
    pair = given(HEIGHT, WIDTH)
    assert pair.clean_plate is not None
    return {"plate": pair.plate, "clean_plate": pair.clean_plate}


def figure() -> np.ndarray:
    """(H, W, 1): a soft ellipse."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    away = np.hypot((x - 0.45 * WIDTH) / (0.2 * WIDTH), (y - 0.6 * HEIGHT) / (0.4 * HEIGHT))
    return np.clip((1.15 - away) / 0.3, 0, 1)[..., None]


def screen_shot() -> dict[str, np.ndarray]:
    pictures, alpha = shot(), figure()
    screen = np.float32([0.1, 0.5, 0.15]) + pictures["clean_plate"] / 40
    return {"plate": alpha * pictures["plate"] + (1 - alpha) * screen}


def with_hint() -> dict[str, np.ndarray]:
    return {**screen_shot(), "alpha_hint": (figure() > 0.5).astype(np.float32)}


def matted(engine: Engine, model: str, sent: Planes, **params: Any) -> dict[str, np.ndarray]:
    out = {role: np.empty((HEIGHT, WIDTH, count), np.float32) for role, count in CHANNELS.items()}
    engine.matte(sent, RenderParams(**{"colorspace": "linear", **params}), model=model, out=out)
    return out


def difference(
    make: Optional[Callable[[], MattingModel]], model: str, sent: Planes, **params: Any
) -> float:
    """The largest difference in any plane of a frame between the counts of threads."""
    found = []
    for count in COUNTS:
        torch.set_num_threads(count)
        cv2.setNumThreads(count)
        engine = Engine("cpu") if make is None else engine_with(make)
        found.append(matted(engine, model, sent, **params))
    assert np.ptp(found[0]["alpha"]) > 0.05, model
    first, *others = found
    return max(float(np.abs(o[role] - first[role]).max()) for o in others for role in CHANNELS)


def main() -> None:
    """Print the difference of each model."""
    clean_up = {"hint_sharpen": True, "source_passthrough": True}
    found = {
        "background_matting": difference(background_matting, "bgm", shot()),
        "difference": difference(None, "difference", shot(), colorspace="srgb"),
        "twoplate": difference(None, "twoplate", shot()),
        "screen": difference(None, "screen", screen_shot()),
        "greenformer": difference(hint_keyer, "key", with_hint(), **clean_up),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
