"""The sample shot: a plate, its clean plate and the truth, rendered from code.

A woman waves toward the window of a loft at evening. 24 frames of 960x540, scene-linear half EXR,
with what makes matting hard: thousands of hairs, motion blur, a sheer scarf, depth of field, light
far above 1, a cast shadow, contact shadow and grain in the plate that the clean plate does not
have, and places where subject and set are alike. Nothing is downloaded and no picture is read, and
every run on one machine gives the same pixels.

    room.py     the set, lit once          subject.py  posed, lit and exposed for each frame
    shadow.py   her shadows on it          optics.py   camera, defocus, grain
    screen.py   a green or blue screen in place of the set, and its light on her

    plate = grain(foreground * alpha + (1 - alpha) * set * shadow)      clean plate = grain(set)

The truth is exact by construction: alpha is measured coverage over the open shutter, foreground
the straight colour with it, and both went through the same lens as the plate.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mattebridge.errors import OutputExistsError, UsageError
from mattebridge.image_io import Encoding, write_frame
from mattebridge.whole_files import replace_file
from mattebridge_sample import room, screen, shadow, subject
from mattebridge_sample.arrays import Array, vec
from mattebridge_sample.grid import Coarse
from mattebridge_sample.optics import Camera, add_grain

__all__ = ["SampleFrame", "SampleShot", "render_frames", "render_shot"]


DEFAULT_SEED = 1
# Enough to look like hair at 540 lines.
STRANDS = 7000
# Rows and columns around the frame that a drifting clean plate may reach into, at 960x540.
MARGIN_PX = 16
# A still clean plate is the mean of this many exposures, as one would shoot it.
CLEAN_EXPOSURES = 8
# The lens and the sensor's filter soften everything a little.
SOFTNESS_PX = 0.45
# Below this coverage the straight colour means nothing and is written as 0.
LEAST_ALPHA = 1 / 1024
SMALLEST = (64, 36)
# Frames at a time; each takes some 300 MB while it is made.
THREADS = min(4, os.cpu_count() or 1)
DESCRIPTION = "mattebridge sample shot"


@dataclass(frozen=True)
class SampleShot:
    """The files of a rendered shot: patterns with #### for the frame number, or a single file."""

    directory: Path
    plate: Path
    clean_plate: Path
    alpha: Path
    foreground: Path
    frames: tuple[int, ...]
    width: int
    height: int
    drift: bool

    def file(self, role: str, frame: int) -> Path:
        """The file of `role` ("plate", "clean_plate", "alpha", "foreground") for a frame."""
        pattern: Path = getattr(self, role)
        return pattern.with_name(pattern.name.replace("####", f"{frame:04d}"))


@dataclass(frozen=True)
class SampleFrame:
    """One frame in memory: scene-linear float32, top row first.

    plate, clean_plate: (H, W, 3) with grain. alpha: (H, W, 1), coverage 0..1. foreground:
    (H, W, 3), straight. behind: (H, W, 3), the set with her shadows in it and without grain:
    what is really behind the subject.
    """

    frame: int
    plate: Array
    clean_plate: Array
    alpha: Array
    foreground: Array
    behind: Array


