"""One model in the registry: its card, and what makes it.

A factory is written as `module:attribute` and imported only when the model is made, so that listing
models imports neither torch nor cv2.
"""

from __future__ import annotations

import importlib
import operator
import re
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

from mattebridge.models.base import MattingModel, ModelCard
from mattebridge.models.weights.file import WeightsRecord

NAME_PATTERN = re.compile(r"[a-z0-9._-]{1,64}")
# The name of the model that a request without one gets.
DEFAULT = "default"
Factory = Union[str, Callable[..., MattingModel]]


def place(name: Optional[str]) -> Any:
    """The object at `module:attribute`; raises `ImportError` where it cannot be imported."""
    module, attribute = str(name).split(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


@dataclass(frozen=True)
class Entry:
    """One model: its card, and what makes it, as a callable or as `module:attribute`.

    The factory is called with the card, and with the record of the user's weights where there is
    one: `factory(card)` or `factory(card, record)`.
    """

    card: ModelCard
    factory: Factory
    record: Optional[WeightsRecord] = None

    def arguments(self) -> tuple[Any, ...]:
        """What the factory is called with."""
        return (self.card,) if self.record is None else (self.card, self.record)
