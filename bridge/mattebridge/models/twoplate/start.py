"""What the network is given of a frame: its pictures, and the keyer's matte, which it corrects.

    frame --without strong grain--> plate, clean plate --cut at white, soft edges dimmed-.
      `-----without any grain-----> keyer --> alpha, colour -----------------------------+--> Inputs

Training sees what production sees: its canvases are made by these functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint
from mattebridge.models.base import ModelInput
from mattebridge.models.difference.keyer import Begun, DifferenceModel, with_defaults
from mattebridge.models.difference.small import Small
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.twoplate.calm import Calm, calmed
from mattebridge.models.twoplate.dimmed import dim_edges
from mattebridge.models.twoplate.network import Inputs, inputs_of


class Start(NamedTuple):
    """What the network starts from: the keyer's matte, and, for a version that takes it, its alpha
    (H, W) and colour (H, W, 3) with a wider band, on the device."""

    keyed: Begun
    wide_alpha: Optional[Tensor] = None
    wide_foreground: Optional[Tensor] = None

    @property
    def alpha(self) -> Tensor:
        """The keyer's alpha that goes with `foreground`."""
        return self.keyed.alpha if self.wide_alpha is None else self.wide_alpha

    @property
    def foreground(self) -> Tensor:
        """The keyer's colour as the network is given it."""
        return self.keyed.foreground if self.wide_foreground is None else self.wide_foreground


class Seen(NamedTuple):
    """A frame and its small pictures without grain, as far as that is taken, and what the network
    starts from."""

    calm: Calm
    start: Start

    def inputs(self) -> Inputs:
        """The network's inputs of the frame as it is, not padded; its matte must be settled.

        Looks at the picture where it is brighter than white; a GPU does without (`whole`).
        """
        frame, start = self.calm.frame, self.start
        given = inputs_of(
            _picture(frame.plate),
            _picture(frame.clean_plate),
            (start.keyed.alpha[None, None], _picture(start.foreground)),
            None if frame.hint is None else frame.hint[None, None],
            None if frame.outside is None else frame.outside.float()[None, None],
            scene_linear=frame.scene_linear,
            wide_alpha=None if start.wide_alpha is None else start.wide_alpha[None, None],
        )
        if self.calm.small.brightest[0] > 1:
            dim_edges(given, frame, start.alpha, start.foreground)
        return given


def seen_by_network(
    keyer: DifferenceModel,
    given: ModelInput,
    frame: Frame,
    small: Small,
    checkpoint: Checkpoint,
    *,
    wide: bool,
) -> Seen:
    """frame: of this input, on the device; small: of this frame. wide: for a version of the network
    that takes the keyer's wider band."""
    calm = calmed(frame, small)
    given = with_defaults(calm.frame.as_input(given))
    if wide:
        start = Start(*keyer.with_wide(given, calm.frame, calm.small, checkpoint))
    else:
        start = Start(keyer.begun(given, calm.frame, calm.small, checkpoint))
    return Seen(calm, start)


def _picture(image: Any) -> Tensor:
    """(H, W, 3) as contiguous (1, 3, H, W), clipped to 0..1, as the network was trained."""
    picture = image.permute(2, 0, 1)[None]
    return torch.clamp(picture, 0, 1, out=torch.empty(picture.shape, device=picture.device))
