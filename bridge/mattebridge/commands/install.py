"""`mattebridge install`: put what a host or a login reads into its place.

    <to>/mattebridge/          the node's module, and vendor/cp310/... with what it imports
    <to>/init.py               (Nuke) one marked line more
    <to>/Scripts/Comp, Tool    (Fusion, Resolve) the scripts in the host's menu
    <to>/...                   (service) what starts the daemon at login (service.py)
    <to>/mattebridge-nuke.json what was put there: `--undo` removes exactly that

A host has its own Python, into which its users often may not install. So the client and the three
packages that it needs go into a folder for each version of Python, where the node finds them. Every
step is printed before it is done; with `--dry-run` nothing is done.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

from mattebridge.commands.host_folders import host_folder, quoted, system
from mattebridge.commands.install_steps import Steps
from mattebridge.commands.options import path_to_write
from mattebridge.commands.plugin_builds import BUNDLE, build_for_this_system, copy_bundle
from mattebridge.commands.service import runs_systemd, service_folder, service_for
from mattebridge.errors import UsageError
from mattebridge.interpreter import has_daemon_half

PACKAGE = Path(__file__).resolve().parents[1]
REQUIREMENTS = ("numpy>=1.22", "pyzmq>=25", "msgpack>=1.0.5")
_OF_FUSION = ("3.10", "3.11", "3.12")
PYTHONS = {"nuke": ("3.9", "3.10", "3.11"), "fusion": _OF_FUSION, "resolve": _OF_FUSION}
RESTART_HOST = "restart the host to use it"
NUKE_LINE = 'nuke.pluginAddPath("./mattebridge")  # mattebridge install nuke\n'
# The entries in the menu of Fusion and Resolve, and what each does (resolve/menu_entry.py).
FUSION_MENU = {
    "Comp/MatteBridge.py": "main",
    "Tool/MatteBridge.py": "main",
    "Comp/MatteBridge start daemon.py": "start",
}
PIP_LIMIT_S = 900.0

EPILOG = """\
examples:
  mattebridge install nuke                        into ~/.nuke
  mattebridge install nuke --to /studio/nuke --host-python 3.11
  mattebridge install fusion                      Fusion Studio; resolve: its Fusion page
  mattebridge install resolve --dry-run           print what would be done
  mattebridge install nuke --wheels wheels/       without a network
  mattebridge install nuke --undo                 remove all of it again
  mattebridge install service                     start the daemon at every login
