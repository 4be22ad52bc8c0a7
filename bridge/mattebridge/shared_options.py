"""What commands with actions of their own share (`mattebridge models add`, `plates list`)."""

from __future__ import annotations

import argparse


def shared_again() -> argparse.ArgumentParser:
    """The shared options behind an action, too; unsaid, they do not undo those before it."""
    again = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    again.add_argument("--instance", metavar="NAME", help=argparse.SUPPRESS)
    for option in ("--traceback", "--json"):
        again.add_argument(
            option, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return again
