"""Small matted shots with known pictures, as a job leaves them, for what reads them afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np

from fakes.inprocess_client import FakeMatte, InProcessClient
from fakes.jobs import matte_job
from mattebridge.image_io import write_frame
from mattebridge.shot.run import run_job
from mattebridge.shot.summary import Summary

WIDTH, HEIGHT = 64, 36
RED = (0.6, 0.02, 0.02)


class DegradedClient(InProcessClient):
    """Says of some frames that they are less than was asked for."""

    def __init__(self, degraded: dict[int, tuple[str, ...]], **options: Any) -> None:
        super().__init__(**options)
        self._degraded = degraded

    def _make(self, plate: Any, clean: Any, options: Any) -> FakeMatte:
        matte = super()._make(plate, clean, options)
        matte.degraded = self._degraded.get(options["frame"], ())
        matte.timings = {"render_ms": 10.0 + options["frame"] % 7, "total_ms": 20.0}
        return matte


def matted_shot(
    folder: Path,
    *,
    frames: int = 8,
    name: str = "plate",
    jump_at: Optional[int] = None,
    fail: Optional[dict[int, Any]] = None,
    degraded: Optional[dict[int, tuple[str, ...]]] = None,
    **options: Any,
) -> Summary:
    """A bright square before a red wall, matted over blue into folder/out, frames from 1001 on.

    jump_at: from that frame the square is much larger.
    """
    wall = np.broadcast_to(np.float32(RED), (HEIGHT, WIDTH, 3))
    write_frame(folder / "in" / "clean.exr", wall)
    for frame in range(1001, 1001 + frames):
        pixels = wall.copy()
        side = 22 if jump_at is not None and frame >= jump_at else 8
        left = 24 + 4 * (frame % 2)
        pixels[10 : 10 + side, left : left + side] = 1.0
        write_frame(folder / "in" / f"{name}.{frame}.exr", pixels)
    job = matte_job(
        plate=str(folder / "in" / f"{name}.####.exr"),
        clean_plate=str(folder / "in" / "clean.exr"),
        output=folder / "out",
        **{"background": "#0000ff", "outputs": ("alpha", "premultiplied", "comp"), **options},
    )
    return run_job(job, lambda: DegradedClient(degraded or {}, fail=fail))
