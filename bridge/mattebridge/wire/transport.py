"""The runtime folder, the door and the ZeroMQ sockets: how a client reaches the daemon.

    client --AF_UNIX "door"--> front     hello, welcome + descriptors of the arenas; the OPEN
                                         connection is the lease: closed means released
    client --ipc "ctl"-------> front     ZeroMQ DEALER to ROUTER, control messages only

Both sockets live in one folder that only the user can enter. The daemon binds them under a lock;
a client only ever connects. The rule that must not be broken: nothing here waits without a bound.

Runs on Python 3.9; needs pyzmq.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

import zmq

from mattebridge.wire import protocol
from mattebridge.wire.folder import CTL

HANDSHAKE_MS = 3000
HIGH_WATER_MARK = 64


# ---------------------------------------------------------------------------------------------
# The door, seen from the client


# ---------------------------------------------------------------------------------------------
# ZeroMQ sockets


def dealer(context: zmq.Context[Any], endpoint: str) -> zmq.Socket[bytes]:
    """The client's end of the control channel. Never blocks, never queues for an absent daemon."""
    connection: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    _common_options(connection)
    connection.setsockopt(zmq.IMMEDIATE, 1)
    connection.setsockopt(zmq.SNDTIMEO, 2000)
    connection.connect(endpoint)
    return connection


def router(context: zmq.Context[Any], folder: Path) -> zmq.Socket[bytes]:
    """The front's end. Only the holder of the lock may call this: a bind steals an endpoint."""
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
