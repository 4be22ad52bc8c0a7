"""Metadata of a picture: which of it is carried from the plate to the outputs, and how."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses

from mattebridge.image_io.frame import Attribute

# How the file is stored, and what `FrameHeader` has fields for.
_NOT_CARRIED = {
    "compression",
    "planarconfig",
    "orientation",
    "pixelaspectratio",
    "colorinteropid",
    "screenwindowcenter",
    "screenwindowwidth",
    "name",
    "view",
    "type",
    "chunkcount",
    "version",
    "software",
    "resolutionunit",
    "xresolution",
    "yresolution",
    "iccprofile",
    "nuke/node_hash",
}
_NOT_CARRIED_PREFIXES: tuple[str, ...] = (
    *("oiio:", "openexr:", "tiff:", "jpeg:", "png:", "dpx:", "exif:", "icc"),
    # Of the gain map behind an Ultra HDR photo, which outputs do not have.
    *("hdrgm:", "container:", "item:", "rdf:"),
)
# Attributes whose values are carried as plain tuples; their type follows from the name. Any other
# tuple is carried as an `Attribute`.
_KNOWN_KINDS = {
    "smpte:TimeCode": "timecode",
    "smpte:KeyCode": "keycode",
    "FramesPerSecond": "rational",
    "chromaticities": "float[8]",
}


def carried_metadata(spec: Any, kind: str) -> dict[str, Any]:
    """The attributes that outputs get as well: timecode, frame rate, camera, capture date, ...

    spec: OpenImageIO's of the file. kind: its format name ("openexr", "dpx", ...).
    """
    carried = {name: value for name, value in _values(spec) if _can_be_set(name, value)}
    tag = spec.get_string_attribute("oiio:ColorSpace")
    if tag and kind == "openexr":
        carried["oiio:ColorSpace"] = tag
    rate = _dpx_rate(spec) if kind == "dpx" else None
    if rate is not None:
        carried["FramesPerSecond"] = rate
    return carried


def lost_metadata(spec: Any) -> tuple[str, ...]:
    """The names of attributes that would be carried if a new file could hold their values."""
    return tuple(name for name, value in _values(spec) if not _can_be_set(name, value))


def _values(spec: Any) -> Iterator[tuple[str, Any]]:
    for entry in spec.extra_attribs:
        name = entry.name
        if name.lower() in _NOT_CARRIED or name.lower().startswith(_NOT_CARRIED_PREFIXES):
            continue
        plain = isinstance(entry.value, (str, int, float))
        if plain or _KNOWN_KINDS.get(name) == str(entry.type):
            yield name, entry.value
        elif isinstance(entry.value, tuple):
            yield name, Attribute(entry.value, str(entry.type))


def _can_be_set(name: str, value: Any) -> bool:
    try:
        set_metadata(oiio.ImageSpec(), {name: value})
    except (RuntimeError, TypeError, ValueError, OverflowError):  # of the bindings, by type
        return False
    return True


def _dpx_rate(spec: Any) -> Optional[tuple[int, int]]:
    """Frames a second as a fraction (24000/1001): a DPX header has only a rounded float."""
    for name in ("dpx:FrameRate", "dpx:TemporalFrameRate"):
        rate = float(spec.get_float_attribute(name, 0.0))
        for numerator, denominator in ((round(rate), 1), (round(rate * 1.001) * 1000, 1001)):
            if numerator > 0 and abs(rate - numerator / denominator) < 0.002:
                return numerator, denominator
    return None


def set_metadata(spec: Any, metadata: Mapping[str, Any]) -> None:
    """Set carried attributes on OpenImageIO's spec of a new file, with their types."""
    for name, value in metadata.items():
        if isinstance(value, Attribute):
            spec.attribute(name, oiio.TypeDesc(value.kind), value.value)
        elif name in _KNOWN_KINDS:
            spec.attribute(name, oiio.TypeDesc(_KNOWN_KINDS[name]), tuple(value))
        else:
            spec.attribute(name, value)


def our_texts(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The attributes that mattebridge itself adds: model, settings, ..."""
    return {name: str(text) for name, text in metadata.items() if name.startswith("mattebridge:")}


def as_description(texts: Mapping[str, str]) -> str:
    """The texts of mattebridge as the one description of a JPEG or TIFF; "" without any."""
    named = {name.partition(":")[2]: text for name, text in texts.items()}
    return f"mattebridge: {json.dumps(named, sort_keys=True)}" if named else ""
