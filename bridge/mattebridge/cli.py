"""The command line: `mattebridge matte | hint | clean-plate | models | sample | serve | ...`.

Each command imports what it needs when it runs, so that `--help` answers at once and never loads
torch or OpenCV. An error is one sentence on standard error with the exit status of its class;
`--traceback` or MATTEBRIDGE_TRACEBACK=1 adds the traceback.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn, Optional

from mattebridge.commands import (
    clean_plate,
    colors,
    daemon,
    evaluate,
    farm,
    hint,
    install,
    matte,
    models,
    plates,
    report,
    sample,
)
from mattebridge.commands.terminal import (
    make_output_safe,
    open_closed_streams,
    print_traceback,
    wants_traceback,
    with_class,
)
from mattebridge.errors import Cancelled, MattebridgeError, one_line
from mattebridge.version import __version__


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; the exit status."""
    open_closed_streams()
    make_output_safe()
    given = _join_negative_frames(list(sys.argv[1:] if arguments is None else arguments))
    options = build_parser().parse_args(given)
    try:
        return int(options.run(options))
    except MattebridgeError as error:
        return _fail(error, options)
    except KeyboardInterrupt:
        return _fail(Cancelled("interrupted"), options)
    except BrokenPipeError:
        # The reader of the output has gone. Its end must not fail again when Python flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        print_traceback(error)
        print(f"mattebridge: a bug: {one_line(with_class(error))}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line; imports nothing heavy."""
    parser = _Parser(
        prog="mattebridge",
        description="Alpha, foreground and premultiplied RGBA from a plate and a clean plate.",
        epilog="`mattebridge COMMAND --help` says more, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"mattebridge {__version__}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--traceback", action="store_true", help="show where an error came from")
    reached = argparse.ArgumentParser(add_help=False, parents=[shared])
    reached.add_argument(
        "--instance", metavar="NAME", help="which daemon: a name, or the path of its runtime folder"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    matte.add_parser(commands, reached)
    hint.add_parser(commands, reached)
    clean_plate.add_parser(commands, shared)
    sample.add_parsers(commands, shared)
    daemon.add_parsers(commands, reached)
    models.add_parser(commands, reached)
    plates.add_parser(commands, reached)
    colors.add_parser(commands, reached)
    report.add_parser(commands, shared)
    evaluate.add_parser(commands, shared)
    install.add_parser(commands, shared)
    farm.add_parser(commands, shared)
    return parser


class _Parser(argparse.ArgumentParser):
    """Reports an error in one sentence, without the usage of all options."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"mattebridge: {one_line(message)}; see `{self.prog} --help`\n")


def _join_negative_frames(arguments: list[str]) -> list[str]:
    """`--frames -3--1` as `--frames=-3--1`: argparse takes a leading dash for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in ("--frames", "--within") and re.match(r"-\d", argument):
            joined[-1] = f"{joined[-1]}={argument}"
        else:
            joined.append(argument)
    return joined


def _fail(error: MattebridgeError, options: argparse.Namespace) -> int:
    if wants_traceback(options):
        print_traceback(error)
    print(f"mattebridge: {one_line(str(error))}", file=sys.stderr)
    return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
