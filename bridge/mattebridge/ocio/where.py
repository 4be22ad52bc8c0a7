"""Where the OpenColorIO config is, and its digest, without loading it. Standard library only."""

from __future__ import annotations

import hashlib
import os
from importlib import metadata
from pathlib import Path
from typing import Optional

from mattebridge.errors import ColorError, one_line
from mattebridge.ocio.config_files import digest_of

BUILT_IN = "ocio://studio-config-latest"
_BUILT_INS = "ocio://"
# The first of these that is set names the config.
VARIABLES = ("MATTEBRIDGE_OCIO", "OCIO")


def configured() -> str:
    """Which config is to be used: a path, or the `ocio://` name of a built-in one."""
    return _named() or BUILT_IN


def is_named() -> bool:
    """Whether the environment names a config, which then has to be loadable."""
    return bool(_named())


def _named() -> str:
    values = (os.environ.get(variable, "").strip() for variable in VARIABLES)
    return next((value for value in values if value), "")


def settle(given: Optional[str] = None) -> None:
    """Make the config that is given, or else named, that of this process and those it starts.

    A relative path is made absolute: the daemon runs in another folder.
    """
    where = given or _named()
    is_path = bool(where) and not where.startswith(_BUILT_INS)
    if is_path and not os.path.isabs(where):
        where, given = os.path.abspath(where), where
    if given:
        os.environ[VARIABLES[0]] = where


def origin(where: str) -> str:
    """What of the environment names a config, for a message."""
    found = [name for name in VARIABLES if os.environ.get(name, "").strip() == where]
    return found[0] if found else "its name"


def described() -> dict[str, str]:
    """The configured config and its digest, as `status` and the metadata of files have them."""
    where = configured()
    return {"config": one_line(where, 300), "digest": digest(where)}


def digest(where: str) -> str:
    """A SHA-256 of the config and its tables.

    Of a built-in one, of its name and the library's version. Raises `ColorError` for a file that
    cannot be read.
    """
    if where.startswith(_BUILT_INS):
        version = metadata.version("OpenImageIO")
        return hashlib.sha256(f"{where} OpenImageIO {version}".encode()).hexdigest()
    try:
        return digest_of(Path(where))
    except OSError as error:
        raise unloadable(where, str(error.strerror)) from error


def unloadable(where: str, problem: str) -> ColorError:
    """The error of a config that cannot be loaded."""
    shown = one_line(where, 300)
    return ColorError(
        f"the OpenColorIO config {shown} cannot be loaded: {one_line(problem, 300)} - correct"
        f" {origin(where)}, and start the daemon again",
        config=shown,
    )
