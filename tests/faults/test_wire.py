"""F18-F23, F29, F30, F36, F43-F46: what a correct client would never send, and too much of it."""

from __future__ import annotations

import array
import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from fakes.base_line import AbusedDaemon, StartAbused, arena_descriptors, resident_bytes
from fakes.daemon_process import wait_for
from fakes.host_process import HostProcess
from fakes.light_python import matted_light
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, same, shot
from fakes.raw_client import Raw, RawClient, ask_door, connect_to_door, hello, records
from mattebridge.client import MatteClient, session
from mattebridge.errors import (
    BusyError,
    Cancelled,
    ConnectionFailed,
    DaemonLost,
    DeadlineError,
    MessageError,
    MessageTooLarge,
    QuotaError,
    VersionError,
)
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.door import Door, close_all
from mattebridge.wire.linux import RecordSocket
from mattebridge.wire.unix import MAX_DESCRIPTORS

SHOT = shot(seed=7)
TWO_MIB = 2 << 20


@pytest.fixture
def light() -> bool:
    return True


def refused(daemon: AbusedDaemon) -> dict[str, int]:
    """The daemon's refusal counters."""
    with daemon.connect() as client:
        return dict(client.status()["refused"])


def is_over(connection: socket.socket, timeout_s: float = SOON_S) -> bool:
    """Whether the other end hangs up, whatever it says before."""
    connection.settimeout(timeout_s)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


# -- F18: bombs --------------------------------------------------------------------------------


def _nested(depth: int, opener: bytes = b"\x91") -> bytes:
    return opener * depth + b"\x90"


def _with_pairs(*pairs: bytes) -> bytes:
    return bytes([0x80 + len(pairs)]) + b"".join(pairs)


BOMBS = {
    "array of 4 G": b"\xdd\xff\xff\xff\xff",
    "map of 4 G": b"\xdf\xff\xff\xff\xff",
    "bytes of 4 G": b"\xc6\xff\xff\xff\xff",
    "text of 4 G": b"\xdb\xff\xff\xff\xff",
    "extension of 4 G": b"\xc9\xff\xff\xff\xff\x01",
    "depth 100000": _nested(65000),
    "depth 500": _nested(500),
    "maps of depth 500": b"\x81\xa1a" * 500 + b"\x80",
    "64 KB of empty arrays": b"\x90" * 65536,
    "an array of 65000": b"\xdc" + struct.pack(">H", 65000) + b"\x01" * 65000,
    "extension": b"\xd4\x05x",
    "timestamp": b"\xd6\xff\x00\x00\x00\x01",
    "duplicate keys": _with_pairs(b"\xa2op\xa4ping", b"\xa2op\xa6status"),
    "number as key": _with_pairs(b"\x01\x01"),
    "not a number": _with_pairs(b"\xa1x\xcb" + struct.pack(">d", float("nan"))),
    "infinity": _with_pairs(b"\xa1x\xcb" + struct.pack(">d", float("inf"))),
    "no text": _with_pairs(b"\xa2\xff\xfe\x01"),
    "behind the end": msgpack.packb({"op": "ping"}) + b"\x00",
    "nothing": b"",
    "nil": b"\xc0",
    "a number": b"\x01",
    "reserved byte": b"\xc1",
    "cut short": msgpack.packb({"op": "ping", "id": bytes(16)})[:-1],
    "no id": msgpack.packb({"op": "ping"}),
    "id of 15 bytes": msgpack.packb({"op": "ping", "id": bytes(15)}),
    "id as text": msgpack.packb({"op": "ping", "id": "0123456789abcdef"}),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_f18_a_bomb_is_refused_quickly_and_costs_no_memory(bomb: str) -> None:
    took = []
    before = resident_bytes(os.getpid())
    for _turn in range(5):
        started = time.process_time()
        with contextlib.suppress(MessageError):
            protocol.nonce("id", protocol.unpack(BOMBS[bomb]).get("id"))
            pytest.fail("the bomb passed")
        took.append(time.process_time() - started)
    assert min(took) < 0.1
    assert resident_bytes(os.getpid()) - before < 10 << 20


def test_f18_bombs_get_no_reply_are_counted_and_harm_not_even_their_sender(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    before = refused(daemon).get("E_MESSAGE", 0)
    client = raw(daemon, slots=1)
    for bomb in BOMBS.values():
        client.send_bytes(bomb)
    ping = client.send({"op": "ping"})
    reply = client.receive()
    assert reply is not None
    assert (reply["op"], reply["id"]) == ("pong", ping)
    assert refused(daemon)["E_MESSAGE"] == before + len(BOMBS)
    assert client.terminal(client.send(client.render(gen=1)))["op"] == "done"


def test_f18_bombs_at_the_door_are_refused_and_the_door_closes(daemon: AbusedDaemon) -> None:
    for bomb in BOMBS.values():
        if not bomb:
            continue  # an empty record ends the connection
        with contextlib.closing(connect_to_door(daemon.folder)) as door:
            answer, fds = ask_door(door, bomb[: protocol.MAX_HELLO_BYTES])
            assert (answer["code"], fds) == ("E_MESSAGE", [])
            assert is_over(door)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"op": "renders"}, "op"),
    ({"op": 5}, "op"),
    ({"op": None}, "op"),
    ({"v": 2}, "v"),
    ({"v": True}, "v"),
    ({"colour": 1}, "colour"),
    ({"model": "../../etc/passwd"}, "model"),
    ({"model": "M" * 65}, "model"),
    ({"frame": 2**40}, "frame"),
    ({"deadline_ms": 0}, "deadline_ms"),
    ({"deadline_ms": 1.5}, "deadline_ms"),
    ({"priority": "urgent"}, "priority"),
    ({"gen": 0}, "gen"),
    ({"slot": -1}, "slot"),
    ({"slot": 7}, "slot"),
    ({"in": []}, "in"),
    ({"in": {}}, "in"),
    ({"out": [None]}, "out[0]"),
    ({"params": {}}, "params.colorspace"),
    ({"params": {"colorspace": "srgb", "gamma": 2.2}}, "params.gamma"),
    ({"params": {"colorspace": "srgb", "exact": 1}}, "params.exact"),
    ({"clean_plate": ""}, "clean_plate"),
]


