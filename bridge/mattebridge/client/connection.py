"""What a host imports: connect to the daemon, matte a frame, get alpha, foreground, premultiplied.

    with MatteClient.connect(start=True) as client:
        matte = client.matte(plate, clean_plate)
        matte.alpha, matte.foreground, matte.premultiplied

`matte` waits; `submit` returns a handle, so that several frames are in flight. A frame's way:

    check the arrays (images.py) -> take an arena -> copy the inputs in -> send -> wait for the
    reply (exchange.py) -> copy the results out (in_flight.py)

Pixels go through shared memory (wire/slots.py), requests through ZeroMQ (session.py). The rule that
must not be broken: no wait is without a bound, and no thread is started.

Needs numpy, pyzmq and msgpack; runs on Python 3.9, inside a host.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np

from mattebridge.client import autostart
from mattebridge.client.exchange import POLL_SLICE_S, Exchange
from mattebridge.client.images import (
    as_image,
    as_images,
    check_out,
    input_specs,
    output_specs,
    wire_dtype,
)
from mattebridge.client.in_flight import InFlight, Progress, closed_meanwhile, lost_twice
from mattebridge.client.matte import Matte
from mattebridge.client.session import Arena, Session
from mattebridge.color import Pixels
from mattebridge.errors import (
    Cancelled,
    ConnectionFailed,
    DaemonLost,
    DeadlineError,
    DrainingError,
    QuotaError,
)
from mattebridge.wire import protocol
from mattebridge.wire.folder import runtime_folder
from mattebridge.wire.params import DEFAULT_OUTPUTS, default_colorspace
from mattebridge.wire.slots import arena_bytes, place

DEFAULT_TIMEOUT_S = 600.0
CONTROL_TIMEOUT_S = 10.0
# The daemon gives up before the client does: it gets nine tenths of the client's limit.
DEADLINE_SHARE = 0.9
# Arenas of a session: one being computed, one being filled or read.
DEFAULT_IN_FLIGHT = 2


class MatteHandle:
    """A frame in flight. `result` waits for it, `cancel` asks the daemon to drop it."""

    def __init__(self, exchange: Exchange, request: InFlight) -> None:
        self._exchange = exchange
        self._request = request

    @property
    def frame(self) -> Optional[int]:
        """The frame number given to `submit`."""
        return self._request.frame

    def done(self) -> bool:
        """Whether the outcome is known; looks at what has arrived, never waits."""
        self._exchange.poll()
        return self._request.finished

    def result(self, timeout_s: Optional[float] = None) -> Matte:
        """The matte; raises the error where the daemon replied with one.

        Raises `DeadlineError` when nothing has come within `timeout_s` (by default the time left
        of the one given to `submit`); the request stays out and `result` may be called again.
        """
        request = self._request
        until = request.until if timeout_s is None else time.monotonic() + timeout_s
        self._exchange.wait(lambda: request.finished, until)
        if not request.finished:
            raise DeadlineError(
                f"no answer for frame {request.frame} within the time limit: the daemon may be "
                "loading a model or hang; see `mattebridge status`",
                started=None,
            )
        return request.outcome()

    def cancel(self) -> None:
        """Ask the daemon to drop the frame.

        `result` then raises `Cancelled`, or gives the matte where it was finished already.
        """
        self._exchange.cancel(self._request)


class MatteClient:
    """A connection to the daemon. Use `connect`; close it, or use it in a `with`.

    May be shared between threads. After a fork the child must connect again.
    """

    def __init__(self, folder: Path, *, in_flight: int, name: str, host: str) -> None:
        self.folder = folder
        self._name, self._host = name, host
        self._start = False
        self._python: Optional[str] = None
        self._exchange = Exchange(self._attach, max(1, min(in_flight, protocol.MAX_SLOTS)))

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
        else `v1`). `in_flight` frames (1 to 8) may be out at once. `daemon_python` is for
        mattebridge's own command line; hosts leave it out. Raises `ConnectionFailed` or another
        `DaemonError`.
        """
        client = cls(runtime_folder(instance), in_flight=in_flight, name=name, host=host)
        client._start, client._python = start, daemon_python
        client._exchange.may_start = start
        client._exchange.open()
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
        progress: Optional[Progress] = None,
        **params: Any,
    ) -> MatteHandle:
        """Send one frame and return at once with a handle (or wait for an arena to come back).

        `outputs` names what to bring back (`alpha`, `foreground`, `premultiplied`, `error`,
        `refinement`): bytes out cost most, ask for what is needed. `out` gives arrays to fill
        instead of new ones. `timeout_s` bounds everything; the daemon gives up a little earlier, or
        after `deadline_s`. `progress(stage, done, total)` is called while waiting; an exception
        from it cancels the frame and comes out of `result`. `clean_plate_key` stands for the
        content of a clean plate that is sent again and again (a hash that the host has anyway, 1 to
        128 printable characters): under the same key the daemon does not check whether its pixels
        changed, so it must change when they do.
        Further keywords are render parameters (`foreground="unmix"`, `alignment="off"`,
        `settings={...}`; docs/protocol.md). Raises `InputsError`, `DtypeError`, `QuotaError`; what
        the daemon replies comes later, out of `result`.
        """
        held = clean_plate if isinstance(clean_plate, str) else None
        images = as_images(
            {
                "plate": plate,
                "clean_plate": None if isinstance(clean_plate, str) else clean_plate,
                "alpha_hint": alpha_hint,
                "garbage_matte": garbage_matte,
                "core_matte": core_matte,
            }
        )
        specs = output_specs(outputs, output_dtype, out or {})
        check_out(out or {}, specs, *images["plate"].shape[:2])
        if colorspace is None:
            colorspace = default_colorspace(wire_dtype(images["plate"]))
        named = {
            "frame": None if frame is None else int(frame),
            "clean_plate": held,
            "clean_plate_key": clean_plate_key,
        }
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
                **{key: value for key, value in named.items() if value is not None},
            },
            frame=frame,
            progress=progress,
        )
        limit_s = timeout_s * DEADLINE_SHARE if deadline_s is None else deadline_s
        request.deadline_at = time.monotonic() + limit_s
        self._fill_and_send(request)
        return MatteHandle(self._exchange, request)

    # -- held clean plates --------------------------------------------------------------------

    def hold_clean_plate(
        self, name: str, pixels: Pixels, *, replace: bool = False, timeout_s: float = 60.0
    ) -> list[dict[str, Any]]:
        """Leave a clean plate with the daemon under a name, for `matte(plate, name)`.

        pixels as for `matte`, interpreted in the colour space of the request that uses them. All
        clients of a user share the names: `PlateError` where the name is held with other pixels,
        unless `replace`. When the budget is full, the session that holds most gives up its least
        recently used one, and frames that name that one raise `PlateError`. Returns what is held.
        """
        request = InFlight(
            images={"clean_plate": as_image("clean_plate", pixels)},
            until=time.monotonic() + timeout_s,
            # An older daemon does not know the key: only a client that needs it sends it.
            message={"op": "plate_put", "name": name, **({"replace": True} if replace else {})},
        )
        self._fill_and_send(request)
        self._exchange.wait(lambda: request.finished, request.until)
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
        """The daemon's state in short, replied at once whatever it is computing."""
        return _without_envelope(self._ask("ping", timeout_s=timeout_s))

    def status(self, timeout_s: float = CONTROL_TIMEOUT_S) -> dict[str, Any]:
        """Everything `mattebridge status` shows."""
        return _without_envelope(self._ask("status", timeout_s=timeout_s))

    def models(
        self, timeout_s: float = 60.0, *, cancelled: Callable[[], bool] = bool
    ) -> list[dict[str, Any]]:
        """The models the daemon can use, with what each needs.

        A worker answers, whose first start may take minutes on a slow disk. Raises `Cancelled`
        where `cancelled` returns true meanwhile.
        """
        reply = self._ask("models_list", timeout_s=timeout_s, cancelled=cancelled)
        return list(reply["models"])

    def load_model(self, model: str, timeout_s: float = 300.0) -> list[dict[str, Any]]:
        """Load a model now, so that its first frame does not wait."""
        return list(self._ask("models_load", timeout_s=timeout_s, model=model)["models"])

    def unload_model(self, model: str, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """Drop a model from the daemon's memory."""
        return list(self._ask("models_unload", timeout_s=timeout_s, model=model)["models"])

    def colors(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """The daemon's colour config, its digest, and its spaces with their roles and aliases."""
        spaces: list[dict[str, Any]] = []
        while True:
            reply = self._ask("colors", timeout_s=timeout_s, first=len(spaces))
            spaces += reply["spaces"]
            if not reply["spaces"] or len(spaces) >= reply["total"]:
                return {"config": reply["config"], "digest": reply["digest"], "spaces": spaces}

    def release(self, timeout_s: float = 300.0) -> list[dict[str, Any]]:
        """Give back the memory of the devices (models, caches); the daemon and its sessions stay.

        Frames that are being computed are finished first; the next one loads its model again.
        Returns what was held: device, resident_bytes, models (name to bytes) of each worker.
        """
        return list(self._ask("release", timeout_s=timeout_s)["workers"])

    def shutdown(self, *, if_unused: bool = False, user: str = protocol.BY_HAND) -> bool:
        """Ask the daemon to drain and stop; False when `if_unused` and it is in use.

        `user` no longer uses it (docs/protocol.md, 2.1).
        """
        # Whatever happens now, no new daemon is started for it.
        self._start = self._exchange.may_start = False
        try:
            return bool(self._ask("shutdown", if_unused=if_unused, user=user)["stopping"])
        except DaemonLost:
            return True

    def close(self) -> None:
        """End the session. Requests that are out are dropped by the daemon."""
        self._exchange.close()

    def __enter__(self) -> MatteClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # -- filling and sending ------------------------------------------------------------------

    def _fill_and_send(self, request: InFlight) -> None:
        height, width = next(iter(request.images.values())).shape[:2]
        specs = [*input_specs(request.images), *request.outputs]
        placed = place(width, height, specs)
        request.inputs = placed[: len(request.images)]
        request.results = placed[len(request.images) :]
        needed = arena_bytes(width, height, specs)
        while not request.registered:
            arena = request.arena = self._take_arena(request, needed)
            try:
                _write(request, arena)
            except BaseException:
                arena.give_back()
                if self._exchange.closed:
                    raise closed_meanwhile() from None
                raise
            self._exchange.register(request)
        request.images = {}
        self._exchange.send(request)

    def _take_arena(self, request: InFlight, needed: int) -> Arena:
        """An arena of at least `needed` bytes; waits for one that is out to come back."""
        exchange = self._exchange
        while True:
            with exchange.changed:
                session = exchange.usable_session()
                arena = session.free_arena(needed)
                if arena is not None:
                    return arena
                arenas = list(session.arenas.values())
                stopping = False
                if not any(arena.busy for arena in arenas):
                    stopping = not self._resize(request, session, needed)
                    if not stopping:
                        continue
            if time.monotonic() > request.until:
                raise DeadlineError("no arena came back within the time limit", started=False)
            until = min(request.until, time.monotonic() + POLL_SLICE_S)
            ready = _is_over(session) if stopping else _can_serve(arenas, needed)
            exchange.wait(ready, until)

    def _resize(self, request: InFlight, session: Session, needed: int) -> bool:
        """Exchange all arenas; False where the daemon is stopping, and the next one is due."""
        in_flight = self._exchange.in_flight
        try:
            try:
                session.resize(in_flight, needed)
            except QuotaError:
                if in_flight == 1:
                    raise
                # The frame is large or the machine is small: one frame at a time, then.
                session.resize(1, needed)
        except DaemonLost as error:
            if request.losses:
                raise lost_twice(error) from error
            request.losses += 1
            self._exchange.replace(error, session)
        except DrainingError:
            if not self._exchange.may_start:
                raise
            return False
        return True

    def _ask(
        self,
        op: str,
        *,
        timeout_s: float = CONTROL_TIMEOUT_S,
        cancelled: Callable[[], bool] = bool,
        **fields: Any,
    ) -> Any:
        """The reply to a request without pixels."""
        exchange = self._exchange
        request = InFlight(until=time.monotonic() + timeout_s, message={"op": op, **fields})
        exchange.register(request)
        exchange.send(request)
        exchange.wait(lambda: request.finished or cancelled(), request.until)
        if not request.finished:
            exchange.withdraw(request)
            if cancelled():
                raise Cancelled("cancelled")
            raise ConnectionFailed(
                f"the daemon did not answer {op!r} within {timeout_s:g} s: it may hang, or be"
                " starting on a slow disk; see its log, or stop it and start it again"
            )
        request.outcome()
        return request.reply

    def _attach(self) -> Session:
        def connect() -> Session:
            return Session.open(self.folder, name=self._name, host=self._host)

        try:
            return connect()
        except ConnectionFailed:
            if not self._start:
                raise
        return autostart.start_daemon(self.folder, connect, self._python)


def _write(request: InFlight, arena: Arena) -> None:
    """Copy the images of a request into its arena."""
    started = time.monotonic()
    with arena.writing():
        for plane in request.inputs:
            np.copyto(arena.memory.array(plane), request.images[plane.role], casting="no")
    request.timings["copy_in_ms"] = (time.monotonic() - started) * 1000


def _is_over(session: Session) -> Callable[[], bool]:
    """Whether a stopping daemon has closed the door, and the next one is in its place."""
    return lambda: session.closed


def _can_serve(arenas: Sequence[Arena], needed: int) -> Callable[[], bool]:
    """Whether one of the arenas is free, or all of them can be exchanged for larger ones."""
    large_enough = [arena for arena in arenas if arena.memory.size_bytes >= needed]
    if large_enough:
        return lambda: any(not arena.busy for arena in large_enough)
    return lambda: not any(arena.busy for arena in arenas)


def _without_envelope(reply: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a reply, which can be printed as JSON."""
    return {key: value for key, value in reply.items() if key not in ("op", "id", "epoch")}
