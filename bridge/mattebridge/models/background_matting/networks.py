"""The published BackgroundMattingV2 networks: alpha and foreground from a plate and a clean plate.

`MattingBase` computes the whole frame at the size it is given. `MattingRefine` computes a small
copy first (`backbone_scale`), then at full size the cells where it expects to be wrong:

    plate, clean plate -> small pair -> backbone -> context -> decoder -> alpha, residual, error
                     \\-> full size, chosen cells only ---------------> refiner -> alpha, residual

Both predict the foreground as a residual: `foreground = plate + residual`. All images are RGB,
display-encoded, 0..1, (N, 3, H, W). State dicts have the published keys and shapes, constructor
arguments the published names, and results are the published tuples, whose letters are

    pha, fgr, err, hid  alpha, foreground (straight), error, hidden features
    pha_sm, fgr_sm, err_sm, ref_sm  the same at the small size; the refined cells, 0 or 1

The forward here is the plain one, against which `fast` is measured and tested. What differs
from the published code: sizes that are not a multiple of 4 are padded by edge replication and
cropped again, and frames with fewer pixels than `refine_sample_pixels` are refined everywhere
instead of failing. Scripts use these classes directly, without the engine: therefore they check the
sizes of their inputs themselves.

Source: Lin et al., "Real-Time High-Resolution Background Matting" (2021).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from mattebridge.errors import InputsError
from mattebridge.models.background_matting.backbones import BACKBONES, make_backbone, pair_channels
from mattebridge.models.background_matting.decoder import (
    ALPHA,
    CONTEXT_CHANNELS,
    ERROR,
    HIDDEN,
    RESIDUAL,
    ContextPyramid,
    Decoder,
)
from mattebridge.models.background_matting.refiner import CELL, REFINE_MODES, Refiner

__all__ = ["BACKBONES", "CONTEXT_CHANNELS", "REFINE_MODES", "MattingBase", "MattingRefine"]


class MattingBase(nn.Module):
    """Alpha, foreground, error and hidden features at the size of the plate."""

    family = "MattingBase"

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.backbone = make_backbone(backbone)
        self.backbone_name = backbone
        channels = self.backbone.channels
        self.aspp = ContextPyramid(channels[-1])
        self.decoder = Decoder(channels)
        # Dropout and batch statistics are for training; here networks are only used.
        self.eval()

    def forward(self, plate: Tensor, clean_plate: Tensor) -> tuple[Tensor, ...]:
        """pha (N, 1, H, W), fgr (N, 3, H, W), err (N, 1, H, W), hid (N, 32, H, W); any size.

        Raises `InputsError` where plate and clean plate differ in size.
        """
        check_pair(plate, clean_plate)
        decoded = self._decode(pair_channels(plate, clean_plate))
        foreground = plate + decoded[:, RESIDUAL]
        return (
            decoded[:, ALPHA].clamp(0, 1),
            foreground.clamp_(0, 1),
            decoded[:, ERROR].clamp(0, 1),
            decoded[:, HIDDEN].relu(),
        )

    def _decode(self, pair: Tensor) -> Tensor:
        maps = self.backbone(pair)
        return self.decoder(self.aspp(maps[-1]), maps)


class MattingRefine(MattingBase):
    """Alpha and foreground at the size of the plate, refined where the small copy may be wrong.

    `backbone_scale`: size of the small copy, at most 1/2. `refine_mode`: "sampling" (the
    `refine_sample_pixels` of the largest error), "thresholding" (error above
    `refine_threshold`) or "full". `refine_kernel_size`: 3 or 1, as the weights were trained.
    `refine_prevent_oversampling`: sampling leaves out cells without any error.
    """

    family = "MattingRefine"

    def __init__(
        self,
        backbone: str,
        backbone_scale: float = 1 / 4,
        refine_mode: str = "sampling",
        refine_sample_pixels: int = 80_000,
        refine_threshold: float = 0.1,
        refine_kernel_size: int = 3,
        refine_prevent_oversampling: bool = True,
    ) -> None:
        super().__init__(backbone)
        if not 0 < backbone_scale <= 1 / 2:
            raise ValueError(f"backbone_scale is above 0 and at most 0.5; got {backbone_scale!r}")
        self.backbone_scale = backbone_scale
        self.refiner = Refiner(
            refine_mode,
            refine_sample_pixels,
            refine_threshold,
            refine_kernel_size,
            refine_prevent_oversampling,
        )
        self.eval()

    def forward(self, plate: Tensor, clean_plate: Tensor) -> tuple[Tensor, ...]:
        """pha, fgr at (H, W); pha_sm, fgr_sm, err_sm small; ref_sm (N, 1, H/4, W/4).

        Raises `InputsError` where plate and clean plate differ in size.
        """
        check_pair(plate, clean_plate)
        height, width = plate.shape[-2:]
        pair = pad_to_cells(pair_channels(plate, clean_plate))
        small = functional.interpolate(
            pair,
            size=small_size(pair.shape[-2], pair.shape[-1], self.backbone_scale),
            mode="bilinear",
            align_corners=False,
        )
        decoded = self._decode(small)
        alpha, error = decoded[:, ALPHA].clamp_(0, 1), decoded[:, ERROR].clamp_(0, 1)
        residual, hidden = decoded[:, RESIDUAL], decoded[:, HIDDEN].relu_()
        # Alpha and residual are neighbouring channels: the refiner is given both as one map.
        refined = self.refiner(pair, decoded[:, 0:4], error, hidden)
        pha = refined.alpha[..., :height, :width].clamp(0, 1)
        fgr = (plate + refined.residual[..., :height, :width]).clamp_(0, 1)
        return pha, fgr, alpha, (small[:, :3] + residual).clamp_(0, 1), error, refined.cells


def check_pair(plate: Tensor, clean_plate: Tensor) -> None:
    """Raise `InputsError` with both sizes where plate and clean plate do not fit together."""
    if plate.shape == clean_plate.shape and plate.dim() == 4 and plate.shape[1] == 3:
        return
    raise InputsError(
        "the plate and the clean plate must be images of one size, (N, 3, H, W); got "
        f"{tuple(plate.shape)} and {tuple(clean_plate.shape)} - reformat the clean plate",
        plate=tuple(plate.shape),
        clean_plate=tuple(clean_plate.shape),
    )


def pad_to_cells(image: Tensor) -> Tensor:
    """The image with its last column and row repeated until both sides are multiples of 4."""
    height, width = image.shape[-2:]
    right, down = -width % CELL, -height % CELL
    if not right and not down:
        return image
    return functional.pad(image, (0, right, 0, down), mode="replicate")


def small_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Rows and columns of the small copy of a frame: rounded down, at least one."""
    return max(1, int(height * scale)), max(1, int(width * scale))


def make_network(family: str, backbone: str, **settings: Any) -> MattingBase:
    """`MattingBase` or `MattingRefine` by name, with random weights."""
    return {"MattingBase": MattingBase, "MattingRefine": MattingRefine}[family](
        backbone, **settings
    )
