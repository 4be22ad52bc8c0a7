"""The network of `twoplate` for a GPU: the whole frame, in the same list of steps for any picture.

    planes (H, W, C) --> coarse net --> matte everywhere --unsure?--.
                              `-------> refiner everywhere ---------+--> one or the other, by tile
                     --> strands, grain, light, highlights, as `model` has them

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

from mattebridge.models.difference.full_size import shrunk
from mattebridge.models.difference.noise import noise_where
from mattebridge.models.difference.working_size import size_of
from mattebridge.models.pytorch.graphs import Graphs, Tensors
from mattebridge.models.twoplate.dimmed import dimmed_at_once
from mattebridge.models.twoplate.grain import rows_between, without_grain_at_once
from mattebridge.models.twoplate.highlights import highlighted_at_once
from mattebridge.models.twoplate.light import explained_at_once
from mattebridge.models.twoplate.mixed import Lit
from mattebridge.models.twoplate.network import (
    SURE,
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

    keyed_alpha, keyed_foreground: what the network starts from. wide_alpha: the keyer's with a
    wider band, for a network that takes it; then own_foreground is the keyer's with the usual one.
    """

    plate: Tensor
    clean_plate: Tensor
    keyed_alpha: Tensor
    keyed_foreground: Tensor
    alpha_hint: Optional[Tensor]
    outside: Optional[Tensor]
    wide_alpha: Optional[Tensor] = None
    own_foreground: Optional[Tensor] = None


class WholeMatte(NamedTuple):
    """alpha (H, W), 0..1, and foreground (H, W, 3).

    small: alpha at working size. numbers: the share of tiles that were refined, the noise of a
    pixel, the lowest and highest value of alpha, and those of the foreground. graph: whether the
    steps were replayed from a recording, and if not, why; `None` without any.
    """

    alpha: Tensor
    foreground: Tensor
    small: Tensor
    numbers: Tensor
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

    def __call__(
        self, planes: Planes, *, scene_linear: bool, exact: bool, highlights: bool = False
    ) -> WholeMatte:
        """The matte of a frame; with `exact` every tile keeps the refined one. highlights: whether
        there may be light above white."""
        given = tuple(plane for plane in planes if plane is not None)
        present = tuple(plane is not None for plane in planes)

        def compute(*seen: Tensor) -> Tensors:
            rest = iter(seen)
            all_planes = Planes(*(next(rest) if there else None for there in present))  # type: ignore[arg-type]
            matte, share = self.of_network(all_planes, scene_linear, exact, highlights)
            return _finished(matte, all_planes, share, scene_linear, highlights)

        if self._graphs is None:
            made, graph = compute(*given), None
        else:
            key = (planes.plate.shape, present, scene_linear, exact, highlights)
            made, graph = self._graphs.run(key, compute, given)
        alpha, foreground, small, numbers = made
        return WholeMatte(alpha, foreground, small, numbers, graph)

    def of_network(
        self, planes: Planes, scene_linear: bool, exact: bool, highlights: bool = False
    ) -> tuple[NetworkMatte, Tensor]:
        """The network's matte alone, and the share of tiles that were refined, (1,)."""
        height, width = planes.keyed_alpha.shape
        network = self._network
        factor = network.factor_for(height, width)
        grown = padded(_inputs(planes, scene_linear, highlights), factor)
        half = enlarged(network.coarse(network.small_inputs(grown, factor)), factor // 2)
        fine = clamped(network.refine(grown, half))
        if exact:
            made, share = fine, grown.plate.new_ones(1)
        else:
            made, share = _chosen(network, grown, half, fine)
        made = NetworkMatte(*(plane[:, :, :height, :width] for plane in made))
        if network.strands_put_back:
            lit = Lit.of(planes.plate, planes.clean_plate) if highlights else None
            made = with_strands(made, grown, factor, lit)
        return made, share


def _finished(
    made: NetworkMatte, planes: Planes, share: Tensor, scene_linear: bool, highlights: bool
) -> Tensors:
    """What is computed behind the network, and what the host looks at of it."""
    plate, clean_plate = planes.plate, planes.clean_plate
    alpha, foreground = made.alpha[0, 0], made.foreground[0].permute(1, 2, 0).contiguous()
    noise = _noise(planes, alpha)
    alpha, foreground = without_grain_at_once(alpha, foreground, clean_plate.clamp(0, 1), noise)
    if scene_linear:
        alpha, foreground = explained_at_once(
            alpha, foreground, plate, clean_plate, planes.outside, noise,
            planes.keyed_foreground if highlights else None,
        )  # fmt: skip
    if highlights:
        own = planes.keyed_foreground if planes.own_foreground is None else planes.own_foreground
        keyed = planes.keyed_alpha, own
        alpha, foreground = highlighted_at_once(
            alpha, foreground, keyed, plate, clean_plate, scene_linear=scene_linear
        )
    (small,) = shrunk(size_of(alpha.shape), alpha)
    ranges = [*alpha.aminmax(), *foreground.aminmax()]
    numbers = torch.cat([share, torch.stack([noise, *ranges])])
    return alpha.contiguous(), foreground.contiguous(), small.contiguous(), numbers


def _noise(planes: Planes, alpha: Tensor) -> Tensor:
    every = rows_between(alpha)
    empty = alpha[::every] < SURE
    if planes.outside is not None:
        empty &= planes.outside[::every] <= 0
    return noise_where(planes.plate[::every], planes.clean_plate[::every], empty)


def _inputs(planes: Planes, scene_linear: bool, highlights: bool) -> Inputs:
    plate, colour = planes.plate, planes.keyed_foreground
    if highlights:
        alpha = planes.keyed_alpha if planes.wide_alpha is None else planes.wide_alpha
        plate, colour = dimmed_at_once(
            plate, planes.clean_plate, alpha, colour, scene_linear=scene_linear
        )
    return inputs_of(
        _picture(plate),
        _picture(planes.clean_plate),
        (planes.keyed_alpha[None, None], _picture(colour)),
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
