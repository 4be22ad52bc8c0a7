"""The frames that both systems matte, and what must come out: every byte of every output."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

HEIGHT, WIDTH = 131, 257


def frame(number: int) -> tuple[Any, Any]:
    """Plate and clean plate, (h, w, 3) float32 scene-linear, with values above 1; no two alike."""
    places = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint32).reshape(HEIGHT, WIDTH, 3)
    noise = (places * np.uint32(2654435761) + np.uint32(number * 97)) >> np.uint32(12)
    clean_plate = noise.astype(np.float32) / np.float32(1 << 19)
    plate = clean_plate.copy()
    plate[20:90, 40:200] *= np.float32(1.0625)
    return plate, clean_plate


def expected(number: int) -> str:
    """The digest of alpha, foreground and premultiplied, by the engine of `without_torch`."""
    path = Path(__file__).parent / "without_torch" / "engine.py"
    spec = importlib.util.spec_from_file_location("engine_without_torch", path)
    assert spec is not None
    assert spec.loader is not None
    engine = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = engine  # its dataclasses look for it there
    spec.loader.exec_module(engine)
    plate, clean_plate = frame(number)
    outputs = {
        role: np.empty((HEIGHT, WIDTH, channels), np.float32)
        for role, channels in (("alpha", 1), ("foreground", 3), ("premultiplied", 4))
    }
    engine.matte({"plate": plate, "clean_plate": clean_plate}, outputs)
    return hashlib.sha256(b"".join(plane.tobytes() for plane in outputs.values())).hexdigest()
