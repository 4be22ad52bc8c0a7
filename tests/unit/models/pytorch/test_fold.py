"""Batch norms folded into convolutions: the same network, without them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mattebridge.models.pytorch.fold import Fuse, folded, fused


class Net(nn.Module):
    """A convolution with a bias and one without, and norms with statistics of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.conv = nn.Conv2d(8, 5, 3)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(self.first(x)))


def network() -> Net:
    torch.manual_seed(3)
    made = Net().eval()
    for norm in (made.first[1], made.norm):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.2, 3)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -1, 1)
    return made


@pytest.mark.parametrize("fuse", [fused, fuse_conv_bn_eval])
def test_a_folded_network_computes_the_same_without_batch_norms(fuse: Fuse) -> None:
    plain, picture = network(), torch.rand(2, 3, 20, 24)
    without = folded(plain, fuse)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in without.modules())
    with torch.inference_mode():
        # Rounding of a few hundred products: 1e-6 on values about 1.
        torch.testing.assert_close(without(picture), plain(picture), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fuse", [fused, fuse_conv_bn_eval])
def test_folding_leaves_the_network_as_it_was(fuse: Fuse) -> None:
    plain = network()
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    folded(plain, fuse)
    assert list(plain.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())


def test_weights_of_a_folded_network_lie_channels_last_and_need_no_gradient() -> None:
    without = folded(network().train())
    assert without.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(tensor.requires_grad for tensor in without.parameters())
    assert not any(module.training for module in without.modules())
