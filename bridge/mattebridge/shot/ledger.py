"""The ledger beside the frames: how each was made, so that a resumed job never mixes settings.

    OUT/plate.mattebridge.jsonl        one JSON object a line, only ever appended to

    {"job": "3f2a...", "settings": {...}, "model": {...}, "version": "0.1.0"}
    {"frame": 1001, "job": "3f2a...", "inputs": {...}, "outputs": {"alpha": ["exr", 246810]}}
    {"stale": [1001, 1002]}
    {"choice": {"img_size": 1024, "precision": "float32"}, "job": "3f2a..."}
    {"record": {"frame": 1001, "status": "done", "ms": 412.0, ...}}

Records are for people (`mattebridge report`, `clips --list`) and decide nothing. A choice is what
the device of a job's first frame chose for all its frames; the first of a job counts, for all runs
of it. A frame on disk is good when its last line has this job's digest, its inputs are unchanged
(size and time), every output has its recorded size, and the quick check of image_io passes. Several
chunks of a farm append to one ledger: each line is written in one piece under a lock and begins
with a newline, so that a line that a killed process left unfinished makes no other one unreadable.
The rule that must not be broken: a frame whose line is missing or different is never taken for
good.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mattebridge.errors import FrameReadError, FrameWriteError, OutputExistsError
from mattebridge.image_io import check_frame
from mattebridge.image_io.video_read import is_video
from mattebridge.version import __version__
from mattebridge.whole_files import write_error
from mattebridge.wire import file_locks

LEDGER_SUFFIX = ".mattebridge.jsonl"
# Enough hex digits of a digest to tell jobs apart, and few enough to read.
DIGEST_DIGITS = 32


def job_digest(settings: Mapping[str, Any], model_digest: str) -> str:
    """A digest of everything that decides the pixels, besides the inputs themselves."""
    text = json.dumps([settings, model_digest], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]


def sequence_name(frame: Path) -> str:
    """The name of a sequence without the frame number: `plate` of plate.1001.exr."""
    return re.sub(r"[._ -]*-?\d+$", "", frame.stem) or "frames"


def ledger_path(folder: Path, plate: str) -> Path:
    """`OUT/plate.mattebridge.jsonl`, named after the sequence, folder or video."""
    return folder / f"{plate}{LEDGER_SUFFIX}"


def identity(path: Path) -> list[int]:
    """Size and time of an input: the matte of a plate that was rendered again is stale."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


@dataclass
class _Line:
    job: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Sequence[Any]]


