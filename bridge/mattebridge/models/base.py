"""What every matting model is to the engine: its card, its input, its output, its three methods.

    ModelCard --registry--> MattingModel.load(device) --> .matte(ModelInput) -> ModelOutput

A model is a pure function of one frame: it is given the plate (and clean plate, hint) as
display-encoded float32 images, aligned, exposure-matched, padded and without NaN: arrays in main
memory, or tensors on its device where it asks for them (`MattingModel.takes_tensors`). It gives
alpha and a straight foreground of the same size. It opens no file or socket, keeps nothing of a
frame, and knows nothing of colour spaces but `scene_linear`. It trusts its input: the engine has
checked that every plane of `ModelCard.needs` is there and that all have one size.

Rule: a card is complete without an import of the model's own module, torch or cv2, so that listing
models is quick.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Optional, Protocol, Union

from mattebridge.checkpoint import Checkpoint
from mattebridge.errors import MessageError, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mattebridge.models.later import Later

    FloatImage = NDArray[np.float32]
    Mask = NDArray[np.bool_]

SettingValue = Union[bool, int, float, str]
# By image, its lowest and highest value.
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Setting:
    """One setting of a model: its default, which has its type, what is allowed, and a help text."""

    default: SettingValue
    help: str
    minimum: Optional[float] = None
    maximum: Optional[float] = None
    choices: Optional[tuple[str, ...]] = None

    @property
    def type_name(self) -> Literal["bool", "int", "float", "choice", "str"]:
        if isinstance(self.default, bool):
            return "bool"
        if isinstance(self.default, int):
            return "int"
        if isinstance(self.default, float):
            return "float"
        return "choice" if self.choices else "str"

    @property
    def allowed(self) -> str:
        """The allowed values in words: `a number from 0 to 4`."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        noun = {"bool": "true or false", "int": "a whole number", "float": "a number"}
        text = noun.get(self.type_name, "a text")
        if self.minimum is not None and self.maximum is not None:
            return f"{text} from {self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f"{text} of at least {self.minimum:g}"
        if self.maximum is not None:
            return f"{text} of at most {self.maximum:g}"
        return text

    def accepts(self, value: object) -> bool:
        """Whether a value has the type of the setting and is in its range."""
        if self.type_name == "bool":
            return isinstance(value, bool)
        if self.type_name in ("choice", "str"):
            return isinstance(value, str) and (self.choices is None or value in self.choices)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if self.type_name == "int" and not isinstance(value, int):
            return False
        return (
            math.isfinite(value)
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
        )

    def describe(self) -> dict[str, Any]:
        """The setting as `models_list` reports it; absent limits are left out."""
        optional = {
            "min": self.minimum,
            "max": self.maximum,
            "choices": list(self.choices) if self.choices else None,
        }
        known = {key: value for key, value in optional.items() if value is not None}
        return {"type": self.type_name, "default": self.default, "help": self.help, **known}

    @classmethod
    def described(cls, given: Mapping[str, Any]) -> Setting:
        """The setting of which `describe` gave this."""
        limits, choices = (given.get("min"), given.get("max")), tuple(given.get("choices", ()))
        return cls(given["default"], given.get("help", ""), *limits, choices or None)


class SettingsSchema(Mapping[str, Setting]):
    """The settings of one model by name; `validate` makes complete values of those of a request."""

    def __init__(self, **settings: Setting) -> None:
        for name, setting in settings.items():
            if not setting.accepts(setting.default):
                raise ValueError(f"default of setting '{name}' is not {setting.allowed}")
        self._settings = settings

    @classmethod
    def described(cls, settings: Mapping[str, Mapping[str, Any]]) -> SettingsSchema:
        """The schema of a card that a daemon reported: the inverse of `describe`."""
        return cls(**{name: Setting.described(given) for name, given in settings.items()})

    def __getitem__(self, name: str) -> Setting:
        return self._settings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)

    def __hash__(self) -> int:
        return id(self)

    def validate(self, values: Mapping[str, Any], *, model: str) -> dict[str, SettingValue]:
        """All settings of the model: `values`, and the defaults of the others.

        Raises `MessageError` for a name that the model does not have, `ModelError` for a value that
        is not allowed; both name the setting in `details['field']`.
        """
        for name in values:
            if name not in self._settings:
                have = ", ".join(self._settings) or "none"
                raise MessageError(
                    f"model '{model}' has no setting '{name}'; its settings are: {have}",
                    field=f"params.settings.{name}",
                )
        return {name: self._checked(name, values, model) for name in self._settings}

    def _checked(self, name: str, values: Mapping[str, Any], model: str) -> SettingValue:
        setting = self._settings[name]
        value = values.get(name, setting.default)
        if not setting.accepts(value):
            raise ModelError(
                f"setting '{name}' of model '{model}' must be {setting.allowed}; got {value!r:.80}",
                field=f"params.settings.{name}",
                reason="setting",
            )
        return float(value) if setting.type_name == "float" else value

    def describe(self) -> dict[str, Any]:
        return {name: setting.describe() for name, setting in self._settings.items()}


