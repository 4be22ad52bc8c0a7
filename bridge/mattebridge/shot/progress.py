"""The progress of a running job: a bar for people, lines for logs, queues and hosts.

    plain      frame 1003 done 412 ms (3/10)
    bar        a line that redraws itself, with frames/s and the time left
    json       one object a line
    openjd     openjd_progress: 30.0, openjd_status: ..., openjd_fail: ... (once, at the end)
    deadline   Progress: 30%

Percentages never fall and are printed at most once a second, besides the last. Every line is
flushed. The rule that must not be broken: text from outside (file names, messages) is made one
printable line and never begins a line, because to a queue a line that begins with `openjd_` is a
command.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, TextIO

from mattebridge.errors import one_line
from mattebridge.wire.labels import sentences

# Queues read every line.
LINE_INTERVAL_S = 1.0
REDRAW_INTERVAL_S = 0.1
BAR_WIDTH = 24
# The speed that is shown is that of the last frames, this many.
SPEED_FRAMES = 20


@dataclass(frozen=True)
class FrameRecord:
    """How one frame ended. status: done, found (good already), failed or cancelled.

    outputs: by name, their files. code, message: of the error. degraded: what of the result is less
    than was asked for. held, black: roles whose picture is an earlier one, or black. inputs: by
    role the file, or the video and the position in it. area: share of the picture that the matte
    covers. error: mean of the model's error map. memory: bytes that the job held then,
    daemon_memory: those of the daemon's workers.
    """

    frame: int
    status: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    ms: float = 0.0
    code: str = ""
    message: str = ""
    degraded: Sequence[str] = ()
    held: Sequence[str] = ()
    black: Sequence[str] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    area: Optional[float] = None
    error: Optional[float] = None
    memory: int = 0
    daemon_memory: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For `--report` and json lines; without what is empty."""
        measured = ("frame", "area", "error")
        kept = {
            name: value
            for name, value in vars(self).items()
            if value or (name in measured and value is not None)
        }
        return {**kept, "ms": round(self.ms, 1)}


class Progress:
    """Prints nothing; the base of those that do."""

    def start(self, total: int, what: str) -> None:
        """The job begins; `what` is one line about it."""

    def frame(self, record: FrameRecord, finished: int, total: int) -> None:
        """One frame has ended; called in frame order."""

    def note(self, text: str) -> None:
        """A remark; not a failure."""

    def finish(self, status: int, text: str, cause: str = "") -> None:
        """The job has ended: its exit status, one line about it, and the first failure."""

    def refuse(self, status: int, text: str) -> None:
        """The job ends without a summary; the command line prints why on standard error."""


class PlainProgress(Progress):
    """A line for every frame."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _print(self, text: str) -> None:
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        # The reader may have closed its pipe; the frames are still to be made.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()

    def start(self, total: int, what: str) -> None:
        self._print(f"mattebridge: {one_line(what)}")

    def frame(self, record: FrameRecord, finished: int, total: int) -> None:
        self._print(f"{describe(record)} ({finished}/{total})")

    def note(self, text: str) -> None:
        self._print(f"note: {one_line(text)}")

    def finish(self, status: int, text: str, cause: str = "") -> None:
        # The command line prints the cause on standard error.
        self._print(f"mattebridge: {one_line(text)}")


def describe(record: FrameRecord) -> str:
    """`frame 1003 done 412 ms`, with the error or what is less than was asked for."""
    text = f"frame {record.frame} {record.status}"
    if record.status == "done":
        text += f" {record.ms:.0f} ms"
    if record.message:
        text += f": {one_line(record.message)}"
    if record.degraded:
        text += f" [{one_line('; '.join(sentences(record.degraded)))}]"
    if record.held:
        text += f" [held: {one_line(', '.join(record.held))}]"
    if record.black:
        text += f" [black: {one_line(', '.join(record.black))}]"
    return text


class BarProgress(PlainProgress):
    """One line on a terminal that redraws itself; failures stay above it."""

    def __init__(
        self, stream: TextIO, columns: int = 80, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream)
        self._columns = columns
        self._clock = clock
        self._ends: list[float] = []
        self._drawn = -REDRAW_INTERVAL_S
        self._failed = 0

    def start(self, total: int, what: str) -> None:
        super().start(total, what)
        self._ends = [self._clock()]

    def frame(self, record: FrameRecord, finished: int, total: int) -> None:
        if record.status == "failed":
            self._failed += 1
            self._above(describe(record))
        if record.status == "done":
            self._ends = [*self._ends, self._clock()][-SPEED_FRAMES:]
        now = self._clock()
        if now - self._drawn >= REDRAW_INTERVAL_S or finished == total:
            self._drawn = now
            self._draw(self._line(record.frame, finished, total))

    def note(self, text: str) -> None:
        self._above(f"note: {one_line(text)}")

    def finish(self, status: int, text: str, cause: str = "") -> None:
        self._above(f"mattebridge: {one_line(text)}")

    def _line(self, frame: int, finished: int, total: int) -> str:
        done = BAR_WIDTH * finished // max(1, total)
        bar = "#" * done + "-" * (BAR_WIDTH - done)
        text = f"[{bar}] {finished}/{total} frame {frame}"
        spent = self._ends[-1] - self._ends[0] if self._ends else 0.0
        if len(self._ends) > 1 and spent > 0:
            speed = (len(self._ends) - 1) / spent
            text += f"  {speed:.2f} frames/s  {duration((total - finished) / speed)} left"
        return text + (f"  {self._failed} failed" if self._failed else "")

    def _draw(self, text: str) -> None:
        self._write(f"\r\x1b[K{text[: self._columns - 1]}")

    def _above(self, text: str) -> None:
        self._write(f"\r\x1b[K{text}\n")


def duration(seconds: float) -> str:
    """`1:05` or `2:03:04`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class JsonProgress(PlainProgress):
    """One JSON object a line, each with an `event`."""

    def _object(self, event: str, **fields: Any) -> None:
        self._print(json.dumps({"event": event, **fields}))

    def start(self, total: int, what: str) -> None:
        self._object("start", total=total, what=what)

    def frame(self, record: FrameRecord, finished: int, total: int) -> None:
        self._object("frame", finished=finished, total=total, **record.as_dict())

    def note(self, text: str) -> None:
        self._object("note", text=text)

    def finish(self, status: int, text: str, cause: str = "") -> None:
        self._object("finish", status=status, text=text, cause=cause)

    def refuse(self, status: int, text: str) -> None:
        self._object("finish", status=status, text=text, cause=text)


