"""A matted shot as its job recorded it, and the frames to look at first.

    OUT/plate.mattebridge.jsonl (and a file of --report) --> Shot: settings, model, frames in order
                                                         --> findings: failed, jumps, errors, ...

No picture is opened here. Lines that are incomplete or of another kind are skipped: a report of
what can be read is worth more than none.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import SequenceError, UsageError
from mattebridge.image_io.sequences import Source, VideoPicture, find_frames
from mattebridge.image_io.video_read import is_video
from mattebridge.shot.ledger import LEDGER_SUFFIX
from mattebridge.wire.labels import sentences
from mattebridge.wire.params import role_in_words

# Area changes by less than this share of the picture are not reported.
LEAST_JUMP = 0.005
# A change of area stands out from this many times the usual one from frame to frame.
JUMP_SIGMAS = 6.0
# An error stands out from this many times the median one.
ERROR_FACTOR = 1.5
# Frames named of each kind.
NAMED = 5


@dataclass(frozen=True)
class Entry:
    """One frame: how it ended, what it took, and where its pictures are."""

    frame: int
    status: str = "done"
    message: str = ""
    degraded: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    black: tuple[str, ...] = ()
    ms: Optional[float] = None
    timings: Mapping[str, float] = field(default_factory=dict)
    memory: Optional[float] = None
    daemon_memory: Optional[float] = None
    area: Optional[float] = None
    error: Optional[float] = None
    inputs: Mapping[str, Source] = field(default_factory=dict)
    outputs: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True)
class Shot:
    """A matted sequence in a folder."""

    name: str
    folder: Path
    entries: Sequence[Entry]
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""

    def count(self, status: str) -> int:
        return sum(entry.status == status for entry in self.entries)


@dataclass(frozen=True)
class Finding:
    """A frame worth a look, and why."""

    frame: int
    kind: str
    text: str


# --- reading --------------------------------------------------------------------------------------


def find_ledgers(folder: Path) -> list[Path]:
    """The ledgers of the sequences that were matted into a folder. Raises `UsageError`."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give the -o of `mattebridge matte`")
    found = sorted(folder.glob(f"*{LEDGER_SUFFIX}"))
    if not found:
        raise UsageError(
            f"{folder} holds no *{LEDGER_SUFFIX}, which `mattebridge matte` leaves beside its"
            " frames; give the folder that was its -o"
        )
    return found


def read_shot(ledger: Path, records: Optional[Path] = None) -> Shot:
    """The shot of a ledger; `records` is a file of `--report`, whose records replace the ledger's.

    Raises `UsageError` where no frame was recorded.
    """
    folder, lines = ledger.parent, list(_lines(ledger))
    ended: dict[int, Mapping[str, Any]] = {}
    noted: dict[int, Mapping[str, Any]] = {}
    head: Mapping[str, Any] = {}
    for line in [*lines, *(_lines(records) if records is not None else ())]:
        record = line.get("record", line)
        if "settings" in line:
            head = line
        elif _is_record(record):
            ended[record["frame"]] = record
        elif isinstance(line.get("frame"), int):
            noted[line["frame"]] = line
    numbers = sorted({*ended, *noted})
    if not numbers:
        raise UsageError(f"{ledger} has no frame; matte the shot first")
    places = _Places(folder, {number: ended[number] for number in numbers if number in ended})
    entries = [_entry(number, ended.get(number), noted.get(number), places) for number in numbers]
    return Shot(
        name=ledger.name.removesuffix(LEDGER_SUFFIX),
        folder=folder,
        entries=entries,
        settings=_mapping(head.get("settings")),
        model=_mapping(head.get("model")),
        version=str(head.get("version", "")),
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text("utf-8", "replace")
    except OSError as failure:
        raise UsageError(f"cannot read {path}: {failure.strerror}") from failure
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("frame"), int) and "status" in value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _entry(
    number: int,
    record: Optional[Mapping[str, Any]],
    note: Optional[Mapping[str, Any]],
    places: _Places,
) -> Entry:
    if record is None:
        names = _mapping(note and note.get("outputs"))
        return Entry(number, outputs=places.scanned(names, number))
    # A frame that was found good has its outputs in its record; an earlier one has the rest.
    return Entry(
        frame=number,
        status=str(record["status"]),
        message=str(record.get("message", "")),
        degraded=_words(record.get("degraded")),
        held=_words(record.get("held")),
        black=_words(record.get("black")),
        ms=_number(record.get("ms")) or None,
        timings=_numbers(record.get("timings")),
        memory=_number(record.get("memory")) or None,
        daemon_memory=_number(record.get("daemon_memory")) or None,
        area=_number(record.get("area")),
        error=_number(record.get("error")),
        inputs=places.inputs(_mapping(record.get("inputs"))),
        outputs=places.outputs(_mapping(record.get("outputs")), number),
    )


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(word) for word in value) if isinstance(value, list) else ()


def _number(value: Any) -> Optional[float]:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if good and value == value and abs(value) != float("inf") else None


def _numbers(value: Any) -> dict[str, float]:
    known = {str(name): _number(each) for name, each in _mapping(value).items()}
    return {name: each for name, each in known.items() if each is not None}


