"""What a call gives: the pictures in one array or tensor, what is known of each, and failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mattebridge.color import Pixels
from mattebridge.image_batch.device import torch_for

if TYPE_CHECKING:
    import torch


class BatchFailure(NamedTuple):
    """A source that gave no picture: its place in the list, its name, and why."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which is not used
    source: str
    cause: str


@dataclass(frozen=True)
class ImageInfo:
    """What is known of a picture beside its pixels.

    width, height, channels and dtype are those of the file. colorspace: "linear", "srgb" or
    "unknown". alpha: "opaque", "straight" or "premultiplied", in the batch as in the file.
    """

    width: int
    height: int
    channels: tuple[str, ...]
    dtype: str
    colorspace: str
    alpha: str


@dataclass(frozen=True)
class ImageBatch:
    """Pictures in one C-contiguous array (N, H, W, C), row i from source `indices[i]`.

    failures is empty except with `strict=False`.
    """

    array: Pixels
    pix_fmt: str
    indices: tuple[int, ...]
    images: tuple[ImageInfo, ...]
    failures: tuple[BatchFailure, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)

    def to_torch(self) -> torch.Tensor:
        """The same memory as a tensor on the CPU."""
        return torch_for("to_torch()").from_numpy(self.array)


@dataclass(frozen=True)
class CudaImageBatch:
    """The same on a GPU: `tensor` is (N, H, W, C), which other libraries can take by DLPack."""

    tensor: torch.Tensor
    pix_fmt: str
    indices: tuple[int, ...]
    images: tuple[ImageInfo, ...]
    failures: tuple[BatchFailure, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)

    def to_torch(self) -> torch.Tensor:
        """The tensor itself."""
        return self.tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()
