"""The models that are loaded on one device, within a budget of bytes.

card --ready--> loaded, as the last used       the least recently used leave first: when the
                                               budget is exceeded, and when memory is exhausted
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from mattebridge.errors import ModelError
from mattebridge.models.base import MattingModel, ModelCard
from mattebridge.models.memory import memory_errors
from mattebridge.models.registry import Registry

logger = logging.getLogger(__name__)

# A model that had to compute in smaller pieces goes on so for this long, instead of failing first
# with every frame of a shot.
SMALL_PIECES_S = 60.0


@dataclass
class LoadedModel:
    """One model on the device, the card it was made from, and how it was used."""

    model: MattingModel
    card: ModelCard
    load_s: float
    frames: int = 0
    used_at: float = field(default_factory=time.monotonic)
    small_until: float = 0.0

    def compute_in_small_pieces(self) -> bool:
        """From now on for a while; False where the model does so already, or cannot."""
        if self.in_small_pieces:
            return False
        self.small_until = time.monotonic() + SMALL_PIECES_S
        if not self.model.use_less_memory(True):
            self.small_until = 0.0
        return self.in_small_pieces

    @property
    def in_small_pieces(self) -> bool:
        """Whether frames are computed in smaller pieces than the model would choose."""
        return self.small_until > 0

    def used(self) -> None:
        """A frame begins: now it is the last used."""
        self.used_at = time.monotonic()
        if self.in_small_pieces and self.used_at > self.small_until:
            self.small_until = 0.0
            self.model.use_less_memory(False)


class LoadedModels:
    """All models on one device."""

    def __init__(
        self, registry: Callable[[], Registry], device: str, budget_bytes: Optional[int]
    ) -> None:
        """registry: asked at every use. budget_bytes: for all of them; None: no limit.

        One model alone may exceed the budget.
        """
        self._registry, self._device, self._budget_bytes = registry, device, budget_bytes
        self._by_name: dict[str, LoadedModel] = {}

    def ready(self, card: ModelCard) -> LoadedModel:
        """The model of a card, loaded; one of the same name but another card is replaced."""
        self._forget_removed()
        loaded = self._by_name.get(card.name)
        if loaded is None or loaded.card != card:
            self.forget(card.name)
            loaded = self._by_name[card.name] = self._load(card)
        loaded.used()
        self._keep_to_budget(card.name)
        return loaded

    def get(self, name: str) -> Optional[LoadedModel]:
        """The model of this name, where it is loaded."""
        return self._by_name.get(name)

    def forget(self, name: str) -> bool:
        """Drop a model's weights; whether it was loaded."""
        loaded = self._by_name.pop(name, None)
        if loaded is not None:
            loaded.model.unload()
        return loaded is not None

    def forget_least_used(self, *, keep: str) -> Optional[str]:
        """Drop the least recently used model but `keep`; its name, None where there is none."""
        others = [loaded for loaded in self._by_name.values() if loaded.model.name != keep]
        if not others:
            return None
        name = min(others, key=lambda loaded: loaded.used_at).model.name
        self.forget(name)
        return name

    def figures(self) -> list[dict[str, Any]]:
        """Name, digest, memory and use of each, least recently used first."""
        self._forget_removed()
        order = sorted(self._by_name.values(), key=lambda loaded: loaded.used_at)
        return [self.figures_of(loaded) for loaded in order]

    def bytes_by_name(self) -> dict[str, int]:
        """The memory of each, least recently used first; the registry is not asked."""
        order = sorted(self._by_name.values(), key=lambda loaded: loaded.used_at)
        return {loaded.model.name: loaded.model.memory_bytes for loaded in order}

    def figures_of(self, loaded: LoadedModel) -> dict[str, Any]:
        return {
            "name": loaded.model.name,
            "digest": loaded.model.digest,
            "device": self._device,
            "memory_bytes": loaded.model.memory_bytes,
            "frames": loaded.frames,
            "load_s": round(loaded.load_s, 3),
            "idle_s": round(time.monotonic() - loaded.used_at, 3),
        }

    def _load(self, card: ModelCard) -> LoadedModel:
        start = time.perf_counter()
        with memory_errors(
            f"the weights of model '{card.name}'", "unload another or close programs"
        ):
            model = self._made_and_loaded(card)
        logger.info("loaded model=%s device=%s", card.name, self._device)
        return LoadedModel(model, card, time.perf_counter() - start)

    def _made_and_loaded(self, card: ModelCard) -> MattingModel:
        model = self._registry().make(card.name)
        if model.digest != card.digest:
            raise ModelError(
                f"model '{card.name}' was replaced at this moment: send the frame again",
                reason="replaced",
                retry=True,
            )
        model.load(self._device)
        return model

    def _keep_to_budget(self, name: str) -> None:
        if self._budget_bytes is None:
            return
        while sum(one.model.memory_bytes for one in self._by_name.values()) > self._budget_bytes:
            dropped = self.forget_least_used(keep=name)
            if dropped is None:
                return
            logger.info("dropped model=%s: the budget of models is used up", dropped)

    def _forget_removed(self) -> None:
        """Drop the weights of models that are no longer in the registry."""
        registry = self._registry()
        for name in [name for name in self._by_name if name not in registry]:
            self.forget(name)