class _Places:
    """Where the pictures are: as recorded, or below the folder if that was moved since."""

    def __init__(self, folder: Path, records: Mapping[int, Mapping[str, Any]]) -> None:
        self._folder = folder
        self._scans: dict[str, Mapping[int, Source]] = {}
        self._parents: dict[Path, Optional[Path]] = {}
        # The position of a frame in a video is its place among the frames of that video.
        self._positions: dict[tuple[str, int], int] = {}
        lengths: dict[str, int] = {}
        for number, record in records.items():
            for text in _mapping(record.get("outputs")).values():
                self._positions[str(text), number] = lengths.get(str(text), 0)
                lengths[str(text)] = lengths.get(str(text), 0) + 1

    def inputs(self, recorded: Mapping[str, Any]) -> dict[str, Source]:
        found: dict[str, Source] = {}
        for role, place in recorded.items():
            if isinstance(place, str):
                found[role] = Path(place)
            elif isinstance(place, list) and len(place) == 2 and isinstance(place[1], int):
                found[role] = VideoPicture(Path(str(place[0])), place[1])
        return found

    def outputs(self, recorded: Mapping[str, Any], number: int) -> dict[str, Source]:
        found: dict[str, Source] = {}
        for output, text in recorded.items():
            path = self._below(Path(str(text)))
            if path is not None:
                position = self._positions[str(text), number]
                found[output] = VideoPicture(path, position) if is_video(path) else path
        return found

    def _below(self, path: Path) -> Optional[Path]:
        """By its folder, which is looked for once: a stat for every file of a shot takes long."""
        if path.parent not in self._parents:
            parts = path.parent.parts
            tried = [self._folder.joinpath(*parts[start:]) for start in range(1, len(parts))]
            tried.append(self._folder / path.parent)
            self._parents[path.parent] = next((each for each in tried if each.is_dir()), None)
        parent = self._parents[path.parent]
        return None if parent is None else parent / path.name

    def scanned(self, outputs: Iterable[str], number: int) -> dict[str, Source]:
        """For a ledger without records: what is in the folders of the outputs."""
        found: dict[str, Source] = {}
        for output in outputs:
            if output not in self._scans:
                self._scans[output] = self._scan(output)
            if number in self._scans[output]:
                found[output] = self._scans[output][number]
        return found

    def _scan(self, output: str) -> Mapping[int, Source]:
        try:
            return dict(find_frames(str(self._folder / output)).files)
        except (SequenceError, UsageError):
            return {}


# --- where to look first --------------------------------------------------------------------------


def findings(shot: Shot) -> list[Finding]:
    """The frames to look at first, gravest kind first, a few of each kind at most."""
    return [
        *_failed(shot.entries),
        *_jumps(shot.entries),
        *_errors(shot.entries),
        *_grouped(shot.entries, "less than asked for", lambda entry: sentences(entry.degraded)),
        *_grouped(shot.entries, "an earlier frame is used", lambda entry: _spaced(entry.held)),
        *_grouped(shot.entries, "black is used", lambda entry: _spaced(entry.black)),
    ]


def _spaced(roles: Sequence[str]) -> list[str]:
    return [role_in_words(role) for role in roles]


def _failed(entries: Sequence[Entry]) -> list[Finding]:
    failed = [entry for entry in entries if entry.status == "failed"]
    left = len(failed) - NAMED
    found = [Finding(e.frame, "failed", e.message or "no reason was recorded") for e in failed]
    if left > 0:
        more = f"{found[NAMED - 1].text} (and {left} more that failed)"
        found = [*found[: NAMED - 1], Finding(found[NAMED - 1].frame, "failed", more)]
    return found


def _jumps(entries: Sequence[Entry]) -> list[Finding]:
    """Where the area of the matte changes much more than it usually does from frame to frame."""
    pairs = [
        (after, after.area - before.area)
        for before, after in zip(entries, entries[1:])
        if before.area is not None and after.area is not None
    ]
    if len(pairs) < 3:
        return []
    usual = statistics.median(abs(change) for _, change in pairs) * 1.4826
    limit = max(LEAST_JUMP, JUMP_SIGMAS * usual)
    marked = sorted((p for p in pairs if abs(p[1]) > limit), key=lambda p: -abs(p[1]))[:NAMED]
    return [
        Finding(
            entry.frame,
            "jump",
            f"the matte covers {100 * (entry.area or 0):.1f} % of the picture,"
            f" {abs(100 * change):.1f} {'more' if change > 0 else 'less'} than the frame before",
        )
        for entry, change in sorted(marked, key=lambda pair: pair[0].frame)
    ]


def _errors(entries: Sequence[Entry]) -> list[Finding]:
    known = [entry for entry in entries if entry.error]
    if not known:
        return []
    middle = statistics.median(entry.error or 0.0 for entry in known)
    worst = sorted(known, key=lambda entry: -(entry.error or 0.0))[:NAMED]
    # The largest always, others when they stand out.
    chosen = [e for e in worst if e is worst[0] or (e.error or 0.0) > ERROR_FACTOR * middle]
    return [
        Finding(
            entry.frame,
            "error",
            f"{'largest' if entry is worst[0] else 'large'} error:"
            f" {entry.error:.4f}, where the median is {middle:.4f}",
        )
        for entry in chosen
    ]


def _grouped(entries: Sequence[Entry], what: str, words: Any) -> list[Finding]:
    """The first frame of each of the words, with how many there are."""
    frames: dict[str, list[int]] = {}
    for entry in entries:
        for word in words(entry):
            frames.setdefault(word, []).append(entry.frame)
    return [
        Finding(
            numbers[0],
            "less",
            f"{what}{f' in {len(numbers)} frames from here' if len(numbers) > 1 else ''}: {word}",
        )
        for word, numbers in list(frames.items())[:NAMED]
    ]


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` positions of `count`, evenly, the first and the last among them."""
    if count <= wanted:
        return list(range(count))
    if wanted < 2:
        return [count // 2][:wanted]
    return sorted({round(step * (count - 1) / (wanted - 1)) for step in range(wanted)})