@dataclass(frozen=True)
class SizeRule:
    """The sizes that a model takes; the engine repeats the last rows and columns, and crops."""

    multiple: int = 1
    minimum: int = 1

    def padded(self, length: int) -> int:
        """The smallest length that the model takes and that is not below `length`."""
        length = max(length, self.minimum)
        return -(-length // self.multiple) * self.multiple


@dataclass(frozen=True)
class ModelCard:
    """Everything about a model that is known without importing it.

    digest: `sha256:<hex>` of its weights, or names the algorithm; it changes with the pixels.
    accepts_hdr: it takes values above 1, and gives them unless `gives_hdr` is False: then the
    engine takes highlights from the plate. default_alignment: how a clean plate is aligned
    unless the request asks for something else.
    """

    name: str
    family: str
    summary: str
    digest: str
    licence: str
    needs_clean_plate: bool = True
    uses_alpha_hint: bool = False
    needs_alpha_hint: bool = False
    accepts_hdr: bool = False
    gives_hdr: Optional[bool] = None
    default_alignment: Literal["auto", "off"] = "off"
    needs_torch: bool = False
    # The names in `ModelOutput.extra` that the model can give: error, refinement.
    extra_outputs: tuple[str, ...] = ()
    settings_schema: SettingsSchema = field(default_factory=SettingsSchema)
    size_rule: SizeRule = field(default_factory=SizeRule)
    # Whether the model has a use for `ModelInput.small`; then it also takes a hint and light above
    # white.
    takes_small_images: bool = False
    # Working memory of one frame beyond its planes: a frame that cannot fit is refused before it
    # starts.
    bytes_per_pixel: int = 128

    @property
    def needs(self) -> tuple[str, ...]:
        """The planes without which the model cannot work."""
        wanted = {
            "plate": True,
            "clean_plate": self.needs_clean_plate,
            "alpha_hint": self.needs_alpha_hint,
        }
        return tuple(role for role, needed in wanted.items() if needed)

    @property
    def keeps_highlights(self) -> bool:
        """Whether the foreground has values above 1 itself."""
        return self.accepts_hdr if self.gives_hdr is None else self.gives_hdr

    @property
    def takes_alpha_hint(self) -> bool:
        """Whether an alpha hint reaches the model, needed or not."""
        return self.uses_alpha_hint or self.needs_alpha_hint

    def describe(self) -> dict[str, Any]:
        """The card as `models_list` reports it: plain values only."""
        return {
            "name": self.name,
            "family": self.family,
            "summary": self.summary,
            "digest": self.digest,
            "licence": self.licence,
            "needs": list(self.needs),
            "uses_alpha_hint": self.uses_alpha_hint,
            "extra_outputs": list(self.extra_outputs),
            "default_alignment": self.default_alignment,
            "needs_torch": self.needs_torch,
            "settings": self.settings_schema.describe(),
        }


@dataclass(frozen=True)
class SmallImages:
    """Images of a frame in main memory, which the engine has looked at already.

    plate, clean_plate (h, w, 3), alpha_hint (h, w): those of the `ModelInput`, 960 pixels on the
    long side at most. outside: as there, at full size. brightest: the highest values of the whole
    plate and clean plate.
    """

    plate: FloatImage
    clean_plate: FloatImage
    alpha_hint: Optional[FloatImage]
    outside: Optional[Mask]
    brightest: tuple[float, float]


@dataclass(frozen=True)
class ModelInput:
    """One frame as a model sees it: arrays, or tensors (`MattingModel.takes_tensors`).

    plate, clean_plate: (H, W, 3) float32, C-contiguous, top-down, display-encoded sRGB, opaque;
    clipped to 0..1, or >= 0 and unbounded where the card has `accepts_hdr`. The clean plate is
    aligned and exposure-matched. alpha_hint: (H, W) float32 0..1. outside: (H, W) bool, True where
    the warped clean plate does not cover the plate. All are of one size, which the card's
    `size_rule` allows. None: it was not sent, which only planes outside of the card's `needs` can
    be, or the model does not use it. scene_linear: the colour space of the request is linear (it
    decides in which light `difference` mixes colours). settings: all of the card's schema. exact:
    the plain computation is wanted, even where there is a faster one. unfitted: (H, W, 3), the
    clean plate before it was aligned and matched, the same for every frame of a shot; None where
    that changed nothing. of_clean_plate: what models found out about the clean plate alone, before
    it was aligned and matched, by a name of theirs: a model may add to it, and finds it again in
    later frames as long as that clean plate is kept; None where nothing is kept. small: where the
    engine has them, for a model that works on tensors of a GPU. settles_later: the caller takes a
    `ModelOutput.later`. part_of: the long side of the frame of which these are a part, in long
    sides of theirs: for what counts in shares of the frame.

    A model must not write into any of the images.
    """

    plate: FloatImage
    clean_plate: Optional[FloatImage]
    alpha_hint: Optional[FloatImage]
    outside: Optional[Mask]
    scene_linear: bool
    settings: Mapping[str, Any]
    frame: Optional[int] = None
    exact: bool = False
    unfitted: Optional[FloatImage] = None
    of_clean_plate: Optional[MutableMapping[str, Any]] = None
    small: Optional[SmallImages] = None
    settles_later: bool = False
    part_of: float = 1.0


@dataclass(frozen=True)
class ModelOutput:
    """What a model gives for one frame, at the size of its input.

    alpha: (H, W) float32 0..1. foreground: (H, W, 3) float32, straight, display-encoded, 0..1 (or
    unbounded with `accepts_hdr`). extra: e.g. error or refinement, (h, w) float32 of any size.
    degraded: labels of what was asked for and not reached. notes: plain values for the reply.
    ranges: of images by name, where the model knows them: no value is below or above.
    The images are arrays, or tensors on the model's device; a model must not write into them later.

    later: only from tensors of a GPU, and where the input has `settles_later`: gives the output
    that holds, with the same images unless something was seen that changes them. Until then
    `ranges` is how far finite values can reach, and notes and labels are not known.
    """

    alpha: FloatImage
    foreground: FloatImage
    extra: Mapping[str, FloatImage] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    ranges: Optional[Ranges] = None
    later: Optional[Later[ModelOutput]] = None


class MattingModel(Protocol):
    """One model, loaded or not. Subclass it, set `card`, write `matte`.

    takes_tensors: it works on torch tensors. Then all images of its `ModelInput` are tensors on the
    device that it was loaded to, and those of its `ModelOutput` may be; else both hold arrays.
    """

    card: ModelCard
    takes_tensors: bool = False

    def load(self, device: str) -> None:
        """Bring the weights to `device` (`cpu`, `cuda:0`); called once before the first frame."""
        return

    def unload(self) -> None:
        """Drop weights and buffers; `load` may be called again."""
        return

    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground of one frame; deterministic for equal inputs."""
        ...

    def use_less_memory(self, less: bool) -> bool:
        """Compute in smaller pieces from now on, or no longer; whether it now does.

        The pixels stay what they are, within rounding; equal to the bit on the CPU.
        """
        return False

    @property
    def memory_bytes(self) -> int:
        """The memory of loaded weights and kept buffers; 0 when not loaded or without weights."""
        return 0

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def digest(self) -> str:
        return self.card.digest

    @property
    def settings_schema(self) -> SettingsSchema:
        return self.card.settings_schema
