"""The front: the one process that clients talk to.

It owns the lock, the door, the control socket, all memory, the queue and the workers, and it is
up in a few hundred milliseconds because it imports neither numpy nor torch. A request's way
through it:

    _hear_ctl    bytes -> message -> whose lease? -> valid? -> planes inside the arena?
    _render      repeated? arena free? queue full? -> the fair queue
    _dispatch    the queue -> an idle worker
    _worker_says stage, done, failed, cancelled -> exactly one final reply; the arena goes back

The rule that must not be broken: nothing here blocks, and every accepted request gets exactly one
final reply, or its lease is closed.
"""

from __future__ import annotations

import logging
import os
import signal
import statistics
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, Callable, ClassVar, Optional

from mattebridge.daemon.doorkeeper import Doorkeeper, free_descriptors, reserved_descriptors
from mattebridge.daemon.held_plates import HeldPlate, HeldPlates, copy_plate
from mattebridge.daemon.leases import (
    ArenaRecord,
    Group,
    Lease,
    Request,
    fingerprint,
    next_memory_key,
)
from mattebridge.daemon.limits import Limits
from mattebridge.daemon.loop import Helper, Loop
from mattebridge.daemon.mailbox import Letter, Mailbox
from mattebridge.daemon.queue import FairQueue
from mattebridge.daemon.runtime import Runtime, check_reader, raise_descriptor_limit
from mattebridge.daemon.workers import Worker
from mattebridge.errors import (
    BusyError,
    DeadlineError,
    DrainingError,
    IdReuseError,
    InternalError,
    LeaseError,
    MattebridgeError,
    MessageError,
    QuotaError,
    SlotBusyError,
    WorkerLostError,
)
from mattebridge.version import __version__
from mattebridge.wire import planes, protocol
from mattebridge.wire.folder import LOG
from mattebridge.wire.slots import HEADER_BYTES

log = logging.getLogger(__name__)

# How long the loop sleeps when nothing is due; deadlines wake it earlier.
TICK_S = 0.25
# While a dead worker is to be reaped.
REAP_S = 0.01
PROGRESS_INTERVAL_S = 0.1
STATUS_INTERVAL_S = 5.0
FOLDER_INTERVAL_S = 2.0
REMEMBERED_FRAMES = 256
RETRY_AFTER_MS = 100
# Frames are bounded by a session's arenas; these are not, and share the queue with everybody.
MODEL_REQUESTS_A_SESSION = 8

ALREADY_RUNNING = 17


