r"""The paths of one machine as another sees them: `P:\shots` here is `/mnt/shots` on the farm.

    --map 'P:\=/mnt/projects'       --map '\\server\shots=/mnt/shots'       --map rules.json

A rule replaces a folder at the start of a path, part by part: `P:\shots` is no start of
`P:\shots2`. Of several that fit, the one with the most parts is taken. In paths of Windows both
slashes divide, and case does not count; in those of other systems it does. A file of rules has the
form that Open Job Description gives to its sessions (pathmapping-1.0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import UsageError

_WINDOWS = re.compile(r"[A-Za-z]:([\\/]|$)|\\\\")


@dataclass(frozen=True)
class Rule:
    """A folder here, by its parts, and the same folder there."""

    source: tuple[str, ...]
    target: str
    windows: bool

    def parts_behind(self, path: str) -> Optional[list[str]]:
        """The parts of a path behind this folder; None where it is not in it."""
        parts, windows = parts_of(path)
        size = len(self.source)
        if windows != self.windows or _folded(parts[:size], windows) != self.source:
            return None
        return parts[size:]


def is_of_windows(path: str) -> bool:
    """Whether a path starts with a drive letter or a server."""
    return _WINDOWS.match(path) is not None


def parts_of(path: str) -> tuple[list[str], bool]:
    """The parts of an absolute path, and whether it is one of Windows."""
    windows = is_of_windows(path)
    return [part for part in re.split(r"[\\/]" if windows else "/", path) if part], windows


def map_path(path: str, rules: Iterable[Rule]) -> Optional[str]:
    """The path there, by the longest rule that fits; None where none does."""
    found = [(rule, rule.parts_behind(path)) for rule in rules]
    fitting = [(rule, parts) for rule, parts in found if parts is not None]
    if not fitting:
        return None
    rule, parts = max(fitting, key=lambda each: len(each[0].source))
    return "/".join((rule.target.rstrip("/"), *parts)) or "/"


def read_rules(given: Iterable[str]) -> list[Rule]:
    """The rules of `--map`, each FROM=TO or a file of rules. Raises `UsageError`."""
    rules: list[Rule] = []
    for text in given:
        source, equals, target = text.rpartition("=")
        rules += [_rule(source, target)] if equals else _rules_in(Path(text))
    return rules


def _rule(source: str, target: str) -> Rule:
    parts, windows = parts_of(source)
    if not (windows or source.startswith("/")):
        raise UsageError(f"--map {source}={target}: {source or 'the path'} here is not absolute")
    if not target.startswith("/") or is_of_windows(target):
        raise UsageError(
            f"--map {source}={target}: give the folder as the workers see it, which run Linux: an"
            " absolute path such as /mnt/shots"
        )
    return Rule(_folded(parts, windows), target, windows)


def _folded(parts: Iterable[str], windows: bool) -> tuple[str, ...]:
    return tuple(part.casefold() if windows else part for part in parts)


def _rules_in(path: Path) -> list[Rule]:
    try:
        listed: Any = json.loads(path.read_text("utf-8"))["path_mapping_rules"]
        return [_rule(str(rule["source_path"]), str(rule["destination_path"])) for rule in listed]
    except OSError as error:
        raise UsageError(
            f"--map takes FROM=TO or a file of rules, and {path} cannot be read: {error.strerror}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no file of path mapping rules of Open Job Description (pathmapping-1.0):"
            f" {error}"
        ) from error
