"""`python -m mattebridge.daemon`: the front itself, in this process."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Optional


def main(arguments: Optional[list[str]] = None) -> int:
    """Run the front; returns the exit status, 17 when another daemon holds the lock."""
    from mattebridge.daemon.front import ALREADY_RUNNING, serve
    from mattebridge.daemon.limits import Limits
    from mattebridge.errors import MattebridgeError
    from mattebridge.wire import oslayer, protocol

    parser = argparse.ArgumentParser(prog="mattebridge.daemon")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--idle-exit", type=float, default=None)
    parser.add_argument("--parent", type=int, default=None)
    parser.add_argument("--user", default=protocol.BY_HAND)
    parser.add_argument("--foreground", action="store_true")
    options = parser.parse_args(arguments)
    try:
        status = serve(
            options.folder,
            options.devices,
            Limits(idle_exit_s=options.idle_exit, parent_pid=options.parent),
            to_terminal=options.foreground,
            user=options.user,
        )
    except MattebridgeError as error:
        print(f"mattebridge: {error.message}", file=sys.stderr)
        return error.exit_status
    if options.parent is not None and oslayer.current().has_ended(options.parent):
        # The command that it was for can no longer remove its folder.
        shutil.rmtree(options.folder, ignore_errors=True)
    if status == ALREADY_RUNNING:
        print(
            f"mattebridge: a daemon already runs in {options.folder}; see it with "
            "`mattebridge status`, or stop it with `mattebridge stop`",
            file=sys.stderr,
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
