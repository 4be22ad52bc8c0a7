"""What a host asks for, the same on every way to the daemon: settings, a frame's inputs, the model.

Standard library only: a host without numpy uses it as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from mattebridge.errors import InputsError, ModelError
from mattebridge.wire.labels import sentences
from mattebridge.wire.params import (
    INPUT_ROLES,
    NAMES,
    RenderParams,
    one_of_role,
    without_defaults,
)

# The render parameters that a host sends.
HOST_NAMES = tuple(name for name in NAMES if name != "output_colorspace")


@dataclass(frozen=True)
class ShotSettings(RenderParams):
    """What the artist sets: the render parameters, and what else decides pixels.

    Results are in the plate's colour space: output_colorspace cannot be given. precision: of the
    files, float16 or float32. overscan: the whole data window is matted, not the display window
    alone. held_clean_plate: the name of a clean plate that the daemon holds, for frames without
    one of their own.
    """

    colorspace: str = "linear"
    output_colorspace: Optional[str] = field(default=None, init=False)
    model: str = "default"
    precision: str = "float16"
    overscan: bool = False
    held_clean_plate: str = ""

    def params(self) -> dict[str, Any]:
        """The keywords of `MatteClient.submit`: the model and the render parameters."""
        values = {name: getattr(self, name) for name in ("model", *HOST_NAMES)}
        return without_defaults({**values, "settings": dict(self.settings)})

    def deciding(self) -> dict[str, Any]:
        """Everything here that decides pixels, by name, for the key of a frame."""
        decides = asdict(self)
        del decides["output_colorspace"]
        return decides


@dataclass(frozen=True)
class ScratchFiles:
    """The scratch files of one frame.

    hint_channel: the channel of the hint's and the two mattes' files that is read, by its name.
    """

    plate: Path
    clean_plate: Optional[Path] = None
    alpha_hint: Optional[Path] = None
    garbage_matte: Optional[Path] = None
    core_matte: Optional[Path] = None
    hint_channel: str = "A"

    def files(self) -> dict[str, Path]:
        """The files that exist, by role."""
        named = {role: getattr(self, role) for role in INPUT_ROLES}
        return {role: path for role, path in named.items() if path is not None}


@dataclass(frozen=True)
class MadeFrame:
    """A frame whose result file exists. found: it existed before, and nothing was computed.

    degraded: labels of what is less than was asked for (`wire/labels.py`); `warnings_of` gives the
    sentences.
    """

    frame: int
    view: str
    key: str
    path: Path
    found: bool
    degraded: tuple[str, ...] = ()


def warnings_of(made: Iterable[MadeFrame]) -> list[str]:
    """What of some frames is less than was asked for: sentences for the artist, each once."""
    return sentences(label for one in made for label in one.degraded)


# Renders the inputs of a frame and a view into files, which may be gone when it is called again.
Render = Callable[[int, str], ScratchFiles]


def find_card(cards: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The card of a model by its name or an alias. Raises `ModelError` that lists those present."""
    known = list(cards)
    for card in known:
        if name == card["name"] or name in card.get("aliases", ()):
            return card
    names = ", ".join(sorted(str(card["name"]) for card in known)) or "none"
    raise ModelError(f"there is no model '{name}'; the models present are: {names}")


def check_needs(
    card: Mapping[str, Any],
    roles: Collection[str],
    settings: Optional[ShotSettings] = None,
    *,
    how: str = "connect one",
) -> None:
    """Raise `InputsError` for an input that the model needs and that is not among `roles`.

    how: what to do about it; `{option}` in it is the option of the command line.
    """
    held = ("clean_plate",) if settings is not None and settings.held_clean_plate else ()
    for role in card.get("needs", ()):
        if role not in roles and role not in held:
            advice = how.format(option=f"--{role.replace('_', '-')}")
            raise InputsError(
                f"model '{card['name']}' needs {one_of_role(role)}: {advice}",
                field=role,
            )
