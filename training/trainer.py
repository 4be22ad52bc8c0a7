"""A run in memory: network, averaged weights, optimiser, canvases. `step` does one training step.

All random choices of a step follow from the plan's seed and the step's number, so a resumed run
makes the same steps (on the same kind of device, with the same number of threads).
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mattebridge.models.twoplate.gated import GatedTwoPlate, grown
from mattebridge.models.twoplate.network import Change, Inputs, NetworkMatte, TwoPlate, enlarged
from mattebridge.models.twoplate.versions import VERSIONS, version_of
from mattebridge.models.weights.state_dict import load_strictly
from training import windows
from training.canvases import KeyedShots
from training.farm import CanvasFarm
from training.losses import KEYER, inputs_from, keyer_loss, losses
from training.optimiser import AdamW
from training.plan import Plan
from training.pool import CanvasPool
from training.state import Progress, Snapshot

# Without waiting, at most this many finished groups are taken after a step.
_MOST_AT_ONCE = 2
# Gradients are clipped to this norm.
_LARGEST_GRADIENT = 1.0


class Trainer:
    """One run: `fill` the pool, `step`, then `averaged` to evaluate or `snapshot` to save it."""

    def __init__(
        self, plan: Plan, *, device: str = "cpu", workers: int = 0, wait: bool = True
    ) -> None:
        self.plan, self.progress = plan, Progress(device=device)
        self.device, self._workers, self._wait = torch.device(device), workers, wait
        self._half = good_at_half(self.device)
        # On a CPU the gradients of the weights take half the time in the contiguous layout.
        cpu = self.device.type == "cpu"
        self._layout = torch.contiguous_format if cpu else torch.channels_last
        torch.manual_seed(plan.seed)
        self.network = self._empty().to(self.device).to(memory_format=self._layout)
        self.average = {k: v.clone() for k, v in self.network.state_dict().items()}
        parameters = dict(self.network.named_parameters())
        self._optimiser = AdamW(parameters, plan.weight_decay)
        self._pool: CanvasPool | None = None
        self._farm: CanvasFarm | None = None
        self.waited_s = 0.0

    def close(self) -> None:
        if self._farm is not None:
            self._farm.close()
            self._farm = None

    # --- canvases ---------------------------------------------------------------------------------

    def fill(self, *, anew: bool = False) -> None:
        """Fill the pool as it was when the run was saved; anew: with canvases never drawn yet."""
        plan, progress = self.plan, self.progress
        if anew:
            progress.first_group = progress.next_group
        if progress.next_group == progress.first_group:
            progress.next_group = progress.first_group + plan.warm_groups
        self._pool = CanvasPool(plan.pool, size=plan.canvas, device=str(self.device))
        first = max(progress.first_group, progress.next_group - self._pool.groups)
        self._farm = CanvasFarm(
            plan.seed,
            first,
            workers=self._workers,
            drawing=plan.drawing,
            any_order=not self._wait,
        )
        self._pool.refill(self._farm, first, progress.next_group)

    @property
    def pool(self) -> CanvasPool:
        """The canvases; `fill` must have been called."""
        assert self._pool is not None, "call fill() before step()"
        return self._pool

    def _freshen(self, step: int) -> None:
        """Take new canvases: as many as planned, or, without waiting, those that are ready."""
        assert self._farm is not None
        start = time.perf_counter()
        for _ in range(self.plan.fresh_groups(step) if self._wait else _MOST_AT_ONCE):
            if not self.pool.take(self._farm, wait=self._wait):
                break
        self.progress.next_group = self.pool.next
        self.waited_s += time.perf_counter() - start

    # --- steps ------------------------------------------------------------------------------------

    def step(self) -> dict[str, Tensor]:
        """Do one step; returns the parts of the loss, still on the device."""
        plan, progress, step = self.plan, self.progress, self.progress.step
        parts = self._descend(self.shots(), plan.factor(step), step)
        self._follow(plan.decay(step))
        self._freshen(step)
        progress.step, progress.samples = step + 1, progress.samples + plan.batch
        return parts

    def shots(self) -> KeyedShots:
        """The batch of the next step."""
        plan = self.plan
        return self.pool.crops(plan.seed, self.progress.step, plan.batch, plan.crop, plan.twins)

    def _descend(self, shots: KeyedShots, factor: int, step: int) -> dict[str, Tensor]:
        self.network.train()
        self._optimiser.zero()
        rng = np.random.default_rng([self.plan.seed, step, 11])
        window = min(self.plan.window, self.plan.crop)
        corners = windows.chosen(shots, window, rng, self.plan.twins)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            change, matte = self._asked(inputs_from(shots), factor, corners, window)
        seen = windows.shots_in(shots, corners, window)
        parts = losses(change, matte, shots, seen, factor, self.plan.twins)
        total = torch.stack(list(parts.values())).sum()
        total.backward()
        self._optimiser.step(self.plan.rate(step), _LARGEST_GRADIENT)
        values = {"loss": total, **parts, KEYER: keyer_loss(shots, seen)}
        return {name: value.detach() for name, value in values.items()}

    def _asked(
        self, given: Inputs, factor: int, corners: windows.Corners, window: int
    ) -> tuple[Change, NetworkMatte]:
        """The coarse change of the crops, and the refined matte of their windows."""
        network = self.network
        change = network.coarse(network.small_inputs(given, factor))
        half = windows.change_in(enlarged(change, factor // 2), corners, window)
        return change, network.refine(windows.inputs_in(given, corners, window), half)

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        """Update the moving average of all weights and of the norms' statistics."""
        state = self.network.state_dict()
        moving = [key for key, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.average[key] for key in moving], [state[key] for key in moving], 1 - decay
        )

    # --- state ------------------------------------------------------------------------------------

    def averaged(self) -> TwoPlate:
        """The network with the averaged weights, for evaluation."""
        network = self._empty().to(self.device)
        network.load_state_dict(self.average)
        return network.to(memory_format=self._layout).eval()

    def _empty(self) -> TwoPlate:
        return VERSIONS[self.plan.network](*([self.plan.widths] if self.plan.widths else []))

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
        """Continue from a snapshot; call `fill` next."""
        self.plan, self.progress = snapshot.plan, replace(snapshot.progress)
        self.network.load_state_dict(snapshot.weights)
        self.average = {k: v.to(self.device).clone() for k, v in snapshot.average.items()}
        self._optimiser.momentum = self._moved(snapshot.momentum)
        self._optimiser.variance = self._moved(snapshot.variance)
        self._optimiser.steps = dict(snapshot.optimiser_steps)

    def _moved(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies on the device, in the memory layout of the parameters."""
        like = dict(self.network.named_parameters())
        return {k: torch.empty_like(like[k]).copy_(v) for k, v in tensors.items()}

    def begin_from(self, state: dict[str, Tensor], label: str) -> None:
        """Start from given weights, not from random ones; `ModelError` if they do not fit.

        Weights of the version `correction` are a start for `gated` too.
        """
        network = self._empty()
        if isinstance(network, GatedTwoPlate) and version_of(state) != network.version:
            state = grown(state, network)
        load_strictly(network, state, looks_like="They must be those of a run of this plan.")
        self.network.load_state_dict(network.state_dict())
        self.average = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.progress.initial = label


def good_at_half(device: torch.device) -> bool:
    """Whether bfloat16 is faster on the device: on a CPU only if it has instructions for it."""
    if device.type != "cpu":
        return True
    # Older versions of torch do not report this.
    has = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def _kept(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
