"""The planes of a request as pictures on the frame's device: private, finite, straight, aligned.

    planes --read--> float32 --[checkpoint]--> finite --> straight --> clean plate fitted
             (clean plate: the kept one with the same pixels, or read like the plate)

Rule: the planes belong to the host and may change at any time. They are read once, into private
memory, and never again. Nothing is concluded from their values before the checkpoint has confirmed
that they were not written to meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.color import Pixels
from mattebridge.engine.align import MatchedCleanPlate, SearchAhead, matched_clean_plate
from mattebridge.engine.blocks import extremes
from mattebridge.engine.clean_plates import CleanPlateKey, CleanPlates, KeptCleanPlate
from mattebridge.engine.clock import Clock
from mattebridge.engine.crossing import SentPlanes
from mattebridge.engine.device import raw_of
from mattebridge.engine.look import Looks, is_looked_at_small, subject_of
from mattebridge.engine.picture import Picture, same_picture
from mattebridge.engine.request import FrameRequest
from mattebridge.engine.samples import (
    is_finite,
    made_finite,
    negatives,
    picture_of,
    plane_of,
    plate_alpha_of,
    straight,
)
from mattebridge.errors import NonFiniteError
from mattebridge.models.base import SmallImages
from mattebridge.wire.params import MATTE_ROLES

if TYPE_CHECKING:
    from mattebridge.clean_plate.on_device import Looked


@dataclass(frozen=True)
class PreparedFrame:
    """One frame on its device, ready for its model.

    plate, clean_plate: finite and straight; the clean plate as fitted to the plate, None without
    one. outside: (H, W) bool, where the clean plate does not cover the plate, or None. unfitted:
    the clean plate before, where that changed it. mattes:
    alpha_hint, garbage_matte, core_matte, as far as they were sent, (H, W) float32 0..1. notes: for
    the reply. degraded: labels of what was asked for and not reached. of_clean_plate,
    small: see `ModelInput`. looked: the plate as alignment looks at it, where that was fetched from
    a GPU with its range.
    """

    request: FrameRequest
    plate: Picture
    clean_plate: Optional[Picture]
    outside: Optional[Tensor]
    mattes: Mapping[str, Tensor]
    notes: Mapping[str, Any]
    degraded: tuple[str, ...] = ()
    unfitted: Optional[Picture] = None
    of_clean_plate: Optional[MutableMapping[str, Any]] = None
    looked: Optional[Looked] = None
    small: Optional[SmallImages] = None


@torch.inference_mode()
def preprocess(
    planes: Mapping[str, Pixels],
    request: FrameRequest,
    device: torch.device,
    clean_plates: CleanPlates,
    *,
    checkpoint: Checkpoint = no_checkpoint,
    clock: Optional[Clock] = None,
) -> PreparedFrame:
    """The frame of a request that `check_request` has accepted, on its device.

    planes: see `Engine.matte`. `checkpoint("inputs")` is called once every plane has been read.
    Raises `NonFiniteError` with the counts under the policy `error`; under `zero` NaN and
    infinities become 0 and are counted in the notes.
    """
    clock = clock or Clock()
    with clock("inputs"):
        frame, clean_plate = read_frame(planes, request, device, clean_plates, checkpoint)
    with clock("align"):
        return with_clean_plate(frame, fitted(frame, clean_plate, checkpoint))


@torch.inference_mode()
def read_frame(
    planes: Mapping[str, Pixels],
    request: FrameRequest,
    device: torch.device,
    clean_plates: CleanPlates,
    checkpoint: Checkpoint = no_checkpoint,
    sent: Optional[SentPlanes] = None,
    known: Sequence[Picture] = (),
    looks: Optional[Looks] = None,
) -> tuple[PreparedFrame, Optional[KeptCleanPlate]]:
    """The first half of `preprocess`: the frame without its clean plate, and that one, not fitted
    yet. sent: planes that are on the device, or on their way there. known: plates of before in the
    request's space, one of which this one may be. looks: of the planes that were sent."""
    read = _read(planes, request, device, clean_plates, sent, known, looks)
    checkpoint("inputs")
    if read.clean_plate is not None:
        clean_plates.keep(read.clean_plate)
    return _prepared(read, request), read.clean_plate


@torch.inference_mode()
def fitted(
    frame: PreparedFrame,
    clean_plate: Optional[KeptCleanPlate],
    checkpoint: Checkpoint = no_checkpoint,
    search: Optional[SearchAhead] = None,
) -> MatchedCleanPlate:
    """The second half: the clean plate as it is fitted to the plate. search: what was begun for it
    ahead."""
    subject, request = subject_of(frame.mattes), frame.request
    return matched_clean_plate(
        frame.plate, clean_plate, subject, request, checkpoint, search, frame.looked
    )


def with_clean_plate(frame: PreparedFrame, matched: MatchedCleanPlate) -> PreparedFrame:
    """A frame as it was read, with its fitted clean plate."""
    # What was looked at is the hint's, where nothing else shows the subject.
    is_hint = "core_matte" not in frame.mattes
    return replace(
        frame,
        looked=None,
        small=matched.small if is_hint else None,
        clean_plate=matched.picture,
        outside=matched.outside,
        unfitted=matched.unfitted,
        of_clean_plate=matched.found,
        notes={**frame.notes, **matched.notes},
        degraded=matched.degraded,
    )


