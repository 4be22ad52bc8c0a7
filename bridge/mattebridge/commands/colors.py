"""`mattebridge colors`: the colour spaces that a request may name."""

from __future__ import annotations

import argparse
from typing import Any

from mattebridge.commands.terminal import print_json
from mattebridge.errors import ConnectionFailed, one_line


def add_parser(commands: Any, reached: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge colors`."""
    command = commands.add_parser(
        "colors",
        parents=[reached],
        help="which colour spaces there are",
        description="The colour spaces of the daemon's OpenColorIO config, which --colorspace and"
        " --output-colorspace take beside linear and srgb: by name, role or alias. Without a daemon"
        " those of the config that one would load here.",
    )
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="everything, for programs")
    command.add_argument(
        "name", metavar="WORD", nargs="?", help="only those that have it in a name"
    )


def run(options: argparse.Namespace) -> int:
    """`mattebridge colors [WORD]`."""
    found = _known(options)
    if options.name:
        found["spaces"] = [space for space in found["spaces"] if _has(space, options.name)]
    if options.json:
        print_json(found)
        return 0
    from mattebridge.commands.tables import table

    print(f"config {one_line(found['config'])}, digest {found['digest'][:12]}\n")
    rows = [["COLOUR SPACE", "ROLES", "ALIASES"]]
    rows += [[s["name"], ", ".join(s["roles"]), ", ".join(s["aliases"])] for s in found["spaces"]]
    print("\n".join(table(rows)))
    return 0


def _known(options: argparse.Namespace) -> dict[str, Any]:
    """What the daemon knows, or this process, when none runs."""
    from mattebridge.client import MatteClient

    try:
        with MatteClient.connect(options.instance, name="colors") as client:
            return client.colors()
    except ConnectionFailed:
        from mattebridge.ocio.config import Config

        config = Config.load()
        return {**config.described(), "spaces": [space.described() for space in config.spaces]}


def _has(space: dict[str, Any], word: str) -> bool:
    names = (space["name"], *space["roles"], *space["aliases"])
    return any(word.casefold() in name.casefold() for name in names)
