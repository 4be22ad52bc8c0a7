"""The command that Windows runs when the user logs on: one value of the user's own registry.

    HKEY_CURRENT_USER/Software/Microsoft/Windows/CurrentVersion/Run    mattebridge = a command line

It needs no rights and no console, and the user sees it in Settings, Apps, Startup, where it can be
switched off. A task of the Task Scheduler would need an administrator for its trigger, and a file
in the Startup folder would be a script, for which a window flashes.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any, Optional

KEY = r"Software\Microsoft\Windows\CurrentVersion\Run"
NAME = "mattebridge"


def read_entry() -> Optional[str]:
    """The command line that is there; None where there is none."""
    registry = _registry()
    try:
        with registry.OpenKey(registry.HKEY_CURRENT_USER, KEY) as key:
            return str(registry.QueryValueEx(key, NAME)[0])
    except FileNotFoundError:
        return None


def write_entry(command: str) -> None:
    """Have Windows run this at every logon of the user."""
    registry = _registry()
    with registry.CreateKey(registry.HKEY_CURRENT_USER, KEY) as key:
        registry.SetValueEx(key, NAME, 0, registry.REG_SZ, command)


def remove_entry(command: str) -> None:
    """Remove the entry, unless it has become another one since."""
    if read_entry() != command:
        return
    registry = _registry()
    with contextlib.suppress(FileNotFoundError):
        access = registry.KEY_SET_VALUE
        with registry.OpenKey(registry.HKEY_CURRENT_USER, KEY, 0, access) as key:
            registry.DeleteValue(key, NAME)


def _registry() -> Any:
    """The module `winreg`, which only a Python of Windows has."""
    return importlib.import_module("winreg")