class Front:
    """One daemon run, from `open` to the end of `run`."""

    def __init__(
        self,
        runtime: Runtime,
        limits: Limits,
        devices: list[str],
        user: str = protocol.BY_HAND,
    ) -> None:
        self._runtime, self._limits = runtime, limits
        self._loop = Loop()
        self._helper = Helper(self._loop)
        self._started = time.monotonic()
        self._boot_id = os.urandom(8).hex()
        self._epoch = int.from_bytes(os.urandom(6), "big")
        self._door = Doorkeeper(
            runtime.folder,
            limits,
            self._loop,
            self._helper,
            describe=self._identity,
            lost=self._lease_lost,
            freed=self._memory_freed,
        )
        self._door.add_user(user)
        self._mail = Mailbox(runtime.folder, epoch=self._epoch, patience_s=limits.outbox_s)
        self._loop.watch(self._mail.socket, self._hear_ctl)
        self._loop.watch(self._mail.arrivals, self._watch_descriptors)
        self._queue: FairQueue[Request] = FairQueue(limits.batch_ageing_s)
        self._plates = HeldPlates(limits.plate_bytes)
        self._workers = [
            Worker(
                device,
                limits,
                self._loop,
                on_message=self._worker_says,
                on_death=self._worker_died,
            )
            for device in devices
        ]
        self._counts = {"done": 0, "error": 0, "cancelled": 0}
        self._refused: dict[str, int] = {}
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=REMEMBERED_FRAMES)
        self._last_frame_at: Optional[float] = None
        self._last_work = time.monotonic()
        self._draining_until: Optional[float] = None
        self._why_draining = ""
        self._last_tick = 0.0
        self._next_status = 0.0
        self._next_look = 0.0
        self._last_state = ""

    def run(self) -> int:
        """Serve until told to stop; 0 after a clean drain."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            name = signal.Signals(number).name
            self._loop.on_signal(number, lambda name=name: self._drain(name))  # type: ignore[misc]
        self._door.open()
        self._runtime.bound()
        log.info("serving in %s: pid=%d version=%s", self._runtime.folder, os.getpid(), __version__)
        for worker in self._workers:
            worker.start(time.monotonic())
        try:
            while not self._finished():
                due = self._due(time.monotonic())
                self._loop.turn(due - time.monotonic())
                if time.monotonic() >= due:
                    self._loop.call(lambda: self._tick(time.monotonic()))
        finally:
            self._leave()
        return 0

    # -- time ----------------------------------------------------------------------------

    def _due(self, now: float) -> float:
        """When something must be looked at, whether or not a message comes."""
        due = self._last_tick + TICK_S
        for worker in self._workers:
            if worker.state in ("dying", "retiring"):
                due = min(due, now + REAP_S)
            running = worker.request
            if running is not None and running.deadline is not None and not running.answered:
                due = min(due, running.deadline)
        if len(self._queue):
            due = min([due, *(r.deadline for r in self._queue if r.deadline is not None)])
        return due

    def _tick(self, now: float) -> None:
        self._last_tick = now
        self._watch_descriptors()
        self._door.tick(now)
        self._expire(now)
        for worker in self._workers:
            worker.tick(now)
        self._dispatch(now)
        for lease in list(self._door.leases.values()):
            self._flush(lease, now)
        self._release_idle_workers(now)
        self._idle_exit(now)
        state = self._state()
        if now >= self._next_status or state != self._last_state:
            self._next_status, self._last_state = now + STATUS_INTERVAL_S, state
            self._runtime.write_status(self._status(now))
        if now >= self._next_look:
            self._next_look = now + FOLDER_INTERVAL_S
            if not self._runtime.still_there():
                self._drain("the runtime folder is gone")

    def _watch_descriptors(self) -> None:
        self._mail.forget_arrivals()
        free, reserved = free_descriptors(), reserved_descriptors()
        if self._mail.listening and free < reserved:
            log.warning("%d file descriptors are left: no new connections for a while", free)
            self._mail.listen(False)
        elif not self._mail.listening and free > reserved + reserved // 4:
            self._mail.listen(True)

    def _release_idle_workers(self, now: float) -> None:
        if any(worker.state == "busy" for worker in self._workers) or len(self._queue):
            self._last_work = now
        elif now - self._last_work > self._limits.worker_idle_s:
            for worker in self._workers:
                worker.retire()

    def _idle_exit(self, now: float) -> None:
        limit_s = self._limits.idle_exit_s
        if limit_s is None or len(self._queue):
            return
        if now - max(self._door.last_used, self._last_work_or_start()) > limit_s:
            self._drain(f"idle for {limit_s:g} s")

    def _last_work_or_start(self) -> float:
        return self._last_frame_at or self._started

    def _drain(self, why: str) -> None:
        if self._draining_until is not None:
            return
        log.info("draining: %s", why)
        self._why_draining = why
        self._draining_until = time.monotonic() + self._limits.drain_s
        self._door.draining = True
        for request in self._queue.take_if(lambda _request: True):
            self._fail(request, _stopping())

    def _finished(self) -> bool:
        if self._draining_until is None:
            return False
        busy = any(worker.request is not None for worker in self._workers)
        waiting = any(lease.outbox for lease in self._door.leases.values())
        return not (busy or waiting) or time.monotonic() > self._draining_until

    def _leave(self) -> None:
        for worker in self._workers:
            worker.stop()
        for lease in list(self._door.leases.values()):
            for request in list(lease.active.values()):
                self._fail(request, _stopping())
        self._mail.close()
        self._door.close()
        self._plates.clear()
        self._runtime.write_status({**self._status(time.monotonic()), "state": "stopped"})
        self._runtime.release()
        log.info("stopped: %s", self._why_draining or "error")

    # -- messages in ---------------------------------------------------------------------

    def _hear_ctl(self) -> None:
        for letter in self._mail.letters():
            self._take(letter)

    def _take(self, letter: Letter) -> None:
        if letter.uid != os.geteuid():
            self._count("E_UID")
            return
        if len(letter.parts) != 2 or letter.parts[0] != protocol.MAGIC:
            self._count("not_ours")
            return
        try:
            message = protocol.unpack(letter.parts[1])
            request_id = protocol.nonce("id", message.get("id"))
        except MessageError as error:
            self._count(error.code)
            return
        lease = self._find_lease(message.get("sid"), letter.pid)
        if lease is None:
            self._answer_stranger(letter, request_id)
            return
        lease.routing_id = letter.routing_id
        if lease.outbox:
            self._flush(lease, time.monotonic())
        try:
            request = protocol.validate_request(message)
            self._OPERATIONS[request["op"]](self, lease, request)
        except MattebridgeError as error:
            self._refuse(lease, message, error)
        except Exception:
            reference = os.urandom(4).hex()
            log.exception("a request failed in the front: ref=%s", reference)
            self._refuse(lease, message, _bug(reference))

    def _answer_stranger(self, letter: Letter, request_id: bytes) -> None:
        error = LeaseError("this session is over: connect again")
        self._count(error.code)
        reply = self._mail.reply("error", request_id, protocol.error_fields(error))
        self._mail.send_once(letter.routing_id, reply)

    def _find_lease(self, sid: Any, pid: int) -> Optional[Lease]:
        lease = self._door.leases.get(sid) if isinstance(sid, bytes) else None
        return lease if lease is not None and lease.peer.pid == pid else None

    def _refuse(self, lease: Lease, message: dict[str, Any], error: MattebridgeError) -> None:
        """Answer an error to what was never accepted; nothing else changes."""
        self._count(error.code)
        fields = protocol.error_fields(error)
        slot, generation = message.get("slot"), message.get("gen")
        if isinstance(slot, int) and isinstance(generation, int):
            arena = lease.arenas.get(slot)
            lent = arena is not None and arena.lent_to is not None
            fields.update(held=lent, slot=slot, gen=generation)
        self._post(lease, "error", message["id"], fields)

    # -- rendering -----------------------------------------------------------------------

    def _render(self, lease: Lease, message: dict[str, Any]) -> None:
        if self._repeated(lease, message):
            return
        arena = self._arena(lease, message)
        planes.check_planes(message["in"], message["out"], arena.size_bytes, HEADER_BYTES)
        self._check_can_work(lease)
        now = time.monotonic()
        request = Request(lease, message, now, arena=arena)
        if message.get("clean_plate_key") and "clean_plate" not in _roles(message):
            raise MessageError(
                "a content key goes with a clean plate that is sent", field="clean_plate_key"
            )
        if message.get("clean_plate") is not None:
            request.plate = self._plates.get(message["clean_plate"])
            request.plate.pin()
        self._lend(request, arena)
        self._queue.push(request)
        self._dispatch(now)

    def _repeated(self, lease: Lease, message: dict[str, Any]) -> bool:
        """Whether this very request is known: attach to it, or give its reply again."""
        known = lease.active.get(message["id"])
        finished = lease.finished.get(message["id"])
        if known is None and finished is None:
            return False
        mark = fingerprint(message)
        if mark != (known.fingerprint if known is not None else finished[0]):  # type: ignore[index]
            raise IdReuseError("this request id was used for another request: make a new one")
        if known is not None:
            # One that was answered and still runs has no further reply to wait for: its arena is
            # lent, and that is what a repetition is told.
            return not known.answered
        assert finished is not None
        self._post_reply(lease, finished[1])
        return True

    def _arena(self, lease: Lease, message: dict[str, Any]) -> ArenaRecord:
        arena = lease.arenas.get(message["slot"])
        if arena is None:
            raise MessageError(
                f"this session has no arena {message['slot']}; it has {sorted(lease.arenas)}",
                field="slot",
            )
        if arena.lent_to is not None:
            raise SlotBusyError(
                f"arena {arena.number} is still lent to an earlier request: use another one or "
                "wait for it to be released",
            )
        if message["gen"] <= arena.generation:
            raise MessageError(
                f"generation {message['gen']} of arena {arena.number} is not newer than "
                f"{arena.generation}",
                field="gen",
            )
        return arena

    def _check_can_work(self, lease: Lease) -> None:
        if self._draining_until is not None:
            raise _stopping()
        if self._state() == "failed":
            raise _given_up()
        if len(self._queue) >= self._limits.queue:
            raise BusyError(
                f"{len(self._queue)} requests are waiting, which is the limit: try again shortly",
                retry_after_ms=RETRY_AFTER_MS,
            )

    def _lend(self, request: Request, arena: ArenaRecord) -> None:
        lease = request.lease
        arena.lent_to, arena.generation = request, request.generation
        lease.active[request.id] = request
        # Older replies about this arena speak of pixels that are no longer there.
        for known_id, (_mark, reply) in list(lease.finished.items()):
            if reply.get("slot") == arena.number:
                del lease.finished[known_id]

    def _dispatch(self, now: float) -> None:
        """Give waiting requests to idle workers; start workers that are not there."""
        for worker in self._workers:
            if worker.state == "absent" and (len(self._queue) or worker.failures):
                worker.start(now)
            while worker.state == "idle":
                request = self._queue.pop(now, worker.device)
                if request is None:
                    break
                if request.deadline is not None and now >= request.deadline:
                    self._fail(request, _expired(request, started=False))
                    continue
                self._give(worker, request, now)

    def _give(self, worker: Worker, request: Request, now: float) -> None:
        request.started = now
        message: dict[str, Any] = {"op": request.op, "job": request.job}
        memories: list[tuple[int, int]] = []
        if request.op == "render":
            arena, plate = request.arena, request.plate
            assert arena is not None
            for key in ("in", "out", "model", "params", "frame", "gen"):
                message[key] = request.message[key]
            message.update(arena=arena.key, bytes={arena.key: arena.size_bytes})
            if request.message.get("clean_plate_key"):
                # What a client says of its pixels is said of no other client's.
                owner = request.lease.sid.hex()
                message["clean_plate_key"] = f"{owner}-{request.message['clean_plate_key']}"
            memories.append((arena.key, arena.fd))
            if plate is not None:
                message.update(plate=plate.key, plate_plane=plate.plane)
                message["bytes"][plate.key] = plate.size_bytes
                memories.append((plate.key, plate.fd))
            message["bytes"] = [[key, size] for key, size in message["bytes"].items()]
        elif "model" in request.message:
            message["model"] = request.message["model"]
        worker.give(request, message, memories)

    # -- other operations ----------------------------------------------------------------

    def _cancel(self, lease: Lease, message: dict[str, Any]) -> None:
        target = lease.active.get(message["target"])
        found = "unknown"
        if target is not None and not target.answered:
            if self._queue.remove(target):
                found = "queued"
                self._finish(target, "cancelled", {})
            else:
                found = "running"
                for worker in self._workers:
                    worker.cancel(target)
        elif message["target"] in lease.finished:
            found = "finished"
        self._post(lease, "ack", message["id"], {"target": message["target"], "found": found})

    def _ping(self, lease: Lease, message: dict[str, Any]) -> None:
        now = time.monotonic()
        fields = {
            "state": self._state(),
            "uptime_s": round(now - self._started, 3),
            "queue": len(self._queue),
            "workers": [
                {
                    "device": worker.device,
                    "state": worker.state,
                    "pid": worker.pid,
                    "age_since_progress_ms": int((now - worker.last_sign) * 1000),
                    "restarts": max(0, worker.restarts),
                }
                for worker in self._workers
            ],
        }
        self._post(lease, "pong", message["id"], fields)

    def _say_status(self, lease: Lease, message: dict[str, Any]) -> None:
        self._post(lease, "status", message["id"], self._status(time.monotonic()))

    def _models(self, lease: Lease, message: dict[str, Any]) -> None:
        """Models are the workers' affair: queue the question for one of them, or for all."""
        if self._repeated(lease, message):
            return
        self._check_can_work(lease)
        out = sum(request.arena is None for request in lease.active.values())
        if out >= MODEL_REQUESTS_A_SESSION:
            raise BusyError(
                f"{out} questions about models are not answered yet: wait for them",
                retry_after_ms=RETRY_AFTER_MS,
            )
        now = time.monotonic()
        devices: list[Optional[str]] = [None]
        if message["op"] != "models_list":
            devices = [w.device for w in self._workers if w.state != "failed"]
        group = Group(len(devices))
        for device in devices:
            request = Request(lease, message, now, device=device)
            request.group = group
            lease.active[request.id] = request
            self._queue.push(request)
        self._dispatch(now)

    def _plate_put(self, lease: Lease, message: dict[str, Any]) -> None:
        if self._repeated(lease, message):
            return
        arena = self._arena(lease, message)
        plane: planes.Plane = message["plane"]
        if plane.role != "clean_plate":
            raise MessageError("a held plate has the role clean_plate", field="plane.role")
        planes.check_planes([plane], [], arena.size_bytes, HEADER_BYTES)
        self._plates.check_fits(plane)
        if self._draining_until is not None:
            raise _stopping()
        request = Request(lease, message, time.monotonic(), arena=arena)
        self._lend(request, arena)

        def then(result: Any) -> None:
            if isinstance(result, MattebridgeError):
                self._fail(request, result)
            elif isinstance(result, BaseException):
                log.error("copying a held plate failed: %r", result)
                self._fail(request, QuotaError("no memory for the clean plate", limit="memory"))
            else:
                fd, held = result
                plate = HeldPlate(next_memory_key(), message["name"], fd, held)
                gone = self._plates.add(plate)
                self._memory_freed([old.key for old in gone])
                self._finish(request, "plates", {"plates": self._plates.describe()})

        self._helper.do(lambda: copy_plate(arena.fd, request.generation, plane), then)

    def _plate_list(self, lease: Lease, message: dict[str, Any]) -> None:
        fields = {"plates": self._plates.describe()}
        self._post(lease, "plates", message["id"], fields)

    def _plate_drop(self, lease: Lease, message: dict[str, Any]) -> None:
        self._memory_freed([self._plates.drop(message["name"]).key])
        self._plate_list(lease, message)

    def _shutdown(self, lease: Lease, message: dict[str, Any]) -> None:
        self._door.users.pop(message["user"], None)
        others = self._door.in_use() or self._door.users
        stopping = not (message["if_unused"] and others)
        self._post(lease, "stopping", message["id"], {"stopping": stopping})
        if stopping:
            self._drain("asked to stop")

    _OPERATIONS: ClassVar[dict[str, Callable[[Front, Lease, dict[str, Any]], None]]] = {
        "render": _render,
        "cancel": _cancel,
        "ping": _ping,
        "status": _say_status,
        "models_list": _models,
        "models_load": _models,
        "models_unload": _models,
        "plate_put": _plate_put,
        "plate_list": _plate_list,
        "plate_drop": _plate_drop,
        "shutdown": _shutdown,
    }

    # -- the workers ---------------------------------------------------------------------

    def _worker_says(self, worker: Worker, message: dict[str, Any]) -> None:
        op, now = message["op"], time.monotonic()
        if op == "ready":
            worker.models, worker.memory = message["models"], message["memory"]
            worker.state = "idle" if worker.state == "starting" else worker.state
            log.info("worker %s ready: warm_up_ms=%d", worker.device, message["warm_up_ms"])
        elif worker.request is None or message.get("job") != worker.request.job:
            return  # about a request that is over
        elif op == "stage":
            self._progress(worker.request, message, now)
        else:
            request = worker.request
            worker.memory = message.get("memory", worker.memory)
            worker.finished(now, good=op == "done")
            self._worker_finished(request, op, message, now)
        self._dispatch(now)

    def _worker_finished(
        self, request: Request, op: str, message: dict[str, Any], now: float
    ) -> None:
        self._last_frame_at = now
        if request.group is not None:
            self._group_part(request, op, message)
        elif op == "done":
            self._finish(request, "done", self._report(request, message["report"], now))
        elif op == "cancelled":
            self._finish(request, "cancelled", {})
        else:
            self._finish(request, "error", message["error"])

    def _report(self, request: Request, report: dict[str, Any], now: float) -> dict[str, Any]:
        started = request.started or now
        queue_ms, render_ms = (started - request.arrived) * 1000, (now - started) * 1000
        total_ms = (now - request.arrived) * 1000
        self._recent.append((queue_ms, render_ms, total_ms))
        request.lease.frames += 1
        timings = report["timings"]
        timings.update(queue_ms=queue_ms, render_ms=render_ms, total_ms=total_ms)
        report["timings"] = {name: round(value, 3) for name, value in timings.items()}
        return report

    def _group_part(self, request: Request, op: str, message: dict[str, Any]) -> None:
        """One worker's share of an answer that several give; the last one answers."""
        group = request.group
        assert group is not None
        group.left -= 1
        if op == "done":
            group.result = message["report"]
        else:
            group.failure = message["error"]
        if group.left:
            request.lease.active.pop(request.id, None)
        elif group.failure is not None:
            self._finish(request, "error", group.failure)
        else:
            self._finish(request, "models", group.result)

    def _progress(self, request: Request, message: dict[str, Any], now: float) -> None:
        if request.answered or now - request.last_progress_sent < PROGRESS_INTERVAL_S:
            return
        request.last_progress_sent = now
        fields = {key: message[key] for key in ("stage", "done", "total")}
        reply = self._mail.reply("progress", request.id, fields)
        self._mail.send_once(request.lease.routing_id, reply)

    def _worker_died(self, worker: Worker, request: Optional[Request]) -> None:
        if request is not None:
            gone = worker.state == "failed"
            error = WorkerLostError(
                "the worker computing this frame died"
                + (" and is given up after too many failures; restart the daemon" if gone else "")
                + "; the daemon's log says why",
                retry=not gone,
            )
            if request.group is not None:
                self._group_part(request, "failed", {"error": protocol.error_fields(error)})
            else:
                self._fail(request, error)
        if self._state() == "failed":
            for waiting in self._queue.take_if(lambda _request: True):
                self._fail(waiting, _given_up())

    def _memory_freed(self, keys: list[int]) -> None:
        for worker in self._workers:
            worker.forget(keys)

    def _expire(self, now: float) -> None:
        late = self._queue.take_if(lambda r: r.deadline is not None and now >= r.deadline)
        for request in late:
            self._fail(request, _expired(request, started=False))
        for worker in self._workers:
            running = worker.request
            if running is None or running.answered or running.deadline is None:
                continue
            if now >= running.deadline:
                worker.cancel(running)
                error = _expired(running, started=True)
                self._answer(running, "error", {**protocol.error_fields(error), "held": True})

    # -- the end of a request ------------------------------------------------------------

    def _fail(self, request: Request, error: MattebridgeError) -> None:
        self._finish(request, "error", protocol.error_fields(error))

    def _finish(self, request: Request, op: str, fields: dict[str, Any]) -> None:
        """The arena is back: give the final reply, or, if it was given before, say `released`."""
        arena, lease = request.arena, request.lease
        if arena is not None:
            self._door.returned(lease, arena)
        if request.plate is not None:
            request.plate.unpin()
            if request.plate.closed:
                self._memory_freed([request.plate.key])
            request.plate = None
        if not request.answered:
            self._answer(request, op, {**fields, "held": False})
        elif arena is not None:
            place = {"slot": arena.number, "gen": request.generation}
            self._post(lease, "released", request.id, place)
        lease.active.pop(request.id, None)

    def _answer(self, request: Request, op: str, fields: dict[str, Any]) -> None:
        request.answered = True
        if request.group is not None:
            if request.group.answered:
                return
            request.group.answered = True
        if request.arena is not None:
            fields.update(slot=request.arena.number, gen=request.generation)
        reply = self._mail.reply(op, request.id, fields)
        if request.op == "render" and op in self._counts:
            self._counts[op] += 1
            _log_frame(request, op, fields)
        if op == "error":
            self._count(fields["code"])
        if not fields.get("retry"):
            request.lease.remember(request.id, request.fingerprint, reply)
        self._post_reply(request.lease, reply)

    def _lease_lost(self, lease: Lease) -> None:
        """A client is gone: its waiting requests are dropped, the running one is told to stop."""
        for request in self._queue.take_if(lambda request: request.lease is lease):
            request.answered = True
            self._finish(request, "cancelled", {})
        for worker in self._workers:
            if worker.request is not None and worker.request.lease is lease:
                worker.request.answered = True
                worker.cancel(worker.request)

    # -- messages out ---------------------------------------------------------------------

    def _post(self, lease: Lease, op: str, request_id: bytes, fields: dict[str, Any]) -> None:
        self._post_reply(lease, self._mail.reply(op, request_id, fields))

    def _post_reply(self, lease: Lease, reply: dict[str, Any]) -> None:
        if not self._mail.post(lease, reply):
            self._close_stuck(lease)

    def _flush(self, lease: Lease, now: float) -> None:
        if not self._mail.flush(lease, now):
            self._close_stuck(lease)

    def _close_stuck(self, lease: Lease) -> None:
        """Instead of silence, a client that does not read sees its lease end."""
        log.warning("a client does not read its replies: pid=%d", lease.peer.pid)
        lease.outbox.clear()
        self._door.end(lease)

    # -- what can be asked ---------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {
            "ver": __version__,
            "pid": os.getpid(),
            "boot_id": self._boot_id,
            "epoch": self._epoch,
        }

    def _state(self) -> str:
        states = [worker.state for worker in self._workers]
        if self._draining_until is not None:
            return "draining"
        if all(state == "failed" for state in states):
            return "failed"
        if "failed" in states:
            return "degraded"
        if all(state in ("starting", "dying") for state in states):
            return "starting"
        if len(self._queue) and "idle" not in states:
            return "busy"
        return "ready"

    def _status(self, now: float) -> dict[str, Any]:
        return {
            "state": self._state(),
            "version": __version__,
            "protocol": [protocol.PROTOCOL_MIN, protocol.PROTOCOL_MAX],
            "pid": os.getpid(),
            "instance": self._runtime.folder.name,
            "folder": str(self._runtime.folder),
            "log": str(self._runtime.folder / LOG),
            "uptime_s": round(now - self._started, 1),
            "workers": [worker.describe(now) for worker in self._workers],
            "models": next((worker.models for worker in self._workers if worker.models), []),
            "queue": {
                "interactive": self._queue.count("interactive"),
                "batch": self._queue.count("batch"),
                "limit": self._limits.queue,
            },
            "sessions": [
                {
                    "client": protocol.clean_text(str(lease.client.get("name", "")), 40),
                    "host": protocol.clean_text(str(lease.client.get("host", "")), 40),
                    "pid": lease.peer.pid,
                    "arenas": len(lease.arenas),
                    "bytes": lease.arena_bytes,
                    "out": len(lease.active),
                    "frames": lease.frames,
                }
                for lease in list(self._door.leases.values())[: protocol.MAX_ITEMS]
            ],
            "users": list(self._door.users),
            "frames": dict(self._counts),
            "timings": self._timings(),
            "memory": {
                "arena_bytes": self._door.used_bytes,
                "arena_limit": self._limits.slot_bytes,
                "plate_bytes": self._plates.used_bytes,
                "plate_limit": self._limits.plate_bytes,
                "front_bytes": _resident_bytes(),
            },
            "plates": self._plates.describe(),
            "refused": dict(Counter(self._refused) + Counter(self._door.refusals)),
        }

    def _timings(self) -> dict[str, float]:
        if not self._recent:
            return {}
        columns = zip(*self._recent)
        names = ("queue_ms", "render_ms", "total_ms")
        return {name: round(statistics.median(c), 1) for name, c in zip(names, columns)}

    def _count(self, what: str) -> None:
        self._refused[what] = self._refused.get(what, 0) + 1


