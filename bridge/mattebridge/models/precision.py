"""The setting of the numbers that a network computes in, for cards, which do not import torch."""

from __future__ import annotations

from mattebridge.models.base import Setting

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
PRECISION = Setting(
    "auto",
    "numbers that the network computes in; auto: float32. The halves are for CUDA, bfloat16 also "
    "for CPUs with AMX, and refused where these weights do not hold in them",
    choices=PRECISIONS,
)
