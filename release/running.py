"""Run the programs that make and try a release, and end with one sentence where one fails."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

# The program that drops a node into the hosts of the tests, and where these are.
FIRST_NODE = Path(__file__).resolve().with_name("first_node.py")
TESTS = FIRST_NODE.parents[1] / "tests"
# Lines of a failed program that are shown.
SHOWN_LINES = 15


class Refused(Exception):
    """What was built cannot be released, in one sentence."""


def run(
    command: Sequence[object],
    limit_s: float,
    *,
    cwd: Path,
    environment: Optional[Mapping[str, str]] = None,
) -> str:
    """What a program prints; its last line is shown. Raises `Refused` where it fails or hangs."""
    words = " ".join(map(str, command))
    try:
        done = subprocess.run(
            [str(word) for word in command], cwd=cwd, env=environment, timeout=limit_s,
            text=True, encoding="utf-8", errors="replace", check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Refused(f"`{words}` did not end within {limit_s:g} s") from error
    except OSError as error:
        raise Refused(f"`{words}` cannot be started: {error.strerror}") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        last = "\n".join(lines[-SHOWN_LINES:])
        raise Refused(f"`{words}` ended with status {done.returncode}:\n{last}")
    print("\n".join(lines[-1:]), flush=True)
    return done.stdout


def without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without Python's search path and the settings of mattebridge."""
    return {
        key: value
        for key, value in environment.items()
        if key != "PYTHONPATH" and not key.startswith("MATTEBRIDGE_")
    }


def own_home(home: Path) -> dict[str, str]:
    """This process's environment with a home of its own, for Linux and macOS.

    What is written down for the user, and a daemon of the user's, have no part in a trial.
    """
    return {
        **without_ours(os.environ),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "MATTEBRIDGE_RUNTIME_DIR": str(home / "run"),
    }
