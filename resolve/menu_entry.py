"""An entry of Fusion's menu; `mattebridge install resolve` fills in the folder and what it does."""

import sys
from typing import Any

FOLDER = r"@FOLDER@"
# `main` mattes, `start` starts the daemon.
ACTION = "@ACTION@"


def _run(given: Any) -> int:
    if sys.version_info < (3, 9):  # noqa: UP036 - Fusion runs what the user has installed
        print("mattebridge: needs Python 3.9 or newer; choose one in Fusion's preferences")
        return 1
    if FOLDER not in sys.path:
        sys.path.append(FOLDER)
    try:
        import mattebridge_fusion
    except Exception as error:
        print(f"mattebridge: not loaded: {error}")
        return 1
    mattebridge_fusion.set_up(FOLDER)
    comp = given.get("comp") or given.get("composition")
    return mattebridge_fusion.ACTIONS[ACTION](given.get("fusion"), comp, given.get("tool"))


if __name__ == "__main__":
    _run(globals())
