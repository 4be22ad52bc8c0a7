"""How a shot ended: its records, its exit status, the sentence for the artist.

What stops a job gives it the exit status of its error: 2 the job is wrong, 3 a file was not
written, 4 it was cancelled, 5 the daemon is lost, 1 a bug. A job that was not stopped ends with 0,
or with 3 when some frames failed.
"""

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
from mattebridge.image_io.frame_ranges import format_frames
from mattebridge.shot.progress import FrameRecord
from mattebridge.whole_files import replace_file
from mattebridge.wire.labels import sentence_of
from mattebridge.wire.params import role_in_words

# Errors of a request that are the frame's and not the job's.
_FRAME_LOCAL = (InputsError, GeometryError, TooLargeError)


@dataclass
class Summary:
    """How a job ended: a record for every frame in order, and what stopped the job, if anything.

    cause: what stopped it. output: the folder of the results.
    """

    records: list[FrameRecord] = field(default_factory=list)
    total: int = 0
    cause: Optional[BaseException] = None
    seconds: float = 0.0
    output: Path = Path()

    def count(self, status: str) -> int:
        return sum(record.status == status for record in self.records)

    @property
    def exit_status(self) -> int:
        """0 only when every frame is done or was found good; docs/farm.md has the table."""
        if self.cause is not None:
            return self.cause.exit_status if isinstance(self.cause, MattebridgeError) else 1
        good = self.count("done") + self.count("found")
        return 0 if good == self.total and self.total else 3

    @property
    def text(self) -> str:
        """One line for people: `10 frames: 9 done, 1.20 frames/s, 1 failed in out`.

        Behind it what of the frames is less than was asked for, a sentence each.
        """
        done, found, failed = (self.count(name) for name in ("done", "found", "failed"))
        speed = f", {done / self.seconds:.2f} frames/s" if done and self.seconds > 0 else ""
        parts = [f"{done} done{speed}"] + ([f"{found} found good"] if found else [])
        parts += [f"{failed} failed"] if failed else []
        left = self.total - done - found - failed
        parts += [f"{left} not made"] if left else []
        parts += [f"{count} {remark}" for remark, count in sorted(self._stood_in().items())]
        counted = f"{self.total} frames: {', '.join(parts)} in {self.output}"
        return "; ".join([counted, *self._warnings()])

    def _stood_in(self) -> Counter[str]:
        """How many frames have another picture than was asked for, by input."""
        held = [f"with {role_in_words(role)} held" for r in self.records for role in r.held]
        black = [f"with {role_in_words(role)} black" for r in self.records for role in r.black]
        return Counter([*held, *black])

    def _warnings(self) -> list[str]:
        """What is less than was asked for, and in how many frames."""
        counts = Counter(label for record in self.records for label in set(record.degraded))
        return [
            f"in {count} {'frame' if count == 1 else 'frames'} {sentence_of(label)}"
            for label, count in sorted(counts.items())
        ]

    @property
    def first_failure(self) -> str:
        """The error that stopped the job, or of the first frame that failed; empty without one."""
        failed = [record for record in self.records if record.status == "failed"]
        if isinstance(self.cause, DaemonError):
            return f"{self.cause.message}. For the frames that are left, run it with --resume"
        if self.cause is not None:
            return _sentence(self.cause)
        if not failed:
            return ""
        noun = "frame" if len(failed) == 1 else "frames"
        shown = format_frames([record.frame for record in failed])
        return f"{noun} {shown}: {failed[0].message}"


def stops_everything(error: MattebridgeError) -> bool:
    """Whether an error of one frame would be that of every other frame too."""
    if isinstance(error, WorkerLostError):
        # A frame that kills its worker fails; workers that are given up stop the job.
        return not error.retry
    if isinstance(error, DaemonError):
        return True
    return isinstance(error, RequestError) and not isinstance(error, _FRAME_LOCAL)


# Exit statuses, gravest first: a bug, a cancel, a lost daemon, a failed write, a wrong job.
_GRAVITY = (1, 4, 5, 3, 2)


def gravity(cause: BaseException) -> int:
    """A rank among several causes of one job: the lower, the graver."""
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
