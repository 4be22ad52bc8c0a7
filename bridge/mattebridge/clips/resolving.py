"""Configurations in which nothing is left to the memory of the moment.

    img_size 0, refiner "auto" --free memory of the device--> a size, "full_frame" or "tiled"

A runner leaves both to the daemon, which chooses once for a shot. A program that calls the stage
functions and wants one size for a whole clip settles them here, once, before its first frame.
torch is imported when one of these is called.
"""

from __future__ import annotations

from mattebridge.clips.configs import InferenceConfig, PipelineConfig, RefinerMode
from mattebridge.clips.errors import ArgumentError


def to_inference_config(config: InferenceConfig) -> InferenceConfig:
    """The configuration with a size in place of `img_size` 0: the largest of 512, 1024, 1536 and
    2048 that fits the free memory of its device; on a CPU 512. Raises `DeviceError`."""
    if config.img_size:
        return config
    from mattebridge.clips.reading import device_of
    from mattebridge.models.greenformer.budget import size_for

    return config.model_copy(update={"img_size": size_for(device_of(config.device))})


def to_pipeline_config(config: PipelineConfig) -> PipelineConfig:
    """The configuration with one size in both stages, and the way of the refiner decided.

    A size that only one of the stages names is that of both. Raises `ArgumentError` where they name
    two, `DeviceError`.
    """
    if config.inference is None:
        return config
    sizes = {config.preprocess.img_size, config.inference.img_size} - {0}
    if len(sizes) > 1:
        raise ArgumentError(
            f"PreprocessConfig has img_size {config.preprocess.img_size} and InferenceConfig"
            f" {config.inference.img_size}: give both the same"
        )
    size = sizes.pop() if sizes else 0
    inference = to_inference_config(config.inference.model_copy(update={"img_size": size}))
    size = inference.img_size
    return config.model_copy(
        update={
            "preprocess": config.preprocess.model_copy(update={"img_size": size}),
            "inference": inference,
            "resolved_refiner_mode": config.resolved_refiner_mode or _refiner_mode(inference),
        }
    )


def _refiner_mode(config: InferenceConfig) -> str:
    if config.refiner_mode is not RefinerMode.AUTO:
        return str(config.refiner_mode)
    from mattebridge.clips.reading import device_of
    from mattebridge.models.greenformer.budget import ways_for
    from mattebridge.models.greenformer.fast import FULL_FRAME

    ways = ways_for(str(RefinerMode.AUTO), config.img_size, device_of(config.device))
    return str(RefinerMode.FULL_FRAME if ways[0] == FULL_FRAME else RefinerMode.TILED)
