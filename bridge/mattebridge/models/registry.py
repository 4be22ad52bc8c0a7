"""Which models there are, by name, and how to make one; only making one imports torch or cv2.

    name --alias--> Entry(card, factory) --make()--> model, not yet loaded

Entries come from sources, which are functions that are called at every look-up: those of the
families (`families`), and the user's folder of weights (`weights/installed`), so that added weights
are found without a restart. A source may have an attribute `problem` that states why models are
missing from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Callable, Optional, cast

from mattebridge.errors import MessageError, ModelError
from mattebridge.models.base import MattingModel, ModelCard
from mattebridge.models.entry import DEFAULT, NAME_PATTERN, Entry, place
from mattebridge.models.families import built_in
from mattebridge.models.weights.installed import users_models

DEFAULT_MODEL = "twoplate"
VARIABLE = "MATTEBRIDGE_DEFAULT_MODEL"

Source = Callable[[], Mapping[str, Entry]]


def usual_aliases() -> Mapping[str, str]:
    """Other names of models: `default`, set by the environment, else the package's default."""
    return {DEFAULT: os.environ.get(VARIABLE) or DEFAULT_MODEL}


class Registry:
    """Models by name from one or more sources; an earlier source wins over a later one.

    Without `aliases` the name `default` is an alias of `MATTEBRIDGE_DEFAULT_MODEL`.
    """

    def __init__(self, *sources: Source, aliases: Optional[Mapping[str, str]] = None) -> None:
        self._sources = sources or (built_in, users_models())
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
        found = [problem for source in self._sources if (problem := getattr(source, "problem", ""))]
        target = self._aliases.get(DEFAULT, DEFAULT_MODEL)
        if target not in entries and os.environ.get(VARIABLE) == target:
            found.append(f"{VARIABLE} is '{target:.80}', and there is no such model")
        return found

    def card(self, name: str) -> ModelCard:
        """The card of a model or alias.

        Raises `MessageError` for a text that cannot be a name, `ModelError` for one that no model
        has, naming those that there are.
        """
        return self._entry(name).card

    def make(self, name: str) -> MattingModel:
        """A new, unloaded model; raises `ModelError` when its parts cannot be imported."""
        entry = self._entry(name)
        return _factory(entry)(*entry.arguments())

    def describe(self) -> list[dict[str, Any]]:
        """What `models_list` reports: every card, with its aliases."""
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
                f"{name!r:.80} is not a model name; one has 1 to 64 of a-z 0-9 . _ -", field="model"
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


def _factory(entry: Entry) -> Callable[..., MattingModel]:
    if not isinstance(entry.factory, str):
        return entry.factory
    try:
        found = place(entry.factory)
    except ImportError as error:
        raise ModelError(
            f"model '{entry.card.name}' cannot run here: {error}"
            " - install the daemon half with: pip install 'mattebridge[daemon]'",
            reason="import",
        ) from error
    return cast("Callable[..., MattingModel]", found)
