"""The pictures of one frame, read from disk; stills are read once for the shot."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from mattebridge import color
from mattebridge.errors import MattebridgeError, PlateError, QuotaError, TooLargeError
from mattebridge.image_io.sequences import Source
from mattebridge.image_io.sources import Pictures
from mattebridge.shot.job import MATTE_ROLES
from mattebridge.shot.plan import FrameTask, Plan
from mattebridge.shot.ports import Client

Pixels = NDArray[Any]


@dataclass
class Black:
    """What a matte would be of a frame where there is nothing; planes that are asked for."""

    alpha: Any = None
    foreground: Any = None
    premultiplied: Any = None
    error: Any = None
    refinement: Any = None
    degraded: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)


class ShotInputs:
    """Pictures from disk as the request wants them; a still is read once and left with the daemon.

    A held clean plate is copied into shared memory once instead of once a frame, and the engine
    keeps what it has worked out about it.
    """

    def __init__(self, plan: Plan, client: Optional[Client]) -> None:
        self._plan = plan
        self._client = client
        self._pictures = Pictures()
        self._stills: dict[Any, Any] = {}
        self._held: set[str] = set()
        self._backdrop: tuple[Optional[Source], Optional[Pixels]] = (None, None)
        self._lock = threading.Lock()

    def read(self, task: FrameTask) -> dict[str, Any]:
        """The planes of one frame by role; the clean plate may be the name of a held one."""
        files = task.inputs.files
        planes: dict[str, Any] = {"plate": self._plate(task)}
        if "clean_plate" in files:
            planes["clean_plate"] = self._clean_plate(task)
        for role in MATTE_ROLES:
            if role in task.inputs.black:
                planes[role] = np.zeros((*planes["plate"].shape[:2], 1), np.uint8)
            elif role in files:
                planes[role] = self._matte(role, files[role])
        return planes

    def backdrop(self, task: FrameTask) -> Optional[Pixels]:
        """The picture behind the comp, (H, W, 3) float32 in linear light, of its own size."""
        source = task.backdrop
        if source is None:
            return None

        def read() -> Pixels:
            pixels = as_rgb(self._pictures.frame(source).pixels)
            encoded = task.colorspaces["background"] == "srgb"
            return color.srgb_decode(pixels) if encoded else color.to_float(pixels)

        with self._lock:
            known, _ = self._backdrop
            if known != source:
                self._backdrop = (source, read())
            return self._backdrop[1]

    def release(self) -> None:
        """Drop what was left with the daemon; a daemon that is gone has dropped it already."""
        self._pictures.close()
        for name in self._held:
            if self._client is not None:
                with contextlib.suppress(MattebridgeError):
                    self._client.drop_clean_plate(name)
        self._held.clear()

    def hold_again(self, task: FrameTask, lost: Any) -> Any:
        """The clean plate under a name again, after the daemon no longer knew `lost`."""
        key = still_key(task)
        with self._lock:
            if self._stills.get(key) == lost:
                self._stills[key] = self._hold(self._read_clean_plate(task))
            return self._stills[key]

    def clean_plate_again(self, task: FrameTask, lost: Any) -> Pixels:
        """The pixels themselves, where holding them does not last."""
        return self._read_clean_plate(task)

    def _plate(self, task: FrameTask) -> Pixels:
        pixels = self._pictures.frame(task.inputs.plate).pixels
        wants_alpha = self._plan.job.plate_alpha != "opaque"
        return as_rgb(pixels) if pixels.shape[2] < 4 or not wants_alpha else pixels

    def _clean_plate(self, task: FrameTask) -> Any:
        if "clean_plate" not in self._plan.stills:
            return self._read_clean_plate(task)
        return self._once(still_key(task), lambda: self._hold(self._read_clean_plate(task)))

    def _read_clean_plate(self, task: FrameTask) -> Pixels:
        pixels = as_rgb(self._pictures.frame(task.inputs.files["clean_plate"]).pixels)
        return in_space(pixels, task.colorspaces["clean_plate"], task.colorspaces["plate"])

    def _hold(self, pixels: Pixels) -> Any:
        """A name under which the daemon holds the pixels, or the pixels where it cannot."""
        # Named by content: a job that was killed and runs again holds no second copy.
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=12)
        name = f"matte-{digest.hexdigest()}-{'x'.join(map(str, pixels.shape))}"
        assert self._client is not None
        try:
            self._client.hold_clean_plate(name, pixels)
        except (PlateError, TooLargeError, QuotaError):
            return pixels
        self._held.add(name)
        return name

    def _matte(self, role: str, source: Source) -> Pixels:
        channel = self._plan.job.hint_channel
        if role not in self._plan.stills:
            return self._pictures.matte(source, channel=channel)
        pixels: Pixels = self._once((role,), lambda: self._pictures.matte(source, channel=channel))
        return pixels

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._stills:
                self._stills[key] = make()
            return self._stills[key]


def still_key(task: FrameTask) -> tuple[str, ...]:
    return ("clean_plate", task.colorspaces["clean_plate"], task.colorspaces["plate"])


def as_rgb(pixels: Pixels) -> Pixels:
    if pixels.shape[2] == 1:
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return pixels[..., :3]


def in_space(pixels: Pixels, space: str, wanted: str) -> Pixels:
    """A clean plate in the colour space of its plate: a request has one for both."""
    if space == wanted:
        return pixels
    return color.srgb_encode(pixels) if wanted == "srgb" else color.srgb_decode(pixels)