def test_f18_a_message_that_breaks_the_schema_is_answered_with_the_name_of_the_field(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    for change, field in BROKEN:
        message = {**client.render(gen=1), **change}
        if message["op"] is None:
            del message["op"]
        reply = client.terminal(client.send(message))
        assert (reply["code"], reply["field"]) == ("E_MESSAGE", field), change
        assert (reply["retry"], reply.get("held", False)) == (False, False), change


def test_f18_an_unversioned_peer_is_counted_and_ignored(daemon: AbusedDaemon) -> None:
    before = sum(refused(daemon).values())
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as peer:
        peer.connect(str(daemon.folder / "ctl"))
        # ZMTP/1.0: an empty identity, then one frame of five bytes.
        peer.sendall(b"\x01\x00\x06\x00HELLO")
        wait_for(lambda: sum(refused(daemon).values()) > before, SOON_S, "it is counted")


# -- F19: oversize and slow peers ----------------------------------------------------------------


def test_f19_a_message_over_the_limit_is_lost_without_harm(daemon: AbusedDaemon, raw: Raw) -> None:
    client = raw(daemon)
    client.send_bytes(b"x" * (protocol.MAX_MESSAGE_BYTES + 1))

    def answers() -> bool:
        # The connection was dropped and comes back by itself; messages of that moment are lost.
        client.send({"op": "ping"})
        reply = client.receive(0.2)
        return reply is not None and reply["op"] == "pong"

    wait_for(answers, SOON_S, "the next message is answered")


def test_f19_a_message_of_twenty_thousand_parts_is_dropped(daemon: AbusedDaemon, raw: Raw) -> None:
    before = refused(daemon).get("not_ours", 0)
    client = raw(daemon)
    client.ctl.send_multipart([protocol.MAGIC] + [b""] * 20_000)
    client.ctl.send_multipart([protocol.MAGIC, b"a", b"b"])
    client.ctl.send_multipart([protocol.MAGIC])
    client.ctl.send_multipart([b"MTB2", msgpack.packb({"op": "ping", "id": bytes(16)})])
    ping = client.send({"op": "ping"})
    reply = client.receive()
    assert reply is not None
    assert reply["id"] == ping
    assert refused(daemon)["not_ours"] == before + 4


def _zmtp_dealer(folder: Path) -> socket.socket:
    """A plain connection to the control socket, past its handshake."""
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(SOON_S)
    peer.connect(str(folder / "ctl"))
    peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48))
    peer.sendall(b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER")
    answer = b""
    while len(answer) < 66 or len(answer) < 66 + answer[65]:  # a greeting, and one short frame
        answer += peer.recv(1)
    return peer


@pytest.mark.slow
@pytest.mark.parametrize("part_bytes", [0, 60_000])
def test_f19_a_message_without_an_end_takes_bounded_memory_and_ends_its_connection(
    start_abused: StartAbused, part_bytes: int
) -> None:
    daemon = start_abused()
    part = b"\x03" + struct.pack(">Q", part_bytes) + bytes(part_bytes)
    parts = part * (4 << 20 >> 6 if part_bytes == 0 else 70)
    most = 0
    with daemon.connect() as client, _crowd() as crowd:
        before = client.status()["memory"]["front_bytes"]
        for _attack in range(2):
            crowd.append(_zmtp_dealer(daemon.folder))
            until = time.monotonic() + SOON_S
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while time.monotonic() < until:
                    crowd[-1].sendall(parts)
                    most = max(most, daemon.resident_bytes())
            assert time.monotonic() < until, "the connection was not closed"
            # Growth that is allowed, and what arrives within a few ticks of a busy machine.
            assert most < 1 << 30
            assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        wait_for(
            lambda: daemon.resident_bytes() < before + (64 << 20), SOON_S, "the memory is freed"
        )
        assert client.status()["refused"]["endless_message"] >= 2


@pytest.mark.slow
def test_f19_silent_and_slow_connections_are_closed_while_others_are_served(
    daemon: AbusedDaemon,
) -> None:
    silent = [connect_to_door(daemon.folder) for _ in range(40)]
    slow = []
    for greeting in (b"", b"\xff", b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03"):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(daemon.folder / "ctl"))
        peer.sendall(greeting)
        slow.append(peer)
    try:
        with daemon.connect() as client:
            assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        for connection in [*silent, *slow]:
            assert is_over(connection)
    finally:
        for connection in [*silent, *slow]:
            connection.close()


def test_f19_silent_connections_do_not_keep_a_new_client_out(
    start_abused: StartAbused,
) -> None:
    daemon = start_abused(MATTEBRIDGE_HELLO_S="120")
    with _crowd() as crowd:
        for _ in range(400):
            crowd.append(connect_to_door(daemon.folder))
        # The client gives up after 5 s; without room it would have to wait for 120.
        with daemon.connect() as client:
            assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
            assert client.status()["refused"]["too_many_without_hello"] >= 400 - 64
        assert is_over(crowd[0])
        # The newest are left alone: they may be about to send their hello.
        answer, _fds = ask_door(crowd[-1], hello())
        assert answer["op"] == "welcome"


def test_f19_two_hellos_on_one_connection_get_one_lease_at_most(daemon: AbusedDaemon) -> None:
    before = arena_descriptors(daemon.pid)
    with contextlib.closing(connect_to_door(daemon.folder)) as door:
        for _hello in range(20):
            with contextlib.suppress(OSError):
                door.send(msgpack.packb(hello(2, TWO_MIB)))
        answers = []
        with contextlib.suppress(OSError):
            while answers.count("error") < 19:
                answer, fds = ask_door(door, b"")
                close_all(fds)
                if not answer:
                    break
                answers.append(answer["op"])
        assert answers.count("welcome") <= 1
    wait_for(lambda: arena_descriptors(daemon.pid) == before, SOON_S, "all memory is freed")


def test_f19_descriptors_brought_to_the_door_are_not_taken(daemon: AbusedDaemon) -> None:
    before = daemon.descriptors()
    with contextlib.closing(connect_to_door(daemon.folder)) as door:
        records(door).send(msgpack.packb(hello()), (0, 1, 2))
        answer, _fds, _cut = records(door).receive(8192)
        assert msgpack.unpackb(answer)["code"] == "E_MESSAGE"
        assert is_over(door)
    wait_for(lambda: daemon.descriptors() <= before, SOON_S, "they are closed")


# -- F20: versions -------------------------------------------------------------------------------


@pytest.mark.parametrize("offered", [[2, 3], [0, 0], [7, 2], [2**60, 2**62]])
def test_f20_no_common_version_is_an_error_that_names_both(
    daemon: AbusedDaemon, offered: list[int]
) -> None:
    with contextlib.closing(connect_to_door(daemon.folder)) as door:
        answer, fds = ask_door(door, hello(proto=offered))
        assert (answer["code"], answer["have"], answer["want"]) == ("E_VERSION", [1, 1], offered)
        assert f"{offered[0]}-{offered[1]}" in answer["message"]
        assert "1-1" in answer["message"]
        assert fds == []
        assert is_over(door)


@pytest.mark.parametrize("offered", [[1, 1], [0, 1], [1, 9]])
def test_f20_older_and_newer_peers_agree_on_a_version_that_both_speak(
    daemon: AbusedDaemon, offered: list[int]
) -> None:
    with contextlib.closing(connect_to_door(daemon.folder)) as door:
        answer, _fds = ask_door(door, hello(proto=offered))
        assert (answer["op"], answer["proto"]) == ("welcome", 1)


def test_f20_a_client_reads_replies_with_keys_of_a_newer_daemon(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon)
    ping = client.send({"op": "ping", "x-note": "later", "ext": {"also": 1}})
    assert client.terminal(ping)["op"] == "pong"
    more = {"op": "pong", "id": ping, "epoch": 5, "mood": "good"}
    parts = [protocol.MAGIC, protocol.pack(more)]
    assert session.decode(parts, 5) == more


def test_f20_a_client_of_another_version_is_refused_with_the_daemons_sentence(
    daemon: AbusedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PROTOCOL_MIN", 2)
    monkeypatch.setattr(protocol, "PROTOCOL_MAX", 2)
    with pytest.raises(VersionError, match="speaks 2-2, this daemon 1-1"):
        MatteClient.connect(str(daemon.folder))


class _Impostor:
    """Another program that listens where a daemon would."""

    def __init__(self, folder: Path, answer: bytes | None) -> None:
        folder.mkdir(mode=0o700)
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(folder / "door"))
        self._socket.listen(8)
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = self._socket.accept()
                self._connections.append(connection)
                if connection.recv(65536) and self._answer is not None:
                    connection.send(self._answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(SOON_S)
        for connection in self._connections:
            connection.close()


_SERVER = {"ver": "9", "pid": 1, "boot_id": "", "epoch": 1}
IMPOSTORS = {
    "noise": b"HTTP/1.1 400 Bad Request",
    "an empty map": msgpack.packb({}),
    "a number": b"\x01",
    "a welcome without anything": msgpack.packb({"op": "welcome"}),
    "a welcome with a short sid": msgpack.packb(
        {"op": "welcome", "proto": 1, "server": _SERVER, "sid": b"1", "ctl": "", "slots": []}
    ),
    "a welcome elsewhere": msgpack.packb(
        {
            "op": "welcome",
            "proto": 1,
            "server": _SERVER,
            "sid": bytes(16),
            "ctl": "ipc:///tmp/elsewhere",
            "slots": [],
        }
    ),
    "arenas without memory": msgpack.packb(
        {
            "op": "welcome",
            "proto": 1,
            "server": _SERVER,
            "sid": bytes(16),
            "ctl": "",
            "slots": [{"id": 0, "bytes": 64}],
        }
    ),
    "silence": None,
}


@pytest.mark.parametrize("impostor", IMPOSTORS)
def test_f20_another_program_at_the_door_is_a_failed_connection_in_bounded_time(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, impostor: str
) -> None:
    monkeypatch.setitem(Door.ask.__kwdefaults__, "timeout_s", 0.5)
    folder = tmp_path_factory.mktemp("i") / "r"
    program = _Impostor(folder, IMPOSTORS[impostor])
    try:
        started = time.monotonic()
        with pytest.raises(ConnectionFailed):
            MatteClient.connect(str(folder))
        assert time.monotonic() - started < SOON_S
    finally:
        program.close()


# -- F21: floods ----------------------------------------------------------------------------------


def test_f21_a_full_queue_is_an_error_at_once(start_abused: StartAbused, raw: Raw) -> None:
    daemon = start_abused(MATTEBRIDGE_QUEUE="2")
    client = raw(daemon, slots=5)
    with daemon.gate() as gate:
        first = client.send(client.render(frame=13, slot=0))
        gate.wait_reached()
        waiting = [client.send(client.render(slot=slot)) for slot in (1, 2)]
        reply = client.terminal(client.send(client.render(slot=3)))
        assert (reply["code"], reply["retry"], reply["held"]) == ("E_BUSY", True, False)
        assert reply["retry_after_ms"] > 0
        # Refused means nothing was taken: the same generation is good later.
    for request in [first, *waiting]:
        assert client.terminal(request)["op"] == "done"
    assert client.terminal(client.send(client.render(slot=3)))["op"] == "done"


def test_f21_a_client_waits_for_a_full_queue_and_gives_up_at_its_limit(
    start_abused: StartAbused,
) -> None:
    daemon = start_abused(MATTEBRIDGE_QUEUE="1")
    with daemon.connect(in_flight=4) as client:
        with daemon.gate() as gate:
            handles = [client.submit(*SHOT, frame=13, **PLAIN)]
            gate.wait_reached()
            handles += [client.submit(*SHOT, frame=n, **PLAIN) for n in (14, 15)]
            with pytest.raises((BusyError, DeadlineError)):
                client.matte(*SHOT, frame=16, timeout_s=0.5, **PLAIN)
        for handle in handles:
            assert same(handle.result(SOON_S), matted_light(*SHOT))


@pytest.mark.parametrize(
    "count", [3000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_f21_a_flood_of_requests_costs_no_memory_and_no_other_client(
    daemon: AbusedDaemon, raw: Raw, count: int
) -> None:
    client = raw(daemon, slots=1)
    message = client.render(gen=1)
    with daemon.gate() as gate:
        client.terminal(client.send({**message, "frame": 12}))
        held = client.send(client.render(gen=2, frame=13))
        gate.wait_reached()
        before, answered = daemon.resident_bytes(), 0
        for _turn in range(count):
            client.send({**message, "gen": 3})
            while client.ctl.poll(0):
                reply = client.receive(0)
                answered += reply is not None and reply.get("code") == "E_SLOT_BUSY"
        while answered < count:
            reply = client.receive()
            assert reply is not None
            answered += reply.get("code") == "E_SLOT_BUSY"
        assert daemon.resident_bytes() - before < 16 << 20
    assert client.terminal(held)["op"] == "done"


def test_f21_questions_about_models_do_not_fill_the_queue_of_all(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    with daemon.gate() as gate:
        client.send(client.render(frame=13))
        gate.wait_reached()
        for _question in range(300):
            client.send({"op": "models_list"})
        refused_ones = [client.next_reply() for _ in range(300 - 8)]
        assert {reply["code"] for reply in refused_ones} == {"E_BUSY"}
        with daemon.connect() as other:
            assert other.ping()["queue"] < 20
    ops = sorted(client.next_reply()["op"] for _ in range(9))
    assert ops == ["done"] + ["models"] * 8


@pytest.mark.parametrize("count", [3000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_f21_a_storm_of_cancels_neither_kills_nor_stops_the_worker(
    daemon: AbusedDaemon, raw: Raw, count: int
) -> None:
    client = raw(daemon, slots=1)
    with daemon.gate("deaf") as gate:
        request = client.send(client.render(frame=13))
        gate.wait_reached()
        workers = daemon.worker_pids()
        acks = 0
        for _turn in range(count):
            client.send({"op": "cancel", "target": request})
            while client.ctl.poll(0):
                reply = client.receive(0)
                acks += reply is not None and reply["op"] == "ack"
        while acks < count:
            reply = client.next_reply()
            acks += reply["op"] == "ack" and reply["found"] == "running"
        assert daemon.worker_pids() == workers
    assert client.terminal(request)["op"] == "cancelled"
    assert daemon.worker_pids() == workers


# -- F22, F23: too many, too much -----------------------------------------------------------------


def test_f22_one_session_too_many_is_refused_until_another_ends(
    start_abused: StartAbused,
) -> None:
    daemon = start_abused(MATTEBRIDGE_MAX_SESSIONS="30")
    doors = [connect_to_door(daemon.folder) for _ in range(31)]
    try:
        for door in doors[:-1]:
            answer, fds = ask_door(door, hello(1, TWO_MIB))
            assert answer["op"] == "welcome"
            close_all(fds)
        answer, fds = ask_door(doors[-1], hello(1, TWO_MIB))
        assert (answer["code"], answer["limit"], fds) == ("E_QUOTA", "sessions", [])
        assert "MATTEBRIDGE_MAX_SESSIONS" in answer["message"]
        assert is_over(doors[-1])
        # To look and to stop is always possible.
        with daemon.connect() as client:
            assert len(client.status()["sessions"]) == 31
            doors[0].close()
            wait_for(
                lambda: len(client.status()["sessions"]) == 30, SOON_S, "one session has ended"
            )
            assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
    finally:
        for door in doors:
            door.close()


def test_f22_sessions_of_one_process_do_not_lock_status_and_stop_out(
    start_abused: StartAbused,
) -> None:
    daemon = start_abused(MATTEBRIDGE_MAX_SESSIONS="4")
    with _crowd() as crowd:
        answer: dict[str, Any] = {"op": "welcome"}
        while answer["op"] == "welcome" and len(crowd) < 300:
            crowd.append(connect_to_door(daemon.folder))
            answer, _fds = ask_door(crowd[-1], hello())
        assert (answer["code"], answer["limit"]) == ("E_QUOTA", "sessions")
        assert str(os.getpid()) in answer["message"]
        command = [sys.executable, "-m", "mattebridge", "--instance", str(daemon.folder)]
        for action in ("status", "stop"):
            done = subprocess.run(
                [*command[:3], action, *command[3:]], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _crowd() -> Iterator[list[socket.socket]]:
    crowd: list[socket.socket] = []
    try:
        yield crowd
    finally:
        for connection in crowd:
            connection.close()


@pytest.mark.slow
def test_f22_a_daemon_without_descriptors_refuses_connections_and_does_not_spin(
    start_abused: StartAbused,
) -> None:
    daemon = start_abused()
    with daemon.connect() as client, _crowd() as crowd:
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        limit = daemon.descriptors() + 100
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, limit))
        answer: dict[str, Any] = {}
        while answer.get("op") != "error" and len(crowd) < 100:
            crowd.append(connect_to_door(daemon.folder))
            answer, _fds = ask_door(crowd[-1], hello())
        assert (answer["code"], answer["limit"]) == ("E_QUOTA", "descriptors")
        # Now also those that it keeps free for itself.
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (daemon.descriptors(), limit))
        for _ in range(10):
            crowd.append(connect_to_door(daemon.folder))
            answer, _fds = ask_door(crowd[-1], hello())
            assert answer["code"] == "E_QUOTA"
        used = _cpu_s(daemon.pid)
        time.sleep(1.0)
        assert _cpu_s(daemon.pid) - used < 0.5
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, limit))
        for connection in crowd:
            connection.close()
        wait_for(daemon.accepts_everything, SOON_S, "new clients are accepted again")


def test_f22_many_connections_at_the_control_socket_end_no_session(
    start_abused: StartAbused,
) -> None:
    daemon = start_abused()
    with daemon.connect() as client, _crowd() as crowd:
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        limit = daemon.descriptors() + 400
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, limit))
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
        ready = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
        while len(crowd) < 600 and (daemon.folder / "ctl").exists():
            peer = socket.socket(socket.AF_UNIX)
            crowd.append(peer)
            with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
                peer.connect(str(daemon.folder / "ctl"))
                peer.sendall(greeting + ready)
            assert client.ping()["state"] == "ready"
        assert len(crowd) < limit
        # No more of them; whoever is there already is served.
        with pytest.raises(OSError, match="No such file"):
            crowd[-1].connect(str(daemon.folder / "ctl"))
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        for connection in crowd:
            connection.close()
        wait_for(daemon.accepts_everything, SOON_S, "new connections are taken again")


@pytest.mark.parametrize(
    ("slots", "size", "limit"),
    [
        (9, TWO_MIB, None),
        (8, 1 << 40, "session_bytes"),
        (1, (1 << 30) + 1, "session_bytes"),
    ],
)
def test_f23_memory_over_the_quota_is_refused_before_it_is_allocated(
    daemon: AbusedDaemon, slots: int, size: int, limit: str | None
) -> None:
    before = arena_descriptors(daemon.pid)
    with contextlib.closing(connect_to_door(daemon.folder)) as door:
        answer, fds = ask_door(door, hello(slots, size))
        assert fds == []
        assert answer["code"] == ("E_MESSAGE" if limit is None else "E_QUOTA")
        assert answer.get("limit") == limit
        assert arena_descriptors(daemon.pid) == before


def test_f23_a_size_limit_of_files_is_named_and_not_taken_for_a_full_machine(
    tmp_path: Path,
) -> None:
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20));"
        "from mattebridge.wire import oslayer; from mattebridge.errors import QuotaError\n"
        "try: oslayer.current().create_memory(1 << 21)\n"
        "except QuotaError as error: print(error, error.details, error.retry)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == (
        "2 MiB of shared memory are over the size limit of files that the daemon was started with"
        " (1024 KiB): start it with `ulimit -f unlimited` {'limit': 'file_size'} False"
    )


