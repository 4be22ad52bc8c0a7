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
    colour config, where all others are. unset: what None stands for; a parameter without it cannot
    be None. required: there is no default.
    """

    name: str
    kind: Literal["choice", "space", "flag", "map"]
    help: str
    choices: tuple[str, ...] = ()
    default: Any = None
    unset: str = ""
    required: bool = False

    @property
    def option(self) -> str:
        """The parameter as an option of `mattebridge matte`; a map is set entry by entry."""
        return "--set" if self.kind == "map" else "--" + self.name.replace("_", "-")


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
    ),
    Param(
        "premultiply",
        "choice",
        "how premultiplied is made: colour times alpha in linear light, or encoded colour times"
        " alpha for hosts that composite encoded values, which needs `srgb` results",
        choices=("linear", "display"),
        default="linear",
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
DEFAULTS: Mapping[str, Any] = {p.name: p.default for p in PARAMS if not p.required}


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
    settings: Mapping[str, Any] = field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        """The parameters by name, without those that are None and so left to the model."""
        values = {name: getattr(self, name) for name in NAMES}
        values["settings"] = dict(self.settings)
        return {name: value for name, value in values.items() if value is not None}


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
    if param.required and param.name not in params:
        raise _wrong(param.name, f"is missing; give one of {', '.join(param.choices)}")
    value = params.get(param.name, param.default)
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
