"""How good a model is on frames whose truth is known: a folder of them in, figures by kind out.

    folder --find_set--> TrueFrame (files) --judge--> Judged (figures) --figures_table--> text

A set is a folder in one of two forms, in any file type that frames are read from:

    NAME_plate.png  NAME_clean.png  NAME_alpha.png  [NAME_foreground.png]  [NAME_hint.png]
    plate/NAME.exr  clean_plate/NAME.exr  alpha/NAME.exr  [foreground/...]  [alpha_hint/...]

`clean_plate` for `clean`, `fg` for `foreground` and `alpha_hint` for `hint` are understood, folders
may lie in `truth/`, and a single clean plate serves all frames. The kind of a frame is the first
part of its name without digits: `shadow` of `08_shadow_hall` and of `shadow_03_linear`. Names that
are numbers are the frames of one shot. Frames go through the engine, alignment and all, in the
colour space of their files: light where they are EXR, display-encoded where they are PNG.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from mattebridge import color
from mattebridge.color import FloatImage
from mattebridge.engine.engine import Engine
from mattebridge.errors import InputsError, UsageError
from mattebridge.evaluate.metrics import Figures, mean_figures, measure
from mattebridge.image_io import EXTENSIONS, read_frame, read_matte
from mattebridge.wire.params import RenderParams

# What a role is called in names and folders; the first is how errors call it.
ROLES: Mapping[str, tuple[str, ...]] = {
    "plate": ("plate",),
    "clean_plate": ("clean_plate", "clean"),
    "alpha": ("alpha",),
    "foreground": ("foreground", "fg"),
    "alpha_hint": ("alpha_hint", "hint"),
}
NEEDED = ("plate", "clean_plate", "alpha")
# Kinds in which no model can be expected to see everything are left out of a second mean.
APART = "similar"
SHOT = "shot"
COLUMNS = (
    ("MAD e-3", "mad"),
    ("SAD", "sad"),
    ("MSE e-3", "mse"),
    ("Grad", "gradient"),
    ("Conn", "connectivity"),
    ("fg MSE e-3", "foreground"),
    ("unknown e-3", "band"),
)
# A pixel stands still where its true alpha changes by less than this from one frame to the next.
STILL = 1 / 255

Files = dict[str, dict[str, Path]]


@dataclass(frozen=True)
class TrueFrame:
    """One frame of a set: its name, its kind, and a file for each role that is there."""

    name: str
    kind: str
    files: Mapping[str, Path]


@dataclass(frozen=True)
class Pictures:
    """A frame in memory, float32, top row first.

    plate, clean_plate: (H, W, 3) in `colorspace`. alpha, alpha_hint: (H, W, 1). foreground:
    (H, W, 3) straight, display-encoded 0..1.
    """

    colorspace: str
    plate: FloatImage
    clean_plate: FloatImage
    alpha: FloatImage
    foreground: Optional[FloatImage]
    alpha_hint: Optional[FloatImage]


@dataclass(frozen=True)
class Matte:
    """What a model made of a frame: alpha (H, W, 1), foreground (H, W, 3) display-encoded."""

    alpha: FloatImage
    foreground: FloatImage


@dataclass(frozen=True)
class Judged:
    """One frame's figures. change: of alpha since the frame before, where the truth stood still,
    e-3; None for the first frame, and where frames are no shot."""

    frame: TrueFrame
    figures: Figures
    change: Optional[float] = None


# --- finding a set --------------------------------------------------------------------------------


def find_set(folder: Path) -> list[TrueFrame]:
    """The frames of a set by name, numbers in order. Raises `UsageError` with what is lacking."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; --set takes a folder of frames with truth")
    files = _in_folders(folder) or _by_suffix(folder)
    names = sorted(files.get("plate", {}), key=_order)
    if not names:
        raise UsageError(
            f"{folder} holds no set: NAME_plate, NAME_clean and NAME_alpha beside each other, or "
            "folders plate, clean_plate and alpha"
        )
    return [TrueFrame(name, _kind(name), _files_of(folder, files, name)) for name in names]


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
    """role/NAME.ext; a role that also stands before the name, as in plate/plate.1001.exr, goes."""
    found: Files = {}
    for role, spelled in ROLES.items():
        for place in (folder / top / word for top in ("", "truth") for word in spelled):
            for path in _pictures(place):
                name = re.sub(rf"^({'|'.join(spelled)})([._-]|$)", "", path.stem)
                found.setdefault(role, {}).setdefault(name, path)
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


def _files_of(folder: Path, files: Files, name: str) -> dict[str, Path]:
    found = {role: paths[name] for role, paths in files.items() if name in paths}
    cleans = files.get("clean_plate", {})
    if "clean_plate" not in found and len(cleans) == 1:
        found["clean_plate"] = next(iter(cleans.values()))
    for role in NEEDED:
        if role not in found:
            raise UsageError(f"frame '{name}' of {folder} has no {role.replace('_', ' ')}")
    return found


# --- one frame ------------------------------------------------------------------------------------


