"""An engine without torch, for workers of which a test wants the life and not the matte.

It takes the place of `mattebridge.engine.engine` and of `mattebridge.engine.registered_memory` in
the processes of `light_python`: front, link, worker, arenas and hooks are the real ones. It checks
a request as the real one does, passes the stages in their order, and each of its pixels comes from
the pixels of the same place, so that a wrong, late or mixed up frame is seen.

With `MATTEBRIDGE_LIGHT_IN_FLIGHT=3` its worker takes so many frames at a time, as that of a GPU:
their planes are read ahead, and results are in the arena some time after they were computed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.engine.report import RenderReport
from mattebridge.engine.request import FrameLimits, FrameRequest, check_request
from mattebridge.models.registry import Registry
from mattebridge.ocio.space import Spaces
from mattebridge.wire.params import RenderParams

# How different plate and clean plate are where alpha is one.
FULL_DIFFERENCE = 0.25
IN_FLIGHT = "MATTEBRIDGE_LIGHT_IN_FLIGHT"
# How long results are on their way where frames overlap.
COPY_OUT_S = 0.02


class SentPlanes(dict[str, Any]):
    """Copies of a frame's planes, by role."""

    def drop(self) -> None:
        """They are not used."""
        self.clear()


class StartedFrame:
    """A frame whose results are written when it is finished."""

    def __init__(
        self, report: RenderReport, made: Mapping[str, Any], out: Mapping[str, Any]
    ) -> None:
        self._report, self._made, self._out = report, made, out
        self.over_at = time.monotonic()

    def is_over(self) -> bool:
        return time.monotonic() >= self.over_at

    def finished(self) -> RenderReport:
        time.sleep(max(0.0, self.over_at - time.monotonic()))
        for role, image in self._out.items():
            image[...] = self._made[role]
        return self._report


class Engine:
    """`matte` and what else a worker calls."""

    def __init__(
        self,
        device: str = "cpu",
        *,
        limits: Optional[FrameLimits] = None,
        model_budget_bytes: Optional[int] = None,
        frame_budget_bytes: int = 0,
        spaces: Optional[Spaces] = None,
    ) -> None:
        self.device = device
        self.registry = Registry()
        self.spaces = spaces or Spaces()
        self.limits = limits or FrameLimits()
        self.frames_in_flight = int(os.environ.get(IN_FLIGHT, "1"))
        self._loaded: set[str] = set()

    def matte(self, planes: Mapping[str, Any], params: RenderParams, **how: Any) -> RenderReport:
        """As `start`, to the end."""
        return self.start(planes, params, **how).finished()

    def send_ahead(
        self, planes: Mapping[str, Any], _params: RenderParams, **_how: Any
    ) -> Optional[SentPlanes]:
        """Copies of the planes, where frames overlap."""
        if self.frames_in_flight == 1:
            return None
        copies = {role: plane.copy() for role, plane in planes.items() if role != "clean_plate"}
        return SentPlanes(copies)

    def start(
        self,
        planes: Mapping[str, Any],
        params: RenderParams,
        *,
        model: str,
        out: Mapping[str, Any],
        frame: Optional[int] = None,
        clean_plate_key: Optional[str] = None,
        held_clean_plate: bool = False,
        keep: bool = False,
        checkpoint: Optional[Checkpoint] = None,
        sent: Optional[Mapping[str, Any]] = None,
    ) -> StartedFrame:
        """Planes in, alpha, foreground and premultiplied out; no colour space is converted, and no
        frame is kept."""
        checkpoint = checkpoint or no_checkpoint
        card = self.registry.card(model)
        settings = card.settings_schema.validate(params.settings, model=card.name)
        check_request(planes, out, card, params, self.limits, held=held_clean_plate)
        request = FrameRequest(card, params, settings, frame, clean_plate_key, self.spaces)
        _ = request.space, request.output_space
        planes = {**planes, **(sent or {})}
        plate, clean_plate = _floats(planes["plate"]), _floats(planes["clean_plate"])
        checkpoint("inputs")
        self._loaded.add(card.name)
        checkpoint("model")
        started = time.monotonic()
        difference = np.abs(plate - clean_plate).max(axis=-1, keepdims=True)
        alpha = np.clip(difference / np.float32(FULL_DIFFERENCE), 0, 1)
        model_ms = (time.monotonic() - started) * 1000
        checkpoint("finish")
        made = {
            "alpha": alpha,
            "foreground": plate,
            "premultiplied": np.concatenate([plate * alpha, alpha], axis=-1),
        }
        report = RenderReport(card.name, card.digest, (), {}, {"model": model_ms})
        started = StartedFrame(report, made, out)
        if self.frames_in_flight > 1:
            started.over_at += COPY_OUT_S
        return started

    def load_model(self, name: str) -> None:
        """Remember a model as loaded; raises `ModelError` for no such model."""
        self._loaded.add(self.registry.card(name).name)

    def unload_model(self, name: str) -> None:
        """Forget a model; raises `ModelError` for no such model."""
        self._loaded.discard(self.registry.card(name).name)

    def loaded_models(self) -> list[dict[str, Any]]:
        """The names of those that were used or loaded."""
        return [{"name": name} for name in sorted(self._loaded)]

    def memory(self) -> dict[str, Any]:
        """Nothing is kept."""
        return {"models": dict.fromkeys(sorted(self._loaded), 0), "caches": {"clean_plates": 0}}


def _floats(plane: Any) -> Any:
    """A copy of the colours, integers as 0..1."""
    scale = np.iinfo(plane.dtype).max if plane.dtype.kind == "u" else 1
    return np.array(plane[..., :3], np.float32) / np.float32(scale)


def memory_of_one_frame(_engines: int = 1) -> Optional[int]:
    """No limit but that of the request."""
    return None


class RegisteredMemory:
    """As the real one off CUDA: none."""

    def __init__(self, _device: str) -> None: ...

    def add(self, _address: int, _size_bytes: int) -> bool:
        return False

    def remove(self, _address: int) -> None: ...

    def figures(self) -> dict[str, Any]:
        return {}
