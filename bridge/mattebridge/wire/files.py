"""Files, as the layers of all systems speak of them.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations


class HeldOpenError(PermissionError):
    """The system keeps the old file of a name: another program has it open."""
