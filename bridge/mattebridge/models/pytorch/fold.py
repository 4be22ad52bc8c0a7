"""A network ready to be used only: every batch norm folded into the convolution before it.

At inference a batch norm is a factor and an offset per channel, which the convolution can apply
itself: `weight' = weight * factor`, `bias' = offset - mean * factor`, with `factor = gamma /
sqrt(variance + eps)`. Results differ from the unfolded network by rounding alone.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network) -> Network:
    """A copy without batch norms, weights laid out channels last; `network` stays as it is.

    A batch norm is folded where it follows a convolution in its parent's list of children, which
    is how every network here is written; it leaves an `Identity` in its place.
    """
    result = copy.deepcopy(network).requires_grad_(False)
    for parent in list(result.modules()):
        children = list(parent.named_children())
        for (before, conv), (name, norm) in zip(children, children[1:]):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, _with_norm(conv, norm))
                setattr(parent, name, nn.Identity())
    channels_last: Network = result.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return channels_last.eval()


def _with_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    assert norm.running_var is not None
    assert norm.running_mean is not None
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    offset = norm.bias - norm.running_mean * factor
    conv.weight = nn.Parameter(conv.weight * factor.view(-1, 1, 1, 1), requires_grad=False)
    bias = offset if conv.bias is None else offset + conv.bias * factor
    conv.bias = nn.Parameter(bias, requires_grad=False)
    return conv
