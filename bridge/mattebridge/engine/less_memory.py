"""What is tried when the memory for a frame is exhausted, the cheapest first.

    frame --exhausted--> those before it are finished; kept clean plates and torch's own reserve are
                         given back
          --exhausted--> models that are not needed leave, the least recently used first
          --exhausted--> the model computes in smaller pieces, with the same pixels
          --exhausted--> `OutOfMemoryError`, with what was needed and what was free

The frame is computed anew after each step. Nothing changes its pixels: what was done is noted, and
the pieces, which take longer, are listed in `degraded`.

The rule that must not be broken: whatever the failed attempt had allocated is let go before the
next one. An exception keeps the variables of all functions that it passed through, so they are
cleared.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from typing import Any, Callable, Optional, TypeVar

from mattebridge.errors import OutOfMemoryError
from mattebridge.models.memory import is_exhausted

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
GIB = 2**30


def first_that_fits(
    attempt: Callable[[], Result],
    steps: Iterable[str],
    *,
    needed_bytes: Optional[int],
    free_bytes: Callable[[], Optional[int]],
) -> tuple[Result, tuple[str, ...]]:
    """The result of the first attempt that memory suffices for, and the steps before it.

    steps: makes room when it is advanced, and gives a word for what was done. Raises
    `OutOfMemoryError` when there is no further step; other errors of an attempt as they are.
    """
    taken: list[str] = []
    remaining = iter(steps)
    while True:
        try:
            return attempt(), tuple(taken)
        except Exception as error:
            if not isinstance(error, OutOfMemoryError) and not is_exhausted(error):
                raise
            failure = error
        let_go(failure)
        step = next(remaining, None)
        if step is None:
            raise _exhausted(failure, needed_bytes, free_bytes()) from failure
        logger.warning("memory is exhausted: %s", step)
        taken.append(step)


def let_go(error: Optional[BaseException]) -> None:
    """Clear the variables of the functions that an error and its causes passed through.

    Without its traceback the error is in no circle with the function that keeps it, either.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _exhausted(
    failure: Exception, needed_bytes: Optional[int], free_bytes: Optional[int]
) -> OutOfMemoryError:
    said = failure.message if isinstance(failure, OutOfMemoryError) else "memory is exhausted"
    figures = {"needed_bytes": needed_bytes, "free_bytes": free_bytes}
    known: dict[str, Any] = {name: value for name, value in figures.items() if value is not None}
    words = {"needed_bytes": "about {:.1f} GiB are needed", "free_bytes": "{:.1f} GiB are free"}
    sizes = ", ".join(words[name].format(value / GIB) for name, value in known.items())
    return OutOfMemoryError(f"{said} ({sizes})" if sizes else said, **known)
