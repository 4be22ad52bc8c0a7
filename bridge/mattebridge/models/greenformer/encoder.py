"""The encoder: Hiera with 24 blocks, from plate and hint to four feature maps.

    (B, 4, S, S) --7x7, stride 4--> + position table --> blocks --> maps at S/4, S/8, S/16, S/32

    block      width         heads   attends within           each query is the
    0, 1       112           2       windows of 8x8 tokens
    2          112 -> 224    4       windows of 8x8           maximum of 2x2 tokens
    3, 4       224           4       windows of 4x4
    5          224 -> 448    8       windows of 4x4           maximum of 2x2 tokens
    6 to 20    448           8       the whole frame
    21         448 -> 896    16      the whole frame          maximum of 2x2 tokens
    22, 23     896           16      the whole frame

The first block of a stage attends as the stage before it did. Tokens stay in rows and columns,
(B, H, W, C): the published networks keep them in another order, in which the same sums are taken.

Only the position table depends on S. It is interpolated from the one in the checkpoint, so that one
set of weights serves every size that is a multiple of 32.

After Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles"
(ICML 2023), and the names of its weights in published checkpoints.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from mattebridge.checkpoint import Checkpoint, no_checkpoint

CHANNELS = (112, 224, 448, 896)
HEAD = 56  # channels of a head, in every block
PATCH = 4
# Patch of 4 and window of 8 tokens: other sizes cannot be cut into windows.
SIZE_MULTIPLE = 32
NORM_EPS = 1e-6
# The blocks whose outputs are the feature maps.
LAST_OF_STAGE = (1, 4, 20, 23)


class BlockShape(NamedTuple):
    """One block: channels in and out, whether it pools its queries, its window (None: all)."""

    width: int
    out: int
    pools: bool
    window: Optional[int]


def block_shapes() -> list[BlockShape]:
    """The blocks of the published networks, as in the table above."""
    first, second, third, fourth = CHANNELS
    return [
        *2 * [BlockShape(first, first, False, 8)],
        BlockShape(first, second, True, 8),
        *2 * [BlockShape(second, second, False, 4)],
        BlockShape(second, third, True, 4),
        *15 * [BlockShape(third, third, False, None)],
        BlockShape(third, fourth, True, None),
        *2 * [BlockShape(fourth, fourth, False, None)],
    ]


class Encoder(nn.Module):
    """See the module; `grid` is the side of the checkpoint's position table."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.model = Hiera(grid)

    def forward(
        self,
        x: Tensor,
        table: Optional[Tensor] = None,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> list[Tensor]:
        """Four maps (B, h, w, C) of (B, 4, S, S); table: of `Hiera.table_for`, made if None.

        `checkpoint("encoder")` is called before each block.
        """
        maps: list[Tensor] = self.model(x, table, checkpoint)
        return maps


class Hiera(nn.Module):
    def __init__(self, grid: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, grid * grid, CHANNELS[0]))
        self.patch_embed = PatchEmbedding()
        self.blocks = nn.ModuleList(Block(shape) for shape in block_shapes())

    def forward(self, x: Tensor, table: Optional[Tensor], checkpoint: Checkpoint) -> list[Tensor]:
        if table is None:
            table = self.table_for(x.shape[-1]).to(x.device)
        x = self.patch_embed(x) + table
        # Half precision begins behind the input and the table.
        x = x.to(next(self.blocks.parameters()).dtype)
        maps = []
        for number, block in enumerate(self.blocks):
            checkpoint("encoder", number, len(self.blocks))
            x = block(x)
            if number in LAST_OF_STAGE:
                maps.append(x)
        return maps

    def table_for(self, size: int) -> Tensor:
        """The position table of frames of `size` x `size`, (1, S/4, S/4, 112) float32."""
        return interpolated_table(self.pos_embed, size // PATCH)


def interpolated_table(table: Tensor, side: int) -> Tensor:
    """A table (1, N, C) of a square grid as (1, side, side, C): bicubic, without antialiasing."""
    grid = math.isqrt(table.shape[1])
    square = table.detach().view(1, grid, grid, -1)
    if grid == side:
        return square
    image = square.permute(0, 3, 1, 2).float()
    image = functional.interpolate(image, (side, side), mode="bicubic", align_corners=False)
    return image.permute(0, 2, 3, 1).contiguous()


class PatchEmbedding(nn.Module):
    """Plate (3 channels) and hint to tokens, (B, S/4, S/4, 112)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(4, CHANNELS[0], 7, stride=PATCH, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.proj(x)
        return tokens.permute(0, 2, 3, 1)


class Block(nn.Module):
    """Attention and two layers for each token, both added to what came in."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=NORM_EPS)
        if shape.pools:
            self.proj = nn.Linear(shape.width, shape.out)
        self.attn = Attention(shape)
        self.norm2 = nn.LayerNorm(shape.out, eps=NORM_EPS)
        self.mlp = Mlp(shape.out)
        self._pools = shape.pools

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        # The normalised input goes on, not x itself.
        kept = max_of_2x2(self.proj(normed)) if self._pools else x
        x = kept + self.attn(normed)
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        wider: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return wider


class Attention(nn.Module):
    """Attention of a block, within its windows or over the frame."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.qkv = nn.Linear(shape.width, 3 * shape.out)
        self.proj = nn.Linear(shape.out, shape.out)
        self._shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, out) from (B, H, W, width); half of H and W where queries are pooled."""
        _, height, width, _ = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        rows, columns = (self._shape.window or height), (self._shape.window or width)
        k, v = (heads_of(windows_of(each, rows, columns)) for each in (k, v))
        if self._shape.pools:
            q, height, width = max_of_2x2(q), height // 2, width // 2
            rows, columns = rows // 2, columns // 2
        q = heads_of(windows_of(q, rows, columns))
        seen = functional.scaled_dot_product_attention(q, k, v)
        joined: Tensor = self.proj(frame_of(seen, height, width, rows, columns))
        return joined


def max_of_2x2(x: Tensor) -> Tensor:
    """(B, H/2, W/2, C): the largest of each cell of 2x2 tokens, by channel."""
    batch, height, width, channels = x.shape
    return x.view(batch, height // 2, 2, width // 2, 2, channels).amax(dim=(2, 4))


def windows_of(x: Tensor, rows: int, columns: int) -> Tensor:
    """(B * windows, rows * columns, C)."""
    batch, height, width, channels = x.shape
    if (rows, columns) == (height, width):
        return x.reshape(batch, height * width, channels)
    cut = x.view(batch, height // rows, rows, width // columns, columns, channels)
    return cut.transpose(2, 3).reshape(-1, rows * columns, channels)


def heads_of(x: Tensor) -> Tensor:
    """(N, heads, tokens, 56), contiguous: with it torch takes its kernel of bounded memory."""
    return x.view(*x.shape[:2], -1, HEAD).transpose(1, 2).contiguous()


def frame_of(seen: Tensor, height: int, width: int, rows: int, columns: int) -> Tensor:
    """(B, H, W, C) of windows with heads."""
    tokens = seen.transpose(1, 2).flatten(2)
    grid = tokens.view(-1, height // rows, width // columns, rows, columns, tokens.shape[-1])
    return grid.transpose(2, 3).reshape(-1, height, width, tokens.shape[-1])
