"""Which of the BackgroundMattingV2 networks a weights file is for, recognised by its keys alone.

`backbone.features.*` is MobileNetV2, a 23rd block in the third layer is ResNet-101, any other
`backbone.layer1.*` ResNet-50. With a `refiner.*` it is a MattingRefine, and the last axis of the
refiner's first convolution is the kernel size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mattebridge.errors import ModelError
from mattebridge.models.background_matting.networks import MattingBase, MattingRefine, make_network
from mattebridge.models.weights.state_dict import KEYS_NAMED, load_strictly


@dataclass(frozen=True)
class Architecture:
    """Class, backbone and refiner kernel (`None` without a refiner) of a state dict."""

    family: str
    backbone: str
    kernel_size: int | None

    def __str__(self) -> str:
        kernel = f", refiner kernel {self.kernel_size}" if self.kernel_size else ""
        return f"{self.family} with backbone {self.backbone}{kernel}"


def recognise(state: Mapping[str, Tensor]) -> Architecture:
    """The network that the keys are of; raises `ModelError` for those of another family."""
    backbone = _backbone_of(state)
    if backbone is None:
        some = ", ".join(sorted(state)[:KEYS_NAMED])
        raise ModelError(
            "these are not weights of BackgroundMattingV2 (no backbone.features.* or "
            f"backbone.layer1.* among the keys); found {some}",
            reason="family",
            keys=sorted(state)[:KEYS_NAMED],
        )
    if not any(name.startswith("refiner.") for name in state):
        return Architecture("MattingBase", backbone, None)
    first = state.get("refiner.conv1.weight")
    kernel = int(first.shape[-1]) if first is not None and first.dim() == 4 else 3
    return Architecture("MattingRefine", backbone, kernel if kernel in (1, 3) else 3)


def _backbone_of(state: Mapping[str, Tensor]) -> str | None:
    # ResNet-101 before ResNet-50, which has all of its prefixes but this one.
    signs = {
        "backbone.features.": "mobilenetv2",
        "backbone.layer3.22.": "resnet101",
        "backbone.layer1.": "resnet50",
    }
    for prefix, backbone in signs.items():
        if any(name.startswith(prefix) for name in state):
            return backbone
    return None


def network_from(state: Mapping[str, Tensor], **settings: Any) -> MattingBase:
    """The network that these weights are for, with them loaded.

    settings: `backbone_scale` and the `refine_` arguments, for weights of `MattingRefine` only.
    Raises `ModelError` where a key is missing, unknown or of another shape.
    """
    architecture = recognise(state)
    if architecture.kernel_size is not None:
        settings["refine_kernel_size"] = architecture.kernel_size
    with torch.device("meta"):
        network = make_network(architecture.family, architecture.backbone, **settings)
    load_weights(network, state)
    return network


def load_weights(network: MattingBase, state: Mapping[str, Tensor]) -> None:
    """Load weights into a given network.

    Raises `ModelError`, naming the keys that do not fit and the network that the file looks like.
    """
    found, wanted = recognise(state), _architecture_of(network)
    but = "" if found == wanted else f", and the network is {wanted}"
    load_strictly(network, state, looks_like=f"The file looks like {found}{but}.")


def _architecture_of(network: MattingBase) -> Architecture:
    kernel = network.refiner.kernel_size if isinstance(network, MattingRefine) else None
    return Architecture(network.family, network.backbone_name, kernel)
