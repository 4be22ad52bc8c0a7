"""`mattebridge report OUT`: one page of a matted shot, and the frames to look at first."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mattebridge.commands.options import path_to_write
from mattebridge.errors import UsageError, one_line

DEFAULT_FRAMES = 36
DEFAULT_MAX_MIB = 12

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
        type=path_to_write,
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
    from mattebridge.report.make import make_page
    from mattebridge.report.records import read_shot
    from mattebridge.whole_files import replace_file

    shot = read_shot(ledger, options.records)
    html, found = make_page(shot, frames=options.frames, limit_bytes=options.max_size << 20)
    path = options.output or ledger.parent / f"{shot.name}.report.html"
    size = replace_file(path, html.encode())
    print(f"mattebridge: {one_line(str(path))}, {size / 2**20:.1f} MiB")
    for finding in found:
        print(f"  frame {finding.frame}: {one_line(finding.text)}")
