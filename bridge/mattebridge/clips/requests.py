"""What the configurations mean: parameters and settings of a request, formats of the files.

    PreprocessConfig, InferenceConfig --settings_of--> the model's settings
    PostprocessConfig ----------------clean_up_of----> render parameters
    WriteConfig ----------------------written_of-----> outputs and their formats

The stage functions and the runners both ask here, and so give the same pixels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mattebridge.clips.configs import (
    AUTO,
    SENT,
    BackendChoice,
    ExrType,
    ImageFormat,
    InferenceConfig,
    PostprocessConfig,
    PreprocessConfig,
    WriteConfig,
)
from mattebridge.clips.errors import ArgumentError
from mattebridge.errors import ModelError
from mattebridge.wire.params import CLEAN_UP_NAMES

# The configuration's switch and format of each output, by the output's name.
OUTPUT_FIELDS = {"alpha": "alpha", "foreground": "fg", "premultiplied": "processed", "comp": "comp"}
PNG_OF = {"premultiplied": "png16"}
# The variable that scripts of the published pipeline set, over `InferenceConfig.backend`.
BACKEND_VARIABLE = "CORRIDORKEY_BACKEND"
HALF = "float16"
OFF = "off"


@dataclass(frozen=True)
class Written:
    """The outputs that are written, and their formats as text of `mattebridge matte --format`."""

    outputs: tuple[str, ...]
    formats: str


def settings_of_preprocess(config: PreprocessConfig) -> dict[str, Any]:
    """Settings of the plate + hint model that decide its input."""
    return {
        "img_size": config.img_size,
        "image_upsample_mode": str(config.image_upsample_mode),
        "sharpen_strength": float(config.sharpen_strength),
        **_hint_source(config.hint_source),
    }


def _hint_source(source: str) -> dict[str, str]:
    """The setting of a source of hints; a hint that is sent is what `auto` takes."""
    return {} if source == SENT else {"hint_source": source}


def settings_of_inference(
    config: InferenceConfig, *, resolved: str | None = None, half: bool = False
) -> dict[str, Any]:
    """Settings of the plate + hint model that decide how it computes.

    resolved: stands in for the refiner's mode. half: as `PreprocessConfig.half_precision`.
    Raises `ModelError` for a backend that is not available, `ArgumentError` for two precisions.
    """
    _refuse_backend(config)
    if half and config.precision not in (AUTO, HALF):
        raise ArgumentError(
            f"PreprocessConfig has half_precision, which is {HALF}, and InferenceConfig asks for"
            f" {config.precision}: leave one of them out"
        )
    refiner = resolved or str(config.refiner_mode)
    return {
        "refiner": refiner if config.use_refiner else OFF,
        "refiner_scale": float(config.refiner_scale),
        "precision": HALF if half else config.precision,
        **_hint_source(config.hint_source),
    }


def _refuse_backend(config: InferenceConfig) -> None:
    """Raise `ModelError` where the backend is not torch, which is what computes here."""
    forced = os.environ.get(BACKEND_VARIABLE, "").strip().lower()
    backend = forced or str(config.backend)
    if backend in (BackendChoice.AUTO, BackendChoice.TORCH):
        return
    where = BACKEND_VARIABLE if forced else "InferenceConfig.backend"
    raise ModelError(
        f"the backend '{backend[:40]}' of {where} is not available here; use 'torch', which also"
        " runs on Apple GPUs (device mps), or 'auto'",
        reason="backend",
    )


def makes_hints(preprocess: PreprocessConfig, inference: InferenceConfig) -> bool:
    """Whether a frame without a hint gets one that is made of it."""
    named = {preprocess.hint_source, inference.hint_source} - {SENT}
    return bool(named) or "hint_source" in inference.settings


def settings_of_result(config: PostprocessConfig) -> dict[str, Any]:
    """Settings of the plate + hint model that decide how its result becomes the frame."""
    return {
        "result_upsample_mode": str(config.fg_upsample_mode),
        "alpha_upsample_mode": str(config.alpha_upsample_mode),
    }


def settings_of(
    preprocess: PreprocessConfig,
    inference: InferenceConfig,
    postprocess: PostprocessConfig,
    *,
    resolved: str | None = None,
) -> dict[str, Any]:
    """All settings of the plate + hint model; `ArgumentError` for two sizes of its square, and for
    two sources of hints."""
    sources = sorted({preprocess.hint_source, inference.hint_source} - {SENT})
    if len(sources) > 1:
        raise ArgumentError(
            f"PreprocessConfig has hint_source '{preprocess.hint_source}' and InferenceConfig"
            f" '{inference.hint_source}': give both the same"
        )
    if preprocess.img_size != inference.img_size:
        raise ArgumentError(
            f"PreprocessConfig has img_size {preprocess.img_size} and InferenceConfig"
            f" {inference.img_size}: give both the same"
        )
    return {
        **settings_of_preprocess(preprocess),
        **settings_of_inference(inference, resolved=resolved, half=preprocess.half_precision),
        **settings_of_result(postprocess),
        **inference.settings,
    }


def clean_up_of(config: PostprocessConfig) -> dict[str, Any]:
    """The render parameters of the clean-up, by name."""
    return {name: getattr(config, name) for name in CLEAN_UP_NAMES}


def written_of(config: WriteConfig) -> Written:
    """What a configuration has written."""
    formats: Mapping[str, str] = {
        output: _format(config, output, getattr(config, f"{field}_format"))
        for output, field in OUTPUT_FIELDS.items()
        if getattr(config, f"{field}_enabled")
    }
    return Written(tuple(formats), ",".join(f"{name}={form}" for name, form in formats.items()))


def _format(config: WriteConfig, output: str, form: ImageFormat) -> str:
    if form is ImageFormat.PNG:
        return PNG_OF.get(output, "png")
    kind = "exr-float" if config.exr_type is ExrType.FLOAT else "exr"
    return kind if config.exr_compression == "zip" else f"{kind}-{config.exr_compression}"
