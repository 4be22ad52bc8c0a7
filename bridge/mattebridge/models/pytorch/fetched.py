"""Tensors of a device on their way to main memory, which the host need not wait for at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from mattebridge.color import FloatImage


class Fetched:
    """Copies as C-contiguous float32 arrays, whole once they are over; the tensors are held until
    then, so that their memory is not used again."""

    def __init__(
        self,
        arrays: list[FloatImage],
        event: Optional[torch.cuda.Event] = None,
        held: Sequence[Tensor] = (),
    ) -> None:
        """event: behind the copies; None: they are over."""
        self.arrays = arrays
        self._event, self._held = event, held

    @classmethod
    def begin(cls, *images: Tensor, device: Optional[torch.device] = None) -> Fetched:
        """Begin to copy images of one device, behind the steps so far of the current stream. On
        other devices than CUDA they are copied at once. device: where there may be no images."""
        device = device or images[0].device
        if device.type != "cuda":
            return cls([_array_of(image) for image in images])
        # Only into page-locked memory does a copy go on while the host does other things.
        here = [torch.empty(image.shape, dtype=torch.float32, pin_memory=True) for image in images]
        for kept, image in zip(here, images):
            kept.copy_(image, non_blocking=True)
        event = torch.cuda.current_stream(device).record_event()
        return cls([kept.numpy() for kept in here], event, images)

    def is_over(self) -> bool:
        """Whether the arrays are whole; does not wait."""
        event = self._event
        if event is not None and not event.query():  # type: ignore[no-untyped-call]
            return False
        self._event, self._held = None, ()
        return True

    def wait(self) -> list[FloatImage]:
        """The arrays, once they are whole; raises what the device reports. Any thread may wait."""
        event = self._event
        if event is not None:
            event.synchronize()
        self._event, self._held = None, ()
        return self.arrays


def _array_of(image: Tensor) -> FloatImage:
    return np.ascontiguousarray(image.to("cpu", torch.float32).numpy())
