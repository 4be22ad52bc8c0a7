"""The same bits on a CPU whatever the number of threads, where torch's own way depends on it.

- A 1x1 convolution is computed by oneDNN where there are several threads, and as a matrix product
  where there is one, which is rounded otherwise and may take twice as long. A dilated convolution
  goes to oneDNN always, and dilation changes nothing about a kernel of one pixel.
- Bilinear resizing of up to three channels is rounded by how the pixels are dealt out to threads;
  each family resizes them in a way of its own.
- The last few values of a thread's share are rounded otherwise by `sigmoid` and `pow`, but not by
  `exp` and `log`.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

# Of a 1x1 convolution, where it means nothing.
ALWAYS_BY_ONEDNN = 2


def in_one_way(network: Network) -> Network:
    """The network itself, whose 1x1 convolutions on a CPU are oneDNN's from now on."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            dilation = dilation_on(module.weight.device)
            module.dilation = (dilation, dilation)
    return network


def dilation_on(device: torch.device) -> int:
    """The same for a 1x1 convolution that is called as a function."""
    return ALWAYS_BY_ONEDNN if device.type == "cpu" else 1


def sigmoid(values: Tensor) -> Tensor:
    """The logistic function, in new memory."""
    if values.device.type != "cpu" or not torch.is_inference_mode_enabled():
        return torch.sigmoid(values)
    return values.neg().exp_().add_(1).reciprocal_()


def power(values: Tensor, exponent: float) -> Tensor:
    """Values above 0 to a power, in new memory."""
    if values.device.type != "cpu" or not torch.is_inference_mode_enabled():
        return values.pow(exponent)
    return values.log().mul_(exponent).exp_()
