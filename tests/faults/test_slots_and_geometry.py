"""F8-F16: arenas that are half written, reused, truncated; geometry and pixels that lie."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.base_line import AbusedDaemon, arena_descriptors
from fakes.daemon_process import wait_for
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, matted_here, same, shot
from fakes.raw_client import Raw, ask_door, connect_to_door, hello
from mattebridge.errors import (
    DtypeError,
    GeometryError,
    InputsError,
    NonFiniteError,
    QuotaError,
    TooLargeError,
)
from mattebridge.wire import linux
from mattebridge.wire.planes import ITEM_BYTES, Plane, check_planes
from mattebridge.wire.slots import HEADER_BYTES, SlotMap

SHOT = shot(seed=7)
FOUR_MIB = 4 << 20
# Rows about what the engine reads and computes; the others are refused or answered before that.
OF_THE_ENGINE = ("_f09_", "_f14_", "_f15_", "_f16_")


@pytest.fixture
def light(request: pytest.FixtureRequest) -> bool:
    return not any(row in request.node.name for row in OF_THE_ENGINE)


# -- F8-F10: whose turn it is --------------------------------------------------------------------


def test_f08_a_half_written_arena_is_refused_and_the_next_frame_is_fine(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    message = client.render(gen=1)
    client.arenas[0].write_begin(2)
    reply = client.terminal(client.send(message, gen=2))
    assert (reply["code"], reply["retry"], reply["held"]) == ("E_TORN", True, False)
    assert reply["gen"] == 2
    assert client.terminal(client.send(client.render(gen=3)))["op"] == "done"


def test_f08_an_arena_without_a_header_is_refused(daemon: AbusedDaemon, raw: Raw) -> None:
    client = raw(daemon, slots=1)
    reply = client.terminal(client.send(client.render(gen=1, write=False)))
    assert (reply["code"], reply["held"]) == ("E_TORN", False)
    client.arenas[0]._map[:64] = os.urandom(64)
    reply = client.terminal(client.send(client.render(gen=2, write=False)))
    assert (reply["code"], reply["held"]) == ("E_TORN", False)


def test_f09_an_arena_that_changes_during_the_copy_gives_an_error_or_one_whole_frame(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    size = 256
    client = raw(daemon, slots=1)
    message = client.render(width=size, height=size)
    arena = client.arenas[0]
    plate, clean_plate, alpha = (Plane(**item) for item in [*message["in"], *message["out"]])
    pictures = [shot(size, size, seed=seed) for seed in (31, 32)]
    expected = [matted_here(*one, colorspace="srgb", **PLAIN)["alpha"] for one in pictures]
    generation = [0]

    def write() -> None:
        generation[0] += 1
        now = generation[0]
        arena.write_begin(now)
        arena.array(plate)[...] = pictures[now % 2].plate
        arena.array(clean_plate)[...] = pictures[now % 2].clean_plate
        arena.write_end(now)

    over = threading.Event()

    def spoil() -> None:
        while not over.is_set():
            write()

    torn = 0
    for turn in range(60):
        write()
        asked = generation[0]
        over.clear()
        spoiler = threading.Thread(target=spoil)
        spoiler.start()
        # Now and then later, so that some frames get through.
        time.sleep(0.002 * (turn % 3))
        request = client.send(message, gen=asked, params={**PLAIN, "colorspace": "srgb"})
        reply = client.terminal(request)
        over.set()
        spoiler.join()
        if reply["op"] == "error":
            assert reply["code"] == "E_TORN"
            torn += 1
        else:
            assert np.array_equal(arena.array(alpha), expected[asked % 2])
    assert torn > 0
    write()
    request = client.send(message, gen=generation[0], params={**PLAIN, "colorspace": "srgb"})
    assert client.terminal(request)["op"] == "done"
    assert np.array_equal(arena.array(alpha), expected[generation[0] % 2])


@pytest.mark.slow
def test_f10_an_arena_that_is_still_lent_is_refused_and_returned_exactly_once(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=2)
    with daemon.gate("deaf"):
        first = client.send(client.render(frame=13, gen=1, deadline_ms=2000))
        reply = client.terminal(first)
        assert (reply["code"], reply["started"], reply["held"]) == ("E_DEADLINE", True, True)
        for gen in (1, 2):
            # The same request once more, and another one: neither gets the arena, nor silence.
            again = client.send(client.render(frame=13, gen=gen, write=False), id=first)
            reply = client.terminal(again)
            assert reply["code"] in ("E_SLOT_BUSY", "E_ID_REUSE")
            assert reply["held"] is True
        busy = client.send(client.render(gen=2, write=False))
        reply = client.terminal(busy)
        assert (reply["code"], reply["held"], reply["slot"]) == ("E_SLOT_BUSY", True, 0)
        # The other arena of the session is not concerned.
        other = client.send(client.render(slot=1, gen=1))
    returned = client.next_reply()
    assert (returned["op"], returned["id"]) == ("released", first)
    assert (returned["slot"], returned["gen"]) == (0, 1)
    assert client.terminal(other)["op"] == "done"
    assert client.terminal(client.send(client.render(gen=2)))["op"] == "done"
    assert client.receive(0.1) is None


def test_f10_the_request_that_holds_an_arena_is_not_harmed_by_one_that_wants_it(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    with daemon.gate() as gate:
        first = client.send(client.render(frame=13, gen=1))
        refused = client.send(client.render(gen=2, write=False))
        reply = client.terminal(refused)
        assert (reply["code"], reply["held"]) == ("E_SLOT_BUSY", True)
        gate.open()
        reply = client.terminal(first)
        assert (reply["op"], reply["gen"], reply["held"]) == ("done", 1, False)


# -- F11: the memory itself -----------------------------------------------------------------------


@contextlib.contextmanager
def _slot(daemon: AbusedDaemon) -> Iterator[tuple[socket.socket, dict[str, Any], int]]:
    door = connect_to_door(daemon.folder)
    fds: list[int] = []
    try:
        welcome, fds = ask_door(door, hello(1, FOUR_MIB))
        yield door, welcome, fds[0]
    finally:
        for fd in fds:
            os.close(fd)
        door.close()


def test_f11_an_arena_can_be_neither_truncated_nor_grown_nor_resealed(daemon: AbusedDaemon) -> None:
    with _slot(daemon) as (_door, welcome, fd):
        size = welcome["slots"][0]["bytes"]
        attacks: list[Callable[[], Any]] = [
            lambda: os.ftruncate(fd, 0),
            lambda: os.ftruncate(fd, size - 1),
            lambda: os.ftruncate(fd, size * 2),
            lambda: os.pwrite(fd, b"x", size),
            lambda: os.posix_fallocate(fd, 0, size * 2),
            lambda: fcntl.fcntl(fd, linux.F_ADD_SEALS, 0x8),
        ]
        for attack in attacks:
            with pytest.raises(PermissionError) as caught:
                attack()
            assert caught.value.errno == errno.EPERM
        assert os.fstat(fd).st_size == size


def test_f11_a_hole_punched_in_an_arena_spoils_only_the_frame_of_its_own_client(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    keep_size_punch_hole = 0x01 | 0x02
    libc = ctypes.CDLL(None, use_errno=True)
    client = raw(daemon)
    client.door.close()
    client.door = connect_to_door(daemon.folder)
    client.welcome, fds = ask_door(client.door, hello(1, FOUR_MIB))
    client.sid, client.arenas = client.welcome["sid"], {0: SlotMap(os.dup(fds[0]), FOUR_MIB)}

    def punch(start: int, length: int) -> None:
        offset, size = ctypes.c_long(start), ctypes.c_long(length)
        assert libc.fallocate(fds[0], keep_size_punch_hole, offset, size) == 0

    try:
        message = client.render(gen=1, width=200, height=200)
        punch(mmap.PAGESIZE, FOUR_MIB - mmap.PAGESIZE)
        assert client.terminal(client.send(message))["op"] == "done"
        message = client.render(gen=2)
        punch(0, FOUR_MIB)
        assert client.terminal(client.send(message))["code"] == "E_TORN"
        assert client.terminal(client.send(client.render(gen=3)))["op"] == "done"
    finally:
        os.close(fds[0])


# -- F12, F13: geometry that lies -----------------------------------------------------------------

HUGE = 2**63


def _plane(**changes: Any) -> dict[str, Any]:
    plane = Plane("plate", 64, 32, 24, 3, "f4", 384).to_wire()
    return {**plane, **changes}


LIES = {
    "negative offset": ({"off": -64}, "E_GEOMETRY", "in[0].off"),
    "offset of 2^63": ({"off": HUGE}, "E_GEOMETRY", "in[0].off"),
    "offset that overflows with the size": ({"off": 2**64 - 64}, "E_GEOMETRY", "in[0].off"),
    "offset in the header": ({"off": 0}, "E_GEOMETRY", "in[0].off"),
    "offset off the grid": ({"off": 65}, "E_GEOMETRY", "in[0].off"),
    "past the end": ({"off": FOUR_MIB - 64}, "E_GEOMETRY", "in[0].off"),
    "stride below the row": ({"stride": 380}, "E_GEOMETRY", "in[0].stride"),
    "stride of zero": ({"stride": 0}, "E_GEOMETRY", "in[0].stride"),
    "negative stride": ({"stride": -384}, "E_GEOMETRY", "in[0].stride"),
    "stride of 2^63": ({"stride": HUGE}, "E_GEOMETRY", "in[0].stride"),
    "stride across samples": ({"stride": 386}, "E_GEOMETRY", "in[0].stride"),
    "no width": ({"w": 0}, "E_GEOMETRY", "in[0].w"),
    "negative height": ({"h": -1}, "E_GEOMETRY", "in[0].h"),
    "width over the cap": ({"w": 32769}, "E_TOO_LARGE", "in[0].w"),
    "height of 2^62": ({"h": 2**62}, "E_TOO_LARGE", "in[0].h"),
    "no channels": ({"c": 0}, "E_GEOMETRY", "in[0].c"),
    "five channels": ({"c": 5}, "E_GEOMETRY", "in[0].c"),
    "two channels": ({"c": 2}, "E_GEOMETRY", "in[0].c"),
    "unknown role": ({"role": "depth"}, "E_GEOMETRY", "in[0].role"),
    "an output as input": ({"role": "alpha"}, "E_GEOMETRY", "in[0].role"),
    "text for a number": ({"w": "32"}, "E_MESSAGE", "in[0].w"),
    "a float for a number": ({"h": 24.0}, "E_MESSAGE", "in[0].h"),
    "true for a number": ({"c": True}, "E_MESSAGE", "in[0].c"),
    "an extra key": ({"depth": 1}, "E_MESSAGE", "depth"),
}


def test_f12_impossible_geometry_is_refused_by_the_name_of_its_field(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    before = arena_descriptors(daemon.pid)
    for lie, (changes, code, field) in LIES.items():
        message = client.render(gen=1)
        message["in"][0] = _plane(**changes)
        reply = client.terminal(client.send(message))
        assert (reply["code"], reply["field"], reply["held"]) == (code, field, False), lie
        assert reply["retry"] is False, lie
    assert arena_descriptors(daemon.pid) == before
    # Nothing changed: the same generation is still good.
    assert client.terminal(client.send(client.render(gen=1)))["op"] == "done"


def test_f12_planes_that_overlap_are_refused(daemon: AbusedDaemon, raw: Raw) -> None:
    client = raw(daemon, slots=1)
    message = client.render(gen=1)
    for changed in ("in", "out"):
        planes = [dict(item) for item in message[changed]]
        planes[-1]["off"] = 128
        reply = client.terminal(client.send({**message, changed: planes}))
        assert (reply["code"], reply["field"]) == ("E_GEOMETRY", "off")
        assert "overlap" in reply["message"]


_size = st.one_of(
    st.integers(-2, 70), st.sampled_from([32768, 32769, 2**31, 2**63, 2**64 - 1, -(2**63)])
)
_offset = st.one_of(st.integers(-1, 200).map(lambda n: n * 64), _size)
_planes = st.builds(
    Plane,
    st.sampled_from(["plate", "clean_plate", "alpha_hint", "alpha", "foreground", "x"]),
    _offset,
    _size,
    _size,
    st.integers(-1, 6),
    st.sampled_from(["u1", "u2", "f2", "f4", "f8", "i4", ""]),
    _size,
)
ARENA = 8192


@given(st.lists(_planes, min_size=1, max_size=4), st.lists(_planes, min_size=1, max_size=3))
def test_f12_whatever_geometry_passes_lies_inside_its_arena_alone(
    inputs: list[Plane], outputs: list[Plane]
) -> None:
    try:
        check_planes(inputs, outputs, ARENA, HEADER_BYTES)
    except (GeometryError, DtypeError, TooLargeError) as refused:
        assert refused.details["field"]  # noqa: PT017 - most examples are refused, all may be
        return
    touched = np.zeros(ARENA, np.uint8)
    touched[:HEADER_BYTES] = 1
    for plane in [*inputs, *outputs]:
        assert plane.off >= 0
        assert plane.stride >= plane.w * plane.c * ITEM_BYTES[plane.dtype] > 0
        assert plane.off + plane.stride * plane.h <= ARENA
        touched[plane.off : plane.off + plane.size_bytes] += 1
    assert touched.max() == 1


WRONG_TYPES: list[tuple[str, dict[str, Any], str, str]] = [
    ("in", {"dtype": "f8"}, "E_DTYPE", "in[0].dtype"),
    ("in", {"dtype": "i2"}, "E_DTYPE", "in[0].dtype"),
    ("in", {"dtype": ""}, "E_DTYPE", "in[0].dtype"),
    ("in", {"dtype": "<f4"}, "E_DTYPE", "in[0].dtype"),
    ("out", {"dtype": "u1"}, "E_DTYPE", "out[0].dtype"),
    ("out", {"dtype": "u2"}, "E_DTYPE", "out[0].dtype"),
    ("out", {"c": 3}, "E_GEOMETRY", "out[0].c"),
    ("out", {"role": "plate"}, "E_GEOMETRY", "out[0].role"),
]


def test_f13_types_and_channels_that_a_role_does_not_have_are_refused(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    for which, changes, code, field in WRONG_TYPES:
        message = client.render(gen=1)
        message[which][0].update(changes)
        reply = client.terminal(client.send(message))
        assert (reply["code"], reply["field"], reply["held"]) == (code, field, False), changes


def test_f13_half_floats_called_floats_do_not_fit_their_stride(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    message = client.render(gen=1)
    message["in"][0] = _plane(dtype="f4", stride=32 * 3 * 2)
    reply = client.terminal(client.send(message))
    assert (reply["code"], reply["field"]) == ("E_GEOMETRY", "in[0].stride")


def test_f13_a_client_refuses_types_that_the_wire_does_not_have(daemon: AbusedDaemon) -> None:
    with daemon.connect() as client:
        for dtype in ("int32", "uint64", "complex64", ">f4", "bool"):
            with pytest.raises(DtypeError, match="plate has samples"):
                client.matte(SHOT.plate.astype(dtype), SHOT.clean_plate.astype(dtype))
        assert same(client.matte(*SHOT, **PLAIN), daemon.matted(*SHOT))


# -- F14: sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (2, 1), (1, 2), (3, 5), (7, 64), (127, 3), (1, 2049), (641, 359)],
)
def test_f14_odd_sizes_come_back_in_their_size_and_as_rendered_offline(
    daemon: AbusedDaemon, width: int, height: int
) -> None:
    one = shot(width, height, seed=width + height)
    with daemon.connect() as client:
        matte = client.matte(*one, **PLAIN)
    assert matte.alpha.shape == (height, width, 1)
    assert same(matte, matted_here(*one))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1, 8192), (8192, 1), (1919, 1079), (3841, 2159)])
def test_f14_large_odd_sizes_come_back_as_rendered_offline(
    daemon: AbusedDaemon, width: int, height: int
) -> None:
    one = shot(width, height, seed=3)
    with daemon.connect(in_flight=1) as client:
        assert same(client.matte(*one, **PLAIN), matted_here(*one))


def test_f14_sizes_over_the_limits_are_refused_before_anything_is_allocated(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    nothing = np.zeros((0, 5, 3), np.float32)
    # No memory behind it: one pixel, seen 16384 x 16384 times.
    vast = np.broadcast_to(np.float32(0.5), (16384, 16384, 3))
    with daemon.connect() as client:
        with pytest.raises(InputsError, match="empty"):
            client.matte(nothing, nothing)
        before = arena_descriptors(daemon.pid)
        with pytest.raises(QuotaError, match="session_bytes") as caught:
            client.matte(vast, vast)
        assert caught.value.details["limit"] == "session_bytes"
        assert arena_descriptors(daemon.pid) == before
        assert same(client.matte(*SHOT, **PLAIN), matted_here(*SHOT))
    wide = raw(daemon, slots=1)
    message = wide.render(gen=1)
    for plane in [*message["in"], *message["out"]]:
        plane.update(w=32769, h=1)
    reply = wide.terminal(wide.send(message))
    assert (reply["code"], reply["limit"]) == ("E_TOO_LARGE", 32768)
    assert "32768" in reply["message"]


# -- F15, F16: pixels and inputs -----------------------------------------------------------------


def _extreme(value: float) -> np.ndarray[Any, Any]:
    plate = SHOT.plate.copy()
    plate[5:9, 7:11] = value
    return plate


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_f15_values_that_are_no_numbers_are_an_error_with_their_count_or_zero(
    daemon: AbusedDaemon, value: float
) -> None:
    plate = _extreme(value)
    with daemon.connect() as client:
        with pytest.raises(NonFiniteError) as caught:
            client.matte(plate, SHOT.clean_plate, **PLAIN)
        assert caught.value.details["count"] == 4 * 4 * 3
        matte = client.matte(plate, SHOT.clean_plate, nonfinite="zero", **PLAIN)
        assert "48" in str(matte.notes)
        for image in (matte.alpha, matte.foreground, matte.premultiplied):
            assert np.isfinite(image).all()
        assert matte.alpha.min() >= 0
        assert matte.alpha.max() <= 1


@pytest.mark.parametrize("value", [1e-42, -0.25, 7.5, 1e4, 3.4e38])
@pytest.mark.parametrize("output_dtype", ["float32", "float16"])
def test_f15_extreme_numbers_give_an_alpha_from_zero_to_one(
    daemon: AbusedDaemon, value: float, output_dtype: str
) -> None:
    plate = _extreme(value)
    with daemon.connect() as client:
        matte = client.matte(
            plate, SHOT.clean_plate, foreground="plate", output_dtype=output_dtype, **PLAIN
        )
    assert not np.isnan(matte.alpha).any()
    assert matte.alpha.min() >= 0
    assert matte.alpha.max() <= 1
    assert not np.isnan(matte.foreground).any()
    assert not np.isnan(matte.premultiplied).any()
    if 1 < value < 60000:
        # Highlights are kept, not clipped.
        assert matte.foreground.max() == pytest.approx(value, rel=1e-3)


def test_f16_inputs_that_do_not_fit_are_refused_with_both_sizes(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    small = shot(32, 24).clean_plate
    with daemon.connect() as client:
        with pytest.raises(InputsError, match=r"64x48.*32x24"):
            client.matte(SHOT.plate, small)
        with pytest.raises(InputsError, match="clean plate"):
            client.matte(SHOT.plate)
        with pytest.raises(InputsError, match="alpha_hint"):
            client.matte(*SHOT, alpha_hint=SHOT.plate)
        with pytest.raises(InputsError, match=r"64x48.*32x24"):
            client.matte(*SHOT, garbage_matte=small[..., 0])
        assert same(client.matte(*SHOT, **PLAIN), matted_here(*SHOT))


def test_f16_the_daemon_itself_says_what_the_model_needs_and_got(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    message = client.render(gen=1)
    message["in"][1].update(w=16, h=12)
    reply = client.terminal(client.send(message))
    assert (reply["code"], reply["held"]) == ("E_INPUTS", False)
    assert "32x24" in reply["message"]
    assert "16x12" in reply["message"]
    message = client.render(gen=2)
    del message["in"][1]
    reply = client.terminal(client.send(message))
    assert (reply["code"], reply["field"]) == ("E_INPUTS", "clean_plate")
    message = client.render(gen=3)
    message["in"] = message["in"] * 5
    reply = client.terminal(client.send(message))
    assert (reply["code"], reply["field"]) == ("E_MESSAGE", "in")
    message = client.render(gen=3)
    message["in"].append({**message["in"][0], "off": 65536})
    reply = client.terminal(client.send(message))
    assert (reply["code"], reply["field"]) == ("E_GEOMETRY", "in.role")
    wait_for(lambda: client.receive(0) is None, SOON_S, "nothing else comes")
