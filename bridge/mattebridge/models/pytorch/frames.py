"""Frames as torch tensors and back as arrays, and torch's lack of memory as `OutOfMemoryError`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattebridge.color import FloatImage
from mattebridge.errors import OutOfMemoryError
from mattebridge.models.base import ModelInput
from mattebridge.models.pytorch.fetched import Fetched


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
    return arrays_of(image)[0]


def arrays_of(*images: Tensor) -> list[FloatImage]:
    """Like `array_of` for each, of one device; from a CUDA device with one wait for all of them."""
    return Fetched.begin(*images).wait()


def sent(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """An array of this process on the device, where the steps so far need not be over; on the CPU
    the same memory."""
    here = torch.from_numpy(values)
    if device.type != "cuda":
        return here.to(device)
    # Out of other memory the driver would wait for the stream, and copy it twice.
    kept = torch.empty(here.shape, dtype=here.dtype, pin_memory=True)
    kept.copy_(here)
    return kept.to(device, non_blocking=True)


def given_back(given: FloatImage | Tensor, *images: Tensor) -> list[Any]:
    """Results as a model's input was given: float32 tensors for a tensor, arrays for an array."""
    if isinstance(given, Tensor):
        return [image.to(torch.float32) for image in images]
    return list(arrays_of(*images))


@dataclass(frozen=True)
class Frame:
    """The images of a `ModelInput` as tensors of one device, not to be written to.

    plate, clean_plate: (H, W, 3) float32 display-encoded. hint: (H, W) 0..1. outside: (H, W) bool.
    scene_linear: as in `ModelInput`.
    """

    plate: Tensor
    clean_plate: Tensor
    hint: Optional[Tensor]
    outside: Optional[Tensor]
    scene_linear: bool

    @classmethod
    def of(cls, given: ModelInput, device: Optional[torch.device] = None) -> Frame:
        """device: where the images are to be; without one they stay where they are."""
        assert given.clean_plate is not None
        hint, outside, plate = given.alpha_hint, given.outside, given.plate
        if device is None:
            device = plate.device if isinstance(plate, Tensor) else torch.device("cpu")
        return cls(
            tensor_of(plate, device),
            tensor_of(given.clean_plate, device),
            None if hint is None else tensor_of(hint, device),
            None if outside is None else _mask_of(outside, device),
            given.scene_linear,
        )

    def as_input(self, given: ModelInput) -> ModelInput:
        """`given` with these images."""
        images: dict[str, Any] = {
            "plate": self.plate,
            "clean_plate": self.clean_plate,
            "alpha_hint": self.hint,
            "outside": self.outside,
        }
        return replace(given, **images)


def _mask_of(mask: NDArray[np.bool_] | Tensor, device: torch.device) -> Tensor:
    # An array is copied: it may be read-only, which tensors cannot be.
    return (mask if isinstance(mask, Tensor) else torch.from_numpy(mask.copy())).to(device)


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
