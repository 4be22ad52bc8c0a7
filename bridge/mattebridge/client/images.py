"""The arrays that a caller gives: checked, and described as the planes of an arena.

Everything that is wrong with an array is refused here, by its role's name, before an arena is taken
and a byte is copied. The daemon checks what it gets again: it trusts no client.

Needs numpy; runs on Python 3.9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from mattebridge.color import Pixels
from mattebridge.errors import DtypeError, InputsError, MessageError
from mattebridge.wire.params import INPUT_CHANNELS, OUTPUT_CHANNELS, OUTPUT_DTYPES
from mattebridge.wire.slots import PlaneSpec

WIRE_DTYPES = {"uint8": "u1", "uint16": "u2", "float16": "f2", "float32": "f4"}
# By the types themselves: to ask one for its name takes as long as all other checks of an array.
_WIRE_TYPES = {np.dtype(name): wire for name, wire in WIRE_DTYPES.items()}


def as_images(given: Mapping[str, Optional[Pixels]]) -> dict[str, Pixels]:
    """The inputs that are not None, checked, by role; all of one size, which is the plate's."""
    images = {
        role: as_image(role, pixels)  # type: ignore[arg-type]
        for role, pixels in given.items()
        if pixels is not None or role == "plate"
    }
    height, width = images["plate"].shape[:2]
    for role, image in images.items():
        if image.shape[:2] != (height, width):
            raise InputsError(
                f"the plate is {width}x{height} and the {role.replace('_', ' ')} is "
                f"{image.shape[1]}x{image.shape[0]}: bring both to one size",
                field=role,
                plate=[width, height],
                found=[image.shape[1], image.shape[0]],
            )
    return images


def as_image(role: str, pixels: Pixels) -> Pixels:
    """The pixels as (H, W, C) of a dtype that the wire has; a view wherever possible."""
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
    if image.dtype not in _WIRE_TYPES:  # whose byte order is the machine's
        raise DtypeError(
            f"{role} has samples of type {image.dtype}; convert it to uint8, uint16, float16 or "
            "float32",
            field=role,
        )
    return image


def wire_dtype(image: Pixels) -> str:
    """The sample type of a checked image, by its name on the wire."""
    return _WIRE_TYPES[image.dtype]


def input_specs(images: Mapping[str, Pixels]) -> list[PlaneSpec]:
    """The planes that checked images need."""
    return [PlaneSpec(role, image.shape[2], wire_dtype(image)) for role, image in images.items()]


def output_specs(outputs: Sequence[str], dtype: str, out: Mapping[str, Pixels]) -> list[PlaneSpec]:
    """The planes of the outputs asked for; one that fills an array in `out` has its type."""
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
    """Raise `InputsError` unless each array to fill can take its result as it is."""
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
