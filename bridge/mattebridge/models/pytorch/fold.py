"""Batch norms folded into the convolutions before them: a network that is ready for inference.

At inference a batch norm is a factor and an offset per channel, which the convolution can apply
itself. Results differ from those of the unfolded network by rounding alone.
"""

from __future__ import annotations

import copy
from typing import Callable, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)
# From a convolution and the batch norm behind it, the convolution that does the work of both.
Fuse = Callable[[nn.Conv2d, nn.BatchNorm2d], nn.Conv2d]


def fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """`conv`, changed so that it does the work of `norm` as well.

    `weight' = weight * factor`, `bias' = offset - mean * factor`, with `factor = gamma /
    sqrt(variance + eps)`.
    """
    assert norm.running_var is not None
    assert norm.running_mean is not None
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    offset = norm.bias - norm.running_mean * factor
    conv.weight = nn.Parameter(conv.weight * factor.view(-1, 1, 1, 1), requires_grad=False)
    bias = offset if conv.bias is None else offset + conv.bias * factor
    conv.bias = nn.Parameter(bias, requires_grad=False)
    return conv


def folded(network: Network, fuse: Fuse = fused) -> Network:
    """A copy without batch norms, in evaluation, laid out channels last; `network` is not changed.

    A batch norm is folded where it follows a convolution in its parent's list of children, which
    is how every network here is written; it leaves an `Identity` in its place.

    fuse: `fused` above, or `torch.nn.utils.fusion.fuse_conv_bn_eval`, which multiplies by the
    reciprocal of the square root, and so rounds five of six tensors differently (by up to 5e-7 in
    the weights of `twoplate`). A family keeps the one with which its pixels were published.
    """
    result = copy.deepcopy(network).requires_grad_(False)
    for parent in list(result.modules()):
        children = list(parent.named_children())
        for (before, conv), (name, norm) in zip(children, children[1:]):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, fuse(conv, norm))
                setattr(parent, name, nn.Identity())
    channels_last: Network = result.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return channels_last.eval()
