"""A range of frames of a host through the daemon, into files that are named by their content.

    host renders frame n+1 --> scratch EXR --> read --> submit(n+1)
                                                        daemon computes n
                               mattes/frames/<key>.exr <-- write(n-1)
                               mattes/<set>/matte.<view>.<frame>.exr      what the host's Read shows

A key is a digest of everything that decides the pixels: both plates, the hint, the parameters, the
model and its weights. A frame whose key has a file is not computed again, whatever happened in
between. A *set* is a folder of links to those files, named by what is in it: when a frame changes
the set has another name, so that no host shows a picture that it remembers. Sets and their files
are whole or absent.

The host's part is one function that renders the inputs of one frame into a folder; it is called on
the thread of `matte_shot`. No wait is without a look at `cancelled`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from mattebridge.client import MatteClient, MatteHandle
from mattebridge.errors import (
    Cancelled,
    DeadlineError,
    FrameReadError,
    FrameWriteError,
    InputsError,
    ModelError,
)
from mattebridge.hosts.exr import Pixels, ScratchImage, Window, read_exr, write_exr

POLL_S = 0.1
# The set's list of frames, beside them.
SET_LIST = "set.json"
PATTERN = "matte.%V.%04d.exr"


@dataclass(frozen=True)
class ShotSettings:
    """What the artist sets; everything here decides pixels and goes into the key."""

    model: str = "default"
    colorspace: str = "linear"
    foreground: str = "model"
    alignment: Optional[str] = None
    match_exposure: Optional[bool] = None
    plate_alpha: str = "opaque"
    nonfinite: str = "error"
    exact: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "float16"
    overscan: bool = False

    def params(self) -> dict[str, Any]:
        """The keywords of `MatteClient.submit`."""
        names = [name for name in vars(self) if name not in ("settings", "precision", "overscan")]
        return {**{name: getattr(self, name) for name in names}, "settings": dict(self.settings)}


@dataclass(frozen=True)
class FrameInputs:
    """The scratch files of one frame. `hint_channel` is the channel's name in the file."""

    plate: Path
    clean_plate: Optional[Path] = None
    alpha_hint: Optional[Path] = None
    hint_channel: str = "A"


@dataclass(frozen=True)
class MadeFrame:
    """A frame whose file is there. `found`: it was there before."""

    frame: int
    view: str
    key: str
    path: Path
    found: bool
    degraded: tuple[str, ...] = ()


Render = Callable[[int, str], FrameInputs]


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
    """Matte (frame, view) after (frame, view); all of them, or an error for the first that failed.

    `render` makes the input files of a frame; they may be gone when it is called again. Results
    stand below `store`; those made before an error stay there. Raises `Cancelled` when `cancelled`
    says so, the client's errors, `FrameReadError` for inputs that are not what they should be.
    """
    model = find_model(client, settings.model)
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
            _check_needs(model, inputs.planes)
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


def find_model(client: MatteClient, name: str) -> dict[str, Any]:
    """The daemon's card of a model. Raises `ModelError` that lists those present."""
    cards = client.models()
    for card in cards:
        if name == card["name"] or name in card.get("aliases", ()):
            return card
    names = ", ".join(sorted(str(card["name"]) for card in cards)) or "none"
    raise ModelError(f"there is no model '{name}'; the models present are: {names}")


@dataclass(frozen=True)
class _Inputs:
    planes: Mapping[str, Pixels]
    region: Window
    display_window: Window
    pixel_aspect: float


def _read_inputs(files: FrameInputs, settings: ShotSettings) -> _Inputs:
    plate = read_exr(files.plate)
    region = _union(plate.data_window, plate.display_window)
    if not settings.overscan:
        region = plate.display_window
    planes = {"plate": _colours(plate, region, with_alpha=settings.plate_alpha != "opaque")}
    if files.clean_plate is not None:
        clean_plate = read_exr(files.clean_plate)
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
    if files.alpha_hint is not None:
        hint = read_exr(files.alpha_hint)
        if files.hint_channel not in hint.channels:
            raise InputsError(
                f"the hint has no channel {files.hint_channel}; it has: "
                f"{', '.join(hint.channels) or 'none'}"
            )
        planes["alpha_hint"] = np.ascontiguousarray(hint.plane(files.hint_channel, region))
    return _Inputs(planes, region, plate.display_window, plate.pixel_aspect)


def _colours(image: ScratchImage, region: Window, *, with_alpha: bool) -> Pixels:
    missing = [name for name in "RGB" if name not in image.channels]
    if missing:
        raise FrameReadError(
            f"the picture has no channel {', '.join(missing)}; it has: {', '.join(image.channels)}"
        )
    names = ("R", "G", "B", "A") if with_alpha and "A" in image.channels else ("R", "G", "B")
    return image.pixels(names, region)


