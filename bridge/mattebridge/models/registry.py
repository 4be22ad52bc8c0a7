"""Which models there are, by name, and how to make one; knowing costs neither torch nor cv2.

    name --alias--> Entry(card, factory) --make()--> model, not yet loaded

Entries come from sources, functions asked again at every look-up: the built-in table below, and
the user's folder of weights (`installed`), whose additions are thus seen without a restart. A
source may say in `problem` why models are missing from it. A factory is written as
`module:attribute` and imported only when the model is made; it is called with the card.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union, cast

from mattebridge.errors import MessageError, ModelError
from mattebridge.models import cards
from mattebridge.models.base import MattingModel, ModelCard

NAME_PATTERN = re.compile(r"[a-z0-9._-]{1,64}")
# What a request that names no model gets, unless the machine's owner says otherwise.
DEFAULT = "default"
DEFAULT_MODEL = "twoplate"
VARIABLE = "MATTEBRIDGE_DEFAULT_MODEL"

Factory = Union[str, Callable[[ModelCard], MattingModel]]


@dataclass(frozen=True)
class Entry:
    """One model: its card, and its factory as a callable or as `module:attribute`."""

    card: ModelCard
    factory: Factory


Source = Callable[[], Mapping[str, Entry]]

_BUILT_IN = {
    entry.card.name: entry
    for entry in (Entry(cards.DIFFERENCE, "mattebridge.models.difference:DifferenceModel"),)
}


def built_in() -> Mapping[str, Entry]:
    """The models that need nothing but this package, its trained network if that is there."""
    # Imported here: a card of a family needs `Entry`.
    from mattebridge.models.twoplate_card import shipped

    return {**_BUILT_IN, **shipped()}


def usual_aliases() -> Mapping[str, str]:
    """Other names for models: `default`, by the environment or else by this package."""
    return {DEFAULT: os.environ.get(VARIABLE) or DEFAULT_MODEL}


class Registry:
    """Models by name from one or more sources; an earlier source wins over a later one.

    Without `aliases` the name `default` leads to what `MATTEBRIDGE_DEFAULT_MODEL` says.
    """

    def __init__(self, *sources: Source, aliases: Optional[Mapping[str, str]] = None) -> None:
        self._sources = sources or (built_in, _users_models())
        self._aliases = usual_aliases() if aliases is None else aliases

    def names(self) -> list[str]:
        return sorted(self._entries())

    def __contains__(self, name: str) -> bool:
        """Whether there is a model of that name; aliases do not count."""
        return name in self._entries()

    @property
    def problems(self) -> list[str]:
        """Why models may be missing, as sentences."""
        entries = self._entries()
        said = [problem for source in self._sources if (problem := getattr(source, "problem", ""))]
        target = self._aliases.get(DEFAULT, DEFAULT_MODEL)
        if target not in entries and os.environ.get(VARIABLE) == target:
            said.append(f"{VARIABLE} makes '{target:.80}' the default, and there is no such model")
        return said

    def card(self, name: str) -> ModelCard:
        """The card of a model or alias.

        Raises `MessageError` for what can be no model's name, `ModelError` naming the models
        present for one that is not there.
        """
        return self._entry(name).card

    def make(self, name: str) -> MattingModel:
        """A new, unloaded model; raises `ModelError` when its parts cannot be imported."""
        entry = self._entry(name)
        return _factory(entry)(entry.card)

    def describe(self) -> list[dict[str, Any]]:
        """What `models_list` reports: every card, with the aliases that lead to it."""
        entries = self._entries()
        return [
            {**entries[name].card.describe(), "aliases": self._aliases_of(name)}
            for name in sorted(entries)
        ]

    def _entries(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for source in self._sources:
            for name, entry in source().items():
                found.setdefault(name, entry)
        return found

    def _entry(self, name: str) -> Entry:
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            raise MessageError(
                f"{name!r:.80} is no model name; one has 1 to 64 of a-z 0-9 . _ -", field="model"
            )
        entries = self._entries()
        entry = entries.get(self._aliases.get(name, name))
        if entry is None:
            present = ", ".join(sorted(entries)) or "none"
            why = "".join(f" ({problem})" for problem in self.problems)
            raise ModelError(
                f"there is no model '{name}'; the models present are: {present}{why}",
                reason="unknown",
                present=sorted(entries),
            )
        return entry

    def _aliases_of(self, name: str) -> list[str]:
        return sorted(alias for alias, target in self._aliases.items() if target == name)


def _users_models() -> Source:
    # Not at the top: that module makes entries, which are defined here.
    from mattebridge.models.installed import users_models

    return users_models()


def _factory(entry: Entry) -> Callable[[ModelCard], MattingModel]:
    if not isinstance(entry.factory, str):
        return entry.factory
    module, attribute = entry.factory.split(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ModelError(
            f"model '{entry.card.name}' cannot run here: {error}"
            " - install the daemon half with: pip install 'mattebridge[daemon]'",
            reason="import",
        ) from error
    return cast("Callable[[ModelCard], MattingModel]", found)
