"""Misbehaviour on demand, for the tests of everybody else's behaviour.

`MATTEBRIDGE_TEST_HOOKS` is read once, when a worker starts; nothing on the wire can set it, and a
worker without it has no hooks at all. It is a comma-separated list of `stage[#frame]=action`:

    model=sleep:0.5        wait half a second before that stage (a cancel ends the wait)
    model#13=kill          the worker kills itself with SIGKILL, for frame 13 only
    model=exit:3           it exits with that status
    finish=raise           an unknown exception
    inputs=hang            never comes back, deaf to cancels
    align=gate:/path       waits while that file exists (a cancel ends the wait)
    cuda=sticky            a CUDA error that is not about memory

and the word `bridge_probe`, which lets a request for the model of that name through without
looking at its pixels: the bridge alone, for the benchmark.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Callable, NamedTuple, Optional

VARIABLE = "MATTEBRIDGE_TEST_HOOKS"
PROBE_MODEL = "bridge_probe"
POLL_S = 0.005


class _Hook(NamedTuple):
    stage: str
    frame: Optional[int]
    action: str
    argument: str


class Hooks:
    """What this worker was told to do wrong."""

    def __init__(self, text: str) -> None:
        words = [word for word in text.split(",") if word]
        self.bridge_probe = PROBE_MODEL in words
        self._hooks = [_parse(word) for word in words if word != PROBE_MODEL]

    @classmethod
    def from_environment(cls) -> Hooks:
        """The hooks of `MATTEBRIDGE_TEST_HOOKS`; none when it is not set."""
        return cls(os.environ.get(VARIABLE, ""))

    def at(self, stage: str, frame: Optional[int], check_cancelled: Callable[[], None]) -> None:
        """Do what the hooks say for this stage and frame."""
        for hook in self._hooks:
            if hook.stage == stage and hook.frame in (None, frame):
                _act(hook, check_cancelled)


def _parse(word: str) -> _Hook:
    where, _, what = word.partition("=")
    stage, _, frame = where.partition("#")
    action, _, argument = what.partition(":")
    return _Hook(stage, int(frame) if frame else None, action, argument)


def _act(hook: _Hook, check_cancelled: Callable[[], None]) -> None:
    if hook.action == "sleep":
        until = time.monotonic() + float(hook.argument)
        while time.monotonic() < until:
            check_cancelled()
            time.sleep(POLL_S)
    elif hook.action == "gate":
        while os.path.exists(hook.argument):
            check_cancelled()
            time.sleep(POLL_S)
    elif hook.action == "hang":
        while True:
            time.sleep(60)
    elif hook.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif hook.action == "exit":
        os._exit(int(hook.argument or 1))
    elif hook.action == "raise":
        raise ZeroDivisionError("asked for by a test hook")
    elif hook.action == "sticky":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    else:
        raise ValueError(f"unknown test hook {hook!r}")
