"""From a matte to the pictures on disk: one output (alpha, premultiplied, comp ...) as pixels.

    matte --picture_of--> floats in the job's space, or code values with straight alpha
              |--write_output--> a file of that frame, written and checked
              `--video_codes---> code values, for a video

Premultiplied products stay premultiplied where a format holds that (EXR, float TIFF); where it
holds straight alpha (PNG, integer TIFF, videos), foreground and alpha are put side by side instead,
never divided out of a product. Comps are mixed in linear light, unless premultiplied was asked for
in encoded values: then they are mixed in these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np

from mattebridge import color
from mattebridge.color import FloatImage, Pixels
from mattebridge.image_io import Encoding, FrameHeader, check_frame, display_codes, write_frame
from mattebridge.ocio.space import Curve, Spaces
from mattebridge.shot.background import Background, fitted
from mattebridge.shot.outputs import LAYERS, OutputFormat, is_straight
from mattebridge.wire.params import COLORSPACES


@dataclass(frozen=True)
class PictureStyle:
    """What the pictures of a job have in common.

    space: of the colours in a matte. white: the light that is white in them, 1 but where the plate
    or `space` is HDR video (`Spaces.of_results`); it may change with the frame. mixed_in: the space
    that premultiplied was multiplied in, and comps are mixed in. keep_data_window: pictures get the
    plate's data window. truncate: code values are truncated instead of rounded. spaces: where
    colour spaces are found by name. metadata: how they were made.
    """

    space: str
    background: Background
    white: float = 1.0
    mixed_in: str = "linear"
    keep_data_window: bool = False
    truncate: bool = False
    spaces: Spaces = field(default_factory=Spaces, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_named(self) -> bool:
        """Whether the colours are in a space of the config."""
        return self.space not in COLORSPACES

    def space_in(self, form: OutputFormat) -> str:
        """The space of the floats that a format is made from: a named one only for EXR.

        `linear` is encoded when it is written, which takes white for 1: where it is not, that is
        done here.
        """
        if self.white != 1 and not form.is_linear:
            return "srgb"
        return "linear" if self.is_named and form.suffix != ".exr" else self.space

    def converted(self, colours: Pixels, space: str, wanted: str) -> Pixels:
        """Colours of a matte in another space than that which they are in."""
        return self.spaces.converted(colours, space, wanted, white=self.white)

    def described(self) -> dict[str, Any]:
        """What the header of an EXR in a named space says of it."""
        config = self.spaces.config
        places = config.chromaticities(config.find(self.space))
        light = self.spaces.of(self.space).curve is Curve.NONE
        return {"chromaticities": places} if light and places is not None else {}


def write_output(
    path: Path,
    output: str,
    matte: Any,
    *,
    form: OutputFormat,
    style: PictureStyle,
    header: FrameHeader,
    backdrop: Optional[FloatImage] = None,
) -> int:
    """Write one output of a finished frame and check it on disk; its size in bytes.

    matte: has `alpha` (H, W, 1), `foreground` (H, W, 3) and `premultiplied` (H, W, 4), float, as
    far as they are needed. header: the plate's, for windows, pixel aspect and metadata. backdrop:
    the picture behind the comp, linear. Raises `FrameWriteError`, and `FrameReadError` when what
    is on disk is not what was written.
    """
    layers = {"matte": matte.alpha, "foreground": matte.foreground} if output == LAYERS else {}
    space = style.space_in(form)
    named, interop_id = {}, ""
    if space not in COLORSPACES:
        named, config = style.described(), style.spaces.config
        # Its own name: a role is another space in another config.
        space = config.find(space)
        interop_id = config.interop_id(space)
    size = write_frame(
        path,
        picture_of(output, matte, form, style, backdrop),
        Encoding(
            colorspace=space,
            alpha="premultiplied",
            dtype=form.dtype,
            compression=form.compression,
            metadata={**header.metadata, **named, **style.metadata},
            pixel_aspect=header.pixel_aspect,
            display_window=header.display_window,
            data_window=header.data_window if style.keep_data_window else None,
            layers=layers,
            truncate=style.truncate,
            interop_id=interop_id,
        ),
    )
    check_frame(path, size_bytes=size, size_px=(header.width, header.height))
    return size


def video_codes(
    output: str,
    matte: Any,
    *,
    form: OutputFormat,
    style: PictureStyle,
    backdrop: Optional[FloatImage] = None,
) -> Pixels:
    """Code values of one output for a video, (H, W, C): sRGB-encoded, straight alpha."""
    picture = picture_of(output, matte, form, style, backdrop)
    if picture.dtype.kind == "u":
        return picture
    space = style.space_in(form)
    return display_codes(picture, dtype=form.dtype, colorspace=space, truncate=style.truncate)


def picture_of(
    output: str,
    matte: Any,
    form: OutputFormat,
    style: PictureStyle,
    backdrop: Optional[FloatImage] = None,
) -> Pixels:
    """The pixels of one output: floats in `style.space_in(form)`, or codes with straight alpha."""
    if output == LAYERS:
        return np.asarray(matte.premultiplied)
    if is_straight(output, form):
        return _straight_codes(matte, form, style)
    if output != "comp":
        return _in_space_of(form, np.asarray(getattr(matte, output)), style)
    if style.background.encoded:
        return _comp_in_codes(matte, form, style)
    premultiplied = np.asarray(matte.premultiplied, np.float32)
    colours = np.ascontiguousarray(premultiplied[..., :3])
    subject = style.converted(colours, style.space, style.mixed_in)
    behind = style.background.render(*subject.shape[:2]) if backdrop is None else backdrop
    # White of the background, which is 1, is that of the plate.
    behind = fitted(behind, *subject.shape[:2])
    behind = behind if style.white == 1 else behind * np.float32(style.white)
    behind = style.converted(behind, "linear", style.mixed_in)
    comp = color.over(subject, premultiplied[..., 3:], behind)
    return style.converted(comp, style.mixed_in, style.space_in(form))


def _in_space_of(form: OutputFormat, picture: Pixels, style: PictureStyle) -> Pixels:
    """A picture of a matte in the space of its file; mattes and maps have none."""
    space = style.space_in(form)
    if picture.shape[2] == 1 or space == style.space:
        return picture
    colours = np.ascontiguousarray(picture[..., :3])
    converted = style.converted(colours, style.space, space)
    return np.concatenate([converted, picture[..., 3:].astype(np.float32)], axis=2)


def _straight_codes(matte: Any, form: OutputFormat, style: PictureStyle) -> Pixels:
    """Foreground and alpha as (H, W, 4) code values; black where alpha is 0."""
    alpha = np.asarray(matte.alpha)
    codes, space = np.empty((*alpha.shape[:2], 4), form.dtype), style.space_in(form)
    colours = style.converted(np.asarray(matte.foreground), style.space, space)
    for part, plane in ((slice(0, 3), colours), (slice(3, 4), alpha)):
        codes[..., part] = display_codes(
            plane, dtype=form.dtype, colorspace=space, truncate=style.truncate
        )
    codes[..., :3][alpha[..., 0] <= 0] = 0
    return codes


def _comp_in_codes(matte: Any, form: OutputFormat, style: PictureStyle) -> Pixels:
    """foreground * alpha + background * (1 - alpha) in encoded values, as a format has them."""
    foreground = np.asarray(matte.foreground, np.float32)
    foreground = style.converted(foreground, style.space, "srgb")
    behind = color.srgb_encode(np.asarray(style.background.colours[:1], np.float32))
    alpha = np.asarray(matte.alpha, np.float32)
    comp = foreground * alpha + behind * (np.float32(1.0) - alpha)
    return style.converted(comp, "srgb", style.space_in(form))
