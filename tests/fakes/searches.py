"""What the alignment looks for, and in which thread: the real search, which a test can hold."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mattebridge.clean_plate import on_device

LONG_S = 60
# The name of the thread that searches ahead begins so.
THREAD = "alignment"


class Held:
    """A search that waits for `gate`, then asks whether it goes on; `over` once it does or not."""

    def __init__(self) -> None:
        self.gate, self.over = threading.Event(), threading.Event()

    def __call__(self, checkpoint: Any) -> None:
        try:
            assert self.gate.wait(LONG_S)
            checkpoint("refine")
        finally:
            self.over.set()


class Searched:
    """Each search for a frame on a GPU.

    seen: whether it was ahead of the frame's turn, and what was looked at. before: called first in
    a search ahead, with its checkpoint. begun: one ahead has. ended: the errors that ended those.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[bool, Any]] = []
        self.begun = threading.Event()
        self.ended: list[str] = []
        self.before: Any = lambda checkpoint: None
        self._real = on_device.found_for
        monkeypatch.setattr(on_device, "found_for", self)

    def __call__(self, seen: Any, *args: Any, checkpoint: Any, **how: Any) -> Any:
        is_ahead = threading.current_thread().name.startswith(THREAD)
        self.seen.append((is_ahead, seen))
        if is_ahead:
            self.begun.set()
            try:
                self.before(checkpoint)
            except Exception as error:
                self.ended.append(type(error).__name__)
                raise
        return self._real(seen, *args, checkpoint=checkpoint, **how)

    def hold(self) -> Held:
        """Have searches ahead wait, until they are told to go on."""
        held = Held()
        self.before = held
        return held

    @property
    def threads(self) -> list[bool]:
        return [is_ahead for is_ahead, _ in self.seen]
