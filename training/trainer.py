"""One run in memory: network, average, optimiser, layers; `step` makes one step of it.

Everything that a step needs follows from the plan's seed and the step's number, so a run that was
stopped and taken up again makes the same steps (on the same kind of device, with the same threads).
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mattebridge.models.twoplate import Inputs, TwoPlate
from training.compose.shots import Shots, composed
from training.farm import LayerFarm
from training.layers import SIDE
from training.losses import coarse_loss, refined_loss
from training.optimiser import AdamW
from training.plan import Plan
from training.pool import LayerPool
from training.state import Progress, Snapshot

# At most this many pairs are taken at a step that does not wait for them.
_MOST_AT_ONCE = 12
_LARGEST_GRADIENT = 1.0


class Trainer:
    """A run that can be stepped, looked at and written down."""

    def __init__(
        self,
        plan: Plan,
        *,
        device: str = "cpu",
        workers: int = 0,
        wait: bool = True,
        side: int = SIDE,
    ) -> None:
        self.plan, self.progress = plan, Progress(device=device)
        self.device, self._workers, self._wait, self._side = (
            torch.device(device),
            workers,
            wait,
            side,
        )
        torch.manual_seed(plan.seed)
        self.network = TwoPlate(*([plan.widths] if plan.widths else []))
        self.network.to(self.device).to(memory_format=torch.channels_last)
        self.average = {k: v.clone() for k, v in self.network.state_dict().items()}
        parameters = dict(self.network.named_parameters())
        self._optimiser = AdamW(parameters, plan.weight_decay)
        self._pool = LayerPool(plan.pool, device=device, side=side)
        self._farm: LayerFarm | None = None
        self.waited_s = 0.0

    def close(self) -> None:
        if self._farm is not None:
            self._farm.close()
            self._farm = None

    # --- layers -----------------------------------------------------------------------------------

    def fill(self, *, anew: bool = False) -> None:
        """Draw what the pool held when the run was written down, or, `anew`, pairs never seen."""
        progress = self.progress
        if anew:
            progress.first_pair = progress.next_pair
        if progress.next_pair == progress.first_pair:
            progress.next_pair = progress.first_pair + min(self.plan.warm, self.plan.pool)
        first = max(progress.first_pair, progress.next_pair - self.plan.pool)
        self._farm = LayerFarm(self.plan.seed, first, workers=self._workers, side=self._side)
        self._pool.refill(self._farm, first, progress.next_pair)
        self._pool.first = progress.first_pair

    def _freshen(self) -> None:
        """New pairs for this step: as planned, or (not waiting) what is ready."""
        assert self._farm is not None, "fill() comes before step()"
        start = time.perf_counter()
        for _ in range(self.plan.fresh if self._wait else _MOST_AT_ONCE):
            if not self._pool.take(self._farm, wait=self._wait):
                break
        self.progress.next_pair = self._pool.next
        self.waited_s += time.perf_counter() - start

    # --- steps ------------------------------------------------------------------------------------

    def step(self) -> dict[str, Tensor]:
        """One step; the parts of the loss, still on the device."""
        plan, progress = self.plan, self.progress
        step = progress.step
        shots = composed(
            self._pool, plan.seed, step, count=plan.batch, canvas=plan.canvas, crop=plan.crop
        )
        parts = self._descend(shots, self._factor(step), step)
        self._follow(plan.decay(step))
        self._freshen()
        progress.step, progress.samples = step + 1, progress.samples + plan.batch
        return parts

    def _factor(self, step: int) -> int:
        """Mostly half size, as for small frames; a quarter, as for large ones, now and then."""
        rng = np.random.default_rng([self.plan.seed, step, 7])
        return 4 if rng.random() < self.plan.quarter_share else 2

    def _descend(self, shots: Shots, factor: int, step: int) -> dict[str, Tensor]:
        self.network.train()
        self._optimiser.zero()
        parts = self._losses(shots, factor, self.plan.refines(step))
        total = torch.stack(list(parts.values())).sum()
        total.backward()
        self._optimiser.step(self.plan.rate(step), _LARGEST_GRADIENT)
        return {"loss": total.detach(), **{k: v.detach() for k, v in parts.items()}}

    def _losses(self, shots: Shots, factor: int, refines: bool) -> dict[str, Tensor]:
        given = inputs_from(shots)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            if refines:
                coarse, matte = self.network(given, factor)
            else:
                coarse = self.network.coarse_only(given, factor)
        parts = coarse_loss(coarse, shots, factor)
        if not refines:
            return parts
        return {**{k: 0.4 * v for k, v in parts.items()}, **refined_loss(matte, shots)}

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        """The moving average of everything, norms' statistics included."""
        state = self.network.state_dict()
        moving = [key for key, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.average[key] for key in moving], [state[key] for key in moving], 1 - decay
        )

    # --- keeping ----------------------------------------------------------------------------------

    def averaged(self) -> TwoPlate:
        """The network with the averaged weights, for judging."""
        network = TwoPlate(*([self.plan.widths] if self.plan.widths else [])).to(self.device)
        network.load_state_dict(self.average)
        return network.to(memory_format=torch.channels_last).eval()

    def snapshot(self) -> Snapshot:
        return Snapshot(
            plan=self.plan,
            progress=replace(self.progress),
            weights=_kept(self.network.state_dict()),
            average=_kept(self.average),
            momentum=_kept(self._optimiser.momentum),
            variance=_kept(self._optimiser.variance),
            optimiser_steps=dict(self._optimiser.steps),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on where a snapshot was taken; `fill` comes next."""
        self.plan, self.progress = snapshot.plan, replace(snapshot.progress)
        self.network.load_state_dict(snapshot.weights)
        self.average = {k: v.to(self.device).clone() for k, v in snapshot.average.items()}
        self._optimiser.momentum = self._moved(snapshot.momentum)
        self._optimiser.variance = self._moved(snapshot.variance)
        self._optimiser.steps = dict(snapshot.optimiser_steps)

    def _moved(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies on the device, laid out as the parameters are."""
        like = dict(self.network.named_parameters())
        return {k: torch.empty_like(like[k]).copy_(v) for k, v in tensors.items()}

    def begin_from(self, state: dict[str, Tensor], label: str) -> None:
        """Start from given weights instead of random ones."""
        self.network.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
        self.average = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.progress.initial = label


def inputs_from(shots: Shots) -> Inputs:
    return Inputs(
        shots.plate,
        shots.clean_plate,
        shots.alpha_hint,
        shots.hint_given,
        shots.outside,
        shots.scene_linear,
    )


def _kept(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
