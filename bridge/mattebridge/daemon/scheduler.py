"""The fair queue: who is served next when everybody wants the one device.

Each session has a line of its own for each priority, first in, first out. Interactive lines go
before batch lines; among sessions of one priority it is round robin, so that a session that sends
a thousand frames delays another one's single frame by one frame. A batch frame that has waited
`batch_ageing_s` counts as interactive, so that a farm never starves.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Callable, Generic, Optional, Protocol, TypeVar


class Waiting(Protocol):
    """What the queue needs to know of a request."""

    priority: str
    arrived: float
    device: Optional[str]

    @property
    def owner(self) -> Hashable:
        """Whose line it stands in."""


_Item = TypeVar("_Item", bound=Waiting)


class FairQueue(Generic[_Item]):
    """Requests that wait, in lines by owner and priority."""

    def __init__(self, ageing_s: float) -> None:
        self._ageing_s = ageing_s
        self._lines: dict[str, OrderedDict[Hashable, deque[_Item]]] = {
            "interactive": OrderedDict(),
            "batch": OrderedDict(),
        }
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def count(self, priority: str) -> int:
        """How many requests of this priority wait."""
        return sum(len(line) for line in self._lines[priority].values())

    def push(self, item: _Item) -> None:
        """Put a request at the end of its owner's line."""
        lines = self._lines[item.priority]
        lines.setdefault(item.owner, deque()).append(item)
        self._count += 1

    def pop(self, now: float, device: str) -> Optional[_Item]:
        """The request that this device should serve next, or None."""
        aged = self._oldest_batch(device)
        if aged is not None and now - aged.arrived > self._ageing_s:
            self.remove(aged)
            return aged
        for lines in self._lines.values():
            for owner, line in lines.items():
                if line[0].device in (None, device):
                    item = line[0]
                    self.remove(item)
                    if owner in lines:
                        lines.move_to_end(owner)
                    return item
        return None

    def _oldest_batch(self, device: str) -> Optional[_Item]:
        heads = [line[0] for line in self._lines["batch"].values()]
        heads = [item for item in heads if item.device in (None, device)]
        return min(heads, key=lambda item: item.arrived, default=None)

    def remove(self, item: _Item) -> bool:
        """Take one request out; False when it does not wait here."""
        lines = self._lines[item.priority]
        line = lines.get(item.owner)
        if line is None or item not in line:
            return False
        line.remove(item)
        self._count -= 1
        if not line:
            del lines[item.owner]
        return True

    def take_if(self, wanted: Callable[[_Item], bool]) -> list[_Item]:
        """Take out every request for which `wanted` is true, oldest first."""
        found = [item for item in self if wanted(item)]
        for item in found:
            self.remove(item)
        return found

    def __iter__(self):  # type: ignore[no-untyped-def]
        items = [item for lines in self._lines.values() for line in lines.values() for item in line]
        return iter(sorted(items, key=lambda item: item.arrived))
