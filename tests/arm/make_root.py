"""Lay down a Python for Linux on ARM, to run the plugin for it in: under `build/arm`.

    python tests/arm/make_root.py build/arm

    build/arm/root   python3 and numpy of this Debian for arm64, unpacked, with all that they need
    build/arm/apt    lists and archives, apart from the system's own

A Debian or Ubuntu and `qemu-aarch64` (`apt-get install qemu-user`) run it; nothing is installed
into the system. What is there already is kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("python3", "python3-numpy")
QEMU = "qemu-aarch64"
FETCH_S = 1200


def why_not(place: Path) -> str:
    """Why no program for ARM can be run here, in a sentence; empty where it can."""
    if shutil.which(QEMU) is None:
        return f"{QEMU} is not installed: `apt-get install qemu-user`"
    if not (place / "ready").exists():
        return f"there is no Python for ARM in {place}: run `make arm`"
    return ""


def python(place: Path) -> list[str]:
    """The command that runs the Python for ARM."""
    libraries = place / "root" / "usr" / "lib" / "aarch64-linux-gnu"
    folders = [str(libraries / name) for name in ("blas", "lapack")]
    return [QEMU, "-L", str(place / "root"), "-E", f"LD_LIBRARY_PATH={':'.join(folders)}",
            "-E", f"PYTHONPATH={place / 'root' / 'usr' / 'lib' / 'python3' / 'dist-packages'}",
            str((place / "root" / "usr" / "bin" / "python3").resolve())]  # fmt: skip


def build(place: Path) -> None:
    """Lay down everything that is missing; raises where a program or a package cannot be had."""
    if (place / "ready").exists():
        return
    for name in (QEMU, "apt-get", "dpkg-deb"):
        if shutil.which(name) is None:
            raise SystemExit(
                f"{name} is not installed: this needs a Debian or Ubuntu with qemu-user"
            )
    apt = place / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    options = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Sandbox::User": "root",
        "Dir::State::lists": apt / "lists", "Dir::State::status": os.devnull,
        "Dir::Cache": apt, "Dir::Cache::archives": apt / "archives", "Debug::NoLocking": "true",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", *words, "--quiet=2", "update")
    _run("apt-get", *words, "--quiet=2", "--yes", "--download-only", "--no-install-recommends",
         "install", *PACKAGES)  # fmt: skip
    for archive in sorted((apt / "archives").glob("*.deb")):
        _run("dpkg-deb", "--extract", str(archive), str(place / "root"))
    done = subprocess.run(
        [*python(place), "-c", "import numpy, platform; print(platform.machine())"],
        stdout=subprocess.PIPE, text=True, timeout=FETCH_S, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "aarch64", done.stdout
    (place / "ready").touch()


def _run(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, timeout=FETCH_S, check=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve())
