"""Requests on their way through a worker: queued, dispatched, watched, and reported back.

    submit --> queue --> idle worker --stage, done, failed, cancelled--> Replies.finish

The front never waits for a worker. A worker that dies or is too slow is replaced, and the requests
it had get an error; a request whose deadline passes is answered at once, wherever it is.

The first worker starts with the daemon, so that the first frame need not wait for it; each further
one when a frame waits that no other is about to take. An idle worker takes the next frame at once,
the first in the list before the others, so that those that are not needed stay idle and end. Where
none is idle, a frame goes to a busy worker that takes more than one, the one with the fewest first:
its planes are copied to the device meanwhile. Such a frame still counts as one that waits when
workers are started.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Callable, Optional

from mattebridge.daemon.devices import CPU
from mattebridge.daemon.leases import ArenaRecord, Lease, Request
from mattebridge.daemon.limits import Limits
from mattebridge.daemon.loop import Loop
from mattebridge.daemon.queue import FairQueue
from mattebridge.daemon.release import Releases
from mattebridge.daemon.replies import Replies
from mattebridge.daemon.status import Tally
from mattebridge.daemon.workers import WorkerProcess
from mattebridge.errors import (
    BusyError,
    DeadlineError,
    MattebridgeError,
    WorkerLostError,
    one_line,
)
from mattebridge.wire import protocol

log = logging.getLogger(__name__)

# How often a dead worker is looked at, until it is reaped.
REAP_S = 0.01
RETRY_AFTER_MS = 100


class Dispatcher:
    """The queue and the workers."""

    def __init__(
        self,
        limits: Limits,
        loop: Loop,
        *,
        replies: Replies,
        tally: Tally,
        misconfigured: Callable[[MattebridgeError], None],
    ) -> None:
        """misconfigured: called with the error of a worker that cannot load the colour config."""
        self._limits, self._loop, self._replies, self._tally = limits, loop, replies, tally
        self.queue: FairQueue[Request] = FairQueue(limits.batch_ageing_s)
        self.workers: list[WorkerProcess] = []  # none as long as the devices are not known
        self._misconfigured = misconfigured
        self.color: dict[str, str] = {}  # the workers' colour config and its digest
        self.notes: list[str] = []  # what the owner of the machine should know, for the status
        self._may_fall_back = self._one_was_ready = False
        self._releases = Releases(replies)
        self.last_frame_at = time.monotonic()

    def serve_from(self, devices: Sequence[str], notes: Sequence[str], *, chosen: bool) -> None:
        """Begin to serve from these devices; called once.

        chosen: the daemon chose them, and may serve from the CPU where none of them computes.
        """
        self.notes += notes
        self._may_fall_back = chosen and CPU not in devices
        self._add_workers(devices)
        self._spread_loads()
        self._dispatch(time.monotonic())

    def _spread_loads(self) -> None:
        """Models that were to be loaded before the devices were known are loaded on all of them."""
        for part in self.queue.take_if(lambda request: request.op == "models_load"):
            assert part.group is not None
            part.group.left += len(self.workers) - 1
            for worker in self.workers:
                self.queue.push(part.for_device(worker.name))

    def _add_workers(self, devices: Sequence[str]) -> None:
        for place, device in enumerate(devices):
            before = devices[:place].count(device)
            self.workers.append(
                WorkerProcess(
                    device,
                    self._limits,
                    self._loop,
                    name=f"{device}#{before + 1}" if before else device,
                    workers=len(devices),
                    on_message=self._receive,
                    on_death=self._worker_died,
                )
            )

    def stop(self) -> None:
        """Kill and reap all workers; their requests are answered by the caller."""
        for worker in self.workers:
            worker.stop()

    @property
    def computes(self) -> bool:
        """Whether a worker has a request that is not answered: one whose lease has ended is."""
        requests = [request for worker in self.workers for request in worker.requests]
        return any(not request.answered for request in requests)

    @property
    def failed(self) -> bool:
        """Whether no worker will be started again."""
        states = {worker.state for worker in self.workers}
        return states == {"failed"}

    # -- in -----------------------------------------------------------------------------------

    def check_accepts(self) -> None:
        """Raise `WorkerLostError` or `BusyError` unless one more request may be queued."""
        if self.failed:
            raise self._all_failed()
        if len(self.queue) >= self._limits.queue:
            raise BusyError(
                f"{len(self.queue)} requests are waiting, which is the limit: try again shortly",
                retry_after_ms=RETRY_AFTER_MS,
            )

    def submit(self, requests: Sequence[Request], now: float) -> None:
        """Queue requests; an idle worker starts at once."""
        for request in requests:
            self.queue.push(request)
        self._dispatch(now)

    def cancel(self, request: Request) -> str:
        """Stop a request and say where it was: `queued` (it is finished now) or `running`."""
        if request.group is not None:
            return self._cancel_parts(request)
        if self.queue.remove(request):
            self._replies.finish(request, "cancelled", {})
            return "queued"
        for worker in self.workers:
            worker.cancel(request)
        return "running"

    def _cancel_parts(self, request: Request) -> str:
        """Drop the parts that wait; those that run are finished, and the last gives the reply."""
        for part in self.queue.take_if(lambda waiting: waiting.group is request.group):
            self._replies.finish_part(part)
        return "queued" if request.group is not None and not request.group.left else "running"

    def release(self, request: Request) -> None:
        """End every worker when its request has ended, and reply when all of them have."""
        self._releases.add(request, self.workers)

    def drop(self, lease: Lease) -> None:
        """A lease has ended: drop its waiting requests, stop its running ones."""
        self._releases.drop(lease)
        for request in self.queue.take_if(lambda request: request.lease is lease):
            request.answered = True
            self._replies.finish(request, "cancelled", {})
        for worker in self.workers:
            for request in worker.requests:
                if request.lease is lease:
                    request.answered = True
                    worker.cancel(request)

    def fail_waiting(self, error: MattebridgeError) -> None:
        """Finish all requests that wait with this error."""
        for request in self.queue.take_if(lambda _request: True):
            self._replies.fail(request, error)

    def forget(self, keys: list[int]) -> None:
        """Let the workers unmap memory that will not be used again."""
        for worker in self.workers:
            worker.forget(keys)

    # -- time ---------------------------------------------------------------------------------

    def due(self, now: float) -> float:
        """When `tick` must be called, whether or not a message comes; infinity for no limit."""
        due = math.inf
        for worker in self.workers:
            if worker.state in ("dying", "retiring"):
                due = min(due, now + REAP_S)
            for running in worker.requests:
                if running.deadline is not None and not running.answered:
                    due = min(due, running.deadline)
        return min([due, *(r.deadline for r in self.queue if r.deadline is not None)])

    def tick(self, now: float) -> None:
        """Apply deadlines, watch the workers, start and retire them, dispatch what waits."""
        self._expire(now)
        for worker in self.workers:
            worker.tick(now)
        self._releases.tick()
        self._dispatch(now)
        self._retire_idle_workers(now)

    def _expire(self, now: float) -> None:
        for request in self.queue.take_if(lambda request: request.expired(now)):
            self._replies.fail(request, _deadline_error(request, started=False))
        for worker in self.workers:
            for running in worker.requests:
                if running.expired(now) and not running.answered:
                    worker.cancel(running)
                    error = _deadline_error(running, started=running is worker.request)
                    self._replies.answer_early(running, error)

    def _retire_idle_workers(self, now: float) -> None:
        for worker in self.workers:
            if now - worker.last_progress > self._limits.worker_idle_s:
                worker.retire()

    # -- to a worker --------------------------------------------------------------------------

    def _dispatch(self, now: float) -> None:
        """Send waiting requests to workers; start workers for those that no idle one takes."""
        depths = range(max((worker.depth for worker in self.workers), default=0))
        for taken in depths:
            for worker in self.workers:
                while worker.takes_more and len(worker.requests) == taken:
                    request = self.queue.pop(now, worker.name)
                    if request is None:
                        break
                    if request.expired(now):
                        self._replies.fail(request, _deadline_error(request, started=False))
                        continue
                    request.started = now
                    worker.send_request(request, *_job(request))
        self._start_workers(now)

    def _start_workers(self, now: float) -> None:
        if all(worker.state != "absent" for worker in self.workers):
            return
        # One that ends for `release` starts again as soon as it has ended.
        starting = sum(worker.state in ("starting", "retiring") for worker in self.workers)
        waiting = Counter(request.device for request in self.queue)
        waiting.update(r.device for worker in self.workers for r in worker.requests[1:])
        missing = waiting[None] - starting
        if not self._one_was_ready:
            missing = max(missing, 1 - starting)
        for worker in self.workers:
            wanted = missing > 0 or waiting[worker.name] or worker.failures
            if worker.state == "absent" and wanted and worker.start(now):
                missing -= 1

    # -- from a worker ------------------------------------------------------------------------

    def _receive(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        op, now = message["op"], time.monotonic()
        if op == "ready":
            self._one_was_ready = True
            worker.ready(message["models"], message["memory"], message.get("in_flight", 1))
            log.info("worker %s ready: warm_up_ms=%d", worker.name, message["warm_up_ms"])
        elif op == "unusable":
            worker.give_up(message["reason"])
        elif op == "configured":
            self._note_colors(worker, message["color"])
        elif op == "misconfigured":
            self._misconfigured(protocol.error_of(message["error"]))
        else:
            self._receive_about(worker, worker.of_job(message.get("job")), message, now)
        self._dispatch(now)

    def _receive_about(
        self,
        worker: WorkerProcess,
        request: Optional[Request],
        message: dict[str, Any],
        now: float,
    ) -> None:
        if request is None:
            return  # it has ended
        op = message["op"]
        if op == "stage":
            self._replies.progress(request, message, now)
            return
        worker.memory = message.get("memory", worker.memory)
        reused = "reused" in message.get("report", {}).get("notes", {})
        worker.finished(request, now, good=op == "done", usual=not reused)
        self._finished(request, op, message, now)

    def _note_colors(self, worker: WorkerProcess, color: dict[str, str]) -> None:
        """Keep which config a worker has loaded, and note one that changed since another did."""
        if self.color and self.color != color:
            note = f"{worker.name} has loaded the colour config again, and it is another one now"
            log.warning("%s: %s", note, color)
            self.notes.append(note)
        self.color.update(color)

    def _finished(self, request: Request, op: str, message: dict[str, Any], now: float) -> None:
        self.last_frame_at = now
        if request.group is not None:
            report, failure = message.get("report"), message.get("error")
            self._replies.finish_part(request, report=report, failure=failure)
        elif op == "done":
            if request.clean_plate is not None:
                message["report"]["clean_plate_digest"] = request.clean_plate.digest
            self._add_times(request, message["report"], now)
            self._replies.finish(request, "done", message["report"])
        elif op == "cancelled":
            self._replies.finish(request, "cancelled", {})
        else:
            self._replies.finish(request, "error", message["error"])

    def _add_times(self, request: Request, report: dict[str, Any], now: float) -> None:
        """Put the front's times beside those of the engine, and count them."""
        started = request.started or now
        queue_ms, render_ms = (started - request.arrived) * 1000, (now - started) * 1000
        total_ms = (now - request.arrived) * 1000
        self._tally.add_times(queue_ms, render_ms, total_ms)
        request.lease.frames += 1
        timings = report["timings"]
        timings.update(queue_ms=queue_ms, render_ms=render_ms, total_ms=total_ms)
        report["timings"] = {name: round(value, 3) for name, value in timings.items()}

    def _worker_died(self, worker: WorkerProcess, requests: list[Request]) -> None:
        for request in requests:
            error = _lost(given_up=self.failed and not worker.unusable)
            if request.group is not None:
                self._replies.finish_part(request, failure=protocol.error_fields(error))
            else:
                self._replies.fail(request, error)
        if worker.state == "failed":
            self._fail_parts(worker)
        if self.failed and self._may_fall_back and all(w.unusable for w in self.workers):
            self._fall_back()
        if self.failed:
            self.fail_waiting(self._all_failed())

    def _fail_parts(self, worker: WorkerProcess) -> None:
        """End what waits for this very worker, which will not be started again."""
        error = WorkerLostError(f"{worker.name} is not used any more: {worker.reason}")
        for part in self.queue.take_if(lambda request: request.device == worker.name):
            self._replies.finish_part(part, failure=protocol.error_fields(error))

    def _fall_back(self) -> None:
        """None of the devices that the daemon chose computes: serve from the CPU, and say so."""
        self._may_fall_back, self._one_was_ready = False, False
        self.notes.append(f"no GPU can be used ({self._reasons()}): serving on the CPU")
        log.warning("%s", self.notes[-1])
        self._add_workers([CPU])
        self._dispatch(time.monotonic())

    def _all_failed(self) -> WorkerLostError:
        return WorkerLostError(
            f"every worker stays down ({self._reasons()}): see the daemon's log, then stop "
            "and start it, with devices that work",
            retry=False,
        )

    def _reasons(self) -> str:
        reasons = (f"{worker.name}: {worker.reason}" for worker in self.workers)
        return one_line("; ".join(reasons), 600)


