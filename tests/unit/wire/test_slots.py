"""Arenas: how planes are placed, what the header says, and what becomes of the memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.daemon_process import own_arenas, slot_maps
from fakes.places import ROOT
from fakes.systems import linux_alone
from mattebridge.errors import TornError
from mattebridge.wire import oslayer
from mattebridge.wire.params import OUTPUT_CHANNELS
from mattebridge.wire.planes import ITEM_BYTES, Plane, check_planes
from mattebridge.wire.slots import (
    ALIGNMENT,
    HEADER_BYTES,
    ROUND_BYTES,
    SIZE_CLASSES,
    PlaneSpec,
    SlotMap,
    arena_bytes,
    check_header,
    place,
    tight_stride,
)

SIZE = 2 << 20
EVERYTHING = [
    PlaneSpec("plate", 4, "f4"),
    PlaneSpec("clean_plate", 3, "f2"),
    PlaneSpec("alpha_hint", 1, "u1"),
    PlaneSpec("alpha", 1, "f4"),
    PlaneSpec("foreground", 3, "f2"),
    PlaneSpec("premultiplied", 4, "f4"),
]


@pytest.fixture
def arena() -> Iterator[SlotMap]:
    arena = SlotMap(oslayer.current().create_memory(SIZE), SIZE)
    yield arena
    arena.close()


_specs = st.lists(
    st.sampled_from(EVERYTHING), min_size=1, max_size=6, unique_by=lambda spec: spec.role
)


@given(st.integers(1, 5000), st.integers(1, 5000), _specs)
def test_placed_planes_pass_the_daemons_check_in_an_arena_of_the_size_asked_for(
    width: int, height: int, specs: list[PlaneSpec]
) -> None:
    planes = place(width, height, specs)
    size = arena_bytes(width, height, specs)
    outputs = [plane for plane in planes if plane.role in OUTPUT_CHANNELS]
    inputs = [plane for plane in planes if plane.role not in OUTPUT_CHANNELS]
    check_planes(inputs, outputs, size, HEADER_BYTES)
    assert size % ROUND_BYTES == 0
    for plane in planes:
        assert plane.off % ALIGNMENT == plane.stride % ALIGNMENT == 0
        row = plane.w * plane.c * ITEM_BYTES[plane.dtype]
        assert row <= plane.stride < row + ALIGNMENT


def test_a_frame_of_the_same_size_class_needs_no_larger_arena() -> None:
    for (_name, smaller), (_other, pixels) in zip(SIZE_CLASSES, SIZE_CLASSES[1:]):
        size = arena_bytes(pixels // 64, 64, EVERYTHING)
        assert arena_bytes((smaller + 64) // 64, 64, EVERYTHING) == size
        # However it is proportioned, a frame of the class fits.
        for width, height in ((64, pixels // 64), (640, pixels // 640)):
            planes = place(width, height, EVERYTHING)
            assert planes[-1].off + planes[-1].size_bytes <= arena_bytes(width, height, EVERYTHING)


def test_rows_are_rounded_up_to_a_cache_line() -> None:
    assert tight_stride(16, 1, "f4") == 64
    assert tight_stride(17, 1, "f4") == 128
    assert tight_stride(1, 3, "u1") == 64
    assert tight_stride(1920, 4, "f4") == 1920 * 16


def test_arrays_are_views_of_the_arena_row_by_row(arena: SlotMap) -> None:
    plane = Plane("plate", 128, 5, 3, 3, "f4", 64)
    pixels = np.arange(45, dtype=np.float32).reshape(3, 5, 3)
    arena.array(plane)[...] = pixels
    again = arena.array(plane)
    assert np.array_equal(again, pixels)
    assert again.shape == (3, 5, 3)
    assert again.strides == (64, 12, 4)
    second_row = np.frombuffer(arena._map, np.float32, 15, 128 + 64)
    assert np.array_equal(second_row, pixels[1].ravel())


def test_a_generation_that_was_begun_and_ended_is_whole(arena: SlotMap) -> None:
    arena.write_begin(7)
    arena.write_end(7)
    arena.check_generation(7)


def test_anything_else_is_torn(arena: SlotMap) -> None:
    with pytest.raises(TornError, match="not a mattebridge header"):
        arena.check_generation(1)
    arena.write_begin(1)
    with pytest.raises(TornError, match="1 begun and 0 ended"):
        arena.check_generation(1)
    arena.write_end(1)
    for asked in (0, 2, 2**63):
        with pytest.raises(TornError) as caught:
            arena.check_generation(asked)
        assert caught.value.details["gen"] == asked
        assert caught.value.retry
    arena.write_begin(2)
    for asked in (1, 2):
        with pytest.raises(TornError):
            arena.check_generation(asked)


def test_the_header_is_the_documented_64_bytes(arena: SlotMap) -> None:
    arena.write_begin(0x0102)
    arena.write_end(0x0102)
    raw = bytes(arena._map[:HEADER_BYTES])
    assert raw[:8] == b"MTB1" + (1).to_bytes(4, "little")
    assert raw[8:24] == (0x0102).to_bytes(8, "little") * 2
    assert raw[24:] == bytes(40)
    check_header(raw, 0x0102)
    with pytest.raises(TornError):
        check_header(b"MTB2" + raw[4:], 0x0102)
    with pytest.raises(TornError):
        check_header(raw[:4] + b"\2" + raw[5:], 0x0102)


@linux_alone("it counts in /proc")
def test_mapping_closes_the_descriptor_that_was_given() -> None:
    fd = oslayer.current().create_memory(SIZE)
    before = own_arenas()
    arena = SlotMap(fd, SIZE)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert slot_maps(os.getpid()) == before + 1
    arena.close()
    arena.close()
    assert slot_maps(os.getpid()) == before


@linux_alone("a pipe and a section are different things on Windows")
def test_a_descriptor_that_cannot_be_mapped_is_closed_all_the_same() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    with pytest.raises(PermissionError):
        SlotMap(read_end, SIZE)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read_end)


@linux_alone("it counts in /proc")
def test_a_closed_arena_stays_readable_through_an_array_that_is_left() -> None:
    before = own_arenas()
    arena = SlotMap(oslayer.current().create_memory(SIZE), SIZE)
    left = arena.array(Plane("alpha", 64, 4, 4, 1, "f4", 64))
    left[...] = 0.5
    arena.close()
    del arena
    assert left.max() == 0.5
    del left
    assert slot_maps(os.getpid()) == before


def test_inputs_are_copied_to_the_same_place_of_another_arena(arena: SlotMap) -> None:
    other = SlotMap(oslayer.current().create_memory(SIZE), SIZE)
    plane = Plane("plate", 64, 8, 8, 3, "f4", 128)
    arena.array(plane)[...] = 0.25
    other.copy_range(arena, plane.off, plane.size_bytes)
    assert (other.array(plane) == 0.25).all()
    assert other._map[:64] == bytes(64)
    other.close()


def test_the_size_classes_are_those_of_the_protocol_page() -> None:
    words = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    (listed,) = re.findall(r"size class \(([^)]*)\)", " ".join(words.split()))
    sizes = [tuple(map(int, size.split("x"))) for size in listed.split(", ")]
    assert [width * height for width, height in sizes] == [pixels for _name, pixels in SIZE_CLASSES]
