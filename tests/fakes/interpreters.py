"""The Pythons that hosts embed, where this machine has them, and the packages a host finds there.

    make host-packages          (python tests/fakes/interpreters.py build/host-packages)

lays numpy, pyzmq and msgpack for each of them with `mattebridge install` (which is thereby tried),
for the folder that the variable HOST_PYTHON_PACKAGES names in CI: without it, the tests that run a
whole shot under another interpreter skip. A folder that is complete already is left as it is; what
cannot be laid is an error.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest

VARIABLE = "HOST_PYTHON_PACKAGES"
SUPPORTED = ("3.9", "3.10", "3.11", "3.12", "3.13")
LIMIT_S = 100


def find(version: str) -> Optional[str]:
    """The path of an interpreter that runs, from pyenv or from PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [str(p / "bin" / "python") for p in sorted(pyenv.glob(f"{version}.*"))]
    on_path = shutil.which(f"python{version}")
    for candidate in [*candidates, *([on_path] if on_path else [])]:
        said = subprocess.run([candidate, "--version"], capture_output=True, check=False)
        if said.returncode == 0:
            return candidate
    return None


INTERPRETERS = {version: find(version) for version in ("3.7", *SUPPORTED)}


def run(version: Optional[str], code: str, *paths: Path, **environment: str) -> Any:
    """What a piece of code prints as JSON, under another interpreter with nothing of ours.

    None is the interpreter of the tests, with everything of ours.
    """
    python = sys.executable if version is None else INTERPRETERS[version]
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MATTEBRIDGE"))}
    clean.update(PYTHONPATH=os.pathsep.join(map(str, paths)), PYTHONDONTWRITEBYTECODE="1")
    said = subprocess.run(
        [python, "-W", "error", "-c", code], capture_output=True, text=True, cwd="/",
        env={**clean, **environment}, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout.splitlines()[-1])


def packages(version: str) -> Path:
    """Where numpy, pyzmq and msgpack are for another interpreter; skips where nobody said."""
    if INTERPRETERS[version] is None:
        pytest.skip(f"there is no Python {version} here")
    given = os.environ.get(VARIABLE)
    if given is None:
        pytest.skip(f"{VARIABLE} names no folder of wheels: see `make host-packages`")
    folder = Path(given) / _tag(version)
    assert folder.is_dir(), f"{VARIABLE} is set, and {folder} is not there"
    return folder


def _tag(version: str) -> str:
    return f"cp{version.replace('.', '')}"


def lay_packages(to: Path) -> None:
    """Packages for each interpreter that is here, and the folder for HOST_PYTHON_PACKAGES said."""
    folder = to.absolute() / "mattebridge" / "vendor"
    wanted = [version for version in SUPPORTED if INTERPRETERS[version] is not None]
    missing = [version for version in wanted if not (folder / _tag(version)).is_dir()]
    if missing:
        words = ["install", "nuke", "--to", str(to), *(f"--host-python={v}" for v in missing)]
        subprocess.run(
            [sys.executable, "-m", "mattebridge", *words],
            check=True,
            # The note about the daemon's interpreter is for this folder, not for the user.
            env={**os.environ, "XDG_CONFIG_HOME": str(to.absolute() / "config")},
        )
    print(f"{VARIABLE}={folder}  # {', '.join(wanted) or 'no Python of a host is here'}")


if __name__ == "__main__":
    lay_packages(Path(sys.argv[1]))
