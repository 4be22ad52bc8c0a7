"""The render parameters of a request: one table, and the check of a `params` map against it.

Everything that lists the parameters is made from `PARAMS`: the check at the front, the options of
`mattebridge matte`, what the host half sends, the table in docs/protocol.md. A new parameter is a
row here, a field of `RenderParams`, and what the engine does with it; tests then fail until the
nodes of Nuke and Fusion and the OFX plugin offer it or are listed as not offering it.

The roles of the planes stand here too. Standard library only, no numpy; runs on Python 3.9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Literal, Optional

from mattebridge.errors import MessageError

# The two colour spaces that need no config; hosts offer them first.
COLORSPACES = ("linear", "srgb")
MAX_SPACE_NAME = 128

# Planes of a request by role, and the channel counts each may have.
INPUT_CHANNELS = {
    "plate": (3, 4),
    "clean_plate": (3, 4),
    "alpha_hint": (1,),
    "garbage_matte": (1,),
    "core_matte": (1,),
}
OUTPUT_CHANNELS = {
    "alpha": (1,),
    "foreground": (3,),
    "premultiplied": (4,),
    "error": (1,),
    "refinement": (1,),
}
INPUT_ROLES = tuple(INPUT_CHANNELS)
# The inputs that are coverage, not colour.
MATTE_ROLES = ("alpha_hint", "garbage_matte", "core_matte")
# What every model gives, and what only some give (`extra_outputs` of the model's card).
DEFAULT_OUTPUTS = ("alpha", "foreground", "premultiplied")
EXTRA_OUTPUTS = ("error", "refinement")
INPUT_DTYPES = ("u1", "u2", "f2", "f4")
OUTPUT_DTYPES = ("f2", "f4")

# A setting is a short scalar; these bounds keep a hostile map small before the model sees it.
MAX_SETTINGS = 64
MAX_SETTING_NAME = 64
MAX_SETTING_TEXT = 1024


@dataclass(frozen=True)
class Param:
    """One render parameter.

    choices: the values of a `choice`; of a `space` those that are not looked up in the daemon's
    colour config, where all others are. lowest, highest: the range of a `whole` (an integer) or a
    `number`. unset: what None stands for; a parameter without it cannot be None. required: there
    is no default. after_model: it acts on what the model has made, and on nothing before: another
    value does not need the model again.
    """

    name: str
    kind: Literal["choice", "space", "flag", "whole", "number", "map"]
    help: str
    choices: tuple[str, ...] = ()
    default: Any = None
    unset: str = ""
    required: bool = False
    lowest: int = 0
    highest: int = 0
    after_model: bool = False

    @property
    def option(self) -> str:
        """The parameter as an option of `mattebridge matte`; a map is set entry by entry."""
        return "--set" if self.kind == "map" else "--" + self.name.replace("_", "-")

    @property
    def range(self) -> str:
        """The range of a number in words: `0 to 1`."""
        return f"{self.lowest} to {self.highest}"


# Lengths of the clean-up, in pixels of the plate: beyond this a frame takes long, and a matte that
# needs it needs another hint.
MAX_LENGTH_PX = 500
# An area in pixels: of the largest frame.
MAX_AREA_PX = 2**28

# What is done to a matte and its colours behind the model, in the order in which it is done;
# everything is off unless it is asked for.
CLEAN_UP = (
    Param(
        "hint_sharpen",
        "flag",
        "alpha becomes 0 outside the alpha hint, which is made larger first; hair that the hint"
        " does not cover is lost",
        default=False,
        after_model=True,
    ),
    Param(
        "hint_sharpen_dilation",
        "whole",
        "by how many pixels the hint is made larger",
        default=3,
        highest=MAX_LENGTH_PX,
        after_model=True,
    ),
    Param(
        "hint_blur_px",
        "whole",
        "how soft the edge of the larger hint is, in pixels to each side",
        default=0,
        highest=MAX_LENGTH_PX,
        after_model=True,
    ),
    Param(
        "source_passthrough",
        "flag",
        "inside the subject, where alpha is above 0.95, the foreground is the plate itself",
        default=False,
        after_model=True,
    ),
    Param(
        "edge_erode_px",
        "whole",
        "by how many pixels the inside is made smaller for `source_passthrough`",
        default=3,
        highest=MAX_LENGTH_PX,
        after_model=True,
    ),
    Param(
        "edge_blur_px",
        "whole",
        "how soft its edge is then, in pixels to each side",
        default=7,
        highest=MAX_LENGTH_PX,
        after_model=True,
    ),
    Param(
        "auto_despeckle",
        "flag",
        "remove small islands of alpha; soft alpha far from every larger one goes with them",
        default=False,
        after_model=True,
    ),
    Param(
        "despeckle_size",
        "whole",
        "area in pixels of the smallest island that stays; 0: none is removed",
        default=400,
        highest=MAX_AREA_PX,
        after_model=True,
    ),
    Param(
        "despeckle_dilation",
        "whole",
        "how far around those that stay alpha is kept, in pixels",
        default=25,
        highest=MAX_LENGTH_PX,
        after_model=True,
    ),
    Param(
        "despeckle_blur",
        "whole",
        "how soft the edge of what is kept is, in pixels to each side",
        default=5,
        highest=MAX_LENGTH_PX,
        after_model=True,
    ),
    Param(
        "despeckle_threshold",
        "number",
        "alpha above which a pixel belongs to an island",
        default=0.5,
        highest=1,
        after_model=True,
    ),
    Param(
        "despeckle_hysteresis",
        "flag",
        "keep all soft alpha that is connected to an island that stays: hair, motion blur",
        default=False,
        after_model=True,
    ),
    Param(
        "despill_strength",
        "number",
        "how much of the screen's light is taken out of the foreground; 0: none",
        default=0.0,
        highest=1,
        after_model=True,
    ),
    Param(
        "spill_method",
        "choice",
        "how much of the screen's channel is spill: what is above the mean of the other two, above"
        " the larger of them, or above their mean without making up for it in those two",
        choices=("average", "double_limit", "screen_only"),
        default="average",
        after_model=True,
    ),
    Param(
        "screen",
        "choice",
        "the colour of the spill",
        choices=("green", "blue"),
        unset="the model's setting `screen` where it names one, else green",
        after_model=True,
    ),
)

PARAMS = (
    Param(
        "colorspace",
        "space",
        "of plate and clean plate: scene-linear (Rec. 709 primaries), display-encoded sRGB, or a"
        " space of the daemon's colour config by its name, a role or an alias",
        choices=COLORSPACES,
        # A wrong guess gives a plausible, wrong picture.
        required=True,
    ),
    Param(
        "output_colorspace",
        "space",
        "of foreground and premultiplied, named like `colorspace`",
        choices=COLORSPACES,
        unset="as `colorspace`",
        after_model=True,
    ),
    Param(
        "premultiply",
        "choice",
        "how premultiplied is made: colour times alpha in linear light, or encoded colour times"
        " alpha for hosts that composite encoded values, which needs `srgb` results",
        choices=("linear", "display"),
        default="linear",
        after_model=True,
    ),
    Param(
        "plate_alpha",
        "choice",
        "what the plate's alpha channel means; opaque: it is ignored",
        choices=("opaque", "straight", "premultiplied"),
        default="opaque",
    ),
    Param(
        "foreground",
        "choice",
        "where the foreground's colour comes from: the model, the plate with the clean plate taken"
        " out (unmix), or the plate as it is (docs/colour.md)",
        choices=("model", "unmix", "plate"),
        default="model",
        after_model=True,
    ),
    Param(
        "alignment",
        "choice",
        "fit the clean plate to the plate before keying",
        choices=("off", "auto", "homography"),
        unset="the model's own",
    ),
    Param(
        "match_exposure",
        "flag",
        "fit the clean plate's exposure and white balance to the plate",
        unset="on where alignment is `auto`",
    ),
    Param(
        "nonfinite",
        "choice",
        "NaN and infinity in the inputs: refuse the frame, or treat them as black",
        choices=("error", "zero"),
        default="error",
    ),
    Param(
        "exact",
        "flag",
        "the model's plain forward pass in place of the fast one",
        default=False,
    ),
    *CLEAN_UP,
    Param(
        "settings",
        "map",
        "a setting of the model by name: true, false, a number or a short text",
        default={},
    ),
)
# Linear values have no encoding to multiply in.
DISPLAY_NEEDS_SRGB = (
    "'display' multiplies encoded values, and the results are linear"
    " - ask for srgb results, or use 'linear'"
)
NAMES = tuple(param.name for param in PARAMS)
# What the model's matte depends on.
BEFORE_MODEL_NAMES = tuple(param.name for param in PARAMS if not param.after_model)
CLEAN_UP_NAMES = tuple(param.name for param in CLEAN_UP)
DEFAULTS: Mapping[str, Any] = {p.name: p.default for p in PARAMS if not p.required}
# What clips start with in place of these defaults, as CorridorKey's own pipeline does.
CLEAN_UP_OF_CLIPS: Mapping[str, Any] = {
    "hint_sharpen": True,
    "source_passthrough": True,
    "auto_despeckle": True,
    "despill_strength": 0.5,
}


@dataclass(frozen=True)
class RenderParams:
    """How a frame is to be computed: a field for each row of `PARAMS`, with its default."""

    colorspace: str
    output_colorspace: Optional[str] = DEFAULTS["output_colorspace"]
    premultiply: str = DEFAULTS["premultiply"]
    plate_alpha: str = DEFAULTS["plate_alpha"]
    foreground: str = DEFAULTS["foreground"]
    alignment: Optional[str] = DEFAULTS["alignment"]
    match_exposure: Optional[bool] = DEFAULTS["match_exposure"]
    nonfinite: str = DEFAULTS["nonfinite"]
    exact: bool = DEFAULTS["exact"]
    hint_sharpen: bool = DEFAULTS["hint_sharpen"]
    hint_sharpen_dilation: int = DEFAULTS["hint_sharpen_dilation"]
    hint_blur_px: int = DEFAULTS["hint_blur_px"]
    source_passthrough: bool = DEFAULTS["source_passthrough"]
    edge_erode_px: int = DEFAULTS["edge_erode_px"]
    edge_blur_px: int = DEFAULTS["edge_blur_px"]
    auto_despeckle: bool = DEFAULTS["auto_despeckle"]
    despeckle_size: int = DEFAULTS["despeckle_size"]
    despeckle_dilation: int = DEFAULTS["despeckle_dilation"]
    despeckle_blur: int = DEFAULTS["despeckle_blur"]
    despeckle_threshold: float = DEFAULTS["despeckle_threshold"]
    despeckle_hysteresis: bool = DEFAULTS["despeckle_hysteresis"]
    despill_strength: float = DEFAULTS["despill_strength"]
    spill_method: str = DEFAULTS["spill_method"]
    screen: Optional[str] = DEFAULTS["screen"]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        """The parameters by name, without those that are None and so left to the model.

        The clean-up is left out where it has its default, see `without_defaults`.
        """
        values = {name: getattr(self, name) for name in NAMES}
        values["settings"] = dict(self.settings)
        return without_defaults({name: each for name, each in values.items() if each is not None})


def without_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters without those of the clean-up that have their default.

    Older daemons do not know them and refuse what they do not know, and mattes that were made
    before there was a clean-up keep their keys.
    """
    return {
        name: value
        for name, value in params.items()
        if name not in CLEAN_UP_NAMES or value != DEFAULTS[name]
    }


