"""Who may be at the door: one process never keeps the others out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mattebridge.daemon.admission import (
    MAX_WITHOUT_HELLO,
    RESERVED_SESSIONS,
    WithoutHello,
    check_sessions,
)
from mattebridge.errors import QuotaError


def lease(pid: int, *, allocating: bool = False) -> Any:
    return SimpleNamespace(peer=SimpleNamespace(pid=pid), allocating=allocating, opened=0.0)


def test_the_oldest_silent_connection_of_the_process_with_most_is_closed_for_the_next() -> None:
    waiting = WithoutHello()
    polite = lease(1)
    assert waiting.add(polite) is None
    flood = [lease(2) for _ in range(3 * MAX_WITHOUT_HELLO)]
    closed = [waiting.add(connection) for connection in flood]
    for connection in filter(None, closed):
        waiting.remove(connection)
    # Every addition was followed by at most one removal, always of the flood, oldest first.
    assert polite in list(waiting)
    assert closed[-1].peer.pid == 2
    newcomer = lease(3)
    leaving = waiting.add(newcomer)
    assert leaving.peer.pid == 2


def test_of_processes_with_equal_shares_the_oldest_connection_is_closed() -> None:
    waiting = WithoutHello()
    connections = [lease(pid) for pid in range(MAX_WITHOUT_HELLO + 1)]
    assert [waiting.add(connection) for connection in connections][-1] is connections[0]


def test_a_connection_whose_arenas_are_being_allocated_is_not_silent() -> None:
    waiting = WithoutHello()
    connections = [lease(1, allocating=True) for _ in range(2 * MAX_WITHOUT_HELLO)]
    assert not any(waiting.add(connection) for connection in connections)
    assert waiting.silent_since(1.0) == []


def test_a_process_has_at_most_twice_the_sessions_that_may_have_arenas() -> None:
    leases = [lease(1) for _ in range(8)]
    check_sessions(leases[:7], 1, 4)
    with pytest.raises(QuotaError, match="process 1 has 8 sessions"):
        check_sessions(leases, 1, 4)
    check_sessions(leases, 2, 4)


def test_the_last_seats_are_kept_for_processes_that_have_hardly_any_session() -> None:
    full = [lease(pid) for pid in (1, 2) for _ in range(8)]
    check_sessions(full, 3, 4)
    with pytest.raises(QuotaError, match="16 sessions are open"):
        check_sessions([*full[:14], lease(4), lease(4)], 4, 4)
    with pytest.raises(QuotaError):
        check_sessions([*full, *(lease(pid) for pid in range(3, 3 + RESERVED_SESSIONS))], 99, 4)
