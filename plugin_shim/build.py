"""Build the release plugin with compilers from Python wheels, check it, and install it.

    python plugin_shim/build.py --tools VENV --build DIR [--install DIR] [--target TARGET]

VENV is a virtual environment with the wheels `cmake`, `ninja` and `ziglang`; `make plugin` makes
it. The target is zig's: architecture, system, C library and its version (x86_64-linux-gnu.2.17);
or `universal-macos`, one bundle for Apple silicon and Intel, for macOS since 11. A binary is
checked before it is installed. Linux: exactly two exported functions, no newer glibc than asked
for, no function that would start a process or load a library. Windows: the same. macOS: the two
functions, for both processors, and no function that would start a process. One source alone may
start one, the daemon, and one alone may ask it to; that is seen in the object files. Standard
library only.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import objects
import portable
import universal

HERE = Path(__file__).resolve().parent
EXPORTS = {"OfxGetNumberOfPlugins", "OfxGetPlugin"}
FORBIDDEN = {
    "fork", "vfork", "clone", "execv", "execve", "execvp", "posix_spawn", "posix_spawnp", "system",
    "popen", "dlopen", "shm_open", "pthread_create", "pthread_atfork",
}  # fmt: skip
# The C++ library of macOS builds calls dlopen, and a hook for forks is registered there.
ALLOWED_ON_MACOS = {"dlopen", "pthread_atfork"}
# Of Windows, with all their variants.
FORBIDDEN_ON_WINDOWS = re.compile(
    "CreateProcess|WinExec|ShellExecute|LoadLibrary|CreateThread|_?w?(system|popen)$"
    "|_w?(spawn|exec)[lv]"
)
# What starts the daemon (src/launch.h), and the sources that alone may use it.
STARTS = {"launch_unix": "posix_spawn", "launch_windows": "CreateProcessW"}
# By parts of the names of what leads there: the one other source that may call it. A render is in
# none of them.
LEADS_THERE = {"2mb2os6LaunchC": "daemon_panel", "2mb12start_daemon": "plugin"}
UNIVERSAL = "universal-macos"
PARTS = ("aarch64-macos.11.0", "x86_64-macos.11.0")
SYSTEMS = {"linux": "Linux", "macos": "Darwin", "windows": "Windows"}
PARALLEL = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", "2")


class Symbols(NamedTuple):
    """The symbols that a Linux library exports and needs."""

    exported: set[str]
    undefined: set[str]
    glibc: tuple[int, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--target", default="x86_64-linux-gnu.2.17")
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--install", type=Path)
    options = parser.parse_args()
    make = build_universal if options.target == UNIVERSAL else build
    bundle = make(options.tools.absolute(), options.target, options.build.absolute())
    binary = next(bundle.glob("Contents/*/MatteBridge.ofx"))
    print(f"built {binary} ({binary.stat().st_size // 1024} KB)")
    trouble = check(binary, options.target) or check_objects(objects_of(binary))
    if trouble:
        print(f"mattebridge: the plugin cannot be released: {trouble}", file=sys.stderr)
        return 1
    if options.install:
        print(f"installed {install(bundle, options.install.expanduser().absolute())}")
    return 0


def build_universal(tools: Path, _target: str, folder: Path) -> Path:
    """Build for each processor of macOS and join what came out; returns the bundle."""
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(folder.parent / "zig-cache"))
    made = [build(tools, part, folder / part) for part in PARTS]
    bundle = folder / made[0].name
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(made[0], bundle)
    binary = next(bundle.glob("Contents/*/MatteBridge.ofx"))
    universal.join([next(part.glob("Contents/*/MatteBridge.ofx")) for part in made], binary)
    return bundle


def build(tools: Path, target: str, folder: Path) -> Path:
    """Configure and build; returns the bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    forget_moved(folder)
    system = SYSTEMS[target.split("-")[1].split(".")[0]]
    cxx, c = _wrapper(folder, tools, target, "c++"), _wrapper(folder, tools, target, "cc")
    environment = {
        **os.environ,
        # zig compiles its C++ library once for each target; the result is kept beside the builds.
        "ZIG_GLOBAL_CACHE_DIR": os.environ.get(
            "ZIG_GLOBAL_CACHE_DIR", str(folder.parent / "zig-cache")
        ),
    }
    program = tools / "bin"
    configure = [
        program / "cmake", "-S", HERE, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_MAKE_PROGRAM={program / 'ninja'}", f"-DCMAKE_CXX_COMPILER={cxx}",
        f"-DCMAKE_C_COMPILER={c}", f"-DCMAKE_SYSTEM_NAME={system}",
        f"-DCMAKE_SYSTEM_PROCESSOR={target.split('-')[0]}",
    ]  # fmt: skip
    subprocess.run(configure, check=True, env=environment, stdout=subprocess.DEVNULL)
    make = [program / "cmake", "--build", folder, "--target", "MatteBridge", "-j", PARALLEL]
    subprocess.run(make, check=True, env=environment)
    return folder / "MatteBridge.ofx.bundle"


def forget_moved(folder: Path) -> None:
    """Remove what CMake keeps of a build where the repository lay elsewhere: it would refuse it."""
    cache = folder / "CMakeCache.txt"
    if not cache.exists() or f"CMAKE_HOME_DIRECTORY:INTERNAL={HERE}\n" in cache.read_text("utf-8"):
        return
    cache.unlink()
    shutil.rmtree(folder / "CMakeFiles", ignore_errors=True)