def render_shot(
    directory: str | os.PathLike[str],
    *,
    frames: int = 24,
    first_frame: int = 1001,
    width: int = 960,
    height: int = 540,
    seed: int = DEFAULT_SEED,
    drift: bool = False,
    screen: str | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> SampleShot:
    """Render the sample shot into a folder, as half EXR; the files that were written.

    `directory` gets plate/, clean_plate/, truth/alpha/, truth/foreground/ and shot.json. The clean
    plate is one still; with `drift` one a frame, as if filmed hand-held a little later: shifted by
    up to 3 pixels, slightly turned, and with another exposure. `on_frame(done, total)` is called
    after each frame. screen: green or blue, an uneven screen in place of the set; the plate then
    has its light on the subject, and the true foreground has not. An earlier sample shot in the
    folder is replaced; other frames in its place raise `OutputExistsError`. Impossible sizes or
    counts raise `UsageError`.
    """
    _check(frames, first_frame, width, height)
    shot = _layout(Path(directory), frames, first_frame, width, height, drift)
    _prepare_folders(shot)
    _describe(shot, seed, screen, complete=False)
    pictures = render_frames(
        frames=frames,
        first_frame=first_frame,
        width=width,
        height=height,
        seed=seed,
        drift=drift,
        screen=screen,
    )
    for done, picture in enumerate(pictures, 1):
        if drift or done == 1:
            _write(shot.file("clean_plate", picture.frame), picture.clean_plate)
        _write(shot.file("plate", picture.frame), picture.plate)
        _write(shot.file("alpha", picture.frame), picture.alpha)
        _write(shot.file("foreground", picture.frame), picture.foreground)
        if on_frame is not None:
            on_frame(done, frames)
    _describe(shot, seed, screen, complete=True)
    return shot


def render_frames(
    *,
    frames: int = 24,
    first_frame: int = 1001,
    width: int = 960,
    height: int = 540,
    seed: int = DEFAULT_SEED,
    drift: bool = False,
    screen: str | None = None,
) -> Iterator[SampleFrame]:
    """The frames of the sample shot one after the other, in memory; arguments as `render_shot`."""
    _check(frames, first_frame, width, height)
    stage = _Stage.build(Camera(width, height), seed, drift, screen)
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [
            pool.submit(stage.frame, first_frame, index)
            for index in range(min(frames, THREADS + 1))
        ]
        for index in range(frames):
            picture = waiting.pop(0).result()
            ahead = index + THREADS + 1
            if ahead < frames:
                waiting.append(pool.submit(stage.frame, first_frame, ahead))
            yield picture


@dataclass(frozen=True)
class _Stage:
    """The lit set and the modelled subject: all that the frames share."""

    camera: Camera
    seed: int
    drift: bool
    set_: room.Room
    grid: Coarse
    cast: subject.Cast
    wall: Array | None
    still: Array

    @classmethod
    def build(cls, camera: Camera, seed: int, drift: bool, colour: str | None) -> _Stage:
        scale = camera.height / 540
        margin = max(round(MARGIN_PX * scale), 2)
        strands = int(np.clip(STRANDS * scale, 900, 2 * STRANDS))
        with ThreadPoolExecutor(1) as beside:
            waiting = beside.submit(subject.make_cast, seed, strands)
            set_, grid = room.build(camera, seed, margin)
            cast = waiting.result()
        wall = None if colour is None else screen.make_wall(camera, margin, colour)
        clean = _inside(_soften(set_.image if wall is None else wall), margin)
        rng = np.random.default_rng([seed, 5])
        still = vec(np.mean([add_grain(clean, rng) for _ in range(CLEAN_EXPOSURES)], 0))
        return cls(camera, seed, drift, set_, grid, cast, wall, still)

    def frame(self, first_frame: int, index: int) -> SampleFrame:
        """One frame; depends on nothing but its index, so frames may be made in any order."""
        shown = subject.expose(self.camera, self.cast, index / subject.FPS)
        behind = _inside(_soften(self._lit_set(shown)), self.set_.margin)
        rgba = np.zeros((self.camera.height, self.camera.width, 4), np.float32)
        rgba[shown.window.slices] = shown.rgba
        rgba = _soften(rgba)
        alpha = np.clip(rgba[..., 3:], 0, 1)
        alpha = np.where(alpha < LEAST_ALPHA, 0, alpha)
        foreground = np.where(alpha > 0, rgba[..., :3] / np.maximum(alpha, LEAST_ALPHA), 0)
        # Mixed from the values that are written, so that the truth gives the plate to the last bit.
        alpha, foreground = _as_half(alpha), _as_half(foreground)
        seen = foreground if self.wall is None else screen.with_spill(foreground, alpha, behind)
        plate = seen * alpha + (1 - alpha) * behind
        plate = add_grain(plate, np.random.default_rng([self.seed, 6, index]))
        clean = self._drifted(index) if self.drift else self.still
        return SampleFrame(first_frame + index, plate, clean, alpha, foreground, behind)

    def _lit_set(self, shown: subject.Exposure) -> Array:
        """The set with her shadows in it; a screen hangs too far behind her to have any."""
        if self.wall is not None:
            return self.wall
        left = shadow.share_left(self.camera, self.set_, self.grid, shown.lighting)
        return np.asarray(self.set_.image * left, np.float32)

    def _drifted(self, index: int) -> Array:
        """The clean plate filmed by hand, later: moved, turned and exposed a little differently."""
        t = index / subject.FPS
        scale = self.camera.height / 540
        x = scale * (1.3 + 1.1 * np.sin(2.1 * t + 0.4) + 0.35 * np.sin(7.3 * t + 1.0))
        y = scale * (-0.7 + 0.8 * np.sin(1.7 * t + 2.0) + 0.30 * np.sin(8.1 * t))
        angle = 0.0010 * np.sin(1.3 * t + 0.7)
        zoom = 1 + 0.0012 * np.sin(0.9 * t + 0.3)
        image = _soften(self.set_.image if self.wall is None else self.wall)
        height, width = image.shape[:2]
        c, s = zoom * np.cos(angle), zoom * np.sin(angle)
        cx, cy = (width - 1) / 2, (height - 1) / 2
        matrix = np.array([[c, -s, cx - c * cx + s * cy + x], [s, c, cy - s * cx - c * cy + y]])
        moved = cv2.warpAffine(
            image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        gain = (1.035 + 0.025 * np.sin(1.9 * t)) * np.array([1.010, 1.0, 0.985])
        exposed = _inside(np.maximum(moved, 0), self.set_.margin) * gain.astype(np.float32)
        return add_grain(exposed, np.random.default_rng([self.seed, 7, index]))


def _soften(image: Array) -> Array:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), SOFTNESS_PX), np.float32)


