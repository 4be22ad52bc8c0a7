"""The last frames as their models made them: other parameters of the finish cost the finish alone.

    frame as read --find--> KeptFrame --------------------------> finish --> planes
             `--(none)----> fit, infer --keep--> KeptFrame          ^
                                                   `-- result: the planes of its last finish

Who drags a despill slider sends the same pictures again and again. Two things are kept of a frame:
the fitted clean plate with what the model made of it, which serves every parameter that acts behind
the model (`Param.after_model`), and the planes of its last finish, which serve the same request.

The rule that must not be broken: a kept frame is found by what it was made from. That is the pixels
as they were read into private memory for this very request, compared bit for bit, the clean plate
among those that are kept, the model's card with the digest of its weights, all parameters but those
that act behind the model, and the frame's number. So what is found has the bits of what would be
computed. A frame is kept once its model has given finite values; an error is never kept.

What is kept is private to this process: clients cannot reach it. It is dropped, the least recently
used first, when its budget is used up, when memory is short for the next frame, and when its clean
plate is no longer kept.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional

import torch
from torch import Tensor

from mattebridge.engine.align import MatchedCleanPlate
from mattebridge.engine.clean_plates import KeptCleanPlate
from mattebridge.engine.infer import InferredFrame
from mattebridge.engine.picture import Picture, same_picture, same_pixels
from mattebridge.engine.postprocess import FinishedFrame
from mattebridge.engine.preprocess import PreparedFrame, with_clean_plate
from mattebridge.engine.request import FrameRequest
from mattebridge.ocio.space import ColorSpace
from mattebridge.wire.params import BEFORE_MODEL_NAMES, MATTE_ROLES, OUTPUT_CHANNELS, RenderParams

# Mattes that act behind the model alone, as `Param.after_model` says of parameters.
_MATTES_BEHIND = ("garbage_matte",)
_MATTES_BEFORE = tuple(role for role in MATTE_ROLES if role not in _MATTES_BEHIND)

Targets = Mapping[str, Tensor]


@dataclass(frozen=True)
class KeptResult:
    """The planes of one finish in private memory on the device, and what asked for them."""

    params: RenderParams
    behind: Mapping[str, Tensor]
    targets: Targets
    finished: FinishedFrame

    def answers(self, prepared: PreparedFrame, wanted: Mapping[str, torch.dtype]) -> bool:
        """Whether these are the planes of a frame: same parameters, mattes and sample types."""
        return (
            self.params == prepared.request.params
            and _types(self.targets) == wanted
            and _same_images(self.behind, _mattes(prepared, _MATTES_BEHIND))
        )


@dataclass(eq=False)
class KeptFrame:
    """What a model made of a frame, and what it was made from."""

    origin: tuple[Any, ...]
    plate: Picture
    mattes: Mapping[str, Tensor]
    clean_plate: Optional[weakref.ref[KeptCleanPlate]]
    matched: MatchedCleanPlate
    made: InferredFrame
    result: Optional[KeptResult] = None

    def is_of(self, frame: PreparedFrame, clean_plate: Optional[KeptCleanPlate]) -> bool:
        """Whether a model would be shown the same; the cheap comparisons come first."""
        return (
            self.can_be_found
            and self._clean_plate is clean_plate
            and self.origin == _origin(frame.request)
            and same_picture(self.plate, frame.plate)
            and _same_images(self.mattes, _mattes(frame, _MATTES_BEFORE))
        )

    def prepared(self, frame: PreparedFrame) -> PreparedFrame:
        """A frame that this one is of, with the clean plate as fitted; no picture is computed
        again."""
        return with_clean_plate(replace(frame, plate=self.plate), self.matched)

    @property
    def can_be_found(self) -> bool:
        """Whether its clean plate is still there."""
        return self.clean_plate is None or self._clean_plate is not None

    @property
    def _clean_plate(self) -> Optional[KeptCleanPlate]:
        return None if self.clean_plate is None else self.clean_plate()

    def tensors(self) -> Iterator[Tensor]:
        """All that it holds; the clean plate's own pictures are those of `CleanPlates`."""
        yield from self.plate.tensors()
        kept, fitted = self._clean_plate, self.matched.picture
        if fitted is not None and not (kept is not None and fitted is kept.picture):
            yield from fitted.tensors()
        yield from self.mattes.values()
        if self.matched.outside is not None:
            yield self.matched.outside
        yield from (self.made.alpha, self.made.foreground, *self.made.extra.values())

    @property
    def size_bytes(self) -> int:
        return _bytes_of(self.tensors())

    @property
    def result_bytes(self) -> int:
        result = self.result
        return (
            0 if result is None else _bytes_of([*result.behind.values(), *result.targets.values()])
        )


