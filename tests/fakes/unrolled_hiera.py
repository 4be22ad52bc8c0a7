"""The encoder in its published order of tokens: a second form to hold the first one against.

Tokens are put in order once, so that four tokens that are pooled, and then the tokens of a window,
lie at equal distances. A token at row `8Y + 4c + 2b + a` and column `8X + 4f + 2e + d` is at the
index of (a, d, b, e, c, f, Y, X), slowest first. Pooling is a maximum over a leading axis; a window
is all tokens of one (Y, X), the fastest axes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

POOLED = (2, 5, 21)
STAGE_ENDS = (1, 4, 20, 23)
HEAD = 56


def unrolled_maps(state: Mapping[str, Tensor], x: Tensor) -> list[Tensor]:
    """The four maps (1, h, w, C) of (1, 4, S, S), S as of the checkpoint's position table."""
    weights = {k.removeprefix("encoder.model."): v for k, v in state.items()}
    patch = "patch_embed.proj"
    tokens = functional.conv2d(x, weights[f"{patch}.weight"], weights[f"{patch}.bias"], 4, 3)
    grid = tokens.shape[-1]
    rows = tokens.flatten(2).transpose(1, 2) + weights["pos_embed"]
    order = _order(grid)
    tokens, pools, maps = rows[:, order], 0, []
    for number in range(24):
        tokens = _block(weights, number, tokens, grid)
        pools += number in POOLED
        if number in STAGE_ENDS:
            maps.append(_in_rows(tokens, grid, pools))
    return maps


def _order(grid: int) -> Tensor:
    """For each place in the published order, the index of its token in rows and columns."""
    bits = torch.arange(grid * grid).view(grid // 8, 2, 2, 2, grid // 8, 2, 2, 2)
    # Axes: Y, c, b, a, X, f, e, d.
    return bits.permute(3, 7, 2, 6, 1, 5, 0, 4).flatten()


def _in_rows(tokens: Tensor, grid: int, pools: int) -> Tensor:
    """The tokens that are left after so many pools, back in rows and columns."""
    side, left = grid // 8, 3 - pools
    axes = tokens.view(1, *[2] * (2 * left), side, side, tokens.shape[-1])
    # The pair pooled next holds the lowest bits of row and column.
    down = [2 * left + 1, *(2 * pair + 1 for pair in reversed(range(left)))]
    across = [2 * left + 2, *(2 * pair + 2 for pair in reversed(range(left)))]
    size = side * 2**left
    return axes.permute(0, *down, *across, 2 * left + 3).reshape(1, size, size, -1)


def _block(weights: Mapping[str, Tensor], number: int, x: Tensor, grid: int) -> Tensor:
    def linear(name: str, values: Tensor) -> Tensor:
        at = f"blocks.{number}.{name}"
        return functional.linear(values, weights[f"{at}.weight"], weights[f"{at}.bias"])

    def norm(name: str, values: Tensor) -> Tensor:
        at = f"blocks.{number}.{name}"
        parts = weights[f"{at}.weight"], weights[f"{at}.bias"]
        return functional.layer_norm(values, values.shape[-1:], *parts, eps=1e-6)

    pools = number in POOLED
    normed = norm("norm1", x)
    kept = _pooled(linear("proj", normed)) if pools else x
    q, k, v = linear("attn.qkv", normed).chunk(3, dim=-1)
    windows = (grid // 8) ** 2 if number <= POOLED[1] else 1
    q = _pooled(q) if pools else q
    x = kept + linear("attn.proj", _attention(q, k, v, windows))
    return x + linear("mlp.fc2", functional.gelu(linear("mlp.fc1", norm("norm2", x))))


def _pooled(x: Tensor) -> Tensor:
    return x.view(1, 4, -1, x.shape[-1]).amax(dim=1)


def _attention(q: Tensor, k: Tensor, v: Tensor, windows: int) -> Tensor:
    """The plain formula, a window at a time along the fastest axis."""

    def split(values: Tensor) -> Tensor:  # windows, heads, tokens, 56
        return values.view(-1, windows, values.shape[-1] // HEAD, HEAD).permute(1, 2, 0, 3)

    q, k, v = split(q), split(k), split(v)
    seen = ((q @ k.transpose(-1, -2)) * HEAD**-0.5).softmax(dim=-1) @ v
    return seen.permute(2, 0, 1, 3).reshape(1, -1, seen.shape[1] * HEAD)
