"""Whether a request can be rendered: its planes, their sizes, the limits, what the model needs.

Everything is decided from shapes, types and the model's card, before anything is allocated or any
pixel is read. This is the engine's border: behind it sizes are not checked again, and models trust
their input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional, Union

from mattebridge.color import Pixels
from mattebridge.engine.render_scale import scale_between
from mattebridge.errors import DtypeError, GeometryError, InputsError, ModelError, TooLargeError
from mattebridge.models.base import ModelCard
from mattebridge.ocio.space import ColorSpace, Spaces
from mattebridge.wire.params import (
    EXTRA_OUTPUTS,
    INPUT_CHANNELS,
    INPUT_DTYPES,
    OUTPUT_CHANNELS,
    OUTPUT_DTYPES,
    RenderParams,
    one_of_role,
    role_in_words,
)

if TYPE_CHECKING:
    from torch import Tensor

# Float copies of plate and clean plate in both spaces and as the model sees them, the clean plate
# as it was sent and as it was matched: measured 95 to 147 at UHD.
ENGINE_BYTES_PER_PIXEL = 144


@dataclass(frozen=True)
class FrameRequest:
    """What is wanted of a frame, and of whom.

    settings: all of the card's schema. clean_plate_key: see `CleanPlateKey.content`. spaces:
    where the colour spaces of the params are found.
    """

    card: ModelCard
    params: RenderParams
    settings: Mapping[str, Any]
    frame: Optional[int] = None
    clean_plate_key: Optional[str] = None
    spaces: Spaces = field(default_factory=Spaces, repr=False)

    @property
    def space(self) -> ColorSpace:
        """That of plate and clean plate; raises `ColorError` for an unknown name."""
        return self.spaces.of(self.params.colorspace)

    @property
    def output_space(self) -> ColorSpace:
        """That of the colour results; raises `ColorError` for an unknown name."""
        name = self.params.output_colorspace or self.params.colorspace
        return self.spaces.of_results(name, self.space)


@dataclass(frozen=True)
class FrameLimits:
    """What one frame may take; memory_bytes None: no limit."""

    max_pixels: int = 2**28
    memory_bytes: Optional[int] = None


def check_request(
    planes: Mapping[str, Pixels],
    out: Mapping[str, Pixels],
    card: ModelCard,
    params: RenderParams,
    limits: FrameLimits,
    *,
    held: bool = False,
) -> None:
    """Raise the error of a request that cannot be rendered; no pixel is read.

    held: the clean plate is held by the daemon, and may be larger than the frame by one scale.
    Raises `InputsError` for a plane that is missing, unknown or of another size than the plate,
    `GeometryError`, `DtypeError`, `TooLargeError`, and `ModelError` for an output that the model
    does not give.
    """
    if "plate" not in planes:
        raise InputsError("the request holds no plate", field="plate")
    _check_layouts("in", planes, INPUT_CHANNELS, INPUT_DTYPES)
    _check_layouts("out", out, OUTPUT_CHANNELS, OUTPUT_DTYPES)
    _check_size_limits(planes["plate"], card, limits)
    _check_sizes(planes, out, card, held=held)
    _check_needs(planes, card, params)
    for role in EXTRA_OUTPUTS:
        if role in out and role not in card.extra_outputs:
            raise ModelError(
                f"model '{card.name}' gives no {role} map - leave '{role}' out of the outputs",
                reason="output",
            )


def _check_layouts(
    side: str,
    planes: Mapping[str, Pixels],
    channels: Mapping[str, tuple[int, ...]],
    dtypes: tuple[str, ...],
) -> None:
    for role, plane in planes.items():
        if role not in channels:
            raise InputsError(
                f"'{role}' is not a plane of a request; there are: {', '.join(channels)}",
                field=side,
            )
        if plane.ndim != 3 or plane.shape[2] not in channels[role] or 0 in plane.shape:
            wanted = " or ".join(str(count) for count in channels[role])
            raise GeometryError(
                f"{role} must be height x width x {wanted}; got {plane.shape}", field=role
            )
        if plane.dtype.str[1:] not in dtypes or not plane.dtype.isnative:
            raise DtypeError(
                f"{role} must be one of {', '.join(dtypes)}; got {plane.dtype}", field=role
            )


def _check_size_limits(plate: Pixels, card: ModelCard, limits: FrameLimits) -> None:
    pixels = plate.shape[0] * plate.shape[1]
    if pixels > limits.max_pixels:
        raise TooLargeError(
            f"a plate of {size_text(plate)} has {pixels} pixels; the limit is {limits.max_pixels}"
            " - use a smaller proxy or crop",
            limit=limits.max_pixels,
        )
    needed = needed_bytes(plate, card)
    if limits.memory_bytes is not None and needed > limits.memory_bytes:
        raise TooLargeError(
            f"a plate of {size_text(plate)} with model '{card.name}' needs about"
            f" {needed / 2**30:.1f} GiB of memory; {limits.memory_bytes / 2**30:.1f} GiB may be"
            " used - use a smaller proxy or crop",
            limit=limits.memory_bytes,
            needed=needed,
        )


def needed_bytes(plate: Pixels, card: ModelCard) -> int:
    """About the memory that a frame of the plate's size takes with a model."""
    pixels = plate.shape[0] * plate.shape[1]
    return pixels * (ENGINE_BYTES_PER_PIXEL + card.bytes_per_pixel)


