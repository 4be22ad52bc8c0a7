"""The losses of JPEG and video compression: the quantisation of block transforms.

JPEG is exact; its entropy coding is lossless and left out. Video is approximated: larger
transforms, coarser quantisation of fine detail, chroma at half size, smoothed block edges.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.compose.dice import Dice

# The example tables of the JPEG standard (ITU-T T.81, annex K).
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def jpeg(dice: Dice, pictures: Tensor, quality: np.ndarray) -> Tensor:
    """(N, 3, H, W) through JPEG; `quality` (N,) 0..1 stands for JPEG quality 45 to 96."""
    percent = 45 + 51 * quality
    scale = np.where(percent < 50, 5000 / percent, 200 - 2 * percent) / 100
    luma, chroma = _jpeg_tables(str(pictures.device))
    factor = dice.tensor(scale)[:, None, None, None]
    steps = [(table * factor).round().clamp(1, 255) for table in (luma, chroma)]
    return _transformed(dice, pictures, 8, steps, half_chroma=dice.once(0.6))


def video(dice: Dice, pictures: Tensor, quality: np.ndarray) -> Tensor:
    """(N, 3, H, W) through an approximate delivery or camera codec; `quality` (N,) 0..1."""
    block = 16 if dice.once(0.5) else 8
    ramp = torch.arange(block, device=pictures.device, dtype=torch.float32)
    rise = 1 + (ramp[:, None] + ramp[None]) * (8 / block) * 0.25
    base = dice.tensor(np.exp(np.log(24) * (1 - quality) + np.log(3)))[:, None, None, None]
    luma = (rise * base * block / 8 * 0.7).clamp_min(1)
    out = _transformed(dice, pictures, block, [luma, luma * 1.4], half_chroma=True)
    return _deblocked(out, block)


def _transformed(
    dice: Dice, pictures: Tensor, block: int, steps: list[Tensor], *, half_chroma: bool
) -> Tensor:
    size = pictures.shape[2:]
    # The grid of blocks has a random offset.
    shift = tuple(int(v) for v in dice.rng.integers(0, block * 2, 2))
    padded = _padded(torch.roll(pictures, shift, (2, 3)), block * 2)
    matrix = torch.tensor(_TO_YCC, device=pictures.device)
    planes = torch.einsum("nchw,oc->nohw", padded * 255, matrix)
    luma = _rounded(planes[:, :1] - 128, block, steps[0]) + 128
    chroma = planes[:, 1:]
    if half_chroma:
        chroma = functional.avg_pool2d(chroma, 2)
    chroma = _rounded(chroma, block, steps[1])
    if half_chroma:
        chroma = functional.interpolate(
            chroma, scale_factor=2, mode="bilinear", align_corners=False
        )
    back = torch.linalg.inv(matrix)
    rgb = torch.einsum("nchw,oc->nohw", torch.cat([luma, chroma], 1), back) / 255
    rgb = rgb[:, :, : size[0], : size[1]].clamp(0, 1)
    return torch.roll(rgb, (-shift[0], -shift[1]), (2, 3))


def _padded(pictures: Tensor, multiple: int) -> Tensor:
    bottom, right = (-length % multiple for length in pictures.shape[2:])
    if not bottom and not right:
        return pictures
    return functional.pad(pictures, (0, right, 0, bottom), mode="replicate")


def _rounded(planes: Tensor, block: int, steps: Tensor) -> Tensor:
    """Block transform, quantisation to `steps` (N, 1, block, block), inverse transform."""
    count, channels, height, width = planes.shape
    basis = _cosines(block, str(planes.device))
    cells = planes.reshape(count, channels, height // block, block, width // block, block)
    spectrum = torch.einsum("ui,ncyixj,vj->ncyxuv", basis, cells, basis)
    steps = steps.reshape(count, 1, 1, 1, block, block)
    spectrum = torch.round(spectrum / steps) * steps
    cells = torch.einsum("ui,ncyxuv,vj->ncyixj", basis, spectrum, basis)
    return cells.reshape(planes.shape)


def _deblocked(pictures: Tensor, block: int) -> Tensor:
    """The pixels on both sides of each block edge smoothed."""
    for axis in (2, 3):
        length = pictures.shape[axis]
        place = torch.arange(length, device=pictures.device) % block
        near = ((place == 0) | (place == block - 1)).float()
        shape = [1, 1, 1, 1]
        shape[axis] = length
        mean = (torch.roll(pictures, 1, axis) + 2 * pictures + torch.roll(pictures, -1, axis)) / 4
        pictures = torch.lerp(pictures, mean, near.reshape(shape))
    return pictures


@lru_cache(maxsize=8)
def _cosines(block: int, device: str) -> Tensor:
    """The orthonormal cosine basis, rows are frequencies."""
    u, i = np.mgrid[0:block, 0:block]
    basis = np.cos((2 * i + 1) * u * math.pi / (2 * block)) * math.sqrt(2 / block)
    basis[0] /= math.sqrt(2)
    return torch.tensor(basis, dtype=torch.float32, device=device)


@lru_cache(maxsize=4)
def _jpeg_tables(device: str) -> tuple[Tensor, Tensor]:
    luma = np.array(_LUMA, np.float32).reshape(8, 8)
    chroma = np.full((8, 8), 99, np.float32)
    chroma[:4, :4] = _CHROMA_CORNER
    return tuple(torch.tensor(table, device=device) for table in (luma, chroma))  # type: ignore[return-value]
