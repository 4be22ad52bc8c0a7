"""Stands in for `mattebridge.engine.engine`: alpha, foreground and premultiplied by numpy alone.

The same function runs in the worker and in the test, there in another process, so that every byte
of every output can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.engine.report import RenderReport

MODEL = "difference"


def matte(planes: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """The greatest difference of plate and clean plate as alpha, and what follows from it."""
    plate = planes["plate"][..., :3].astype(np.float32)
    difference = np.abs(plate - planes["clean_plate"][..., :3].astype(np.float32))
    alpha = np.minimum(difference.max(axis=2, keepdims=True) * np.float32(4), np.float32(1))
    foreground = plate * np.float32(0.5)
    made = {
        "alpha": alpha,
        "foreground": foreground,
        "premultiplied": np.concatenate([foreground * alpha, alpha], axis=2),
    }
    for role, plane in outputs.items():
        plane[...] = made[role].astype(plane.dtype)


class Registry:
    def describe(self) -> list[dict[str, Any]]:
        return [{"name": MODEL, "settings": {}}]


class StartedFrame:
    def __init__(self, report: RenderReport) -> None:
        self._report = report

    def is_over(self) -> bool:
        return True

    def finished(self) -> RenderReport:
        return self._report


class Engine:
    registry = Registry()
    frames_in_flight = 1

    def __init__(self, device: str, **_given: Any) -> None:
        self.device = device
        self.spaces = _given["spaces"]

    def matte(self, planes: Mapping[str, Any], params: Any, **given: Any) -> RenderReport:
        return self.start(planes, params, **given).finished()

    def send_ahead(self, _planes: Mapping[str, Any], _params: Any, **_how: Any) -> None:
        return None

    def start(
        self,
        planes: Mapping[str, Any],
        params: Any,
        *,
        out: Mapping[str, Any],
        checkpoint: Checkpoint = no_checkpoint,
        **_given: Any,
    ) -> StartedFrame:
        started = time.perf_counter()
        for stage in ("inputs", "model", "finish"):
            checkpoint(stage)
            if stage == "model":
                matte(planes, out)
        timings_ms = {"infer": (time.perf_counter() - started) * 1000}
        return StartedFrame(RenderReport(MODEL, "", (), {}, timings_ms))

    def loaded_models(self) -> list[dict[str, Any]]:
        return [{"name": MODEL}]

    def load_model(self, name: str) -> None:
        pass

    def unload_model(self, name: str) -> None:
        pass

    def memory(self) -> dict[str, Any]:
        return {}


def memory_of_one_frame(workers: int) -> int:
    return 1 << 30
