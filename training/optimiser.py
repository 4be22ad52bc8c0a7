"""AdamW (Loshchilov and Hutter 2019) over named parameters: its state is three dictionaries.

`torch.optim.AdamW` keeps its state by position, and takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.99)
_EPSILON = 1e-8


class AdamW:
    """Momentum, variance and number of updates of every parameter that has had a gradient."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], weight_decay: float) -> None:
        self._parameters, self._decay = dict(parameters), weight_decay
        self.momentum: dict[str, Tensor] = {}
        self.variance: dict[str, Tensor] = {}
        self.steps: dict[str, int] = {}

    def zero(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float, largest_gradient: float) -> None:
        """One update with learning rate `rate`; the gradient's norm is clipped first."""
        names = [name for name, p in self._parameters.items() if p.grad is not None]
        for name in names:
            if name not in self.steps:
                self.steps[name] = 0
                self.momentum[name] = torch.zeros_like(self._parameters[name])
                self.variance[name] = torch.zeros_like(self._parameters[name])
            self.steps[name] += 1
        values = [self._parameters[name] for name in names]
        gradients = [value.grad for value in values]
        length = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, (largest_gradient / (length + 1e-6)).clamp(max=1.0))
        momentum = [self.momentum[name] for name in names]
        variance = [self.variance[name] for name in names]
        torch._foreach_lerp_(momentum, gradients, 1 - _BETAS[0])
        torch._foreach_mul_(variance, _BETAS[1])
        torch._foreach_addcmul_(variance, gradients, gradients, 1 - _BETAS[1])
        # Bias correction: both averages start at zero and are too small at first.
        first = [1 - _BETAS[0] ** self.steps[name] for name in names]
        second = [(1 - _BETAS[1] ** self.steps[name]) ** 0.5 for name in names]
        lengths = torch._foreach_div(torch._foreach_sqrt(variance), second)
        torch._foreach_add_(lengths, _EPSILON)
        torch._foreach_mul_(values, 1 - rate * self._decay)
        torch._foreach_addcdiv_(values, momentum, lengths, [-rate / f for f in first])
