"""Faults on demand: a worker that misbehaves, to test how the rest of the product reacts.

`MATTEBRIDGE_TEST_HOOKS` is read once, when a worker starts; nothing on the wire can set it, and a
worker without it has no hooks. It is a comma-separated list of `stage[#frame]=action`, or `@/path`
of a file that holds such a list and is read again at every stage:

    model=sleep:0.5        wait half a second before that stage (a cancel ends the wait)
    model#13=kill          the worker kills itself with SIGKILL, for frame 13 only
    model=exit:3           it exits with that status
    finish=raise           an unknown exception
    inputs=hang            never ends, ignores cancels; `hang:/path` writes /path.reached
    align=gate:/path       writes /path.reached and waits while /path exists (a cancel ends that)
    model=deaf:/path       the same, ignores cancels
    model=lost             a CUDA error that is not about memory
    model=unsupported      a CUDA error of a card that this torch has no code for
    model=oom              the memory is exhausted; `oom:2` the first two times only
    model=babble           sends the front a record that is not a message

and the word `bridge_probe`: a request for the model of that name is then reported as done without
reading or writing its pixels, so that a benchmark measures the bridge alone; its one stage is
`probe` (`bridge_probe,probe=sleep:0.25`: a device of fixed time).
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
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
    """The hooks of one worker."""

    def __init__(self, text: str) -> None:
        self._times: Counter[_Hook] = Counter()
        self._file = text[1:] if text.startswith("@") else None
        words = [] if self._file else _words(text)
        self.bridge_probe = PROBE_MODEL in words
        self._hooks = [_parse(word) for word in words if word != PROBE_MODEL]

    @classmethod
    def from_environment(cls) -> Hooks:
        """The hooks of `MATTEBRIDGE_TEST_HOOKS`; none when it is not set."""
        return cls(os.environ.get(VARIABLE, ""))

    def at(
        self,
        stage: str,
        frame: Optional[int],
        check_cancelled: Callable[[], None],
        send_record: Callable[[bytes], None],
    ) -> None:
        """Carry out the hooks for this stage and frame."""
        if self._file is not None:
            self._hooks = _from_file(self._file)
        for hook in self._hooks:
            if hook.stage == stage and hook.frame in (None, frame) and not self._is_over(hook):
                _act(hook, check_cancelled, send_record)

    def _is_over(self, hook: _Hook) -> bool:
        """Whether it has happened as often as it was to; one that is read again is the same."""
        if hook.action != "oom" or not hook.argument:
            return False
        self._times[hook] += 1
        return self._times[hook] > int(hook.argument)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _from_file(path: str) -> list[_Hook]:
    try:
        with open(path, encoding="utf-8") as file:
            return [_parse(word) for word in _words(file.read().strip())]
    except FileNotFoundError:
        return []


def _parse(word: str) -> _Hook:
    where, _, what = word.partition("=")
    stage, _, frame = where.partition("#")
    action, _, argument = what.partition(":")
    return _Hook(stage, int(frame) if frame else None, action, argument)


def _act(
    hook: _Hook, check_cancelled: Callable[[], None], send_record: Callable[[bytes], None]
) -> None:
    if hook.action == "sleep":
        until = time.monotonic() + float(hook.argument)
        while time.monotonic() < until:
            check_cancelled()
            time.sleep(POLL_S)
    elif hook.action in ("gate", "deaf"):
        Path(f"{hook.argument}.reached").touch()
        while os.path.exists(hook.argument):
            if hook.action == "gate":
                check_cancelled()
            time.sleep(POLL_S)
    elif hook.action == "hang":
        if hook.argument:
            Path(f"{hook.argument}.reached").touch()
        while True:
            time.sleep(60)
    elif hook.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif hook.action == "exit":
        os._exit(int(hook.argument or 1))
    elif hook.action == "raise":
        raise ZeroDivisionError("asked for by a test hook")
    elif hook.action == "lost":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    elif hook.action == "unsupported":
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
    elif hook.action == "oom":
        raise MemoryError("asked for by a test hook")
    elif hook.action == "babble":
        send_record(b"\xc1 is not a message")
    else:
        raise ValueError(f"unknown test hook {hook!r}")