def read(frame: TrueFrame) -> Pictures:
    """Everything of a frame. Raises `FrameReadError`, `InputsError` for files that do not fit."""
    plate, space = _colours(frame.files["plate"])
    clean_plate, clean_space = _colours(frame.files["clean_plate"])
    foreground = None
    if "foreground" in frame.files:
        pixels, its_space = _colours(frame.files["foreground"])
        foreground = np.clip(_in_space(pixels, its_space, "srgb"), 0, 1)
    made = Pictures(
        colorspace=space,
        plate=plate,
        clean_plate=_in_space(clean_plate, clean_space, space),
        alpha=_matte(frame.files["alpha"]),
        foreground=foreground,
        alpha_hint=_matte(frame.files["alpha_hint"]) if "alpha_hint" in frame.files else None,
    )
    for role in ("clean_plate", "alpha", "foreground", "alpha_hint"):
        values = getattr(made, role)
        if values is not None and values.shape[:2] != plate.shape[:2]:
            raise InputsError(
                f"frame '{frame.name}': the plate is {plate.shape[1]}x{plate.shape[0]} and the "
                f"{role.replace('_', ' ')} {values.shape[1]}x{values.shape[0]}",
                field=role,
            )
    return made


def _colours(path: Path) -> tuple[FloatImage, str]:
    frame = read_frame(path)
    space = "linear" if frame.colorspace == "linear" else "srgb"
    pixels = color.to_float(frame.pixels)
    return (pixels[..., :3] if pixels.shape[2] > 1 else pixels.repeat(3, 2)), space


def _in_space(pixels: FloatImage, space: str, wanted: str) -> FloatImage:
    if space == wanted:
        return pixels
    return color.srgb_encode(pixels) if wanted == "srgb" else color.srgb_decode(pixels)


def _matte(path: Path) -> FloatImage:
    return color.to_float(read_matte(path))


def matte(engine: Engine, model: str, pictures: Pictures) -> Matte:
    """The frame as a user's request would have it matted."""
    planes: dict[str, Any] = {
        "plate": np.ascontiguousarray(pictures.plate),
        "clean_plate": np.ascontiguousarray(pictures.clean_plate),
    }
    if pictures.alpha_hint is not None:
        planes["alpha_hint"] = pictures.alpha_hint
    size = pictures.plate.shape[:2]
    out = {
        "alpha": np.empty((*size, 1), np.float32),
        "foreground": np.empty((*size, 3), np.float32),
    }
    params = RenderParams(colorspace=pictures.colorspace, output_colorspace="srgb")
    engine.matte(planes, params, model=model, out=out)
    return Matte(out["alpha"], np.clip(out["foreground"], 0, 1))


def judge(frame: TrueFrame, made: Matte, truth: Pictures) -> Judged:
    """The figures of one frame."""
    figures = measure(made.alpha, truth.alpha, made.foreground, truth.foreground)
    return Judged(frame, figures)


def change_where_still(
    alpha: FloatImage, before: FloatImage, truth: FloatImage, truth_before: FloatImage
) -> Optional[float]:
    """Mean change of alpha, e-3, where the true one stands still; None where it nowhere does."""
    still: NDArray[np.bool_] = np.abs(truth - truth_before) < STILL
    if not still.any():
        return None
    return float(np.abs(alpha - before)[still].mean(dtype=np.float64) * 1e3)


# --- the table ------------------------------------------------------------------------------------


def groups(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """By kind in the order of the set, then all, and all without the kind that is read apart."""
    by_kind: dict[str, list[Judged]] = {}
    for one in judged:
        by_kind.setdefault(one.frame.kind, []).append(one)
    if len(by_kind) > 1:
        rest = [one for one in judged if one.frame.kind != APART]
        by_kind["all"] = list(judged)
        if APART in by_kind and rest:
            by_kind[f"all but {APART}"] = rest
    return by_kind


def mean_of(group: Sequence[Judged]) -> Figures:
    return mean_figures([one.figures for one in group])


def mean_change(judged: Sequence[Judged]) -> Optional[float]:
    """Mean change of alpha from frame to frame where nothing moves, e-3; None without a shot."""
    changes = [one.change for one in judged if one.change is not None]
    return float(np.mean(changes)) if changes else None


def figures_table(model: str, judged: Sequence[Judged]) -> str:
    """The figures of one model as lines of text, kinds below each other."""
    lines = [model[:21].ljust(22) + "".join(title.rjust(12) for title, _ in COLUMNS)]
    for name, group in groups(judged).items():
        figures = mean_of(group).as_dict()
        cells = ("-" if figures[key] is None else f"{figures[key]:.3f}" for _, key in COLUMNS)
        lines.append(f"{name} ({len(group)})".ljust(22) + "".join(cell.rjust(12) for cell in cells))
    change = mean_change(judged)
    if change is not None:
        lines.append(f"alpha changes by {change:.2f}e-3 from frame to frame where nothing moves")
    return "\n".join(lines)
