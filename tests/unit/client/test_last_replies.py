"""The end of a daemon for a client: the door ends first, and a reply may still be under way."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import msgpack
import numpy as np
import pytest

from fakes.limits import SOON_S
from fakes.ofx_daemon import FakeDaemon
from mattebridge.client import MatteClient
from mattebridge.errors import DaemonLost

PLATE = np.zeros((8, 8, 3), np.float32)
# Longer than a busy machine's scheduler makes a thread wait by rule, well below what is waited.
LATE_S = 0.1


class EndingDaemon(FakeDaemon):
    """It closes the door, as one that stops does, and then sends the reply, or nothing."""

    replies_late = True

    def _greet(self, door: socket.socket) -> None:
        while data := door.recv(8192):
            want = msgpack.unpackb(data)["want"]
            fds = [self._memory(want["bytes"]) for _ in range(want["slots"])]
            numbers = range(self._arenas - len(fds), self._arenas)
            slots = [{"id": number, "bytes": want["bytes"]} for number in numbers]
            self._send_fds(door, msgpack.packb({**self.welcome({}), "slots": slots}), fds)

    def reply(self, request: dict[str, Any], op: str, **more: Any) -> dict[str, Any]:
        said = {"model": "m", "digest": "d", "notes": {}, "timings": {}, "device": "cpu"}
        return super().reply(request, op, **said, **more)

    def answer(self, request: dict[str, Any]) -> list[Any]:
        for connection in list(self._connections):
            if connection.type == socket.SOCK_SEQPACKET:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        time.sleep(LATE_S)
        return super().answer(request) if self.replies_late else []


def test_a_reply_that_comes_after_the_end_of_the_door_is_taken() -> None:
    with EndingDaemon() as daemon, MatteClient.connect(str(daemon.folder)) as client:
        matte = client.matte(PLATE, PLATE, colorspace="linear")
        assert (matte.alpha == daemon.fill).all()


def test_a_door_that_ended_without_a_reply_is_a_lost_daemon() -> None:
    with EndingDaemon() as daemon, MatteClient.connect(str(daemon.folder)) as client:
        daemon.replies_late = False
        handle = client.submit(PLATE, PLATE, colorspace="linear")
        with pytest.raises(DaemonLost):
            handle.result(SOON_S)
