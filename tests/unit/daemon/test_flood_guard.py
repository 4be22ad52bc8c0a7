"""The bound on endless messages: who is closed, and when growth is only growth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mattebridge.daemon.flood_guard import (
    GROWTH_BYTES,
    HARD_LIMIT_BYTES,
    LOOKS_WITHOUT_SENDER,
    FloodGuard,
)
from mattebridge.wire import oslayer

CALM = 40 << 20


class FakeLayer:
    """A system with this much memory in use and so many connections that are sending.

    freed: of the memory in use, what was freed and not yet given back to the system.
    """

    def __init__(self) -> None:
        self.used, self.freed, self.sending, self.everyone = CALM, 0, 0, 9
        self.frees_at_once = True
        self.ended: list[bool] = []

    def private_bytes(self) -> int:
        return self.used

    def release_memory(self) -> None:
        self.used, self.freed = self.used - self.freed, 0

    def free(self) -> None:
        self.freed = self.used - CALM

    def end_connections(self, _address: Path, *, only_sending: bool) -> int:
        self.ended.append(only_sending)
        if self.frees_at_once:
            self.free()
        return self.sending if only_sending else self.everyone


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> FakeLayer:
    layer: Any = FakeLayer()
    monkeypatch.setattr(oslayer, "current", lambda: layer)
    return layer  # type: ignore[no-any-return]


def test_nobody_is_looked_at_while_the_memory_stays_within_its_growth(layer: FakeLayer) -> None:
    guard = FloodGuard(Path("/ctl"))
    layer.used = CALM + GROWTH_BYTES
    assert guard.tick() == 0
    assert layer.ended == []


def test_those_that_send_are_closed_again_and_again(layer: FakeLayer) -> None:
    guard = FloodGuard(Path("/ctl"))
    for _attack in range(5):
        layer.used, layer.sending = CALM + GROWTH_BYTES + 1, 1
        assert guard.tick() == 1
        assert guard.tick() == 0
    assert layer.ended == [True] * 5


def test_memory_that_is_freed_long_after_the_connections_were_closed_is_given_back(
    layer: FakeLayer,
) -> None:
    guard = FloodGuard(Path("/ctl"))
    layer.used, layer.sending, layer.frees_at_once = CALM + GROWTH_BYTES + 1, 1, False
    assert guard.tick() == 1
    layer.sending = 0
    for _look in range(5):
        assert guard.tick() == 0
    layer.free()
    assert guard.tick() == 0
    assert layer.used == CALM


def test_a_flood_that_pauses_at_one_look_is_closed_at_the_next(layer: FakeLayer) -> None:
    guard = FloodGuard(Path("/ctl"))
    layer.used, layer.sending = CALM + GROWTH_BYTES + 1, 0
    assert [guard.tick() for _ in range(LOOKS_WITHOUT_SENDER - 1)] == [0] * (
        LOOKS_WITHOUT_SENDER - 1
    )
    layer.sending = 1
    assert guard.tick() == 1


def test_memory_that_grew_while_nobody_was_sending_is_what_the_front_needs(
    layer: FakeLayer,
) -> None:
    guard = FloodGuard(Path("/ctl"))
    layer.used = CALM + GROWTH_BYTES + 1
    for _ in range(LOOKS_WITHOUT_SENDER):
        assert guard.tick() == 0
    looks = len(layer.ended)
    assert guard.tick() == 0
    assert len(layer.ended) == looks


def test_beyond_the_hard_limit_all_connections_are_closed(layer: FakeLayer) -> None:
    guard = FloodGuard(Path("/ctl"))
    layer.used = HARD_LIMIT_BYTES + 1
    assert guard.tick() == layer.everyone
    assert layer.ended == [True, False]
