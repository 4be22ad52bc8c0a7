"""A test fixture: what a worker imports of torch comes from the files beside this one.

No torch is laid there: its wheel is large, and every worker would load it. The Python that has this
folder on its path has the real daemon, the real worker and the real client, and an engine of a few
lines of numpy (`engine.py`).
"""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).parent
STAND_INS = {
    "mattebridge.engine.engine": HERE / "engine.py",
    "mattebridge.engine.registered_memory": HERE / "registered_memory.py",
}


class Finder:
    """Finds the modules of `STAND_INS` before any other place is looked at."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in STAND_INS:
            return importlib.util.spec_from_file_location(name, STAND_INS[name])
        return None


sys.meta_path.insert(0, Finder)
