"""F18: the readers of messages under fuzz: golden messages, cut, spliced, inflated and flipped.

A seeded mutator works on the golden corpus, so that most of what it makes is nearly right and gets
far. In this process only our own errors may come out, and memory stays where it is. Against a real
daemon, whatever has a readable id gets exactly one final reply, and nothing else gets any.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest

from fakes.base_line import AbusedDaemon, resident_bytes
from fakes.places import TESTS
from fakes.raw_client import Raw, RawClient, connect_to_door
from mattebridge.client import session
from mattebridge.errors import DaemonLost, MattebridgeError, MessageError
from mattebridge.wire import planes, protocol
from mattebridge.wire.door import check_arenas, check_welcome
from mattebridge.wire.slots import HEADER_BYTES

GOLDEN = TESTS / "golden" / "protocol"
CORPUS = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.bin"))}
# How long the slow ones go on; FUZZ_SECONDS=600 for the ten minutes that a release deserves.
LONG_S = float(os.environ.get("FUZZ_SECONDS", "6"))
SEED = 20
EPOCH = 123456789012  # of the replies in the corpus

# Headers, edges and keys that mean something to a msgpack reader or to ours.
TOKENS = [
    *(bytes([first]) for first in (0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xC3)),
    b"\xc4\x10" + bytes(16),
    b"\xc6\xff\xff\xff\xff",
    b"\xd9\xff",
    b"\xdb\x7f\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xde\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + bytes(7),
    b"\xd4\x01\x00",
    b"\xd6\xff\x00\x00\x00\x00",
    b"\x91" * 40,
    b"\x81\xa1a" * 40,
    *(msgpack.packb(key) for key in ("op", "id", "sid", "in", "out", "slot", "gen", "params")),
    *(msgpack.packb(op) for op in protocol.REQUESTS if op != "shutdown"),
]


class Mutator:
    """Broken copies of messages, the same ones for the same seed."""

    def __init__(self, seed: int, corpus: list[bytes]) -> None:
        self._random = random.Random(seed)
        self._corpus = corpus

    def one(self, base: bytes | None = None) -> bytes:
        """A message with one to four things wrong with it."""
        data = bytearray(self._random.choice(self._corpus) if base is None else base)
        for _wrong in range(self._random.choice((1, 1, 1, 2, 3, 4))):
            self._spoil(data)
        return bytes(data[: protocol.MAX_MESSAGE_BYTES + 10])

    def _spoil(self, data: bytearray) -> None:
        here = self._random.randrange(len(data) + 1)
        there = min(len(data), here + self._random.randrange(1, 20))
        kind = self._random.randrange(7)
        if kind == 0 and here < len(data):
            data[here] ^= 1 << self._random.randrange(8)
        elif kind == 1:
            del data[here:there]
        elif kind == 2:
            data[here:here] = self._random.choice(TOKENS)
        elif kind == 3:
            data[here:there] = self._random.choice(TOKENS)
        elif kind == 4:
            data[here:here] = data[here:there] * self._random.choice((1, 2, 50))
        elif kind == 5:
            other = self._random.choice(self._corpus)
            data[here:] = other[self._random.randrange(len(other)) :]
        else:
            del data[here:]


def _read_as_everybody_would(data: bytes) -> None:
    """All that any of our programs does with bytes that came in."""
    with contextlib.suppress(DaemonLost):
        session.decode([protocol.MAGIC, data], EPOCH)
    message = protocol.unpack(data)
    with contextlib.suppress(MessageError):
        protocol.nonce("id", message.get("id"))
    for expected in ("hello", "resize"):
        with contextlib.suppress(MessageError):
            hello = protocol.validate_door(message, expected)
            protocol.negotiate(hello.get("proto", [1, 1]))
    with contextlib.suppress(MattebridgeError):
        reply = protocol.validate_reply(message)
        if reply["op"] == "error":
            assert isinstance(protocol.error_of(reply), MattebridgeError)
        check_arenas(reply, [])
        check_welcome(reply, Path("/nowhere"))
    request = protocol.validate_request(message)
    if request["op"] == "render":
        planes.check_planes(request["in"], request["out"], 4 << 20, HEADER_BYTES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "seconds"),
    [
        (SEED, 3),
        pytest.param(None, LONG_S, marks=[pytest.mark.slow, pytest.mark.timeout(LONG_S + 300)]),
    ],
)
def test_f18_no_broken_message_makes_a_reader_raise_anything_but_our_errors(
    seed: int | None, seconds: float
) -> None:
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    mutator = Mutator(seed, list(CORPUS.values()))
    for _warm_up in range(2000):
        with contextlib.suppress(MattebridgeError):
            _read_as_everybody_would(mutator.one())
    before, count, passed = resident_bytes(os.getpid()), 0, 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _turn in range(100):
            data = mutator.one()
            count += 1
            try:
                _read_as_everybody_would(data)
                passed += 1
            except MattebridgeError:
                continue
            except Exception as error:
                raise AssertionError(f"seed {seed}, message {data.hex()}") from error
    assert passed > 0, "every message was refused: the fuzz does not get far"
    assert count > 100
    assert resident_bytes(os.getpid()) - before < 16 << 20


def _live_corpus(client: RawClient) -> list[dict[str, Any]]:
    """Requests that this session could send, `shutdown` left out and arenas in their place."""
    found = []
    for name, data in CORPUS.items():
        message = msgpack.unpackb(data) if name.startswith("request_") else {}
        if message.get("op") not in (None, "shutdown", "plate_put", "models_unload"):
            found.append({**message, "sid": client.sid})
    found += [{"v": 1, "sid": client.sid, **client.render(slot=slot)} for slot in client.arenas]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "seconds"),
    [
        (SEED, 3),
        pytest.param(None, LONG_S / 2, marks=[pytest.mark.slow, pytest.mark.timeout(LONG_S + 300)]),
    ],
)
def test_f18_a_daemon_answers_what_has_an_id_once_and_nothing_else(
    daemon: AbusedDaemon, raw: Raw, seed: int | None, seconds: float
) -> None:
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    client = raw(daemon, slots=4)
    corpus = _live_corpus(client)
    choice = random.Random(seed)
    mutator = Mutator(seed, [msgpack.packb(message) for message in corpus])
    until = time.monotonic() + seconds
    generation, answered = 10, 0
    while time.monotonic() < until:
        expected: set[bytes] = set()
        for _turn in range(40):
            generation += 1
            base = {**choice.choice(corpus), "id": choice.randbytes(16)}
            if "gen" in base:
                base["gen"] = generation
            data = mutator.one(msgpack.packb(base))
            if len(data) > protocol.MAX_MESSAGE_BYTES:
                continue
            request_id = _readable_id(data)
            if request_id in expected:
                continue
            if request_id is not None:
                expected.add(request_id)
            client.send_bytes(data)
        finals = _finals(client, expected, f"seed {seed}")
        assert sorted(finals) == sorted(expected), f"seed {seed}"
        answered += len(finals)
    assert answered > 0


def _readable_id(data: bytes) -> bytes | None:
    try:
        return protocol.nonce("id", protocol.unpack(data).get("id"))
    except MessageError:
        return None


def _finals(client: RawClient, expected: set[bytes], hint: str) -> list[bytes]:
    """The ids of all final replies, until all that are due are there and a ping came back."""
    finals: list[bytes] = []
    ping = client.send({"op": "ping"})
    ponged = False
    until = time.monotonic() + 30
    while not (ponged and expected <= set(finals)):
        reply = client.receive(until - time.monotonic())
        assert reply is not None, f"{hint}: no reply for {sorted(expected - set(finals))}"
        if reply["id"] == ping:
            ponged = True
        elif reply["op"] not in ("progress", "released"):
            finals.append(reply["id"])
    return finals


@pytest.mark.parametrize(
    ("seed", "count"),
    [(SEED, 150), pytest.param(None, 5000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_f18_a_door_survives_every_broken_hello(
    daemon: AbusedDaemon, seed: int | None, count: int
) -> None:
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    doors = [data for name, data in CORPUS.items() if name.startswith("door_")]
    small = msgpack.packb(
        {
            "op": "hello",
            "proto": [1, 1],
            "client": {"name": "fuzz", "ver": "0"},
            "want": {"slots": 1, "bytes": 4096},
        }
    )
    mutator = Mutator(seed, [*doors, small])
    for _turn in range(count):
        with contextlib.closing(connect_to_door(daemon.folder)) as door:
            for data in (mutator.one(small), mutator.one()):
                with contextlib.suppress(OSError):
                    door.send(data[:4096])
    with daemon.connect() as client:
        assert client.ping()["state"] == "ready"
