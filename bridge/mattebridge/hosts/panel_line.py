"""Which daemon a node found, in one line for its panel.

    daemon ready, mattebridge 0.1.0, process 4711 in /run/user/1000/mattebridge/v1; 1 worker; ...

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mattebridge.errors import one_line
from mattebridge.version import other_release
from mattebridge.wire.folder import START_BY_HAND

BY_BUTTON = "Start daemon starts one, and so does matting"


def line_of(status: Mapping[str, Any]) -> str:
    """The line for what a daemon says of itself (docs/protocol.md, `status`)."""
    queue = status.get("queue") or {}
    waiting = queue.get("interactive", 0) + queue.get("batch", 0)
    return "; ".join(
        (
            f"daemon {status.get('state')}, mattebridge {status.get('version')}, process"
            f" {status.get('pid')} in {one_line(str(status.get('folder')))}",
            _counted(len(status.get("workers") or ()), "worker"),
            f"{_counted(waiting, 'frame')} waiting",
            *filter(None, (other_release(str(status.get("version") or "")),)),
        )
    )


def of_an_error(error: BaseException) -> str:
    """The line where no daemon was found or started: why, and what to do in the host."""
    message = str(getattr(error, "message", None) or str(error) or type(error).__name__)
    return one_line(message).replace(START_BY_HAND, BY_BUTTON)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
