"""`mattebridge install service` on Windows: the entry in the real registry, and its command."""

from __future__ import annotations

import shutil
import subprocess
import winreg
from pathlib import Path

import pytest

from mattebridge import cli
from mattebridge.commands import install
from mattebridge.commands.logon_entry import KEY, NAME
from mattebridge.daemon import control
from windows.installed import installed_python
from windows.patience import LIMIT_S, connect


def entry() -> str | None:
    with winreg.OpenKey(winreg.HKEY_CURRENT_USER, KEY) as key:
        try:
            return str(winreg.QueryValueEx(key, NAME)[0])
        except FileNotFoundError:
            return None


def test_what_windows_runs_at_logon_is_a_daemon_and_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "v1"
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("APPDATA", str(tmp_path / "Roaming"))
    # This Python has an engine without torch.
    monkeypatch.setattr(install, "has_daemon_half", lambda: True)
    monkeypatch.setattr(install.sys, "executable", str(installed_python(tmp_path)))
    assert entry() is None
    assert cli.main(["install", "service"]) == 0
    try:
        command = entry()
        assert command is not None
        assert command.startswith(f'"{tmp_path}')
        assert 'pythonw.exe" -m mattebridge serve' in command
        # As Explorer runs it: no console, no standard handles. Wine's own start runs what is there.
        logon = "wineboot" if shutil.which("wineboot") else command
        started = subprocess.Popen(logon, creationflags=subprocess.DETACHED_PROCESS)
        assert started.wait(LIMIT_S) == 0
        with connect(folder) as client:
            assert client.status(LIMIT_S)["state"] in ("starting", "ready")
        again = subprocess.run(command, check=False, timeout=LIMIT_S)
        assert again.returncode == 0  # it joins the daemon that runs
    finally:
        control.stop(str(folder))
        assert cli.main(["install", "service", "--undo"]) == 0
    assert entry() is None
    assert not list(tmp_path.glob("Roaming/**/*service*"))
