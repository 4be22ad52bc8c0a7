"""Replies of odd shapes: whatever a daemon sends, a caller sees a result or one of our errors."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest

from fakes.places import TESTS
from mattebridge.client.connection import MatteClient
from mattebridge.client.exchange import Exchange
from mattebridge.client.in_flight import InFlight
from mattebridge.client.session import decode
from mattebridge.errors import (
    BusyError,
    ConnectionFailed,
    DaemonLost,
    MattebridgeError,
    MessageError,
)
from mattebridge.wire import protocol
from mattebridge.wire.planes import Plane

EPOCH = 123456789012
ODD: list[Any] = [
    None, True, False, -1, 0, 1, 7, 2**63 - 1, 2**64 - 1, 0.5, -1e300, "", "x", "7", b"",
    b"\xff" * 16, [], [1], ["a", 2], [[]], {}, {"a": 1}, {"self": 1}, [{}],
    [{"name": 3}], "\ud7ff\n\x1b[2J",
]  # fmt: skip
KEYS = [
    "self", "message", "retry", "kind", "code", "held", "slot", "gen", "retry_after_ms", "op", "id",
    "degraded", "notes", "timings", "started", "plates", "models", "stopping", "limit", "field",
]  # fmt: skip


class Daemon:
    """A session whose daemon answers every request with one given reply."""

    def __init__(self, reply: dict[str, Any]) -> None:
        self.pid, self.closed = os.getpid(), False
        self.arenas: dict[int, Any] = {}
        self._reply, self._waiting = reply, 0

    def send(self, message: dict[str, Any]) -> None:
        self._waiting += message["op"] != "cancel"
        self.id = message["id"]

    def receive(self, _timeout_s: float) -> list[dict[str, Any]]:
        if not self._waiting:
            return []
        self._waiting = 0
        reply = {**self._reply, "id": self.id} if "id" in self._reply else self._reply
        found = decode([protocol.MAGIC, msgpack.packb(reply)], EPOCH)
        return [] if found is None else [found]

    def close(self, *, keep_maps: bool = False) -> None:
        self.closed = True


class Memory:
    size_bytes = 4096

    def array(self, plane: Plane) -> np.ndarray[Any, Any]:
        return np.zeros((plane.h, plane.w, plane.c), np.float32)


class ArenaOfThree:
    number, generation, busy, lost = 0, 7, True, False
    memory = Memory()

    def give_back(self) -> None:
        self.busy = False


def exchange_with(reply: dict[str, Any]) -> Exchange:
    sessions = [Daemon(reply)]

    def attach() -> Any:
        if not sessions:
            raise ConnectionFailed("no daemon is running")
        return sessions.pop()

    exchange = Exchange(attach, in_flight=1)
    exchange.open()
    return exchange


def outcome_of(op: str, reply: dict[str, Any]) -> Any:
    """What a caller of `op` gets when this reply comes; None where it is dropped."""
    exchange = exchange_with(reply)
    request = InFlight(until=time.monotonic() + 60, message={"op": op}, progress=lambda *_: None)
    if op in ("render", "plate_put"):
        request.arena = ArenaOfThree()  # type: ignore[assignment]
        request.inputs = request.results = [Plane("alpha", 64, 4, 3, 1, "f4", 64)]
    exchange.register(request)
    exchange.send(request)
    exchange.poll()
    if request.finished:
        request.outcome()
        return request.reply
    return None


def golden_replies() -> Iterator[dict[str, Any]]:
    for path in sorted((TESTS / "golden" / "protocol").glob("reply_*.bin")):
        yield msgpack.unpackb(path.read_bytes())


def spoiled(value: Any, dice: random.Random, depth: int = 0) -> Any:
    """A copy with some part of it replaced, removed or added."""
    if not isinstance(value, (dict, list)) or not value or dice.random() < 0.3 * (depth > 0):
        return dice.choice(ODD)
    if isinstance(value, list):
        index = dice.randrange(len(value))
        return [spoiled(v, dice, depth + 1) if i == index else v for i, v in enumerate(value)]
    found = dict(value)
    key = dice.choice(list(found))
    if dice.random() < 0.2:
        del found[key]
    elif dice.random() < 0.3:
        found[dice.choice(KEYS)] = dice.choice(ODD)
    else:
        found[key] = spoiled(found[key], dice, depth + 1)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_no_mutated_reply_makes_a_client_raise_anything_but_our_errors(seed: int) -> None:
    dice = random.Random(seed)
    replies = list(golden_replies())
    results = 0
    for _turn in range(5000):
        reply = dice.choice(replies)
        fitting = [op for op, result in protocol.RESULTS.items() if result == reply["op"]]
        op = dice.choice(fitting or list(protocol.RESULTS))
        for _wrong in range(dice.choice((1, 1, 2, 3))):
            reply = spoiled(reply, dice)
            if not isinstance(reply, dict):
                break
        with contextlib.suppress(MattebridgeError):
            results += isinstance(reply, dict) and outcome_of(op, reply) is not None
    assert results > 100


@pytest.mark.parametrize("reply", list(golden_replies()), ids=lambda reply: reply["op"])
def test_every_golden_reply_is_understood(reply: dict[str, Any]) -> None:
    assert protocol.validate_reply(reply) == reply


@pytest.mark.parametrize("key", ["self", "kind", "details", "cls"])
def test_an_error_may_have_any_key_of_its_own(key: str) -> None:
    reply = {"op": "error", "id": b"", "epoch": EPOCH, "code": "E_BUSY", "message": "later"}
    with pytest.raises(BusyError, match="later") as raised:
        outcome_of("ping", {**reply, key: 1})
    assert raised.value.details == {key: 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"slot": "0"},
        {"slot": 1.5},
        {"gen": None},
        {"held": 1},
        {"degraded": 3},
        {"degraded": [1]},
        {"timings": {"queue_ms": "fast"}},
        {"notes": []},
        {"digest": 7},
    ],
)
def test_a_result_of_an_odd_shape_is_one_sentence(wrong: dict[str, Any]) -> None:
    done = {"op": "done", "id": b"", "epoch": EPOCH, "held": False, "slot": 0, "gen": 7}
    (key,) = wrong
    with pytest.raises(DaemonLost, match=rf"not understood.*{key}.*same mattebridge"):
        outcome_of("render", {**done, **wrong})


def test_a_reply_to_another_operation_is_no_result() -> None:
    with pytest.raises(DaemonLost, match="replied 'pong' to 'plate_list'"):
        outcome_of("plate_list", {"op": "pong", "id": b"", "epoch": EPOCH})


@pytest.mark.parametrize("plates", [None, 3, [1], [{}], [{"name": "a"}], {"a": 1}])
def test_a_list_of_plates_of_an_odd_shape_is_an_error(plates: Any) -> None:
    client = MatteClient.__new__(MatteClient)
    client._exchange = exchange_with(  # type: ignore[misc]
        {"op": "plates", "id": b"", "epoch": EPOCH, "plates": plates}
    )
    with pytest.raises(DaemonLost, match="plates"):
        client.held_clean_plates()


@pytest.mark.parametrize(
    "change",
    [
        {"slots": [{"id": 0, "bytes": 2097152.0}]},
        {"slots": [{"id": 0, "bytes": 0}]},
        {"slots": [{"id": "0", "bytes": 2097152}]},
        {"slots": [7]},
        {"slots": {}},
        {"sid": b"short"},
        {"server": {"epoch": "1"}},
        {"server": []},
        {"proto": 1.0},
    ],
)
def test_a_welcome_of_an_odd_shape_is_refused(change: dict[str, Any]) -> None:
    data = (TESTS / "golden" / "protocol" / "door_welcome.bin").read_bytes()
    welcome = protocol.unpack(data)
    assert protocol.validate_reply(welcome) == welcome
    with pytest.raises(MessageError):
        protocol.validate_reply({**welcome, **change})
