"""`mattebridge plates`: clean plates that the daemon holds under a name, for hosts to refer to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mattebridge.commands.options import add_layer, shared_again, space
from mattebridge.commands.terminal import print_json
from mattebridge.errors import ConnectionFailed, InputsError, PlateError, UsageError, one_line

if TYPE_CHECKING:
    from mattebridge.client import MatteClient

EPILOG = """\
examples:
  mattebridge plates add loft clean.exr
      then `loft` in the plugin's knob "Held clean plate", or client.matte(plate, "loft")
  mattebridge plates add loft clean.png --hold linear
      for a host that sends scene-linear pixels
  mattebridge plates add loft cleaner.exr --replace
      another picture under the same name, also for those who use it now
  mattebridge plates
  mattebridge plates remove loft

A held clean plate is taken to be in the colour space of the request that names it, and must have
the size of its frames, or be larger by one scale (for proxies). It is lost when the daemon ends,
and one that was not used for a while is dropped when MATTEBRIDGE_PLATE_BYTES are full. `mattebridge
matte` holds the clean plates that it needs by itself.
"""


def add_parser(commands: Any, reached: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge plates`."""
    command = commands.add_parser(
        "plates",
        parents=[reached],
        help="clean plates that the daemon holds by name",
        description="Hold a clean plate in the daemon under a name; list or drop those it holds.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_list)
    command.add_argument("--json", action="store_true", help="for programs")
    actions = command.add_subparsers(title="actions", metavar="ACTION")
    again = shared_again()
    listed = actions.add_parser("list", parents=[again], help="what is held (the default)")
    listed.set_defaults(run=run_list)
    _add_add(actions, again)
    removed = actions.add_parser("remove", parents=[again], help="drop a held clean plate")
    removed.set_defaults(run=run_remove)
    removed.add_argument("name", metavar="NAME")


def _add_add(actions: Any, again: argparse.ArgumentParser) -> None:
    command = actions.add_parser(
        "add",
        parents=[again],
        help="hold a picture as a clean plate",
        description="Read a picture and hold it in the daemon under a name.",
    )
    command.set_defaults(run=run_add)
    command.add_argument("name", metavar="NAME", help="1 to 64 of a-z 0-9 . _ -")
    command.add_argument("file", metavar="FILE", type=Path)
    add_layer(command, "an EXR")
    command.add_argument(
        "--colorspace",
        type=space,
        metavar="SPACE",
        help="of the file: linear, srgb, or a name of `mattebridge colors` (default: what the file"
        " says, else EXR and float TIFF linear, 8- and 16-bit srgb)",
    )
    command.add_argument(
        "--hold",
        type=space,
        metavar="SPACE",
        help="the colour space of the requests that will name it (default: the file's own)",
    )
    command.add_argument(
        "--replace",
        action="store_true",
        help="take the name where it is held with another picture (default: refuse)",
    )
    command.add_argument(
        "--no-spawn", action="store_true", help="do not start a daemon when none runs"
    )


def run_list(options: argparse.Namespace) -> int:
    """`mattebridge plates`: the held clean plates; none where no daemon runs."""
    try:
        with _connect(options) as client:
            held = client.held_clean_plates()
    except ConnectionFailed:
        held = []
    if options.json:
        print_json(held)
    elif held:
        from mattebridge.commands.tables import clean_plates_table

        print(clean_plates_table(held))
    else:
        print("mattebridge: no clean plate is held")
    return 0


def run_add(options: argparse.Namespace) -> int:
    """`mattebridge plates add NAME FILE`."""
    from mattebridge.wire.protocol import NAME

    if not NAME.match(options.name):
        raise UsageError(
            f"the name of a held clean plate is 1 to 64 of a-z 0-9 . _ -, not '{options.name}'"
        )
    pixels, held_as = _read(options)
    with _connect(options, start=not options.no_spawn) as client:
        _hold(client, options, pixels)
    height, width = pixels.shape[:2]
    light = {"linear": "scene-linear", "srgb": "display-encoded (srgb)"}.get(held_as, held_as)
    print(f"mattebridge: '{options.name}' is held: {width}x{height}, for {one_line(light)} plates")
    return 0


def _hold(client: MatteClient, options: argparse.Namespace, pixels: Any) -> None:
    try:
        client.hold_clean_plate(options.name, pixels, replace=options.replace)
    except PlateError as error:
        raise PlateError(f"{error.message} with --replace", **error.details) from error


def run_remove(options: argparse.Namespace) -> int:
    """`mattebridge plates remove NAME`."""
    with _connect(options) as client:
        client.drop_clean_plate(options.name)
    print(f"mattebridge: '{options.name}' is no longer held")
    return 0


def _read(options: argparse.Namespace) -> tuple[Any, str]:
    """The picture as RGB, and the colour space that it is in now."""
    from mattebridge.image_io import read_frame, read_header
    from mattebridge.ocio.space import Spaces

    frame = read_frame(options.file, layer=options.layer)
    given, spaces = options.colorspace or frame.colorspace, Spaces()
    if given == "unknown":
        why = read_header(options.file, layer=options.layer).unknown_because
        raise InputsError(
            f"{options.file} {why or 'does not name its colour space'}; give --colorspace, with a"
            " name of `mattebridge colors`, linear or srgb",
            field="clean_plate",
        )
    held_as = options.hold or given
    for name in (given, held_as):
        _ = spaces.is_known(name) or spaces.config.find(name)
    return spaces.converted(frame.rgb, given, held_as), held_as


def _connect(options: argparse.Namespace, *, start: bool = False) -> MatteClient:
    from mattebridge.client import MatteClient

    return MatteClient.connect(
        options.instance,
        start=start,
        # The daemon runs in the environment of this command; a host does not give this.
        daemon_python=sys.executable,
        name="plates",
        host="mattebridge",
    )
