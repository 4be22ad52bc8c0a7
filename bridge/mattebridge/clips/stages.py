"""The stages of the pipeline as functions of one frame, in the process of the caller.

    manifest --preprocess_frame--> tensor --run_inference--> alpha, fg --postprocess_frame--> arrays
                                                                       --write_frame--> files

They are the engine's own steps, which the daemon's worker runs, and give the same pixels to the
bit; no daemon is needed. No function keeps anything of a frame, and any thread may call them. torch
is imported when one of them is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mattebridge.clips.configs import (
    InferenceConfig,
    PostprocessConfig,
    PreprocessConfig,
    WriteConfig,
)
from mattebridge.clips.contracts import ClipManifest
from mattebridge.clips.errors import ArgumentError
from mattebridge.clips.frames import InferenceResult, PostprocessedFrame, PreprocessedFrame

if TYPE_CHECKING:
    from mattebridge.clips.network import LoadedModel


def preprocess_frame(
    manifest: ClipManifest,
    i: int,
    config: PreprocessConfig,
    image_files: Sequence[Path] | None = None,
    alpha_files: Sequence[Path] | None = None,
) -> PreprocessedFrame:
    """Read a frame with its hint and clean plate, and make the model's input of them.

    i: the index of the frame among all of the clip; it must be within `manifest.frame_range`.
    image_files, alpha_files: files to read in place of the manifest's, by the same index.
    A frame without a hint has one made of it where `config.hint_source` says by what.
    Raises `ArgumentError` (a `ValueError`) for a manifest without a hint where the model needs one
    and for another index, `FrameReadError` for a file that cannot be read, `InputsError` for a
    clean plate that is missing or of another size and for a plate that no hint can be made of,
    `ModelError` for a model that is not known.
    """
    start, end = manifest.frame_range
    if not 0 <= start <= i < end <= manifest.frame_count:
        raise ArgumentError(
            f"clip {manifest.clip_name}: index {i} is not within its frame_range ({start}, {end})"
            f" of {manifest.frame_count} frames"
        )
    from mattebridge.clips import reading

    return reading.preprocessed(manifest, i, config, image_files, alpha_files)


def load_model(config: InferenceConfig, resolved_refiner_mode: str | None = None) -> LoadedModel:
    """The network of `config.checkpoint_path`, or `config.model` by its name, on `config.device`.

    The result is a `torch.nn.Module` in evaluation; that of a checkpoint has its own layers as
    `network`. Raises `FileNotFoundError` where there is no such file, `RuntimeError` (both also
    `ModelError`) for one that is not a whole checkpoint of this network, `ModelError` for a name
    that no model has.
    """
    from mattebridge.clips import network

    return network.loaded(config, resolved_refiner_mode)


def run_inference(
    frame: PreprocessedFrame,
    model: LoadedModel,
    config: InferenceConfig,
    resolved_refiner_mode: str | None = None,
) -> InferenceResult:
    """Alpha and foreground of the network in its square, of any other model at the plate's size.

    Where `config` says of the input what `preprocess_frame` was not told (`hint_source`, and what
    is in `settings`), it is made again, of the frame as it was read.
    Raises `ArgumentError` for a frame that was prepared for another model or changed since,
    `ModelError` for a checkpoint without the refiner that is asked for, and for NaN,
    `OutOfMemoryError` where the device cannot hold the frame.
    """
    return model.inferred(frame, config, resolved_refiner_mode)


def postprocess_frame(
    result: InferenceResult,
    config: PostprocessConfig,
    stem: str = "",
    output_dir: Path | None = None,
) -> PostprocessedFrame:
    """The four pictures of a frame at the size of its plate.

    stem: the name of the files; by default that of the plate, frame_000000 and on for a video.
    output_dir: needed for `config.debug_dump`, whose pictures go to debug/ in it. A frame of
    `preprocess_frame` that has no hint of its own gets no hint sharpen, as by a runner.
    Raises `ArgumentError` for a hint or a plate that the clean-up needs and `result.meta` does not
    have.
    """
    if config.debug_dump and output_dir is None:
        raise ArgumentError("debug_dump needs output_dir, the folder of its pictures")
    from mattebridge.clips import finishing

    return finishing.postprocessed(result, config, stem, output_dir)


def write_frame(frame: PostprocessedFrame, config: WriteConfig) -> None:
    """Write the pictures of a frame that are enabled, each whole or not at all, and check them.

    They go to alpha/, fg/, processed/ and comp/ in `config.output_dir`, which appear with the first
    frame. Raises `WriteFailureError`, which is also an `OSError`.
    """
    from mattebridge.clips import writing

    writing.write(frame, config)
