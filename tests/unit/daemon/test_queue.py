"""The fair queue: first in first out within a session, in turn between sessions, batch last."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mattebridge.daemon.queue import FairQueue

AGEING_S = 10.0
_numbers = count()


@dataclass(frozen=True)
class Item:
    owner: str
    name: str = ""
    priority: str = "interactive"
    arrived: float = 0.0
    device: Optional[str] = None
    number: int = field(default_factory=lambda: next(_numbers))


def _queue(*items: Item) -> FairQueue[Item]:
    queue: FairQueue[Item] = FairQueue(AGEING_S)
    for item in items:
        queue.push(item)
    return queue


def _drain(queue: FairQueue[Item], now: float = 0.0, device: str = "cpu") -> list[str]:
    names = []
    while (item := queue.pop(now, device)) is not None:
        names.append(item.name)
    return names


def test_an_empty_queue_gives_nothing() -> None:
    queue = _queue()
    assert queue.pop(0.0, "cpu") is None
    assert len(queue) == 0
    assert list(queue) == []


def test_frames_of_one_session_keep_their_order() -> None:
    assert _drain(_queue(*(Item("a", str(n)) for n in range(5)))) == list("01234")


def test_a_session_with_many_frames_delays_another_by_one_frame() -> None:
    queue = _queue(*(Item("flood", f"f{n}") for n in range(100)), Item("artist", "a"))
    assert _drain(queue)[:3] == ["f0", "a", "f1"]


def test_sessions_take_turns() -> None:
    items = [Item(owner, f"{owner}{n}") for owner in "abc" for n in range(3)]
    assert _drain(_queue(*items)) == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_a_session_that_comes_back_waits_behind_those_who_stayed() -> None:
    queue = _queue(Item("a", "a0"), Item("b", "b0"), Item("b", "b1"))
    first = queue.pop(0.0, "cpu")
    assert first is not None
    assert first.name == "a0"
    queue.push(Item("a", "a1"))
    assert _drain(queue) == ["b0", "a1", "b1"]


def test_interactive_frames_go_before_batch_frames() -> None:
    queue = _queue(Item("farm", "b0", "batch"), Item("farm", "b1", "batch"), Item("artist", "i0"))
    assert queue.count("batch") == 2
    assert queue.count("interactive") == 1
    assert _drain(queue) == ["i0", "b0", "b1"]


def test_a_batch_frame_that_has_waited_long_takes_its_turn_among_interactive_ones() -> None:
    queue = _queue(
        *(Item("artist", f"i{n}", arrived=float(n)) for n in range(4)),
        *(Item("farm", f"b{n}", "batch", arrived=0.0) for n in range(4)),
    )
    assert _drain(queue, now=AGEING_S + 1) == ["i0", "b0", "i1", "b1", "i2", "b2", "i3", "b3"]


def test_a_farm_that_has_waited_long_does_not_push_the_artist_aside() -> None:
    farm = [Item("farm", "b", "batch", arrived=0.0) for _ in range(200)]
    queue = _queue(*farm, Item("artist", "i", arrived=1000.0))
    served = [queue.pop(1000.0, "cpu") for _ in range(2)]
    assert "i" in [item.name for item in served if item is not None]


def test_a_batch_frame_that_has_not_waited_long_stays_behind() -> None:
    queue = _queue(
        Item("farm", "b", "batch", arrived=0.0), *(Item("artist", f"i{n}") for n in range(3))
    )
    assert _drain(queue, now=AGEING_S - 1) == ["i0", "i1", "i2", "b"]


def test_work_for_one_device_is_given_to_no_other() -> None:
    queue = _queue(Item("a", "first", device="cuda:1"), Item("b", "any"))
    assert _drain(queue, device="cuda:0") == ["any"]
    assert len(queue) == 1
    assert _drain(queue, device="cuda:1") == ["first"]


def test_work_for_a_device_that_is_starting_does_not_hold_back_what_others_can_do() -> None:
    queue = _queue(
        Item("a", "load 0", device="cuda:0"),
        Item("a", "load 1", device="cuda:1"),
        Item("a", "frame"),
    )
    assert _drain(queue, device="cuda:0") == ["load 0", "frame"]
    assert _drain(queue, device="cuda:1") == ["load 1"]


def test_a_request_is_taken_out_once() -> None:
    item, other = Item("a", "x"), Item("a", "y")
    queue = _queue(item, other)
    assert queue.remove(item)
    assert not queue.remove(item)
    assert not queue.remove(Item("nobody"))
    assert _drain(queue) == ["y"]


def test_requests_are_taken_out_by_a_condition_oldest_first() -> None:
    items = [
        Item("a", "late", arrived=3.0),
        Item("b", "early", "batch", arrived=1.0),
        Item("c", "kept", arrived=2.0),
    ]
    queue = _queue(*items)
    assert [item.name for item in queue] == ["early", "kept", "late"]
    taken = queue.take_if(lambda item: item.name != "kept")
    assert [item.name for item in taken] == ["early", "late"]
    assert _drain(queue) == ["kept"]


_items = st.builds(
    Item,
    owner=st.sampled_from("abcd"),
    priority=st.sampled_from(["interactive", "batch"]),
    arrived=st.floats(0, 20),
    device=st.sampled_from([None, None, "cpu", "cuda:0"]),
)
_steps = st.lists(st.one_of(_items, st.sampled_from(["pop", "remove"])), max_size=60)


@given(_steps)
def test_nothing_is_lost_served_twice_or_served_out_of_its_sessions_order(
    steps: list[Any],
) -> None:
    queue: FairQueue[Item] = FairQueue(AGEING_S)
    waiting: list[Item] = []
    for step in steps:
        if isinstance(step, Item):
            queue.push(step)
            waiting.append(step)
        elif step == "remove" and waiting:
            item = waiting.pop(len(waiting) // 2)
            assert queue.remove(item)
        elif step == "pop":
            item = queue.pop(25.0, "cpu")
            if item is None:
                # Only work for another device may be left.
                assert all(w.device == "cuda:0" for w in waiting)
                continue
            own = [w for w in waiting if w.device in (None, "cpu")]
            mates = [w for w in own if (w.owner, w.priority) == (item.owner, item.priority)]
            assert mates[0] is item
            waiting.remove(item)
        assert len(queue) == len(waiting)
        assert queue.count("batch") == sum(w.priority == "batch" for w in waiting)


@pytest.mark.parametrize("sessions", [2, 7])
def test_over_any_stretch_busy_sessions_are_served_equally(sessions: int) -> None:
    items = [Item(str(owner), str(owner)) for owner in range(sessions) for _ in range(20)]
    served = _drain(_queue(*items))
    for start in range(0, len(served) - sessions):
        assert len(set(served[start : start + sessions])) == sessions
