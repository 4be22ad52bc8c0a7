"""Control messages as records, as Windows has them, over connections of this system."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes.limits import SOON_S
from mattebridge.daemon.incoming import Incoming
from mattebridge.daemon.loop import Loop
from mattebridge.daemon.record_carrier import RecordCarrier
from mattebridge.errors import ConnectionFailed
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.transport import MAX_RECORD_BYTES, RecordChannel


class Front:
    """What the front does with a carrier."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = Loop()
        self.carrier = RecordCarrier(oslayer.current(), folder)
        self.came: list[Incoming] = []
        self.accepted = 0
        self.carrier.open(self.loop, self._receive, self._accept)

    def _receive(self) -> None:
        self.came += self.carrier.receive()

    def _accept(self) -> None:
        self.accepted += 1

    def turn_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + SOON_S
        while not condition():
            assert time.monotonic() < until
            self.loop.turn(0.01)

    def connect(self) -> RecordChannel:
        return RecordChannel(oslayer.current(), self.folder / "ctl")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own paths are too long for a socket
        yield Path(folder)


@pytest.fixture
def front(short_folder: Path) -> Iterator[Front]:
    made = Front(short_folder)
    yield made
    made.carrier.close()


def never() -> bool:
    return False


def fill(channel: RecordChannel) -> None:
    """Send what nobody reads, until nothing fits any more and the daemon counts as ended."""
    while True:
        channel.send(bytes(1 << 15), lambda: True)


def test_a_message_comes_with_its_senders_process_and_its_reply_goes_back(front: Front) -> None:
    channel = front.connect()
    assert not channel.readable()
    channel.send(b"question", never)
    front.turn_until(lambda: bool(front.came))
    (incoming,) = front.came
    assert incoming.parts == [protocol.MAGIC, b"question"]
    assert (incoming.uid, incoming.pid) == (oslayer.current().user_id(), os.getpid())
    assert front.accepted == 1
    assert front.carrier.send(incoming.routing_id, b"answer")
    assert channel.readable()
    assert channel.receive() == [protocol.MAGIC, b"answer"]
    channel.close()


def test_a_reply_to_one_that_is_gone_is_not_sent(front: Front) -> None:
    channel = front.connect()
    channel.send(b"question", never)
    front.turn_until(lambda: bool(front.came))
    channel.close()
    front.turn_until(lambda: not front.carrier.send(front.came[0].routing_id, b"answer"))


def test_a_message_over_the_limit_ends_its_connection_and_no_other(front: Front) -> None:
    good, bad = front.connect(), front.connect()
    bad.send(bytes(MAX_RECORD_BYTES), never)
    with pytest.raises(ConnectionResetError):
        front.turn_until(lambda: bad.readable() and bool(bad.receive()))
    assert not bad.readable(), "the end is told once"
    good.send(b"question", never)
    front.turn_until(lambda: bool(front.came))
    assert [incoming.parts[1] for incoming in front.came] == [b"question"]
    good.close()
    bad.close()


def test_a_daemon_that_takes_nothing_is_noticed_when_it_ends(front: Front) -> None:
    channel = front.connect()
    with pytest.raises(ConnectionAbortedError):
        fill(channel)
    channel.close()


def test_who_cannot_connect_is_told_where(short_folder: Path) -> None:
    with pytest.raises(ConnectionFailed, match=str(short_folder)):
        RecordChannel(oslayer.current(), short_folder / "ctl")