class QueueProgress(PlainProgress):
    """Percentages for a render queue, at most one a second besides the last."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._written_at = -LINE_INTERVAL_S
        self._latest: Optional[tuple[float, str]] = None
        self._failures: list[str] = []

    def frame(self, record: FrameRecord, finished: int, total: int) -> None:
        text = describe(record)
        self._latest = (100.0 * finished / max(1, total), f"{text} ({finished}/{total})")
        if record.status == "failed":
            self._failures.append(text)
        if self._clock() - self._written_at >= LINE_INTERVAL_S or finished == total:
            self._write_latest()

    def finish(self, status: int, text: str, cause: str = "") -> None:
        self._write_latest()
        super().finish(status, text, cause)

    def _write_latest(self) -> None:
        if self._failures:
            more = len(self._failures) - 1
            self._print(self._failures[0] + (f" [and {more} more failed since]" if more else ""))
        if self._latest is not None:
            percent, text = self._latest
            self._percent(percent)
            self._state(text)
        self._written_at, self._latest, self._failures = self._clock(), None, []

    def _percent(self, percent: float) -> None:
        self._print(f"Progress: {int(percent)}%")

    def _state(self, text: str) -> None:
        pass


class OpenJdProgress(QueueProgress):
    """The lines of an Open Job Description session."""

    def _percent(self, percent: float) -> None:
        self._print(f"openjd_progress: {percent:.1f}")

    def _state(self, text: str) -> None:
        self._print(f"openjd_status: {one_line(text)}")

    def finish(self, status: int, text: str, cause: str = "") -> None:
        self._write_latest()
        both = f"{text}; {cause}" if cause else text
        self._print(f"{'openjd_fail' if status else 'openjd_status'}: {one_line(both)}")

    def refuse(self, status: int, text: str) -> None:
        self._print(f"openjd_fail: {one_line(text)}")


def counter(what: str, stream: TextIO) -> Callable[[int, int], None]:
    """A function of (done, total) that counts on one line of a terminal; silent elsewhere."""

    def count(done: int, total: int) -> None:
        if stream.isatty():
            stream.write(f"\r\x1b[K{what} {done}/{total}" + ("\n" if done == total else ""))
            stream.flush()

    return count


MODES = ("auto", "bar", "plain", "json", "openjd", "deadline", "none")


def make_progress(mode: str, stream: Optional[TextIO] = None) -> Progress:
    """The progress of a `--progress` value; "auto" is a bar on a terminal and lines elsewhere."""
    stream = stream or sys.stdout
    if mode == "auto":
        mode = "bar" if stream.isatty() and os.environ.get("TERM") != "dumb" else "plain"
    if mode == "bar":
        return BarProgress(stream, columns=_columns())
    kinds: dict[str, Callable[[TextIO], Progress]] = {
        "plain": PlainProgress,
        "json": JsonProgress,
        "openjd": OpenJdProgress,
        "deadline": QueueProgress,
    }
    return kinds[mode](stream) if mode in kinds else Progress()


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns
