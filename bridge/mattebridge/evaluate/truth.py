"""Frames whose true alpha is known, on disk: finding a set of them, and reading one.

A set is a folder in one of two forms, in any file type that frames are read from:

    NAME_plate.png  NAME_clean.png  NAME_alpha.png  [NAME_foreground.png]  [NAME_hint.png]
    plate/NAME.exr  clean_plate/NAME.exr  alpha/NAME.exr  [foreground/...]  [alpha_hint/...]

`clean` and `clean_plate`, `fg` and `foreground`, `hint` and `alpha_hint` mean the same, the folders
may be in a folder `truth/`, and a single clean plate is used for all frames; beside folders it may
also be a file, `clean.png`. The kind of a frame is the first part of its name without digits:
`shadow` of `08_shadow_hall` and of `shadow_03_linear`. Names that are numbers are the frames of one
shot.

A file `boxes.json` in the set's folder names areas whose alpha is certain, for frames without a
true alpha:

    [{"name": NAME, "sure_bg": [[x0, y0, x1, y1], ...], "sure_fg": [...]}, ...]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from mattebridge import color
from mattebridge.color import FloatImage
from mattebridge.errors import InputsError, UsageError
from mattebridge.evaluate.metrics import Box
from mattebridge.image_io import EXTENSIONS, read_frame, read_matte
from mattebridge.ocio.space import Spaces
from mattebridge.wire.params import role_in_words

# The names of a role in files and folders; the first is the one in messages.
ROLES: Mapping[str, tuple[str, ...]] = {
    "plate": ("plate",),
    "clean_plate": ("clean_plate", "clean"),
    "alpha": ("alpha",),
    "foreground": ("foreground", "fg"),
    "alpha_hint": ("alpha_hint", "hint"),
}
NEEDED = ("plate", "clean_plate", "alpha")
SHOT = "shot"
BOXES = "boxes.json"

Files = dict[str, dict[str, Path]]


_SPACES = Spaces()


@dataclass(frozen=True)
class Boxes:
    """Areas of a frame that certainly show the set, and that certainly show the subject, only."""

    of_set: tuple[Box, ...]
    of_subject: tuple[Box, ...]


@dataclass(frozen=True)
class TrueFrame:
    """One frame of a set: its name, its kind, a file for each role that is there, its boxes."""

    name: str
    kind: str
    files: Mapping[str, Path]
    boxes: Optional[Boxes] = None


@dataclass(frozen=True)
class LoadedFrame:
    """A frame of a set in memory, float32, top row first.

    plate, clean_plate: (H, W, 3) in `colorspace`. alpha, alpha_hint: (H, W, 1). foreground:
    (H, W, 3) straight, display-encoded 0..1. alpha may be missing only in frames with boxes.
    """

    colorspace: str
    plate: FloatImage
    clean_plate: FloatImage
    alpha: Optional[FloatImage]
    foreground: Optional[FloatImage]
    alpha_hint: Optional[FloatImage]


def find_set(folder: Path) -> list[TrueFrame]:
    """The frames of a set by name, numbers in order. Raises `UsageError` for one without truth."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; --set takes a folder of frames with truth")
    files = _in_folders(folder) or _by_suffix(folder)
    names = sorted(files.get("plate", {}), key=_order)
    if not names:
        raise UsageError(
            f"{folder} holds no set: NAME_plate, NAME_clean and NAME_alpha beside each other, or "
            "folders plate, clean_plate and alpha"
        )
    boxes = _boxes(folder / BOXES)
    return [
        TrueFrame(name, _kind(name), _files_of(folder, files, name, name in boxes), boxes.get(name))
        for name in names
    ]


def _boxes(path: Path) -> dict[str, Boxes]:
    """The boxes of each frame by its name; none without the file."""
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {
            row["name"]: Boxes(*(_corners(row.get(key, [])) for key in ("sure_bg", "sure_fg")))
            for row in rows
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{path} is not a list of objects with 'name', 'sure_bg' and 'sure_fg', lists of "
            f"[x0, y0, x1, y1] ({error!r:.80})"
        ) from error


def _corners(boxes: Any) -> tuple[Box, ...]:
    made = []
    for box in boxes:
        left, top, right, bottom = (int(value) for value in box)
        if not (0 <= left < right and 0 <= top < bottom):
            raise ValueError(f"the box {box} has no area")
        made.append((left, top, right, bottom))
    return tuple(made)