def test_f23_memory_that_the_machine_does_not_have_is_refused_by_name(
    start_abused: StartAbused,
) -> None:
    plenty = str(1 << 60)
    daemon = start_abused(MATTEBRIDGE_SESSION_BYTES=plenty, MATTEBRIDGE_SLOT_BYTES=plenty)
    with contextlib.closing(connect_to_door(daemon.folder)) as door:
        answer, fds = ask_door(door, hello(8, 1 << 40))
        assert (answer["code"], answer["limit"], fds) == ("E_QUOTA", "memory", [])
    with daemon.connect() as client:
        with pytest.raises(QuotaError, match="MiB"):
            client._exchange.live_session().resize(8, 1 << 40)
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))


def test_f23_memory_that_runs_out_while_it_is_allocated_is_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import errno

    before = len(os.listdir("/proc/self/fd"))

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(QuotaError, match="no 2 MiB of shared memory left") as caught:
        oslayer.current().create_memory(TWO_MIB)
    assert caught.value.details["limit"] == "memory"
    assert len(os.listdir("/proc/self/fd")) == before


# -- F29, F30: borrowed names --------------------------------------------------------------------


def test_f29_a_session_id_of_another_process_is_refused(daemon: AbusedDaemon, raw: Raw) -> None:
    thief = raw(daemon)
    show = "say('sid', client._exchange.session.sid.hex()); sleep()"
    with HostProcess(daemon.folder, show) as host:
        stolen = bytes.fromhex(host.heard("sid"))
        reply = thief.terminal(thief.send({"op": "ping"}, sid=stolen))
        assert (reply["op"], reply["code"]) == ("error", "E_LEASE")
        reply = thief.terminal(thief.send({"op": "shutdown"}, sid=stolen))
        assert reply["code"] == "E_LEASE"
    for unknown in (bytes(16), b"", "text", None, 5):
        reply = thief.terminal(thief.send({"op": "ping"}, sid=unknown))
        assert reply["code"] == "E_LEASE"


