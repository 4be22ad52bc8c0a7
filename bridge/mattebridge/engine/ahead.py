"""What is begun for a frame before its turn, on a device that copies beside what it computes.

    arena --copy in--> planes --range, small--> main memory --thread--> Found
             stream of the copies                    |            `--> the frame's own turn
                                                     `---------------> the same

The planes are on their way (crossing.py). What the host looks at of them is made behind the copy
and fetched (look.py), so that their turn need not wait for it. Where the clean plate is to be
aligned and is kept already, the search for its place begins, too: a thread searches on the CPU
while the frame before is computed.

Rules: the search sees the same values as in the frame's own turn, so it finds the same. Whatever
goes wrong here is left to that turn, which meets it again and reports it. There is a thread for
each frame that the worker has in hand behind the one that is computed; a frame that is dropped ends
its search at its next stage.
"""

from __future__ import annotations

from concurrent import futures
from dataclasses import dataclass
from functools import cached_property
from threading import Event
from typing import TYPE_CHECKING, Optional

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint
from mattebridge.engine.align import Wanted
from mattebridge.engine.clean_plates import KeptCleanPlate
from mattebridge.engine.crossing import Crossing, SentPlanes
from mattebridge.engine.look import Looks, is_looked_at_small
from mattebridge.engine.request import FrameRequest
from mattebridge.engine.samples import picture_of, plane_of, plate_alpha_of
from mattebridge.wire.params import MATTE_ROLES

if TYPE_CHECKING:
    from mattebridge.clean_plate.on_device import Found

# A frame that waits for its search asks so often whether it was cancelled.
ASKED_EVERY_S = 0.1


class _Dropped(Exception):
    """The frame of a search is no longer wanted."""


class Search:
    """One search for the place of a clean plate, in a thread of its `Searches`."""

    def __init__(self, clean_plate: KeptCleanPlate, size: tuple[int, int], wanted: Wanted) -> None:
        self._clean_plate, self._size, self._wanted = clean_plate, size, wanted
        self._dropped = Event()
        self._future: Optional[futures.Future[Found]] = None

    def begin(self, threads: futures.Executor, looks: Looks) -> None:
        """looks: of the frame, with the plate as alignment looks at it."""
        self._future = threads.submit(self._run, looks)

    def drop(self) -> None:
        """End it at its next stage; what it found is not used."""
        self._dropped.set()
        if self._future is not None:
            self._future.cancel()

    def found(self, clean_plate: KeptCleanPlate, checkpoint: Checkpoint) -> Optional[Found]:
        """Wait for what was found with this clean plate; None where it is to be looked for."""
        future = self._future
        if clean_plate is not self._clean_plate or future is None or future.cancel():
            # Of another clean plate; or others are searched first, and the frame is as quick.
            self.drop()
            return None
        while not future.done():
            checkpoint("align")
            futures.wait([future], timeout=ASKED_EVERY_S)
        try:
            return future.result()
        except Exception:  # the frame's turn meets it again
            return None

    def _run(self, looks: Looks) -> Found:
        from mattebridge.clean_plate.on_device import found_for

        self._go_on("align")
        looked = looks.looked()
        assert looked is not None
        assert self._clean_plate.side is not None
        return found_for(
            looked,
            self._size,
            self._clean_plate.side,
            alignment=self._wanted.alignment,
            match_exposure=self._wanted.exposure,
            checkpoint=self._go_on,
        )

    def _go_on(self, stage: str, done: int = 0, total: int = 0) -> None:
        if self._dropped.is_set():
            raise _Dropped


@dataclass(frozen=True)
class SentFrame:
    """What was begun for a frame: its planes, what is looked at of them, and where it needs one its
    search."""

    planes: SentPlanes
    looks: Optional[Looks] = None
    search: Optional[Search] = None

    def drop(self) -> None:
        """Give back what was begun and not used."""
        self.planes.drop()
        if self.search is not None:
            self.search.drop()


class Searches:
    """The searches of one device."""

    def __init__(self, crossing: Crossing) -> None:
        self._crossing = crossing

    @cached_property
    def _threads(self) -> futures.ThreadPoolExecutor:
        ahead = max(1, self._crossing.frames - 1)
        return futures.ThreadPoolExecutor(ahead, thread_name_prefix="alignment")

    @torch.inference_mode()
    def begin(
        self, sent: SentPlanes, request: FrameRequest, kept: Optional[KeptCleanPlate]
    ) -> SentFrame:
        """Look at a frame whose planes are on their way, and begin its search; does not wait.

        kept: its clean plate. There is no search where nothing is to be looked for, or only in the
        frame's turn: with a clean plate that was not used before, or a colour space of main memory.
        """
        raw = sent.look_at("plate")
        if raw is None:
            return SentFrame(sent)
        small = is_looked_at_small(kept, request, raw.shape)
        with self._crossing.beside():
            looks = Looks.begin(_images(sent, request), request, small=small)
        wanted = Wanted.of(request.params, request.card)
        if kept is None or wanted is None or not small:
            return SentFrame(sent, looks)
        search = Search(kept, (raw.shape[0], raw.shape[1]), wanted)
        search.begin(self._threads, looks)
        return SentFrame(sent, looks, search)


def _images(sent: SentPlanes, request: FrameRequest) -> dict[str, Tensor]:
    """The images of a frame as `preprocess` reads them, in its order."""
    found = {
        role: raw for role in ("plate", *MATTE_ROLES) if (raw := sent.look_at(role)) is not None
    }
    plate = found.pop("plate")
    alpha = plate_alpha_of(plate, request.params.plate_alpha)
    images = {"plate": picture_of(plate)}
    if alpha is not None:
        images["plate_alpha"] = alpha
    return {**images, **{role: plane_of(raw, 0) for role, raw in found.items()}}
