"""`twoplate` as an ONNX file, for runtimes without torch: one frame size, the whole computation.

Inputs: plate and clean_plate (1, 3, H, W), display-encoded RGB 0..1; alpha_hint and outside
(1, 1, H, W), 0 where absent; hint_given and scene_linear (1, 1, 1, 1), 0 or 1. Outputs: alpha
(1, 1, H, W) and straight foreground (1, 3, H, W). All float32, top-down. Alignment and exposure fit
of the clean plate are not in it: they come before.
"""

from __future__ import annotations

import importlib.util
import os
import warnings

import torch
from torch import Tensor, nn

from mattebridge.errors import ModelError
from mattebridge.models.twoplate import Inputs, TwoPlate, clamped, factor_for, inputs_of

INPUTS = ("plate", "clean_plate", "alpha_hint", "hint_given", "outside", "scene_linear")
OUTPUTS = ("alpha", "foreground")
OPSET = 18


def export_onnx(
    network: TwoPlate, path: str | os.PathLike[str], *, height: int, width: int
) -> None:
    """Write the network, in evaluation, for frames of that size.

    Raises `ModelError` (`reason`: import) where the extra 'onnx' is not installed.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ModelError(
            "ONNX files are written with the extra 'onnx': pip install 'mattebridge[onnx]'",
            reason="import",
        )
    plates = (torch.zeros(1, 3, height, width) for _ in range(2))
    with warnings.catch_warnings():
        # The exporter warns of its own future; its successor writes graphs that runtimes refuse.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _OneFrame(network, factor_for(height, width)).eval(),
            tuple(inputs_of(*plates)),
            os.fspath(path),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=False,
        )


class _OneFrame(nn.Module):
    """The network with its inputs one by one, as ONNX has them."""

    def __init__(self, network: TwoPlate, factor: int) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(
        self,
        plate: Tensor,
        clean_plate: Tensor,
        alpha_hint: Tensor,
        hint_given: Tensor,
        outside: Tensor,
        scene_linear: Tensor,
    ) -> tuple[Tensor, Tensor]:
        given = Inputs(plate, clean_plate, alpha_hint, hint_given, outside, scene_linear)
        matte = clamped(self.network(given, self.factor)[1])
        return matte.alpha, matte.foreground
