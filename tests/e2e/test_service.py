"""`mattebridge install service`: what starts the daemon at login, and its command."""

from __future__ import annotations

import configparser
import contextlib
import os
import plistlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fakes.daemon_process import wait_for
from fakes.limits import SOON_S
from mattebridge import cli
from mattebridge.client import MatteClient
from mattebridge.commands import host_folders, install, service
from mattebridge.errors import ConnectionFailed
from mattebridge.interpreter import config_file, noted_interpreter

ODD = ["/opt/my apps/py$thon", "-c", 'a "quoted" 100% \\ `word`']


def entries(data: bytes) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(data.decode())
    return parser


def words_of_systemd(line: str) -> list[str]:
    """The words of a command line as systemd.service(5) says."""
    quoted = re.findall(r'"((?:\\.|[^"\\])*)"', line)
    unescaped = (re.sub(r"\\(.)", r"\1", word) for word in quoted)
    return [word.replace("%%", "%").replace("$$", "$") for word in unescaped]


def words_of_a_desktop(line: str) -> list[str]:
    """The words of Exec: first the escapes of a value, then those of a quoted argument."""
    value = re.sub(r"\\\\", lambda _: "\\", line)
    quoted = re.findall(r'"((?:\\.|[^"\\])*)"', value)
    return [re.sub(r"\\(.)", r"\1", word).replace("%%", "%") for word in quoted]


def command_in(folder: Path) -> list[str]:
    """The command of the one service file in a folder."""
    (path,) = [
        path
        for path in folder.rglob("mattebridge*")
        if path.is_file() and not path.is_symlink() and path.suffix != ".json"
    ]
    if path.suffix == ".plist":
        return list(plistlib.loads(path.read_bytes())["ProgramArguments"])
    found = entries(path.read_bytes())
    if path.suffix == ".service":
        return words_of_systemd(found["Service"]["ExecStart"])
    return words_of_a_desktop(found["Desktop Entry"]["Exec"])


