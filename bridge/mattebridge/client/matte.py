"""One finished frame, as the client returns it.

Runs on Python 3.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from mattebridge.color import Pixels


@dataclass(frozen=True)
class Matte:
    """One finished frame. Arrays belong to the caller; those not asked for are None.

    alpha: (H, W, 1), coverage 0..1. foreground: (H, W, 3), straight colour. premultiplied:
    (H, W, 4), foreground * alpha and alpha. error, refinement: (H, W, 1), where a model gives
    them. Top row first; float32 unless asked otherwise; colours in the plate's colour space
    unless `output_colorspace` asked for another. `clean_plate_digest` is that of the held clean
    plate, where the frame named one (as in `held_clean_plates`). `device` computed it. `degraded`
    lists what is less than was asked for, `notes` what the engine did (alignment, exposure,
    non-finite counts), `timings` milliseconds.
    """

    alpha: Optional[Pixels] = None
    foreground: Optional[Pixels] = None
    premultiplied: Optional[Pixels] = None
    error: Optional[Pixels] = None
    refinement: Optional[Pixels] = None
    frame: Optional[int] = None
    model: str = ""
    digest: str = ""
    clean_plate_digest: str = ""
    device: str = ""
    degraded: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
