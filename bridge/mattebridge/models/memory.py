"""Exhausted memory, in whatever way a library reports it.

numpy raises MemoryError; OpenCV an error of its own with the status -4; torch a RuntimeError, for
graphics memory of a class of its own; a file that is mapped an OSError. The engine translates
them; beyond it there is `OutOfMemoryError` alone.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from mattebridge.errors import MattebridgeError, OutOfMemoryError

# cv::Error::StsNoMem
_OPENCV_NO_MEMORY = -4
# How torch reports it: of main memory, of graphics memory, of what cuBLAS and cuDNN need to work.
_TORCH_MESSAGES = (
    "can't allocate",
    "out of memory",
    "NOT_ENOUGH_WORKSPACE",
    "STATUS_ALLOC_FAILED",
    "miopenStatusAllocFailed",
    "std::bad_alloc",
)


def is_exhausted(error: BaseException) -> bool:
    """Whether this error says that there is not enough memory."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if type(error).__module__.partition(".")[0] == "cv2":
        return getattr(error, "code", None) == _OPENCV_NO_MEMORY
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _TORCH_MESSAGES)


@contextmanager
def memory_errors(what: str, remedy: str) -> Iterator[None]:
    """Raise `OutOfMemoryError` where the memory does not suffice for `what`."""
    try:
        yield
    except MattebridgeError:
        raise
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise OutOfMemoryError(
            f"the machine does not have enough memory for {what} - {remedy}"
        ) from error
