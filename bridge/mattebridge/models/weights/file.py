"""A weights file as bytes, read once and whole, or an error with the reason; without torch.

A path may lead to anything: nothing, a folder, a pipe that never ends, a link, a file that is being
truncated at this moment. It is opened without waiting, examined through the open descriptor, and
read only if it is a plain file of a possible size.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

from mattebridge.errors import ModelError
from mattebridge.wire import oslayer

# The largest published matting checkpoints have a few hundred MB.
MAX_WEIGHTS_BYTES = 4 << 30
UNKNOWN_LICENCE = "as stated by its author"


def read_whole(path: str | os.PathLike[str], label: str, *, follow_links: bool = True) -> bytes:
    """The bytes of a plain file; `label` names it in errors.

    Raises `ModelError` (`reason`: missing, link, unreadable, size) with what to do.
    """
    try:
        descriptor = os.open(path, _flags(follow_links))
    except OSError as failure:
        raise _not_opened(label, failure) from failure
    try:
        size = _plain_size(label, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(size + 1)
    except OSError as failure:
        raise _not_opened(label, failure) from failure
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise ModelError(
            f"{label} is being written to; wait until it is complete", reason="unreadable"
        )
    return data


def digest_of(data: bytes) -> str:
    """The sha256 of a file's bytes as `sha256:<hex>`: its identity, whatever its name."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _flags(follow_links: bool) -> int:
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    flags = os.O_RDONLY | oslayer.NO_WAIT | oslayer.KEPT | oslayer.BINARY
    return flags if follow_links else flags | oslayer.NO_LINK


def _not_opened(label: str, failure: OSError) -> ModelError:
    if failure.errno == errno.ELOOP:
        return ModelError(
            f"{label} is a symbolic link, and its target may change; put the file itself in its "
            "place",
            reason="link",
        )
    return ModelError(f"{label} cannot be read: {failure.strerror}", reason="missing")


def _plain_size(label: str, status: os.stat_result) -> int:
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{label} is not a file", reason="missing")
    if status.st_size == 0:
        raise ModelError(f"{label} is empty; download it again", reason="unreadable")
    if status.st_size > MAX_WEIGHTS_BYTES:
        raise ModelError(
            f"{label} has {status.st_size / 2**30:.1f} GiB, more than weights of these networks",
            reason="size",
        )
    return status.st_size


@dataclass(frozen=True)
class WeightsRecord:
    """A checkpoint on disk as the registry of weights records it; plain values only.

    digest: `sha256:<hex>` of the file. family: the key of `families.FAMILIES`. settings: what was
    recognised from its keys, such as class, backbone and kernel. file_name: its name when it was
    added, at `added` (UTC).
    """

    name: str
    path: str
    digest: str
    family: str
    settings: Mapping[str, Union[str, int]]
    licence: str = UNKNOWN_LICENCE
    size_bytes: int = 0
    file_name: str = ""
    added: str = ""

    @property
    def label(self) -> str:
        """The name of the file in messages."""
        return f"the weights of model '{self.name}'"

    def read(self) -> bytes:
        """The bytes of the file, if it is the one that was added.

        Raises `ModelError` (`reason`: digest, and those of `read_whole`).
        """
        data = read_whole(self.path, self.label, follow_links=False)
        found = digest_of(data)
        if found != self.digest:
            raise ModelError(
                f"{self.label} are not those that were added: the file's digest is {found}, not "
                f"{self.digest} - add it again with `mattebridge models add`",
                reason="digest",
            )
        return data
