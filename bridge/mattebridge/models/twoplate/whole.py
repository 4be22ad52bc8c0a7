"""The network of `twoplate` for a GPU: the whole frame, in the same list of steps for any picture.

    planes (H, W, C) --> coarse net --> matte everywhere --unsure?--.
                              `-------> refiner everywhere ---------+--> one or the other, by tile

`tiles` refines only where something is unsure, and looks at the picture to find out where. A GPU
refines everything in less time than that question takes, so here the question decides only which of
two results a tile keeps: the pixels are those of `tiles`, within rounding. The steps can be
recorded and replayed as one launch (`pytorch/graphs.py`).
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.pytorch.graphs import Graphs, Tensors
from mattebridge.models.twoplate.network import (
    Change,
    Inputs,
    NetworkMatte,
    TwoPlate,
    clamped,
    enlarged,
    inputs_of,
    is_unsure,
    padded,
    twice,
)
from mattebridge.models.twoplate.strands import with_strands
from mattebridge.models.twoplate.tiles import TILE, doubtful


class Planes(NamedTuple):
    """A frame as it is in memory, float32: (H, W, 3) or (H, W); pictures are cut to 0..1 here.

    wide_alpha: the keyer's with a wider band, for a network that takes it.
    """

    plate: Tensor
    clean_plate: Tensor
    keyed_alpha: Tensor
    keyed_foreground: Tensor
    alpha_hint: Optional[Tensor]
    outside: Optional[Tensor]
    wide_alpha: Optional[Tensor] = None


class WholeMatte(NamedTuple):
    """alpha (H, W), foreground (H, W, 3), both 0..1; share: of tiles that were refined, (1,).

    graph: whether the steps were replayed from a recording, and if not, why; `None` without any.
    """

    alpha: Tensor
    foreground: Tensor
    share: Tensor
    graph: Optional[str]


class WholeFrame:
    """The network, computing whole frames on the device of its weights."""

    def __init__(self, network: TwoPlate, graphs: Optional[Graphs] = None) -> None:
        self._network = network
        self._graphs = graphs

    @property
    def memory_bytes(self) -> int:
        """The memory of recordings."""
        return 0 if self._graphs is None else self._graphs.memory_bytes

    def __call__(self, planes: Planes, *, scene_linear: bool, exact: bool) -> WholeMatte:
        """The network's matte of a frame; with `exact` every tile keeps the refined one."""
        given = tuple(plane for plane in planes if plane is not None)
        present = tuple(plane is not None for plane in planes)

        def compute(*seen: Tensor) -> Tensors:
            rest = iter(seen)
            all_planes = Planes(*(next(rest) if there else None for there in present))  # type: ignore[arg-type]
            return self._compute(all_planes, scene_linear, exact)

        if self._graphs is None:
            made, graph = compute(*given), None
        else:
            key = (planes.plate.shape, present, scene_linear, exact)
            made, graph = self._graphs.run(key, compute, given)
        alpha, foreground, share = made
        return WholeMatte(alpha, foreground, share, graph)

    def _compute(self, planes: Planes, scene_linear: bool, exact: bool) -> Tensors:
        height, width = planes.keyed_alpha.shape
        network = self._network
        factor = network.factor_for(height, width)
        grown = padded(_inputs(planes, scene_linear), factor)
        half = enlarged(network.coarse(network.small_inputs(grown, factor)), factor // 2)
        fine = clamped(network.refine(grown, half))
        if exact:
            made, share = fine, grown.plate.new_ones(1)
        else:
            made, share = _chosen(network, grown, half, fine)
        made = NetworkMatte(*(plane[:, :, :height, :width] for plane in made))
        if network.strands_put_back:
            made = with_strands(made, grown, factor)
        rows = made.foreground[0].permute(1, 2, 0).contiguous()
        return made.alpha[0, 0].contiguous(), rows, share


def _inputs(planes: Planes, scene_linear: bool) -> Inputs:
    return inputs_of(
        _picture(planes.plate),
        _picture(planes.clean_plate),
        (planes.keyed_alpha[None, None], _picture(planes.keyed_foreground)),
        None if planes.alpha_hint is None else planes.alpha_hint[None, None],
        None if planes.outside is None else planes.outside[None, None],
        scene_linear=scene_linear,
        wide_alpha=None if planes.wide_alpha is None else planes.wide_alpha[None, None],
    )


def _picture(image: Tensor) -> Tensor:
    return image.permute(2, 0, 1)[None].clamp(0, 1)


def _chosen(
    network: TwoPlate, given: Inputs, half: Change, fine: NetworkMatte
) -> tuple[NetworkMatte, Tensor]:
    """The refined matte where something is unsure, else that of the coarse net; and the share."""
    rough = clamped(network.finished(given, twice(half.logit), twice(half.foreground), None))
    height, width = given.plate.shape[2:]
    unsure = (is_unsure(rough.alpha) | network.unsure(given)).float()
    side = 2 * TILE
    unsure = functional.pad(unsure, (0, -width % side, 0, -height % side))
    busy = (functional.max_pool2d(unsure, side) > 0) | doubtful(half)
    here = functional.interpolate(busy.float(), scale_factor=float(side), mode="nearest")
    here = here[:, :, :height, :width] > 0
    made = NetworkMatte(*(torch.where(here, one, other) for one, other in zip(fine, rough)))
    return made, busy.float().mean().view(1)
