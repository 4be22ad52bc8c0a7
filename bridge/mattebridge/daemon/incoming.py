"""One message of a client, as it came out of the control channel."""

from __future__ import annotations

from typing import NamedTuple


class Incoming(NamedTuple):
    """One message that arrived: its connection, the sender's user and process, its parts."""

    routing_id: bytes
    uid: int
    pid: int
    parts: list[bytes]
