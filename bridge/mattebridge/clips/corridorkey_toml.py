"""A `corridorkey.toml` as options of `mattebridge clips`.

    [preprocess] img_size = 1024  --> PreprocessConfig ... --> settings of the model
    [postprocess] edge_blur_px = 0 -> PostprocessConfig -----> clean-up
    [writer] fg_format = "png" -----> WriteConfig -----------> outputs and formats
    device, checkpoint_path, [logging], anything else -------> listed, with where it belongs

The configurations check the values; a key that is not in the file changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mattebridge.clips.configs import (
    InferenceConfig,
    PostprocessConfig,
    PreprocessConfig,
    WriteConfig,
)
from mattebridge.clips.requests import settings_of, written_of
from mattebridge.errors import ArgumentError, UsageError
from mattebridge.models.greenformer.card import SETTINGS
from mattebridge.shot.outputs import LOSSY_CODECS
from mattebridge.wire.params import CLEAN_UP_NAMES

# What is known and has its place elsewhere.
ELSEWHERE = {
    "device": "the daemon's: `mattebridge serve --devices`",
    "inference.checkpoint_path": "add the file with `mattebridge models add`, and name it: --model",
    "inference.backend": "torch is what computes here",
    "logging": "the daemon's log is in its runtime folder",
}
_OWN = ("device", "checkpoint_path", "backend", "model", "screen", "hint_source", "settings")


@dataclass(frozen=True)
class Imported:
    """What a file says, as options of the command by their names in Python.

    settings: of the model, by name. left_out: the keys that say nothing here, each with why.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def import_config(path: Path) -> Imported:
    """Read a file; `UsageError` for one that is not TOML or has a value that is not allowed."""
    found = _parsed(path)
    kept: dict[str, dict[str, Any]] = {}
    left_out = []
    for name, value in found.items():
        known = _KNOWN.get(name)
        if known is None or not isinstance(value, dict):
            left_out.append(_why(name))
            continue
        kept[name] = {key: each for key, each in value.items() if key in known}
        left_out += [_why(f"{name}.{key}") for key in value if key not in known]
    writer = kept.get("writer", {})
    codec = writer.get("exr_compression")
    if codec in LOSSY_CODECS and writer.get("alpha_enabled", True):
        left_out.append(f"writer.exr_compression {codec} for alpha, which is written lossless")
    try:
        return Imported(*_mapped(kept), tuple(sorted(left_out)))
    except ArgumentError as wrong:
        raise UsageError(f"{path}: {wrong.message}") from wrong


def _parsed(path: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError as missing:
        raise UsageError("--import-config needs Python 3.11 or later") from missing
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as failure:
        raise UsageError(f"{path} cannot be read ({failure.strerror})") from failure
    except ValueError as failure:
        raise UsageError(f"{path} is not TOML: {failure}") from failure


def _names(config: type[Any], *without: str) -> frozenset[str]:
    return frozenset(each.name for each in fields(config)) - set(without)


_KNOWN = {
    "preprocess": _names(PreprocessConfig, "device"),
    "inference": _names(InferenceConfig, "img_size", *_OWN),
    "postprocess": _names(PostprocessConfig, "debug_dump"),
    "writer": _names(WriteConfig, "output_dir", "comp_format"),
}


def _why(key: str) -> str:
    return f"{key} ({ELSEWHERE[key]})" if key in ELSEWHERE else key


def _mapped(kept: Mapping[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    before, behind = kept.get("preprocess", {}), kept.get("postprocess", {})
    # There, 0 is the default of the file: by the device's memory.
    size = before.get("img_size", 0)
    preprocess = PreprocessConfig(**{**before, "img_size": size})
    inference = InferenceConfig(**kept.get("inference", {}), img_size=size)
    postprocess = PostprocessConfig(**behind)
    settings = settings_of(preprocess, inference, postprocess)
    changed = {name: v for name, v in settings.items() if v != SETTINGS[name].default}
    if str(postprocess.alpha_upsample_mode) == str(postprocess.fg_upsample_mode):
        changed.pop("alpha_upsample_mode", None)
    options = {name: getattr(postprocess, name) for name in CLEAN_UP_NAMES if name in behind}
    if not preprocess.source_passthrough:
        options["source_passthrough"] = False
    if "checkerboard_size" in behind:
        options["background"] = f"checker:{postprocess.checkerboard_size}"
    if kept.get("writer"):
        options |= _written(kept["writer"])
    return options, changed


def _written(writer: Mapping[str, Any]) -> dict[str, str]:
    """Outputs and formats; a lossy codec, which the published page has as its default, is for the
    colours alone."""
    codec = writer.get("exr_compression")
    if codec not in LOSSY_CODECS:
        written = written_of(WriteConfig(Path(), **writer))
        return {"outputs": ",".join(written.outputs), "format": written.formats}
    written = written_of(WriteConfig(Path(), **{**writer, "exr_compression": "zip"}))
    forms = dict(each.split("=") for each in written.formats.split(","))
    lossy = [name for name, form in forms.items() if name != "alpha" and form.startswith("exr")]
    forms |= {name: f"{forms[name]}-{codec}" for name in lossy}
    formats = ",".join(f"{name}={form}" for name, form in forms.items())
    return {"outputs": ",".join(written.outputs), "format": formats}