def _job(request: Request) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """The message to the worker, and (key, descriptor) of the memory that it uses."""
    job: dict[str, Any] = {"op": request.op, "job": request.job}
    if request.arena is not None:
        return _render_job(job, request, request.arena)
    for key in ("model", "first"):
        if key in request.message:
            job[key] = request.message[key]
    return job, []


def _render_job(
    job: dict[str, Any], request: Request, arena: ArenaRecord
) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    memories = [(arena.key, arena.fd)]
    sizes = [[arena.key, arena.size_bytes]]
    for key in ("in", "out", "model", "params", "frame", "gen"):
        job[key] = request.message[key]
    job["arena"] = arena.key
    # An artist asks for a frame again, with other parameters; the frames of a job come once.
    job["keep"] = request.priority == "interactive"
    if request.message.get("clean_plate_key"):
        # A content key is chosen by a client: it may not select pixels of another client.
        owner = request.lease.sid.hex()
        job["clean_plate_key"] = f"{owner}-{request.message['clean_plate_key']}"
    held = request.clean_plate
    if held is not None:
        job.update(held_clean_plate=held.key, held_clean_plate_plane=held.plane)
        memories.append((held.key, held.fd))
        sizes.append([held.key, held.size_bytes])
    job["bytes"] = sizes
    return job, memories


def _lost(*, given_up: bool) -> WorkerLostError:
    more = "; it failed too often and is not started again: restart the daemon"
    return WorkerLostError(
        "the worker that computed this died; the daemon's log has the reason"
        + (more if given_up else ""),
        retry=not given_up,
    )


def _deadline_error(request: Request, *, started: bool) -> DeadlineError:
    limit_ms = request.message["deadline_ms"]
    where = "while it was being computed" if started else "while it waited in the queue"
    return DeadlineError(f"the deadline of {limit_ms} ms passed {where}", started=started)