def install_for(
    system: str, systemd: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Install the service as on that system; its command."""
    monkeypatch.setattr(install.sys, "platform", system)
    monkeypatch.setattr(install, "runs_systemd", lambda: systemd)
    assert cli.main(["install", "service", "--to", str(folder)]) == 0
    return command_in(folder)


@pytest.mark.parametrize(
    ("system", "systemd"), [("linux", True), ("linux", False), ("darwin", False)]
)
def test_every_word_of_the_command_arrives_as_it_is(system: str, systemd: bool) -> None:
    made = service.service_for(system, ODD, systemd=systemd)
    ((name, data),) = made.files.items()
    if name.endswith(".plist"):
        assert plistlib.loads(data)["ProgramArguments"] == ODD
        assert plistlib.loads(data)["RunAtLoad"] is True
    elif systemd:
        assert words_of_systemd(entries(data)["Service"]["ExecStart"]) == ODD
    else:
        assert words_of_a_desktop(entries(data)["Desktop Entry"]["Exec"]) == ODD


def test_a_unit_stops_its_front_alone_and_is_not_restarted_beside_another_daemon() -> None:
    made = service.service_for("linux", ["python"], systemd=True)
    unit = entries(made.files["systemd/user/mattebridge.service"])["Service"]
    assert unit["KillMode"] == "mixed"
    assert "17" in unit["RestartPreventExitStatus"].split()
    assert made.links == {
        "systemd/user/default.target.wants/mattebridge.service": "../mattebridge.service"
    }


@pytest.mark.parametrize(
    ("system", "systemd"), [("linux", True), ("linux", False), ("darwin", False)]
)
def test_the_service_is_undone_without_a_trace(
    system: str,
    systemd: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "autostart").mkdir()
    (tmp_path / "autostart" / "other.desktop").touch()
    install_for(system, systemd, tmp_path, monkeypatch)
    command = install_for(system, systemd, tmp_path, monkeypatch)  # again
    assert command == [sys.executable, "-m", "mattebridge", "serve"]
    assert "the daemon starts at the next login, and now with `" in capsys.readouterr().out
    wanted = tmp_path / "systemd" / "user" / "default.target.wants" / "mattebridge.service"
    assert wanted.is_file() == (system == "linux" and systemd)
    assert cli.main(["install", "service", "--to", str(tmp_path), "--undo"]) == 0
    left = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert left == [tmp_path / "autostart" / "other.desktop"]
    assert not os.path.lexists(wanted)


def test_a_unit_of_somebody_elses_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "systemd" / "user" / "default.target.wants" / "mattebridge.service"
    theirs.parent.mkdir(parents=True)
    theirs.symlink_to("/etc/other.service")
    monkeypatch.setattr(install, "runs_systemd", lambda: True)
    assert cli.main(["install", "service", "--to", str(tmp_path)]) == 2
    assert os.readlink(theirs) == "/etc/other.service"
    assert not (tmp_path / "systemd" / "user" / "mattebridge.service").exists()


class Registry(ModuleType):
    """What `winreg` does with values of the user's keys."""

    HKEY_CURRENT_USER, KEY_SET_VALUE, REG_SZ = 1, 2, 1

    def __init__(self) -> None:
        super().__init__("winreg")
        self.values: dict[tuple[str, str], str] = {}

    @contextlib.contextmanager
    def OpenKey(self, root: int, key: str, _reserved: int = 0, access: int = 0) -> Any:  # noqa: N802
        assert root == self.HKEY_CURRENT_USER
        yield key, access

    def CreateKey(self, root: int, key: str) -> Any:  # noqa: N802
        return self.OpenKey(root, key, 0, self.KEY_SET_VALUE)

    def QueryValueEx(self, key: Any, name: str) -> tuple[str, int]:  # noqa: N802
        if (key[0], name) not in self.values:
            raise FileNotFoundError
        return self.values[key[0], name], self.REG_SZ

    def SetValueEx(self, key: Any, name: str, _zero: int, kind: int, value: str) -> None:  # noqa: N802
        assert (key[1], kind) == (self.KEY_SET_VALUE, self.REG_SZ)
        self.values[key[0], name] = value

    def DeleteValue(self, key: Any, name: str) -> None:  # noqa: N802
        assert key[1] == self.KEY_SET_VALUE
        del self.values[key[0], name]


RUN = (r"Software\Microsoft\Windows\CurrentVersion\Run", "mattebridge")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry of a Windows; the command that installs takes this system for it."""
    made = Registry()
    monkeypatch.setitem(sys.modules, "winreg", made)
    python = r"C:\Users\Ada L\mattebridge\Scripts\python.exe"
    monkeypatch.setattr(install, "sys", SimpleNamespace(executable=python))
    monkeypatch.setattr(host_folders, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(install, "_note_interpreter", lambda work: None)
    return made


COMMAND = r'"C:\Users\Ada L\mattebridge\Scripts\pythonw.exe" -m mattebridge serve --detach'


def test_at_logon_windows_runs_a_program_without_a_window(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["install", "service", "--to", str(tmp_path)]
    assert cli.main([*where, "--dry-run"]) == 0
    assert registry.values == {}
    registry.values[RUN[0], "other"] = "other.exe"
    assert cli.main(where) == 0
    assert cli.main(where) == 0  # again
    assert registry.values == {RUN: COMMAND, (RUN[0], "other"): "other.exe"}
    said = capsys.readouterr().out
    assert f"have Windows run {COMMAND} at logon" in said
    assert f"and now with `{COMMAND.replace('pythonw', 'python')}`" in said
    assert cli.main([*where, "--undo"]) == 0
    assert registry.values == {(RUN[0], "other"): "other.exe"}
    assert list(tmp_path.iterdir()) == []


def test_an_entry_of_somebody_elses_stays_at_logon(registry: Registry, tmp_path: Path) -> None:
    where = ["install", "service", "--to", str(tmp_path)]
    registry.values[RUN] = "theirs.exe"
    assert cli.main(where) == 2
    assert registry.values == {RUN: "theirs.exe"}
    del registry.values[RUN]
    assert cli.main(where) == 0
    registry.values[RUN] = "changed since"
    assert cli.main([*where, "--undo"]) == 0
    assert registry.values == {RUN: "changed since"}


def test_every_word_of_the_command_arrives_at_logon() -> None:
    odd = [r"C:\my apps\python.exe", "-c", 'a "quoted" 100%']
    made = service.service_for("win32", odd, systemd=False)
    assert made.logon == r'"C:\my apps\pythonw.exe" -c "a \"quoted\" 100%" --detach'
    assert service.service_for("win32", ["mattebridge"], systemd=False).logon == (
        "mattebridge --detach"
    )


@pytest.mark.parametrize("what", ["service", "ofx"])
def test_the_button_of_the_plugin_finds_the_python_that_installed(
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(install, "build_for_this_system", lambda package: tmp_path / "bundle")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "a.ofx").touch()
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert noted_interpreter() is None
    assert cli.main(["install", what, "--to", str(tmp_path / "to")]) == 0
    assert noted_interpreter() == sys.executable
    assert cli.main(["install", what, "--to", str(tmp_path / "to"), "--undo"]) == 0
    assert noted_interpreter() is None
    monkeypatch.setenv("SUDO_USER", "ada")
    assert cli.main(["install", what, "--to", str(tmp_path / "to")]) == 0
    assert noted_interpreter() is None
    assert "as the user of the host" in capsys.readouterr().out


def test_the_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert service.service_folder() == Path("/home/ada/.config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert service.service_folder() == tmp_path
    monkeypatch.setenv("XDG_CONFIG_HOME", "not/absolute")
    assert service.service_folder() == Path("/home/ada/.config")
    assert config_file() == Path("/home/ada/.config/mattebridge/daemon.json")
    monkeypatch.setattr(host_folders, "sys", SimpleNamespace(platform="darwin"))
    assert service.service_folder() == Path("/home/ada/Library/LaunchAgents")
    monkeypatch.setattr(host_folders, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setenv("APPDATA", "/home/ada/AppData/Roaming")
    # Not the Startup folder, where Windows would open the list of what was installed.
    assert service.service_folder() == Path("/home/ada/AppData/Roaming/mattebridge")


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="mb-") as folder:
        yield Path(folder) / "run"


@pytest.mark.slow
@pytest.mark.parametrize("systemd", [True, False])
def test_the_command_of_the_file_is_a_daemon_that_clients_find_and_that_a_signal_stops(
    systemd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Path
) -> None:
    command = install_for("linux", systemd, tmp_path, monkeypatch)
    environment = {**os.environ, "MATTEBRIDGE_RUNTIME_DIR": str(runtime)}
    daemon = subprocess.Popen(
        command, env=environment, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:

        def accepts() -> bool:
            try:
                MatteClient.connect(str(runtime)).close()
            except ConnectionFailed:
                return False
            return True

        wait_for(accepts, SOON_S, "the daemon accepts")
        again = subprocess.run(command, env=environment, cwd="/", capture_output=True, check=False)
        assert str(again.returncode) in service.NO_RESTART.split()
        daemon.terminate()
        assert daemon.wait(SOON_S) == 0
    finally:
        daemon.kill()
        daemon.wait()
