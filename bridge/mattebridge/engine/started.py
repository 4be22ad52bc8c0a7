"""A frame that has been computed, while its results are on their way, and once they have arrived.

    matte --finish--> results ---copy out--> planes
      `--looked_at----`-`------- beside ---> settled --> report
                                                `--(the matte changes)--> finish, copy out once more

On a GPU the host waits for a frame once, for its results. What it has to look at comes with them:
whether all values are finite, how many were clamped, and for some models, whether there are parts
in the matte that are no subject. Only these change a matte, and few frames have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional, Union

import torch
from torch import Tensor

from mattebridge.color import FloatImage, Pixels
from mattebridge.engine.clock import Clock
from mattebridge.engine.crossing import Crossing, Delivery, DeviceTime
from mattebridge.engine.device import targets_for
from mattebridge.engine.infer import InferredFrame
from mattebridge.engine.less_memory import first_that_fits, let_go
from mattebridge.engine.postprocess import FinishedFrame, postprocess
from mattebridge.engine.preprocess import PreparedFrame
from mattebridge.engine.report import RenderReport
from mattebridge.engine.request import frame_text
from mattebridge.errors import MattebridgeError
from mattebridge.models.memory import memory_errors

# What the artist can do where memory is short.
SMALLER = "use a smaller proxy or crop"


class StartedFrame:
    """A frame that has been computed, and whose results are on their way into its planes."""

    def __init__(
        self,
        delivery: Delivery,
        clock: Clock,
        report: Callable[[Sequence[FloatImage]], RenderReport],
    ) -> None:
        """report: called once with what is looked at, when the results are there."""
        self._delivery, self._clock = delivery, clock
        self._report: Optional[Callable[[Sequence[FloatImage]], RenderReport]] = report
        self._notes: dict[str, Any] = {}
        self._found: Union[RenderReport, Exception, None] = None

    def is_over(self) -> bool:
        """Whether `finished` need not wait."""
        return self._delivery.is_over()

    def finished(self) -> RenderReport:
        """Wait until the planes are whole; raises what the device reports, `ModelError` for a matte
        with values that are not finite, and `OutOfMemoryError`."""
        self.settle()
        if isinstance(self._found, Exception):
            raise self._found
        assert self._found is not None
        notes = {**self._found.notes, **self._notes}
        return replace(self._found, notes=notes, timings_ms=self._clock.timings_ms)

    def settle(self) -> None:
        """Wait as `finished` does, which gives the same later, and let go of the frame's memory."""
        report, self._report = self._report, None
        if report is None:
            return
        try:
            with self._clock("write"):
                arrays = self._delivery.wait()
            self._found = report(arrays)
        except Exception as error:
            if isinstance(error, MattebridgeError):  # of any other one the log says where
                let_go(error)
            self._found = error

    def drop(self) -> None:
        """Wait until nothing writes into the planes; the frame is not wanted any more."""
        self._report = None
        self._delivery.wait()

    def add_notes(self, **notes: Any) -> StartedFrame:
        """The same, with more notes in its report."""
        self._notes |= notes
        return self


@dataclass(frozen=True)
class Results:
    """The matte of a frame and what was made of it for the planes of `out`.

    model_time: where the device was not waited for.
    """

    made: InferredFrame
    finished: FinishedFrame
    prepared: PreparedFrame
    out: Mapping[str, Pixels]
    crossing: Crossing
    clock: Clock
    model_time: Optional[DeviceTime] = None

    @property
    def looked_at(self) -> list[Tensor]:
        """Of the matte, then of the results."""
        laters = (self.made.later, self.finished.later)
        return [image for later in laters if later is not None for image in later.looked_at]

    @torch.inference_mode()
    def report(self, arrays: Sequence[FloatImage]) -> RenderReport:
        """What is reported of the frame, whose planes are whole; arrays: of `looked_at`.

        Where the matte changes, the results are made and copied once more.
        """
        made, finished = self.made, self.finished
        self._count_model_time()
        if made.later is not None:
            of_matte = len(made.later.looked_at)
            with self.clock("model"):
                known = made.later.settle(arrays[:of_matte])
            if not known.has_images_of(made):
                return self.made_again(known)
            made, arrays = known, arrays[of_matte:]
        if finished.later is not None:
            finished = finished.later.settle(arrays)
        return report_of(self.prepared, made, finished, self.clock)

    def reported(
        self,
        arrays: Sequence[FloatImage],
        matte_again: Callable[[], InferredFrame],
        room: Iterable[str],
        free_bytes: Callable[[], Optional[int]],
    ) -> RenderReport:
        """`report`. Where memory is short for a matte that changes, it is computed once more, of
        the planes as they were read. room, free_bytes: see `first_that_fits`."""
        card = self.prepared.request.card
        text = frame_text(self.prepared.plate.pixels, card)
        is_settled = False

        def attempt() -> RenderReport:
            nonlocal is_settled
            with memory_errors(text, SMALLER):
                if is_settled:
                    return self.made_again(matte_again())
                is_settled = True
                return self.report(arrays)

        report, steps = first_that_fits(attempt, room, needed_bytes=None, free_bytes=free_bytes)
        return replace(report, notes={**report.notes, "memory": list(steps)}) if steps else report

    @torch.inference_mode()
    def made_again(self, made: InferredFrame) -> RenderReport:
        """The same of another matte of this frame, which is known."""
        targets = targets_for(self.out, torch.device(made.alpha.device))
        with self.clock("finish"):
            finished = postprocess(made, self.prepared, targets)
        with self.clock("write"):
            self.crossing.deliver(targets, self.out).wait()
        return report_of(self.prepared, made, finished, self.clock)

    def _count_model_time(self) -> None:
        """The model's time is the device's; the host spent the end of it waiting for results."""
        if self.model_time is not None:
            self.clock.set("model", self.model_time.seconds(), "write")


def report_of(
    prepared: PreparedFrame, made: InferredFrame, finished: FinishedFrame, clock: Clock
) -> RenderReport:
    """What the reply says of a finished frame."""
    card, notes = prepared.request.card, dict(prepared.notes)
    spaces = (prepared.request.space, prepared.request.output_space)
    for config in {space.config for space in spaces if space.config is not None}:
        notes["color"] = config.described()
    in_main_memory = {space.name: space.reason for space in spaces if space.reason}
    if in_main_memory:
        notes["color"]["in_main_memory"] = in_main_memory
    if made.notes:
        notes["model"] = dict(made.notes)
    if finished.clean_up:
        notes["clean_up"] = dict(finished.clean_up)
    if finished.clamped:
        notes["clamped"] = dict(finished.clamped)
    # The alignment uses a hint as well, to leave the subject out.
    used = "alignment" in notes or prepared.request.params.hint_sharpen
    if "alpha_hint" in prepared.mattes and not (card.takes_alpha_hint or used):
        notes["ignored"] = ["alpha_hint"]
    degraded = (*prepared.degraded, *made.degraded)
    return RenderReport(card.name, card.digest, degraded, notes, clock.timings_ms)
