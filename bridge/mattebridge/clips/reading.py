"""A frame of a clip as its model's input: read and prepared by the engine.

plate + hint network: put into its square, (1, 4, S, S)
any other model:      as it is, (1, 3 | 4, H, W), with all that the engine knows of the frame
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mattebridge.checkpoint import no_checkpoint
from mattebridge.clips.configs import AUTO, SENT, PreprocessConfig
from mattebridge.clips.contracts import ClipManifest
from mattebridge.clips.errors import ArgumentError, DeviceError
from mattebridge.clips.frames import FrameMeta, PreprocessedFrame
from mattebridge.clips.job import job_of_pictures
from mattebridge.clips.requests import settings_of_preprocess
from mattebridge.color import Pixels
from mattebridge.engine.clean_plates import CleanPlates
from mattebridge.engine.device import array_from, settle_arithmetic
from mattebridge.engine.infer import model_input
from mattebridge.engine.preprocess import PreparedFrame, preprocess
from mattebridge.engine.request import FrameLimits, FrameRequest, check_request
from mattebridge.image_io import FrameHeader
from mattebridge.image_io.matching import FrameInputs
from mattebridge.image_io.sequences import VideoPicture
from mattebridge.models.base import ModelCard
from mattebridge.models.greenformer.budget import size_for
from mattebridge.models.greenformer.card import BY_MEMORY, FAMILY, card_of
from mattebridge.models.greenformer.hints import Hint, HintMaker
from mattebridge.models.greenformer.model import SquareInput, square_input
from mattebridge.models.greenformer.square import Square
from mattebridge.models.registry import Registry
from mattebridge.models.weights.file import WeightsRecord
from mattebridge.ocio.space import Spaces
from mattebridge.shot.job import MatteJob
from mattebridge.shot.ledger import identity
from mattebridge.shot.outputs import PRESETS
from mattebridge.shot.plan import FrameTask
from mattebridge.shot.planes import FramePlanes
from mattebridge.shot.tasks import frame_task
from mattebridge.wire.params import RenderParams

# The pictures of a clip are read for results in light; the last step asks for others where needed.
LINEAR = "linear"
OPEN_CLIPS = 4


@dataclass(frozen=True)
class Prepared:
    """A frame as the engine has it: before its model, and how it lies in the square.

    square: None where the model is not the plate + hint network. header: of the plate, with what is
    true of its results too. tensor: what a script was shown. hint: of the frame in its square.
    """

    frame: PreparedFrame
    square: Square | None = None
    header: FrameHeader | None = None
    tensor: Tensor | None = None
    hint: Hint | None = None


def preprocessed(
    manifest: ClipManifest,
    i: int,
    config: PreprocessConfig,
    image_files: Sequence[Path] | None,
    alpha_files: Sequence[Path] | None,
) -> PreprocessedFrame:
    """The frame of an index that was checked."""
    device = device_of(config.device)
    card = card_for_stages() if config.model is None else Registry().card(config.model)
    has_hint = not manifest.needs_alpha or alpha_files is not None
    if card.family == FAMILY and not has_hint and config.hint_source == SENT:
        raise ArgumentError(
            f"clip {manifest.clip_name} has no hint: call resolve_alpha with a folder of hints, or"
            " set PreprocessConfig.hint_source to have one made"
        )
    entry = _entry(manifest, i, image_files, alpha_files)
    task, planes = _read(entry, job_of_pictures(manifest))
    asked = settings_of_preprocess(config) if card.family == FAMILY else {}
    settings = card.settings_schema.validate(asked, model=card.name)
    params = RenderParams(
        task.colorspaces["plate"], output_colorspace=LINEAR, plate_alpha=manifest.plate_alpha
    )
    check_request(planes, {}, card, params, FrameLimits())
    request = FrameRequest(card, params, settings, entry.frame, spaces=_spaces())
    frame = preprocess(planes, request, device, CleanPlates(0))
    header = task.header_of_outputs
    if card.family == FAMILY:
        seen = _in_square(frame, device)
        prepared = Prepared(frame, seen.square, header, seen.x, seen.hint)
    else:
        prepared = Prepared(frame, None, header, _as_it_is(frame))
    assert prepared.tensor is not None
    return PreprocessedFrame(prepared.tensor, _meta(i, entry, config, prepared))


def _in_square(frame: PreparedFrame, device: torch.device) -> SquareInput:
    """The input of the plate + hint network, whose checkpoint is not known yet."""
    settings = frame.request.settings
    with torch.inference_mode():
        given = model_input(frame, takes_tensors=False)
    size = int(settings["img_size"])
    size = size_for(device) if size == BY_MEMORY else size
    hints = _hint_maker(str(device))
    return square_input(given, settings, size, hints, device, no_checkpoint, swaps=False)


@lru_cache(maxsize=1)
def _hint_maker(device: str) -> HintMaker:
    """Kept for the network that it may load."""
    return HintMaker(device, FAMILY)


@torch.inference_mode()
def _as_it_is(frame: PreparedFrame) -> Tensor:
    """The plate, display-encoded, and the hint where there is one: (1, 3 | 4, H, W)."""
    hint = frame.mattes.get("alpha_hint")
    planes = [frame.plate.encoded, *([] if hint is None else [hint[..., None]])]
    return torch.cat(planes, dim=2).permute(2, 0, 1)[None].contiguous()


def _meta(i: int, entry: FrameInputs, config: PreprocessConfig, prepared: Prepared) -> FrameMeta:
    plate, hint = prepared.frame.plate, prepared.frame.mattes.get("alpha_hint")
    height, width = plate.pixels.shape[:2]
    return FrameMeta(
        frame_index=i,
        original_h=height,
        original_w=width,
        source_image=array_from(plate.encoded) if config.source_passthrough else None,
        alpha_hint=None if hint is None else array_from(hint[..., None]),
        frame=entry.frame,
        stem=_stem(entry),
        half_precision=config.half_precision,
        prepared=prepared,
    )


def _stem(entry: FrameInputs) -> str:
    """The name of a frame's results, as the layout `stages` has it."""
    if isinstance(entry.plate, VideoPicture):
        return PRESETS["stages"].video_frames.format(entry.frame)
    return entry.name


