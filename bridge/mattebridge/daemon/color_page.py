"""The colour spaces of a config in pages: those of a large config do not fit into one message."""

from __future__ import annotations

from typing import Any

import msgpack

from mattebridge.errors import one_line
from mattebridge.ocio.config import Config, NamedSpace
from mattebridge.wire.protocol import MAX_ITEMS

PAGE_BYTES = 48_000
MAX_NAME = 200
MAX_ALIASES = 16


def color_page(config: Config, first: int) -> dict[str, Any]:
    """The spaces from the `first` on, as many as one reply holds; at least one where there is."""
    page: list[dict[str, Any]] = []
    size_bytes = 0
    for space in config.spaces[first : first + MAX_ITEMS]:
        entry = _entry(space)
        size_bytes += len(msgpack.packb(entry))
        if page and size_bytes > PAGE_BYTES:
            break
        page.append(entry)
    return {**config.described(), "total": len(config.spaces), "spaces": page}


def _entry(space: NamedSpace) -> dict[str, Any]:
    return {
        "name": one_line(space.name, MAX_NAME),
        "family": one_line(space.family, MAX_NAME),
        "aliases": [one_line(alias, MAX_NAME) for alias in space.aliases[:MAX_ALIASES]],
        "roles": [one_line(role, MAX_NAME) for role in space.roles[:MAX_ALIASES]],
    }