@dataclass
class KeptFrames:
    """The last frames of a device within a budget of bytes; `hits` counts what was found."""

    budget_bytes: int
    count: int = 8
    hits: dict[str, int] = field(default_factory=lambda: {"mattes": 0, "results": 0})
    _kept: list[KeptFrame] = field(default_factory=list)

    def plates(self, space: ColorSpace) -> list[Picture]:
        """The plates of the kept frames in a space, the last used first."""
        return [kept.plate for kept in reversed(self._kept) if kept.plate.space is space]

    @torch.inference_mode()
    def find(
        self, frame: PreparedFrame, clean_plate: Optional[KeptCleanPlate]
    ) -> Optional[KeptFrame]:
        """The kept frame that this one would become; now it is the last used."""
        found = next(
            (kept for kept in reversed(self._kept) if kept.is_of(frame, clean_plate)), None
        )
        if found is not None:
            self._kept.remove(found)
            self._kept.append(found)
            self.hits["mattes"] += 1
        return found

    def keep(
        self,
        frame: PreparedFrame,
        clean_plate: Optional[KeptCleanPlate],
        matched: MatchedCleanPlate,
        made: InferredFrame,
    ) -> KeptFrame:
        """Keep what was made of a frame, as the last used."""
        self._kept.append(
            KeptFrame(
                _origin(frame.request),
                frame.plate,
                _mattes(frame, _MATTES_BEFORE),
                None if clean_plate is None else weakref.ref(clean_plate),
                matched,
                made,
            )
        )
        return self._kept[-1]

    @torch.inference_mode()
    def result_of(
        self, kept: KeptFrame, prepared: PreparedFrame, wanted: Mapping[str, torch.dtype]
    ) -> Optional[KeptResult]:
        """The planes of a kept frame, where they are those of this request."""
        if kept.result is None or not kept.result.answers(prepared, wanted):
            return None
        self.hits["results"] += 1
        return kept.result

    def memory_for(self, kept: KeptFrame, wanted: Mapping[str, torch.dtype]) -> dict[str, Tensor]:
        """Private memory for the planes of a kept frame: that of its last ones, which it loses."""
        before, kept.result = kept.result, None
        if before is not None and _types(before.targets) == wanted:
            return dict(before.targets)
        shape, device = kept.made.alpha.shape, kept.made.alpha.device
        return {
            role: torch.empty((*shape, OUTPUT_CHANNELS[role][0]), dtype=dtype, device=device)
            for role, dtype in wanted.items()
        }

    def keep_result(
        self, kept: KeptFrame, prepared: PreparedFrame, targets: Targets, finished: FinishedFrame
    ) -> None:
        """Keep the planes of a frame; `targets` must be memory that nothing else writes to."""
        behind = _mattes(prepared, _MATTES_BEHIND)
        kept.result = KeptResult(prepared.request.params, behind, targets, finished)

    def trim(self) -> None:
        """Drop what cannot be found any more and what is over the budget, oldest first."""
        self._kept = [kept for kept in self._kept if kept.can_be_found][-self.count :]
        for kept in tuple(self._kept):
            if self.size_bytes > self.budget_bytes:
                kept.result = None
            if self.size_bytes > self.budget_bytes:
                self._kept.remove(kept)

    def make_room(self, needed_bytes: int, free_bytes: Callable[[], Optional[int]]) -> bool:
        """Drop all where less than this is free; whether anything was dropped."""
        free = free_bytes() if self._kept else None
        if free is None or free >= needed_bytes:
            return False
        self.clear()
        return True

    def forget_model(self, name: str) -> None:
        """Drop the frames of a model."""
        self._kept = [kept for kept in self._kept if kept.origin[0].name != name]

    def clear(self) -> None:
        self._kept.clear()

    @property
    def matte_bytes(self) -> int:
        """What the models' mattes take, with the pictures that they are found and finished by."""
        return sum(kept.size_bytes for kept in self._kept)

    @property
    def result_bytes(self) -> int:
        """What the finished planes take."""
        return sum(kept.result_bytes for kept in self._kept)

    @property
    def size_bytes(self) -> int:
        return self.matte_bytes + self.result_bytes

    def __len__(self) -> int:
        return len(self._kept)


def _origin(request: FrameRequest) -> tuple[Any, ...]:
    """What a model's matte depends on besides pixels; a new parameter is part of it by itself."""
    before = tuple(getattr(request.params, name) for name in BEFORE_MODEL_NAMES)
    return request.card, request.space, before, dict(request.settings), request.frame


def _mattes(frame: PreparedFrame, roles: Iterable[str]) -> dict[str, Tensor]:
    return {role: frame.mattes[role] for role in roles if role in frame.mattes}


def _types(targets: Targets) -> dict[str, torch.dtype]:
    return {role: target.dtype for role, target in targets.items()}


def _same_images(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        same_pixels(image, others[role]) for role, image in some.items()
    )


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    """The memory behind some tensors, that of several views once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())