"""


def add_parser(commands: Any, shared: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge install`."""
    command = commands.add_parser(
        "install",
        parents=[shared],
        help="put the node into Nuke, Resolve or an OFX host; start the daemon at login",
        description="Put the node where a host finds it, with the packages it needs; or (service)"
        " have the daemon started at login.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_install)
    command.add_argument("host", choices=("nuke", "fusion", "resolve", "ofx", "service"))
    command.add_argument(
        "--to", metavar="DIR", type=path_to_write, help="another folder than the usual one"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print what would be done, do nothing"
    )
    command.add_argument("--undo", action="store_true", help="remove what was installed")
    command.add_argument(
        "--host-python",
        metavar="X.Y",
        action="append",
        help="the host's Python; may be given several times (default: those of current versions)",
    )
    command.add_argument(
        "--wheels", metavar="DIR", type=Path, help="take packages from this folder, not the network"
    )
    command.add_argument(
        "--no-packages",
        action="store_true",
        help="where the host has numpy, pyzmq and msgpack, or the command line is enough",
    )


def run_install(options: argparse.Namespace) -> int:
    """`mattebridge install`: prints every step; 0 when all are done."""
    usual = default_folder(options.host)
    to = (options.to or usual).expanduser().absolute()
    undo_with = f"mattebridge install {options.host} --undo"
    undo_with += "" if to == usual else f" --to {to}"
    work = Steps(options.host, to, dry=options.dry_run, undo_with=undo_with)
    if options.undo:
        work.undo()
        return 0
    work.begin()
    try:
        then = _install(work, options)
    except BaseException:
        work.abandon()
        raise
    work.finish(then)
    return 0


def _install(work: Steps, options: argparse.Namespace) -> str:
    """What is to be done next.

    The packages first: they are what may fail, and the host is not changed before.
    """
    if options.host == "service":
        return _install_service(work)
    if options.host == "ofx":
        _install_ofx(work)
        _note_interpreter(work)
        return RESTART_HOST
    for version in options.host_python or PYTHONS[options.host]:
        _add_packages(work, version, options.wheels, bare=options.no_packages)
    if options.host == "nuke":
        _install_nuke(work)
    else:
        _install_scripts(work)
    _note_interpreter(work)
    return RESTART_HOST


def _note_interpreter(work: Steps) -> None:
    if "SUDO_USER" in os.environ:
        print(
            "the Python that starts the daemon is recorded for each user, and not by sudo: install"
            " the service, or run `mattebridge serve` once, as the user of the host"
        )
        return
    if has_daemon_half():
        work.note_interpreter(sys.executable)
        return
    print(
        f"{sys.executable} does not have the daemon half (`pip install 'mattebridge[daemon]'`): it"
        " is not recorded as the Python that starts the daemon"
    )


def default_folder(host: str) -> Path:
    """The folder in which a host, or a login, looks on this system."""
    return service_folder() if host == "service" else host_folder(host)


# ---------------------------------------------------------------------------------------- the hosts


def _install_nuke(work: Steps) -> None:
    source = source_folder("nuke")
    for path in sorted([*source.glob("*.py"), *source.glob("ToolSets/*/*.nk")]):
        work.copy(path, work.to / "mattebridge" / path.relative_to(source))
    work.add_line(work.to / "init.py", NUKE_LINE)


def _install_scripts(work: Steps) -> None:
    source = source_folder("resolve")
    folder = work.to / "mattebridge"
    work.copy(source / "mattebridge_fusion.py", folder / "mattebridge_fusion.py")
    for place, action in FUSION_MENU.items():
        entry = _filled(source / "menu_entry.py", FOLDER=str(folder), ACTION=action)
        work.write(work.to / "Scripts" / place, entry)
    command = f"{quoted(sys.executable)} -m mattebridge"
    work.write(
        work.to / "Scripts" / "Comp" / "MatteBridge (free edition).lua",
        _filled(source / "MatteBridge.lua", COMMAND=command),
    )


def _filled(source: Path, **values: str) -> bytes:
    text = source.read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode("utf-8", "surrogateescape")


def _install_ofx(work: Steps) -> None:
    built = build_for_this_system(PACKAGE)
    print(f"the build is {built}")
    work.tree(work.to / BUNDLE, lambda target: copy_bundle(built, target))


def _install_service(work: Steps) -> str:
    """How the daemon is started before the next login."""
    if not has_daemon_half():
        raise UsageError(
            f"{sys.executable} does not have the daemon half: `pip install 'mattebridge[daemon]'`,"
            " then install the service again"
        )
    command = [sys.executable, "-m", "mattebridge", "serve"]
    service = service_for(system(), command, systemd=runs_systemd())
    for name, data in service.files.items():
        work.write(work.to / name, data)
    for name, target in service.links.items():
        work.link(work.to / name, target)
    if service.logon:
        work.run_at_logon(service.logon)
    _note_interpreter(work)
    return f"the daemon starts at the next login, and now with `{service.start_now}`"


def source_folder(name: str) -> Path:
    """The host scripts: in the repository, or beside an installed package."""
    for folder in (PACKAGE.parents[1] / name, Path(sys.prefix) / "share" / "mattebridge" / name):
        if any(folder.glob("mattebridge_*.py")):
            return folder
    raise UsageError(f"the scripts for {name} are not part of this installation of mattebridge")


def _add_packages(work: Steps, version: str, wheels: Optional[Path], *, bare: bool) -> None:
    parts = version.split(".")
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or parts[0] != "3":
        raise UsageError(f"--host-python takes a version such as 3.10, not {version}")
    if int(parts[1]) < 9:
        raise UsageError(f"Python {version} is too old: the node needs 3.9 or newer")

    def fill(target: Path) -> None:
        target.mkdir(parents=True)
        if not bare:
            _pip(version, target, wheels)
        copy_client_half(target / "mattebridge")

    work.tree(work.to / "mattebridge" / "vendor" / f"cp{''.join(parts)}", fill)


def _pip(version: str, target: Path, wheels: Optional[Path]) -> None:
    if importlib.util.find_spec("pip") is None:
        raise UsageError(
            f"the packages for Python {version} are fetched with pip, and {sys.executable} has no"
            f" pip: run `{sys.executable} -m ensurepip` (or `uv pip install pip`) first, or give"
            " --no-packages"
        )
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-compile", "--target", str(target), "--python-version", version,
        "--implementation", "cp", "--only-binary=:all:",
    ]  # fmt: skip
    if wheels is not None:
        command += ["--no-index", "--find-links", str(wheels.absolute())]
    try:
        done = subprocess.run(
            [*command, *REQUIREMENTS],
            capture_output=True,
            text=True,
            timeout=PIP_LIMIT_S,
            check=False,
        )
        trouble = done.stderr.strip().splitlines() if done.returncode else []
    except subprocess.TimeoutExpired:
        done, trouble = None, ["pip took too long"]
    if done is not None and done.returncode == 0:
        return
    why = next(
        (line for line in trouble if line.startswith("ERROR")), (trouble or ["pip failed"])[-1]
    )
    raise UsageError(
        f"cannot get numpy, pyzmq and msgpack for Python {version} ({why}). Where there is no "
        "network: on a machine that has one, run `python -m pip download --only-binary=:all: "
        f"--python-version {version} -d wheels numpy pyzmq msgpack`, copy the folder to this "
        "machine, and give --wheels wheels; or give --no-packages: if the host has none of them "
        "either, the node calls the mattebridge command instead"
    )


def copy_client_half(target: Path) -> None:
    """Copy the modules that a host loads, and no others: none of models, image files, daemon."""
    for path in client_half():
        place = target / path.relative_to(PACKAGE)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def client_half() -> list[Path]:
    """The client, the host modules, and what they import, directly or through others."""
    hosts = [f"hosts.{path.stem}" for path in (PACKAGE / "hosts").glob("*.py")]
    found: set[Path] = set()
    waiting = [path for name in ("client", *hosts) for path in _files_of(name)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        waiting += [other for name in _imports_of(path) for other in _files_of(name)]
    return sorted(found)


def _files_of(name: str) -> list[Path]:
    """The files that importing a module runs: the `__init__.py` of its folders, and its own."""
    path = PACKAGE.joinpath(*name.split("."))
    folders = [path, *path.parents]
    files = [folder / "__init__.py" for folder in folders[: folders.index(PACKAGE) + 1]]
    return [file for file in (*files, path.with_suffix(".py")) if file.is_file()]


def _imports_of(path: Path) -> list[str]:
    names: list[str] = []
    for item in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(item, ast.ImportFrom) and item.module and item.level == 0:
            top, _, rest = item.module.partition(".")
            if top == "mattebridge":
                names += [rest] if rest else []
                names += [".".join(filter(None, (rest, alias.name))) for alias in item.names]
        elif isinstance(item, ast.Import):
            names += [a.name[12:] for a in item.names if a.name.startswith("mattebridge.")]
    return names
