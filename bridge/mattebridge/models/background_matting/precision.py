"""Which numbers a network computes in, and whether given weights hold in them.

float32 everywhere unless a request says otherwise. Half precision is worth it where the device
computes it natively: CUDA, and for bfloat16 CPUs with AMX; other CPUs are slower with it. What
rounding does depends on the weights, so nothing is taken on trust: before the first frame in half
precision a test picture is matted both ways, and weights that do not hold the tolerance are
refused for that precision, with the figures.

Tolerance, on the alpha of the test picture: 0.002 on average (half a step of 8 bits), and 0.01 in
99 of 100 pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mattebridge.errors import ModelError
from mattebridge.models.background_matting.fast import FastMatting
from mattebridge.models.pytorch.test_picture import TEST_SIZE, test_picture

DTYPES = {
    "auto": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
MEAN_TOLERANCE = 0.002
PIXEL_TOLERANCE = 0.01
PIXEL_SHARE = 0.99


def dtype_for(precision: str, device: torch.device, model: str) -> torch.dtype:
    """The type of a `precision` on a device; raises `ModelError` where it would only be worse."""
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
    """Whether this CPU multiplies matrices of bfloat16 natively."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def check_holds(full: FastMatting, half: FastMatting, precision: str, model: str) -> None:
    """Raises `ModelError` where the weights lose too much by rounding; says how much."""
    difference = _difference(full, half)
    mean = float(difference.mean())
    edge = float(torch.quantile(difference.flatten(), PIXEL_SHARE))
    # Written so that NaN, from numbers too large for the type, is refused as well.
    if mean <= MEAN_TOLERANCE and edge <= PIXEL_TOLERANCE:
        return
    raise ModelError(
        f"the weights of model '{model}' do not hold in {precision}: on a test picture alpha is "
        f"off by {mean:.4f} on average and {edge:.4f} in one of 100 pixels (tolerance "
        f"{MEAN_TOLERANCE} and {PIXEL_TOLERANCE}) - use precision float32",
        field="params.settings.precision",
        reason="precision",
    )


@torch.inference_mode()
def _difference(full: FastMatting, half: FastMatting) -> Tensor:
    plate, clean_plate = (image.to(full.device) for image in test_picture(*TEST_SIZE))
    return (full(plate, clean_plate).alpha - half(plate, clean_plate).alpha).abs().cpu()
