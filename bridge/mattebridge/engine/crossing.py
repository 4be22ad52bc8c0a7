"""Copies of one frame to and from its device while another is computed there.

    arena --copy in--> planes | steps of the frame | results --copy out--> arena
     one stream                 the current stream              one stream

A CUDA device copies in each direction beside what it computes, where the copies are on streams of
their own. All steps of all frames stay on one stream, in the order in which they are started, so
that whatever is kept between frames is whole when the next frame uses it. The copies are tied to
them by events:

- the steps of a frame wait for its planes (`SentPlanes.take`), on the device, not in the host;
- the copy out waits for the steps; the host waits for the copy when it needs the results
  (`Delivery.wait`), which may be after it has started the next frame.

On other devices a copy is over when it has been asked for, and there is one frame at a time.

Rule: memory of a stream may be used again on that stream as soon as nothing refers to it. So planes
that were sent are marked as used by the steps, and results are held until their copy is over.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Optional

import torch
from torch import Tensor

from mattebridge.color import FloatImage, Pixels
from mattebridge.engine.device import deliver, raw_of, start_copies
from mattebridge.models.pytorch.fetched import Fetched

# One that is copied in, one that is computed, one that is copied out.
FRAMES_WITH_STREAMS = 3


class SentPlanes:
    """Raw planes (see `raw_of`) of a frame whose turn has not come, on their way to the device."""

    def __init__(self, raw: dict[str, Tensor], event: torch.cuda.Event) -> None:
        self._raw, self._event = raw, event

    def take(self, role: str) -> Optional[Tensor]:
        """A plane, for steps on the current stream; once. None where it was not sent ahead."""
        raw = self._raw.pop(role, None)
        if raw is not None:
            current = torch.cuda.current_stream(raw.device)
            current.wait_event(self._event)
            raw.record_stream(current)
        return raw

    def look_at(self, role: str) -> Optional[Tensor]:
        """A plane that stays to be taken, for steps of `Crossing.beside`; None if there is none."""
        return self._raw.get(role)

    def drop(self) -> None:
        """Give back the memory of what was not taken: it is read again when it is needed."""
        self._raw.clear()


class DeviceTime:
    """How long a device takes for some steps of the current stream, which it may do later."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begin = self._here()
        self._end: Optional[torch.cuda.Event] = None

    def _here(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def stop(self) -> None:
        """The steps so far are all."""
        self._end = self._here()

    def seconds(self) -> float:
        """From the first to the last step, which must be over."""
        assert self._end is not None
        return float(self._begin.elapsed_time(self._end)) / 1e3


class Delivery:
    """Results on their way into the planes of an arena, and what the host looks at with them."""

    def __init__(self, looked_at: Fetched, held: tuple[Tensor, ...] = ()) -> None:
        """looked_at: its copies come last. held: what is copied into the planes."""
        self._looked_at, self._held = looked_at, held

    def is_over(self) -> bool:
        """Whether the planes are whole; does not wait."""
        return self._looked_at.is_over()

    def wait(self) -> list[FloatImage]:
        """Wait until the planes are whole; what is looked at. Raises what the device reports."""
        arrays, self._held = self._looked_at.wait(), ()
        return arrays


class Crossing:
    """The copies of one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._has_streams = device.type == "cuda"
        self._sent: weakref.WeakSet[SentPlanes] = weakref.WeakSet()

    @cached_property
    def _in(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    @cached_property
    def _out(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    @property
    def frames(self) -> int:
        """How many frames are worth having in hand at a time."""
        return FRAMES_WITH_STREAMS if self._has_streams else 1

    def time(self) -> Optional[DeviceTime]:
        """The time of the steps from now on; None where the host waits for each of them."""
        return DeviceTime(self._device) if self._has_streams else None

    def send(self, planes: Mapping[str, Pixels]) -> Optional[SentPlanes]:
        """Begin to copy planes to the device, beside what is computed; None where that cannot be.

        The planes must stay as they are until `take` was called and the device was waited for.
        """
        if not self._has_streams:
            return None
        with torch.cuda.stream(self._in):
            raw = {role: raw_of(plane, self._device) for role, plane in planes.items()}
            sent = SentPlanes(raw, self._in.record_event())
        self._sent.add(sent)
        return sent

    def beside(self) -> AbstractContextManager[object]:
        """Steps within run behind the copies in, beside those of the frame that is computed."""
        return torch.cuda.stream(self._in)

    def drop_sent(self) -> None:
        """Give back the memory of the planes that were sent ahead."""
        for sent in tuple(self._sent):
            sent.drop()

    def deliver(
        self,
        targets: Mapping[str, Tensor],
        out: Mapping[str, Pixels],
        looked_at: Sequence[Tensor] = (),
    ) -> Delivery:
        """Begin to copy results into the planes of `out`, behind the steps so far.

        looked_at: tensors of the device that the host looks at when it waits for the planes.
        """
        if not self._has_streams:
            deliver(targets, out)
            return Delivery(Fetched.begin(*looked_at, device=self._device))
        self._out.wait_stream(torch.cuda.current_stream(self._device))
        try:
            with torch.cuda.stream(self._out):
                start_copies(targets, out)
                fetched = Fetched.begin(*looked_at, device=self._device)
                return Delivery(fetched, tuple(targets.values()))
        except BaseException:
            self._out.synchronize()  # no copy may still write when the frame has failed
            raise

    def let_copies_end(self) -> None:
        """Steps from now on run behind the copies out: they may write into the same results."""
        if self._has_streams:
            torch.cuda.current_stream(self._device).wait_stream(self._out)
