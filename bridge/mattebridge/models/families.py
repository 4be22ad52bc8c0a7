"""The families of models: one row each, in the order in which a user's weights are tried.

    family --shipped--> the models in this package           (built_in)
           --describe--> what a state dict is of, for its record  (weights/installed, when adding)
           --entry-----> the model of such a record           (weights/installed, when listing)

A row names functions as `module:attribute`, which are imported when they are called: listing models
imports neither torch nor cv2. A new family adds its folder and its row here, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional, cast

from mattebridge.models.entry import Entry, place
from mattebridge.models.weights.file import WeightsRecord


@dataclass(frozen=True)
class Family:
    """The functions of one family; None where it has no such models."""

    shipped: Optional[str] = None
    describe: Optional[str] = None
    entry: Optional[str] = None

    def shipped_models(self) -> Mapping[str, Entry]:
        """The models of this family that are part of this package."""
        return {} if self.shipped is None else place(self.shipped)()

    def described(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings of a `WeightsRecord` from a state dict; `ModelError` if it does not fit.

        Imports torch. Only for a family with `describe`.
        """
        describe = cast("Callable[[Mapping[str, Any]], Mapping[str, Any]]", place(self.describe))
        return describe(state)

    def entry_of(self, record: WeightsRecord) -> Entry:
        """The model of a record. Only for a family with `entry`."""
        return cast("Callable[[WeightsRecord], Entry]", place(self.entry))(record)


FAMILIES = {
    "difference": Family(shipped="mattebridge.models.difference.card:shipped"),
    "screen": Family(shipped="mattebridge.models.screen.card:shipped"),
    "background_matting": Family(
        describe="mattebridge.models.background_matting.model:describe_state",
        entry="mattebridge.models.background_matting.card:entry_of",
    ),
    "greenformer": Family(
        describe="mattebridge.models.greenformer.recognise:describe_state",
        entry="mattebridge.models.greenformer.card:entry_of",
    ),
    "twoplate": Family(
        shipped="mattebridge.models.twoplate.card:shipped",
        describe="mattebridge.models.twoplate.model:describe_state",
        entry="mattebridge.models.twoplate.card:entry_of",
    ),
}


def built_in() -> Mapping[str, Entry]:
    """The models that are part of this package; its trained network only where its weights are."""
    found: dict[str, Entry] = {}
    for family in FAMILIES.values():
        found.update(family.shipped_models())
    return found
