"""Which numbers a network computes in, and whether given weights hold in them.

float32 everywhere unless a request asks for another. Half precision is quicker only where the
device computes it natively: CUDA, and for bfloat16 CPUs with AMX. What rounding does depends on the
weights, so it is measured: before the first frame in half precision a test picture is matted both
ways, and weights that miss the tolerance are refused for that precision, with the figures.

Tolerance, on the alpha of the test picture: 0.002 on average (half a step of 8 bits), and 0.01 in
99 of 100 pixels.
"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from mattebridge.errors import ModelError
from mattebridge.models.pytorch.known_pair import known_pair

DTYPES = {
    "auto": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
MEAN_TOLERANCE = 0.002
PIXEL_TOLERANCE = 0.01
PIXEL_SHARE = 0.99
PICTURE_SIZE = (256, 384)


def dtype_for(precision: str, device: torch.device, model: str) -> torch.dtype:
    """The type of a `precision` on a device; raises `ModelError` where float32 is better."""
    dtype = DTYPES[precision]
    if dtype == torch.float32 or device.type != "cpu":
        return dtype
    if dtype == torch.bfloat16 and cpu_has_amx():
        return dtype
    wanted = "AMX, which this CPU lacks" if dtype == torch.bfloat16 else "a CUDA device"
    raise ModelError(
        f"precision {precision} of model '{model}' needs {wanted}: here it would be slower and "
        "coarser than float32 - use precision auto or float32",
        field="params.settings.precision",
        reason="precision",
    )


def cpu_has_amx() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


# Alpha (H, W) of a plate and a clean plate, (H, W, 3) in main memory, by a network.
AlphaOf = Callable[[Tensor, Tensor], Tensor]


@torch.inference_mode()
def check_holds(full: AlphaOf, half: AlphaOf, precision: str, model: str) -> None:
    """Raise `ModelError`, with the figures, where the weights lose too much by rounding.

    full: in float32. half: in the precision.
    """
    pair = known_pair(*PICTURE_SIZE)
    difference = (full(*pair) - half(*pair)).abs().cpu()
    mean = float(difference.mean())
    edge = float(torch.quantile(difference.flatten(), PIXEL_SHARE))
    # This way round, so that NaN, from numbers too large for the type, is refused as well.
    if mean <= MEAN_TOLERANCE and edge <= PIXEL_TOLERANCE:
        return
    raise ModelError(
        f"the weights of model '{model}' do not hold in {precision}: on a test picture alpha is "
        f"off by {mean:.4f} on average and {edge:.4f} in one of 100 pixels (tolerance "
        f"{MEAN_TOLERANCE} and {PIXEL_TOLERANCE}) - use precision float32",
        field="params.settings.precision",
        reason="precision",
    )
