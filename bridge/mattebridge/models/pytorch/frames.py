"""A frame between numpy and torch, as every network model takes it in and gives it out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattebridge.color import FloatImage
from mattebridge.errors import InputsError, OutOfMemoryError
from mattebridge.models.base import ModelInput


def clean_plate_of(given: ModelInput, model: str) -> FloatImage:
    """The clean plate; raises `InputsError` where there is none of the plate's size."""
    if given.clean_plate is None:
        raise InputsError(
            f"model '{model}' needs a clean plate: the same shot without the subject",
            field="clean_plate",
        )
    if given.clean_plate.shape != given.plate.shape:
        (height, width), (found_height, found_width) = (
            image.shape[:2] for image in (given.plate, given.clean_plate)
        )
        raise InputsError(
            f"model '{model}' needs a clean plate of {width}x{height}; got "
            f"{found_width}x{found_height} - reformat the clean plate",
            field="clean_plate",
        )
    return given.clean_plate


def tensor_of(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """float32 on the device, on the CPU in the same memory; never to be written to."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    with warnings.catch_warnings():
        # torch warns of memory that it may not write to; nothing here writes to inputs.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(values).to(device)


def array_of(image: Tensor) -> FloatImage:
    """C-contiguous float32 in the host's memory."""
    return np.ascontiguousarray(image.to("cpu", torch.float32).numpy())


@contextmanager
def memory_translated(model: str, size: tuple[int, ...], remedy: str) -> Iterator[None]:
    """A device without the memory for a frame of `size` (H, W, ...) is an `OutOfMemoryError`."""
    try:
        yield
    except RuntimeError as error:
        # The allocator for CPU memory has no exception of its own.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate" not in str(error):
            raise
        raise OutOfMemoryError(
            f"model '{model}' has not the memory for a frame of {size[1]}x{size[0]}; {remedy}"
        ) from error
