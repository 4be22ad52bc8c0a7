"""The workers: one child process a device, started, watched, killed and replaced.

Several on one machine share its processors: each computes with its share of the threads.

    absent -> starting -> idle <-> busy          a process that ends is reaped before its request
                 |          |        |           is answered: until then it could still write into
                 +----------+--------+-> dying   the arena of that request
                            +-> retiring         one that was not needed, or for `release`

A worker that dies takes nothing with it: sessions and arenas belong to the front. After `restarts`
failures in a row, with no finished request between them, the device is `failed` and is not started
again. A worker whose device copies beside what it computes asks for more than one request at a time
(`depth`): it carries them out one after the other, and when it dies each of them is answered.
Workers are started by exec from the front's main thread, with one socket of the front open and
nothing else; the system kills them when the front dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Optional

import msgpack

from mattebridge.daemon.link import LINK_BYTES
from mattebridge.errors import one_line
from mattebridge.wire import oslayer
from mattebridge.wire.children import Output
from mattebridge.wire.connection import Connection

if TYPE_CHECKING:
    from mattebridge.daemon.leases import Request
    from mattebridge.daemon.limits import Limits
    from mattebridge.daemon.loop import Loop

log = logging.getLogger(__name__)

LINK_BUFFER_BYTES = 4 << 20
BACKOFF_S = 0.1
BACKOFF_LIMIT_S = 5.0
REMEMBERED_TIMES = 32
# An idle worker that is told to end does so at once, except that a GPU's driver has to clean up.
RETIRE_LIMIT_S = 30.0
# How long the end of a killed process is waited for when the front ends.
END_LIMIT_S = 5.0
MAX_REASON = 300

# torch's threads wait for each other hundreds of times a frame, by default in a busy loop. On
# processors that other programs use too (the clients that read and encode frames) this takes ten
# times as long as the frame itself. Threads that sleep while they wait cost almost nothing.
#
# A frame's temporaries are tens of megabytes each, and are given back to the system again and
# again. In pages of 4 KB that takes longer than what is computed in them, above all on virtual
# machines; glibc (2.35 or later) asks for large ones. They are held no longer than small ones.
WORKER_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
# torch and what else uses OpenMP, numpy, OpenCV.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


class WorkerProcess:
    """The worker of one device: its process, restarted when it dies, and its requests."""

    def __init__(
        self,
        device: str,
        limits: Limits,
        loop: Loop,
        *,
        name: str,
        workers: int,
        on_message: Callable[[WorkerProcess, dict[str, Any]], None],
        on_death: Callable[[WorkerProcess, list[Request]], None],
    ) -> None:
        self.device = device
        self.name = name  # of the worker: the device, and a number where it is not its only one
        self.unusable = False  # whether its device cannot compute
        self.state = "absent"
        self.requests: list[Request] = []  # in the order in which they were sent
        self.depth = 1  # how many it takes at a time
        self.failures = 0
        self.reason = ""  # why the device is failed
        self.restarts = -1
        self.frames = 0
        self.memory: dict[str, Any] = {}
        self.held: dict[str, Any] = {}  # what the last process held before it ended
        self.models: list[dict[str, Any]] = []
        self.last_progress = time.monotonic()
        self._limits, self._loop = limits, loop
        self._workers = workers
        self._environment = {**WORKER_ENVIRONMENT, **thread_environment(workers)}
        self._on_message, self._on_death = on_message, on_death
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._link: Optional[Connection] = None
        self._output: Optional[Output] = None
        self._known: set[int] = set()
        self._to_forget: list[int] = []  # sent when the worker is idle
        self._releasing = False
        self._not_before = 0.0
        self._times: dict[tuple[Any, ...], deque[float]] = {}

    @property
    def pid(self) -> int:
        """The process id; 0 when there is no process."""
        return self._process.pid if self._process is not None else 0

    @property
    def request(self) -> Optional[Request]:
        """The one that it has had for the longest time; None when it has nothing to do."""
        return self.requests[0] if self.requests else None

    @property
    def takes_more(self) -> bool:
        """Whether it takes a further request, beside those that it has.

        After a failure one at a time, until one is good: what made the worker fail may come again,
        and is not to take other requests with it.
        """
        ready = self.state in ("idle", "busy") and not self._releasing
        return ready and len(self.requests) < (1 if self.failures else self.depth)

    # -- the process --------------------------------------------------------------------------

    def start(self, now: float) -> bool:
        """Start the process, unless it runs or waits after a failure; whether it was started."""
        if self.state != "absent" or now < self._not_before:
            return False
        try:
            self._spawn()
        except OSError as error:
            log.error("worker %s cannot be started: %s", self.name, error)
            self._not_before = now + BACKOFF_LIMIT_S
            return False
        self._known, self._to_forget = set(), []
        self.state, self.last_progress = "starting", now
        self.restarts += 1
        log.info("worker %s started: pid=%d", self.name, self.pid)
        return True

    def _spawn(self) -> None:
        layer = oslayer.current()
        front_end, worker_end = layer.pair(LINK_BUFFER_BYTES)
        command = [sys.executable, "-m", "mattebridge.daemon.worker", f"--parent={os.getpid()}",
                   f"--device={self.device}", f"--workers={self._workers}"]  # fmt: skip
        environment = {**self._environment, **os.environ}
        try:
            self._process, self._output = layer.start_child(
                command, link=worker_end, environment=environment
            )
        except OSError:
            front_end.close()
            raise
        finally:
            worker_end.close()
        self._link = front_end
        self._loop.watch(front_end.fileno(), self._receive)
        self._loop.watch(self._output.fileno(), self._read_output)

    def kill(self, why: str) -> None:
        """Kill the process now; its request is answered when it has been reaped."""
        if self._process is None or self.state == "dying":
            return
        log.warning("worker %s is killed: %s", self.name, why)
        self.state = "dying"
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def tick(self, now: float) -> None:
        """Reap a process that has ended; kill one that makes no progress."""
        if self._process is None:
            return
        if self._process.poll() is not None:
            self._reaped(now)
        elif (
            self.state in ("busy", "starting", "retiring")
            and now - self.last_progress > self.stage_limit_s()
        ):
            self.kill(f"no progress for {now - self.last_progress:.0f} s ({self.state})")

    def _reaped(self, now: float) -> None:
        process, requests = self._process, self.requests
        assert process is not None
        self._read_output()
        self._close_link()
        retired = self.state == "retiring"
        self._process, self.requests, self.state, self.depth = None, [], "absent", 1
        self._releasing, self.held, self.memory = False, self.memory, {}
        if retired:
            log.info("worker %s ended: its memory is free", self.name)
            return
        self.failures += 1
        pause_s = min(BACKOFF_LIMIT_S, BACKOFF_S * 2 ** (self.failures - 1))
        self._not_before = now + (pause_s if self.failures > 1 else 0.0)
        log.error("worker %s died: status=%d", self.name, process.returncode)
        if self.failures >= self._limits.restarts and not self.reason:
            self.reason = f"it failed {self.failures} times in a row; the daemon's log has why"
        if self.reason:
            self.state = "failed"
            log.error("worker %s stays down: %s", self.name, self.reason)
        self._on_death(self, requests)

    def give_up(self, reason: str) -> None:
        """The device cannot be used: end the process and start no other one."""
        self.reason, self.unusable = one_line(reason, MAX_REASON), True
        self.kill(f"its device cannot be used: {self.reason}")

    def retire(self) -> None:
        """End an idle worker's process; the next request starts another."""
        if self.state == "idle":
            self.state, self.last_progress = "retiring", time.monotonic()
            self.send({"op": "exit"})

    def release(self) -> None:
        """`retire` now, or as soon as the process has started up or its requests have ended."""
        self._releasing = True
        self.retire()

    def _idle(self) -> None:
        """The process has nothing to do: it takes requests, unless it is to end or was killed."""
        if self.state == "dying":
            return
        self.state = "idle"
        if self._releasing:
            self.retire()

    def stage_limit_s(self) -> float:
        """How long a stage may take before the worker counts as hanging."""
        if self.state == "retiring":
            return RETIRE_LIMIT_S
        if self.state == "starting" or self.request is None:
            return self._limits.watchdog_first_s
        times = self._times.get(self._kind(self.request))
        if not times:
            return self._limits.watchdog_first_s
        usual_s = statistics.median(times)
        return max(self._limits.watchdog_s, self._limits.watchdog_factor * usual_s)

    def _kind(self, request: Request) -> tuple[Any, ...]:
        return (request.op, request.message.get("model"), request.size)

    # -- requests -----------------------------------------------------------------------------

    def ready(self, models: list[dict[str, Any]], memory: dict[str, Any], depth: int) -> None:
        """The process has started up: it takes so many requests at a time."""
        self.models, self.memory, self.depth = models, memory, depth
        if self.state == "starting":
            self._idle()

    def send_request(
        self, request: Request, message: dict[str, Any], memories: list[tuple[int, int]]
    ) -> None:
        """Send a request. `memories` are (key, descriptor) of the memory that it uses."""
        new = [(key, fd) for key, fd in memories if key not in self._known]
        self._known.update(key for key, _fd in new)
        if not self.requests:
            self.last_progress = time.monotonic()
        self.requests.append(request)
        self.state = "busy"
        self.send({**message, "keys": [key for key, _fd in new]}, tuple(fd for _key, fd in new))

    def finished(self, request: Request, now: float, *, good: bool, usual: bool = True) -> None:
        """A request has ended, and the worker no longer uses its arena.

        usual: its time says how long such a request takes.
        """
        if request.started is not None and good:
            if usual:
                kind = self._kind(request)
                times = self._times.setdefault(kind, deque(maxlen=REMEMBERED_TIMES))
                times.append(now - request.started)
            if request.op == "render":
                self.frames += 1
            self.failures = 0
        place = self.requests.index(request)
        del self.requests[place]
        for waited in self.requests[place:]:
            waited.started = now  # until now it waited for this one
        if not self.requests:
            self._idle()
        self._send_what_to_forget()

    def of_job(self, job: Optional[int]) -> Optional[Request]:
        """Its request of this number; None for one that has ended."""
        return next((request for request in self.requests if request.job == job), None)

    def cancel(self, request: Request) -> None:
        """Ask the worker to stop this request at its next stage, if it has it; sent once."""
        if request in self.requests and not request.cancel_sent:
            request.cancel_sent = True
            self.send({"op": "cancel", "job": request.job})

    def forget(self, keys: list[int]) -> None:
        """Let the worker unmap memory that no later request uses.

        A busy worker does not always read its link, so this is sent when it is idle or has reported
        a request.
        """
        known = [key for key in keys if key in self._known]
        self._known.difference_update(known)
        self._to_forget += known
        if self.state == "idle":
            self._send_what_to_forget()

    def _send_what_to_forget(self) -> None:
        if self._to_forget and self.state in ("idle", "busy"):
            self.send({"op": "forget", "keys": self._to_forget})
            self._to_forget = []

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send one record; a worker whose link is full hangs and is killed."""
        if self._link is None:
            return
        data = msgpack.packb(message, default=_plane_to_wire, use_bin_type=True)
        try:
            self._link.send(data, fds)
        except BlockingIOError:
            self.kill("it does not read its messages")
        except OSError:
            self.kill("its link is broken")

    def _receive(self) -> None:
        assert self._link is not None
        try:
            data = self._link.receive(LINK_BYTES).data
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.forget(self._link.fileno())
            if self.state != "retiring":
                self.kill("it closed its link")
            return
        self.last_progress = time.monotonic()
        try:
            self._on_message(self, msgpack.unpackb(data, raw=False))
        except Exception:
            log.exception("worker %s sent an invalid message", self.name)
            self.kill("it sent an invalid message")

    def _read_output(self) -> None:
        """Copy what the worker prints into the log, line by line, made printable."""
        if self._output is None:
            return
        try:
            data = self._output.read()
        except BlockingIOError:
            return
        if not data:
            self._close_output()
            return
        for line in data.decode("utf-8", "replace").splitlines():
            log.info("worker %s: %s", self.name, one_line(line))

    def _close_output(self) -> None:
        if self._output is not None:
            self._loop.forget(self._output.fileno())
            self._output.close()
            self._output = None

    def _close_link(self) -> None:
        if self._link is not None:
            self._loop.forget(self._link.fileno())
            self._link.close()
            self._link = None
        self._close_output()

    def stop(self) -> None:
        """Kill and reap the process at once, because the front ends.

        A driver may hold a killed process for long: after a while the front ends all the same.
        """
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            try:
                self._process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                log.error("worker %s was killed and does not end: pid=%d", self.name, self.pid)
            self._close_link()
            self._process, self.state = None, "absent"

    # -- status -------------------------------------------------------------------------------

    def brief(self, now: float) -> dict[str, Any]:
        """For `ping`."""
        return {
            "device": self.name,
            "state": self.state,
            "pid": self.pid,
            "age_since_progress_ms": int((now - self.last_progress) * 1000),
            "restarts": max(0, self.restarts),
        }

    def describe(self, now: float) -> dict[str, Any]:
        """For `status`."""
        return {
            **self.brief(now),
            "failures": self.failures,
            "reason": self.reason,
            "frames": self.frames,
            "frame": self.request.frame if self.request is not None else None,
            "in_flight": len(self.requests),
            "in_flight_limit": self.depth,
            "memory": self.memory,
        }


def thread_environment(workers: int) -> dict[str, str]:
    """The number of threads of one of so many workers: its share of the processors.

    A lone worker on a whole machine chooses by itself.
    """
    cores = oslayer.current().cores()
    if workers == 1 and cores >= (os.cpu_count() or 1):
        return {}
    return dict.fromkeys(THREAD_VARIABLES, str(max(1, cores // workers)))


def _plane_to_wire(value: Any) -> Any:
    return value.to_wire()
