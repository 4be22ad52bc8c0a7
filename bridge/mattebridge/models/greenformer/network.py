"""The whole network in its published form: plate and hint to alpha and foreground.

    x (B, 4, S, S) --encoder--> maps --2 decoders--> logits S/4 --> S --+--> sigmoid
                                                                        +-- refiner_scale x refiner

Its state dict has the 367 entries of published checkpoints, in their order. `fast` computes the
same in less time and memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.models.greenformer.decoder import Decoder, enlarged
from mattebridge.models.greenformer.encoder import Encoder
from mattebridge.models.greenformer.refiner import Refiner

# Of display-encoded plates, by channel.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Greenformer(nn.Module):
    """The network. grid: the side of its position table, a quarter of the size it is of."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.encoder = Encoder(grid)
        self.alpha_decoder = Decoder(1)
        self.fg_decoder = Decoder(3)
        self.refiner = Refiner()

    def forward(self, x: Tensor, refiner_scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Alpha (B, 1, S, S) and straight, display-encoded foreground (B, 3, S, S), 0..1.

        x: `network_input`, of any S that is a multiple of 32. refiner_scale: 0 leaves the refiner
        out.
        """
        made = self.logits(x, refiner_scale).sigmoid()
        return made[:, :1], made[:, 1:]

    def logits(
        self, x: Tensor, refiner_scale: float = 1.0, checkpoint: Checkpoint = no_checkpoint
    ) -> Tensor:
        """What the sigmoid is taken of: (B, 4, S, S), alpha first."""
        maps = self.encoder(x, None, checkpoint)
        checkpoint("decoders")
        coarse = torch.cat([self.alpha_decoder(maps), self.fg_decoder(maps)], dim=1)
        logits = enlarged(coarse, x.shape[-2:])
        if not refiner_scale:
            return logits
        change: Tensor = self.refiner(x[:, :3], logits.sigmoid(), checkpoint)
        return logits + refiner_scale * change


def network_input(plate: Tensor, hint: Tensor) -> Tensor:
    """(B, 4, S, S) of a plate (B, 3, S, S), display-encoded, and a hint (B, 1, S, S), 0..1."""
    mean, deviation = (plate.new_tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return torch.cat([(plate - mean) / deviation, hint], dim=1)
