"""The planes of a request inside an arena: where each lies, and the check that they fit.

The check uses plain integers from the message and the size that the daemon itself allocated, and
is complete before a byte of the arena is touched.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mattebridge.errors import DtypeError, GeometryError, TooLargeError
from mattebridge.wire.params import INPUT_CHANNELS, INPUT_DTYPES, OUTPUT_CHANNELS, OUTPUT_DTYPES

MAX_SIDE = 32768
ITEM_BYTES = {"u1": 1, "u2": 2, "f2": 2, "f4": 4}


@dataclass(frozen=True)
class Plane:
    """Where one image lies in an arena: `h` rows of `stride` bytes from `off`, top row first.

    A row holds `w` pixels of `c` interleaved samples of `dtype` (u1, u2, f2, f4; native order).
    """

    role: str
    off: int
    w: int
    h: int
    c: int
    dtype: str
    stride: int

    @property
    def size_bytes(self) -> int:
        """Bytes from the first sample of the plane to the end of its last row."""
        return self.stride * self.h

    def to_wire(self) -> dict[str, Any]:
        """The map of docs/protocol.md."""
        return dict(vars(self))


def check_planes(
    inputs: Sequence[Plane], outputs: Sequence[Plane], arena_bytes: int, header_bytes: int
) -> None:
    """Raise unless every plane lies inside the arena, alone, in a shape that its role allows."""
    for name, group, roles, dtypes in (
        ("in", inputs, INPUT_CHANNELS, INPUT_DTYPES),
        ("out", outputs, OUTPUT_CHANNELS, OUTPUT_DTYPES),
    ):
        seen: set[str] = set()
        for index, item in enumerate(group):
            _check_shape(f"{name}[{index}]", item, roles, dtypes)
            _check_place(f"{name}[{index}]", item, arena_bytes, header_bytes)
            if item.role in seen:
                raise GeometryError(f"two planes are called {item.role!r}", field=f"{name}.role")
            seen.add(item.role)
    _check_overlap([*inputs, *outputs])


def _check_shape(
    name: str, item: Plane, roles: Mapping[str, Sequence[int]], dtypes: Sequence[str]
) -> None:
    """Role, sample type, size and channels."""
    if item.role not in roles:
        raise GeometryError(
            f"{name}: no role {item.role[:32]!r} here; there are {', '.join(roles)}",
            field=f"{name}.role",
        )
    if item.dtype not in dtypes:
        raise DtypeError(
            f"{name} ({item.role}): samples of type {item.dtype[:8]!r}; this daemon takes "
            f"{', '.join(dtypes)} there",
            field=f"{name}.dtype",
        )
    for side, value in (("w", item.w), ("h", item.h)):
        if value < 1:
            raise GeometryError(f"{name} ({item.role}): {side} is {value}", field=f"{name}.{side}")
        if value > MAX_SIDE:
            raise TooLargeError(
                f"{name} ({item.role}) is {item.w}x{item.h}; the largest side is {MAX_SIDE}",
                limit=MAX_SIDE,
                field=f"{name}.{side}",
            )
    if item.c not in roles[item.role]:
        raise GeometryError(
            f"{name}: {item.role} has {item.c} channels; it takes "
            f"{' or '.join(map(str, roles[item.role]))}",
            field=f"{name}.c",
        )


def _check_place(name: str, item: Plane, arena_bytes: int, header_bytes: int) -> None:
    """Stride and offset, inside the arena and behind its header."""
    row_bytes = item.w * item.c * ITEM_BYTES[item.dtype]
    if not row_bytes <= item.stride <= arena_bytes:
        raise GeometryError(
            f"{name} ({item.role}): rows of {row_bytes} bytes do not fit a stride of {item.stride}",
            field=f"{name}.stride",
        )
    if item.stride % ITEM_BYTES[item.dtype]:
        raise GeometryError(f"{name}: the stride cuts a sample in two", field=f"{name}.stride")
    if item.off < header_bytes or item.off % 64:
        raise GeometryError(
            f"{name} ({item.role}): offset {item.off} is not a multiple of 64 behind the header",
            field=f"{name}.off",
        )
    if item.off + item.size_bytes > arena_bytes:
        raise GeometryError(
            f"{name} ({item.role}) ends at byte {item.off + item.size_bytes} of an arena of "
            f"{arena_bytes}",
            field=f"{name}.off",
        )


def _check_overlap(everything: Sequence[Plane]) -> None:
    ordered = sorted(everything, key=lambda item: item.off)
    for first, second in zip(ordered, ordered[1:]):
        if first.off + first.size_bytes > second.off:
            raise GeometryError(
                f"the planes {first.role!r} and {second.role!r} overlap", field="off"
            )
