"""The plugin against a daemon that lies: an error within its time, no crash, no hang, no write."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Callable

import msgpack
import numpy as np
import pytest

from fakes.limits import SOON_S
from fakes.ofx_daemon import GREETING, READY, STREAM, FakeDaemon, framed, message, record
from fakes.ofx_host import FAILED, GENERAL, OK, HostImage, Instance, OfxHost
from fakes.ofx_scene import scene

TIMEOUT_S = 1.0
# Only a hang takes so long, however busy the machine.
HANG_S = 20.0


def connected(host: OfxHost, daemon: FakeDaemon) -> Instance:
    plate, clean = scene()
    node = host.create(GENERAL, endpoint=str(daemon.folder), timeout=TIMEOUT_S)
    return node.connect(Source=HostImage(plate), Background=HostImage(clean))


def fails(node: Instance) -> str:
    """The sentence of a render that must fail in time, without a pixel."""
    started = time.monotonic()
    status, output = node.render()
    assert time.monotonic() - started < TIMEOUT_S + HANG_S
    assert status == FAILED
    assert not output.pixels().any()
    assert node.message is not None
    return node.message[1]


def after_that_all_is_well(node: Instance) -> None:
    """A well-behaved daemon in the same place is used as if nothing had been."""
    with FakeDaemon() as daemon:
        node.set(endpoint=str(daemon.folder), timeout=SOON_S)
        status, output = node.render()
        assert (status, node.message) == (OK, None)
        assert (output.pixels() == np.float32(0.25)).all()


GREETINGS = {
    "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n".ljust(64, b"x"),
    "zeros": bytes(64),
    "major 2": GREETING[:10] + b"\x02" + GREETING[11:],
    "major 1, unversioned": b"\xff" + bytes(8) + b"\x7e" + GREETING[10:],
    "another mechanism": GREETING[:12] + b"CURVE".ljust(20, b"\0") + GREETING[32:],
    "half of it": GREETING[:30],
    "nothing": b"",
}


@pytest.mark.parametrize("name", GREETINGS)
def test_another_greeting_is_refused(host: OfxHost, name: str) -> None:
    with FakeDaemon() as daemon:
        daemon.greeting = GREETINGS[name]
        if len(daemon.greeting) < 64:
            daemon.ready = b""
        node = connected(host, daemon)
        fails(node)
        assert daemon.requests == []
    after_that_all_is_well(node)


HANDSHAKES = {
    "ERROR": b"\x04\x0d\x05ERROR\x06no way",
    "a message before READY": framed(b"MTB1", 1) + framed(b"\x80"),
    "a command that goes on": b"\x05" + READY[1:],
    "reserved flags": b"\x44" + READY[1:],
    "a command of four gigabytes": b"\x06\0\0\0\1\0\0\0\0",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_another_handshake_is_refused(host: OfxHost, name: str) -> None:
    with FakeDaemon() as daemon:
        daemon.ready = HANDSHAKES[name]
        node = connected(host, daemon)
        fails(node)
        assert daemon.requests == []
    after_that_all_is_well(node)


def done(daemon: FakeDaemon, request: dict[str, Any], **changes: Any) -> bytes:
    reply = {**daemon.reply(request, "done", degraded=[]), **changes}
    return msgpack.packb({key: value for key, value in reply.items() if value is not None})


REPLIES: dict[str, Callable[[FakeDaemon, dict[str, Any]], list[Any]]] = {
    "the end in the middle of a frame": lambda d, r: [message(d.reply(r, "done"))[:20], None],
    "a frame of 65,537 bytes": lambda d, r: [framed(b"MTB1", 1) + framed(b"x" * 65537)],
    "a frame of many gigabytes": lambda d, r: [b"\x02\x7f" + b"\xff" * 7],
    "five frames": lambda d, r: [framed(b"MTB1", 1) + framed(b"", 1) * 3 + framed(b"")],
    "endless frames": lambda d, r: [framed(b"", 1) * 100000],
    "one frame": lambda d, r: [framed(done(d, r))],
    "three frames": lambda d, r: [framed(b"MTB1", 1) + framed(done(d, r), 1) + framed(b"")],
    "another tag": lambda d, r: [framed(b"MTB2", 1) + framed(done(d, r))],
    "reserved flags": lambda d, r: [b"\x08" + message(d.reply(r, "done"))[1:]],
    "garbage": lambda d, r: [bytes(range(256)) * 16],
    "no message": lambda d, r: [framed(b"MTB1", 1) + framed(b"\xc1")],
    "a bomb": lambda d, r: [framed(b"MTB1", 1) + framed(b"\xdf\xff\xff\xff\xff")],
    "nesting": lambda d, r: [framed(b"MTB1", 1) + framed(b"\x91" * 60000)],
    "ERROR": lambda d, r: [b"\x04\x0d\x05ERROR\x06no way"],
    "pings without an end": lambda d, r: [framed(b"\x04PING\0\0" + bytes(16), 4) * 2000],
    "one byte a time, too slowly": lambda d, r: d.drip(message(d.reply(r, "done"))[:8], 0.2),
    "a foreign id": lambda d, r: [d.reply(r, "done") | {"id": bytes(16)}],
    "an id of another type": lambda d, r: [d.reply(r, "done") | {"id": "x" * 16}],
    "a foreign generation": lambda d, r: [d.reply(r, "done") | {"gen": 99}],
    "a negative generation": lambda d, r: [d.reply(r, "done") | {"gen": -1}],
    "a foreign arena": lambda d, r: [d.reply(r, "done") | {"slot": 99}],
    "a foreign epoch": lambda d, r: [d.reply(r, "done") | {"epoch": 1}],
    "no epoch": lambda d, r: [framed(b"MTB1", 1) + framed(done(d, r, epoch=None))],
    "an unknown op": lambda d, r: [d.reply(r, "finished")],
    "an op of another type": lambda d, r: [d.reply(r, "done") | {"op": 7}],
    "cancelled, though nobody asked": lambda d, r: [d.reply(r, "cancelled")],
    "an error of no words": lambda d, r: [d.reply(r, "error")],
    "an error of terminal codes": lambda d, r: [
        d.reply(r, "error", code="E_X", message="\x1b[31m%s%n\nx" * 50, retry=False)
    ],
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_that_is_none_writes_nothing(host: OfxHost, name: str) -> None:
    with FakeDaemon(answer=lambda request: REPLIES[name](daemon, request)) as daemon:
        node = connected(host, daemon)
        text = fails(node)
        assert len(text) <= 200
        assert text.isprintable()
        assert len(daemon.requests) <= 2
    after_that_all_is_well(node)


def test_a_good_reply_one_byte_a_time_is_a_good_reply(host: OfxHost) -> None:
    def answer(request: dict[str, Any]) -> list[Any]:
        return daemon.drip(message(FakeDaemon.answer(daemon, request)[0]), 0.001)

    with FakeDaemon(answer=answer) as daemon:
        status, output = connected(host, daemon).set(timeout=SOON_S).render()
        assert status == OK
        assert (output.pixels() == np.float32(0.25)).all()


def test_a_reply_behind_noise_is_found(host: OfxHost) -> None:
    def answer(request: dict[str, Any]) -> list[Any]:
        return [
            framed(b"\x04PING\0\0hello", 4),
            framed(b"\x09SUBSCRIBE", 4),
            daemon.reply(request, "progress", stage="model", done=1, total=2),
            daemon.reply(request, "done") | {"id": bytes(16)},
            {"op": "pong", "id": bytes(16), "epoch": 1},
            {"op": "done"},
            *FakeDaemon.answer(daemon, request),
        ]

    with FakeDaemon(answer=answer) as daemon:
        status, output = connected(host, daemon).set(timeout=SOON_S).render()
        assert status == OK
        assert (output.pixels() == np.float32(0.25)).all()


WELCOMES: dict[str, Callable[[FakeDaemon], Any]] = {
    "garbage": lambda d: b"garbage",
    "a bomb": lambda d: b"\xdf\xff\xff\xff\xff",
    "too long a record": lambda d: b"\x81\xa1a\xda\x10\0" + b"x" * 5000,
    "no sid": lambda d: FakeDaemon.welcome(d, {}) | {"sid": b""},
    "version 2": lambda d: FakeDaemon.welcome(d, {}) | {"proto": 2},
    "a control socket elsewhere": lambda d: FakeDaemon.welcome(d, {}) | {"ctl": "ipc:///tmp/ctl"},
    "a control socket on the network": lambda d: (
        FakeDaemon.welcome(d, {}) | {"ctl": "tcp://127.0.0.1:1"}
    ),
    "a control socket of no name": lambda d: FakeDaemon.welcome(d, {}) | {"ctl": ""},
    "a control socket with a long name": lambda d: (
        FakeDaemon.welcome(d, {}) | {"ctl": f"ipc://{d.folder}/" + "x" * 200}
    ),
}


@pytest.mark.parametrize("name", WELCOMES)
def test_a_welcome_that_is_none_is_refused(host: OfxHost, name: str) -> None:
    with FakeDaemon(welcome=lambda _hello: WELCOMES[name](daemon)) as daemon:
        node = connected(host, daemon)
        fails(node)
        assert daemon.requests == []
    after_that_all_is_well(node)


def test_a_refused_version_names_both(host: OfxHost) -> None:
    text = "no protocol in common: the client speaks 1-1, this daemon 2-3"
    refusal = {"op": "error", "code": "E_VERSION", "message": text, "retry": False}
    with FakeDaemon(welcome=lambda _hello: refusal) as daemon:
        assert text in fails(connected(host, daemon))


# The layer of macOS knows no seals: docs/protocol.md, section 8, says what that leaves open.
SEALS_MISSING = [{"seals": 0}, {"seals": 1 | 4}, {"seals": 2 | 4}]


@pytest.mark.parametrize(
    "changes",
    [
        {"descriptors": 0},
        {"descriptors": 2},
        {"descriptors": 17},
        *([] if STREAM else SEALS_MISSING),
        {"short_by": 4096},
    ],
    ids=str,
)
def test_memory_that_could_vanish_under_the_plugin_is_refused(
    host: OfxHost, changes: dict[str, int]
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with FakeDaemon(**changes) as daemon:
        node = connected(host, daemon)
        fails(node)
        assert daemon.requests == []
        daemon.memory.clear()
    assert len(os.listdir("/proc/self/fd")) <= before
    after_that_all_is_well(node)


def test_a_door_that_says_nothing_is_left(host: OfxHost) -> None:
    with FakeDaemon(welcome=lambda _hello: b"") as daemon:
        fails(connected(host, daemon))


def test_what_nobody_asked_for_at_the_door_ends_the_session(host: OfxHost) -> None:
    def answer(request: dict[str, Any]) -> list[Any]:
        for door in daemon.doors:
            with contextlib.suppress(OSError):
                door.send(record(b"psst"))
        return []

    with FakeDaemon(answer=answer) as daemon:
        assert "was lost" in fails(connected(host, daemon))
