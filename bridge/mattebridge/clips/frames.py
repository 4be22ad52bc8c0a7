"""What the stages of the pipeline pass on: one frame on its way.

    preprocess_frame --> PreprocessedFrame --run_inference--> InferenceResult
                                           --postprocess_frame--> PostprocessedFrame --> write_frame

S is the side of the network's square, H and W are those of the plate. Tensors are torch tensors;
this module does not import torch. The fields behind the documented ones may be left out by a script
that makes a frame itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mattebridge.clips.contracts import Contract

if TYPE_CHECKING:
    from torch import Tensor

    from mattebridge.color import FloatImage


@dataclass(frozen=True)
class FrameMeta(Contract):
    """What postprocessing needs of a frame beside the network's result.

    frame_index: within all frames of the clip. original_h, original_w: of the plate, in pixels.
    source_image: the plate, (H, W, 3) float32, display-encoded sRGB, straight, values above 1 kept;
    None without passthrough. alpha_hint: (H, W, 1) float32 0..1, or None.
    frame: its number. stem: the name of its results. half_precision: the encoder is to compute in
    float16. prepared: the frame as the engine has it on its device.
    """

    frame_index: int
    original_h: int
    original_w: int
    source_image: FloatImage | None = field(default=None, repr=False)
    alpha_hint: FloatImage | None = field(default=None, repr=False)
    frame: int | None = None
    stem: str = ""
    half_precision: bool = False
    prepared: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class PreprocessedFrame(Contract):
    """The input of the plate + hint network: tensor (1, 4, S, S) float32 on the device.

    Channels: red, green and blue of the plate, display-encoded and normalised with the statistics
    of ImageNet, and the hint, 0..1. Where `PreprocessConfig.model` names another model, the tensor
    shows the frame at its own size, (1, 3, H, W) or with a hint (1, 4, H, W), the plate
    display-encoded and not normalised; the model takes it from `meta.prepared`.
    """

    tensor: Tensor
    meta: FrameMeta


@dataclass(frozen=True)
class InferenceResult(Contract):
    """What the network made: alpha (1, 1, S, S), fg (1, 3, S, S), float32 0..1 on the device.

    Of any other model both are at the size of the plate, H x W.
    fg: straight, display-encoded sRGB. degraded: labels of what is less than was asked for. notes:
    what was computed how. settings: those of `InferenceConfig.settings`, for the last step.
    """

    alpha: Tensor
    fg: Tensor
    meta: FrameMeta
    degraded: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PostprocessedFrame(Contract):
    """The four pictures of a frame at the size of its plate: arrays, float32, top row first.

    alpha: (H, W, 1) linear coverage 0..1. fg: (H, W, 3) straight, display-encoded sRGB. processed:
    (H, W, 4) premultiplied, scene-linear, 0 where alpha is 0. comp: (H, W, 3) over a checker,
    display-encoded sRGB, 0..1. Highlights of an HDR plate are above 1 in fg and processed. The
    arrays are read-only: change a copy, and put it in with `model_copy`.
    degraded: labels of what is less than was asked for. notes: what the clean-up removed. results:
    what the files are made from.
    """

    alpha: FloatImage
    fg: FloatImage
    processed: FloatImage
    comp: FloatImage
    frame_index: int
    source_h: int
    source_w: int
    stem: str
    degraded: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    results: Any = field(default=None, repr=False, compare=False)
