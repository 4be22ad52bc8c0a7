"""Images of the frame's size, on its device, made small for main memory, and small ones enlarged.

    full size: tensors on the frame's device         working size: arrays in main memory
    plate, clean plate, alpha  ----small_arrays---->  evidence, trimap, palette, neighbours
    masks, colours             <-----enlarged-------

On the CPU these steps are OpenCV's, on the same memory; elsewhere they are torch's, which agree
with them within 1e-5. Every function here has both, and nothing else has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.difference import working_size
from mattebridge.models.pytorch.frames import arrays_of, sent

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask


def cut(image: Tensor, highest: float, peak: Optional[Tensor] = None) -> Tensor:
    """An image without what is above `highest`; the image itself where the CPU sees that it has
    nothing above. peak: its highest value, if that is known."""
    if image.device.type == "cpu":
        peak = image.max() if peak is None and image.numel() else peak
        if peak is None or peak <= highest:
            return image
    return image.clamp(max=highest)


def small_arrays(*images: Tensor, beside: Sequence[Tensor] = ()) -> list[FloatImage]:
    """Float images (H, W) or (H, W, C) at working size, in main memory, with one wait for all.

    On the CPU one that is that small already is the same memory: not to be written into. beside:
    what comes with them as it is, float32.
    """
    if images[0].device.type == "cpu":
        small = [working_size.shrunk(image.numpy()) for image in images]
        return [*small, *(values.numpy() for values in beside)]
    return arrays_of(*shrunk(working_size.size_of(images[0].shape), *images), *beside)


def shrunk(size: tuple[int, int], *images: Tensor) -> list[Tensor]:
    """Float images (H, W) or (H, W, C) of one size at a smaller one, by torch: means of areas."""
    device, (height, width) = images[0].device, images[0].shape[:2]
    if size == (height, width):
        return list(images)
    down = _area_weights(height, size[0], device)
    across = _area_weights(width, size[1], device)
    found = []
    for image in images:
        rows = (down @ image.reshape(height, -1)).reshape(size[0], width, -1)
        found.append(torch.matmul(across, rows).reshape(*size, *image.shape[2:]))
    return found


def _area_weights(length: int, wanted: int, device: torch.device) -> Tensor:
    """(wanted, length): the share of each of `length` pixels in each of `wanted` larger ones."""
    # In units in which both kinds of pixels begin and end at whole numbers, which float32 holds.
    size = wanted * length
    begin = torch.arange(0, size, length, device=device, dtype=torch.float32)[:, None]
    small = torch.arange(0, size, wanted, device=device, dtype=torch.float32)[None]
    end = begin + length
    shared = (small + wanted).clamp(begin, end).sub_(small.clamp(begin, end))
    return shared.div_(length)


def enlarged(small: FloatImage, like: Tensor) -> Tensor:
    """A small float image (h, w) or (h, w, C) at the size and on the device of `like`."""
    shape = tuple(like.shape[:2])
    if like.device.type == "cpu":
        return torch.from_numpy(working_size.enlarged(small, shape))
    return enlarged_by_torch(sent(small, like.device), shape)


def enlarged_by_torch(small: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The same for a tensor."""
    if tuple(small.shape[:2]) == tuple(shape):
        return small
    planes = small.reshape(*small.shape[:2], -1).permute(2, 0, 1)[None]
    large = functional.interpolate(planes, size=shape, mode="bilinear", align_corners=False)
    return large[0].permute(1, 2, 0).reshape(*shape, *small.shape[2:])


def enlarged_mask(small: Mask, like: Tensor) -> Tensor:
    """A small mask (h, w) at the size and on the device of `like`, by the nearest pixels."""
    height, width = like.shape[:2]
    if like.device.type == "cpu":
        size = (width, height)
        found = cv2.resize(small.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        return torch.from_numpy(found > 0)
    planes = sent(small.astype(np.float32), like.device)[None, None]
    return functional.interpolate(planes, size=(height, width), mode="nearest")[0, 0] > 0


def copy_where(mask: Tensor, source: Tensor, target: Tensor) -> None:
    """Write the colours of `source` (H, W, 3) into `target` where `mask` (H, W) is set."""
    if mask.device.type == "cpu":
        cv2.copyTo(source.numpy(), mask.view(torch.uint8).numpy(), target.numpy())
    else:
        torch.where(mask[..., None], source, target, out=target)


def places_of(mask: Tensor) -> Tensor:
    """(N,) the places of the pixels of a mask (H, W), in reading order; a GPU is waited for."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.reshape(-1).nonzero().reshape(-1)


def places_near(wanted: Tensor, mask: Tensor, reach_px: float) -> Tensor:
    """(N,) the places of those pixels of `wanted` (H, W) that have one of `mask` (H, W) nearer than
    that, in reading order; found in main memory, by OpenCV, with one wait for a GPU."""
    both = torch.stack([wanted, mask]).cpu().numpy()
    away = cv2.distanceTransform((~both[1]).view(np.uint8), cv2.DIST_L2, 3)
    return sent(np.flatnonzero(both[0] & (away < reach_px)), mask.device)
