"""Which files make up a config: its own, and the tables that its transforms read.

Two machines whose configs are equal but not their tables would give other colours under the same
names, so the digest of a config is that of all of them. Only what the text of the config says is
looked at; a name that a job's own context completes cannot be known, and neither can its file.
Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

_VALUE = r"""("[^"\n]*"|'[^'\n]*'|[^,}\n]+)"""
_TABLE = re.compile(rf"\bsrc\s*:\s*{_VALUE}")
_SEARCH_PATH = re.compile(r"^search_path\s*:(.*(?:\n[ \t]*-.*)*)", re.MULTILINE)
_LISTED = re.compile(r"\n[ \t]*-[ \t]*(.*)")
# Digests of configs by path, with the size and time of each file that they are of.
_KNOWN: dict[str, tuple[list[tuple[str, int, int]], str]] = {}


def digest_of(config: Path) -> str:
    """A SHA-256 of the config and of each table that it names and that is there.

    That of a config without tables is that of its file. Raises `OSError` where it cannot be read.
    """
    stored = config.read_bytes()
    tables = list(_tables(stored, config.parent))
    state = [_state(path) for path in (config, *(path for _, path in tables))]
    known = _KNOWN.get(str(config))
    if known is None or known[0] != state:
        known = _KNOWN[str(config)] = (state, _digest(stored, tables))
    return known[1]


def _digest(stored: bytes, tables: list[tuple[str, Path]]) -> str:
    whole = hashlib.sha256(stored)
    for name, path in tables:
        whole.update(f"\n{name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _state(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns


def _tables(stored: bytes, folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of the tables that are there, each once, by name."""
    try:
        text = stored.decode()
    except UnicodeDecodeError:  # an archive, which holds its tables
        return
    places = [folder / place for place in (".", *_search_path(text))]
    for name in sorted({_plain(found) for found in _TABLE.findall(text)}):
        paths = (place / os.path.expandvars(name) for place in places)
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            yield name, path


def _search_path(text: str) -> list[str]:
    """The folders of tables: one text with separators, or a list."""
    found = _SEARCH_PATH.search(text)
    if found is None:
        return []
    first, listed = found[1].partition("\n")[0], _LISTED.findall(found[1])
    parts = [part for value in listed or [first] for part in _split(_plain(value))]
    return [os.path.expandvars(part) for part in parts if part]


def _split(value: str) -> list[str]:
    has_drive = os.path.splitdrive(value)[0]  # only where this system has drives
    return value.split(";" if has_drive or ";" in value else ":")


def _plain(value: str) -> str:
    return value.split(" #")[0].strip().strip("\"'")
