"""`mattebridge install`: what it puts where, what it says, and that it can be undone."""

from __future__ import annotations

import json
import os
import platform
import re
import stat
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from fakes.nuke_host import NukeHost
from fakes.places import ROOT
from mattebridge import cli
from mattebridge.commands import host_folders, install, plugin_builds
from mattebridge.errors import UsageError


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_nuke_finds_the_node_after_the_installation_and_nothing_of_it_after_the_undo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "init.py").write_text("# the artist's own")
    before = everything(tmp_path)
    words = ["install", "nuke", "--to", str(tmp_path), "--no-packages", "--host-python", "3.11"]
    assert cli.main(words) == 0
    assert cli.main(words) == 0  # again: no second line
    assert (tmp_path / "init.py").read_text().count("mattebridge install nuke") == 1
    said = capsys.readouterr().out
    assert f"write {tmp_path / 'mattebridge' / 'mattebridge_nuke.py'}" in said
    assert f"--undo --to {tmp_path}" in said
    host = NukeHost(gui=True)
    toolset = tmp_path / "mattebridge" / "ToolSets" / "mattebridge" / "MatteBridge.nk"
    with host.running(tmp_path / "mattebridge"):
        assert "MatteBridge" in host.menu_entries
        assert host.module.loadToolset(str(toolset)).knob("model") is not None
    assert cli.main(["install", "nuke", "--to", str(tmp_path), "--undo"]) == 0
    assert everything(tmp_path) == before
    assert cli.main(["install", "nuke", "--to", str(tmp_path), "--undo"]) == 2


def test_an_update_removes_what_the_version_before_had_and_this_one_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["install", "resolve", "--to", str(tmp_path), *NUKE]
    with monkeypatch.context() as before:
        before.setattr(install, "FUSION_MENU", {"Edit/Old name.py": "main", **install.FUSION_MENU})
        assert cli.main(words) == 0
    old = tmp_path / "Scripts" / "Edit" / "Old name.py"
    own = tmp_path / "Scripts" / "Comp" / "mine.py"
    own.write_text("print('mine')")
    assert old.is_file()
    assert cli.main([*words, "--dry-run"]) == 0
    assert old.is_file()
    assert cli.main(words) == 0
    assert not old.parent.exists()
    assert own.is_file()
    assert cli.main([*words[:4], "--undo"]) == 0
    assert everything(tmp_path) == {"Scripts/Comp/mine.py": b"print('mine')"}


@pytest.mark.parametrize("host", ["nuke", "resolve"])
def test_a_dry_run_says_everything_and_does_nothing(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["install", host, "--to", str(tmp_path / "x"), "--dry-run"]) == 0
    assert not (tmp_path / "x").exists()
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("would ") for line in lines[:-1])
    assert len(lines) > 5


def test_resolve_gets_its_scripts_with_the_folder_and_the_command_filled_in(tmp_path: Path) -> None:
    words = ["install", "resolve", "--to", str(tmp_path), "--no-packages", "--host-python=3.11"]
    assert cli.main(words) == 0
    for place, action in (
        ("Tool/MatteBridge.py", "main"),
        ("Comp/MatteBridge.py", "main"),
        ("Comp/MatteBridge start daemon.py", "start"),
    ):
        script = (tmp_path / "Scripts" / place).read_text()
        assert str(tmp_path / "mattebridge") in script
        assert f'ACTION = "{action}"' in script
        assert "@" not in script
    lua = (tmp_path / "Scripts" / "Comp" / "MatteBridge (free edition).lua").read_text()
    assert "-m mattebridge" in lua
    assert "@COMMAND@" not in lua
    assert cli.main(["install", "resolve", "--to", str(tmp_path), "--undo"]) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # it runs pip
def test_without_a_network_it_says_exactly_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wheels").mkdir()
    words = ["install", "nuke", "--to", str(tmp_path / "n"), "--host-python", "3.10"]
    assert cli.main([*words, "--wheels", str(tmp_path / "wheels")]) == 2
    said = capsys.readouterr().err
    assert "cannot get numpy, pyzmq and msgpack for Python 3.10" in said
    assert "pip download --only-binary=:all: --python-version 3.10 -d wheels" in said
    assert "--wheels wheels" in said
    assert "--no-packages: if the host has none" in said
    # The host is not changed.
    assert everything(tmp_path / "n") == {}
    assert cli.main(["install", "nuke", "--to", str(tmp_path / "n"), "--undo"]) == 2