def test_f29_a_session_id_is_worth_nothing_once_its_door_is_closed(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    message = client.render()
    client.door.close()

    def over() -> bool:
        return client.terminal(client.send({"op": "ping"})).get("code") == "E_LEASE"

    wait_for(over, SOON_S, "the lease has ended")
    assert client.terminal(client.send(message))["code"] == "E_LEASE"
    with contextlib.suppress(OSError):
        client.door = socket.socket()


def test_f29_a_reply_of_another_daemon_run_is_dropped(daemon: AbusedDaemon) -> None:
    with daemon.connect() as client:
        current = client._exchange.live_session()
        reply = {"op": "pong", "id": bytes(16), "epoch": current.epoch}
        assert session.decode([protocol.MAGIC, protocol.pack(reply)], current.epoch) == reply
        foreign = {**reply, "epoch": current.epoch + 1}
        assert session.decode([protocol.MAGIC, protocol.pack(foreign)], current.epoch) is None


def test_f30_a_request_sent_twice_is_rendered_once_and_answered_alike(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    message = client.render(frame=13)
    with daemon.gate() as gate:
        request = client.send(message)
        gate.wait_reached()
        for _turn in range(3):
            client.send(message, id=request, deadline_ms=50_000)
        assert client.terminal(client.send({"op": "ping"}))["op"] == "pong"
    first = client.terminal(request)
    assert first["op"] == "done"
    assert client.receive(0.1) is None
    rendered = _frames(daemon)
    client.send(message, id=request)
    assert client.terminal(request) == first
    assert _frames(daemon) - rendered < 50


def _frames(daemon: AbusedDaemon) -> int:
    with daemon.connect() as client:
        return int(sum(worker["frames"] for worker in client.status()["workers"]))


def test_f30_an_id_used_for_another_request_is_refused_running_or_finished(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=2)
    message = client.render(frame=13)
    with daemon.gate() as gate:
        request = client.send(message)
        gate.wait_reached()
        reply = client.terminal(client.send({**message, "frame": 14}, id=request))
        assert reply["code"] == "E_ID_REUSE"
        # The one that runs is not concerned.
        gate.open()
        assert client.terminal(request)["op"] == "done"
    other = client.render(slot=1, gen=1)
    assert client.terminal(client.send(other, id=request))["code"] == "E_ID_REUSE"


def test_f30_after_a_retryable_error_the_same_id_is_rendered(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    message = client.render(gen=1)
    client.arenas[0].write_begin(9)
    request = client.send(message)
    assert client.terminal(request)["code"] == "E_TORN"
    client.send(client.render(gen=10), id=request)
    assert client.terminal(request)["op"] == "done"


def test_f30_a_remembered_reply_goes_when_its_arena_is_used_again(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    message = client.render(gen=1)
    request = client.send(message)
    assert client.terminal(request)["op"] == "done"
    assert client.terminal(client.send(client.render(gen=2)))["op"] == "done"
    # Its pixels are gone: rather an error than a reply about another picture.
    reply = client.terminal(client.send(message, id=request))
    assert (reply["code"], reply["field"]) == ("E_MESSAGE", "gen")


# -- F36: order, cancel, expiry ------------------------------------------------------------------


def test_f36_a_waiting_request_is_cancelled_once_and_its_arena_is_returned(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=2)
    with daemon.gate() as gate:
        first = client.send(client.render(frame=13, slot=0))
        gate.wait_reached()
        second = client.send(client.render(slot=1))
        for _again in range(2):
            client.send({"op": "cancel", "target": second})
        replies = [client.next_reply() for _ in range(3)]
        assert sorted(reply["op"] for reply in replies) == ["ack", "ack", "cancelled"]
        found = [reply["found"] for reply in replies if reply["op"] == "ack"]
        assert found == ["queued", "finished"]
        (end,) = [reply for reply in replies if reply["op"] == "cancelled"]
        assert (end["id"], end["held"], end["slot"], end["gen"]) == (second, False, 1, 1)
    assert client.terminal(first)["op"] == "done"
    assert client.terminal(client.send(client.render(slot=1, gen=2)))["op"] == "done"
    assert client.receive(0.1) is None


def test_f36_a_running_request_stops_at_the_next_stage_and_ends_once(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    with daemon.gate() as gate:
        request = client.send(client.render(frame=13))
        gate.wait_reached()
        cancel = client.send({"op": "cancel", "target": request})
        ack = client.terminal(cancel)
        assert (ack["op"], ack["found"]) == ("ack", "running")
        end = client.terminal(request)
        assert (end["op"], end["held"]) == ("cancelled", False)
    assert client.terminal(client.send(client.render(gen=2)))["op"] == "done"
    assert client.receive(0.1) is None


def test_f36_a_late_cancel_leaves_the_result_and_an_unknown_one_is_harmless(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    request = client.send(client.render())
    done = client.terminal(request)
    assert done["op"] == "done"
    late = client.terminal(client.send({"op": "cancel", "target": request}))
    unknown = client.terminal(client.send({"op": "cancel", "target": os.urandom(16)}))
    assert (late["found"], unknown["found"]) == ("finished", "unknown")
    assert client.receive(0.1) is None
    client.send(client.render(write=False), id=request)
    assert client.terminal(request) == done


def test_f36_a_request_that_expires_in_the_queue_never_starts(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=2)
    with daemon.gate() as gate:
        first = client.send(client.render(frame=13, slot=0))
        gate.wait_reached()
        late = client.send(client.render(frame=14, slot=1, deadline_ms=100))
        reply = client.terminal(late)
        assert (reply["code"], reply["started"]) == ("E_DEADLINE", False)
        assert (reply["held"], reply["retry"]) == (False, True)
    assert client.terminal(first)["op"] == "done"
    assert "frame=14" in daemon.log()
    assert client.terminal(client.send(client.render(slot=1, gen=2)))["op"] == "done"
    assert client.receive(0.1) is None


def test_f36_replies_may_come_in_another_order_than_requests(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=4)
    with daemon.connect() as other, daemon.gate() as gate:
        first = client.send(client.render(frame=13, slot=0))
        gate.wait_reached()
        batch = client.send(client.render(slot=1, priority="batch"))
        quick = client.send(client.render(slot=2))
        wait_for(lambda: other.ping()["queue"] >= 2, SOON_S, "both wait")
        gate.open()
        order = [client.next_reply()["id"] for _ in range(3)]
    assert order == [first, quick, batch]


def test_f36_a_handle_that_is_cancelled_raises_and_returns_its_arena(
    daemon: AbusedDaemon,
) -> None:
    with daemon.connect(in_flight=1) as client:
        with daemon.gate() as gate:
            handle = client.submit(*SHOT, frame=13, **PLAIN)
            gate.wait_reached()
            handle.cancel()
            handle.cancel()
            with pytest.raises(Cancelled):
                handle.result(SOON_S)
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        handle.cancel()


# -- F43-F46: connections that lie ---------------------------------------------------------------


def test_f43_a_message_that_is_too_long_is_refused_before_it_is_sent(
    daemon: AbusedDaemon,
) -> None:
    settings = {f"setting-{index}": "x" * 1024 for index in range(64)}
    with daemon.connect() as client:
        with pytest.raises(MessageTooLarge, match="65536"):
            client.matte(*SHOT, settings=settings)
        for _frame in range(4):
            assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))


def test_f43_what_no_message_can_hold_is_refused_before_it_is_sent(daemon: AbusedDaemon) -> None:
    with daemon.connect() as client:
        for value in (np.float32(1.0), object(), 2**80, {1, 2}, "\udc80"):
            with pytest.raises(MessageError):
                client.matte(*SHOT, settings={"softness": value})
        for _frame in range(4):
            assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))


def test_f44_a_reply_goes_to_the_newest_connection_of_its_lease(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    with daemon.gate() as gate:
        request = client.send(client.render(frame=13))
        gate.wait_reached()
        client.ctl.close()
        client.ctl = client.dealer()
        assert client.terminal(client.send({"op": "ping"}))["op"] == "pong"
    assert client.terminal(request)["op"] == "done"


def _leave(daemon: AbusedDaemon, client: RawClient) -> None:
    """Close the control connection, and wait until the front has seen that."""
    before = daemon.control_connections()
    client.ctl.close()
    wait_for(
        lambda: daemon.control_connections() < before, SOON_S, "the front sees the connection end"
    )


def test_f44_a_reply_to_a_connection_that_is_gone_waits_for_the_next_one(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    with daemon.gate() as gate:
        request = client.send(client.render(frame=13))
        gate.wait_reached()
        _leave(daemon, client)
        with daemon.connect() as other:
            gate.open()
            wait_for(
                lambda: all(entry["out"] == 0 for entry in other.status()["sessions"][:2]),
                SOON_S,
                "the frame is finished",
            )
    client.ctl = client.dealer()
    client.send({"op": "ping"})
    ops = {client.next_reply()["op"], client.next_reply()["op"]}
    assert ops == {"pong", "done"}
    assert request


@pytest.mark.slow
def test_f44_a_reply_that_is_never_received_ends_the_lease(
    start_abused: StartAbused, raw: Raw
) -> None:
    daemon = start_abused(MATTEBRIDGE_OUTBOX_S="1")
    client = raw(daemon, slots=1)
    with daemon.gate() as gate:
        client.send(client.render(frame=13))
        gate.wait_reached()
        _leave(daemon, client)
    assert client.lease_is_over(SOON_S)
    client.ctl = client.dealer()


def test_f45_a_chosen_routing_id_steals_no_replies(daemon: AbusedDaemon, raw: Raw) -> None:
    def same_name(client: RawClient) -> None:
        client.ctl.close()
        client.ctl = client.context.socket(zmq.DEALER)
        client.ctl.setsockopt(zmq.LINGER, 0)
        client.ctl.setsockopt(zmq.ROUTING_ID, b"the same")
        client.ctl.connect(f"ipc://{daemon.folder}/ctl")

    owner, thief = raw(daemon, slots=1), raw(daemon)
    same_name(owner)
    assert owner.terminal(owner.send({"op": "ping"}))["op"] == "pong"
    with daemon.gate() as gate:
        request = owner.send(owner.render(frame=13))
        gate.wait_reached()
        same_name(thief)
        thief.send({"op": "ping"})
        thief.send({"op": "cancel", "target": request})
        assert thief.receive(0.5) is None
    assert owner.terminal(request)["op"] == "done"
    assert thief.receive(0.1) is None


@contextlib.contextmanager
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_f46_descriptors_that_were_cut_off_are_noticed_and_those_that_came_closed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("f") / "r"
    folder.mkdir(mode=0o700)
    before = len(os.listdir("/proc/self/fd"))
    welcome = msgpack.packb({"op": "welcome", "slots": []})
    with _pair() as (ours, theirs):
        door = Door(RecordSocket(ours))
        fds = (0,) * (MAX_DESCRIPTORS + 4)
        rights = array.array("i", fds)
        theirs.sendmsg([welcome], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        with pytest.raises(ConnectionFailed, match="cut short"):
            door.ask({"op": "hello"})
    assert len(os.listdir("/proc/self/fd")) == before


def test_f46_a_record_longer_than_the_limit_is_noticed_at_both_ends(
    daemon: AbusedDaemon,
) -> None:
    with contextlib.closing(connect_to_door(daemon.folder)) as door:
        padded = {**hello(), "ext": {"pad": "x" * 5000}}
        answer, _fds = ask_door(door, padded)
        assert answer["code"] == "E_MESSAGE"
        assert is_over(door)
    with _pair() as (ours, theirs):
        theirs.send(b"x" * 5000)
        _data, _fds, cut = RecordSocket(ours).receive(4096)
        assert cut
    with _pair() as (ours, theirs):
        theirs.close()
        with pytest.raises(DaemonLost):
            Door(RecordSocket(ours)).ask({"op": "hello"})
