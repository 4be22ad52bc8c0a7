"""The binary that is handed out: what it exports, needs and leaves alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fakes import ofx_build
from fakes.daemon_process import DaemonProcess
from fakes.ofx_host import GENERAL, OK, HostImage, OfxHost
from fakes.ofx_scene import matted, scene

BUILD_S = 900
TARGETS = {
    "x86_64-linux-gnu.2.17": "Linux-x86-64",
    "universal-macos": "MacOS",
    "x86_64-windows-gnu": "Win64",
}


def build_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plugin_build", ofx_build.SHIM / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ofx_build.SHIM))
        spec.loader.exec_module(module)
    return module


def release(target: str) -> Path:
    """The bundle of a target, built as `make plugin` builds it; skips without its wheels."""
    if not (ofx_build.TOOLS / ".ready").exists():
        pytest.skip("no build tools: run `make plugin` once")
    folder = ofx_build.BUILD / target
    with ofx_build.building_a_release():
        done = subprocess.run(
            [sys.executable, str(ofx_build.SHIM / "build.py"), "--tools", str(ofx_build.TOOLS),
             "--target", target, "--build", str(folder)],
            capture_output=True, text=True, timeout=BUILD_S,
            env={**os.environ, "CMAKE_BUILD_PARALLEL_LEVEL": "1"},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "MatteBridge.ofx.bundle"


def test_the_tests_own_build_exports_the_two_functions_of_openfx_and_starts_nothing() -> None:
    try:
        binary = ofx_build.plugin("")
    except ofx_build.NoCompiler as missing:
        pytest.skip(str(missing))
    module = build_module()
    assert module.check(binary, "x86_64-linux-gnu") is None
    objects = sorted(binary.parents[1].glob("*.o"))
    assert module.check_objects(objects) is None
    # One object alone starts a process; by none other is the render's among them.
    starting = [path for path in objects if "posix_spawn" in needed_by(module, path)]
    assert [path.name.split("-")[0] for path in starting] == ["launch_unix"]


def needed_by(module: ModuleType, path: Path) -> set[str]:
    return module.objects.needed(path.read_bytes())


def test_the_look_at_objects_sees_who_starts_a_process_and_who_leads_there(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    module = build_module()

    def compiled(name: str, text: str) -> Path:
        source = tmp_path / f"{name}.cpp"
        source.write_text(text)
        path = tmp_path / f"{name}.cpp.o"
        subprocess.run(["g++", "-c", str(source), "-o", str(path)], check=True)
        return path

    spawns = "#include <spawn.h>\nvoid *f() { return (void *)&posix_spawn; }\n"
    starter = compiled("launch_unix", spawns)
    assert module.check_objects([starter]) is None
    assert "has seen none" in module.check_objects([])
    assert module.check_objects([starter, compiled("render", spawns)]) == (
        "render.cpp uses posix_spawn"
    )
    declared = (
        "#include <string>\nnamespace mb { std::string start_daemon(const std::string &); }\n"
    )
    starts = declared + 'void f() { mb::start_daemon("x"); }\n'
    assert module.check_objects([starter, compiled("plugin", starts)]) is None
    assert module.check_objects([starter, compiled("session", starts)]) == (
        "session.cpp can start the daemon, which plugin.cpp alone may"
    )
    forks = "#include <unistd.h>\nint f() { return fork(); }\n"
    assert module.check_objects([compiled("launch_unix", forks)]) == "launch_unix.cpp uses fork"


def test_the_look_at_a_binary_sees_what_it_is_there_for(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    module = build_module()
    source, binary = tmp_path / "other.cpp", tmp_path / "other.ofx"
    source.write_text('#include <cstdlib>\nint OfxGetPlugin() { return system("true"); }\n')
    subprocess.run(["g++", "-shared", "-fPIC", str(source), "-o", str(binary)], check=True)
    assert "exports" in module.check(binary, "x86_64-linux-gnu.2.17")
    module.EXPORTS = module.symbols(binary).exported
    assert module.check(binary, "x86_64-linux-gnu.2.17") == "it uses system"
    module.FORBIDDEN = set()
    assert module.check(binary, "x86_64-linux-gnu.2.2") == "it needs glibc 2.2.5"


def windows_library(exported: str, imported: str) -> bytes:
    """A library for Windows with one section, which has its two tables and no code."""
    at, size = 0x1000, 0x200
    names = b"\0".join([exported.encode(), b"a.dll", b"\0\0" + imported.encode()]) + b"\0"
    first = at + 200
    second = first + len(exported) + 1
    third = second + len("a.dll") + 1
    exports = bytes(24) + struct.pack("<3I", 1, 0, at + 40) + bytes(4) + struct.pack("<I", first)
    imports = struct.pack("<5I", at + 100, 0, 0, second, at + 100) + bytes(20)
    section = exports.ljust(48, b"\0") + imports.ljust(52, b"\0") + struct.pack("<2Q", third, 0)
    section = (section.ljust(200, b"\0") + names).ljust(size, b"\0")
    optional = struct.pack("<H", 0x20B) + bytes(110) + struct.pack("<4I", at, 40, at + 48, 40)
    header = b"PE\0\0" + struct.pack("<HH12xHH", 0x8664, 1, len(optional), 0x2022) + optional
    place = struct.pack("<8s4I16x", b".rdata", size, at, size, 0x200)
    start = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    return (start + header + place).ljust(0x200, b"\0") + section


def test_the_look_at_a_binary_of_windows_sees_the_same(tmp_path: Path) -> None:
    module = build_module()
    binary = tmp_path / "other.ofx"
    binary.write_bytes(windows_library("OfxGetPlugin", "CreateProcessA"))
    target = "x86_64-windows-gnu"
    assert module.check(binary, target) == "it exports OfxGetPlugin"
    module.EXPORTS = {"OfxGetPlugin"}
    assert module.check(binary, target) == "it uses CreateProcessA"
    # Who uses CreateProcessW is seen in the object files.
    for good in ("CreateProcessW", "_execute_onexit_table", "CreateFileW", "strerror_s"):
        binary.write_bytes(windows_library("OfxGetPlugin", good))
        assert module.check(binary, target) is None
    for bad in ("_wspawnv", "_execl", "_popen", "system", "_wsystem", "LoadLibraryExW"):
        binary.write_bytes(windows_library("OfxGetPlugin", bad))
        assert module.check(binary, target) == f"it uses {bad}"


def test_a_build_of_a_repository_that_was_moved_is_begun_anew(tmp_path: Path) -> None:
    module = build_module()
    cache, objects = tmp_path / "CMakeCache.txt", tmp_path / "CMakeFiles"
    objects.mkdir()
    (tmp_path / "MatteBridge.ofx.bundle").mkdir()
    line = "CMAKE_HOME_DIRECTORY:INTERNAL="
    cache.write_text(f"# CMake\n{line}{ofx_build.SHIM}\nOTHER:INTERNAL=1\n")
    module.forget_moved(tmp_path)
    assert cache.exists()
    assert objects.exists()
    cache.write_text(f"# CMake\n{line}/elsewhere/plugin_shim\nOTHER:INTERNAL=1\n")
    module.forget_moved(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["MatteBridge.ofx.bundle"]


def test_an_installed_bundle_replaces_the_older_one_whole(tmp_path: Path) -> None:
    module = build_module()
    bundle = tmp_path / "MatteBridge.ofx.bundle"
    place = bundle / "Contents" / "Linux-x86-64"
    place.mkdir(parents=True)
    (place / "MatteBridge.ofx").write_text("1")
    (place / "old file").write_text("")
    target = tmp_path / "somewhere" / "OFX"
    module.install(bundle, target)
    (place / "MatteBridge.ofx").write_text("2")
    (place / "old file").unlink()
    module.install(bundle, target)
    assert [path.name for path in target.iterdir()] == ["MatteBridge.ofx.bundle"]
    installed = target / "MatteBridge.ofx.bundle" / "Contents" / "Linux-x86-64"
    assert [path.name for path in installed.iterdir()] == ["MatteBridge.ofx"]
    assert (installed / "MatteBridge.ofx").read_text() == "2"


@pytest.mark.slow
@pytest.mark.timeout(2 * BUILD_S)  # another test may be building
@pytest.mark.parametrize("target", TARGETS)
def test_the_release_links_for_every_system(target: str) -> None:
    binary = release(target) / "Contents" / TARGETS[target] / "MatteBridge.ofx"
    module = build_module()
    assert module.check(binary, target) is None
    found = module.objects_of(binary)
    assert module.check_objects(found) is None
    call = module.STARTS["launch_windows" if "windows" in target else "launch_unix"]
    starting = {path.name.split(".")[0] for path in found if call in needed_by(module, path)}
    assert starting == {"launch_windows" if "windows" in target else "launch_unix"}
    assert len(found) >= 17  # every source was looked at
    data = binary.read_bytes()
    magic = {"Linux-x86-64": b"\x7fELF", "MacOS": b"\xca\xfe\xba\xbe", "Win64": b"MZ"}
    assert data.startswith(magic[TARGETS[target]])
    for name in (b"OfxGetNumberOfPlugins", b"OfxGetPlugin"):
        assert name in data
    if "macos" in target:
        assert (release(target) / "Contents" / "Info.plist").exists()


@pytest.mark.slow
@pytest.mark.timeout(2 * BUILD_S)  # another test may be building
def test_the_release_renders_as_the_python_client(shared_daemon: DaemonProcess) -> None:
    bundle = release("x86_64-linux-gnu.2.17")
    plate, clean = scene()
    with OfxHost(bundle / "Contents" / "Linux-x86-64" / "MatteBridge.ofx") as host:
        node = host.create(GENERAL, endpoint=str(shared_daemon.folder), inputColor=0)
        node.connect(Source=HostImage(plate), Background=HostImage(clean))
        status, output = node.render()
        assert (status, node.message) == (OK, None)
        expected = matted(shared_daemon, plate, clean).premultiplied
        assert np.array_equal(output.pixels(), expected)
    assert host.complaints == []