@pytest.mark.parametrize(
    ("version", "words"), [("3.7", "too old"), ("three", "takes a version"), ("2.7", "takes a")]
)
def test_a_host_python_that_cannot_be_is_refused(
    version: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["install", "nuke", "--to", str(tmp_path), f"--host-python={version}"]
    assert cli.main(given) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_the_client_half_runs_by_itself_and_holds_no_daemon(tmp_path: Path) -> None:
    install.copy_client_half(tmp_path / "mattebridge")
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.py")}
    for module in ("shot", "route", "command", "store", "request", "exr_header"):
        assert f"mattebridge/hosts/{module}.py" in names
    assert not {name for name in names if "daemon" in name or "model" in name or "engine" in name}
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'cv2', 'OpenImageIO')));"
        f"sys.path.insert(0, {str(tmp_path)!r});"
        "import mattebridge.hosts.shot, mattebridge.hosts.scratch;"
        "print(mattebridge.hosts.shot.__file__)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert said.stdout.startswith(str(tmp_path))


# -- the host's own files, which are bytes --------------------------------------------------------

NUKE = ["--no-packages", "--host-python", "3.11"]


def nuke(to: Path, *more: str) -> int:
    return cli.main(["install", "nuke", "--to", str(to), *(more or NUKE)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "own",
    [
        b"# r\xe9glages de l'artiste\n",
        b"import nuke\r\nnuke.tprint('x')\r\n",
        b"x = 1",
        b"x = 1\r\ny = 2",
        b"",
        b"\n\n",
        b"\xef\xbb\xbfx = 1\n",
    ],
    ids=["latin-1", "crlf", "no last newline", "crlf without the last", "empty", "blank", "bom"],
)
def test_the_artists_init_keeps_every_byte_and_gets_its_own_line_ends(
    own: bytes, tmp_path: Path
) -> None:
    init = tmp_path / "init.py"
    init.write_bytes(own)
    init.chmod(0o640)
    assert nuke(tmp_path) == 0
    assert nuke(tmp_path) == 0
    now = init.read_bytes()
    assert now.startswith(own)
    assert now.count(b"mattebridge install nuke") == 1
    assert now.endswith(b"\r\n") == (b"\r\n" in own)
    assert stat.S_IMODE(init.stat().st_mode) == 0o640
    assert nuke(tmp_path, "--undo") == 0
    assert everything(tmp_path) == {"init.py": own}


def test_an_init_that_was_edited_since_loses_the_marked_line_alone(tmp_path: Path) -> None:
    init = tmp_path / "init.py"
    init.write_bytes(b"a = 1\n")
    assert nuke(tmp_path) == 0
    init.write_bytes(init.read_bytes().replace(b"\n", b"\r\n") + b"caf\xe9 = 2\r\n")
    assert nuke(tmp_path, "--undo") == 0
    assert init.read_bytes() == b"a = 1\r\ncaf\xe9 = 2\r\n"


def test_an_init_behind_a_link_stays_behind_it(tmp_path: Path) -> None:
    home, dotfiles = tmp_path / "home", tmp_path / "dotfiles"
    home.mkdir()
    dotfiles.mkdir()
    (dotfiles / "init.py").write_bytes(b"x = 1\n")
    (home / "init.py").symlink_to(dotfiles / "init.py")
    assert nuke(home) == 0
    assert (home / "init.py").is_symlink()
    assert b"mattebridge install nuke" in (dotfiles / "init.py").read_bytes()
    assert nuke(home, "--undo") == 0
    assert (home / "init.py").is_symlink()
    assert (dotfiles / "init.py").read_bytes() == b"x = 1\n"


def test_a_file_that_is_not_ours_is_neither_replaced_nor_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "Scripts" / "Comp" / "MatteBridge.py"
    own.parent.mkdir(parents=True)
    own.write_text("print('mine')")
    words = ["install", "resolve", "--to", str(tmp_path), *NUKE]
    assert cli.main(words) == 2
    assert f"{own} exists and was not put there by mattebridge" in capsys.readouterr().err
    assert everything(tmp_path) == {"Scripts/Comp/MatteBridge.py": b"print('mine')"}


def test_an_installation_that_fails_leaves_the_host_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "init.py").write_bytes(b"x = 1\n")

    def fail(*_: object) -> None:
        raise UsageError("the last step fails")

    monkeypatch.setattr(install, "_note_interpreter", fail)
    assert nuke(tmp_path) == 2
    assert everything(tmp_path) == {"init.py": b"x = 1\n"}


