"""The pictures of a frame as files, made as `mattebridge matte` makes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mattebridge import color
from mattebridge.client.matte import Matte
from mattebridge.clips.configs import PostprocessConfig, WriteConfig
from mattebridge.clips.errors import WriteFailureError
from mattebridge.clips.finishing import Results, header_of
from mattebridge.clips.frames import PostprocessedFrame
from mattebridge.clips.requests import written_of
from mattebridge.errors import FrameReadError, FrameWriteError
from mattebridge.image_io import FrameHeader
from mattebridge.ocio.space import Curve, Spaces
from mattebridge.shot.background import parse_background
from mattebridge.shot.outputs import PRESETS, OutputFormat, needed_from_daemon, parse_formats
from mattebridge.shot.pictures import PictureStyle, write_output
from mattebridge.shot.plan import output_dtype, stored_space
from mattebridge.version import __version__


def write(frame: PostprocessedFrame, config: WriteConfig) -> None:
    """See `stages.write_frame`."""
    written = written_of(config)
    formats = parse_formats(written.formats, written.outputs)
    results = frame.results
    unchanged = isinstance(results, Results) and results.is_unchanged(frame)
    white = results.white_in("linear") if results else 1.0
    matte, space = _as_made(results, formats) if unchanged else _as_shown(frame, white)
    size = PostprocessConfig().checkerboard_size
    style = PictureStyle(
        space=space,
        white=1.0 if space == "srgb" else white,
        background=results.background if results else parse_background(f"checker:{size}"),
        spaces=Spaces(),
        metadata=_metadata(results),
    )
    header = results.header if results else header_of(frame.source_w, frame.source_h)
    for output, form in formats.items():
        path = config.output_dir / PRESETS["stages"].folders[output] / (frame.stem + form.suffix)
        _write(path, output, matte, form, style, header)


def _metadata(results: Results | None) -> dict[str, str]:
    """How the pictures were made, under the names that `mattebridge matte` has for it."""
    made = {"version": __version__}
    if results is not None:
        request = results.prepared.request
        asked = {**asdict(request.params), "settings": dict(request.settings)}
        made["model"], made["modelDigest"] = request.card.name, request.card.digest
        made["settings"] = json.dumps(asked, sort_keys=True, default=str)
    return {f"mattebridge:{name}": text for name, text in made.items() if text}


def _as_made(results: Results, formats: Mapping[str, OutputFormat]) -> tuple[Matte, str]:
    """What the daemon would give for these files, and in which space."""
    space, request = stored_space(formats), results.prepared.request
    if space == "linear" and request.space.curve is Curve.NONE:
        # Light of a named space, such as ACEScg, stays in it.
        space = request.params.colorspace
    roles = needed_from_daemon(formats, results.background)
    return results.matte(space, output_dtype(formats), roles), space


def _as_shown(frame: PostprocessedFrame, white: float) -> tuple[Matte, str]:
    """The pictures of a frame that a script has changed, in light; white: the light that is."""
    foreground = color.srgb_decode(np.asarray(frame.fg, np.float32)) * np.float32(white)
    return Matte(frame.alpha, foreground, frame.processed), "linear"


def _write(
    path: Path,
    output: str,
    matte: Matte,
    form: OutputFormat,
    style: PictureStyle,
    header: FrameHeader,
) -> None:
    try:
        write_output(path, output, matte, form=form, style=style, header=header)
    except (FrameWriteError, FrameReadError) as failure:
        raise WriteFailureError(failure.message, **failure.details) from failure
