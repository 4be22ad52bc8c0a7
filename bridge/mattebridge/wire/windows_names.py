r"""Names that Windows takes, and for which it makes another file than the one that was named.

    C:x               the file x in whatever folder is the current one of drive C:
    nul.exr, CON      a device, whatever comes behind the dot
    "matte ", "a."    the space and the dot at the end are dropped
    a:b.exr           a hidden stream of the file a
    a?b               refused by Windows, with an error that does not say why

Documentation: Naming Files, Paths, and Namespaces, of Windows. Text alone, so that it can be asked
on every system; `WindowsLayer` asks it for the commands.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

import ntpath
import re
from typing import Optional

_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
# Windows takes the superscripts 1, 2 and 3 for digits here.
_DEVICES |= {f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789\u00b9\u00b2\u00b3"}
_REFUSED = re.compile(r'[\x00-\x1f<>"|?*]')


def fault_of(path: str) -> Optional[str]:
    """Why the file of this path would be another one, or none; None where the path is right."""
    drive, rest = ntpath.splitdrive(path)
    if re.fullmatch(r"[A-Za-z]:", drive) and rest[:1] not in ("\\", "/"):
        return (
            f"{drive} without a backslash is the current folder of that drive; write the whole"
            f" path, such as {drive}\\{rest}"
        )
    for name in re.split(r"[\\/]", rest):
        fault = _fault_of_name(name)
        if fault is not None:
            return fault
    return None


def _fault_of_name(name: str) -> Optional[str]:
    if name in ("", ".", ".."):
        return None
    if name.partition(".")[0].partition(":")[0].rstrip(" ").upper() in _DEVICES:
        return f"'{name}' is the name of a device in Windows; choose another name"
    if ":" in name:
        return f"'{name}' names a hidden stream of a file in Windows; leave out the colon"
    refused = _REFUSED.search(name)
    if refused is not None:
        return f"Windows allows no {refused.group()!r} in a name such as '{name}'; leave it out"
    if name[-1] in ". ":
        return f"Windows drops the dot or space at the end of '{name}'; leave it out"
    return None
