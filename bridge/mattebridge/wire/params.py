"""The render parameters of a request: names, choices, defaults, and the check of a `params` map.

Both ends use this page: the front refuses a bad request before a worker sees it, the engine builds
its `RenderParams` from the same values. Standard library only, no numpy; runs on Python 3.9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from mattebridge.errors import MessageError

COLORSPACES = ("linear", "srgb")
PLATE_ALPHAS = ("opaque", "straight", "premultiplied")
FOREGROUNDS = ("model", "unmix", "plate")
ALIGNMENTS = ("off", "auto", "homography")
NONFINITE_POLICIES = ("error", "zero")

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
INPUT_DTYPES = ("u1", "u2", "f2", "f4")
OUTPUT_DTYPES = ("f2", "f4")

# No default for `colorspace`: a wrong guess gives a plausible, wrong picture.
REQUIRED = ("colorspace",)
# None means: output_colorspace as the plate's, alignment as the model's card says, match_exposure
# on wherever the alignment is `auto`.
DEFAULTS: Mapping[str, Any] = {
    "output_colorspace": None,
    "plate_alpha": "opaque",
    "foreground": "model",
    "alignment": None,
    "match_exposure": None,
    "nonfinite": "error",
    "exact": False,
    "settings": {},
}
NAMES = (*REQUIRED, *DEFAULTS)

# A setting is a short scalar; these bounds keep a hostile map small before the model sees it.
MAX_SETTINGS = 64
MAX_SETTING_NAME = 64
MAX_SETTING_TEXT = 1024


def default_colorspace(dtype: str) -> str:
    """What pixels of this type are when nobody says: integers display-encoded, floats linear.

    For clients that fill in `colorspace`; the daemon itself never guesses. `dtype` is one of
    `INPUT_DTYPES`.
    """
    return "srgb" if dtype in ("u1", "u2") else "linear"


def validate_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Every render parameter with its value: `params` over the defaults.

    Raises `MessageError` with `details['field']` for a missing, unknown or ill-typed key. The
    values inside `settings` are checked for being plain scalars only; the model's own schema
    does the rest.
    """
    if not isinstance(params, Mapping):
        raise MessageError("params must be a map", field="params")
    for name in params:
        if name not in _CHECKS:
            raise _wrong(name, f"is not a render parameter; they are: {', '.join(NAMES)}")
    for name in REQUIRED:
        if name not in params:
            raise _wrong(name, f"is missing; say one of {', '.join(COLORSPACES)}")
    values = {**DEFAULTS, **params}
    return {name: check(name, values[name]) for name, check in _CHECKS.items()}


def _choice(choices: tuple[str, ...], optional: bool = False) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if (optional and value is None) or (isinstance(value, str) and value in choices):
            return value
        raise _wrong(name, f"must be one of {', '.join(choices)}; got {_shown(value)}")

    return check


def _flag(optional: bool = False) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if (optional and value is None) or isinstance(value, bool):
            return value
        raise _wrong(name, f"must be true or false; got {_shown(value)}")

    return check


def _settings(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(name, f"must be a map of setting names to values; got {_shown(value)}")
    if len(value) > MAX_SETTINGS:
        raise _wrong(name, f"may hold at most {MAX_SETTINGS} settings; got {len(value)}")
    for key, setting in value.items():
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_SETTING_NAME:
            raise _wrong(name, f"has a setting name that is no text of 1..{MAX_SETTING_NAME}")
        if not _is_scalar(setting):
            raise _wrong(f"{name}.{key}", "must be true, false, a finite number or a short text")
    return dict(value)


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


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "colorspace": _choice(COLORSPACES),
    "output_colorspace": _choice(COLORSPACES, optional=True),
    "plate_alpha": _choice(PLATE_ALPHAS),
    "foreground": _choice(FOREGROUNDS),
    "alignment": _choice(ALIGNMENTS, optional=True),
    "match_exposure": _flag(optional=True),
    "nonfinite": _choice(NONFINITE_POLICIES),
    "exact": _flag(),
    "settings": _settings,
}


@dataclass(frozen=True)
class RenderParams:
    """How a frame is to be computed; names, values and defaults are those of `params.py`."""

    colorspace: str
    output_colorspace: Optional[str] = None
    plate_alpha: str = "opaque"
    foreground: str = "model"
    alignment: Optional[str] = None
    match_exposure: Optional[bool] = None
    nonfinite: str = "error"
    exact: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, params: Mapping[str, Any]) -> RenderParams:
        """The parameters of a request; raises `MessageError` naming the field at fault."""
        return cls(**validate_params(params))
