"""The two decoders: from the encoder's maps to logits at a quarter of the size.

`Decoder` is the published form: every map to 256 channels, enlarged, joined to 1024, fused.

`FoldedDecoders` gives the same numbers for a fifth of the work. A linear layer, an enlargement and
a 1x1 convolution commute, and the weights of an enlargement sum to 1. So batch norm is folded into
the fusing convolution, its four parts into the four linear layers, and each is applied at the size
of its own map; what is enlarged is 256 channels for each decoder, and the 1024 are never joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mattebridge.models.greenformer.encoder import CHANNELS

WIDTH = 256


class Decoder(nn.Module):
    """The published decoder; `out` is 1 for alpha, 3 for the foreground."""

    def __init__(self, out: int) -> None:
        super().__init__()
        first, second, third, fourth = CHANNELS
        self.linear_c4 = Projection(fourth)
        self.linear_c3 = Projection(third)
        self.linear_c2 = Projection(second)
        self.linear_c1 = Projection(first)
        self.linear_fuse = nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTH)
        self.classifier = nn.Conv2d(WIDTH, out, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits (B, out, S/4, S/4) of the encoder's maps."""
        size = maps[0].shape[1:3]
        joined = [enlarged(layer(x), size) for layer, x in zip(self.linears, reversed(maps))]
        fused = self.bn(self.linear_fuse(torch.cat(joined, dim=1)))
        logits: Tensor = self.classifier(functional.relu(fused))
        return logits

    @property
    def linears(self) -> tuple[Projection, ...]:
        """The layers of the four maps in the order in which they are joined."""
        return self.linear_c4, self.linear_c3, self.linear_c2, self.linear_c1


class Projection(nn.Module):
    """One map to 256 channels, channels first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        wide: Tensor = self.proj(x)
        return wide.permute(0, 3, 1, 2)


def enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, *size), bilinear."""
    if x.shape[-2:] == torch.Size(size):
        return x
    return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


class Folded(NamedTuple):
    """One decoder as linear layers: for each map, smallest first, and the last one."""

    weights: list[Tensor]
    bias: Tensor
    last_weight: Tensor
    last_bias: Tensor


class FoldedDecoders:
    """Both decoders of a network, on each map once."""

    def __init__(
        self, alpha: Decoder, foreground: Decoder, dtype: torch.dtype = torch.float32
    ) -> None:
        """dtype: of the four linear layers; what follows them is float32."""
        both = [folded(alpha), folded(foreground)]
        self._weights = [
            torch.cat(pair).to(dtype) for pair in zip(*(decoder.weights for decoder in both))
        ]
        self._bias = torch.cat([decoder.bias for decoder in both])
        last = [decoder.last_weight for decoder in both]
        self._last_weight = torch.block_diag(*last)  # type: ignore[no-untyped-call]
        self._last_bias = torch.cat([decoder.last_bias for decoder in both])

    @property
    def memory_bytes(self) -> int:
        held = (*self._weights, self._bias, self._last_weight, self._last_bias)
        return sum(int(tensor.nbytes) for tensor in held)

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits (B, 4, S/4, S/4) float32, alpha first."""
        size = maps[0].shape[1:3]
        parts = (
            enlarged(functional.linear(x, weight).float().permute(0, 3, 1, 2), size)
            for x, weight in zip(reversed(maps), self._weights)
        )
        # Each straight to the full size: three doublings of 2 are not one enlargement of 8.
        total = next(parts)
        for part in parts:
            total = total.add_(part)
        hidden = total.permute(0, 2, 3, 1).add(self._bias).relu_()
        logits = functional.linear(hidden, self._last_weight, self._last_bias)
        return logits.permute(0, 3, 1, 2)


def folded(decoder: Decoder) -> Folded:
    """The layers of a decoder with batch norm and fusing convolution multiplied in, float32."""
    norm = decoder.bn
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    fuse = decoder.linear_fuse.weight.flatten(1) * factor[:, None]
    bias = norm.bias - norm.running_mean * factor
    weights = []
    for layer, part in zip(decoder.linears, fuse.chunk(4, dim=1)):
        weights.append((part @ layer.proj.weight).detach())
        bias = bias + part @ layer.proj.bias
    last = decoder.classifier
    assert last.bias is not None
    return Folded(weights, bias.detach(), last.weight.flatten(1).detach(), last.bias.detach())