@dataclass
class Ledger:
    """What is known of the frames of one sequence in one folder."""

    path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    job: str = ""
    known: bool = False
    _lines: dict[int, _Line] = field(default_factory=dict)
    _failures: dict[int, str] = field(default_factory=dict)
    _choices: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _begun: list[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Read what earlier runs recorded; a missing file is an empty ledger."""
        ledger = cls(path)
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            return ledger
        for line in text.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                ledger._take(json.loads(line))
        return ledger

    def _take(self, line: Mapping[str, Any]) -> None:
        if "settings" in line:
            self.known, self.job, self.settings = True, str(line["job"]), dict(line["settings"])
        elif "record" in line:
            self._take_record(line["record"])
        elif "stale" in line:
            for frame in line["stale"]:
                self._lines.pop(int(frame), None)
        elif "choice" in line:
            self._choices.setdefault(str(line["job"]), dict(line["choice"]))
        else:
            entry = _Line(str(line["job"]), dict(line["inputs"]), dict(line["outputs"]))
            self._lines[int(line["frame"])] = entry

    def _take_record(self, record: Mapping[str, Any]) -> None:
        frame = int(record["frame"])
        if record["status"] == "failed":
            self._failures[frame] = str(record.get("message", ""))
        else:
            self._failures.pop(frame, None)

    def is_good(
        self,
        frame: int,
        *,
        job: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, tuple[str, Path]],
        size_px: tuple[int, int],
    ) -> bool:
        """Whether every output of a frame is on disk, whole, and made in exactly this way."""
        line = self._lines.get(frame)
        if line is None or line.job != job or line.inputs != inputs:
            return False
        for output, (form, path) in outputs.items():
            recorded = line.outputs.get(output)
            if recorded is None or recorded[0] != form:
                return False
            if not _is_whole(path, int(recorded[1]), size_px):
                return False
        return True

    def made_as(self, frame: int) -> dict[str, str]:
        """The formats by output in which the last job made a frame; empty where it did not."""
        line = self._lines.get(frame)
        if line is None or line.job != self.job:
            return {}
        return {output: str(recorded[0]) for output, recorded in line.outputs.items()}

    def failure_of(self, frame: int) -> str:
        """Why a frame failed the last time it was tried; "" where it did not."""
        return self._failures.get(frame, "")

    def refuse_mixture(
        self,
        outputs: Mapping[int, Mapping[str, tuple[str, Path]]],
        *,
        job: str,
        settings: Mapping[str, Any],
    ) -> None:
        """Raise `OutputExistsError` where frames on disk were made with other settings.

        outputs: of each requested frame, by output, the format and path.
        """
        for frame, wanted in outputs.items():
            present = [path for _, path in wanted.values() if path.exists()]
            if not present:
                continue
            if not self.known:
                raise OutputExistsError(
                    f"{present[0]} exists, and it is not known how it was made"
                    f" ({self.path.name} is missing); use --existing overwrite or another -o"
                )
            if self._was_made_otherwise(frame, wanted, job):
                raise OutputExistsError(
                    f"frame {frame} exists, made with other settings"
                    f"{self._difference(settings)}; use --existing overwrite or another -o"
                )

    def _was_made_otherwise(
        self, frame: int, wanted: Mapping[str, tuple[str, Path]], job: str
    ) -> bool:
        line = self._lines.get(frame)
        if line is None:
            # A run was killed between writing the frame and noting it. If it was a run of this job,
            # the frame is made again; the settings are the same.
            return self.job != job
        forms = {output: recorded[0] for output, recorded in line.outputs.items()}
        return line.job != job or any(
            forms.get(output, form) != form and path.exists()
            for output, (form, path) in wanted.items()
        )

    def _difference(self, settings: Mapping[str, Any]) -> str:
        now = json.loads(json.dumps(settings, sort_keys=True, default=str))
        names = [name for name in now if now[name] != self.settings.get(name)]
        if not names:
            return ""
        shown = ", ".join(
            f"{name}: {self.settings.get(name)} then, {now[name]} now" for name in names
        )
        return f" ({shown[:300]})"

    def begin(
        self, job: str, settings: Mapping[str, Any], model: Mapping[str, Any], stale: Sequence[int]
    ) -> None:
        """Note the job, and that these frames are about to be made again.

        It is written before the next line, or by `flush`: a job that ends before its first frame
        leaves no file.
        """
        if stale:
            self._begun.append({"stale": list(stale)})
        if self.job != job:
            record = {"job": job, "settings": settings, "model": model, "version": __version__}
            self._begun.append(record)
        for line in self._begun:
            self._take(json.loads(json.dumps(line, default=str)))

    def flush(self) -> None:
        """Write what `begin` noted, before a frame has files. Raises `FrameWriteError`."""
        if self._begun:
            with self._opened() as stream:
                self._write_begun(stream)

    def note(
        self,
        frame: int,
        *,
        job: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, tuple[str, int]],
    ) -> None:
        """Note a frame whose outputs are on disk: by output, the format and size in bytes."""
        self._append({"frame": frame, "job": job, "inputs": inputs, "outputs": outputs})

    def choice_of(self, job: str) -> Mapping[str, Any]:
        """What was chosen for all frames of a job; empty where nothing was yet."""
        return self._choices.get(job, {})

    def agree(self, job: str, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """What counts for all frames of a job: what another run has noted, else `choice`, which is
        noted now."""
        with self._opened() as stream:
            there = Ledger.open(self.path).choice_of(job)
            if there:
                self._choices[job] = there
            else:
                self._write(stream, {"choice": dict(choice), "job": job})
        return self._choices[job]

    def remember(self, record: Mapping[str, Any]) -> None:
        """Note how a frame ended, for people; a disk that is full is no failure of the job."""
        with contextlib.suppress(FrameWriteError):
            self._append({"record": record})

    def _append(self, record: Mapping[str, Any]) -> None:
        with self._opened() as stream:
            self._write(stream, record)

    def _write(self, stream: BinaryIO, record: Mapping[str, Any]) -> None:
        """Append a line to the opened file, behind what `begin` noted, and take it."""
        self._write_begun(stream)
        self._take(json.loads(_append_line(stream, record)))

    def _write_begun(self, stream: BinaryIO) -> None:
        # Another thread may have written it meanwhile: the file is locked.
        while self._begun:
            _append_line(stream, self._begun[0])
            del self._begun[0]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """The file, locked, for appending. Raises `FrameWriteError`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab", buffering=0) as stream, file_locks.locked(stream.fileno()):
                yield stream
        except OSError as failure:
            raise write_error(self.path, failure) from failure


def _append_line(stream: BinaryIO, record: Mapping[str, Any]) -> str:
    """Append a line to the opened file; its text."""
    text = json.dumps(record, default=str)
    data = f"\n{text}\n".encode()
    if stream.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return text


def _is_whole(path: Path, size_bytes: int, size_px: tuple[int, int]) -> bool:
    """By the quick check; of a video, whose frames were counted when it was made, by its size."""
    try:
        if is_video(path):
            return path.stat().st_size == size_bytes
        check_frame(path, size_bytes=size_bytes, size_px=size_px)
    except (FrameReadError, OSError):
        return False
    return True