def _inside(image: Array, margin: int) -> Array:
    return np.ascontiguousarray(image[margin:-margin, margin:-margin])


def _as_half(values: Array) -> Array:
    return np.asarray(values, np.float16).astype(np.float32)


def _check(frames: int, first_frame: int, width: int, height: int) -> None:
    if frames < 1 or first_frame < 0:
        raise UsageError(
            f"a sample shot needs at least one frame and numbers from 0; got {frames} frames from "
            f"{first_frame}"
        )
    if width < SMALLEST[0] or height < SMALLEST[1] or width * height > 4096 * 4096:
        raise UsageError(
            f"the sample shot can be {SMALLEST[0]}x{SMALLEST[1]} to 4096x4096 pixels; got "
            f"{width}x{height}"
        )


def _layout(
    directory: Path, frames: int, first_frame: int, width: int, height: int, drift: bool
) -> SampleShot:
    clean = "clean_plate.####.exr" if drift else "clean_plate.exr"
    return SampleShot(
        directory=directory,
        plate=directory / "plate" / "plate.####.exr",
        clean_plate=directory / "clean_plate" / clean,
        alpha=directory / "truth" / "alpha" / "alpha.####.exr",
        foreground=directory / "truth" / "foreground" / "foreground.####.exr",
        frames=tuple(range(first_frame, first_frame + frames)),
        width=width,
        height=height,
        drift=drift,
    )


_FRAME = re.compile(r"(plate|clean_plate|alpha|foreground)(\.\d+)?\.exr")


def _prepare_folders(shot: SampleShot) -> None:
    """Make the folders, and remove the frames of an earlier sample shot, but no others."""
    folders = [
        shot.plate.parent,
        shot.clean_plate.parent,
        shot.alpha.parent,
        shot.foreground.parent,
    ]
    old = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.exr"))]
    description = shot.directory / "shot.json"
    ours = _is_ours(description)
    others = [path for path in old if not ours or not _FRAME.fullmatch(path.name)]
    if others:
        raise OutputExistsError(
            f"{others[0]} is no frame of a sample shot; move it away or choose another folder"
        )
    if description.exists() and not ours:
        raise OutputExistsError(
            f"{description} describes another shot; move it away or choose another folder"
        )
    for path in old:
        path.unlink()
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


def _is_ours(path: Path) -> bool:
    try:
        described: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and described.get("what") == DESCRIPTION


def _write(path: Path, pixels: Array) -> None:
    write_frame(path, pixels.astype(np.float16), Encoding(colorspace="linear", alpha="opaque"))


def _describe(shot: SampleShot, seed: int, screen: str | None, *, complete: bool) -> None:
    """Write shot.json; complete: whether all frames are written."""

    def inside(path: Path) -> str:
        return path.relative_to(shot.directory).as_posix()

    described = {
        "what": DESCRIPTION,
        "picture": "A woman waves toward the window of a loft; all of it is rendered.",
        "complete": complete,
        "frames": [shot.frames[0], shot.frames[-1]],
        "fps": subject.FPS,
        "width": shot.width,
        "height": shot.height,
        "colorspace": "scene-linear, Rec.709 primaries",
        "seed": seed,
        "drift": shot.drift,
        "screen": screen,
        "shutter": subject.SHUTTER,
        "focal_px": round(Camera(shot.width, shot.height).focal_px, 2),
        "plate": inside(shot.plate),
        "clean_plate": inside(shot.clean_plate),
        "truth": {"alpha": inside(shot.alpha), "foreground": inside(shot.foreground)},
    }
    text = json.dumps(described, indent=2) + "\n"
    replace_file(shot.directory / "shot.json", text.encode())
