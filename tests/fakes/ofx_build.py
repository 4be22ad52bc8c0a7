"""The compiled plugin for tests: built once, and again where a source changed.

g++ where there is one, else clang++, else zig out of the `ziglang` wheel; objects are kept in
build/plugin/ under a digest of everything that goes into them. `make plugin` builds the release in
its own way (CMake, zig); this needs nothing but a compiler.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from fakes.places import ROOT
from mattebridge.whole_files import replace_file
from mattebridge.wire.oslayer import TEST_VARIABLE

SHIM = ROOT / "plugin_shim"
BUILD = ROOT / "build" / "plugin"
TOOLS = BUILD / "tools"
# Under MATTEBRIDGE_TEST_OSLAYER=posix the plugin has the layer of macOS, which runs on Linux too.
POSIX = os.environ.get(TEST_VARIABLE) == "posix"
NOT_HERE = (
    "os_windows.cpp", "launch_windows.cpp", "records.cpp",
    "os_linux.cpp" if POSIX else "os_posix.cpp",
)  # fmt: skip
FLAGS = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
EXPORTS = ["-shared", f"-Wl,--version-script={SHIM / 'exports.map'}"]
COMPILE_S = 600
# Set for a whole pytest run by test_ofx_sanitizers.py: every test then gets that build. What is
# preloaded for it is for this process alone, not for the daemons that it starts.
SANITIZER = os.environ.get("OFX_TEST_SANITIZER", "")
if SANITIZER:
    os.environ.pop("LD_PRELOAD", None)


class NoCompiler(Exception):
    """No C++ compiler on this machine."""


def compiler() -> list[str]:
    """The command of a C++ compiler; `NoCompiler` where there is none."""
    for name in ("g++", "clang++"):
        if shutil.which(name):
            return [name]
    for python in (Path(sys.executable), TOOLS / "bin" / "python"):
        if python == Path(sys.executable) and importlib.util.find_spec("ziglang"):
            return [str(python), "-m", "ziglang", "c++"]
        if python.exists() and list(TOOLS.glob("lib/python*/site-packages/ziglang")):
            return [str(python), "-m", "ziglang", "c++"]
    raise NoCompiler("no g++, clang++ or zig: `make plugin` brings one")


@contextlib.contextmanager
def building_a_release() -> Iterator[None]:
    """One process at a time: two would write the same objects."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def plugin(sanitizer: str = SANITIZER) -> Path:
    """The plugin's binary, with a sanitizer ("address", "thread") where asked."""
    sources = [_all_in_one(sanitizer)] if sanitizer else _sources()
    name = "Posix.ofx" if POSIX else "MatteBridge.ofx"
    return _link(name, sources, EXPORTS, sanitizer)


@functools.cache
def impatient_plugin() -> Path:
    """The plugin, to which a session is idle after one second instead of sixty."""
    sources = [path for path in _sources() if path.name != "session.cpp"]
    sources.append(SHIM / "tests" / "impatient_session.cpp")
    return _link("Impatient.ofx", sources, EXPORTS, "")


def _sources() -> list[Path]:
    return [path for path in sorted(SHIM.glob("src/*.cpp")) if path.name not in NOT_HERE]


def _all_in_one(sanitizer: str) -> Path:
    """One source that includes all others, for a build that shares no object with another one.

    The headers of the standard library are then read once: less than a third of the time.
    """
    sources = _sources()
    lines = [f"// {_digest(sources, [])}", *(f'#include "{source}"' for source in sources)]
    path = BUILD / f"test-{sanitizer}" / "all.cpp"
    text = "\n".join([*lines, ""])
    if not path.exists() or path.read_text() != text:
        replace_file(path, text.encode())
    return path


@functools.cache
def wire_test() -> Path:
    """The program that answers questions about the wire in C++."""
    names = ("mpack", "slots", "failure", "pixels", "sha256")
    sources = [SHIM / "tests" / "wire_test.cpp", *(SHIM / "src" / f"{name}.cpp" for name in names)]
    return _link("wire_test", sources, [], "")


def _link(name: str, sources: Sequence[Path], flags: Sequence[str], sanitizer: str) -> Path:
    command = [*compiler(), *FLAGS, f"-I{SHIM / 'src'}"]
    if sanitizer:
        command = [word for word in command if word != "-O2"]
        command += ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={sanitizer}"]
    folder = BUILD / ("test-" + (sanitizer or "plain"))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        objects = [_object(folder, source, command) for source in sources]
        digest = _digest([*objects, SHIM / "exports.map"], [*command, *flags])
        binary = folder / digest / name
        if not binary.exists():
            for old in folder.glob(f"*/{name}"):
                shutil.rmtree(old.parent)
            binary.parent.mkdir()
            made = binary.with_suffix(".new")
            _run([*command, *map(str, objects), *flags, "-lpthread", "-o", str(made)])
            made.rename(binary)
    return binary


def _object(folder: Path, source: Path, command: list[str]) -> Path:
    headers = sorted((SHIM / "src").glob("*.h"))
    path = folder / f"{source.stem}-{_digest([source, *headers], command)}.o"
    if not path.exists():
        for old in folder.glob(f"{source.stem}-*.o"):
            old.unlink()
        made = path.with_suffix(".new")
        _run([*command, "-c", str(source), "-o", str(made)])
        made.rename(path)
    return path


def _digest(files: Sequence[Path], words: Sequence[str]) -> str:
    digest = hashlib.sha256("\0".join(words).encode())
    for path in files:
        digest.update(path.name.encode() if path.suffix == ".o" else path.read_bytes())
    return digest.hexdigest()[:16]


def _run(command: list[str], environment: Optional[dict[str, str]] = None) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=COMPILE_S,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stderr[-4000:]
