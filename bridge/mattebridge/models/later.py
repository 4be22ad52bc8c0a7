"""What is known of a frame once the host has looked at something of it.

A GPU is given its steps ahead of time: a host that waits for a result before it gives the next step
leaves it idle. So what the host has to look at is fetched with the results of the frame, and
everything behind it is computed as if nothing out of the ordinary will be seen:

    matte, looked_at --> ... the steps behind it ... --> results, looked_at --> main memory
                                                                   `--settle--> what holds
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Generic, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from mattebridge.color import FloatImage

Known = TypeVar("Known")


@dataclass(frozen=True)
class Later(Generic[Known]):
    """looked_at: tensors of a device. settle: what is known, by their values in main memory as
    float32; called once, with all steps so far over. It may compute on the device again."""

    looked_at: tuple[Tensor, ...]
    settle: Callable[[Sequence[FloatImage]], Known]
