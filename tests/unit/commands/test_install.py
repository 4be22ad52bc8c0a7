"""`mattebridge install`: what it puts where, what it says, and that it can be undone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fakes.nuke_host import NukeHost
from mattebridge import cli
from mattebridge.commands import install


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
    assert everything(tmp_path) == {k: v + b"\n" for k, v in before.items()}
    assert cli.main(["install", "nuke", "--to", str(tmp_path), "--undo"]) == 2


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
    script = (tmp_path / "Scripts" / "Tool" / "MatteBridge.py").read_text()
    assert str(tmp_path / "mattebridge") in script
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
    # What was done before can be undone.
    assert cli.main(["install", "nuke", "--to", str(tmp_path / "n"), "--undo"]) == 0
    assert everything(tmp_path / "n") == {}


@pytest.mark.parametrize(
    ("version", "words"), [("3.7", "too old"), ("three", "takes a version"), ("2.7", "takes a")]
)
def test_a_host_python_that_cannot_be_is_refused(
    version: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["install", "nuke", "--to", str(tmp_path), f"--host-python={version}"]
    assert cli.main(given) == 2
    assert words in capsys.readouterr().err


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


def test_a_plugin_that_is_not_built_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "PACKAGE", tmp_path / "bridge" / "mattebridge")
    assert cli.main(["install", "ofx", "--to", str(tmp_path)]) == 2
    assert "make plugin" in capsys.readouterr().err
    bundle = tmp_path / "build" / "release" / install.BUNDLE / "Contents"
    bundle.mkdir(parents=True)
    (bundle / "x.ofx").write_bytes(b"x")
    assert cli.main(["install", "ofx", "--to", str(tmp_path / "p")]) == 0
    assert (tmp_path / "p" / install.BUNDLE / "Contents" / "x.ofx").is_file()
    assert cli.main(["install", "ofx", "--to", str(tmp_path / "p"), "--undo"]) == 0
    assert not (tmp_path / "p" / install.BUNDLE).exists()


@pytest.mark.parametrize(
    ("system", "host", "ending"),
    [
        ("linux", "nuke", "/.nuke"),
        ("linux", "resolve", "/.local/share/DaVinciResolve/Fusion"),
        ("darwin", "resolve", "Blackmagic Design/DaVinci Resolve/Fusion"),
        ("win32", "resolve", "Blackmagic Design/DaVinci Resolve/Support/Fusion"),
        ("linux", "ofx", "/usr/OFX/Plugins"),
        ("darwin", "ofx", "/Library/OFX/Plugins"),
        ("win32", "ofx", "C:/Program Files/Common Files/OFX/Plugins"),
    ],
)
def test_each_system_has_its_own_folders(
    system: str, host: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert install.default_folder(host).as_posix().endswith(ending)
