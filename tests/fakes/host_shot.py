"""A small shot on disk for host tests: plate, clean plate and hint, that a keyer can key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from fakes.nuke_host import Picture, save


@dataclass(frozen=True)
class HostShot:
    """Patterns with %04d (and %V where there are views)."""

    plate: str
    clean_plate: str
    hint: str
    width: int
    height: int


def make_shot(
    folder: Path,
    frames: Any = (1, 2),
    *,
    width: int = 61,
    height: int = 37,
    views: tuple[str, ...] = ("main",),
    aspect: float = 1.0,
    plate_window: Optional[tuple[int, int, int, int]] = None,
    hint_layer: str = "rgba.alpha",
) -> HostShot:
    """Write the shot; `plate_window` gives the plate another data window than the format."""
    shot = HostShot(
        f"{folder}/plate.%V.%04d.exr", f"{folder}/clean.exr", f"{folder}/hint.%04d.exr",
        width, height,
    )  # fmt: skip
    window = (0, 0, width, height)
    save(Path(shot.clean_plate), Picture(_rgb(_set(*window)), window, width, height, aspect))
    for frame in frames:
        for number, view in enumerate(views):
            colours, matte = _subject(plate_window or window, frame + 3 * number)
            save(
                folder / f"plate.{view}.{frame:04d}.exr",
                Picture(_rgb(colours), plate_window or window, width, height, aspect),
            )
        red = np.ones((height, width), np.float32)
        _, matte = _subject(window, frame)
        hint = {"rgba.red": red, "rgba.green": red * 0, "rgba.blue": red * 0, hint_layer: matte}
        save(folder / f"hint.{frame:04d}.exr", Picture(hint, window, width, height, aspect))
    return shot


def _set(x: int, y: int, width: int, height: int) -> Any:
    rows, columns = np.mgrid[y : y + height, x : x + width].astype(np.float32)
    waves = [0.2 + 0.1 * np.sin(columns / (3 + i)) + 0.1 * np.cos(rows / (4 + i)) for i in range(3)]
    return np.stack(waves, axis=-1).astype(np.float32)


def _subject(window: tuple[int, int, int, int], frame: int) -> tuple[Any, Any]:
    x, y, width, height = window
    rows, columns = np.mgrid[y : y + height, x : x + width].astype(np.float32)
    centre = 22 + 2 * (frame % 9)
    distance = np.hypot(columns - centre, rows - 18)
    matte = np.clip((11 - distance) / 3, 0, 1).astype(np.float32)[..., None]
    person = np.array([0.9, 0.35, 0.1], np.float32)
    return matte * person + (1 - matte) * _set(*window), matte[..., 0]


def _rgb(pixels: Any) -> dict[str, Any]:
    return {f"rgba.{name}": pixels[..., i] for i, name in enumerate(("red", "green", "blue"))}
