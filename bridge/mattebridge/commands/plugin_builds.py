"""The builds of the OFX plugin in a repository, and the one that runs on this system.

`make plugin` builds into build/plugin/TARGET, by default for Linux, for others where asked; CMake
by hand builds into any folder of build/plugin. What a build is for is read from the first bytes of
its binary: folder names differ, and a bundle for another processor lies in a folder of the same
name.
"""

from __future__ import annotations

import platform
import struct
import sys
from pathlib import Path
from typing import Optional

from mattebridge.errors import UsageError

BUNDLE = "MatteBridge.ofx.bundle"
_SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}
_PROCESSORS = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
# The numbers of processors in ELF, Mach-O and PE files.
_ELF = {62: "x86_64", 183: "aarch64"}
_MACH_O = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
_PE = {0x8664: "x86_64", 0xAA64: "aarch64"}
_UNIVERSAL = 0xCAFEBABE  # a Mach-O file for several processors


def build_for_this_system(repository: Path) -> Path:
    """The newest bundle that runs here. Raises `UsageError` that names those that do not."""
    places = (f"build/*/{BUNDLE}", f"build/*/*/{BUNDLE}")
    found = sorted((path for place in places for path in repository.glob(place)), key=_built_at)
    if not found:
        raise UsageError("the OFX plugin is not built: run `make plugin` in the repository first")
    here = (_SYSTEMS.get(sys.platform, sys.platform), _processor())
    fitting = [bundle for bundle in found if here in _targets(bundle)]
    if not fitting:
        others = ", ".join(f"{bundle.parent} ({_named(bundle)})" for bundle in found)
        raise UsageError(
            f"no build of the OFX plugin runs on {' '.join(here)}; there is {others}: run `make"
            " plugin` in the repository on this system, or with PLUGIN_TARGET for it"
        )
    return fitting[-1]


def _processor() -> str:
    found = platform.machine().lower()
    return _PROCESSORS.get(found, found)


def _binaries(bundle: Path) -> list[Path]:
    return sorted(bundle.glob("Contents/*/*.ofx"))


def _built_at(bundle: Path) -> float:
    return max((path.stat().st_mtime for path in _binaries(bundle)), default=0.0)


def _targets(bundle: Path) -> list[tuple[str, str]]:
    found = []
    for path in _binaries(bundle):
        found += _targets_of(path)
    return found


def _named(bundle: Path) -> str:
    return " and ".join(" ".join(target) for target in _targets(bundle)) or "not a plugin"


def _targets_of(path: Path) -> list[tuple[str, str]]:
    """The systems and processors that a binary is for; empty for what is no binary."""
    with path.open("rb") as file:
        start = file.read(4096)
    try:
        return _read_targets(start)
    except struct.error:
        return []


def _read_targets(start: bytes) -> list[tuple[str, str]]:
    if start[:4] == b"\x7fELF":
        return _one("linux", _ELF.get(*struct.unpack_from("<H", start, 18)))
    if start[:2] == b"MZ":
        (header,) = struct.unpack_from("<I", start, 0x3C)
        return _one("windows", _PE.get(*struct.unpack_from("<H", start, header + 4)))
    if start[:4] == b"\xcf\xfa\xed\xfe":
        return _one("macos", _MACH_O.get(*struct.unpack_from("<I", start, 4)))
    magic, count = struct.unpack_from(">II", start)
    if magic != _UNIVERSAL:
        return []
    kinds = [struct.unpack_from(">I", start, 8 + 20 * index)[0] for index in range(min(count, 8))]
    return [("macos", _MACH_O[kind]) for kind in kinds if kind in _MACH_O]


def _one(system: str, processor: Optional[str]) -> list[tuple[str, str]]:
    return [(system, processor)] if processor else []
