"""The wheels of `make dist`: which plugin they carry, how they are named, what is refused.

The plugins here are the first bytes of binaries. `make dist` itself checks the real ones, installs
the wheel for its system and runs the demo from it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import re
import runpy
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fakes.places import ROOT
from mattebridge.commands import plugin_builds
from mattebridge.image_io import read_frame

BINARIES = {
    ("linux", "x86_64"): b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", 62),
    ("linux", "aarch64"): b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", 183),
    ("windows", "x86_64"): b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0\x64\x86",
    ("macos", "aarch64"): b"\xcf\xfa\xed\xfe" + struct.pack("<I", 0x0100000C),
    ("macos", "x86_64"): b"\xcf\xfa\xed\xfe" + struct.pack("<I", 0x01000007),
}
RECORD = "mattebridge-9.9.dist-info/RECORD"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "release" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    sys.path.insert(0, str(ROOT / "release"))
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


wheels = _load("wheels")
trials = _load("trials")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A wheel without a plugin."""
    path = tmp_path / "mattebridge-9.9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in wheels.NEEDED:
            inside = f"mattebridge-9.9.{name}" if name.startswith("data/") else name
            archive.writestr(inside, name)
        archive.writestr(
            "mattebridge-9.9.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(RECORD, "")
    return path


def make_bundle(folder: Path, binary: bytes) -> Path:
    """A bundle as a compiler leaves it, with files that no host reads."""
    inside = folder / plugin_builds.BUNDLE / "Contents" / "X"
    inside.mkdir(parents=True)
    (inside / "MatteBridge.ofx").write_bytes(binary)
    (inside / "MatteBridge.pdb").write_bytes(b"debug")
    (inside / "describe.cpp.lib").write_bytes(b"import")
    for kind in ("png", "svg"):
        icon = folder / plugin_builds.BUNDLE / f"{plugin_builds.ICON}.{kind}"
        icon.parent.mkdir(parents=True, exist_ok=True)
        icon.write_bytes((ROOT / "plugin_shim" / "icon" / icon.name).read_bytes())
    return folder / plugin_builds.BUNDLE


def names_in(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


@pytest.mark.parametrize("target", list(BINARIES))
def test_a_wheel_is_named_for_the_system_of_the_plugin_that_it_carries(
    target: tuple[str, str], plain: Path, tmp_path: Path
) -> None:
    wheel = wheels.wheel_with_plugin(plain, make_bundle(tmp_path, BINARIES[target]), tmp_path)
    wheels.check(wheel)
    tag = wheels.TAGS[target]
    assert wheel.name == f"mattebridge-9.9-py3-none-{tag}.whl"
    text = zipfile.ZipFile(wheel).read("mattebridge-9.9.dist-info/WHEEL").decode()
    for one in tag.split("."):
        assert f"Tag: py3-none-{one}" in text.splitlines()
    assert "Root-Is-Purelib: false" in text
    bundle = f"mattebridge/plugin/{plugin_builds.BUNDLE}"
    assert [name for name in names_in(wheel) if "/Contents/" in name] == [
        f"{bundle}/{plugin_builds.ICON}.png",
        f"{bundle}/{plugin_builds.ICON}.svg",
        f"{bundle}/Contents/X/MatteBridge.ofx",
    ]


def test_the_page_on_installing_names_the_wheel_of_each_system() -> None:
    page = (ROOT / "docs" / "hosts.md").read_text("utf-8")
    for system in targets_of_make_dist():
        assert f"`{wheels.TAGS[system]}.whl`" in page


def targets_of_make_dist() -> list[tuple[str, str]]:
    """The systems and processors that the Makefile has wheels built for."""
    done = subprocess.run(
        ["make", "-n", "dist"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (given,) = re.findall(r"wheels\.py --out dist --targets (.*)", done.stdout)
    systems = [target.replace("-", ".").split(".") for target in given.split()]
    return [(system, processor) for processor, system, *_ in systems]


def test_the_list_of_files_has_the_digest_and_the_size_of_each(plain: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, BINARIES["linux", "x86_64"])
    wheel = wheels.wheel_with_plugin(plain, bundle, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        rows = list(csv.reader(archive.read(RECORD).decode().splitlines()))
        assert sorted(row[0] for row in rows) == sorted(archive.namelist())
        for name, digest, size in rows:
            data = archive.read(name)
            if name != RECORD:
                own = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
                assert (digest, int(size)) == (f"sha256={own}", len(data))


def test_a_wheel_with_the_plugin_of_another_system_is_refused(plain: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, BINARIES["linux", "aarch64"])
    wheel = wheels.wheel_with_plugin(plain, bundle, tmp_path)
    wrong = wheel.rename(tmp_path / "mattebridge-9.9-py3-none-win_amd64.whl")
    with pytest.raises(wheels.Refused, match=r"plugin for .*aarch64.* not for .*windows"):
        wheels.check(wrong)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mattebridge/plugin/MatteBridge.ofx.bundle/Contents/X/a.pdb", "no host reads"),
        ("mattebridge_sample/composites/sets.py", "for tests"),
    ],
)
def test_a_wheel_with_a_file_that_users_do_not_need_is_refused(
    name: str, words: str, plain: Path
) -> None:
    with zipfile.ZipFile(plain, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(wheels.Refused, match=words):
        wheels.check(plain)


def test_a_wheel_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mattebridge-9.9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mattebridge/client/__init__.py", "")
    with pytest.raises(wheels.Refused, match=r"lacks .*twoplate\.safetensors"):
        wheels.check(path)


@pytest.mark.parametrize("target", list(BINARIES))
def test_a_wheel_is_tried_on_the_system_that_it_is_for_and_on_no_other(
    target: tuple[str, str],
) -> None:
    fitting = [other for other, tag in wheels.TAGS.items() if trials.runs_here(tag, target)]
    assert fitting == [target]
    assert not trials.runs_here("any", target)


def test_a_wheel_that_cannot_be_tried_here_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "this_system", lambda: ("linux", "x86_64"))
    ours = "mattebridge-9.9-py3-none-"
    words = trials.try_wheel(tmp_path / f"{ours}{wheels.TAGS['macos', 'aarch64']}.whl")
    assert words == "not tried: this machine is linux x86_64"
    monkeypatch.setenv("PATH", str(tmp_path))
    words = trials.try_wheel(tmp_path / f"{ours}win_amd64.whl")
    assert words == "not tried: Wine is not installed: `apt-get install wine wine64`"
    (tmp_path / "wine").write_text("")
    (tmp_path / "wine").chmod(0o755)
    monkeypatch.setattr(trials, "ROOT", tmp_path)
    words = trials.try_wheel(tmp_path / f"{ours}win_amd64.whl")
    assert (
        words
        == f"not tried: there is no Windows Python in {tmp_path}/build/wine: run `make windows`"
    )


def make_sdist(folder: Path, *names: str) -> Path:
    path = folder / "mattebridge-9.9.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"mattebridge-9.9/{name}"))
    return path


def test_an_sdist_has_the_sources_of_all_parts_and_no_others(tmp_path: Path) -> None:
    whole = wheels.NEEDED_OF_SDIST
    wheels.check_sdist(make_sdist(tmp_path, *whole))
    with pytest.raises(wheels.Refused, match=r"lacks plugin_shim/CMakeLists\.txt"):
        wheels.check_sdist(make_sdist(tmp_path, *whole[1:]))
    for stray in ("plugin_shim/src/a.o", "build/x", "tests/unit/test_x.py", "a/b.pdb"):
        with pytest.raises(wheels.Refused, match=re.escape(stray)):
            wheels.check_sdist(make_sdist(tmp_path, *whole, stray))


def test_a_plugin_without_its_icon_is_refused(plain: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, BINARIES["linux", "x86_64"])
    (bundle / f"{plugin_builds.ICON}.png").unlink()
    wheel = wheels.wheel_with_plugin(plain, bundle, tmp_path)
    with pytest.raises(wheels.Refused, match="without its icon"):
        wheels.check(wheel)


def test_the_icon_is_what_its_program_draws_under_the_plugins_identifier() -> None:
    folder = ROOT / "plugin_shim" / "icon"
    draw = runpy.run_path(str(folder / "draw.py"))
    path = folder / Path(plugin_builds.ICON).name
    assert draw["NAME"] == path.name
    assert f'"{path.name}"' in (ROOT / "plugin_shim" / "src" / "plugin.cpp").read_text()
    assert Path(f"{path}.svg").read_text() == draw["svg"]()
    # The samples are means of 16: rounding moves one by 1 at most.
    drawn, kept = draw["pixels"](), read_frame(f"{path}.png").pixels
    assert drawn.shape == kept.shape == (128, 128, 4)
    assert np.abs(kept.astype(int) - drawn).max() <= 1


def test_a_bundle_for_no_known_system_makes_no_wheel(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(wheels.Refused, match="no system"):
        wheels.wheel_with_plugin(plain, make_bundle(tmp_path, b"text"), tmp_path)


def test_an_installed_wheel_gives_its_own_plugin_and_what_a_host_reads_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "mattebridge"
    make_bundle(package / "plugin", BINARIES["linux", "x86_64"])
    monkeypatch.setattr(plugin_builds, "this_system", lambda: ("linux", "x86_64"))
    plugin_builds.copy_bundle(plugin_builds.build_for_this_system(package), tmp_path / "to")
    assert [path.name for path in tmp_path.glob("to/Contents/X/*")] == ["MatteBridge.ofx"]
