"""Which frames of a shot its page shows, and the page made of them.

findings --> frames to look at first, then others evenly over the shot
         --> their pictures, as many as fit --> figures that were not recorded --> page.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Optional

from mattebridge.image_io.sources import Pictures
from mattebridge.report.page import page
from mattebridge.report.pictures import FramePictures, draw, fitting, picture_frame
from mattebridge.report.records import Finding, Shot, findings, spread
from mattebridge.shot.job import OF_THE_FILE
from mattebridge.version import __version__

# Frames with large pictures for the wipe; each costs a few hundred KB.
LARGE_FRAMES = 12
# The most that the page takes besides its pictures: charts, lists, text.
WORDS_BYTES = 1 << 20


def make_page(shot: Shot, *, frames: int, limit_bytes: int) -> tuple[str, list[Finding]]:
    """The page of a shot, of at most `limit_bytes`, and what it says to look at first."""
    wanted = _most_wanted(shot, findings(shot), frames)
    drawn = _drawn(shot, wanted)
    shot = _completed(shot, drawn)
    found = findings(shot)
    order = dict.fromkeys([*(f.frame for f in found if f.frame in drawn), *wanted])
    pictures = fitting(drawn, order, limit_bytes=limit_bytes - WORDS_BYTES, large=LARGE_FRAMES)
    left = len(shot.entries) - len(pictures)
    note = (
        f"{len(pictures)} of {len(shot.entries)} frames: those to look at first, and others evenly"
        " over the shot. The charts have them all."
        if left
        else ""
    )
    return page(shot, found, pictures, note=note, made_by=f"mattebridge {__version__}"), found


def _most_wanted(shot: Shot, found: Sequence[Finding], frames: int) -> list[int]:
    """Frames to show, the most important first: those that stand out, then evenly over the shot."""
    numbers = [entry.frame for entry in shot.entries]
    # Ever finer, so that the frames of a page are spread over the shot wherever it is full.
    even = [
        numbers[place]
        for count in (2, LARGE_FRAMES // 2, LARGE_FRAMES, frames)
        for place in spread(len(numbers), min(count, frames))
    ]
    wanted = dict.fromkeys([*(finding.frame for finding in found), *even])
    return list(wanted)[:frames]


def _drawn(shot: Shot, wanted: Sequence[int]) -> dict[int, FramePictures]:
    given = str(shot.settings.get("colorspace", ""))
    space = "" if given == OF_THE_FILE else given
    entries = {entry.frame: entry for entry in shot.entries}
    reader = Pictures(deinterlace=bool(shot.settings.get("deinterlace")))
    try:
        return draw(
            [entries[frame] for frame in wanted],
            lambda entry: picture_frame(entry, reader, colorspace=space),
        )
    finally:
        reader.close()


def _completed(shot: Shot, pictures: Mapping[int, FramePictures]) -> Shot:
    """The shot with figures that the job did not record, taken from the pictures."""
    has_errors = any(entry.error is not None for entry in shot.entries)

    def filled(value: Optional[float], seen: Optional[float]) -> Optional[float]:
        return seen if value is None else value

    entries = []
    for entry in shot.entries:
        made = pictures.get(entry.frame)
        if made is not None:
            # The error of a picture is of another kind, and not comparable with a recorded one.
            error = entry.error if has_errors else made.error
            entry = replace(entry, area=filled(entry.area, made.area), error=error)
        entries.append(entry)
    return replace(shot, entries=entries)
