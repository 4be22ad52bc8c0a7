"""What a host asks for, the same on every way to the daemon: settings, a frame's inputs, the model.

Standard library only: a host without numpy uses it as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from mattebridge.errors import InputsError, ModelError

MATTE_ROLES = ("alpha_hint", "garbage_matte", "core_matte")


@dataclass(frozen=True)
class ShotSettings:
    """What the artist sets; everything here decides pixels and goes into the key."""

    model: str = "default"
    colorspace: str = "linear"
    foreground: str = "model"
    alignment: Optional[str] = None
    match_exposure: Optional[bool] = None
    plate_alpha: str = "opaque"
    nonfinite: str = "error"
    exact: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "float16"
    overscan: bool = False
    # The name of a clean plate that the daemon holds, where the host sends none.
    held_clean_plate: str = ""

    def params(self) -> dict[str, Any]:
        """The keywords of `MatteClient.submit`."""
        ours = ("settings", "precision", "overscan", "held_clean_plate")
        names = [name for name in vars(self) if name not in ours]
        return {**{name: getattr(self, name) for name in names}, "settings": dict(self.settings)}


@dataclass(frozen=True)
class FrameInputs:
    """The scratch files of one frame. `hint_channel` is the name, in their files, of the channel
    that is the hint and the two mattes."""

    plate: Path
    clean_plate: Optional[Path] = None
    alpha_hint: Optional[Path] = None
    garbage_matte: Optional[Path] = None
    core_matte: Optional[Path] = None
    hint_channel: str = "A"

    def files(self) -> dict[str, Path]:
        """role -> file of those that are there."""
        named = {role: getattr(self, role) for role in ("plate", "clean_plate", *MATTE_ROLES)}
        return {role: path for role, path in named.items() if path is not None}


@dataclass(frozen=True)
class MadeFrame:
    """A frame whose file is there. `found`: it was there before."""

    frame: int
    view: str
    key: str
    path: Path
    found: bool
    degraded: tuple[str, ...] = ()


# Renders the inputs of a frame and a view into files, which may be gone when it is called again.
Render = Callable[[int, str], FrameInputs]


def find_card(cards: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The card of a model by name. Raises `ModelError` that lists those present."""
    known = list(cards)
    for card in known:
        if name == card["name"] or name in card.get("aliases", ()):
            return card
    names = ", ".join(sorted(str(card["name"]) for card in known)) or "none"
    raise ModelError(f"there is no model '{name}'; the models present are: {names}")


def check_needs(card: Mapping[str, Any], roles: Collection[str], settings: ShotSettings) -> None:
    """Raise `InputsError` for an input that the model needs and nobody has connected."""
    held = ("clean_plate",) if settings.held_clean_plate else ()
    for role in card.get("needs", ()):
        if role not in roles and role not in held:
            raise InputsError(
                f"model '{card['name']}' needs a {role.replace('_', ' ')}: connect one", field=role
            )
