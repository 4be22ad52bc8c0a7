"""The time of a frame by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Milliseconds by stage; a stage that is entered again adds up."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent = (time.perf_counter() - start) * 1e3
        self.timings_ms[stage] = round(self.timings_ms.get(stage, 0.0) + spent, 3)

    def move(self, seconds: float, source: str, target: str) -> None:
        """Count a part of one stage as a stage of its own."""
        self.timings_ms[target] = round(seconds * 1e3, 3)
        self.timings_ms[source] = round(self.timings_ms[source] - self.timings_ms[target], 3)

    def set(self, stage: str, seconds: float, waited_in: str) -> None:
        """The time of a stage as a device has measured it. What it is more than was counted is
        taken from the stage in which the device was waited for, as far as it was."""
        more_ms = seconds * 1e3 - self.timings_ms.get(stage, 0.0)
        waited_ms = self.timings_ms.get(waited_in, 0.0)
        self.timings_ms[stage] = round(seconds * 1e3, 3)
        self.timings_ms[waited_in] = round(waited_ms - min(max(more_ms, 0.0), waited_ms), 3)
