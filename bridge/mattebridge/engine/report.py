"""What the engine reports of a frame; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RenderReport:
    """What the reply reports about a frame: what was not reached, what was found, and the time."""

    model: str
    digest: str
    degraded: tuple[str, ...]
    notes: Mapping[str, Any]
    timings_ms: Mapping[str, float]
