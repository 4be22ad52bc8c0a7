"""Gaussian and motion blur, of a different size for each shot, and smooth random fields."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.compose.dice import Dice


def blur(pictures: Tensor, sigma: Tensor | float) -> Tensor:
    """(N, C, H, W) blurred by sigma (N, ...) pixels, edges repeated."""
    count, channels = pictures.shape[:2]
    if isinstance(sigma, float):
        sigma = torch.full((count,), sigma, device=pictures.device)
    sigma = sigma.reshape(count).clamp_min(1e-3)
    reach = max(1, math.ceil(2.6 * float(sigma.max())))
    reach = min(reach, min(pictures.shape[2:]) - 1)
    x = torch.arange(-reach, reach + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (x[None] / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    planes = pictures.reshape(1, count * channels, *pictures.shape[2:])
    for axis in (0, 1):
        pad = (0, 0, reach, reach) if axis == 0 else (reach, reach, 0, 0)
        shape = (-1, 1, 2 * reach + 1, 1) if axis == 0 else (-1, 1, 1, 2 * reach + 1)
        planes = functional.pad(planes, pad, mode="replicate")
        planes = functional.conv2d(planes, kernel.reshape(shape), groups=count * channels)
    return planes.reshape(pictures.shape)


def wide_blur(pictures: Tensor, sigma: Tensor | float, shrink: int = 4) -> Tensor:
    """`blur` for sigmas of many pixels: on a smaller copy."""
    small = functional.avg_pool2d(pictures, shrink)
    blurred = blur(small, sigma / shrink)
    return functional.interpolate(
        blurred, size=pictures.shape[2:], mode="bilinear", align_corners=False
    )


def moved(dice: Dice, sheets: Tensor, share: float, lengths: tuple[float, float]) -> Tensor:
    """(N, C, H, W), a `share` of them with straight motion blur; lengths: in pixels at 512."""
    out = sheets.clone()
    scale = sheets.shape[-1] / 512
    low, high = (math.log(length) for length in lengths)
    for shot in range(dice.count):
        drawn, length, angle = dice.rng.random(3)
        if drawn >= share:
            continue
        length = math.exp(low + length * (high - low)) * scale
        kernel = _line(max(1.0, length), angle * math.pi).astype(np.float32)
        # OpenCV convolves with large kernels by Fourier transforms, in a tenth of torch's time.
        picture = sheets[shot].permute(1, 2, 0).cpu().numpy()
        blurry = cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        out[shot] = torch.from_numpy(blurry.reshape(picture.shape)).permute(2, 0, 1)
    return out


def _line(length: float, angle: float) -> NDArray[np.float64]:
    """The kernel of a straight motion blur, of sum 1."""
    reach = math.ceil(length / 2) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.abs(x * math.cos(angle) + y * math.sin(angle))
    across = np.abs(y * math.cos(angle) - x * math.sin(angle))
    kernel = np.clip(length / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return kernel / kernel.sum()


def smooth_field(dice: Dice, size: int, cells: int, channels: int = 1) -> Tensor:
    """Smooth noise of about unit deviation, (N, channels, size, size)."""
    grid = dice.noise((dice.count, channels, cells, cells))
    return functional.interpolate(grid, size=(size, size), mode="bicubic", align_corners=True)
