"""Many pictures into one buffer (docs/image_batch.md); for scripts and training code."""

from mattebridge.image_batch.load import (
    BatchFailure,
    CudaImageBatch,
    DeviceConfig,
    ImageBatch,
    ImageInfo,
    async_load_image_batch,
    load_image_batch,
)

__all__ = [
    "BatchFailure",
    "CudaImageBatch",
    "DeviceConfig",
    "ImageBatch",
    "ImageInfo",
    "async_load_image_batch",
    "load_image_batch",
]
