"""The folders in which hosts look for what is installed, for each system: one table.

Those of Nuke, Fusion and Resolve are the user's own; that of OpenFX is the machine's, and needs an
administrator. A folder need not exist: the host makes it at its first start, or the installer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

# By host, then by system. ~ is the user's folder; %NAME% is a variable of Windows, or what
# it is on a usual installation.
FOLDERS: Mapping[str, Mapping[str, str]] = {
    "nuke": {"linux": "~/.nuke", "darwin": "~/.nuke", "win32": "%HOME%/.nuke"},
    "fusion": {
        "linux": "~/.fusion/BlackmagicDesign/Fusion",
        "darwin": "~/Library/Application Support/Blackmagic Design/Fusion",
        "win32": "%APPDATA%/Blackmagic Design/Fusion",
    },
    "resolve": {
        "linux": "~/.local/share/DaVinciResolve/Fusion",
        "darwin": "~/Library/Application Support/Blackmagic Design/DaVinci Resolve/Fusion",
        "win32": "%APPDATA%/Blackmagic Design/DaVinci Resolve/Support/Fusion",
    },
    "ofx": {
        "linux": "/usr/OFX/Plugins",
        "darwin": "/Library/OFX/Plugins",
        "win32": "%CommonProgramW6432%/OFX/Plugins",
    },
    # What is started at login, where that is files of one folder. On Linux the folder of settings
    # decides, and Windows has an entry in its registry (service.py).
    "login": {
        "linux": "~/.config",
        "darwin": "~/Library/LaunchAgents",
        "win32": "%APPDATA%/mattebridge",
    },
}
# Nuke takes HOME where an artist's Windows has it, else the folder of the user.
_USUAL = {
    "HOME": "~",
    "APPDATA": "~/AppData/Roaming",
    "CommonProgramW6432": "C:/Program Files/Common Files",
}


def system() -> str:
    """The system that is installed for, by the name that `FOLDERS` has for it."""
    return sys.platform


def host_folder(host: str) -> Path:
    """The folder of a host on this system; an unknown system is taken for Linux."""
    systems = FOLDERS[host]
    name = systems.get(system()) or systems["linux"]
    for variable, usual in _USUAL.items():
        mark = f"%{variable}%"
        if mark in name:
            name = name.replace(mark, os.environ.get(variable) or usual)
    return Path(name).expanduser()


def quoted(path: str) -> str:
    """A path as a word for this system's shell; a path of Windows has no quotes in it."""
    if system() == "win32":
        return f'"{path}"'
    return "'" + path.replace("'", "'\\''") + "'"
