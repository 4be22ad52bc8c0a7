"""Pictures for the tests of the plugin, and what the Python client makes of the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from fakes.daemon_process import DaemonProcess
from mattebridge.client import Matte


def scene(
    height: int = 24, width: int = 32, channels: int = 4, dtype: Any = np.float32, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A plate and its clean plate: smooth colours, and something else in the middle."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    clean = np.ones((height, width, channels), np.float32)
    for channel in range(3):
        clean[..., channel] = 0.4 + 0.2 * np.sin(x / 7 + channel) + 0.2 * np.cos(y / 5 - channel)
    clean[..., :3] += random.random((height, width, 3), np.float32) * 0.02
    plate = clean.copy()
    middle = np.s_[height // 4 : 3 * height // 4 + 1, width // 4 : 3 * width // 4 + 1]
    shape = plate[middle][..., :3].shape
    plate[middle][..., :3] = random.random(shape, np.float32) * 0.3 + [0.6, 0.1, 0.0]
    scale = {"uint8": 255, "uint16": 65535}.get(np.dtype(dtype).name)
    if scale:
        return tuple(np.round(p.clip(0, 1) * scale).astype(dtype) for p in (plate, clean))  # type: ignore[return-value]
    return plate.astype(dtype), clean.astype(dtype)


def matted(daemon: DaemonProcess, plate: np.ndarray, clean: Any, **options: Any) -> Matte:
    """The same frame through the Python client, with the plugin's defaults."""
    options = {"colorspace": "linear", "outputs": ["premultiplied"], **options}
    with daemon.client() as client:
        return client.matte(plate, clean, **options)
