"""What a host imports: connect to the daemon, matte a frame, get alpha, foreground, premultiplied.

    with MatteClient.connect(start=True) as client:
        matte = client.matte(plate, clean_plate)
        matte.alpha, matte.foreground, matte.premultiplied

`matte` waits; `submit` returns a handle, so that several frames are in flight. Pixels go through
shared memory (slots.py), requests through ZeroMQ (session.py). No wait is without a bound. When
the daemon is replaced while a request is out, the client re-attaches once, copies the inputs over
and sends the same request again; a second loss is an error.

Needs numpy, pyzmq and msgpack; runs on Python 3.9, inside a host. It never starts a thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Optional, Union

import numpy as np

from mattebridge.client import autostart
from mattebridge.client.images import WIRE_DTYPES, as_image, check_out, output_specs, place_each
from mattebridge.client.in_flight import (
    InFlight,
    body,
    closed_meanwhile,
    copy_inputs,
    lost_twice,
    reply_error,
)
from mattebridge.client.matte import DEFAULT_OUTPUTS, Matte, Pixels
from mattebridge.client.session import Arena, Session
from mattebridge.errors import (
    BusyError,
    ConnectionFailed,
    DaemonLost,
    DeadlineError,
    LeaseError,
    MattebridgeError,
    QuotaError,
    TornError,
    WorkerLostError,
)
from mattebridge.wire import protocol
from mattebridge.wire.folder import runtime_folder
from mattebridge.wire.params import (
    default_colorspace,
)
from mattebridge.wire.slots import PlaneSpec, arena_bytes

DEFAULT_TIMEOUT_S = 600.0
CONTROL_TIMEOUT_S = 10.0
# The daemon answers before the client gives up: it is told nine tenths of the client's limit.
DEADLINE_SHARE = 0.9
# Arenas of a session: one being computed, one being filled or read.
DEFAULT_IN_FLIGHT = 2
POLL_SLICE_S = 1.0


class MatteHandle:
    """A frame in flight. `result` waits for it, `cancel` asks the daemon to drop it."""

    def __init__(self, client: MatteClient, request: InFlight) -> None:
        self._client = client
        self._request = request

    @property
    def frame(self) -> Optional[int]:
        """The frame number given to `submit`."""
        return self._request.frame

    def done(self) -> bool:
        """Whether the outcome is known; looks at what has arrived, never waits."""
        self._client._pump(0.0)
        return self._request.finished

    def result(self, timeout_s: Optional[float] = None) -> Matte:
        """The matte, or the error that the daemon answered.

        Raises `DeadlineError` when nothing has come within `timeout_s` (by default the time left
        of the one given to `submit`); the request stays out and `result` may be called again.
        """
        request = self._request
        until = request.until if timeout_s is None else time.monotonic() + timeout_s
        self._client._wait(lambda: request.finished, until)
        if not request.finished:
            raise DeadlineError(
                f"no answer for frame {request.frame} within the time limit: the daemon may be "
                "loading a model or hang; see `mattebridge status`",
                started=None,
            )
        return request.outcome()

    def cancel(self) -> None:
        """Ask for the frame to be dropped; `result` then raises `Cancelled`, or gives the matte
        where it was finished already."""
        self._client._cancel(self._request)


class MatteClient:
    """A connection to the daemon. Use `connect`; close it, or use it in a `with`.

    May be shared between threads. After a fork the child must connect again.
    """

    def __init__(self, folder: Path, *, in_flight: int, name: str, host: str) -> None:
        self.folder = folder
        self._in_flight = max(1, min(in_flight, protocol.MAX_SLOTS))
        self._name, self._host = name, host
        self._start = False
        self._python: Optional[str] = None
        self._session: Optional[Session] = None
        self._pending: dict[bytes, InFlight] = {}
        self._changed = threading.Condition(threading.RLock())
        self._receiving = False
        self._closed = False

    @classmethod
    def connect(
        cls,
        instance: Optional[str] = None,
        *,
        start: bool = False,
        daemon_python: Optional[str] = None,
        in_flight: int = DEFAULT_IN_FLIGHT,
        name: str = "python",
        host: str = "",
    ) -> MatteClient:
        """Connect to the daemon of an instance; with `start`, start one when none runs.

        `instance` is a name or the absolute path of a runtime folder (default: the environment,
        else `v1`). `in_flight` frames (1 to 8) may be out at once. `daemon_python` is for our own
        command line; hosts leave it alone. Raises `ConnectionFailed` or another `DaemonError`.
        """
        client = cls(runtime_folder(instance), in_flight=in_flight, name=name, host=host)
        client._start, client._python = start, daemon_python
        client._session = client._attach()
        return client

    # -- frames -----------------------------------------------------------------------------

    def matte(
        self,
        plate: Pixels,
        clean_plate: Union[Pixels, str, None] = None,
        alpha_hint: Optional[Pixels] = None,
        **options: Any,
    ) -> Matte:
        """Matte one frame and wait for it.

        plate: (H, W, 3|4), clean_plate: the same size, or the name of a held one; `alpha_hint`,
        `garbage_matte`, `core_matte`: (H, W) or (H, W, 1), 0..1. Samples uint8, uint16 (full
        range stands for 0..1), float16 or float32; any strides; top row first. `colorspace` is
        `linear` or `srgb`; by default integers are `srgb` and floats `linear`. See `submit` for
        the rest. On a time-out the request is cancelled and `DeadlineError` raised.
        """
        handle = self.submit(plate, clean_plate, alpha_hint, **options)
        try:
            return handle.result()
        except DeadlineError as error:
            if error.details.get("started", False) is None:
                handle.cancel()
            raise

    def submit(
        self,
        plate: Pixels,
        clean_plate: Union[Pixels, str, None] = None,
        alpha_hint: Optional[Pixels] = None,
        *,
        garbage_matte: Optional[Pixels] = None,
        core_matte: Optional[Pixels] = None,
        clean_plate_key: Optional[str] = None,
        model: str = "default",
        outputs: Sequence[str] = DEFAULT_OUTPUTS,
        output_dtype: str = "float32",
        out: Optional[Mapping[str, Pixels]] = None,
        colorspace: Optional[str] = None,
        frame: Optional[int] = None,
        priority: str = "interactive",
        deadline_s: Optional[float] = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        progress: Optional[Callable[[str, int, int], None]] = None,
        **params: Any,
    ) -> MatteHandle:
        """Send one frame and return at once with a handle (or wait for an arena to come back).

        `outputs` names what to bring back (`alpha`, `foreground`, `premultiplied`, `error`,
        `refinement`): bytes out cost most, ask for what is needed. `out` gives arrays to fill
        instead of new ones. `timeout_s` bounds everything; the daemon is told to give up a little
        earlier, or after `deadline_s`. `progress(stage, done, total)` is called while waiting; an
        exception from it cancels the frame and comes out of `result`. `clean_plate_key` stands for
        the content of a clean plate that is sent again and again (a hash that the host has anyway,
        1 to 128 printable characters): under the same key the daemon does not look whether its
        pixels changed, so it must change when they do.
        Further keywords are render parameters (`foreground="unmix"`, `alignment="off"`,
        `settings={...}`; docs/protocol.md). Raises `InputsError`, `DtypeError`, `QuotaError`,
        `BusyError` and what the daemon answers, later, from `result`.
        """
        images: dict[str, Pixels] = {"plate": plate}
        held = clean_plate if isinstance(clean_plate, str) else None
        if held is None and clean_plate is not None:
            images["clean_plate"] = clean_plate  # type: ignore[assignment]
        for role, matte in (
            ("alpha_hint", alpha_hint),
            ("garbage_matte", garbage_matte),
            ("core_matte", core_matte),
        ):
            if matte is not None:
                images[role] = matte
        images = {role: as_image(role, pixels) for role, pixels in images.items()}
        if colorspace is None:
            colorspace = default_colorspace(WIRE_DTYPES[images["plate"].dtype.name])
        specs = output_specs(outputs, output_dtype, out or {})
        check_out(out or {}, specs, *images["plate"].shape[:2])
        request = InFlight(
            images=images,
            outputs=specs,
            out=dict(out or {}),
            until=time.monotonic() + timeout_s,
            message={
                "op": "render",
                "model": model,
                "priority": priority,
                "params": {**params, "colorspace": colorspace},
            },
            frame=frame,
            progress=progress,
        )
        if frame is not None:
            request.message["frame"] = int(frame)
        if held is not None:
            request.message["clean_plate"] = held
        if clean_plate_key is not None:
            request.message["clean_plate_key"] = clean_plate_key
        limit_s = timeout_s * DEADLINE_SHARE if deadline_s is None else deadline_s
        request.deadline_at = time.monotonic() + limit_s
        self._fill_and_send(request)
        return MatteHandle(self, request)

    # -- held clean plates --------------------------------------------------------------------

    def hold_clean_plate(
        self, name: str, pixels: Pixels, *, timeout_s: float = 60.0
    ) -> list[dict[str, Any]]:
        """Leave a clean plate with the daemon under a name, for `matte(plate, name)`.

        pixels as for `matte`, interpreted in the colour space of the request that uses them. The
        daemon drops the least recently used ones when its budget is full; `PlateError` then.
        Returns what is held.
        """
        image = as_image("clean_plate", pixels)
        request = InFlight(
            images={"clean_plate": image},
            outputs=[],
            out={},
            until=time.monotonic() + timeout_s,
            message={"op": "plate_put", "name": name},
        )
        self._fill_and_send(request)
        self._wait(lambda: request.finished, request.until)
        if not request.finished:
            raise DeadlineError("the daemon did not take the clean plate in time", started=None)
        request.outcome()
        return list(request.reply["plates"])

    def held_clean_plates(self) -> list[dict[str, Any]]:
        """The clean plates that the daemon holds: name, size, bytes."""
        return list(self._ask("plate_list")["plates"])

    def drop_clean_plate(self, name: str) -> list[dict[str, Any]]:
        """Forget a held clean plate; `PlateError` when there is none of that name."""
        return list(self._ask("plate_drop", name=name)["plates"])

    # -- the daemon itself --------------------------------------------------------------------

    def ping(self, timeout_s: float = CONTROL_TIMEOUT_S) -> dict[str, Any]:
        """The daemon's state in a few words, answered at once whatever it is computing."""
        return body(self._ask("ping", timeout_s=timeout_s))

    def status(self, timeout_s: float = CONTROL_TIMEOUT_S) -> dict[str, Any]:
        """Everything `mattebridge status` shows."""
        return body(self._ask("status", timeout_s=timeout_s))

    def models(self, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """The models the daemon can use, with what each needs."""
        return list(self._ask("models_list", timeout_s=timeout_s)["models"])

    def load_model(self, model: str, timeout_s: float = 300.0) -> list[dict[str, Any]]:
        """Load a model now, so that its first frame does not wait."""
        return list(self._ask("models_load", timeout_s=timeout_s, model=model)["models"])

    def unload_model(self, model: str, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """Drop a model from the daemon's memory."""
        return list(self._ask("models_unload", timeout_s=timeout_s, model=model)["models"])

    def shutdown(self, *, if_unused: bool = False, user: str = protocol.BY_HAND) -> bool:
        """Ask the daemon to drain and stop; False when `if_unused` and somebody uses it.

        `user` is who no longer does (docs/protocol.md, 2.1).
        """
        self._start = False  # whatever happens now, do not bring it back
        try:
            return bool(self._ask("shutdown", if_unused=if_unused, user=user)["stopping"])
        except DaemonLost:
            return True

    def close(self) -> None:
        """Give the session back. Requests that are out are dropped by the daemon."""
        with self._changed:
            self._closed = True
            self._fail_all(closed_meanwhile())
            if self._session is not None:
                self._session.close()

    def __enter__(self) -> MatteClient:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    # -- filling and sending ------------------------------------------------------------------

    def _fill_and_send(self, request: InFlight) -> None:
        height, width = next(iter(request.images.values())).shape[:2]
        specs = [
            PlaneSpec(role, image.shape[2], WIRE_DTYPES[image.dtype.name])
            for role, image in request.images.items()
        ]
        needed = arena_bytes(width, height, [*specs, *request.outputs])
        while not request.registered:
            request.arena = self._take_arena(request, needed)
            try:
                self._write(request, width, height, specs)
            except BaseException:
                request.arena.give_back()
                if self._closed:
                    raise closed_meanwhile() from None
                raise
            self._register(request)
        request.images = {}
        self._send_or_recover(request)

    def _register(self, request: InFlight) -> None:
        """Enter the request into the list of those out, unless its arena died meanwhile."""
        with self._changed:
            arena = request.arena
            self._live_session()
            if arena is not None and arena.lost:
                arena.give_back()
                return
            request.registered = True
            self._pending[request.id] = request

    def _send_or_recover(self, request: InFlight) -> None:
        session = self._live_session()
        try:
            self._send(request, session)
        except DaemonLost as error:
            self._recover(error, session)
        except BaseException:
            with self._changed:
                self._pending.pop(request.id, None)
                if request.arena is not None:
                    request.arena.give_back()
            raise

    def _write(
        self, request: InFlight, width: int, height: int, specs: Sequence[PlaneSpec]
    ) -> None:
        started = time.monotonic()
        arena = request.arena
        assert arena is not None
        placed = place_each(request.images, specs, request.outputs, width, height)
        arena.generation += 1
        arena.memory.write_begin(arena.generation)
        for plane in placed[: len(specs)]:
            np.copyto(arena.memory.array(plane), request.images[plane.role], casting="no")
        arena.memory.write_end(arena.generation)
        request.inputs, request.results = placed[: len(specs)], placed[len(specs) :]
        request.timings["copy_in_ms"] = (time.monotonic() - started) * 1000

    def _take_arena(self, request: InFlight, needed: int) -> Arena:
        while True:
            with self._changed:
                session = self._usable_session()
                arena = session.free_arena(needed)
                if arena is not None:
                    return arena
                everything = list(session.arenas.values())
                large_enough = [arena for arena in everything if arena.memory.size_bytes >= needed]
                if not any(arena.busy for arena in everything):
                    self._resize(request, session, needed)
                    continue
            if time.monotonic() > request.until:
                raise DeadlineError("no arena came back within the time limit", started=False)
            # Arenas are exchanged for larger ones all at once, when none of them is out.
            ready = _any_idle(large_enough) if large_enough else _all_idle(everything)
            self._wait(ready, min(request.until, time.monotonic() + POLL_SLICE_S))

    def _resize(self, request: InFlight, session: Session, needed: int) -> None:
        try:
            try:
                session.resize(self._in_flight, needed)
            except QuotaError:
                if self._in_flight == 1:
                    raise
                # The frame is large or the machine is small: one at a time, then.
                session.resize(1, needed)
        except DaemonLost as error:
            if request.losses:
                raise lost_twice(error) from error
            request.losses += 1
            self._recover(error, session)

    def _send(self, request: InFlight, session: Session) -> None:
        message = {**request.message, "id": request.id}
        arena = request.arena
        if arena is not None:
            message.update(slot=arena.number, gen=arena.generation)
        if request.message["op"] == "plate_put":
            message["plane"] = request.inputs[0].to_wire()
        elif request.message["op"] == "render":
            message["in"] = [plane.to_wire() for plane in request.inputs]
            message["out"] = [plane.to_wire() for plane in request.results]
            left_ms = int((request.deadline_at - time.monotonic()) * 1000)
            message["deadline_ms"] = min(max(1, left_ms), 86_400_000)
        request.sent_at = time.monotonic()
        session.send(message)

    def _cancel(self, request: InFlight) -> None:
        if request.finished:
            return
        with contextlib.suppress(DaemonLost):
            self._live_session().send(
                {"op": "cancel", "id": os.urandom(protocol.ID_BYTES), "target": request.id}
            )

    # -- control requests -----------------------------------------------------------------------

    def _ask(self, op: str, *, timeout_s: float = CONTROL_TIMEOUT_S, **fields: Any) -> Any:
        request = InFlight(until=time.monotonic() + timeout_s, message={"op": op, **fields})
        self._register(request)
        self._send_or_recover(request)
        self._wait(lambda: request.finished, request.until)
        if not request.finished:
            with self._changed:
                self._pending.pop(request.id, None)
            raise ConnectionFailed(
                f"the daemon did not answer {op!r} within {timeout_s:g} s: it may hang; see its "
                "log, or stop it and start it again"
            )
        request.outcome()
        return request.reply

    # -- receiving ------------------------------------------------------------------------------

    def _wait(self, ready: Callable[[], bool], until: float) -> None:
        """Receive, or let another thread receive, until `ready` or the time is up."""
        while not ready():
            left = until - time.monotonic()
            if left <= 0:
                return
            with self._changed:
                if ready():
                    return
                if self._receiving:
                    self._changed.wait(min(left, POLL_SLICE_S))
                    continue
                self._receiving = True
            try:
                self._receive(min(left, POLL_SLICE_S))
            finally:
                with self._changed:
                    self._receiving = False
                    self._changed.notify_all()

    def _pump(self, timeout_s: float) -> None:
        with self._changed:
            if self._receiving:
                return
            self._receiving = True
        try:
            self._receive(timeout_s)
        finally:
            with self._changed:
                self._receiving = False
                self._changed.notify_all()

    def _receive(self, timeout_s: float) -> None:
        wake_at = min(
            [request.resend_at for request in list(self._pending.values()) if request.resend_at]
            or [float("inf")]
        )
        timeout_s = max(0.0, min(timeout_s, wake_at - time.monotonic()))
        session = self._live_session()
        try:
            for reply in session.receive(timeout_s):
                self._handle(reply, session)
            self._resend_due(session)
        except DaemonLost as error:
            self._recover(error, session)

    def _handle(self, reply: dict[str, Any], session: Session) -> None:
        if reply["op"] == "released":
            self._returned(reply, session)
        elif reply["op"] == "progress":
            self._report(reply)
        else:
            with self._changed:
                request = self._claim(reply, session)
            if request is not None:
                self._finish(request, reply)

    def _claim(self, reply: dict[str, Any], session: Session) -> Optional[InFlight]:
        """The request that this reply ends, no longer among those out; None if there is none.

        From here on a lost daemon does not concern it: its result lies in the arena.
        """
        request = self._pending.get(reply["id"])
        if request is None or session is not self._session:
            return None
        arena, error = request.arena, reply_error(reply)
        if isinstance(error, LeaseError):
            raise DaemonLost("the daemon has ended this session")
        if arena is not None and (reply.get("slot"), reply.get("gen")) != (
            arena.number,
            arena.generation,
        ):
            return None  # of an earlier life of this arena
        if error is not None and self._may_retry(request, error, reply):
            return None
        del self._pending[request.id]
        return request

    def _finish(self, request: InFlight, reply: dict[str, Any]) -> None:
        arena, error = request.arena, request.trouble or reply_error(reply)
        try:
            if error is None and reply["op"] == "done" and arena is not None:
                request.collect(reply, arena)
        except Exception as problem:
            error = closed_meanwhile() if self._closed else problem
        request.reply, request.error = reply, error
        with self._changed:
            request.finished = True
            if arena is not None and not reply.get("held", False):
                arena.give_back()
            self._changed.notify_all()

    def _report(self, reply: Mapping[str, Any]) -> None:
        request = self._pending.get(reply["id"])
        if request is None or request.progress is None:
            return
        try:
            request.progress(
                str(reply.get("stage")), int(reply.get("done", 0)), int(reply.get("total", 0))
            )
        except Exception as problem:
            # Whoever waits here may be another thread with another frame.
            request.progress, request.trouble = None, problem
            self._cancel(request)

    def _returned(self, reply: Mapping[str, Any], session: Session) -> None:
        with self._changed:
            arena = session.arenas.get(int(reply.get("slot", -1)))
            if arena is not None and reply.get("gen") == arena.generation and arena.busy:
                arena.give_back()
            self._changed.notify_all()

    def _may_retry(
        self, request: InFlight, error: MattebridgeError, reply: Mapping[str, Any]
    ) -> bool:
        """Whether this error is answered by sending the same frame once more."""
        if reply.get("held", False) or request.arena is None or not error.retry:
            return False
        if isinstance(error, BusyError):
            pause_s = max(1, int(error.details.get("retry_after_ms", 100))) / 1000
        elif isinstance(error, (WorkerLostError, TornError)) and request.retries == 0:
            request.retries += 1
            pause_s = 0.0
        else:
            return False
        if time.monotonic() + pause_s >= min(request.until, request.deadline_at):
            return False
        request.resend_at = time.monotonic() + pause_s
        return True

    def _resend_due(self, session: Session) -> None:
        now = time.monotonic()
        for request in list(self._pending.values()):
            if request.resend_at and request.resend_at <= now:
                request.resend_at = 0.0
                arena = request.arena
                assert arena is not None
                arena.generation += 1
                arena.memory.write_begin(arena.generation)
                arena.memory.write_end(arena.generation)
                self._send(request, session)

    # -- a lost daemon ----------------------------------------------------------------------------

    def _live_session(self) -> Session:
        session = self._session
        if session is None or self._closed:
            raise ConnectionFailed("this client is closed: connect again")
        if session.pid != os.getpid():
            raise LeaseError(
                "this client was made before a fork: connect again in the child process"
            )
        return session

    def _usable_session(self) -> Session:
        """The session; a new one where the last was lost and could not be replaced then."""
        session = self._live_session()
        if session.closed:
            session = self._session = self._attach()
        return session

    def _attach(self) -> Session:
        def once() -> Session:
            return Session.open(self.folder, name=self._name, host=self._host)

        try:
            return once()
        except ConnectionFailed:
            if not self._start:
                raise
        return autostart.start_daemon(self.folder, once, self._python)

    def _recover(self, cause: DaemonLost, lost_session: Optional[Session]) -> None:
        """Re-attach once and send everything again that was out; else fail all of it."""
        with self._changed:
            if self._closed or self._session is not lost_session or lost_session is None:
                return  # another thread was here first
            lost_session.close(keep_maps=True)
            survivors = []
            left_behind = [request.arena for request in self._pending.values()]
            for request in list(self._pending.values()):
                if request.losses:
                    self._fail(request, lost_twice(cause))
                else:
                    request.losses += 1
                    survivors.append(request)
            try:
                self._session = self._attach()
                self._move(survivors, self._session)
            except MattebridgeError as error:
                if self._session is not None:
                    self._session.close()
                lost = DaemonLost(f"{cause.message}, and {error.message}")
                self._fail_all(lost)
                if not survivors:
                    raise lost from error
            finally:
                for arena in left_behind:
                    if arena is not None:
                        arena.give_back()
                self._changed.notify_all()

    def _move(self, survivors: Sequence[InFlight], session: Session) -> None:
        frames = [request for request in survivors if request.arena is not None]
        if frames:
            largest = max(r.arena.memory.size_bytes for r in frames if r.arena is not None)
            session.resize(max(self._in_flight, len(frames)), largest)
        for request in survivors:
            if request.arena is not None:
                request.arena = copy_inputs(request, request.arena, session)
            request.resend_at = 0.0
            self._send(request, session)

    def _fail_all(self, error: MattebridgeError) -> None:
        for request in list(self._pending.values()):
            self._fail(request, error)

    def _fail(self, request: InFlight, error: MattebridgeError) -> None:
        self._pending.pop(request.id, None)
        request.error, request.finished = error, True
        self._changed.notify_all()


def _any_idle(arenas: Sequence[Arena]) -> Callable[[], bool]:
    return lambda: any(not arena.busy for arena in arenas)


def _all_idle(arenas: Sequence[Arena]) -> Callable[[], bool]:
    return lambda: not any(arena.busy for arena in arenas)
