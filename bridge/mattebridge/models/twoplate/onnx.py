"""`twoplate` as an ONNX file, for runtimes without torch: one frame size, the whole computation.

Inputs: plate and clean_plate (1, 3, H, W), display-encoded RGB 0..1; keyed_alpha (1, 1, H, W) and
keyed_foreground (1, 3, H, W), the matte of model `difference`, which the network corrects;
alpha_hint and outside (1, 1, H, W), 0 where absent; hint_given and scene_linear (1, 1, 1, 1), 0 or
1; for a network of the version `gated` wide_alpha (1, 1, H, W), the alpha of `difference.wide`,
whose colour keyed_foreground then is; noise (1, 1, 1, 1), the standard deviation of one channel of
one pixel between plate and clean plate where there is no subject, 0 to leave grain in alpha.
Outputs: alpha (1, 1, H, W) and straight foreground (1, 3, H, W). All float32, top-down. The keyer,
alignment and the exposure fit of the clean plate are not in it: they come before.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mattebridge.errors import ModelError
from mattebridge.models.pytorch.known_pair import known_pair
from mattebridge.models.twoplate.grain import without_grain
from mattebridge.models.twoplate.network import Inputs, TwoPlate, clamped, inputs_of
from mattebridge.models.twoplate.strands import with_strands

# `wide_alpha` is the last of them; networks that do not take it have an input less.
INPUTS = (*Inputs._fields[:-1], "noise")
INPUTS_WITH_WIDE = (*Inputs._fields, "noise")
OUTPUTS = ("alpha", "foreground")
OPSET = 18
# Runtimes add in different orders; a larger difference is an error in the file.
LARGEST_DIFFERENCE = 1e-3


def checked_onnx(network: TwoPlate, *, height: int, width: int) -> tuple[bytes, float]:
    """The ONNX file, and by how much its matte of a test picture is off the network's at most.

    Raises `ModelError` (`reason`: import) where the extra 'onnx' is not installed, and (`reason`:
    export) where onnxruntime does not compute what the network does.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        export_onnx(network, path, height=height, width=width)
        data = path.read_bytes()
    largest = _difference(data, network, height, width)
    # This way round, so that NaN is refused as well.
    if not largest <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"the ONNX file is off by {largest:.1e} on a test picture of {width}x{height}, more "
            f"than {LARGEST_DIFFERENCE:.0e}: it was not written - try another onnxruntime",
            reason="export",
        )
    return data, largest


def _difference(file: bytes, network: TwoPlate, height: int, width: int) -> float:
    """Largest difference of alpha and foreground between onnxruntime and torch."""
    import onnxruntime

    plate, clean_plate = (p.permute(2, 0, 1)[None] for p in known_pair(height, width))
    # Any matte will do: opaque, empty and half parts, and a colour of its own.
    alpha = (4 * (plate - clean_plate).mean(1, keepdim=True)).clamp(0, 1)
    wide = alpha * alpha if network.takes_wide else None
    given = with_noise(inputs_of(plate, clean_plate, (alpha, plate.flip(1)), wide_alpha=wide), 0.01)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = names_of(network)
    feeds = {name: plane.contiguous().numpy() for name, plane in zip(names, given)}
    found = session.run(list(OUTPUTS), feeds)
    with torch.inference_mode():
        made = _OneFrame(network, network.factor_for(height, width)).eval()(*given)
    return max(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, made))


def export_onnx(
    network: TwoPlate, path: str | os.PathLike[str], *, height: int, width: int
) -> None:
    """Write the network, in evaluation, for frames of that size.

    Raises `ModelError` (`reason`: import) where the extra 'onnx' is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        raise ModelError(
            "ONNX files are written with the extra 'onnx': pip install 'mattebridge[onnx]'",
            reason="import",
        )
    alpha, *pictures = (torch.zeros(1, count, height, width) for count in (1, 3, 3, 3))
    plate, clean_plate, foreground = pictures
    wide = alpha if network.takes_wide else None
    given = inputs_of(plate, clean_plate, (alpha, foreground), wide_alpha=wide)
    with warnings.catch_warnings():
        # It warns that it is deprecated; its successor writes graphs that runtimes refuse.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _OneFrame(network, network.factor_for(height, width)).eval(),
            with_noise(given, 0.01),
            os.fspath(path),
            input_names=list(names_of(network)),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=False,
        )


def names_of(network: TwoPlate) -> tuple[str, ...]:
    """The names of the file's inputs."""
    return INPUTS_WITH_WIDE if network.takes_wide else INPUTS


def with_noise(given: Inputs, noise: float) -> tuple[Tensor, ...]:
    """The inputs of the file, in the order of its names."""
    planes = given if given.wide_alpha.shape[2] > 1 else given[:-1]
    return (*planes, torch.full((1, 1, 1, 1), noise))


class _OneFrame(nn.Module):
    """The network with its inputs one by one, as ONNX has them."""

    def __init__(self, network: TwoPlate, factor: int) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, *planes: Tensor) -> tuple[Tensor, Tensor]:
        """The planes of `Inputs`, in their order, and the noise."""
        given, noise = planes[:-1], planes[-1].flatten()
        if not self.network.takes_wide:
            given = (*given, torch.zeros_like(planes[-1]))
        seen = Inputs(*given)
        grainy = clamped(self.network(seen, self.factor)[1])
        if self.network.strands_put_back:
            grainy = with_strands(grainy, seen, self.factor)
        matte = without_grain(grainy, seen.clean_plate, noise, at_once=None)
        return matte.alpha, matte.foreground
