"""An interpreter whose workers start at once: they have the engine of `light_engine.py`.

torch takes seconds of a processor to load, and tests of daemons that are killed, replaced or
started at once load it hundreds of times without asking for a matte. The interpreter is this one
under another name, with a folder of packages of its own that leads to the packages of this one and
puts the light engine in the place of the real one. So the product is untouched: whatever is started
as `python -m mattebridge`, by a test, by a client or by the front, runs its own code.
"""

from __future__ import annotations

import atexit
import os
import shutil
import site
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from fakes import light_engine
from fakes.pictures import CHANNELS, PLAIN, Image
from mattebridge.wire.params import RenderParams

# Run by every process of the interpreter before anything else.
SITE = """
import site, sys

class Light:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in {names!r}:
            return None
        from importlib.util import spec_from_file_location
        return spec_from_file_location(name, {file!r})

sys.meta_path.insert(0, Light)
for folder in {folders!r}:
    site.addsitedir(folder)
"""
REPLACED = ("mattebridge.engine.engine", "mattebridge.engine.registered_memory")


@cache
def light_python() -> str:
    """The path of the interpreter, made once in a process and removed with it."""
    home = Path(tempfile.mkdtemp(prefix="mb-light-"))
    atexit.register(_remove, home, os.getpid())
    base = Path(os.path.realpath(sys.executable))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = home / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to(base)
    own = "include-system-site-packages = false"
    (home / "pyvenv.cfg").write_text(f"home = {base.parent}\n{own}\n")
    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    start = SITE.format(names=REPLACED, file=light_engine.__file__, folders=folders)
    (packages / "sitecustomize.py").write_text(start)
    return str(home / "bin" / "python")


def _remove(home: Path, owner: int) -> None:
    if os.getpid() == owner:  # not a forked child of the tests
        shutil.rmtree(home, ignore_errors=True)


def matted_light(plate: Image, clean_plate: Image) -> dict[str, Image]:
    """What a light worker makes of a frame, bit by bit."""
    shape = plate.shape[:2]
    out = {role: np.empty((*shape, count), np.float32) for role, count in CHANNELS.items()}
    light_engine.Engine().matte(
        {"plate": plate, "clean_plate": clean_plate},
        RenderParams(**PLAIN, colorspace="linear"),
        model="default",
        out=out,
    )
    return out
