"""`mattebridge serve`, `status`, `release` and `stop`: the daemon from the command line."""

from __future__ import annotations

import argparse
import os
from typing import Any

from mattebridge.commands.options import seconds
from mattebridge.commands.terminal import print_json
from mattebridge.errors import (
    ConnectionFailed,
    DaemonLost,
    MattebridgeError,
    MessageError,
    VersionError,
    one_line,
)

SERVE_EPILOG = """\
examples:
  mattebridge serve                 the daemon in this terminal; Ctrl-C stops it
  mattebridge serve --detach        in the background; returns when clients can connect
  mattebridge serve --devices cuda:0,cuda:1
"""


def add_parsers(commands: Any, reached: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge serve`, `status`, `release` and `stop`."""
    _add_serve(commands, reached)
    _add_status(commands, reached)
    _add_release(commands, reached)
    _add_stop(commands, reached)


def run_serve(options: argparse.Namespace) -> int:
    """`mattebridge serve`: run the daemon, or start it in the background."""
    from mattebridge.daemon import control
    from mattebridge.ocio import where

    where.settle(options.ocio)
    try:
        status = control.serve(
            options.instance,
            detach=options.detach,
            devices=options.devices,
            idle_exit_s=options.idle_exit,
            auto=options.auto,
        )
    except MattebridgeError as error:
        if options.progress == "openjd":
            print(f"openjd_fail: {one_line(error.message)}", flush=True)
        raise
    if options.detach and status == 0 and not options.auto:
        _print_where(options)
    return status


def run_status(options: argparse.Namespace) -> int:
    """`mattebridge status`: a table, or JSON."""
    from mattebridge.client import MatteClient

    try:
        with MatteClient.connect(options.instance, name="status") as client:
            status = client.status()
    except (VersionError, MessageError) as refusal:
        return _print_other_version(options, refusal)
    except (ConnectionFailed, DaemonLost):
        if options.json:
            print_json({"state": "not running"})
        raise
    if options.json:
        print_json({key: value for key, value in status.items() if key not in ("op", "id")})
    else:
        from mattebridge.commands.tables import status_table

        print(status_table(status))
    return 0


def _print_other_version(options: argparse.Namespace, refusal: MattebridgeError) -> int:
    from mattebridge.daemon import other_version
    from mattebridge.wire.folder import runtime_folder

    known = other_version.last_known(runtime_folder(options.instance))
    if options.json:
        print_json({**known, "refusal": refusal.message})
    else:
        print(other_version.text(known, refusal))
    return 0


def run_release(options: argparse.Namespace) -> int:
    """`mattebridge release`: what each worker gave back; 0 also when no daemon runs."""
    from mattebridge.client import MatteClient
    from mattebridge.commands.tables import released_text

    try:
        client = MatteClient.connect(options.instance, name="release")
    except ConnectionFailed:
        print("mattebridge: no daemon runs, so no memory is held")
        return 0
    with client:
        print(released_text(client.release(timeout_s=options.timeout)))
    return 0


def run_stop(options: argparse.Namespace) -> int:
    """`mattebridge stop`: 0 also when no daemon runs, or when others keep it running."""
    from mattebridge.daemon import control

    if options.if_unused:
        outcome = control.leave(options.instance)
    else:
        outcome = control.stop(options.instance).value
    print(f"mattebridge: {one_line(outcome)}")
    return 0


def _add_serve(commands: Any, reached: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "serve",
        parents=[reached],
        help="run the daemon",
        description="Run the daemon that holds the models and serves frames.",
        epilog=SERVE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_serve)
    command.add_argument("--detach", action="store_true", help="in the background")
    command.add_argument(
        "--devices",
        default="auto",
        metavar="D",
        help="cpu, or GPUs: cuda:0,cuda:1 (ROCm too); auto (default)",
    )
    command.add_argument(
        "--ocio",
        metavar="CONFIG",
        help="the OpenColorIO config (default: MATTEBRIDGE_OCIO, OCIO, else the built-in one)",
    )
    command.add_argument(
        "--idle-exit", metavar="S", type=seconds, help="stop after S seconds without work"
    )
    command.add_argument(
        "--progress",
        choices=("plain", "openjd"),
        default="plain",
        help="openjd: set the instance for the tasks of an Open Job Description session",
    )
    # A start by a client: another idle limit, and the interpreter is not recorded.
    command.add_argument("--auto", action="store_true", help=argparse.SUPPRESS)


def _add_status(commands: Any, reached: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "status",
        parents=[reached],
        help="what the daemon is doing",
        description="State, workers, queue, sessions, frames, timings and memory of the daemon.",
    )
    command.set_defaults(run=run_status)
    command.add_argument("--json", action="store_true", help="everything, for programs")


def _add_release(commands: Any, reached: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "release",
        parents=[reached],
        help="give the GPU's memory to other programs",
        description="Drop models and caches from the memory of all devices, and keep the daemon."
        " Frames that are being computed are finished first; the next frame loads its model again.",
    )
    command.set_defaults(run=run_release)
    command.add_argument(
        "--timeout",
        metavar="S",
        type=seconds,
        default=300.0,
        help="how long to wait for running frames (default 300)",
    )


def _add_stop(commands: Any, reached: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "stop",
        parents=[reached],
        help="stop the daemon",
        description="Let the daemon finish its frames and stop. It is no error when none runs.",
    )
    command.set_defaults(run=run_stop)
    command.add_argument(
        "--if-unused", action="store_true", help="leave it running while others use it"
    )


def _print_where(options: argparse.Namespace) -> None:
    from mattebridge.wire.folder import DEFAULT_INSTANCE, runtime_folder

    if options.progress == "openjd":
        named = options.instance or os.environ.get("MATTEBRIDGE_INSTANCE") or DEFAULT_INSTANCE
        print(f"openjd_env: MATTEBRIDGE_INSTANCE={one_line(named)}")
    print(f"mattebridge: the daemon accepts in {runtime_folder(options.instance)}")
