"""Many pictures in one array or on a GPU (docs/image_batch.md), for scripts and training code.

    load            load_image_batch, async_load_image_batch
    batch           what they give; `device` has the copy to a GPU
    pixel_formats   the formats by name, and how a picture is brought to one
    bounded_jobs    the jobs of a call on an executor, bounded by bytes

Nothing else in mattebridge uses it: the daemon and `mattebridge matte` read single frames with
`image_io`. The names below are the public ones.
"""

from mattebridge.image_batch.batch import BatchFailure, CudaImageBatch, ImageBatch, ImageInfo
from mattebridge.image_batch.device import DeviceConfig
from mattebridge.image_batch.load import async_load_image_batch, load_image_batch

__all__ = [
    "BatchFailure",
    "CudaImageBatch",
    "DeviceConfig",
    "ImageBatch",
    "ImageInfo",
    "async_load_image_batch",
    "load_image_batch",
]
