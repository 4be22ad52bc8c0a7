"""One working size for a shot, where the model would choose it by its device's free memory.

    first frame --setting 0--> a worker chooses --reply names it--> all other frames ask for it

Workers on unequal cards, and a worker that is replaced in the middle, would choose other sizes, and
a shot would change its look from frame to frame. So the first frame goes alone; the others wait for
its reply. Where it fails, the next one is the first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Optional

from mattebridge.client.matte import Matte
from mattebridge.models.greenformer.card import BY_MEMORY

# The setting, and the note of the reply, of models that work at a size of their own.
SETTING = "img_size"

Ask = Callable[[Mapping[str, Any]], Matte]


class OneSize:
    """The size of one shot; `matted` may be called from any thread."""

    def __init__(self, card: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """card: of the job's model, as the daemon reports it. settings: that are asked for."""
        known = card.get("settings") or {}
        asked = settings.get(SETTING, known.get(SETTING, {}).get("default"))
        self._is_open = SETTING in known and asked == BY_MEMORY
        self._size: Optional[int] = None
        self._first = threading.Lock()

    def matted(self, ask: Ask) -> Matte:
        """What `ask` gives with the settings that go beyond those of the job; waits for the reply
        of the first frame where the size is not known yet."""
        if self._is_open and self._size is None:
            with self._first:
                if self._is_open and self._size is None:
                    matte = ask({})
                    self._size = (matte.notes.get("model") or {}).get(SETTING)
                    self._is_open = self._size is not None
                    return matte
        return ask({} if self._size is None else {SETTING: self._size})
