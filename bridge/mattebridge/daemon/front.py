"""The front: the one process that clients talk to.

It owns the lock, the door, the control socket, all memory, the queue and the workers, and it
starts in a few hundred milliseconds because it imports neither numpy nor torch. A request passes
through it file by file:

    front.py       bytes -> message -> lease -> validated request
    operations.py  repeated? planes inside the arena? arena free? queue full?
    dispatch.py    the queue -> an idle worker -> stage, done, failed, cancelled
    replies.py     exactly one final reply; the arena goes back

The rule that must not be broken: nothing here blocks, and every accepted request gets exactly one
final reply, or its lease is closed.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any, Optional

from mattebridge.daemon.device_search import DeviceSearch
from mattebridge.daemon.devices import known_devices
from mattebridge.daemon.dispatch import Dispatcher
from mattebridge.daemon.doorkeeper import Doorkeeper, reserved_descriptors
from mattebridge.daemon.flood_guard import FloodGuard
from mattebridge.daemon.held_plates import HeldCleanPlates
from mattebridge.daemon.incoming import Incoming
from mattebridge.daemon.leases import Lease
from mattebridge.daemon.limits import Limits
from mattebridge.daemon.loop import Helper, Loop
from mattebridge.daemon.mailbox import Mailbox
from mattebridge.daemon.operations import Operations, stopping
from mattebridge.daemon.replies import Replies
from mattebridge.daemon.runtime import Runtime, check_reader, raise_descriptor_limit
from mattebridge.daemon.status import Status, Tally
from mattebridge.errors import InternalError, MattebridgeError, MessageError
from mattebridge.version import __version__
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.connection import UNKNOWN_PID
from mattebridge.wire.folder import CTL

log = logging.getLogger(__name__)

# How long the loop sleeps when nothing is due; deadlines wake it earlier.
TICK_S = 0.25
STATUS_INTERVAL_S = 5.0
FOLDER_INTERVAL_S = 2.0

ALREADY_RUNNING = 17


class Front:
    """One daemon run, from the open door to the last reply."""

    def __init__(
        self,
        runtime: Runtime,
        limits: Limits,
        devices: str,
        user: str = protocol.BY_HAND,
    ) -> None:
        epoch = int.from_bytes(os.urandom(6), "big")
        self._runtime, self._limits = runtime, limits
        self._loop, self._tally = Loop(), Tally()
        helper = Helper(self._loop)
        self._door = Doorkeeper(
            runtime.folder,
            limits,
            self._loop,
            helper,
            identity=_identity(epoch),
            lost=self._lease_lost,
            freed=self._memory_freed,
        )
        self._door.add_user(user)
        self._mail = Mailbox(runtime.folder, epoch=epoch, outbox_s=limits.outbox_s)
        self._replies = Replies(self._mail, self._door, self._tally, freed=self._memory_freed)
        self._dispatcher = Dispatcher(
            limits,
            self._loop,
            replies=self._replies,
            tally=self._tally,
            misconfigured=self._misconfigured,
        )
        self._clean_plates = HeldCleanPlates(limits.plate_bytes)
        self._status = Status(
            runtime.folder,
            limits,
            door=self._door,
            queue=self._dispatcher.queue,
            workers=self._dispatcher.workers,
            clean_plates=self._clean_plates,
            tally=self._tally,
            color=self._dispatcher.color,
            notes=self._dispatcher.notes,
        )
        self._operations = Operations(
            door=self._door,
            replies=self._replies,
            dispatcher=self._dispatcher,
            clean_plates=self._clean_plates,
            status=self._status,
            helper=helper,
            drain=self._drain,
        )
        self._known_devices = known_devices(devices)
        self._search = DeviceSearch(self._loop, partial(self._dispatcher.serve_from, chosen=True))
        self._flood_guard = FloodGuard(runtime.folder / CTL)
        self._draining_until: Optional[float] = None
        self._why_draining = ""
        self._failure: Optional[MattebridgeError] = None
        self._last_tick = self._next_status = self._next_folder_check = 0.0
        self._last_state = ""

    def _lease_lost(self, lease: Lease) -> None:
        self._dispatcher.drop(lease)

    def _memory_freed(self, keys: list[int]) -> None:
        self._dispatcher.forget(keys)

    # -- start, run, stop -----------------------------------------------------------------

    def run(self) -> int:
        """Serve until it is stopped; 0 after a clean drain.

        Raises `ColorError` where the colour config cannot be loaded.
        """
        self._open()
        try:
            while not self._finished():
                due = min(self._last_tick + TICK_S, self._dispatcher.due(time.monotonic()))
                self._loop.turn(due - time.monotonic())
                if time.monotonic() >= due:
                    self._loop.call(lambda: self._tick(time.monotonic()))
        finally:
            self._leave()
        if self._failure is not None:
            raise self._failure
        return 0

    def _open(self) -> None:
        for number in oslayer.current().stop_signals():
            name = signal.Signals(number).name
            self._loop.on_signal(number, lambda name=name: self._drain(name))  # type: ignore[misc]
        self._mail.open(self._loop, self._receive, self._watch_descriptors)
        self._door.open()
        self._runtime.bound()
        log.info("serving in %s: pid=%d version=%s", self._runtime.folder, os.getpid(), __version__)
        if self._known_devices is None:
            self._search.start()
        else:
            self._dispatcher.serve_from(self._known_devices, [], chosen=False)

    def _tick(self, now: float) -> None:
        self._last_tick = now
        self._watch_descriptors()
        self._tally.refused["endless_message"] += self._flood_guard.tick()
        self._door.tick(now)
        self._search.tick(now)
        self._dispatcher.tick(now)
        for lease in list(self._door.leases.values()):
            self._replies.flush(lease, now)
        self._exit_if_idle(now)
        self._exit_with_parent()
        self._write_status(now)
        if now >= self._next_folder_check:
            self._next_folder_check = now + FOLDER_INTERVAL_S
            if not self._runtime.still_there():
                self._drain("the runtime folder is gone")

    def _watch_descriptors(self) -> None:
        """Accept no connections while there are too few descriptors for them."""
        self._mail.clear_accepted()
        free, reserved = oslayer.current().free_descriptors(), reserved_descriptors()
        if self._mail.listening and free < reserved:
            log.warning("%d file descriptors are left: no new connections for a while", free)
            self._mail.listen(False)
        elif not self._mail.listening and free > reserved + reserved // 4:
            self._mail.listen(True)

    def _exit_if_idle(self, now: float) -> None:
        limit_s = self._limits.idle_exit_s
        if limit_s is None or len(self._dispatcher.queue):
            return
        if now - max(self._door.last_used, self._dispatcher.last_frame_at) > limit_s:
            self._drain(f"idle for {limit_s:g} s")

    def _exit_with_parent(self) -> None:
        parent = self._limits.parent_pid
        if parent is not None and oslayer.current().has_ended(parent):
            self._drain("the command that it was started for has ended")

    def _write_status(self, now: float) -> None:
        """Write status.json when the state has changed, and now and then."""
        state = self._status.state()
        if now >= self._next_status or state != self._last_state:
            self._next_status, self._last_state = now + STATUS_INTERVAL_S, state
            self._runtime.write_status(self._status.full(now))

    def _drain(self, why: str) -> None:
        """Accept nothing more, and end when the running requests have ended."""
        if self._draining_until is not None:
            return
        log.info("draining: %s", why)
        self._why_draining = why
        self._draining_until = time.monotonic() + self._limits.drain_s
        self._door.draining = True
        self._dispatcher.fail_waiting(stopping())

    def _misconfigured(self, error: MattebridgeError) -> None:
        """End the daemon, and whatever waits, with the error of its configuration."""
        if self._failure is None:
            self._failure = error
            self._dispatcher.fail_waiting(error)
            self._drain(error.message)

    def _finished(self) -> bool:
        if self._draining_until is None:
            return False
        waiting = any(lease.outbox for lease in self._door.leases.values())
        return not (self._dispatcher.computes or waiting) or time.monotonic() > self._draining_until

    def _leave(self) -> None:
        self._search.stop()
        self._dispatcher.stop()
        for lease in list(self._door.leases.values()):
            for request in list(lease.active.values()):
                self._replies.fail(request, stopping())
        self._mail.close()
        self._door.close()
        self._clean_plates.clear()
        self._runtime.write_status({**self._status.full(time.monotonic()), "state": "stopped"})
        self._runtime.remove_sockets()
        log.info("stopped: %s", self._why_draining or "error")

    # -- messages -------------------------------------------------------------------------

    def _receive(self) -> None:
        for incoming in self._mail.receive():
            self._handle(incoming)

    def _handle(self, incoming: Incoming) -> None:
        """Refuse what is malformed or not a session's; carry out the rest."""
        if incoming.uid != oslayer.current().user_id():
            self._tally.refused["E_UID"] += 1
            return
        if len(incoming.parts) != 2 or incoming.parts[0] != protocol.MAGIC:
            self._tally.refused["not_ours"] += 1
            return
        try:
            message = protocol.unpack(incoming.parts[1])
            request_id = protocol.nonce("id", message.get("id"))
        except MessageError as error:
            self._tally.refused[error.code] += 1
            return
        lease = self._find_lease(message.get("sid"), incoming.pid)
        if lease is None:
            self._replies.refuse_unknown(incoming.routing_id, request_id)
            return
        lease.routing_id = incoming.routing_id
        self._replies.flush(lease, time.monotonic())
        self._carry_out(lease, message)

    def _find_lease(self, sid: Any, pid: int) -> Optional[Lease]:
        """The session, if the sender opened it, as far as the system names the sender."""
        lease = self._door.leases.get(sid) if isinstance(sid, bytes) else None
        return lease if lease is not None and pid in (lease.peer.pid, UNKNOWN_PID) else None

    def _carry_out(self, lease: Lease, message: dict[str, Any]) -> None:
        try:
            self._operations.carry_out(lease, protocol.validate_request(message))
        except MattebridgeError as error:
            self._replies.refuse(lease, message, error)
        except Exception:
            reference = os.urandom(4).hex()
            log.exception("a request failed in the front: ref=%s", reference)
            self._replies.refuse(lease, message, _bug(reference))


def _identity(epoch: int) -> dict[str, Any]:
    """How this daemon run introduces itself at the door."""
    return {
        "ver": __version__,
        "pid": os.getpid(),
        "boot_id": os.urandom(8).hex(),
        "epoch": epoch,
    }


def _bug(reference: str) -> InternalError:
    return InternalError(
        f"something went wrong in the daemon; its log has the details under ref={reference}",
        ref=reference,
    )


def serve(
    folder: Path,
    devices: str,
    limits: Limits,
    *,
    to_terminal: bool,
    user: str = protocol.BY_HAND,
) -> int:
    """Run the daemon of this folder for its first user; 17 when another one holds the lock.

    devices: as `--devices` gives them, `auto` included.
    """
    check_reader()
    raise_descriptor_limit()
    runtime = Runtime(folder)
    runtime.prepare()
    if not runtime.acquire():
        return ALREADY_RUNNING
    oslayer.current().end_children_with_me()
    runtime.open_log(to_terminal=to_terminal)
    return Front(runtime, limits, devices, user).run()
