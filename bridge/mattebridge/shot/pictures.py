"""What one output picture is: alpha, foreground, premultiplied or comp, as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from mattebridge import color
from mattebridge.image_io import FrameHeader, check_frame, display_codes, write_frame
from mattebridge.shot.background import Background, FloatImage, fitted
from mattebridge.shot.outputs import LAYERS, OutputFormat, is_straight


@dataclass(frozen=True)
class Finish:
    """How results become pictures: what is the same for all frames of a job.

    space: of the colours in a matte. truncate: code values are cut instead of rounded.
    """

    space: str
    background: Background
    keep_data_window: bool = False
    truncate: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


def write_output(
    path: Path,
    output: str,
    matte: Any,
    *,
    form: OutputFormat,
    finish: Finish,
    header: FrameHeader,
    backdrop: Optional[FloatImage] = None,
) -> int:
    """Write one output of a finished frame and look whether it arrived; its size in bytes.

    matte: has `alpha` (H, W, 1), `foreground` (H, W, 3) and `premultiplied` (H, W, 4), float, as
    far as they are needed. header: the plate's, for windows, pixel aspect and metadata. backdrop:
    the background's picture, linear. Raises `FrameWriteError`, and `FrameReadError` when what
    stands on disk is not what was written.
    """
    size = write_frame(
        path,
        picture_of(output, matte, form, finish, backdrop),
        colorspace=finish.space,
        alpha="premultiplied",
        dtype=form.dtype,
        compression=form.compression,
        metadata={**header.metadata, **finish.metadata},
        pixel_aspect=header.pixel_aspect,
        display_window=header.display_window,
        data_window=header.data_window if finish.keep_data_window else None,
        layers={"matte": matte.alpha, "foreground": matte.foreground} if output == LAYERS else None,
        truncate=finish.truncate,
    )
    check_frame(path, size_bytes=size, size_px=(header.width, header.height))
    return size


def video_codes(
    output: str,
    matte: Any,
    *,
    form: OutputFormat,
    finish: Finish,
    backdrop: Optional[FloatImage] = None,
) -> NDArray[Any]:
    """Code values of one output for a video: sRGB-encoded, straight alpha."""
    picture = picture_of(output, matte, form, finish, backdrop)
    if picture.dtype.kind == "u":
        return picture
    return display_codes(
        picture, dtype=form.dtype, colorspace=finish.space, truncate=finish.truncate
    )


def picture_of(
    output: str,
    matte: Any,
    form: OutputFormat,
    finish: Finish,
    backdrop: Optional[FloatImage] = None,
) -> NDArray[Any]:
    """The pixels of one output: floats in `finish.space`, or codes where alpha is straight."""
    if output == LAYERS:
        return np.asarray(matte.premultiplied)
    if is_straight(output, form):
        return _straight_codes(matte, form.dtype, finish)
    if output != "comp":
        return np.asarray(getattr(matte, output))
    if finish.background.encoded:
        return _comp_in_codes(matte, finish)
    premultiplied = np.asarray(matte.premultiplied, np.float32)
    light = np.ascontiguousarray(premultiplied[..., :3])
    if finish.space == "srgb":
        light = color.srgb_decode(light)
    behind = finish.background.render(*light.shape[:2]) if backdrop is None else backdrop
    comp = color.over(light, premultiplied[..., 3:], fitted(behind, *light.shape[:2]))
    return color.srgb_encode(comp) if finish.space == "srgb" else comp


def _straight_codes(matte: Any, dtype: str, finish: Finish) -> NDArray[Any]:
    """Foreground and alpha as (H, W, 4) codes; black where there is no coverage at all."""
    alpha = np.asarray(matte.alpha)
    codes = np.empty((*alpha.shape[:2], 4), dtype)
    for part, plane in ((slice(0, 3), np.asarray(matte.foreground)), (slice(3, 4), alpha)):
        codes[..., part] = display_codes(
            plane, dtype=dtype, colorspace=finish.space, truncate=finish.truncate
        )
    codes[..., :3][alpha[..., 0] <= 0] = 0
    return codes


def _comp_in_codes(matte: Any, finish: Finish) -> NDArray[Any]:
    """foreground * alpha + background * (1 - alpha) in encoded values, in the space of the job."""
    foreground = np.asarray(matte.foreground, np.float32)
    if finish.space == "linear":
        foreground = color.srgb_encode(foreground)
    behind = color.srgb_encode(np.asarray(finish.background.colours[:1], np.float32))
    alpha = np.asarray(matte.alpha, np.float32)
    comp = foreground * alpha + behind * (np.float32(1.0) - alpha)
    return color.srgb_decode(comp) if finish.space == "linear" else comp
