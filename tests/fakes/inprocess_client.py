"""A stand-in for `MatteClient` that really mattes, in this process, without a daemon.

Alpha is the largest channel difference between plate and clean plate, stretched; the foreground is
the plate. So a test sees from the pixels which clean plate went with which plate. `fail` makes
chosen frames end with an error, `delay_s` (one, or a function of the frame) makes them take time,
and the figures at the end tell how the client was used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from fakes.colour import studio_spaces
from mattebridge import color
from mattebridge.errors import Cancelled, DeadlineError, MattebridgeError, PlateError

CARD = {
    "name": "difference",
    "aliases": ["default"],
    "digest": "sha256:of-the-fake",
    "needs": ["plate", "clean_plate"],
    "uses_alpha_hint": False,
    "extra_outputs": ["error"],
}


@dataclass
class FakeMatte:
    alpha: Any = None
    foreground: Any = None
    premultiplied: Any = None
    error: Any = None
    refinement: Any = None
    model: str = "difference"
    digest: str = "sha256:of-the-fake"
    degraded: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=lambda: {"total_ms": 1.0})


class FakeHandle:
    def __init__(self, client: InProcessClient, frame: int, make: Callable[[], FakeMatte]) -> None:
        self.frame = frame
        self.cancelled = threading.Event()
        self.finished = threading.Event()
        self._client = client
        self._outcome: Any = None
        delay_s = client.delay_s(frame) if callable(client.delay_s) else client.delay_s
        self._thread = threading.Thread(target=self._run, args=(make, delay_s), daemon=True)
        self._thread.start()

    def _run(self, make: Callable[[], FakeMatte], delay_s: float) -> None:
        try:
            self.cancelled.wait(delay_s)
            if self.cancelled.is_set():
                raise Cancelled("the frame was cancelled")
            self._outcome = make()
        except MattebridgeError as error:
            self._outcome = error
        self._client.leave()
        self.finished.set()

    def result(self, timeout_s: Optional[float] = None) -> FakeMatte:
        if not self.finished.wait(timeout_s):
            raise DeadlineError("no answer within the time limit", started=None)
        if isinstance(self._outcome, MattebridgeError):
            raise self._outcome
        return self._outcome

    def cancel(self) -> None:
        self.cancelled.set()


class InProcessClient:
    def __init__(
        self,
        *,
        fail: Optional[Mapping[int, MattebridgeError]] = None,
        delay_s: float | Callable[[int], float] = 0.0,
        card: Optional[Mapping[str, Any]] = None,
        forgets: int = 0,
    ) -> None:
        self.fail = dict(fail or {})
        self.delay_s = delay_s
        self.card = {**CARD, **(card or {})}
        self.forgets = forgets  # this many times a held clean plate is gone when it is needed
        self.plates: dict[str, np.ndarray] = {}
        self.requests: list[dict[str, Any]] = []
        self.held = 0
        self.most_in_flight = 0
        self.closed = False
        self.models_limit_s = 0.0
        self._in_flight = 0
        self._lock = threading.Lock()

    # -- what a job uses ------------------------------------------------------------------------

    def submit(self, plate: Any, clean_plate: Any = None, **options: Any) -> FakeHandle:
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            self.requests.append({"clean_plate": clean_plate, **options, "at": time.monotonic()})
        plate = np.array(plate)
        clean = clean_plate if isinstance(clean_plate, str) else np.array(clean_plate)
        return FakeHandle(self, options["frame"], lambda: self._make(plate, clean, options))

    def models(
        self, timeout_s: float = 1.0, *, cancelled: Callable[[], bool] = bool
    ) -> list[dict[str, Any]]:
        self.models_limit_s = timeout_s
        return [self.card]

    def status(self, timeout_s: float = 1.0) -> dict[str, Any]:
        return {"workers": [{"device": "cpu", "memory": {"resident_bytes": 300 << 20}}]}

    def colors(self) -> dict[str, Any]:
        return {**studio_spaces().config.described(), "spaces": []}

    def hold_clean_plate(self, name: str, pixels: Any) -> list[Any]:
        self.held += 1
        self.plates[name] = np.array(pixels)
        return []

    def drop_clean_plate(self, name: str) -> list[Any]:
        if self.plates.pop(name, None) is None:
            raise PlateError(f"no plate {name}")
        return []

    def close(self) -> None:
        self.closed = True

    def leave(self) -> None:
        with self._lock:
            self._in_flight -= 1

    # -- the matte ------------------------------------------------------------------------------

    def _make(self, plate: np.ndarray, clean: Any, options: Mapping[str, Any]) -> FakeMatte:
        failure = self.fail.get(options["frame"])
        if failure is not None:
            raise failure
        if isinstance(clean, str):
            with self._lock:
                if self.forgets > 0:
                    self.forgets -= 1
                    self.plates.pop(clean, None)
                if clean not in self.plates:
                    raise PlateError(f"no clean plate '{clean}' is held")
            clean = self.plates[clean]
        light = _light_of(plate, options)
        red, green, blue = np.moveaxis(np.abs(light - _light_of(clean, options)), 2, 0)
        difference = np.maximum(np.maximum(red, green), blue)[..., None]
        alpha = np.clip(difference * 4.0, 0.0, 1.0)

        def shown(colours: np.ndarray) -> np.ndarray:
            encoded = options.get("output_colorspace") == "srgb"
            return color.srgb_encode(colours) if encoded else colours

        # Only what was asked for: most of the time of a frame is the curve.
        planes = {
            "alpha": lambda: alpha,
            "foreground": lambda: shown(light),
            "premultiplied": lambda: np.concatenate([shown(light * alpha), alpha], axis=2),
            "error": lambda: 1.0 - alpha,
        }
        dtype = options.get("output_dtype", "float32")
        return FakeMatte(**{name: planes[name]().astype(dtype) for name in options["outputs"]})


def _light_of(picture: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    encoded = options["colorspace"] == "srgb"
    return (color.srgb_decode if encoded else color.to_float)(picture[..., :3])
