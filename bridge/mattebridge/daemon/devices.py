"""Which devices the daemon serves from, and whether each of them computes.

    cpu                      needs no check
    cuda:0, cuda:1, ...      tried with one small product before the daemon starts, and by each
                             worker before it takes requests
    auto                     every CUDA device that torch sees, else the CPU

The front never imports torch: what needs torch runs in a child process, `python -m
mattebridge.daemon.devices NAME ...`, which prints why each device is unusable, as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Optional

from mattebridge.errors import UsageError, one_line

log = logging.getLogger(__name__)

AUTO = "auto"
_CPU = re.compile(r"cpu(:\d+)?\Z")
# torch takes seconds to load, on a busy machine or a network drive much longer.
CHECK_LIMIT_S = 120.0
COUNT_LIMIT_S = 60.0
MAX_REASON = 300


def named_devices(wanted: str) -> list[str]:
    """The devices that a list names. Raises `UsageError` where it names none."""
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if not names:
        raise UsageError(f"--devices '{wanted}' names no device: give cpu, cuda:0,cuda:1 or auto")
    return names


def find_devices(wanted: str) -> list[str]:
    """The devices to serve from, `auto` resolved; those that are named are not checked here."""
    if wanted != AUTO:
        return named_devices(wanted)
    if not any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/dxg")):
        return ["cpu"]
    ask = "import torch; print(torch.cuda.device_count())"
    try:
        answer = subprocess.run(
            [sys.executable, "-c", ask],
            capture_output=True,
            timeout=COUNT_LIMIT_S,
            check=True,
            cwd="/",
        )
        count = int(answer.stdout.split()[-1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        log.warning("a CUDA driver is installed, but torch cannot use it: serving on the CPU")
        count = 0
    return [f"cuda:{index}" for index in range(count)] or ["cpu"]


def check_named(wanted: str, *, option: str = "--devices") -> None:
    """Raise `UsageError` with the reason unless each device that is named computes."""
    if wanted == AUTO:
        return
    names = [name for name in named_devices(wanted) if needs_check(name)]
    if not names:
        return
    reasons = _ask_child(names)
    if reasons:
        unusable = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UsageError(
            f"{option} {wanted} cannot be served ({unusable}): name devices that this machine and"
            " its torch have, or cpu"
        )


def needs_check(name: str) -> bool:
    """Whether a device may be missing or unable: any but the processor."""
    return not _CPU.match(name)


def reason_against(name: str) -> Optional[str]:
    """Why a device cannot be used, in one line; None when a small product came out right on it.

    Imports torch: never called in the front.
    """
    import torch

    try:
        ones = torch.ones(8, 8, device=name)
        total = float((ones @ ones).sum())
    except Exception as error:
        first = str(error).strip().split("\n", 1)[0] or type(error).__name__
        return one_line(f"{first} ({_seen(torch.__version__, torch.cuda)})", MAX_REASON)
    return None if total == 512.0 else f"a product of ones came out as {total:g}, not 512"


def _seen(version: str, cuda: object) -> str:
    count = cuda.device_count() if cuda.is_available() else 0  # type: ignore[attr-defined]
    return f"torch {version} sees {count} CUDA devices"


def _ask_child(names: Sequence[str]) -> dict[str, str]:
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "mattebridge.daemon.devices", *names],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHECK_LIMIT_S,
            check=True,
        )
        reasons = json.loads(answer.stdout.splitlines()[-1])
        return {str(name): str(reason) for name, reason in reasons.items()}
    except subprocess.TimeoutExpired:
        return dict.fromkeys(names, f"the check did not end within {CHECK_LIMIT_S:g} s")
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["no output"]
        why = f"the check ended with status {error.returncode}: {said[-1]}"
        return dict.fromkeys(names, one_line(why, MAX_REASON))
    except (OSError, ValueError, IndexError, AttributeError) as error:
        return dict.fromkeys(names, one_line(f"the check failed: {error}", MAX_REASON))


def main(names: Sequence[str]) -> int:
    """Print the devices that cannot be used, with the reason, as one line of JSON."""
    reasons = {name: reason_against(name) for name in names}
    print(json.dumps({name: reason for name, reason in reasons.items() if reason}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