def role_in_words(role: str) -> str:
    """A role as a sentence names it: `clean plate`."""
    return role.replace("_", " ")


def one_of_role(role: str) -> str:
    """The same with its article: `an alpha hint`."""
    return f"{'an' if role[0] in 'aeiou' else 'a'} {role_in_words(role)}"


def default_colorspace(dtype: str) -> str:
    """What pixels of this type are unless stated: integers display-encoded, floats linear.

    For clients that fill in `colorspace`; the daemon itself never guesses. `dtype` is one of
    `INPUT_DTYPES`.
    """
    return "srgb" if dtype in ("u1", "u2") else "linear"


def validate_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Every render parameter with its value: `params` over the defaults.

    Raises `MessageError` with `details['field']` for a missing, unknown or ill-typed key, and for
    `premultiply: display` with linear results. The values inside `settings` are checked for being
    plain scalars only; the model's own schema does the rest.
    """
    if not isinstance(params, Mapping):
        raise MessageError("params must be a map", field="params")
    for name in params:
        if name not in NAMES:
            raise _wrong(name, f"is not a render parameter; they are: {', '.join(NAMES)}")
    checked = {param.name: _checked(param, params) for param in PARAMS}
    result_space = checked["output_colorspace"] or checked["colorspace"]
    if checked["premultiply"] == "display" and result_space != "srgb":
        found = f"are {_shown(result_space)}" if result_space != "linear" else "are linear"
        raise _wrong("premultiply", DISPLAY_NEEDS_SRGB.replace("are linear", found))
    return checked


def _checked(param: Param, params: Mapping[str, Any]) -> Any:
    if param.name not in params:
        if param.required:
            raise _wrong(param.name, f"is missing; give one of {', '.join(param.choices)}")
        return dict(param.default) if param.kind == "map" else param.default
    value = params[param.name]
    if value is None and param.unset:
        return None
    return _CHECKS[param.kind](param, value)


def _check_choice(param: Param, value: Any) -> str:
    if isinstance(value, str) and value in param.choices:
        return value
    raise _wrong(param.name, f"must be one of {', '.join(param.choices)}; got {_shown(value)}")


def _check_space(param: Param, value: Any) -> str:
    """The form of a name; the worker looks the name up, since it has the config."""
    if isinstance(value, str) and is_space_name(value):
        return value
    raise _wrong(
        param.name,
        f"must be {', '.join(param.choices)} or the name of a colour space, 1 to {MAX_SPACE_NAME}"
        f" printable characters; got {_shown(value)}",
    )


def is_space_name(name: str) -> bool:
    """Whether a text has the form of a colour space's name."""
    return 1 <= len(name) <= MAX_SPACE_NAME and name.isprintable() and name == name.strip()


