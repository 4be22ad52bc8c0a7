"""The builds of the OFX plugin in a wheel or a repository, and the one that runs on this system.

A wheel for a system carries its plugin inside the package. In a repository, `make plugin` builds
into build/plugin/TARGET, by default for Linux, for others where asked; CMake by hand builds into
any folder of build/plugin. What a build is for is read from the first bytes of its binary: folder
names differ, and a bundle for another processor lies in a folder of the same name.
"""

from __future__ import annotations

import platform
import shutil
import struct
from pathlib import Path
from typing import Optional

from mattebridge.commands.host_folders import system
from mattebridge.errors import UsageError

BUNDLE = "MatteBridge.ofx.bundle"
# The folder of the package in which a wheel carries the bundle.
IN_PACKAGE = "plugin"
# Its icon, without the ending: hosts look for it under the plugin's identifier.
ICON = "Contents/Resources/org.mattebridge.MatteBridge"
# What a host reads of a bundle; linkers leave debug files and import libraries beside it.
CARRIED = (".ofx", ".plist", ".png", ".svg")
_SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}
_PROCESSORS = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
# The numbers of processors in ELF, Mach-O and PE files.
_ELF = {62: "x86_64", 183: "aarch64"}
_MACH_O = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
_PE = {0x8664: "x86_64", 0xAA64: "aarch64"}
_UNIVERSAL = 0xCAFEBABE  # a Mach-O file for several processors


def build_for_this_system(package: Path) -> Path:
    """The bundle that runs here: the one of the wheel, else the newest build of the repository.

    `package` is the folder of mattebridge. Raises `UsageError` that names those that do not run.
    """
    found = _builds(package)
    here = this_system()
    if not found:
        raise UsageError(
            f"this installation of mattebridge carries no OFX plugin for {' '.join(here)}: install"
            " a wheel of mattebridge for this system, or run `make plugin` in the repository"
        )
    fitting = [bundle for bundle in found if here in targets_of(bundle)]
    if not fitting:
        others = ", ".join(f"{bundle.parent} ({_named(bundle)})" for bundle in found)
        raise UsageError(
            f"no build of the OFX plugin runs on {' '.join(here)}; there is {others}: run `make"
            " plugin` in the repository on this system, or with PLUGIN_TARGET for it"
        )
    return fitting[-1]


def _builds(package: Path) -> list[Path]:
    carried = package / IN_PACKAGE / BUNDLE
    if carried.is_dir():
        return [carried]
    places = (f"build/*/{BUNDLE}", f"build/*/*/{BUNDLE}")
    repository = package.parents[1]
    return sorted((path for place in places for path in repository.glob(place)), key=_built_at)


def copy_bundle(bundle: Path, target: Path) -> None:
    """Copy what a host reads of a bundle."""
    for name, path in carried_files(bundle).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / name)


def carried_files(bundle: Path) -> dict[str, Path]:
    """The files of a bundle that a host reads, by their path in it with forward slashes."""
    found = sorted(path for path in bundle.rglob("*") if path.suffix in CARRIED and path.is_file())
    return {path.relative_to(bundle).as_posix(): path for path in found}


def this_system() -> tuple[str, str]:
    """The system and the processor that a plugin must be for to run here."""
    return _SYSTEMS.get(system(), system()), _processor()


def _processor() -> str:
    found = platform.machine().lower()
    return _PROCESSORS.get(found, found)


def _binaries(bundle: Path) -> list[Path]:
    return sorted(bundle.glob("Contents/*/*.ofx"))


def _built_at(bundle: Path) -> float:
    return max((path.stat().st_mtime for path in _binaries(bundle)), default=0.0)


def targets_of(bundle: Path) -> list[tuple[str, str]]:
    """The systems and processors that a bundle's binaries are for; empty where it has none."""
    found = []
    for path in _binaries(bundle):
        found += _targets_of(path)
    return found


def _named(bundle: Path) -> str:
    return " and ".join(" ".join(target) for target in targets_of(bundle)) or "not a plugin"


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
