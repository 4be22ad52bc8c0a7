"""Try the wheel for Windows under Wine: installed by pip into a fresh Python, run from there.

    <folder>/prefix          a copy of the disk and registry of build/wine: no user's settings
             python          a copy of the Windows Python of build/wine
             /Lib/site-packages   the wheel, and others.pth with the two folders of packages
             /Scripts/mattebridge.exe
    build/dist/windows       what the daemon needs there and `make windows` does not lay: torch, ...

As on Linux, the first node dropped into the test hosts (first_node.py) starts the daemon by the
note that the installer wrote into this registry's user folder, and gives a matte.

The packages come from the package index by name, as wheels for Windows. Two things are shims of the
test machine that Wine 8 needs: a bcryptprimitives.dll of one function, without which safetensors
cannot be loaded, and KMP_AFFINITY, without which the threads of torch end the process. Wine is not
Windows: a wheel that passes here has still to be tried there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from running import FIRST_NODE, TESTS, Refused, run, without_ours

sys.path.insert(0, str(TESTS))
from windows.make_prefix import PYTHON_VERSION, wine_variables

# `mattebridge[daemon]` and all that torch imports, but for what `make windows` lays: numpy, OpenCV,
# OpenImageIO, pyzmq, msgpack, fileseq. One by one: pip would follow the dependencies of this
# system.
PACKAGES = (
    "torch==2.13.0", "safetensors==0.8.0", "opencolorio==2.6.0", "sympy==1.14.0", "mpmath==1.3.0",
    "networkx==3.6.1", "jinja2==3.1.6", "markupsafe==3.0.4", "fsspec==2026.9.0",
    "filelock==4.3.1", "typing-extensions==4.16.0", "pip==26.2",
)  # fmt: skip
SHIM = """\
#include <stddef.h>
__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *data, unsigned long size);
__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *data, size_t size) {
  return SystemFunction036(data, (unsigned long)size);
}
int __stdcall DllMainCRTStartup(void *self, unsigned long why, void *more) { return 1; }
"""
# A small demo: the usual one takes a quarter of an hour under Wine.
DEMO = (
    "import sys; from mattebridge.commands.demo import run_demo;"
    " sys.exit(run_demo('demo', frames=2, width=240, height=136))"
)
# Only a hang takes so long, however busy the machine.
FETCH_S, STEP_S = 1800, 3600


def why_not(prefix: Path) -> str:
    """Why nothing can be tried under Wine on this machine, in a sentence; empty where it can."""
    if shutil.which("wine") is None:
        return "Wine is not installed: `apt-get install wine wine64`"
    if not (prefix / "ready").exists():
        return f"there is no Windows Python in {prefix}: run `make windows`"
    return ""


def try_wheel(wheel: Path, folder: Path, *, prefix: Path, packages: Path, tools: Path) -> str:
    """Install a wheel into a fresh Windows Python in `folder`, use it; what was done, in words.

    prefix: of `make windows`. packages: kept there for the next time. tools: of `make plugin`.
    Raises `Refused` where a step fails.
    """
    _lay_packages(packages)
    python = folder / "python"
    shutil.copytree(prefix / "python", python)
    if not (python / "bcryptprimitives.dll").exists():
        _lay_shim(python, tools)
    site = python / "Lib" / "site-packages"
    site.mkdir(parents=True)
    (site / "others.pth").write_text(f"Z:{packages}\nZ:{prefix / 'packages'}\n")
    shutil.copytree(prefix / "prefix", folder / "prefix", symlinks=True)
    environment = {
        **without_ours(os.environ),
        **wine_variables(folder),
        # Compiled once for all steps, and nothing beside the packages, which are kept.
        "PYTHONPYCACHEPREFIX": f"Z:{folder / 'compiled'}",
        "PYTHONDONTWRITEBYTECODE": "",
        "KMP_AFFINITY": "disabled",
    }

    def wine(*command: object, **variables: str) -> str:
        return run(["wine", *command], STEP_S, cwd=folder, environment={**environment, **variables})

    try:
        _use(wheel, folder, wine)
    finally:
        # All that is left of this prefix, a daemon of a failed step included.
        subprocess.run(["wineserver", "-k"], env=environment, timeout=60, check=False)
    return (
        "under Wine: installed by pip, its command, plugin, Nuke node, service, first nodes, undone"
        " again, and a demo of two frames"
    )


def _use(wheel: Path, folder: Path, wine: object) -> None:
    assert callable(wine)
    python = folder / "python" / "python.exe"
    wine(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--disable-pip-version-check", "--no-warn-script-location", wheel)  # fmt: skip
    used = wine(python, "-c", "import mattebridge; print(mattebridge.__file__)").strip()
    if "site-packages" not in used.replace("\\", "/").split("/"):
        raise Refused(f"the fresh Windows Python imports {used}, not the wheel")
    command = folder / "python" / "Scripts" / "mattebridge.exe"
    version = wheel.name.split("-")[1]
    if version not in wine(command, "--version"):
        raise Refused(f"`mattebridge --version` of {wheel.name} does not say {version}")
    plugin, nuke = ("ofx", "--to", "plugins"), ("nuke", "--to", "nuke")
    wine(command, "install", *plugin)
    if not list(folder.glob("plugins/*.ofx.bundle/Contents/Win64/MatteBridge.ofx")):
        raise Refused(f"`mattebridge install ofx` of {wheel.name} installed no plugin for Windows")
    wine(command, "install", *nuke, "--no-packages", "--host-python", PYTHON_VERSION)
    if not (folder / "nuke" / "mattebridge" / "mattebridge_nuke.py").exists():
        raise Refused(f"`mattebridge install nuke` of {wheel.name} installed no node")
    wine(command, "install", "service")
    if not _notes(folder):
        raise Refused(f"`mattebridge install` of {wheel.name} recorded no Python for the daemon")
    wine(python, FIRST_NODE, f"Z:{folder}", PYTHONPATH=f"Z:{TESTS}")
    for installed in (("service",), nuke, plugin):
        wine(command, "install", *installed, "--undo")
    left = [*folder.glob("plugins/*"), *folder.glob("nuke/mattebridge*"), *_notes(folder)]
    if left:
        raise Refused(f"`mattebridge install --undo` of {wheel.name} left {left}")
    wine(python, "-c", DEMO)
    if not (folder / "demo" / "contact_sheet.png").exists():
        raise Refused(f"the demo of {wheel.name} wrote no contact sheet under Wine")


def _notes(folder: Path) -> list[Path]:
    """What the installer writes down for the user."""
    return list(folder.glob("prefix/drive_c/users/*/AppData/Roaming/mattebridge/*.json"))


def _lay_packages(packages: Path) -> None:
    """The packages, unpacked; those of an earlier list go."""
    done = packages / "packages.txt"
    if done.exists() and done.read_text() == "\n".join(PACKAGES):
        return
    shutil.rmtree(packages, ignore_errors=True)
    packages.mkdir(parents=True)
    run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--no-compile", "--only-binary=:all:", "--platform", "win_amd64",
         "--python-version", PYTHON_VERSION, "--target", packages, *PACKAGES],
        FETCH_S, cwd=packages)  # fmt: skip
    done.write_text("\n".join(PACKAGES))


def _lay_shim(python: Path, tools: Path) -> None:
    source = python / "bcryptprimitives.c"
    source.write_text(SHIM)
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(tools.parent / "zig-cache"),
    }
    run([tools / "bin" / "python", "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-s",
         "-shared", "-ffreestanding", "-nostdlib", "-o", python / "bcryptprimitives.dll", source,
         "-ladvapi32"], STEP_S, cwd=python, environment=environment)  # fmt: skip
