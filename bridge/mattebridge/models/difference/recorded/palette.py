"""`mixture.make_palette` for a GPU: see there; tensors of the device."""

from __future__ import annotations

import torch
from torch import Tensor

from mattebridge.models.difference import mixture as by_host
from mattebridge.models.difference.recorded.linear import Filters
from mattebridge.models.difference.recorded.masks import enough_of
from mattebridge.models.pytorch.double import double_of

# The share of a colour that the palette does not have, at every pixel: see `Maps.some_missing`.
NO_SUCH = -1.0
# How often a matrix is multiplied by itself to find its longest axis: what is shorter by a
# millionth is gone then. After so many times its numbers are brought to the size of 1 again.
_SQUARED, _IN_RANGE = 24, 4


def palette_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the palette of images of this size."""
    height, width = (max(1, length // by_host.PALETTE_SHARE) for length in size)
    return height, width


def make_palette(plate: Tensor, subject: Tensor, large: Filters, filters: Filters) -> Tensor:
    """The palette as `Maps.colours` has it: (1, 3 + 4 K, h, w), K always the most there may be.

    plate: (3, H, W) at working size. subject: (H, W) bool. large, filters: of that size, and of the
    palette's.
    """
    own = subject.float()
    both = large.smaller(torch.cat([own[None], plate * own]), filters.size)
    weight, light = both[0], both[1:]
    colour = light / weight.clamp(min=1e-6)
    mean = _mean_nearby(light, weight, filters)
    centres, exist = _clusters(colour, weight > 0.5)
    nearest = _nearest(colour.flatten(1), centres, exist).view(weight.shape)
    every = torch.arange(by_host.COLOURS, device=plate.device)[:, None, None]
    owns = weight * (nearest == every)
    colours, shares = _nearby(colour, centres, owns, weight, filters)
    shares = torch.where(exist[:, None, None], shares, NO_SUCH)
    return torch.cat([mean, colours.flatten(0, 1), shares])[None]


def _mean_nearby(light: Tensor, weight: Tensor, filters: Filters) -> Tensor:
    """`mixture._mean_nearby`, (3, h, w)."""
    found = (light.sum((1, 2)) / weight.sum().clamp(min=1e-6))[:, None, None].expand(light.shape)
    together = torch.cat([light, weight[None]])
    for radius in reversed(by_host.SPREAD_PX):
        mixed = _found_over(together, radius, filters)
        near = mixed[3]
        found = torch.where(near > by_host.LEAST_WEIGHT, mixed[:3] / near, found)
    return found


def _nearby(
    colour: Tensor, centres: Tensor, owns: Tensor, weight: Tensor, filters: Filters
) -> tuple[Tensor, Tensor]:
    """`mixture._one_nearby` of all clusters: colours (K, 3, h, w) and shares (K, h, w)."""
    colours = centres[:, :, None, None].expand(-1, -1, *weight.shape)
    shares = owns.sum((1, 2), keepdim=True) / weight.sum().clamp(min=1e-6)
    shares = shares.expand(owns.shape)
    own = torch.cat([colour[None] * owns[:, None], owns[:, None]], 1)
    for radius in reversed(by_host.COLOUR_PX):
        mixed, near = _found_over(own, radius, filters), _found_over(weight, radius, filters)
        light, part = mixed[:, :3], mixed[:, 3]
        there = part > by_host.LEAST_WEIGHT
        colours = torch.where(there[:, None], light / part[:, None], colours)
        shares = torch.where(near > by_host.LEAST_WEIGHT, part / near, shares)
    return colours, shares


def _found_over(light: Tensor, radius: float, filters: Filters) -> Tensor:
    if radius < by_host.WIDE_PX:
        return filters.blurred_mirrored(light, radius)
    return filters.widely_blurred(light, radius)


def _clusters(colour: Tensor, sure: Tensor) -> tuple[Tensor, Tensor]:
    """`mixture._clusters`: centres (K, 3), and which of them there are, (K,)."""
    chosen, count = enough_of(sure, by_host.SAMPLES)
    sample = colour.flatten(1).T.contiguous()
    index = torch.arange(by_host.COLOURS, device=colour.device)
    labels, exist = _split(sample, torch.where(chosen, 0, -1), index, count)
    centres = sample.new_zeros(by_host.COLOURS, 3)
    for left in reversed(range(by_host.SETTLING_ROUNDS)):
        sizes, middles = _middles(sample, labels == index[:, None])
        centres = torch.where(sizes[:, None] > 0, middles.float(), centres)
        if left:
            labels = torch.where(chosen, _nearest(sample.T, centres, exist), -1)
    return centres, exist


def _nearest(colours: Tensor, centres: Tensor, exist: Tensor) -> Tensor:
    """`mixture._nearest` of colours (3, N), (N,); exist: which centres there are."""
    red, green, blue = (
        (channel - own[:, None]).square_() for channel, own in zip(colours, centres.T)
    )
    apart = red.add_(green).add_(blue)
    return apart.masked_fill_(~exist[:, None], torch.inf).argmin(0)


def _split(sample: Tensor, labels: Tensor, index: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Split the widest group of colours (N, 3) across its longest axis, again and again: the labels
    of the groups, (N,), and which of them there are, (K,). labels: 0 for the `count` colours that
    are to be split, -1 for the others."""
    going = count >= 2 * by_host.COLOURS
    exist = [going]
    sample = sample.to(double_of(sample.device))
    products = (sample[:, :, None] * sample[:, None]).flatten(1)
    for new in range(1, len(index)):
        members = labels == index[:, None]
        sizes, middles = _middles(sample, members)
        squares = members.to(sample.dtype) @ products
        around = squares.view(-1, 3, 3) - sizes[:, None, None] * (
            middles[:, :, None] * middles[:, None]
        )
        spreads = around.diagonal(dim1=1, dim2=2).sum(1)
        widest = spreads.argmax().view(1)
        axis = _longest_axis(around[widest][0])
        beyond = (sample - middles[widest]) @ axis > 0
        beyond = beyond & (labels == widest)
        found = beyond.sum()
        going = going & (found > 0) & (found < sizes[widest][0])
        going = going & (spreads[widest] > sizes[widest] * by_host.ONE_COLOUR**2)[0]
        labels = torch.where(beyond & going, new, labels)
        exist.append(going)
    return labels, torch.stack(exist)


def _middles(sample: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """How many colours each group (K, N) has, and their mean, (K, 3)."""
    kind = double_of(sample.device)
    sizes = members.sum(1)
    return sizes, (members.to(kind) @ sample.to(kind)) / sizes.clamp(min=1)[:, None]


def _longest_axis(matrix: Tensor) -> Tensor:
    """(3,): the eigenvector of the largest eigenvalue of a symmetric matrix (3, 3)."""
    for turn in range(_SQUARED):
        if turn % _IN_RANGE == 0:
            matrix = matrix / matrix.diagonal().sum().clamp(min=1e-30)
        matrix = matrix @ matrix
    return matrix[matrix.diagonal().argmax().view(1)][0]
