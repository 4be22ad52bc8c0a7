"""The control channel: the two ZeroMQ sockets, and the address between them.

    client --AF_UNIX "door"--> front     hello, welcome + descriptors of the arenas; the OPEN
                                         connection is the lease: closed means released (door.py)
    client --ipc "ctl"-------> front     ZeroMQ DEALER to ROUTER, control messages only (here)

Both sockets are in one folder that only the user can enter (folder.py). The daemon binds them under
a lock; a client only ever connects. The rule that must not be broken: nothing here waits without a
bound.

Runs on Python 3.9; needs pyzmq.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

import zmq

from mattebridge.wire import protocol
from mattebridge.wire.folder import CTL

# How long ZeroMQ waits for a peer that connects and sends nothing.
HANDSHAKE_MS = 3000
SEND_LIMIT_MS = 2000
HIGH_WATER_MARK = 64


def dealer(context: zmq.Context[Any], endpoint: str) -> zmq.Socket[bytes]:
    """The client's end. It queues nothing for a daemon that is not connected."""
    connection: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    _common_options(connection)
    connection.setsockopt(zmq.IMMEDIATE, 1)
    connection.setsockopt(zmq.SNDTIMEO, SEND_LIMIT_MS)
    connection.connect(endpoint)
    return connection


def router(context: zmq.Context[Any], folder: Path) -> zmq.Socket[bytes]:
    """The front's end. Only the holder of the lock may call this: a bind takes over an address."""
    connection: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    _common_options(connection)
    connection.setsockopt(zmq.ROUTER_MANDATORY, 1)
    connection.bind(endpoint(folder))
    return connection


def endpoint(folder: Union[str, Path]) -> str:
    """The ZeroMQ address of the control channel in a runtime folder."""
    return f"ipc://{folder}/{CTL}"


def _common_options(connection: zmq.Socket[bytes]) -> None:
    connection.setsockopt(zmq.LINGER, 0)
    connection.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    connection.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    connection.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_MESSAGE_BYTES)
    connection.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
