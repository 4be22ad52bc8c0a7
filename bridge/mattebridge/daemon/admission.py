"""How many may be at the door: connections without a hello yet, and sessions of one process.

    connect --> without hello (64, the oldest of the process with most is closed for the next)
    hello   --> session       (of one process: twice the sessions with arenas; a few seats are kept
                               for processes that have no session, which are `status` and `stop`)

The rule that must not be broken: one process, whatever it opens, never keeps the others out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Optional

from mattebridge.errors import QuotaError

if TYPE_CHECKING:
    from mattebridge.daemon.leases import Lease

# Connections that have not sent their hello. A client sends it at once.
MAX_WITHOUT_HELLO = 64
# Sessions without arenas do not count toward the limit of sessions; these bound them too.
SESSIONS_FOR_EACH_WITH_ARENAS = 4
OF_ONE_PROCESS_FOR_EACH_WITH_ARENAS = 2
# Seats beyond all limits for processes that have no other session or only one: `status`, `stop`.
RESERVED_SESSIONS = 16
FEW_SESSIONS = 2


class WithoutHello:
    """The connections that have not become sessions yet, oldest first."""

    def __init__(self) -> None:
        self._leases: list[Lease] = []

    def add(self, lease: Lease) -> Optional[Lease]:
        """Enter a new connection; the one to be closed for it, when there are too many.

        That is the oldest silent one of the process that has most of them.
        """
        self._leases.append(lease)
        silent = [lease for lease in self._leases if not lease.allocating]
        if len(silent) <= MAX_WITHOUT_HELLO:
            return None
        share = Counter(lease.peer.pid for lease in silent)
        return max(silent, key=lambda lease: share[lease.peer.pid])

    def remove(self, lease: Lease) -> bool:
        """Forget a connection that became a session or was closed; whether it was known."""
        if lease not in self._leases:
            return False
        self._leases.remove(lease)
        return True

    def silent_since(self, before: float) -> list[Lease]:
        """Those that were opened before this time and have sent nothing."""
        return [lease for lease in self if not lease.allocating and lease.opened < before]

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._leases))


def check_sessions(leases: Collection[Lease], pid: int, with_arenas: int) -> None:
    """Raise `QuotaError` when process `pid` may have no further session.

    with_arenas: the limit of sessions with arenas, from which the others follow.
    """
    own = sum(lease.peer.pid == pid for lease in leases)
    if own >= OF_ONE_PROCESS_FOR_EACH_WITH_ARENAS * with_arenas:
        raise QuotaError(
            f"process {pid} has {own} sessions open, which is the limit of one process: close "
            "some, or raise MATTEBRIDGE_MAX_SESSIONS",
            limit="sessions",
        )
    most = SESSIONS_FOR_EACH_WITH_ARENAS * with_arenas
    if own < FEW_SESSIONS:
        most += RESERVED_SESSIONS
    if len(leases) >= most:
        raise too_many_sessions(len(leases))


def too_many_sessions(found: int) -> QuotaError:
    """The error for a session more than there may be."""
    return QuotaError(
        f"{found} sessions are open, which is the limit: close some, or raise "
        "MATTEBRIDGE_MAX_SESSIONS",
        limit="sessions",
    )
