"""The network's result as the pictures of a frame: back to the plate, cleaned up, in each space.

    InferenceResult --frame of the square--> engine's InferredFrame --postprocess--> Results.matte

Files are made from what the engine gives in the space and sample type of the files, as the daemon
does, and not from the arrays that a script sees: a curve there and back would change last bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from mattebridge.client.matte import Matte
from mattebridge.clips.configs import PostprocessConfig
from mattebridge.clips.errors import ArgumentError
from mattebridge.clips.frames import FrameMeta, InferenceResult, PostprocessedFrame
from mattebridge.clips.reading import Prepared, card_for_stages
from mattebridge.clips.requests import clean_up_of, settings_of_result
from mattebridge.color import FloatImage, Pixels
from mattebridge.engine.blocks import extremes
from mattebridge.engine.clean_up import clean_alpha
from mattebridge.engine.device import array_from, deliver, picture_on, targets_for
from mattebridge.engine.infer import InferredFrame, checked_output
from mattebridge.engine.picture import Picture
from mattebridge.engine.postprocess import postprocess
from mattebridge.engine.preprocess import PreparedFrame
from mattebridge.engine.request import FrameRequest
from mattebridge.engine.samples import is_finite
from mattebridge.image_io import Encoding, FrameHeader, write_frame
from mattebridge.models.base import ModelOutput
from mattebridge.models.greenformer.square import Square
from mattebridge.ocio.space import SRGB
from mattebridge.shot.background import Background, parse_background
from mattebridge.shot.outputs import FORMATS
from mattebridge.shot.pictures import PictureStyle, picture_of
from mattebridge.wire.params import OUTPUT_CHANNELS, RenderParams

SEEN = ("alpha", "fg", "processed", "comp")
DEBUG = "debug"


@dataclass
class Results:
    """A frame behind its network, from which its pictures are made in any space.

    shown: the arrays of `PostprocessedFrame`, by name. background: of its comp.
    """

    made: InferredFrame
    prepared: PreparedFrame
    header: FrameHeader
    background: Background
    shown: dict[str, FloatImage] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)

    def matte(self, space: str, dtype: str = "float32", roles: tuple[str, ...] = ()) -> Matte:
        """What the daemon gives for this frame in a colour space and sample type.

        roles: which planes; by default alpha, foreground and premultiplied.
        """
        prepared = replace(self.prepared, request=self._request_in(space))
        size = self.made.alpha.shape
        out = {
            role: np.empty((*size, OUTPUT_CHANNELS[role][0]), dtype)
            for role in roles or ("alpha", "foreground", "premultiplied")
        }
        targets = targets_for(out, self.made.alpha.device)
        finished = postprocess(self.made, prepared, targets)
        deliver(targets, out)
        self.notes.update(finished.clean_up)
        return Matte(**out)  # type: ignore[arg-type]

    def white_in(self, space: str) -> float:
        """The light that is white in results in a colour space: the plate may be HDR video."""
        return self._request_in(space).output_space.white

    def _request_in(self, space: str) -> FrameRequest:
        request = self.prepared.request
        return replace(request, params=replace(request.params, output_colorspace=space))

    def is_unchanged(self, frame: PostprocessedFrame) -> bool:
        """Whether a frame still has the pictures that were made here."""
        return all(getattr(frame, name) is self.shown[name] for name in SEEN)


def postprocessed(
    result: InferenceResult, config: PostprocessConfig, stem: str, output_dir: Path | None
) -> PostprocessedFrame:
    """See `stages.postprocess_frame`."""
    meta = result.meta
    stem = stem or meta.stem or f"frame_{meta.frame_index:06d}"
    results = _results(result, config)
    light = results.matte("linear", roles=("alpha", "premultiplied"))
    foreground = results.matte("srgb", roles=("foreground",)).foreground
    comp = _comp(light, results)
    pictures = light.alpha, foreground, light.premultiplied, comp
    results.shown.update(zip(SEEN, map(_read_only, pictures)))
    if config.debug_dump:
        assert output_dir is not None
        _dump(results, Path(output_dir) / DEBUG, stem)
    return PostprocessedFrame(
        **results.shown,
        frame_index=meta.frame_index,
        source_h=meta.original_h,
        source_w=meta.original_w,
        stem=stem,
        degraded=(*result.degraded, *results.prepared.degraded),
        notes={**result.notes, **results.notes},
        results=results,
    )


def _read_only(picture: Pixels | None) -> FloatImage:
    assert picture is not None
    picture.flags.writeable = False
    return picture


def _comp(light: Matte, results: Results) -> FloatImage:
    style = PictureStyle("linear", results.background, results.white_in("linear"))
    form = FORMATS["png"]
    comp = picture_of("comp", light, form, style)
    shown: FloatImage = style.converted(comp, style.space_in(form), "srgb").clip(0, 1)
    return shown


def _results(result: InferenceResult, config: PostprocessConfig) -> Results:
    meta = result.meta
    known = meta.prepared or _prepared(meta, result)
    if meta.prepared is not None and "alpha_hint" not in known.frame.mattes:
        config = replace(config, hint_sharpen=False)  # as for a job
    _check(meta, known, config)
    given = known.frame.request
    with torch.inference_mode():
        if known.square is None:
            settings, made = given.settings, _of_the_frame(result)
        else:
            settings = {**known.square.settings, **settings_of_result(config), **result.settings}
            made = _of_the_square(result, known, settings)
    params = replace(given.params, **clean_up_of(config))
    request = replace(given, params=params, settings=settings)
    background = parse_background(f"checker:{config.checkerboard_size}")
    prepared = replace(known.frame, request=request)
    return Results(
        made, prepared, known.header or header_of(meta.original_w, meta.original_h), background
    )


def _of_the_square(
    result: InferenceResult, known: Prepared, settings: dict[str, object]
) -> InferredFrame:
    """The network's result at the size of its plate."""
    assert known.square is not None
    square = replace(known.square, settings=settings)
    frame = square.frame(torch.cat([result.alpha, result.fg], dim=1).to(torch.float32))
    output = ModelOutput(
        array_from(frame[0]), array_from(frame[1:].permute(1, 2, 0)), notes=dict(result.notes)
    )
    size = result.meta.original_h, result.meta.original_w
    card = known.frame.request.card
    return checked_output(output, card, size, known.frame.plate.pixels.device)


