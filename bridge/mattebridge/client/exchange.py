"""The requests of one client that are out: replies, retries, and a daemon that is replaced.

    MatteClient --register, send--> Exchange --Session--> daemon
                                       |  <--replies--------+
    threads that wait for a reply:     one receives, the others wait until a reply was handed out

It starts no thread. A thread that waits becomes the receiver when there is none, and hands every
reply that comes to the request it belongs to, whichever thread waits for that one.

When the door closes while requests are out, the client re-attaches once (and may start a daemon),
copies the inputs into arenas of the new session and sends the same requests again. A request that
loses its daemon a second time fails. A daemon that is stopping refuses requests and ends when its
last frame is done; a client that may start daemons keeps what was refused for the next one.

The rule that must not be broken: a request leaves the list of those out exactly once, under the
lock, and the thread that takes it off decides its outcome.

Runs on Python 3.9.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional

from mattebridge.client.in_flight import InFlight, cancelled, closed_meanwhile, error_in, lost_twice
from mattebridge.client.session import Session
from mattebridge.errors import (
    ConnectionFailed,
    DaemonLost,
    DrainingError,
    LeaseError,
    MattebridgeError,
    MessageError,
)
from mattebridge.version import other_release
from mattebridge.wire import protocol

# The longest that a thread waits without looking again.
POLL_SLICE_S = 1.0


class Exchange:
    """What a client has out, and the session through which it goes."""

    def __init__(self, attach: Callable[[], Session], in_flight: int) -> None:
        self.in_flight = in_flight
        self.session: Optional[Session] = None
        self.closed = False
        self.may_start = False  # whether `attach` starts a daemon where none runs
        self.changed = threading.Condition(threading.RLock())
        self._attach = attach
        self._out: dict[bytes, InFlight] = {}
        self._receiving = False

    def open(self) -> None:
        """Connect."""
        self.session = self._attach()

    def close(self) -> None:
        """End the session; everything that is out fails."""
        with self.changed:
            self.closed = True
            self._fail(list(self._out.values()), closed_meanwhile())
            if self.session is not None:
                self.session.close()

    def live_session(self) -> Session:
        """The session, which may be lost; raises where the client is closed or was forked."""
        session = self.session
        if session is None or self.closed:
            raise ConnectionFailed("this client is closed: connect again")
        if session.pid != os.getpid():
            raise LeaseError(
                "this client was made before a fork: connect again in the child process"
            )
        return session

    def usable_session(self) -> Session:
        """The session; a new one where the last was lost and could not be replaced then."""
        session = self.live_session()
        if session.closed:
            session = self.session = self._attach()
        return session

    # -- sending --------------------------------------------------------------------------------

    def register(self, request: InFlight) -> None:
        """Enter a request into the list of those out, unless its arena was lost meanwhile."""
        with self.changed:
            arena = request.arena
            self.live_session()
            if arena is not None and arena.lost:
                arena.give_back()
                return
            request.registered = True
            self._out[request.id] = request

    def send(self, request: InFlight) -> None:
        """Send a registered request; where the daemon is lost, through the next one."""
        session = self.live_session()
        try:
            _send(request, session)
        except DaemonLost as error:
            self.replace(error, session)
        except BaseException:
            self.withdraw(request)
            with self.changed:
                if request.arena is not None:
                    request.arena.give_back()
            raise

    def withdraw(self, request: InFlight) -> None:
        """Forget a request: a reply to it is dropped."""
        with self.changed:
            self._out.pop(request.id, None)

    def cancel(self, request: InFlight) -> None:
        """Ask the daemon to drop a request; its outcome still comes."""
        if request.finished:
            return
        with self.changed:
            if request.waits_for_next and self._out.pop(request.id, None) is not None:
                request.error, request.finished = cancelled(), True
                if request.arena is not None:
                    request.arena.give_back()
                self.changed.notify_all()
                return
        with contextlib.suppress(DaemonLost):
            self.live_session().send(
                {"op": "cancel", "id": os.urandom(protocol.ID_BYTES), "target": request.id}
            )

    # -- receiving ------------------------------------------------------------------------------

    def wait(self, ready: Callable[[], bool], until: float) -> None:
        """Receive, or let another thread receive, until `ready` or the time is up."""
        while not ready():
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            self._take_turn(min(left_s, POLL_SLICE_S), ready)

    def poll(self) -> None:
        """Hand out what has arrived; never waits."""
        self._take_turn(0.0, lambda: False)

    def _take_turn(self, timeout_s: float, ready: Callable[[], bool]) -> None:
        """Receive for so long; where another thread receives, wait until it has."""
        with self.changed:
            if ready():
                return
            if self._receiving:
                self.changed.wait(timeout_s)
                return
            self._receiving = True
        try:
            self._receive(timeout_s)
        finally:
            with self.changed:
                self._receiving = False
                self.changed.notify_all()

    def _receive(self, timeout_s: float) -> None:
        due = [request.resend_at for request in list(self._out.values()) if request.resend_at]
        if due:
            timeout_s = max(0.0, min(timeout_s, min(due) - time.monotonic()))
        session = self.live_session()
        try:
            for reply in session.receive(timeout_s):
                self._handle(reply, session)
            self._resend_due(session)
        except DaemonLost as error:
            self.replace(error, session)

    def _handle(self, reply: dict[str, Any], session: Session) -> None:
        if reply["op"] == "released":
            self._release(reply, session)
        elif reply["op"] == "progress":
            self._report_progress(reply)
        else:
            with self.changed:
                request = self._claim(reply, session)
            if request is not None:
                self._finish(request, reply)

    def _claim(self, reply: dict[str, Any], session: Session) -> Optional[InFlight]:
        """The request that this reply ends, no longer among those out; None if there is none.

        From here on a lost daemon does not concern it: its result lies in the arena.
        """
        request = self._out.get(reply["id"])
        if request is None or session is not self.session:
            return None
        error = error_in(reply)
        if isinstance(error, LeaseError):
            raise DaemonLost("the daemon has ended this session")
        if not request.is_answered_by(reply):
            return None
        if error is None and reply["op"] != protocol.RESULTS[request.message["op"]]:
            raise DaemonLost(
                f"the daemon replied {reply['op']!r} to {request.message['op']!r}: install the "
                "same mattebridge on both sides"
            )
        if isinstance(error, DrainingError) and self.may_start and not reply.get("held", False):
            request.waits_for_next = True  # this daemon will close the door
            return None
        if error is not None and request.plan_retry(error, held=reply.get("held", False)):
            return None
        del self._out[request.id]
        return request

    def _finish(self, request: InFlight, reply: dict[str, Any]) -> None:
        arena = request.arena
        error: Optional[Exception] = request.progress_error or self._explained(error_in(reply))
        try:
            if error is None and reply["op"] == "done" and arena is not None:
                request.collect(reply, arena)
        except Exception as problem:
            error = closed_meanwhile() if self.closed else problem
        request.reply, request.error = reply, error
        with self.changed:
            request.finished = True
            if arena is not None and not reply.get("held", False):
                arena.give_back()
            self.changed.notify_all()

    def _explained(self, error: Optional[MattebridgeError]) -> Optional[MattebridgeError]:
        """An error of the request; where a daemon of another release lacks a key, with the way out.

        The daemon names the key, but cannot know that it came with a later release.
        """
        session = self.session
        if not isinstance(error, MessageError) or session is None:
            return error
        way_out = other_release(str(session.server.get("ver", "")))
        if not way_out:
            return error
        return MessageError(f"{error.message}; {way_out}", **error.details)

    def _report_progress(self, reply: Mapping[str, Any]) -> None:
        request = self._out.get(reply["id"])
        if request is None or request.progress is None:
            return
        try:
            request.progress(reply["stage"], reply["done"], reply["total"])
        except Exception as problem:
            # The thread that receives may be waiting for another frame: it must not get this.
            request.progress, request.progress_error = None, problem
            self.cancel(request)

    def _release(self, reply: Mapping[str, Any], session: Session) -> None:
        """The arena of a request that was answered before its worker had finished."""
        with self.changed:
            arena = session.arenas.get(reply["slot"])
            if arena is not None and reply["gen"] == arena.generation and arena.busy:
                arena.give_back()
            self.changed.notify_all()

    def _resend_due(self, session: Session) -> None:
        now = time.monotonic()
        for request in list(self._out.values()):
            if request.resend_at and request.resend_at <= now:
                request.resend_at = 0.0
                assert request.arena is not None
                with request.arena.writing():
                    pass  # the same pixels under the next generation
                _send(request, session)

    # -- a lost daemon --------------------------------------------------------------------------

    def replace(self, cause: DaemonLost, old: Session) -> None:
        """Re-attach once and send everything again that was out; else fail all of it."""
        with self.changed:
            if self.closed or self.session is not old:
                return  # another thread has done it
            old.close(keep_maps=True)
            requests = list(self._out.values())
            old_arenas = [request.arena for request in requests if request.arena is not None]
            lost = [request for request in requests if not request.waits_for_next]
            self._fail([request for request in lost if request.losses], lost_twice(cause))
            again = [request for request in requests if not request.finished]
            for request in again:
                request.losses += not request.waits_for_next
                request.waits_for_next = False
            try:
                self.session = self._attach()
                self._send_again(again, self.session)
            except MattebridgeError as error:
                if self.session is not None:
                    self.session.close()
                failure = DaemonLost(f"{cause.message}, and {error.message}")
                self._fail(list(self._out.values()), failure)
                if not again:
                    raise failure from error
            finally:
                for arena in old_arenas:
                    arena.give_back()
                self.changed.notify_all()

    def _send_again(self, requests: Iterable[InFlight], session: Session) -> None:
        sizes = [r.arena.memory.size_bytes for r in requests if r.arena is not None]
        if sizes:
            session.resize(max(self.in_flight, len(sizes)), max(sizes))
        for request in requests:
            if request.arena is not None:
                request.move_to(session)
            request.resend_at = 0.0
            _send(request, session)

    def _fail(self, requests: Iterable[InFlight], error: MattebridgeError) -> None:
        for request in requests:
            self._out.pop(request.id, None)
            request.error, request.finished = error, True
        self.changed.notify_all()


def _send(request: InFlight, session: Session) -> None:
    message = request.wire_message()
    request.sent_at = time.monotonic()
    session.send(message)
