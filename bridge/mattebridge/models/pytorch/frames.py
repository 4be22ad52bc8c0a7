"""Frames as torch tensors and back as arrays, and torch's lack of memory as `OutOfMemoryError`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattebridge.color import FloatImage
from mattebridge.errors import OutOfMemoryError


def tensor_of(values: NDArray[np.generic] | Tensor, device: torch.device) -> Tensor:
    """float32 on the device; where it is that already, the same memory: not to be written to."""
    if isinstance(values, Tensor):
        return values.to(device, torch.float32)
    values = np.ascontiguousarray(values, dtype=np.float32)
    with warnings.catch_warnings():
        # torch warns of read-only memory; nothing here writes to inputs.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(values).to(device)


def array_of(image: Tensor) -> FloatImage:
    """C-contiguous float32 in main memory."""
    return np.ascontiguousarray(image.to("cpu", torch.float32).numpy())


def given_back(image: Tensor, given: FloatImage | Tensor) -> Any:
    """A result as the model's input was given: float32, a tensor for a tensor, else an array."""
    return image.float() if isinstance(given, Tensor) else array_of(image)


@contextmanager
def memory_translated(model: str, size: tuple[int, ...], remedy: str) -> Iterator[None]:
    """Raise `OutOfMemoryError` where the device lacks the memory for a frame of `size` (H, W, ...).

    remedy: what the artist can do, the end of the message.
    """
    try:
        yield
    except RuntimeError as error:
        # torch has no exception of its own for main memory.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate" not in str(error):
            raise
        raise OutOfMemoryError(
            f"the device does not have enough memory for a frame of {size[1]}x{size[0]} with model"
            f" '{model}'; {remedy}"
        ) from error