def _check_sizes(
    planes: Mapping[str, Pixels], out: Mapping[str, Pixels], card: ModelCard, *, held: bool
) -> None:
    plate = planes["plate"]
    for role, plane in planes.items():
        if plane.shape[:2] == plate.shape[:2]:
            continue
        if not (held and role == "clean_plate"):
            wants = f"model '{card.name}' needs" if role in card.needs else "the request wants"
            raise _wrong_size(
                role,
                planes,
                f"{wants} {one_of_role(role)} of {size_text(plate)}; got {size_text(plane)}"
                f" - reformat the {role_in_words(role)}",
            )
        if scale_between(plane.shape[:2], plate.shape[:2]) is None:
            raise _wrong_size(
                role,
                planes,
                f"the frame is {size_text(plate)} and the held clean plate {size_text(plane)}, and"
                " no single scale below 0.95, the same in both directions, makes one of the other"
                " - hold it at the plate's full size, and render at one scale",
            )
    for role, plane in out.items():
        if plane.shape[:2] != plate.shape[:2]:
            raise GeometryError(
                f"output {role} must be of the plate's size {size_text(plate)};"
                f" got {size_text(plane)}",
                field=role,
            )


def _wrong_size(role: str, planes: Mapping[str, Pixels], message: str) -> InputsError:
    plate, plane = planes["plate"], planes[role]
    return InputsError(
        message,
        field=role,
        plate_size=[plate.shape[1], plate.shape[0]],
        got_size=[plane.shape[1], plane.shape[0]],
    )


def _check_needs(planes: Mapping[str, Pixels], card: ModelCard, params: RenderParams) -> None:
    size = size_text(planes["plate"])
    for role in card.needs:
        if role not in planes:
            raise InputsError(
                f"model '{card.name}' needs {one_of_role(role)} of {size}; got none - connect one",
                field=role,
            )
    if params.hint_sharpen and "alpha_hint" not in planes:
        raise InputsError(
            f"hint_sharpen needs an alpha hint of {size}; got none - connect one, or turn it off",
            field="alpha_hint",
        )
    if params.foreground == "unmix" and "clean_plate" not in planes:
        raise InputsError(
            f"foreground 'unmix' needs a clean plate of {size}; got none - connect one,"
            " or use foreground 'model'",
            field="clean_plate",
        )
    if params.plate_alpha != "opaque" and planes["plate"].shape[2] != 4:
        raise InputsError(
            f"plate_alpha '{params.plate_alpha}' needs a plate with an alpha channel; got RGB"
            " - send RGBA, or use plate_alpha 'opaque'",
            field="plate",
        )


def frame_text(plate: Union[Pixels, Tensor], card: ModelCard) -> str:
    """A frame with this plate (H, W, ...) and its model, for sentences about its memory."""
    return f"a frame of {size_text(plate)} with model '{card.name}'"


def size_text(plane: Union[Pixels, Tensor]) -> str:
    return f"{plane.shape[1]}x{plane.shape[0]}"
