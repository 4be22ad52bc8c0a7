"""One working size and one precision for a shot, where the model would choose them by its device.

    first frame --img_size 0, precision auto--> a worker chooses, its reply names the choice
    choice --> ledger --> all other frames ask for it, in this run and in all runs of the same job

Workers on unequal cards, a worker that is replaced in the middle, a resumed run, and chunks of one
shot on several machines would each choose for themselves, and the shot would change its look from
frame to frame. So the first frame goes alone; the others wait for its reply. Where it fails, the
next one is the first. Where another run of the job has noted its choice meanwhile, that one counts,
and the frame is made again. The rule that must not be broken: no frame is written that was made
otherwise than the ledger says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Optional, Protocol

from mattebridge.client.matte import Matte
from mattebridge.models.greenformer.card import BY_DEVICE, BY_MEMORY

# The settings, which are also notes of the reply, and the values that leave them to the device.
# Models without the first one choose nothing.
SIZE = "img_size"
OPEN: Mapping[str, Any] = {SIZE: BY_MEMORY, "precision": BY_DEVICE}

Ask = Callable[[Mapping[str, Any]], Matte]


class Notes(Protocol):
    """Where the choice of a job is noted for its other runs: the ledger."""

    def choice_of(self, job: str) -> Mapping[str, Any]: ...

    def agree(self, job: str, choice: Mapping[str, Any]) -> Mapping[str, Any]: ...


class OneChoice:
    """What the frames of one job have in common; `matted` may be called from any thread."""

    def __init__(
        self,
        card: Mapping[str, Any],
        settings: Mapping[str, Any],
        ledger: Notes,
        job: str,
        note: Callable[[str], None],
    ) -> None:
        """card: of the job's model, as the daemon reports it. settings: those that are asked for.
        job: the digest of the job. note: takes a sentence for the artist."""
        known = card.get("settings") or {}
        asked = {name: settings.get(name, known.get(name, {}).get("default")) for name in OPEN}
        left = [name for name, value in OPEN.items() if SIZE in known and asked[name] == value]
        self._left = left
        self._ledger, self._job = ledger, job
        self._first = threading.Lock()
        self._choice: Optional[Mapping[str, Any]] = ledger.choice_of(job) if left else {}
        if self._choice:
            note(f"{_text(self._choice)}, as of the frames of this job that were made before")
        elif left:
            self._choice = None

    def matted(self, ask: Ask) -> Matte:
        """What `ask` gives with the settings that go beyond those of the job; waits for the reply
        of the first frame where the choice is not known yet."""
        if self._choice is None:
            with self._first:
                if self._choice is None:
                    return self._matted_first(ask)
        return ask(self._choice or {})

    def _matted_first(self, ask: Ask) -> Matte:
        matte = ask({})
        notes = matte.notes.get("model") or {}
        own = {name: notes[name] for name in self._left if name in notes}
        self._choice = self._ledger.agree(self._job, own) if own else {}
        return matte if self._choice == own else ask(self._choice)


def _text(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} is {value}" for name, value in choice.items())
