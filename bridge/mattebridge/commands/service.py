"""The daemon at login: what each system reads for it, and the command in it.

    Linux with systemd   ~/.config/systemd/user/mattebridge.service, and the link that enables it
    other Linux desktops ~/.config/autostart/mattebridge.desktop
    macOS                ~/Library/LaunchAgents/mattebridge.daemon.plist
    Windows              an entry of the user's registry (logon_entry.py)

The system reads it at the next login, and what is said then starts the daemon at once. It runs
`mattebridge serve`, which ends its workers while no frame comes, and so takes next to no memory and
no processor until one does.
"""

from __future__ import annotations

import plistlib
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from mattebridge.commands.host_folders import host_folder, system
from mattebridge.wire import oslayer

NAME = "mattebridge"
LABEL = "mattebridge.daemon"
# `serve` ends with these where a daemon runs already, and where its arguments are wrong.
NO_RESTART = "2 17"


@dataclass(frozen=True)
class Service:
    """Files and links, relative to a folder of the user's, and how to start the daemon at once.

    logon: the command line for the registry of Windows; empty elsewhere.
    """

    files: Mapping[str, bytes]
    start_now: str
    links: Mapping[str, str] = field(default_factory=dict)
    logon: str = ""


def service_folder() -> Path:
    """The folder of the user's that the files are relative to on this system.

    On Windows there are none, and the folder is for the list of what was installed.
    """
    if system() == "linux":
        return oslayer.current().settings_folder().parent
    return host_folder("login")


def service_for(name: str, command: Sequence[str], *, systemd: bool) -> Service:
    """The service of a system; systemd: whether it runs this machine."""
    if name == "win32":
        start = subprocess.list2cmdline([*command, "--detach"])
        return Service({}, start, logon=_without_a_window([*command, "--detach"]))
    if name == "darwin":
        path = f"{LABEL}.plist"
        start = f"launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/{path}"
        return Service({path: _launch_agent(command)}, start)
    if not systemd:
        start = shlex.join([*command, "--detach"])
        return Service({f"autostart/{NAME}.desktop": _desktop_entry(command)}, start)
    unit = f"{NAME}.service"
    return Service(
        {f"systemd/user/{unit}": _unit(command)},
        f"systemctl --user daemon-reload && systemctl --user start {NAME}",
        {f"systemd/user/default.target.wants/{unit}": f"../{unit}"},
    )


def _without_a_window(command: Sequence[str]) -> str:
    """A command line of Windows whose program opens no console."""
    program = PureWindowsPath(command[0])
    if program.name.lower() == "python.exe":
        program = program.with_name("pythonw.exe")
    return subprocess.list2cmdline([str(program), *command[1:]])


def runs_systemd() -> bool:
    """Whether systemd started this machine, as sd_booted(3) finds out."""
    return Path("/run/systemd/system").is_dir()


def _unit(command: Sequence[str]) -> bytes:
    """systemd.service(5). A stop lets frames finish: it reaches the front, not its workers."""
    return f"""\
[Unit]
Description=mattebridge, mattes for compositing hosts

[Service]
Type=exec
ExecStart={" ".join(map(_for_systemd, command))}
KillMode=mixed
Restart=on-failure
RestartPreventExitStatus={NO_RESTART}

[Install]
WantedBy=default.target
""".encode()


def _for_systemd(word: str) -> str:
    """One word of a command line of systemd."""
    for special, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(special, escaped)
    return f'"{word}"'


def _desktop_entry(command: Sequence[str]) -> bytes:
    """The Desktop Entry and Desktop Application Autostart specifications."""
    return f"""\
[Desktop Entry]
Type=Application
Name=mattebridge daemon
Comment=Mattes for compositing hosts
Exec={" ".join(map(_for_a_desktop, command))}
Terminal=false
NoDisplay=true
""".encode()


def _for_a_desktop(word: str) -> str:
    """One word of Exec: quoted as an argument, and what is then a string escaped as a value."""
    for special in ("\\", '"', "`", "$"):
        word = word.replace(special, f"\\{special}")
    return '"' + word.replace("\\", "\\\\").replace("%", "%%") + '"'


def _launch_agent(command: Sequence[str]) -> bytes:
    """launchd.plist(5)."""
    return plistlib.dumps({"Label": LABEL, "ProgramArguments": list(command), "RunAtLoad": True})