def _check_needs(model: Mapping[str, Any], planes: Mapping[str, Pixels]) -> None:
    for role in model.get("needs", ()):
        if role not in planes:
            raise InputsError(
                f"model '{model['name']}' needs a {role.replace('_', ' ')}: connect one", field=role
            )


def _union(a: Window, b: Window) -> Window:
    left, top = min(a[0], b[0]), min(a[1], b[1])
    right, bottom = max(a[0] + a[2], b[0] + b[2]), max(a[1] + a[3], b[1] + b[3])
    return left, top, right - left, bottom - top


class _Pending:
    """A frame between its inputs and its file."""

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
        self.path = store / "frames" / f"{self.key}.exr"
        self.made: Optional[MadeFrame] = None
        self.handle: Optional[MatteHandle] = None
        self.until = 0.0
        if self.path.is_file():
            self.made = MadeFrame(frame, view, self.key, self.path, found=True)

    def submit(self, client: MatteClient, priority: str, timeout_s: float) -> None:
        planes = dict(self.inputs.planes)
        self.until = time.monotonic() + timeout_s
        self.handle = client.submit(
            planes.pop("plate"),
            planes.pop("clean_plate", None),
            planes.pop("alpha_hint", None),
            frame=self.frame if -(2**31) <= self.frame < 2**31 else None,
            priority=priority,
            timeout_s=timeout_s,
            output_dtype=self.settings.precision,
            **self.settings.params(),
        )
        self.inputs = _Inputs(
            {}, self.inputs.region, self.inputs.display_window, self.inputs.pixel_aspect
        )

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
        return MadeFrame(
            self.frame, self.view, self.key, self.path, found=False, degraded=matte.degraded
        )

    def drop(self) -> None:
        """Nobody wants it any more: the daemon is told, and nobody waits."""
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
            # Only the client's own error leaves open whether the frame was begun.
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
        "settings": asdict(settings),
        "model": [model.get("name"), model.get("digest")],
        "windows": [inputs.region, inputs.display_window, inputs.pixel_aspect],
        "planes": {role: [plane.shape, str(plane.dtype)] for role, plane in inputs.planes.items()},
    }
    digest = hashlib.blake2b(json.dumps(words, sort_keys=True).encode(), digest_size=20)
    for role in sorted(inputs.planes):
        digest.update(np.ascontiguousarray(inputs.planes[role]).data.cast("B"))
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------- sets


def update_set(
    store: Path, current: Optional[Path], made: Sequence[MadeFrame], settings: ShotSettings
) -> Path:
    """A set with the frames of the current one and the new ones; its folder.

    Frames of the current set that were made with other settings are left out: a shot that is half
    one look and half another is worse than a hole, which the host reports.
    """
    words = json.dumps(asdict(settings), sort_keys=True)
    frames: dict[str, str] = {}
    if current is not None:
        before = read_set(current)
        if before.get("settings") == words:
            frames.update(before.get("frames", {}))
    frames.update({f"{one.view}.{_number(one.frame)}": one.key for one in made})
    content = json.dumps({"settings": words, "frames": frames}, sort_keys=True, indent=1)
    folder = store / hashlib.blake2b(content.encode(), digest_size=10).hexdigest()
    if not folder.is_dir():
        _make_set(store, folder, frames, content)
    return folder


def read_set(folder: Path) -> dict[str, Any]:
    """What is in a set; nothing where there is none."""
    try:
        found = json.loads((folder / SET_LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _make_set(store: Path, folder: Path, frames: Mapping[str, str], content: str) -> None:
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".set-", dir=store))
        try:
            os.chmod(temporary, 0o755)
            for name, key in frames.items():
                _link(store / "frames" / f"{key}.exr", temporary / f"matte.{name}.exr")
            (temporary / SET_LIST).write_text(content, encoding="utf-8")
            with contextlib.suppress(OSError):  # another session made the same set meanwhile
                os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise FrameWriteError(f"cannot write {folder}: {error.strerror}") from error
    if not folder.is_dir():
        raise FrameWriteError(f"cannot write {folder}")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        return  # someone removed the file: the host reports the frame
    except OSError:
        shutil.copyfile(source, target)


def _number(frame: int) -> str:
    # As `%04d` has it in C, in Nuke, and here.
    return f"{frame:04d}"


def clear(store: Path) -> None:
    """Remove every frame and set below a store."""
    shutil.rmtree(store, ignore_errors=True)