def _of_the_frame(result: InferenceResult) -> InferredFrame:
    """The result of a model that works at the size of the plate."""
    meta = result.meta
    size = meta.original_h, meta.original_w
    shapes = tuple(result.alpha.shape), tuple(result.fg.shape)
    if shapes != ((1, 1, *size), (1, 3, *size)):
        raise ArgumentError(
            f"a result for a plate of {size[1]}x{size[0]} is alpha (1, 1, {size[0]}, {size[1]}) and"
            f" fg (1, 3, {size[0]}, {size[1]}); got {shapes[0]} and {shapes[1]}"
        )
    alpha, foreground = result.alpha[0, 0].float(), result.fg[0].permute(1, 2, 0).float()
    (of_alpha, of_foreground) = extremes(alpha, foreground)
    if not (is_finite(of_alpha) and is_finite(of_foreground)):
        raise ArgumentError("the result holds NaN or infinite values; repair them first")
    return InferredFrame(alpha, foreground, of_foreground, size, {}, (), dict(result.notes))


def _check(meta: FrameMeta, known: Prepared, config: PostprocessConfig) -> None:
    if config.hint_sharpen and "alpha_hint" not in known.frame.mattes:
        raise ArgumentError(
            "hint_sharpen needs an alpha hint, and FrameMeta.alpha_hint is None: give one, or set"
            " hint_sharpen to False"
        )
    if config.source_passthrough and meta.prepared is None and meta.source_image is None:
        raise ArgumentError(
            "source_passthrough needs the plate, and FrameMeta.source_image is None: give it, or"
            " set source_passthrough to False"
        )


def _prepared(meta: FrameMeta, result: InferenceResult) -> Prepared:
    """What the engine would have prepared, of the documented fields of a script's own frame."""
    device = result.alpha.device
    size = meta.original_h, meta.original_w
    source = np.zeros((*size, 3), np.float32) if meta.source_image is None else meta.source_image
    plate = Picture.of(picture_on(np.asarray(source, np.float32), device), SRGB)
    mattes = {}
    if meta.alpha_hint is not None:
        hint = np.asarray(meta.alpha_hint, np.float32).reshape(size)
        mattes["alpha_hint"] = picture_on(hint, device)
    card = card_for_stages()
    settings = card.settings_schema.validate({}, model=card.name)
    request = FrameRequest(card, RenderParams("srgb"), settings, meta.frame)
    padded = tuple(card.size_rule.padded(length) for length in size)
    square = Square.of(padded, result.alpha.shape[-1], settings)
    return Prepared(PreparedFrame(request, plate, None, None, mattes, {}), square)


def header_of(width: int, height: int) -> FrameHeader:
    """The header of a plate of which only the size is known."""
    window = (0, 0, width, height)
    return FrameHeader(
        path=Path(),
        width=width,
        height=height,
        channels=("R", "G", "B"),
        dtype="float32",
        colorspace="srgb",
        alpha="opaque",
        data_window=window,
        display_window=window,
        pixel_aspect=1.0,
    )


def _dump(results: Results, folder: Path, stem: str) -> None:
    """The network's own alpha and foreground, and both behind hint sharpen, as 8-bit PNG."""
    made, prepared = results.made, results.prepared
    only = replace(prepared.request.params, source_passthrough=False, auto_despeckle=False)
    sharp = clean_alpha(made.alpha, prepared.mattes.get("alpha_hint"), only).alpha
    pictures = {
        "01_raw_alpha": made.alpha[..., None],
        "02_raw_fg": made.foreground,
        "03_post_hint_alpha": sharp[..., None],
        "04_post_hint_fg": made.foreground,
    }
    for tag, picture in pictures.items():
        encoding = Encoding(colorspace="srgb", alpha="straight", dtype="uint8")
        write_frame(folder / f"{stem}__{tag}.png", array_from(picture), encoding)