def _wrapper(folder: Path, tools: Path, target: str, tool: str) -> Path:
    """A script that runs `zig c++` or `zig cc`: CMake and its caches expect one program."""
    path = folder / f"zig-{tool}"
    python = tools / "bin" / "python"
    path.write_text(f'#!/bin/sh\nexec "{python}" -m ziglang {tool} -target {target} "$@"\n')
    path.chmod(0o755)
    return path


def check(binary: Path, target: str) -> Optional[str]:
    """What is wrong with a binary, or None."""
    if "macos" in target:
        return check_macos(binary)
    if "windows" in target:
        return check_windows(binary)
    found = symbols(binary)
    if found.exported != EXPORTS:
        return f"it exports {', '.join(sorted(found.exported))}"
    if forbidden := found.undefined & FORBIDDEN - set(STARTS.values()):
        return f"it uses {', '.join(sorted(forbidden))}"
    wanted = re.search(r"gnu\.([\d.]+)", target)
    if wanted and found.glibc > tuple(map(int, wanted[1].split("."))):
        return f"it needs glibc {'.'.join(map(str, found.glibc))}"
    return None


def check_macos(binary: Path) -> Optional[str]:
    """What is wrong with a binary for macOS, of any of its processors."""
    for part in universal.split(binary.read_bytes()):
        exported, undefined = universal.symbols(part)
        forbidden = {name[1:] for name in undefined} & FORBIDDEN - ALLOWED_ON_MACOS
        forbidden -= set(STARTS.values())
        if missing := EXPORTS - {name[1:] for name in exported}:
            return f"it does not export {', '.join(sorted(missing))}"
        if forbidden:
            return f"it uses {', '.join(sorted(forbidden))}"
    return None


def check_windows(binary: Path) -> Optional[str]:
    """What is wrong with a binary for Windows."""
    exported, imported = portable.symbols(binary.read_bytes())
    forbidden = {name for name in imported if FORBIDDEN_ON_WINDOWS.match(name)}
    forbidden -= set(STARTS.values())
    if exported != EXPORTS:
        return f"it exports {', '.join(sorted(exported))}"
    if forbidden:
        return f"it uses {', '.join(sorted(forbidden))}"
    return None


def objects_of(binary: Path) -> list[Path]:
    """The object files of a build, or of the builds of a universal one."""
    folder = binary.parents[3]
    return sorted(
        path
        for path in folder.glob("**/CMakeFiles/MatteBridge.dir/src/*")
        if path.suffix in (".o", ".obj")
    )


def check_objects(paths: Sequence[Path]) -> Optional[str]:
    """Which source starts a process, or leads there, and may not; None where all is well."""
    seen = set()
    for path in paths:
        source = re.split(r"[.-]", path.name)[0]
        needed = objects.needed(path.read_bytes())
        allowed = STARTS.get(source)
        starting = {name for name in needed if name in FORBIDDEN - ALLOWED_ON_MACOS}
        starting |= {name for name in needed if FORBIDDEN_ON_WINDOWS.match(name)}
        if wrong := starting - {allowed}:
            return f"{source}.cpp uses {', '.join(sorted(wrong))}"
        if allowed in starting:
            seen.add(source)
        for part, only in LEADS_THERE.items():
            if source != only and any(part in name for name in needed):
                return f"{source}.cpp can start the daemon, which {only}.cpp alone may"
    if not seen:
        return "no object file starts the daemon: the check has seen none"
    return None


def symbols(binary: Path) -> Symbols:
    """The dynamic symbols of a 64-bit little-endian ELF library and its highest glibc version."""
    data = binary.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{binary} is not a 64-bit ELF file")
    start, size, count = struct.unpack_from("<Q10xHH", data, 40)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, start + size * n) for n in range(count)]
    exported, undefined, versions = set(), set(), {(0,)}
    for header in headers:
        _name, kind, _flags, _address, offset, length, link, _info, _align, entry = header
        if kind == 11:  # SHT_DYNSYM
            names = data[headers[link][4] : headers[link][4] + headers[link][5]]
            for at in range(offset + entry, offset + length, entry):
                name, info, _other, section = struct.unpack_from("<IBBH", data, at)
                text = names[name : names.index(b"\0", name)].decode()
                if info >> 4 != 0:  # local symbols are neither exported nor needed
                    (exported if section else undefined).add(text)
        elif kind == 0x6FFFFFFE:  # SHT_GNU_verneed
            names = data[headers[link][4] : headers[link][4] + headers[link][5]]
            for word in re.findall(rb"GLIBC_([\d.]+)", names):
                versions.add(tuple(map(int, word.split(b"."))))
    return Symbols(exported, undefined, max(versions))


def install(bundle: Path, folder: Path) -> Path:
    """Put the bundle into a plugin folder; a host that has loaded an older one keeps using it."""
    folder.mkdir(parents=True, exist_ok=True)
    new, old = folder / "@MatteBridge.new", folder / "@MatteBridge.old"
    place = folder / bundle.name
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(bundle, new)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
    return place


if __name__ == "__main__":
    sys.exit(main())
