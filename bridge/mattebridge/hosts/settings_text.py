"""Settings of a model as an artist types them: `key=value`, with values as what they look like.

    gain=1.5    a number
    fast=true   true or false
    mode=soft   anything else is text

The command line takes them one an option, a host's knob one a line. Standard library only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from mattebridge.errors import UsageError


def parse_settings(given: Iterable[str], *, where: str) -> dict[str, Any]:
    """`["gain=1.5", "fast=true"]` as values by name.

    Raises `UsageError` for one that is not key=value; `where` names the option or knob in it.
    """
    settings: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{where} takes key=value, not '{text}'")
        settings[name] = _typed(value)
    return settings


def parse_settings_knob(text: str, *, where: str) -> dict[str, Any]:
    """The same from a knob of several lines; blanks around names and values do not count."""
    lines = ("".join(part.strip() for part in line.partition("=")) for line in text.splitlines())
    return parse_settings(filter(None, lines), where=where)


def _typed(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
