"""Which devices the daemon serves from, and whether each of them computes.

    cpu                      needs no check
    cuda:0, cuda:1, ...      CUDA and ROCm: tried with one small product before the daemon starts,
    mps                      and by each worker before it takes requests
    auto                     every GPU that computes, else the CPU, with a note of why

The front never imports torch: what needs torch runs in a child process, `python -m
mattebridge.daemon.devices`, which prints as JSON either why named devices are unusable
(`NAME ...`), or which devices there are (`auto`; device_search.py). A device that is named and
cannot compute is refused; under `auto` it is left out, and `status` says so.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Optional

from mattebridge.errors import UsageError, one_line
from mattebridge.wire import oslayer

AUTO = "auto"
CPU = "cpu"
CHILD = "mattebridge.daemon.devices"
_CPU = re.compile(r"cpu(:\d+)?\Z")
# torch takes seconds to load, on a busy machine or a network drive much longer.
CHECK_LIMIT_S = 120.0
MAX_REASON = 300


def named_devices(wanted: str) -> list[str]:
    """The devices that a list names. Raises `UsageError` where it names none."""
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if not names:
        raise UsageError(f"--devices '{wanted}' names no device: give cpu, cuda:0,cuda:1 or auto")
    return names


def known_devices(wanted: str) -> Optional[list[str]]:
    """The devices to serve from; None where torch must be asked which there are.

    Those that are named are not checked here.
    """
    if wanted != AUTO:
        return named_devices(wanted)
    return None if oslayer.current().may_have_gpu() else [CPU]


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
        return f"{first_line(error)} ({_seen(torch)})"
    return None if total == 512.0 else f"a product of ones came out as {total:g}, not 512"


def first_line(error: BaseException) -> str:
    """What an error says, without the advice for programmers that torch adds in further lines."""
    first = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return one_line(first, MAX_REASON)


def _seen(torch: Any) -> str:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind = "ROCm" if torch.version.hip else "CUDA"
    return f"torch {torch.__version__} sees {count} {kind} devices"


def _ask_child(names: Sequence[str]) -> dict[str, str]:
    try:
        answer = subprocess.run(
            [sys.executable, "-m", CHILD, *names],
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


# -- in the child ---------------------------------------------------------------------------------


def main(names: Sequence[str]) -> int:
    """Print as one line of JSON what is found of these devices, or with `auto` of all."""
    if list(names) == [AUTO]:
        oslayer.current().die_with_parent()
        print(json.dumps(_every_device()))
    else:
        print(json.dumps(_reasons(names)))
    return 0


def _every_device() -> dict[str, Any]:
    """`devices`: those that compute. `reasons`: why the others do not. `seen`: what torch is."""
    import torch

    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    reasons = _reasons(names)
    usable = [name for name in names if name not in reasons]
    return {"devices": usable, "reasons": reasons, "seen": _seen(torch)}


def _reasons(names: Sequence[str]) -> dict[str, str]:
    reasons = {name: reason_against(name) for name in names}
    return {name: reason for name, reason in reasons.items() if reason}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
