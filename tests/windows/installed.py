"""A Windows Python that finds mattebridge without PYTHONPATH, as after an installation.

What starts a daemon takes PYTHONPATH away, because it may be a host's.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def installed_python(parent: Path) -> Path:
    """Its python.exe, in a folder with a name that has to be quoted; pythonw.exe is beside it."""
    folder = parent / "of Élodie"
    # Not by copy2: Wine 8 lacks the function of Windows that it calls.
    shutil.copytree(Path(sys.executable).parent, folder, copy_function=shutil.copyfile)
    site = folder / "Lib" / "site-packages"
    site.mkdir(parents=True, exist_ok=True)
    given = os.environ["PYTHONPATH"].split(os.pathsep)
    (site / "others.pth").write_text("\n".join(given) + "\n", "utf-8")
    return folder / "python.exe"
