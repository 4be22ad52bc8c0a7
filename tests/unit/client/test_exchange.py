"""Requests that are out: who receives, what is sent again, and what a lost daemon does to them."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Optional

import pytest

from fakes.limits import SOON_S
from mattebridge.client.exchange import Exchange
from mattebridge.client.in_flight import InFlight
from mattebridge.errors import (
    BusyError,
    Cancelled,
    ConnectionFailed,
    DaemonLost,
    MattebridgeError,
    ModelError,
    TornError,
)
from mattebridge.wire import protocol


class FakeSession:
    """A session whose daemon is a function from a message to its replies."""

    def __init__(self, answer: Callable[[dict[str, Any]], list[Any]]) -> None:
        self.pid = os.getpid()
        self.closed = False
        self.arenas: dict[int, Any] = {}
        self.sent: list[dict[str, Any]] = []
        self.receivers: set[int] = set()
        self._answer = answer
        self._replies: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        for reply in self._answer(message):
            self._replies.put(reply)

    def receive(self, timeout_s: float) -> list[Any]:
        self.receivers.add(threading.get_ident())
        assert len(self.receivers) == 1, "two threads receive at once"
        try:
            reply = self._replies.get(timeout=max(0.001, timeout_s))
        except queue.Empty:
            return []
        finally:
            self.receivers.clear()
        if isinstance(reply, Exception):
            raise reply
        return [reply]

    def close(self, *, keep_maps: bool = False) -> None:
        self.closed = True


def pong(message: dict[str, Any]) -> list[Any]:
    return [{"op": "pong", "id": message["id"], "name": message.get("name")}]


def error(message: dict[str, Any], problem: MattebridgeError) -> list[Any]:
    return [{"op": "error", "id": message["id"], **protocol.error_fields(problem)}]


def connected(*sessions: FakeSession) -> Exchange:
    waiting = list(sessions)

    def attach() -> Any:
        if not waiting:
            raise ConnectionFailed("no daemon is running")
        return waiting.pop(0)

    exchange = Exchange(attach, in_flight=2)
    exchange.open()
    return exchange


def ask(exchange: Exchange, name: str = "", limit_s: float = 10.0) -> InFlight:
    request = InFlight(until=time.monotonic() + limit_s, message={"op": "ping", "name": name})
    exchange.register(request)
    exchange.send(request)
    return request


def outcome(exchange: Exchange, request: InFlight) -> dict[str, Any]:
    exchange.wait(lambda: request.finished, request.until)
    assert request.finished
    request.outcome()
    return request.reply


def test_every_thread_gets_its_own_reply_and_one_at_a_time_receives() -> None:
    exchange = connected(FakeSession(pong))
    names: dict[int, Optional[str]] = {}

    def visit(number: int) -> None:
        for turn in range(20):
            name = f"{number}-{turn}"
            assert outcome(exchange, ask(exchange, name))["name"] == name
        names[number] = "done"

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(names) == 8


def test_a_wait_ends_at_its_limit_and_a_poll_at_once() -> None:
    exchange = connected(FakeSession(lambda message: []))
    patient = ask(exchange, limit_s=SOON_S)
    exchange.poll()
    assert time.monotonic() < patient.until
    hasty = ask(exchange, limit_s=0.1)
    exchange.wait(lambda: hasty.finished, hasty.until)
    assert not hasty.finished
    # A wait may end one step of a system's clock early.
    assert hasty.until - 0.05 < time.monotonic() < patient.until


def test_a_reply_to_a_request_that_was_withdrawn_is_dropped() -> None:
    exchange = connected(FakeSession(pong))
    request = ask(exchange)
    exchange.withdraw(request)
    exchange.poll()
    assert not request.finished


def test_what_was_out_goes_to_the_next_daemon_under_the_same_id() -> None:
    lost = FakeSession(lambda message: [DaemonLost("the daemon has ended")])
    found = FakeSession(pong)
    exchange = connected(lost, found)
    request = ask(exchange, "a")
    assert outcome(exchange, request)["name"] == "a"
    assert lost.closed
    assert [message["id"] for message in found.sent] == [request.id]


def test_a_request_that_loses_two_daemons_fails_and_the_client_goes_on() -> None:
    def lose(message: dict[str, Any]) -> list[Any]:
        return [DaemonLost("the daemon has ended")]

    exchange = connected(FakeSession(lose), FakeSession(lose), FakeSession(pong))
    with pytest.raises(DaemonLost, match="for the second time"):
        outcome(exchange, ask(exchange))
    assert outcome(exchange, ask(exchange, "b"))["name"] == "b"


def test_without_another_daemon_everything_that_is_out_fails_with_both_reasons() -> None:
    exchange = connected(FakeSession(lambda message: [DaemonLost("the daemon has ended")]))
    with pytest.raises(DaemonLost, match="has ended, and no daemon is running"):
        outcome(exchange, ask(exchange))


def test_closing_fails_what_is_out_and_refuses_what_comes_later() -> None:
    exchange = connected(FakeSession(lambda message: []))
    request = ask(exchange)
    exchange.close()
    with pytest.raises(DaemonLost, match="was closed"):
        request.outcome()
    with pytest.raises(ConnectionFailed, match="closed: connect again"):
        ask(exchange)


@pytest.mark.parametrize(
    "problem", [ModelError("there is no model 'x'", reason="unknown"), BusyError("the queue")]
)
def test_an_error_reply_is_the_requests_outcome(problem: MattebridgeError) -> None:
    exchange = connected(FakeSession(lambda message: error(message, problem)))
    with pytest.raises(type(problem), match=problem.message):
        outcome(exchange, ask(exchange))


def test_what_the_progress_function_raises_cancels_its_request_and_no_other() -> None:
    def answer(message: dict[str, Any]) -> list[Any]:
        if message["op"] == "cancel":
            return [{"op": "cancelled", "id": message["target"]}]
        return [{"op": "progress", "id": message["id"], "stage": "model", "done": 0, "total": 1}]

    def fail(stage: str, done: int, total: int) -> None:
        raise ValueError(stage)

    exchange = connected(FakeSession(answer))
    other = ask(exchange)
    request = InFlight(until=time.monotonic() + 10, message={"op": "ping"}, progress=fail)
    exchange.register(request)
    exchange.send(request)
    with pytest.raises(ValueError, match="model"):
        outcome(exchange, request)
    assert not other.finished


# -- what is sent again --------------------------------------------------------------------------


class FakeArena:
    number, generation, lost = 3, 7, False


def frame(until_s: float = 10.0) -> InFlight:
    until = time.monotonic() + until_s
    request = InFlight(until=until, message={"op": "render"})
    request.arena = FakeArena()  # type: ignore[assignment]
    return request


def test_a_full_queue_is_tried_again_after_the_time_it_names() -> None:
    request = frame()
    busy = BusyError("the queue is full", retry_after_ms=500)
    assert request.plan_retry(busy, held=False)
    assert 0.3 < request.resend_at - time.monotonic() <= 0.5
    assert not frame(until_s=0.4).plan_retry(busy, held=False)


def test_a_torn_frame_is_sent_again_once() -> None:
    request, torn = frame(), TornError("torn")
    assert request.plan_retry(torn, held=False)
    assert not request.plan_retry(torn, held=False)


def test_nothing_is_sent_again_while_the_daemon_holds_the_arena_or_says_not_to() -> None:
    assert not frame().plan_retry(TornError("torn"), held=True)
    assert not frame().plan_retry(TornError("torn", retry=False), held=False)
    assert not frame().plan_retry(Cancelled("cancelled"), held=False)


def test_a_reply_about_an_earlier_generation_answers_nothing() -> None:
    assert frame().is_answered_by({"slot": 3, "gen": 7})
    assert not frame().is_answered_by({"slot": 3, "gen": 6})
    assert not frame().is_answered_by({"slot": 2, "gen": 7})
