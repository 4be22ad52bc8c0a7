"""PNGs and ICC profiles with any tags, right, odd or contradicting: made byte by byte."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from mattebridge.color import srgb_decode
from mattebridge.ocio.primaries import ICC_WHITE, adapted, to_xyz, white_of

_GAMMAS = {"lin": 1.0, "g18": 1.8, "g22": 2.2, "g24": 2.4}


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    check = zlib.crc32(kind + body)
    return len(body).to_bytes(4, "big") + kind + body + check.to_bytes(4, "big")


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> bytes:
    return chunk(b"cICP", bytes((primaries, transfer, matrix, full)))


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", round(100_000 / gamma).to_bytes(4, "big"))


def chrm(places: Sequence[float]) -> bytes:
    *rgb, x, y = (round(place * 100_000) for place in places)
    return chunk(b"cHRM", struct.pack(">8I", x, y, *rgb))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile))


def png(
    folder: Path, *chunks: bytes, pixels: Optional[Any] = None, name: str = "tagged.png"
) -> Path:
    """A PNG with these chunks; pixels: (H, W, 3) uint16 or uint8 codes."""
    codes = np.full((4, 4, 3), 30_000, np.uint16) if pixels is None else pixels
    height, width, _ = codes.shape
    head = struct.pack(">IIBBBBB", width, height, 8 * codes.itemsize, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(f">u{codes.itemsize}").tobytes() for row in codes)
    body = chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows))
    path = folder / name
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))
    return path


def display(
    places: Sequence[float],
    curve: str = "srgb",
    kind: str = "parametric",
    extra: Optional[Mapping[bytes, bytes]] = None,
) -> bytes:
    """The profile of a display: primaries and curve (lin, srgb, g18, g22, g24), in one of the ways
    that profiles have for it."""
    columns = (adapted(white_of(places), ICC_WHITE) @ to_xyz(places)).T
    tags = {b"desc": _text("Test")}
    for channel, xyz in zip(b"rgb", columns):
        tags[b"%cXYZ" % channel] = b"XYZ " + bytes(4) + _fixed(*xyz)
        tags[b"%cTRC" % channel] = _curve(curve, kind)
    return profile_of({**tags, **(extra or {})})


def profile_of(tags: Mapping[bytes, bytes]) -> bytes:
    """A profile of RGB with these tags."""
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    head = struct.pack(">I4xI", start + len(data), 0x04300000) + b"mntrRGB XYZ " + bytes(12)
    head += b"acsp" + bytes(28) + _fixed(*ICC_WHITE)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _curve(curve: str, kind: str) -> bytes:
    if kind == "gamma" and curve in _GAMMAS:
        if curve == "lin":
            return b"curv" + bytes(8)
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(_GAMMAS[curve] * 256))
    if kind == "parametric":
        if curve in _GAMMAS:
            return b"para" + bytes(8) + _fixed(_GAMMAS[curve])
        numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(*numbers)
    codes = np.linspace(0, 1, 1024)
    light = srgb_decode(codes) if curve == "srgb" else codes ** _GAMMAS[curve]
    steps = np.round(np.asarray(light) * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(steps)) + steps.tobytes()


def _text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(encoded), 28) + encoded


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))
