"""How a shot ended: its records, its exit status, the sentence for the artist."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from mattebridge.errors import (
    DaemonError,
    GeometryError,
    InputsError,
    MattebridgeError,
    RequestError,
    TooLargeError,
    WorkerLostError,
)
from mattebridge.image_io.sequences import format_frames
from mattebridge.shot.progress import FrameRecord
from mattebridge.whole_files import replace_file

# Errors of a request that lie with the frame and not with the job.
_FRAME_LOCAL = (InputsError, GeometryError, TooLargeError)


@dataclass
class Summary:
    """How a job ended: a record for every frame in order, the exit status, one line for people."""

    records: list[FrameRecord] = field(default_factory=list)
    total: int = 0
    cause: Optional[BaseException] = None
    seconds: float = 0.0
    output: Path = Path()

    def count(self, status: str) -> int:
        return sum(record.status == status for record in self.records)

    @property
    def exit_status(self) -> int:
        """0 only when every frame is done or was found good; see the table in the README."""
        if self.cause is not None:
            return self.cause.exit_status if isinstance(self.cause, MattebridgeError) else 1
        good = self.count("done") + self.count("found")
        return 0 if good == self.total and self.total else 3

    @property
    def text(self) -> str:
        done, found, failed = (self.count(name) for name in ("done", "found", "failed"))
        speed = f", {done / self.seconds:.2f} frames/s" if done and self.seconds > 0 else ""
        parts = [f"{done} done{speed}"] + ([f"{found} found good"] if found else [])
        parts += [f"{failed} failed"] if failed else []
        left = self.total - done - found - failed
        parts += [f"{left} not made"] if left else []
        parts += [f"{count} {label}" for label, count in sorted(self._remarks().items())]
        return f"{self.total} frames: {', '.join(parts)} in {self.output}"

    def _remarks(self) -> Counter[str]:
        """What is less than asked for, by kind, with the number of frames."""
        labels = [label for record in self.records for label in record.degraded]
        held = [f"with {role.replace('_', ' ')} held" for r in self.records for role in r.held]
        black = [f"with {role.replace('_', ' ')} black" for r in self.records for role in r.black]
        return Counter([*labels, *held, *black])

    @property
    def first_failure(self) -> str:
        """The first cause in a sentence; empty when there is none."""
        failed = [record for record in self.records if record.status == "failed"]
        if self.cause is not None:
            return _sentence(self.cause)
        if not failed:
            return ""
        noun = "frame" if len(failed) == 1 else "frames"
        shown = format_frames([record.frame for record in failed])
        return f"{noun} {shown}: {failed[0].message}"


def stops_everything(error: MattebridgeError) -> bool:
    if isinstance(error, WorkerLostError):
        # A frame that kills its worker fails; workers that are given up stop the job.
        return not error.retry
    if isinstance(error, DaemonError):
        return True
    return isinstance(error, RequestError) and not isinstance(error, _FRAME_LOCAL)


# Several causes at once: a bug, then a cancel, then a lost daemon, then a failed write.
_GRAVITY = (1, 4, 5, 3, 2)


def gravity(cause: BaseException) -> int:
    status = cause.exit_status if isinstance(cause, MattebridgeError) else 1
    return _GRAVITY.index(status) if status in _GRAVITY else 0


def _sentence(cause: BaseException) -> str:
    if isinstance(cause, MattebridgeError):
        return cause.message
    return f"a bug: {type(cause).__name__}: {cause}"


def write_report(path: Path, records: Sequence[FrameRecord]) -> None:
    """One JSON object a line for every frame, in order."""
    lines = "".join(json.dumps(record.as_dict(), default=str) + "\n" for record in records)
    replace_file(path, lines.encode())