def _roles(message: dict[str, Any]) -> list[str]:
    return [plane.role for plane in message["in"]]


def _log_frame(request: Request, op: str, fields: dict[str, Any]) -> None:
    timings = fields.get("timings", {})
    width, height = request.size
    log.info(
        "frame=%s model=%s size=%dx%d status=%s queue_ms=%.1f infer_ms=%.1f total_ms=%.1f",
        request.frame,
        request.message.get("model"),
        width,
        height,
        fields.get("code", op),
        timings.get("queue_ms", 0.0),
        timings.get("render_ms", 0.0),
        timings.get("total_ms", (time.monotonic() - request.arrived) * 1000),
    )


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _stopping() -> DrainingError:
    return DrainingError("the daemon is stopping and did not start this: send it to the next one")


def _given_up() -> WorkerLostError:
    return WorkerLostError(
        "every worker failed too often in a row and stays down: see the daemon's log, then stop "
        "and start it",
        retry=False,
    )


def _expired(request: Request, *, started: bool) -> DeadlineError:
    limit_ms = request.message["deadline_ms"]
    where = "while it was being computed" if started else "while it waited in the queue"
    return DeadlineError(f"the deadline of {limit_ms} ms passed {where}", started=started)


def _bug(reference: str) -> InternalError:
    return InternalError(
        f"something went wrong in the daemon; its log has the details under ref={reference}",
        ref=reference,
    )


def serve(
    folder: Path,
    devices: list[str],
    limits: Limits,
    *,
    to_terminal: bool,
    user: str = protocol.BY_HAND,
) -> int:
    """Run the daemon of this folder for its first user; 17 when another one holds the lock."""
    check_reader()
    raise_descriptor_limit()
    runtime = Runtime(folder)
    runtime.prepare()
    if not runtime.acquire():
        return ALREADY_RUNNING
    runtime.open_log(to_terminal=to_terminal)
    return Front(runtime, limits, devices, user).run()