def _check_flag(param: Param, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(param.name, f"must be true or false; got {_shown(value)}")


def _check_whole(param: Param, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and _in_range(param, value):
        return value
    raise _wrong(param.name, f"must be a whole number from {param.range}; got {_shown(value)}")


def _check_number(param: Param, value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and _in_range(param, value):
        return float(value)
    raise _wrong(param.name, f"must be a number from {param.range}; got {_shown(value)}")


def _in_range(param: Param, value: float) -> bool:
    """Whether a number is in the range of its parameter; NaN is in none."""
    return param.lowest <= value <= param.highest


def _check_map(param: Param, value: Any) -> dict[str, Any]:
    name = param.name
    if not isinstance(value, Mapping):
        raise _wrong(name, f"must be a map of setting names to values; got {_shown(value)}")
    if len(value) > MAX_SETTINGS:
        raise _wrong(name, f"may hold at most {MAX_SETTINGS} settings; got {len(value)}")
    for key, setting in value.items():
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_SETTING_NAME:
            raise _wrong(name, f"has a setting name that is not text of 1..{MAX_SETTING_NAME}")
        if not _is_scalar(setting):
            raise _wrong(f"{name}.{key}", "must be true, false, a finite number or a short text")
    return dict(value)


_CHECKS: Mapping[str, Callable[[Param, Any], Any]] = {
    "choice": _check_choice,
    "space": _check_space,
    "flag": _check_flag,
    "whole": _check_whole,
    "number": _check_number,
    "map": _check_map,
}


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_SETTING_TEXT
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (bool, int))


def _wrong(name: Any, what: str) -> MessageError:
    field = f"params.{_shown(name).strip(chr(39))}"
    return MessageError(f"{field} {what}", field=field)


def _shown(value: Any) -> str:
    """A short printable form of anything that came over the wire; escapes control characters."""
    if isinstance(value, (Mapping, list, tuple)):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
