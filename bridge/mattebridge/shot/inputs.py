"""The pictures of one frame, read from disk as a request wants them.

    read(task)      plate, clean plate, hint and mattes, by role
    backdrop(task)  the picture behind the comp

A still (one picture for every frame) is read once. A still clean plate is also *held* by the daemon
under a name, and the frames then send the name: it is copied into shared memory once instead of
once a frame, and the engine keeps what it has computed from it. The name is made from the pixels,
so a job that was killed and runs again holds no second copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from mattebridge import color
from mattebridge.color import Pixels
from mattebridge.errors import MattebridgeError, PlateError, QuotaError, TooLargeError
from mattebridge.image_io.sequences import Source
from mattebridge.shot.plan import FrameTask, Plan
from mattebridge.shot.planes import FramePlanes
from mattebridge.shot.ports import Client
from mattebridge.wire.labels import MATTE_FROM_LUMA
from mattebridge.wire.params import MATTE_ROLES


class ShotInputs:
    """Reads the pictures of a shot, for any number of threads.

    client: holds the still clean plate; None for a job that sends no frame.
    """

    def __init__(self, plan: Plan, client: Optional[Client]) -> None:
        self._plan = plan
        self._client = client
        self._planes = FramePlanes(plan.job, plan.spaces)
        self._stills: dict[Any, Any] = {}
        self._held: set[str] = set()
        self._backdrop: tuple[Optional[Source], Optional[Pixels]] = (None, None)
        # Roles and, of those that change, frames whose matte is the luma of a picture.
        self._by_luma: set[tuple[str, Optional[int]]] = set()
        self._lock = threading.Lock()

    def labels(self, task: FrameTask) -> tuple[str, ...]:
        """What the artist has to know of the pictures that were read, as labels of `degraded`."""
        chosen = {at for _, at in self._by_luma} & {None, task.frame}
        return (MATTE_FROM_LUMA,) if chosen else ()

    def read(self, task: FrameTask) -> dict[str, Any]:
        """The planes of one frame by role; the clean plate may be the name of a held one."""
        files = task.inputs.files
        planes: dict[str, Any] = {"plate": self._planes.plate(task)}
        if "clean_plate" in files:
            planes["clean_plate"] = self._clean_plate(task)
        for role in MATTE_ROLES:
            if role in task.inputs.black:
                planes[role] = np.zeros((*planes["plate"].shape[:2], 1), np.uint8)
            elif role in files:
                planes[role] = self._matte(task, role)
        return planes

    def hold_again(self, task: FrameTask, lost: Any) -> Any:
        """A clean plate for a request, after the daemon did not know `lost` any more: a name again.

        Pixels where the daemon cannot hold it.
        """
        key = _still_key(task)
        with self._lock:
            if self._stills.get(key) == lost:
                self._stills[key] = self._hold(self._planes.clean_plate(task))
            return self._stills[key]

    def clean_plate_again(self, task: FrameTask, lost: Any) -> Pixels:
        """The same as pixels, for a daemon that drops what it holds."""
        return self._planes.clean_plate(task)

    def backdrop(self, task: FrameTask) -> Optional[Pixels]:
        """The picture behind the comp, (H, W, 3) float32 of its own size: light, white at 1."""
        source = task.backdrop
        if source is None:
            return None
        with self._lock:
            known, _ = self._backdrop
            if known != source:
                pixels = self._planes.picture(source).rgb
                space = task.colorspaces["background"]
                light = color.to_float(self._plan.spaces.converted(pixels, space, "linear"))
                white = self._plan.spaces.of(space).white
                light = light if white == 1 else light / np.float32(white)
                self._backdrop = (source, light)
            return self._backdrop[1]

    def release(self) -> None:
        """Close the videos and have the daemon drop what it holds; one that is gone holds none."""
        self._planes.close()
        for name in self._held:
            if self._client is not None:
                with contextlib.suppress(MattebridgeError):
                    self._client.drop_clean_plate(name)
        self._held.clear()

    def _clean_plate(self, task: FrameTask) -> Any:
        if "clean_plate" not in self._plan.stills:
            return self._planes.clean_plate(task)
        return self._once(_still_key(task), lambda: self._hold(self._planes.clean_plate(task)))

    def _hold(self, pixels: Pixels) -> Any:
        """A name under which the daemon holds the pixels, or the pixels where it cannot."""
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=12)
        name = f"matte-{digest.hexdigest()}-{'x'.join(map(str, pixels.shape))}"
        assert self._client is not None
        try:
            self._client.hold_clean_plate(name, pixels)
        except (PlateError, TooLargeError, QuotaError):
            return pixels
        self._held.add(name)
        return name

    def _matte(self, task: FrameTask, role: str) -> Pixels:
        if role not in self._plan.stills:
            return self._read_matte(task, role, task.frame)
        # A still that is resized is another one for a plate of another size.
        size = () if task.header is None else (task.header.width, task.header.height)
        key = (role, *size) if role in task.resized else (role,)
        pixels: Pixels = self._once(key, lambda: self._read_matte(task, role, None))
        return pixels

    def _read_matte(self, task: FrameTask, role: str, at: Optional[int]) -> Pixels:
        pixels, by_luma = self._planes.matte(task, role)
        if by_luma:
            self._by_luma.add((role, at))
        return pixels

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._stills:
                self._stills[key] = make()
            return self._stills[key]


def _still_key(task: FrameTask) -> tuple[str, ...]:
    return ("clean_plate", task.colorspaces["clean_plate"], task.colorspaces["plate"])
