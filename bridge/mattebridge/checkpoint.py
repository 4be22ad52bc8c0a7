"""The hook that lets a long computation stop: called between its steps, it raises to end it."""

from __future__ import annotations

from typing import Protocol


class Checkpoint(Protocol):
    """Called at stage boundaries: reports progress, raises `errors.Cancelled` to stop the frame."""

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None: ...


def no_checkpoint(stage: str, done: int = 0, total: int = 0) -> None:
    """The checkpoint of a caller that neither wants progress nor can cancel."""
