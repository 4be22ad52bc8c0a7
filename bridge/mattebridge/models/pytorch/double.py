"""Sums and positions in double precision, where the device has it."""

from __future__ import annotations

import torch


def double_of(device: torch.device) -> torch.dtype:
    """float64; on Apple's GPUs, which have none, float32."""
    return torch.float32 if device.type == "mps" else torch.float64
