"""A plate and a clean plate made from a rule, to compare two ways of computing a network.

Half precision is compared with float32 on them, and an ONNX file with the network it was made from.
"""

from __future__ import annotations

import torch
from torch import Tensor


def known_pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A soft figure in front of ramps and stripes, and these alone: (H, W, 3) float32, 0..1."""
    v = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    u = ((torch.arange(width) + 0.5) / width)[None].expand(height, width)
    stripes = 0.1 * torch.sin(60 * u) * torch.cos(40 * v)
    clean = torch.stack([0.2 + 0.5 * u, 0.6 - 0.4 * v, 0.35 + stripes], dim=2)
    radius = torch.hypot((u - 0.45) / 0.22, (v - 0.6) / 0.4)
    alpha = ((1.15 - radius) / 0.3).clamp(0, 1)[..., None]
    subject = torch.stack([0.75 - 0.3 * v, 0.4 + 0.3 * u, 0.3 + stripes.abs()], dim=2)
    return alpha * subject + (1 - alpha) * clean, clean
