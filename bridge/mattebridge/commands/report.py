"""`mattebridge report OUT`: one page of a matted shot, and the frames to look at first."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from mattebridge.errors import UsageError, one_line
from mattebridge.version import __version__
from mattebridge.wire.params import COLORSPACES

if TYPE_CHECKING:
    from mattebridge.report.pictures import FramePictures
    from mattebridge.report.records import Finding, Shot

DEFAULT_FRAMES = 36
# Frames with large pictures for the wipe; each costs a few hundred KB.
LARGE_FRAMES = 12
DEFAULT_MAX_MIB = 12
# The most that the page takes besides its pictures: charts, lists, text.
WORDS_BYTES = 1 << 20

EPILOG = """\
examples:
  mattebridge matte plate.####.exr --clean-plate clean.exr -o mattes
  mattebridge report mattes
      mattes/plate.report.html: one file that opens in any browser
  mattebridge report mattes --frames 80 --max-size 30 -o review/shot.html

The page contains everything that it shows and needs no network.
"""


def add_parser(commands: Any, shared: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge report`."""
    command = commands.add_parser(
        "report",
        parents=[shared],
        help="one page of a matted shot: wipe, contact sheet, charts, what to look at",
        description="Make one HTML page of the shot that `mattebridge matte` left in a folder.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_report)
    command.add_argument("folder", metavar="OUT", type=Path, help="the -o of `mattebridge matte`")
    command.add_argument(
        "-o",
        "--output",
        metavar="PAGE",
        type=Path,
        help="the page's file (default: OUT/<shot>.report.html)",
    )
    command.add_argument(
        "--records", metavar="FILE", type=Path, help="a file of `matte --report`, to be used too"
    )
    command.add_argument(
        "--frames",
        metavar="N",
        type=int,
        default=DEFAULT_FRAMES,
        help="frames on the contact sheet at most (default: %(default)s)",
    )
    command.add_argument(
        "--max-size",
        metavar="MIB",
        type=int,
        default=DEFAULT_MAX_MIB,
        help="the page's largest size (default: %(default)s)",
    )


def run_report(options: argparse.Namespace) -> int:
    """`mattebridge report`: a page for every sequence in the folder."""
    from mattebridge.report.records import find_ledgers

    if options.frames < 1 or options.max_size < 2:
        raise UsageError("--frames takes 1 or more, and --max-size 2 or more")
    ledgers = find_ledgers(options.folder)
    alone = options.output is not None or options.records is not None
    if alone and len(ledgers) > 1:
        names = ", ".join(ledger.name for ledger in ledgers)
        raise UsageError(
            f"{options.folder} holds several shots ({names}), and -o and --records are for one;"
            " without them each shot gets its own page"
        )
    for ledger in ledgers:
        _report(ledger, options)
    return 0


def _report(ledger: Path, options: argparse.Namespace) -> None:
    from mattebridge.report.records import read_shot
    from mattebridge.whole_files import replace_file

    shot = read_shot(ledger, options.records)
    html, found = make_page(shot, frames=options.frames, limit_bytes=options.max_size << 20)
    path = options.output or ledger.parent / f"{shot.name}.report.html"
    size = replace_file(path, html.encode())
    print(f"mattebridge: {one_line(str(path))}, {size / 2**20:.1f} MiB")
    for finding in found:
        print(f"  frame {finding.frame}: {one_line(finding.text)}")


def make_page(shot: Shot, *, frames: int, limit_bytes: int) -> tuple[str, list[Finding]]:
    """The page of a shot, of at most `limit_bytes`, and what it says to look at first."""
    from mattebridge.report.page import page
    from mattebridge.report.pictures import fitting
    from mattebridge.report.records import findings

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
    from mattebridge.report.records import spread

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
    from mattebridge.image_io.sources import Pictures
    from mattebridge.report.pictures import draw, picture_frame

    given = str(shot.settings.get("colorspace", ""))
    space = given if given in COLORSPACES else ""
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
