"""A range of frames of a host through the daemon, into files that are named by their content.

    host renders frame n+1 --> scratch EXR --> read --> submit(n+1)
                                                        daemon computes n
                               mattes/frames/<key>.exr <-- write(n-1)

A key is a digest of everything that decides the pixels: both plates, the hint and mattes, the
parameters, the model and its weights. A frame whose key has a file is not computed again. How the
files are stored is described in store.py.

The host's part is one function that renders the inputs of one frame into a folder; it is called on
the thread of `matte_shot`. Every wait checks `cancelled` ten times a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from mattebridge.client import MatteClient, MatteHandle
from mattebridge.color import Pixels, luma, matte_is_in_colours
from mattebridge.errors import (
    Cancelled,
    DeadlineError,
    FrameReadError,
    FrameWriteError,
    InputsError,
)
from mattebridge.hosts.exr import ScratchImage, Window, read_exr, write_exr
from mattebridge.hosts.request import (
    MadeFrame,
    Render,
    ScratchFiles,
    ShotSettings,
    check_needs,
    find_card,
)
from mattebridge.hosts.store import frame_file
from mattebridge.wire.labels import MATTE_FROM_LUMA, noted
from mattebridge.wire.params import MATTE_ROLES

POLL_S = 0.1


def matte_shot(
    frames: Iterable[tuple[int, str]],
    render: Render,
    client: MatteClient,
    *,
    store: Path,
    settings: ShotSettings,
    priority: str = "interactive",
    timeout_s: float = 600.0,
    in_flight: int = 2,
    cancelled: Callable[[], bool] = bool,
    on_frame: Callable[[MadeFrame], None] = lambda made: None,
) -> list[MadeFrame]:
    """Matte (frame, view) after (frame, view); all of them, or the error of the first that fails.

    `render` makes the input files of a frame; they need not outlive its next call. Results are
    written below `store`; those made before an error stay there. Raises `Cancelled` when
    `cancelled` returns true, the client's errors, and `FrameReadError` for inputs that cannot be
    used.
    """
    model = find_card(client.models(timeout_s, cancelled=cancelled), settings.model)
    out: deque[_Pending] = deque()
    made: list[MadeFrame] = []

    def finish_one() -> None:
        done = out.popleft().finish(cancelled)
        made.append(done)
        on_frame(done)

    try:
        for frame, view in frames:
            if cancelled():
                raise Cancelled("cancelled")
            inputs = _read_inputs(render(frame, view), settings)
            check_needs(model, inputs.planes, settings)
            pending = _Pending(frame, view, inputs, store, settings, model)
            if pending.made is None:
                pending.submit(client, priority, timeout_s)
            out.append(pending)
            while len(out) >= in_flight or (out and out[0].made is not None):
                finish_one()
        while out:
            finish_one()
    finally:
        for pending in out:
            pending.drop()
    return made


@dataclass(frozen=True)
class _Inputs:
    """The arrays of a request; `labels` say what was not taken as it was given."""

    planes: Mapping[str, Pixels]
    region: Window
    display_window: Window
    pixel_aspect: float
    labels: tuple[str, ...] = ()


def _read_inputs(files: ScratchFiles, settings: ShotSettings) -> _Inputs:
    plate = read_exr(files.plate)
    region = _union(plate.data_window, plate.display_window)
    if not settings.overscan:
        region = plate.display_window
    planes = {"plate": _colours(plate, region, with_alpha=settings.plate_alpha != "opaque")}
    if files.clean_plate is not None:
        clean_plate = read_exr(files.clean_plate)
        # Only here: both are cut to the same region, so that the client sees one size.
        if clean_plate.display_window != plate.display_window:
            (_, _, width, height), (_, _, got_width, got_height) = (
                plate.display_window,
                clean_plate.display_window,
            )
            raise InputsError(
                f"the plate is {width}x{height} and the clean plate is {got_width}x{got_height}: "
                "reformat the clean plate to the plate's format"
            )
        planes["clean_plate"] = _colours(clean_plate, region, with_alpha=False)
    labels: set[str] = set()
    for role in MATTE_ROLES:
        if role in files.files():
            image = read_exr(files.files()[role])
            planes[role] = _matte(image, role, files.hint_channel, region)
            if files.hint_channel == "A" and _is_picture(image):
                planes[role] = luma(image.pixels(("R", "G", "B"), region))
                labels.add(MATTE_FROM_LUMA)
    return _Inputs(planes, region, plate.display_window, plate.pixel_aspect, tuple(labels))


def _is_picture(image: ScratchImage) -> bool:
    """Whether a matte's file is a picture whose alpha says nothing about it."""
    if any(name not in image.channels for name in "RGBA"):
        return False
    return matte_is_in_colours([image.channels[name] for name in "RGB"], image.channels["A"])


def _matte(image: ScratchImage, role: str, channel: str, region: Window) -> Pixels:
    if channel not in image.channels:
        raise InputsError(
            f"the {role.replace('_', ' ').replace('alpha ', '')} has no channel {channel}; it has: "
            f"{', '.join(image.channels) or 'none'}",
            field=role,
        )
    return np.ascontiguousarray(image.plane(channel, region))


