"""Replies and operations: one final reply for each request, and its arena comes back once."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

import pytest

from mattebridge.daemon.doorkeeper import Doorkeeper
from mattebridge.daemon.held_plates import HeldCleanPlate
from mattebridge.daemon.leases import (
    REMEMBERED_REPLIES,
    ArenaRecord,
    Group,
    Lease,
    Request,
    next_memory_key,
)
from mattebridge.daemon.limits import Limits
from mattebridge.daemon.loop import Helper, Loop
from mattebridge.daemon.mailbox import OUTBOX_MESSAGES, Mailbox
from mattebridge.daemon.operations import Operations
from mattebridge.daemon.replies import PROGRESS_INTERVAL_S, Replies
from mattebridge.daemon.status import Tally
from mattebridge.errors import DeadlineError, IdReuseError, WorkerLostError
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.planes import Plane

PLANE = Plane("plate", 64, 4, 2, 3, "f4", 64)


class Daemon(NamedTuple):
    """The parts of a front that give replies, without a client: every reply waits in an outbox."""

    replies: Replies
    door: Doorkeeper
    tally: Tally
    freed: list[int]

    def lease(self) -> Lease:
        near, far = oslayer.current().pair(1 << 16)
        far.close()
        lease = Lease(near)
        lease.arenas[0] = ArenaRecord(0, os.open(os.devnull, os.O_RDONLY), 1 << 21)
        self.door.leases[lease.sid] = lease
        return lease

    def request(self, lease: Lease, *, group: Optional[Group] = None, **more: Any) -> Request:
        message = {"op": "render", "id": os.urandom(16), "slot": 0, "gen": 1, "in": [PLANE], **more}
        arena = None if group else lease.arenas[0]
        request = Request(lease, message, time.monotonic(), arena=arena)
        request.group = group
        lease.active[request.id] = request
        if arena is not None:
            lease.lend(arena, request)
        return request


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    freed: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        loop, tally = Loop(), Tally()
        door = Doorkeeper(
            Path(folder),
            Limits(),
            loop,
            Helper(loop),
            identity={},
            lost=lambda _lease: None,
            freed=freed.extend,
        )
        mail = Mailbox(Path(folder), epoch=5, outbox_s=10.0)
        try:
            yield Daemon(Replies(mail, door, tally, freed=freed.extend), door, tally, freed)
        finally:
            mail.close()
            door.close()


def _sent(lease: Lease) -> list[dict[str, Any]]:
    return [protocol.unpack(data) for _when, data in lease.outbox]


def test_every_request_of_the_protocol_has_an_operation_and_no_other() -> None:
    assert set(Operations.BY_NAME) == set(protocol.REQUESTS)


def test_a_finished_request_is_answered_once_and_its_arena_is_back(daemon: Daemon) -> None:
    lease = daemon.lease()
    request = daemon.request(lease)
    daemon.replies.finish(request, "done", {"timings": {}})
    (reply,) = _sent(lease)
    assert (reply["op"], reply["id"], reply["epoch"]) == ("done", request.id, 5)
    assert (reply["held"], reply["slot"], reply["gen"]) == (False, 0, 1)
    assert lease.arenas[0].lent_to is None
    assert not lease.active
    assert daemon.tally.frames["done"] == 1


def test_a_request_that_is_answered_early_keeps_its_arena_until_it_is_released(
    daemon: Daemon,
) -> None:
    lease = daemon.lease()
    request = daemon.request(lease)
    daemon.replies.answer_early(request, DeadlineError("too late", started=True))
    assert lease.arenas[0].lent_to is request
    daemon.replies.finish(request, "done", {"timings": {}})
    early, released = _sent(lease)
    assert (early["op"], early["code"], early["held"]) == ("error", "E_DEADLINE", True)
    assert (released["op"], released["slot"], released["gen"]) == ("released", 0, 1)
    assert lease.arenas[0].lent_to is None
    assert daemon.tally.frames == {"done": 0, "error": 1, "cancelled": 0}


def test_a_repeated_request_gets_its_reply_again_and_a_reused_id_is_refused(
    daemon: Daemon,
) -> None:
    lease = daemon.lease()
    request = daemon.request(lease)
    message = dict(request.message)
    assert daemon.replies.repeat(lease, message)
    assert not _sent(lease)  # it still runs
    daemon.replies.finish(request, "done", {"timings": {}})
    assert daemon.replies.repeat(lease, message)
    first, again = _sent(lease)
    assert first == again
    with pytest.raises(IdReuseError):
        daemon.replies.repeat(lease, {**message, "gen": 2})
    assert not daemon.replies.repeat(lease, {**message, "id": os.urandom(16)})


def test_a_reply_that_says_retry_is_not_remembered(daemon: Daemon) -> None:
    lease = daemon.lease()
    request = daemon.request(lease)
    daemon.replies.fail(request, WorkerLostError("the worker died", retry=True))
    assert not daemon.replies.repeat(lease, dict(request.message))


def test_replies_about_an_arena_are_forgotten_when_it_is_lent_again(daemon: Daemon) -> None:
    lease = daemon.lease()
    first = daemon.request(lease)
    daemon.replies.finish(first, "done", {"timings": {}})
    daemon.request(lease, gen=2)
    assert first.id not in lease.finished


def test_a_bounded_number_of_replies_is_remembered(daemon: Daemon) -> None:
    lease = daemon.lease()
    ids = [os.urandom(16) for _ in range(REMEMBERED_REPLIES + 1)]
    for request_id in ids:
        lease.remember(request_id, b"", {})
    assert list(lease.finished) == ids[1:]


def test_the_parts_of_a_request_to_all_workers_give_one_reply(daemon: Daemon) -> None:
    lease = daemon.lease()
    group = Group(2)
    message = {"op": "models_load", "id": os.urandom(16), "gen": None}
    parts = [daemon.request(lease, group=group, **message) for _ in range(2)]
    daemon.replies.finish_part(parts[0], failure={"code": "E_MODEL", "message": "", "retry": False})
    assert not _sent(lease)
    daemon.replies.finish_part(parts[1], report={"models": []})
    (reply,) = _sent(lease)
    assert (reply["op"], reply["code"]) == ("error", "E_MODEL")


def test_a_request_to_all_workers_stays_active_until_the_last_has_carried_it_out(
    daemon: Daemon,
) -> None:
    """A repetition is not carried out a second time, and a daemon that stops answers it."""
    lease = daemon.lease()
    group = Group(2)
    message = {"op": "models_load", "id": os.urandom(16), "gen": None}
    parts = [daemon.request(lease, group=group, **message) for _ in range(2)]
    daemon.replies.finish_part(parts[0], report={"models": []})
    assert list(lease.active) == [message["id"]]
    assert daemon.replies.repeat(lease, dict(parts[0].message))
    assert not _sent(lease)
    daemon.replies.finish_part(parts[1], report={"models": []})
    (reply,) = _sent(lease)
    assert reply["op"] == "models"
    assert not lease.active


def test_a_clean_plate_that_was_dropped_is_freed_with_its_last_request(daemon: Daemon) -> None:
    lease = daemon.lease()
    request = daemon.request(lease)
    held = HeldCleanPlate(
        next_memory_key(),
        "a",
        os.open(os.devnull, os.O_RDONLY),
        PLANE,
        digest="",
        owner=b"",
    )
    request.clean_plate = held
    held.pin()
    held.drop()
    assert not held.closed
    daemon.replies.finish(request, "cancelled", {})
    assert held.closed
    assert daemon.freed == [held.key]


def test_a_client_that_reads_nothing_loses_its_lease(daemon: Daemon) -> None:
    lease = daemon.lease()
    for _ in range(OUTBOX_MESSAGES):
        daemon.replies.send(lease, "pong", os.urandom(16), {})
    assert not lease.closed
    daemon.replies.send(lease, "pong", os.urandom(16), {})
    assert lease.closed
    assert not daemon.door.leases


def test_progress_comes_at_most_every_tenth_of_a_second_and_never_after_the_reply(
    daemon: Daemon,
) -> None:
    lease = daemon.lease()
    request = daemon.request(lease)
    stage = {"stage": "model", "done": 0, "total": 0}
    now = time.monotonic()
    for later, sent_at in ((0.0, now), (PROGRESS_INTERVAL_S / 2, now), (1.0, now + 1.0)):
        daemon.replies.progress(request, stage, now + later)
        assert request.last_progress_sent == sent_at
    request.answered = True
    daemon.replies.progress(request, stage, now + 9.0)
    assert request.last_progress_sent == now + 1.0
    assert not lease.outbox
