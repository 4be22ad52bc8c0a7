"""The errors that scripts of CorridorKey's pipeline catch by name, as parts of the one tree.

Each is of a class of `mattebridge.errors`, whose code and exit status it has, and also of the
built-in exception that is documented for its function.
"""

from __future__ import annotations

from typing import Any

from mattebridge.errors import (
    ArgumentError,
    Cancelled,
    FrameError,
    FrameReadError,
    FrameWriteError,
    InternalError,
    ModelError,
    OutOfMemoryError,
    SequenceError,
    UsageError,
)

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "CheckpointNotFoundError",
    "ClipFailedError",
    "ClipScanError",
    "DeviceError",
    "ExtractionError",
    "FrameMismatchError",
    "FrameReadError",
    "InvalidStateTransitionError",
    "JobCancelledError",
    "ModelError",
    "PictureExtractionError",
    "ReadOnlyClipError",
    "ReorganiseError",
    "ScanPermissionError",
    "VRAMInsufficientError",
    "WriteFailureError",
]

# What a cancelled run raises, and what a frame that the device cannot hold.
JobCancelledError = Cancelled
VRAMInsufficientError = OutOfMemoryError


class ClipScanError(UsageError):
    """The path does not exist or is of a type that is no clip."""


class ScanPermissionError(ClipScanError, PermissionError):
    """The folder of the clips cannot be read; a `PermissionError` too."""


class ReorganiseError(UsageError, OSError):
    """A loose video could not be moved into a folder of its own; an `OSError` too."""


class FrameMismatchError(SequenceError):
    """Plate and hint do not match frame by frame; the message names the missing frames."""


class ExtractionError(FrameReadError):
    """A video cannot be read; names the file. No frame of its clip was begun."""

    exit_status = 2


class PictureExtractionError(ExtractionError):
    """A picture inside of a video cannot be read; names it and the codec."""

    exit_status = FrameReadError.exit_status


class DeviceError(ModelError):
    """There is no such device here, or it cannot be used."""


class InvalidStateTransitionError(InternalError):
    """A program has moved a clip from one state to another that cannot follow it."""


class CheckpointNotFoundError(ModelError, FileNotFoundError):
    """The checkpoint file does not exist; a `FileNotFoundError` too."""


class CheckpointError(ModelError, RuntimeError):
    """The checkpoint cannot be loaded; a `RuntimeError` too."""


class WriteFailureError(FrameWriteError, OSError):
    """A picture could not be written, and no part of it was left; an `OSError` too."""


class ReadOnlyClipError(WriteFailureError):
    """Nothing can be written to the folder of a clip, where pictures of its videos were to go."""

    exit_status = 2


class ClipFailedError(FrameError):
    """A run ended without all of its frames; `report` has how each of them ended."""

    def __init__(self, message: str, /, report: Any = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.report = report
