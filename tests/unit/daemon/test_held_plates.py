"""Held clean plates: whose name it is, and which of them make room."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from typing import Any

import pytest

from mattebridge.daemon.held_plates import (
    MAX_HELD,
    HeldCleanPlate,
    HeldCleanPlates,
    copy_clean_plate,
)
from mattebridge.errors import PlateError
from mattebridge.wire import oslayer
from mattebridge.wire.planes import Plane
from mattebridge.wire.slots import HEADER, HEADER_BYTES, HEADER_MAGIC, HEADER_VERSION

ROW, ROWS = 64, 16
ONE = HEADER_BYTES + ROW * ROWS


def held(name: str, owner: str = "artist", digest: str = "", width: int = 16) -> HeldCleanPlate:
    plane = Plane("clean_plate", HEADER_BYTES, width, ROWS, 1, "u1", ROW)
    fd = oslayer.current().create_memory(ONE)
    return HeldCleanPlate(1, name, fd, plane, digest=digest or name, owner=owner)


def names(plates: HeldCleanPlates) -> list[str]:
    return [plate["name"] for plate in plates.describe()]


def test_other_content_under_a_held_name_is_refused_and_changes_nothing() -> None:
    plates = HeldCleanPlates(8 * ONE)
    plates.add(held("loft", digest="one"))
    other = held("loft", owner="colleague", digest="two")
    with pytest.raises(PlateError, match=r"'loft'.*replace") as refused:
        plates.add(other)
    assert refused.value.details == {"name": "loft", "digest": "one"}
    assert other.closed
    assert plates.get("loft").digest == "one"
    plates.clear()


def test_another_size_or_sample_type_is_other_content() -> None:
    plates = HeldCleanPlates(8 * ONE)
    plates.add(held("loft", digest="same", width=16))
    with pytest.raises(PlateError):
        plates.add(held("loft", digest="same", width=8))
    plates.clear()


def test_the_same_content_may_be_sent_again_and_stays_where_it_is() -> None:
    plates = HeldCleanPlates(8 * ONE)
    first, again = held("loft", digest="one"), held("loft", owner="colleague", digest="one")
    plates.add(first)
    plates.add(held("hall"))
    assert plates.add(again) == [again]
    assert again.closed
    assert plates.get("loft") is first
    assert names(plates) == ["hall", "loft"]
    plates.clear()


def test_other_content_takes_the_name_where_that_is_asked_for() -> None:
    plates = HeldCleanPlates(8 * ONE)
    old, new = held("loft", digest="one"), held("loft", owner="colleague", digest="two")
    plates.add(old)
    assert plates.add(new, replace=True) == [old]
    assert plates.get("loft") is new
    plates.clear()


def test_the_plates_of_one_session_make_room_for_those_of_another() -> None:
    plates = HeldCleanPlates(MAX_HELD * 2 * ONE)
    plates.add(held("colleague", owner="colleague"))
    for number in range(MAX_HELD * 2):
        plates.add(held(f"many-{number}", owner="many"))
        assert "colleague" in names(plates)
    assert len(names(plates)) == MAX_HELD
    plates.clear()


def test_bytes_are_shared_between_sessions_as_numbers_are() -> None:
    plates = HeldCleanPlates(4 * ONE)
    plates.add(held("colleague", owner="colleague"))
    for number in range(9):
        plates.add(held(f"many-{number}", owner="many"))
    assert names(plates) == ["colleague", "many-6", "many-7", "many-8"]
    for number in range(3):
        plates.add(held(f"more-{number}", owner="colleague"))
    assert names(plates) == ["many-7", "many-8", "more-1", "more-2"]
    plates.clear()


def test_a_plate_that_was_just_added_is_not_the_one_that_makes_room() -> None:
    plates = HeldCleanPlates(2 * ONE)
    for number in range(2):
        plates.add(held(f"few-{number}", owner=f"session-{number}"))
    plates.add(held("new", owner="session-0"))
    assert names(plates) == ["few-1", "new"]
    plates.clear()


def made(steps: Generator[None, None, Any]) -> Any:
    """The result of work in steps."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def _copied(stride: int, padding: bytes) -> str:
    """The digest of two rows of 16 samples, copied out of an arena with this stride."""
    arena = oslayer.current().create_memory(4096)
    rows = b"".join(bytes(range(16)) + padding * (stride - 16) for _ in range(2))
    os.pwrite(arena, HEADER.pack(HEADER_MAGIC, HEADER_VERSION, 3, 3), 0)
    os.pwrite(arena, rows, HEADER_BYTES)
    fd, _plane, digest = made(
        copy_clean_plate(arena, 3, Plane("clean_plate", HEADER_BYTES, 16, 2, 1, "u1", stride))
    )
    os.close(fd)
    os.close(arena)
    return digest


def test_a_digest_is_that_of_the_samples_whatever_lies_between_the_rows() -> None:
    expected = hashlib.sha256(bytes(range(16)) * 2).hexdigest()
    assert _copied(16, b"") == _copied(64, b"\0") == _copied(64, b"\1") == expected