def _by_suffix(folder: Path) -> Files:
    """NAME_role.ext in the folder itself."""
    words = {word: role for role, spelled in ROLES.items() for word in spelled}
    longest_first = sorted(words, key=len, reverse=True)
    found: Files = {}
    for path in _pictures(folder):
        for word in longest_first:
            if path.stem.endswith(f"_{word}"):
                name = path.stem[: -len(word) - 1]
                found.setdefault(words[word], {})[name] = path
                break
    return found


def _in_folders(folder: Path) -> Files:
    """role/NAME.ext; of role/role.NAME.ext, such as plate/plate.1001.exr, without the role."""
    found: Files = {}
    for role, spelled in ROLES.items():
        for place in (folder / top / word for top in ("", "truth") for word in spelled):
            for path in _pictures(place):
                name = re.sub(rf"^({'|'.join(spelled)})([._-]|$)", "", path.stem)
                found.setdefault(role, {}).setdefault(name, path)
    still = [path for path in _pictures(folder) if path.stem in ROLES["clean_plate"]]
    if still:
        found.setdefault("clean_plate", {"": still[0]})
    return found if "plate" in found else {}


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)


def _order(name: str) -> tuple[int, str]:
    return (int(name), name) if name.isdecimal() else (-1, name)


def _kind(name: str) -> str:
    if name.isdecimal():
        return SHOT
    words = re.split(r"[._ -]+", name)
    return next((word for word in words if word and not re.search(r"\d", word)), "all")


def _files_of(folder: Path, files: Files, name: str, has_boxes: bool) -> dict[str, Path]:
    found = {role: paths[name] for role, paths in files.items() if name in paths}
    cleans = files.get("clean_plate", {})
    if "clean_plate" not in found and len(cleans) == 1:
        found["clean_plate"] = next(iter(cleans.values()))
    for role in NEEDED:
        if role not in found and not (role == "alpha" and has_boxes):
            raise UsageError(f"frame '{name}' of {folder} has no {role_in_words(role)}")
    return found


def read(frame: TrueFrame) -> LoadedFrame:
    """Read the files of a frame. Raises `FrameReadError`, and `InputsError` for another size."""
    plate, space = _colours(frame.files["plate"])
    clean_plate, clean_space = _colours(frame.files["clean_plate"])
    foreground = None
    if "foreground" in frame.files:
        pixels, its_space = _colours(frame.files["foreground"])
        foreground = np.clip(color.converted(pixels, its_space, "srgb"), 0, 1)
    loaded = LoadedFrame(
        colorspace=space,
        plate=plate,
        clean_plate=color.converted(clean_plate, clean_space, space),
        alpha=_matte(frame.files["alpha"]) if "alpha" in frame.files else None,
        foreground=foreground,
        alpha_hint=_matte(frame.files["alpha_hint"]) if "alpha_hint" in frame.files else None,
    )
    for role in ("clean_plate", "alpha", "foreground", "alpha_hint"):
        values = getattr(loaded, role)
        if values is not None and values.shape[:2] != plate.shape[:2]:
            raise InputsError(
                f"frame '{frame.name}': the plate is {plate.shape[1]}x{plate.shape[0]} and the "
                f"{role_in_words(role)} {values.shape[1]}x{values.shape[0]}",
                field=role,
            )
    _check_boxes(frame, plate.shape)
    return loaded


def _check_boxes(frame: TrueFrame, shape: tuple[int, ...]) -> None:
    """Raises `UsageError` for a box that is not inside the plate."""
    if frame.boxes is None:
        return
    for box in (*frame.boxes.of_set, *frame.boxes.of_subject):
        if box[2] > shape[1] or box[3] > shape[0]:
            raise UsageError(
                f"frame '{frame.name}': the box {list(box)} of {BOXES} is not inside the plate of "
                f"{shape[1]}x{shape[0]}"
            )


def _colours(path: Path) -> tuple[FloatImage, str]:
    """RGB, and whether it is `linear` or `srgb`; a file that names no space is display-encoded.

    Those of another space are converted to linear light.
    """
    frame = read_frame(path)
    if frame.colorspace in ("linear", "srgb", "unknown"):
        space = "linear" if frame.colorspace == "linear" else "srgb"
        return color.to_float(frame.rgb), space
    return color.to_float(_SPACES.converted(frame.rgb, frame.colorspace, "linear")), "linear"


def _matte(path: Path) -> FloatImage:
    return color.to_float(read_matte(path))
