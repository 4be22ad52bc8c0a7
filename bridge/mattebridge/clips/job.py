"""A clip as a job of `shot/`: where its pictures are, how they meet, where the results go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mattebridge.clips.contracts import Clip, ClipLayers, ClipManifest
from mattebridge.clips.errors import ExtractionError
from mattebridge.clips.extraction import source_of
from mattebridge.errors import FrameReadError, SequenceError
from mattebridge.image_io.sequences import FrameFiles, find_frames
from mattebridge.image_io.video_read import is_video
from mattebridge.shot.job import OF_THE_FILE, MatteJob
from mattebridge.wire.params import RenderParams, role_in_words

# By the name of a layout, the preset of `shot/outputs.py` that has its folders and names.
LAYOUTS: Mapping[str, str | None] = {"stages": "stages", "classic": "classic", "matte": None}
OUTPUT = "Output"
FORMATS = "exr,comp=png"
# Two suffixes of one type of pictures.
SAME_TYPE = {".jpeg": ".jpg", ".tiff": ".tif"}
# What a PNG says of itself.
SRGB = "srgb"


def job_of(clip: Clip, common: MatteJob, *, layout: str, output: Path | None = None) -> MatteJob:
    """The job of one clip; common: what all clips share; its `plate` is ignored.

    output: a folder for all clips, each in a folder of its name; None for `Output/` of each clip.
    Raises `SequenceError` where a folder is not one sequence, `ExtractionError` for a video that
    cannot be read.
    """
    params = common.params
    if clip.alpha_path is None:
        # It needs a hint, and is on for the clips that have one.
        params = replace(params, hint_sharpen=False)
    space = space_of(clip.input_path)
    if space and params.colorspace == OF_THE_FILE:
        params = replace(params, colorspace=space)
    return replace(
        common,
        plate=str(clip.input_path),
        alpha_hint=_text(clip.alpha_path),
        clean_plate=_text(clip.clean_plate_path),
        output=clip.root / OUTPUT if output is None else output / clip.name,
        fit_hint=True,
        output_is_folder=True,
        preset=LAYOUTS[layout],
        formats=common.formats or FORMATS,
        params=params,
        offsets=_offsets(files_of(clip)),
    )


def job_of_pictures(manifest: ClipManifest) -> MatteJob:
    """How the pictures of a manifest are read, as a job without results."""
    job = job_of_layers(manifest.layers, manifest.input_space)
    params = replace(job.params, plate_alpha=manifest.plate_alpha)
    return replace(job, fit_hint=True, params=params)


def job_of_layers(layers: ClipLayers, input_space: str) -> MatteJob:
    """A job without pictures: of which layers they will be, and in which space; see `load`."""
    return MatteJob(
        "",
        Path(),
        params=RenderParams(input_space or OF_THE_FILE),
        layer=layers.plate,
        hint_layer=layers.alpha_hint,
        clean_plate_layer=layers.clean_plate,
    )


def with_hint_of_plate(clip: Clip, hint_layer: str | None) -> Clip:
    """The clip with its plates' own layer as its hint, where it has no other and one is named."""
    if not hint_layer or clip.alpha_path is not None or is_video(clip.input_path):
        return clip
    return clip.model_copy(update={"alpha_path": clip.input_path})


def space_of(path: Path) -> str:
    """The colour space of pictures that were extracted, where their files do not say it."""
    space = str(source_of(path).get("colorspace", SRGB))
    return "" if space == SRGB else space


def files_of(clip: Clip) -> dict[str, FrameFiles]:
    """The pictures of a clip by role, under their own numbers.

    Raises `SequenceError`, for pictures of two types as well: a clip is one sequence;
    `ExtractionError` for a video that cannot be read.
    """
    paths = {
        "plate": clip.input_path,
        "alpha_hint": clip.alpha_path,
        "clean_plate": clip.clean_plate_path,
    }
    try:
        found = {r: find_frames(path, role=r) for r, path in paths.items() if path is not None}
    except FrameReadError as refusal:
        raise ExtractionError(refusal.message, clip=clip.name, **refusal.details) from refusal
    for role, given in found.items():
        _refuse_two_types(role, given)
    return found


def _refuse_two_types(role: str, given: FrameFiles) -> None:
    by_type = {
        SAME_TYPE.get(path.suffix.lower(), path.suffix.lower()): path.name
        for path in given.files.values()
        if isinstance(path, Path)
    }
    if len(by_type) > 1:
        names = " and ".join(sorted(by_type.values())[:2])
        raise SequenceError(
            f"the {role_in_words(role)} {given.source} holds pictures of {len(by_type)} types,"
            f" {names}; keep those of one"
        )


def meeting(files: Mapping[str, FrameFiles]) -> dict[str, FrameFiles]:
    """The same pictures under the numbers of the plate."""
    offsets = _offsets(files)
    return {role: given.shifted(offsets.get(role, 0)) for role, given in files.items()}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _offsets(files: Mapping[str, FrameFiles]) -> dict[str, int]:
    """What moves the numbers of hint and clean plate to those of the plate, by input.

    The pictures of a video are numbered from 0. Where one of two inputs is a video and the other
    has numbers, their first pictures belong together.
    """
    offsets = {role: _offset(files["plate"], given) for role, given in files.items()}
    return {role: offset for role, offset in offsets.items() if offset}


def _offset(plate: FrameFiles, given: FrameFiles) -> int:
    is_one_video = _is_of_a_video(plate) != _is_of_a_video(given)
    if not is_one_video or given.still or not (plate.numbered and given.numbered):
        return 0
    return min(plate.files) - min(given.files)


def _is_of_a_video(given: FrameFiles) -> bool:
    """Whether the pictures are in a video or were extracted from one."""
    return given.video is not None or bool(source_of(Path(given.source)))
