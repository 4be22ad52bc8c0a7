"""Which channels of which part of a file make the picture, by their names and that of the layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from mattebridge.image_io.frame import (
    DTYPES,
    MAX_CHANNELS,
    MAX_PIXELS,
    MAX_SIDE_PX,
    MAX_UNPACKING,
    UNPACKING_BYTES,
    unreadable,
)

# What the names of channels mean, in lower case.
_ROLES = {"r": "R", "red": "R", "g": "G", "green": "G", "b": "B", "blue": "B"}
_ROLES |= {"a": "A", "alpha": "A", "y": "Y", "gray": "Y", "grey": "Y", "luminance": "Y"}
_COLOURS = ("RGBA", "RGB", "YA", "Y")
# What the main part of a multi-part EXR is called, where several hold a picture.
_MAIN_PARTS = ("rgba", "rgb", "")


def too_many_channels(found: str) -> str:
    """Why a file with so many channels is refused."""
    return f"it has more than {MAX_CHANNELS} channels ({found}); write out those of the picture"


class Chosen(NamedTuple):
    """Which channels of which part of a file are the picture, in R, G, B, A order."""

    part: int
    spec: Any
    indices: tuple[int, ...]
    roles: str  # "RGB", "RGBA", "Y", "YA" or "A"
    layers: tuple[str, ...]


class _Layer(NamedTuple):
    """Channels of a part of a file that belong together; name: "" where nothing names them."""

    part: int
    part_name: str
    name: str
    channels: dict[str, int]

    @property
    def full_name(self) -> str:
        return self.name or self.part_name

    def roles(self, wanted: Sequence[str]) -> str:
        """The first of the wanted sets of roles that is there; "" for none."""
        return next((r for r in wanted if all(role in self.channels for role in r)), "")


def choose(path: Path, source: Any, layer: Optional[str], matte: bool) -> Chosen:
    """The channels of an opened file that are read; the reader stands at their part then.

    layer: its name; None for the one that is read by default. matte: a matte is wanted.
    Raises `FrameReadError` where none is there or several could be meant, and for a file whose
    samples are deep, of another type, too many, or far more than its size can hold.
    """
    specs = _parts(path, source)
    layers = [found for number, spec in enumerate(specs) for found in _layers(number, spec)]
    names = sorted({each.full_name if len(specs) > 1 else each.name for each in layers} - {""})
    if layer:
        found, roles = _named(path, layers, layer, names)
    else:
        found, roles = _default(path, layers, matte)
    spec = specs[found.part]
    indices = tuple(found.channels[role] for role in roles) or tuple(found.channels.values())
    _check_spec(path, spec, indices)
    source.seek_subimage(found.part, 0)
    return Chosen(found.part, spec, indices, roles or "A", tuple(names))


def _parts(path: Path, source: Any) -> list[Any]:
    specs: list[Any] = []
    while source.seek_subimage(len(specs), 0):
        specs.append(source.spec())
        # Pages of a TIFF and frames of an animation are separate pictures, not parts of one.
        if source.format_name() != "openexr":
            break
    count = sum(spec.nchannels for spec in specs)
    if count > MAX_CHANNELS:
        raise unreadable(path, too_many_channels(str(count)))
    return specs


def _layers(part: int, spec: Any) -> list[_Layer]:
    """The layers of a part, by the names of its channels ("foreground.R", "A")."""
    layers: dict[str, dict[str, int]] = {}
    for index, name in enumerate(spec.channelnames):
        layer, _, channel = name.rpartition(".")
        role = _ROLES.get(channel.lower(), channel)
        layers.setdefault(layer, {}).setdefault(role, index)
    part_name = str(spec.getattribute("oiio:subimagename") or "")
    return [_Layer(part, part_name, name, channels) for name, channels in layers.items()]


def _named(
    path: Path, layers: Sequence[_Layer], wanted: str, names: Sequence[str]
) -> tuple[_Layer, str]:
    """The layer of a name, else the picture of the part of that name, and its roles."""
    found = [each for each in layers if each.name == wanted]
    found = found or [e for e in layers if e.part_name == wanted and not e.name]
    found = found or [e for e in layers if e.part_name == wanted and e.roles(_COLOURS)]
    have = ", ".join(names) or ", ".join(name for each in layers for name in each.channels)
    if not found:
        raise unreadable(path, f"it has no layer '{wanted}'; it holds: {have}")
    roles = found[0].roles((*_COLOURS, "A"))
    if not roles and len(found[0].channels) > 1:
        raise unreadable(
            path,
            f"its layer '{wanted}' has no R, G, B or A but {', '.join(found[0].channels)};"
            f" it holds: {have}",
        )
    return found[0], roles


def _default(path: Path, layers: Sequence[_Layer], matte: bool) -> tuple[_Layer, str]:
    """The layer that is read where none is named, and its roles; never one of several by chance."""
    bare = [each for each in layers if not each.name]
    if matte:
        # Alpha is what a matte is: an unnamed A counts as much as colours.
        found = [each for each in bare if each.roles((*_COLOURS, "A"))]
    else:
        found = [each for each in bare if each.roles(_COLOURS)]
    if len(found) > 1:
        found = [each for each in found if each.part_name.lower() in _MAIN_PARTS] or found
    found = found or [each for each in layers if each.roles(_COLOURS)]
    # A file with one layer only may also hold it as A or under any other name.
    found = found or [e for e in bare if e.roles("A")]
    found = found or [e for e in layers if e.roles("A") or len(e.channels) == 1]
    if len(found) == 1 and (found[0].roles((*_COLOURS, "A")) or len(layers) == 1):
        return found[0], found[0].roles((*_COLOURS, "A"))
    names = sorted({each.full_name for each in layers} - {""})
    if names:
        why = "several layers and none of them unnamed" if found else "no layer in colour"
        option = "--hint-layer" if matte else "--layer (of a clean plate --clean-plate-layer)"
        raise unreadable(path, f"it has {why}: {', '.join(names)}; choose one with {option}")
    have = ", ".join(name for each in layers for name in each.channels)
    raise unreadable(path, f"it has no R, G, B or A channels; it holds: {have}")


def _check_spec(path: Path, spec: Any, indices: Sequence[int]) -> None:
    if spec.deep:
        raise unreadable(path, "it holds deep samples; flatten it first")
    if str(spec.format) not in DTYPES:
        raise unreadable(path, f"its samples are of type {spec.format}, which is not supported")
    stored, shown = (spec.width, spec.height), (spec.full_width, spec.full_height)
    for width, height in (stored, shown):
        if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
            raise unreadable(path, f"{width}x{height} is over the size limit")
    _check_unpacking(path, spec, len(indices))


def _check_unpacking(path: Path, spec: Any, channels: int) -> None:
    """Refuse a small file that would become gigabytes of pixels."""
    sample = np.dtype(DTYPES[str(spec.format)]).itemsize
    decoded = spec.width * spec.height * spec.nchannels * sample
    placed = spec.full_width * spec.full_height * channels * sample
    size = max(decoded, placed)
    packed = path.stat().st_size
    if size > UNPACKING_BYTES and size > MAX_UNPACKING * packed:
        raise unreadable(
            path,
            f"its {packed / 1e6:.1f} MB claim to be {size / 1e9:.1f} GB of pixels"
            f" ({spec.width}x{spec.height}); if it is right, save it with less compression",
        )