@dataclass(frozen=True)
class _Read:
    """The planes of a request as they were read, their values not checked yet.

    images: plate (H, W, 3), and (H, W): plate_alpha, where it counts, and the mattes. ranges: the
    lowest and highest value of each. looked: see `PreparedFrame`.
    """

    images: Mapping[str, Tensor]
    clean_plate: Optional[KeptCleanPlate]
    ranges: Mapping[str, tuple[float, float]]
    looked: Optional[Looked] = None


def _read(
    planes: Mapping[str, Pixels],
    request: FrameRequest,
    device: torch.device,
    clean_plates: CleanPlates,
    sent: Optional[SentPlanes],
    known: Sequence[Picture],
    looks: Optional[Looks],
) -> _Read:
    """Read every plane once; integers become fractions of their maximum."""

    def raw_plane(role: str) -> Tensor:
        nonlocal looks
        raw = None if sent is None else sent.take(role)
        if raw is None:
            looks = None  # the copy that begins now is to be waited for
            return raw_of(planes[role], device)
        return raw

    params, kept = request.params, None
    if "clean_plate" in planes:
        key = CleanPlateKey.of(planes["clean_plate"], planes["plate"].shape[:2], request)
        kept = clean_plates.find(planes["clean_plate"], key)
        if kept is None:
            kept = KeptCleanPlate(planes["clean_plate"], key, device)
            looks = None  # its copy is to be waited for
    raw = raw_plane("plate")
    alpha = plate_alpha_of(raw, params.plate_alpha)
    # A plate with alpha is divided by it in place.
    before = tuple(known) if alpha is None else ()
    images = {"plate": picture_of(raw, [picture.pixels for picture in before])}
    if alpha is not None:
        images["plate_alpha"] = alpha
    for role in MATTE_ROLES:
        if role in planes:
            images[role] = plane_of(raw_plane(role), 0)
    ranges = {}
    for picture in before:
        if picture.pixels is images["plate"]:
            ranges["plate"] = picture.lowest, picture.highest
    unknown = {role: image for role, image in images.items() if role not in ranges}
    if device.type == "cpu":
        ranges.update(zip(unknown, extremes(*unknown.values()) if unknown else ()))
        return _Read(images, kept, ranges)
    small = is_looked_at_small(kept, request, images["plate"].shape)
    if looks is None or (small and not looks.has_small):
        looks = Looks.begin(images, request, small=small)
        looks.fetched.wait()  # behind it, everything has been read
    return _Read(images, kept, {**looks.ranges(), **ranges}, looks.looked())


def _prepared(read: _Read, request: FrameRequest) -> PreparedFrame:
    """Finite and straight, in place; the clean plate is not fitted yet."""
    params, kept = request.params, read.clean_plate
    roles = [role for role in MATTE_ROLES if role in read.images]
    counts = {"plate": _made_finite(read, "plate") + _made_finite(read, "plate_alpha")}
    if kept is not None:
        counts["clean_plate"] = kept.nonfinite_values
    counts.update((role, _made_finite(read, role)) for role in roles)
    _check_finite(counts, params.nonfinite)
    plate = _plate(read, request)
    mattes = {role: read.images[role].clamp_(0, 1) for role in roles}
    below = {"plate": negatives(plate.pixels, plate.lowest)}
    if kept is not None:
        below["clean_plate"] = kept.negative_values
    notes = _counts(nonfinite=counts, negative=below)
    if kept is not None and kept.key.is_resampled:
        height, width = kept.key.shape[:2]
        notes["clean_plate_resampled_from"] = [width, height]
    if kept is not None and same_picture(plate, kept.picture):
        notes["clean_plate_is_the_plate"] = True
    return PreparedFrame(request, plate, None, None, mattes, notes, looked=read.looked)


def _made_finite(read: _Read, name: str) -> int:
    """Set NaN and infinities of an image to 0 in place; how many there were."""
    if name not in read.images or is_finite(read.ranges[name]):
        return 0
    return made_finite(read.images[name])


def _check_finite(counts: Mapping[str, int], policy: str) -> None:
    total = sum(counts.values())
    if total and policy == "error":
        found = ", ".join(f"{role} {count}" for role, count in counts.items() if count)
        raise NonFiniteError(
            f"{total} values are NaN or infinite ({found}) - repair them upstream, or set"
            " nonfinite to 'zero'",
            count=total,
            planes={role: count for role, count in counts.items() if count},
        )


def _plate(read: _Read, request: FrameRequest) -> Picture:
    """The plate, straight; its range is looked for again where it may have changed."""
    plate, alpha = read.images["plate"], read.images.get("plate_alpha")
    plate_alpha = request.params.plate_alpha
    straight(plate, alpha, plate_alpha, request.space)
    if is_finite(read.ranges["plate"]) and plate_alpha != "premultiplied":
        return Picture(plate, request.space, *read.ranges["plate"])
    return Picture.of(plate, request.space)


def _counts(**by_name: Mapping[str, int]) -> dict[str, Any]:
    """The counts that are not 0, as notes."""
    found = {
        name: {role: count for role, count in counts.items() if count}
        for name, counts in by_name.items()
    }
    return {name: counts for name, counts in found.items() if counts}