def _entry(
    manifest: ClipManifest,
    i: int,
    image_files: Sequence[Path] | None,
    alpha_files: Sequence[Path] | None,
) -> FrameInputs:
    entry = manifest.frames[i]
    files = dict(entry.files)
    name = entry.name
    if image_files is not None:
        files["plate"] = Path(image_files[i])
        name = Path(image_files[i]).stem
    if alpha_files is not None:
        files["alpha_hint"] = Path(alpha_files[i])
    return replace(entry, files=files, name=name)


def _read(entry: FrameInputs, job: MatteJob) -> tuple[FrameTask, dict[str, Pixels]]:
    task = frame_task(job, entry, _spaces())
    if task.problem is not None:
        raise task.problem
    planes = _planes(_Reading(job), _videos(entry))
    read = {"plate": planes.plate(task)}
    if "alpha_hint" in entry.files:
        read["alpha_hint"] = planes.matte(task, "alpha_hint")[0]
    if "clean_plate" in entry.files:
        read["clean_plate"] = planes.clean_plate(task)
    return task, read


class _Reading(NamedTuple):
    """A job by which pictures are read; two that read alike are one key."""

    job: MatteJob

    def __hash__(self) -> int:
        return hash(repr(self.job))


@lru_cache(maxsize=OPEN_CLIPS)
def _planes(reading: _Reading, videos: tuple[object, ...]) -> FramePlanes:
    """Kept, because a video that stays open gives its next picture at once.

    videos: what changes when one of them is replaced, so that no picture of an old one is read.
    """
    return FramePlanes(reading.job, _spaces())


def _videos(entry: FrameInputs) -> tuple[object, ...]:
    paths = [each.path for each in entry.files.values() if isinstance(each, VideoPicture)]
    return tuple((path, *identity(path)) for path in paths if path.exists())


@lru_cache(maxsize=1)
def _spaces() -> Spaces:
    return Spaces()


def card_for_stages(name: str = FAMILY, screen: str = "green", digest: str = "") -> ModelCard:
    """The card of a checkpoint that is in no registry."""
    settings: dict[str, Any] = {"screen": screen, "refiner": "present"}
    return card_of(WeightsRecord(name, "", digest, FAMILY, settings))


def device_of(name: str) -> torch.device:
    """A device by its word; auto: the first GPU, else the CPU. Raises `DeviceError`."""
    word = name.strip().lower().replace("rocm", "cuda")
    if word == AUTO:
        word = "cuda" if torch.cuda.is_available() else "cpu"
        if word == "cpu" and torch.backends.mps.is_available():
            word = "mps"
    try:
        # "cuda" becomes the device that tensors on it have: cuda:0.
        device = torch.empty(0, device=torch.device(word)).device
    except (RuntimeError, AssertionError) as error:
        first = str(error).split("\n", 1)[0]
        raise DeviceError(
            f"device '{name}' cannot be used ({first}); use 'auto' or 'cpu'", reason="device"
        ) from error
    settle_arithmetic(device)
    return device