def test_a_python_without_pip_is_named_and_no_network_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda _name: None)
    assert nuke(tmp_path / "n", "--host-python", "3.11") == 2
    said = capsys.readouterr().err
    assert f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip`" in said
    assert "network" not in said
    assert everything(tmp_path / "n") == {}


# -- the Python that starts the daemon ------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "mattebridge" / "daemon.json"


def test_the_interpreter_that_install_names_is_the_one_that_is_noted_until_the_undo(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.parent.mkdir(parents=True, mode=0o700)
    config.write_text('{"python": "/bin/sh"}')
    before = config.read_bytes()
    assert nuke(tmp_path / "n") == 0
    said = capsys.readouterr().out
    assert f"record {sys.executable} as the Python that starts the daemon" in said
    assert "it was /bin/sh" in said
    assert json.loads(config.read_text()) == {"python": sys.executable}
    assert nuke(tmp_path / "n") == 0
    assert nuke(tmp_path / "n", "--undo") == 0
    assert json.loads(config.read_bytes()) == json.loads(before)


@pytest.mark.slow
def test_the_undo_forgets_a_note_that_was_new_and_keeps_one_that_is_anothers(
    config: Path, tmp_path: Path
) -> None:
    assert nuke(tmp_path / "n") == 0
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert nuke(tmp_path / "n", "--undo") == 0
    assert not config.exists()
    assert nuke(tmp_path / "n") == 0
    config.write_text('{"python": "/bin/sh"}')
    assert nuke(tmp_path / "n", "--undo") == 0
    assert json.loads(config.read_text()) == {"python": "/bin/sh"}


# -- the OFX plugin -------------------------------------------------------------------------------

REAL = {
    ("linux", "x86_64"): b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, 62),
    ("linux", "aarch64"): b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, 183),
    ("darwin", "arm64"): struct.pack("<II", 0xFEEDFACF, 0x0100000C),
    ("darwin", "x86_64"): struct.pack(
        ">II5I5I", 0xCAFEBABE, 2, 0x0100000C, 0, 0, 0, 0, 0x01000007, 0, 0, 0, 0
    ),
    ("win32", "AMD64"): b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0\x64\x86",
}


def make_bundle(root: Path, where: str, start: bytes, *, age_s: float = 0.0) -> Path:
    bundle = root / "build" / where / plugin_builds.BUNDLE
    binary = bundle / "Contents" / "Linux-x86-64" / "MatteBridge.ofx"
    binary.parent.mkdir(parents=True)
    binary.write_bytes(start + where.encode())
    then = binary.stat().st_mtime - age_s
    os.utime(binary, (then, then))
    return bundle


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(install, "PACKAGE", tmp_path / "bridge" / "mattebridge")
    monkeypatch.setattr(host_folders, "sys", SimpleNamespace(platform="linux"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    # It is made by the layer of the real system.
    monkeypatch.setattr(install, "_note_interpreter", lambda work: None)
    return tmp_path


def installed_build(repository: Path) -> bytes:
    to = repository / "p"
    assert cli.main(["install", "ofx", "--to", str(to)]) == 0
    (binary,) = (to / plugin_builds.BUNDLE).glob("Contents/*/MatteBridge.ofx")
    return binary.read_bytes()


def folder_of_make_plugin() -> str:
    """Where the Makefile lets the build go, below build/."""
    done = subprocess.run(
        ["make", "-n", "plugin"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (folder,) = re.findall(r"--build\s+build/(\S+)", done.stdout)
    return str(folder)


def test_a_plugin_that_is_not_built_is_one_sentence(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["install", "ofx", "--to", str(repository)]) == 2
    assert "make plugin" in capsys.readouterr().err


def test_the_plugin_is_found_where_make_plugin_puts_it_and_removed_again(repository: Path) -> None:
    make_bundle(repository, folder_of_make_plugin(), REAL["linux", "x86_64"])
    assert installed_build(repository).startswith(b"\x7fELF")
    assert cli.main(["install", "ofx", "--to", str(repository / "p"), "--undo"]) == 0
    assert not (repository / "p" / plugin_builds.BUNDLE).exists()


@pytest.mark.parametrize("kept", ["the old plugin", "its name"])
def test_a_plugin_that_a_host_keeps_open_stays_as_it_is_and_a_sentence_says_so(
    kept: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Windows refuses to rename a folder whose files are open."""
    make_bundle(repository, "plugin", REAL["linux", "x86_64"])
    installed_build(repository)
    before = everything(repository / "p")
    bundle, rename = repository / "p" / plugin_builds.BUNDLE, Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path == bundle if kept == "the old plugin" else path.name == target.name:
            raise PermissionError(13, "Permission denied", str(path))
        return rename(path, target)

    words = ["install", "ofx", "--to", str(repository / "p")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert f"cannot fill {bundle}: Permission denied" in said
    assert "close the programs that may have it open" in said
    assert everything(repository / "p") == before
    assert cli.main([*words, "--undo"]) == 0
    assert not everything(repository / "p")


def test_an_undo_that_cannot_remove_a_file_says_so_and_can_be_repeated(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(repository, "plugin", REAL["linux", "x86_64"])
    installed_build(repository)
    bundle = repository / "p" / plugin_builds.BUNDLE

    def refused(path: str) -> None:
        raise PermissionError(13, "Permission denied", f"{path}/MatteBridge.ofx")

    words = ["install", "ofx", "--to", str(repository / "p"), "--undo"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.rmtree", refused)
        assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert f"cannot remove {bundle}: Permission denied at {bundle}/MatteBridge.ofx; close" in said
    assert cli.main(words) == 0
    assert not everything(repository / "p")


@pytest.mark.parametrize(("system", "processor"), list(REAL))
def test_of_several_builds_the_newest_for_this_system_is_taken(
    system: str, processor: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_folders, "sys", SimpleNamespace(platform=system))
    monkeypatch.setattr(platform, "machine", lambda: processor)
    start = REAL[system, processor]
    make_bundle(repository, "plugin/older", start, age_s=60)
    make_bundle(repository, "plugin/mine", start, age_s=30)
    for index, other in enumerate(set(REAL.values()) - {start}):
        if system != "darwin" or other not in (REAL["darwin", "arm64"], REAL["darwin", "x86_64"]):
            make_bundle(repository, f"plugin/other-{index}", other)
    assert installed_build(repository) == start + b"plugin/mine"


def test_builds_for_other_systems_alone_are_named(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(repository, "plugin/x86_64-windows-gnu", REAL["win32", "AMD64"])
    make_bundle(repository, "plugin/broken", b"text")
    assert cli.main(["install", "ofx", "--to", str(repository / "p")]) == 2
    said = capsys.readouterr().err
    assert "no build of the OFX plugin runs on linux x86_64" in said
    assert "x86_64-windows-gnu (windows x86_64)" in said
    assert "broken (not a plugin)" in said
    assert not (repository / "p").exists()


@dataclass(frozen=True)
class FakeSystem:
    """A machine of an artist: its folders, and where hosts look there, relative to `home`."""

    name: str
    variables: Mapping[str, str]
    nuke: str
    fusion: str
    resolve: str
    quote: str


SYSTEMS = (
    FakeSystem(
        "linux", {"HOME": "home/ada"}, "home/ada/.nuke", "home/ada/.fusion/BlackmagicDesign/Fusion",
        "home/ada/.local/share/DaVinciResolve/Fusion", "'",
    ),
    FakeSystem(
        "darwin", {"HOME": "Users/ada"}, "Users/ada/.nuke",
        "Users/ada/Library/Application Support/Blackmagic Design/Fusion",
        "Users/ada/Library/Application Support/Blackmagic Design/DaVinci Resolve/Fusion", "'",
    ),
    FakeSystem(
        "win32", {"HOME": "Users/ada", "APPDATA": "D/Profiles/ada/Roaming"}, "Users/ada/.nuke",
        "D/Profiles/ada/Roaming/Blackmagic Design/Fusion",
        "D/Profiles/ada/Roaming/Blackmagic Design/DaVinci Resolve/Support/Fusion", '"',
    ),
)  # fmt: skip


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_each_host_of_each_system_gets_its_files_where_it_looks_and_is_as_before_after_the_undo(
    system: FakeSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in system.variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
        (tmp_path / folder).mkdir(parents=True)
    before = everything(tmp_path)
    # What is written down for the daemon's start has its own place and its own tests.
    monkeypatch.setattr(install, "has_daemon_half", lambda: False)
    monkeypatch.setattr(host_folders, "sys", SimpleNamespace(platform=system.name))
    given = ["--no-packages", "--host-python=3.11"]
    for host in ("nuke", "fusion", "resolve"):
        assert cli.main(["install", host, *given]) == 0
    module = tmp_path / system.nuke / "mattebridge" / "mattebridge_nuke.py"
    assert module.is_file()
    assert "mattebridge install nuke" in (tmp_path / system.nuke / "init.py").read_text()
    for folder in (system.fusion, system.resolve):
        scripts = tmp_path / folder / "Scripts"
        assert (scripts / "Tool" / "MatteBridge.py").is_file()
        lua = (scripts / "Comp" / "MatteBridge (free edition).lua").read_text()
        assert f"{system.quote}{sys.executable}{system.quote} -m mattebridge" in lua
    for host in ("nuke", "fusion", "resolve"):
        assert cli.main(["install", host, "--undo"]) == 0
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("system", "folder"),
    [
        ("linux", "/usr/OFX/Plugins"),
        ("darwin", "/Library/OFX/Plugins"),
        ("win32", "E:/Common Files/OFX/Plugins"),
    ],
)
def test_plugins_of_openfx_have_a_folder_of_the_machines(
    system: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_folders, "sys", SimpleNamespace(platform=system))
    monkeypatch.setenv("CommonProgramW6432", "E:/Common Files")
    assert install.default_folder("ofx").as_posix() == folder
    monkeypatch.delenv("CommonProgramW6432")
    usual = "C:/Program Files/Common Files/OFX/Plugins" if system == "win32" else folder
    assert install.default_folder("ofx").as_posix() == usual