def _colours(image: ScratchImage, region: Window, *, with_alpha: bool) -> Pixels:
    missing = [name for name in "RGB" if name not in image.channels]
    if missing:
        raise FrameReadError(
            f"the picture has no channel {', '.join(missing)}; it has: {', '.join(image.channels)}"
        )
    if with_alpha and "A" not in image.channels:
        raise InputsError(
            "the plate has no alpha: set Plate alpha to opaque, or give the plate one",
            field="plate",
        )
    return image.pixels(("R", "G", "B", "A") if with_alpha else ("R", "G", "B"), region)


def _union(a: Window, b: Window) -> Window:
    left, top = min(a[0], b[0]), min(a[1], b[1])
    right, bottom = max(a[0] + a[2], b[0] + b[2]), max(a[1] + a[3], b[1] + b[3])
    return left, top, right - left, bottom - top


class _Pending:
    """A frame whose inputs are read and whose result is not written yet."""

    def __init__(
        self,
        frame: int,
        view: str,
        inputs: _Inputs,
        store: Path,
        settings: ShotSettings,
        model: Mapping[str, Any],
    ) -> None:
        self.frame, self.view = frame, view
        self.inputs, self.settings = inputs, settings
        self.key = content_key(inputs, settings, model)
        self.path = frame_file(store, self.key)
        self.made: Optional[MadeFrame] = None
        self.handle: Optional[MatteHandle] = None
        self.until = 0.0
        if self.path.is_file():
            self.made = MadeFrame(frame, view, self.key, self.path, True, inputs.labels)

    def submit(self, client: MatteClient, priority: str, timeout_s: float) -> None:
        planes: dict[str, Any] = dict(self.inputs.planes)
        self.until = time.monotonic() + timeout_s
        self.handle = client.submit(
            planes.pop("plate"),
            planes.pop("clean_plate", self.settings.held_clean_plate or None),
            frame=self.frame if -(2**31) <= self.frame < 2**31 else None,
            priority=priority,
            timeout_s=timeout_s,
            output_dtype=self.settings.precision,
            **planes,
            **self.settings.params(),
        )
        self.inputs = replace(self.inputs, planes={})  # they are in the arena now

    def finish(self, cancelled: Callable[[], bool]) -> MadeFrame:
        if self.made is not None:
            return self.made
        assert self.handle is not None
        matte = _wait(self.handle, self.until, cancelled)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FrameWriteError(f"cannot make {self.path.parent}: {error.strerror}") from error
        write_exr(
            self.path,
            layers_of(matte.alpha, matte.foreground, matte.premultiplied),
            dtype=self.settings.precision,
            data_window=self.inputs.region,
            display_window=self.inputs.display_window,
            pixel_aspect=self.inputs.pixel_aspect,
            texts={"mattebridge:model": matte.model, "mattebridge:modelDigest": matte.digest},
        )
        self.handle = None
        labels = (*self.inputs.labels, *matte.degraded, *noted(matte.notes))
        return MadeFrame(self.frame, self.view, self.key, self.path, False, labels)

    def drop(self) -> None:
        """Cancel the frame, without waiting for the daemon's answer."""
        if self.handle is not None:
            with contextlib.suppress(Exception):
                self.handle.cancel()


def _wait(handle: MatteHandle, until: float, cancelled: Callable[[], bool]) -> Any:
    while True:
        if cancelled():
            handle.cancel()
            raise Cancelled("cancelled")
        try:
            return handle.result(POLL_S)
        except DeadlineError as error:
            # The daemon's error says whether the frame was started; the client's own does not.
            if error.details.get("started", False) is not None:
                raise
            if time.monotonic() > until:
                handle.cancel()
                raise


def layers_of(alpha: Pixels, foreground: Pixels, premultiplied: Pixels) -> dict[str, Pixels]:
    """The channels of a result file: RGBA premultiplied, matte.A, foreground.R, G, B."""
    layers = {name: premultiplied[..., i] for i, name in enumerate("RGBA")}
    layers["matte.A"] = alpha[..., 0]
    layers.update({f"foreground.{name}": foreground[..., i] for i, name in enumerate("RGB")})
    return layers


def content_key(inputs: _Inputs, settings: ShotSettings, model: Mapping[str, Any]) -> str:
    """A digest of all that decides the pixels of a result file."""
    words = {
        "settings": settings.deciding(),
        "model": [model.get("name"), model.get("digest")],
        "windows": [inputs.region, inputs.display_window, inputs.pixel_aspect],
        "planes": {role: [plane.shape, str(plane.dtype)] for role, plane in inputs.planes.items()},
    }
    if settings.held_clean_plate and "clean_plate" not in inputs.planes:
        # Only the name is known here, and it may belong to another clean plate by now.
        words["held"] = os.urandom(8).hex()
    digest = hashlib.blake2b(json.dumps(words, sort_keys=True).encode(), digest_size=20)
    for role in sorted(inputs.planes):
        digest.update(np.ascontiguousarray(inputs.planes[role]).data.cast("B"))
    return digest.hexdigest()
