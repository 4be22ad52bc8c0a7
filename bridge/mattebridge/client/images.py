"""The arrays that a caller gives, checked, and where each plane lies in an arena."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mattebridge.client.matte import Pixels
from mattebridge.errors import DtypeError, InputsError, MessageError
from mattebridge.wire.params import INPUT_CHANNELS, OUTPUT_CHANNELS, OUTPUT_DTYPES
from mattebridge.wire.planes import Plane
from mattebridge.wire.slots import PlaneSpec, place

WIRE_DTYPES = {"uint8": "u1", "uint16": "u2", "float16": "f2", "float32": "f4"}


def as_image(role: str, pixels: Pixels) -> Pixels:
    """The pixels as (H, W, C) of a dtype the wire has; a view wherever possible."""
    image = np.asarray(pixels)
    if image.ndim == 2 and INPUT_CHANNELS[role] == (1,):
        image = image[..., np.newaxis]
    if image.ndim != 3 or image.shape[2] not in INPUT_CHANNELS[role]:
        channels = " or ".join(map(str, INPUT_CHANNELS[role]))
        raise InputsError(
            f"{role} must be an array of height x width x {channels}; got shape "
            f"{tuple(np.shape(pixels))}",
            field=role,
        )
    if image.shape[0] == 0 or image.shape[1] == 0:
        raise InputsError(f"{role} is empty: shape {image.shape}", field=role)
    if image.dtype == np.float64:
        return image.astype(np.float32)
    if image.dtype.name not in WIRE_DTYPES or not image.dtype.isnative:
        raise DtypeError(
            f"{role} has samples of type {image.dtype}; convert it to uint8, uint16, float16 or "
            "float32",
            field=role,
        )
    return image


def output_specs(outputs: Sequence[str], dtype: str, out: Mapping[str, Pixels]) -> list[PlaneSpec]:
    if isinstance(outputs, str) or not outputs:
        raise MessageError(
            "outputs is a list of names out of " + ", ".join(OUTPUT_CHANNELS), field="outputs"
        )
    specs = []
    for role in outputs:
        if role not in OUTPUT_CHANNELS:
            raise MessageError(
                f"there is no output {role!r}; there are {', '.join(OUTPUT_CHANNELS)}",
                field="outputs",
            )
        name = np.asarray(out[role]).dtype.name if role in out else dtype
        wire = WIRE_DTYPES.get(name, name)
        if wire not in OUTPUT_DTYPES:
            raise DtypeError(f"outputs come as float16 or float32, not {name}", field="outputs")
        specs.append(PlaneSpec(role, OUTPUT_CHANNELS[role][0], wire))
    return specs


def check_out(
    out: Mapping[str, Pixels], specs: Sequence[PlaneSpec], height: int, width: int
) -> None:
    """Raise unless each array to fill can take its result as it is."""
    channels = {spec.role: spec.channels for spec in specs}
    for role, target in out.items():
        if role not in channels:
            raise InputsError(
                f"an array is given for {role!r}, which is not among the outputs", field=role
            )
        shapes: list[tuple[int, ...]] = [(height, width, channels[role])]
        if channels[role] == 1:
            shapes.append((height, width))
        if not isinstance(target, np.ndarray) or target.shape not in shapes:
            raise InputsError(
                f"the array for {role} must be of shape {shapes[0]}; got {np.shape(target)}",
                field=role,
            )
        if not target.flags.writeable:
            raise InputsError(f"the array for {role} is read-only", field=role)


def place_each(
    images: Mapping[str, Pixels],
    specs: Sequence[PlaneSpec],
    outputs: Sequence[PlaneSpec],
    width: int,
    height: int,
) -> list[Plane]:
    """Places for all planes; inputs of another size than the plate are refused here already."""
    for role, image in images.items():
        if image.shape[:2] != (height, width):
            raise InputsError(
                f"the plate is {width}x{height} and the {role.replace('_', ' ')} is "
                f"{image.shape[1]}x{image.shape[0]}: bring both to one size",
                field=role,
                plate=[width, height],
                found=[image.shape[1], image.shape[0]],
            )
    return place(width, height, [*specs, *outputs])
