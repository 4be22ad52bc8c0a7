"""What an error of a GPU means for the worker that met it, told from the texts of torch.

    exhausted      the frame does not fit: E_OOM, the worker goes on    (models/memory.py)
    lost           the context is unusable from now on: the worker ends, and another one starts
    unsupported    this torch has no code for this card: the device is given up, no other one starts

torch reports all of them as a RuntimeError, and most with the same first words. ROCm says HIP where
CUDA says CUDA; cuBLAS and cuDNN have codes of their own.
"""

from __future__ import annotations

from mattebridge.models.memory import is_exhausted

_UNSUPPORTED = (
    "no kernel image is available",
    "not compatible with the current PyTorch installation",
    "invalid device function",
    "hipErrorNoBinaryForGpu",
)
_LOST = (
    "CUDA error",
    "HIP error",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "miopenStatusInternalError",
    "miopenStatusUnknownError",
)


def is_unsupported(error: BaseException) -> bool:
    """Whether this error says that the device can never run this torch."""
    return _says(error, _UNSUPPORTED)


def is_lost(error: BaseException) -> bool:
    """Whether this error leaves the device's context unusable for every later frame."""
    return _says(error, _LOST) and not is_exhausted(error) and not is_unsupported(error)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
