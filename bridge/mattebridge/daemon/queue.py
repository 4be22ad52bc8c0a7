"""The fair queue: which request a device serves next.

Each session has one line for each priority, first in, first out; work for one certain device does
not hold back what stands behind it and may run on another. Interactive lines are served
before batch lines. Lines of one priority are served in turn, so that a session with a thousand
frames delays the single frame of another session by one frame. A batch line whose first frame has
waited `ageing_s` is served in turn with the interactive lines: a farm always makes progress, and
never takes more than its turn.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Callable, Generic, Optional, Protocol, TypeVar


class Waiting(Protocol):
    """What the queue reads of a request."""

    priority: str
    arrived: float
    device: Optional[str]

    @property
    def owner(self) -> Hashable:
        """The session in whose line it waits."""


_Item = TypeVar("_Item", bound=Waiting)


class FairQueue(Generic[_Item]):
    """Requests that wait, in lines by owner and priority."""

    def __init__(self, ageing_s: float) -> None:
        self._ageing_s = ageing_s
        # In the order of their turns: the line that was served last is the last one.
        self._lines: OrderedDict[tuple[str, Hashable], deque[_Item]] = OrderedDict()
        self._counts = {"interactive": 0, "batch": 0}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def count(self, priority: str) -> int:
        """The number of waiting requests of this priority."""
        return self._counts[priority]

    def push(self, item: _Item) -> None:
        """Put a request at the end of its owner's line."""
        self._lines.setdefault((item.priority, item.owner), deque()).append(item)
        self._counts[item.priority] += 1

    def pop(self, now: float, device: str) -> Optional[_Item]:
        """The request that this device should serve next, or None."""
        waiting: Optional[_Item] = None
        for line in self._lines.values():
            item = next((item for item in line if item.device in (None, device)), None)
            if item is None:
                continue
            if item.priority == "interactive" or now - item.arrived > self._ageing_s:
                return self._serve(item)
            waiting = waiting or item
        return None if waiting is None else self._serve(waiting)

    def _serve(self, item: _Item) -> _Item:
        key = (item.priority, item.owner)
        self.remove(item)
        if key in self._lines:
            self._lines.move_to_end(key)
        return item

    def remove(self, item: _Item) -> bool:
        """Take one request out; False when it is not in the queue."""
        key = (item.priority, item.owner)
        line = self._lines.get(key)
        if line is None or item not in line:
            return False
        line.remove(item)
        self._counts[item.priority] -= 1
        if not line:
            del self._lines[key]
        return True

    def take_if(self, wanted: Callable[[_Item], bool]) -> list[_Item]:
        """Take out every request for which `wanted` is true, oldest first."""
        found = [item for item in self if wanted(item)]
        for item in found:
            self.remove(item)
        return found

    def __iter__(self) -> Iterator[_Item]:
        items = [item for line in self._lines.values() for item in line]
        return iter(sorted(items, key=lambda item: item.arrived))
