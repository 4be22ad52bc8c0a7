"""A matted shot on disk: frames named by their content, and sets of them that a host's Read shows.

    mattes/frames/<key>.exr                 a frame, by the digest of all that decides its pixels
    mattes/<set>/matte.<view>.<frame>.exr   links to frames; the set is named by what is in it
    mattes/<set>/set.json                   which frames, with which settings, from which source

When a frame changes, the set gets another name, so that no host shows a picture from its cache.
Frames and sets are whole or absent.

Standard library only: a host without numpy uses it as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import FrameWriteError
from mattebridge.hosts.request import MadeFrame, ShotSettings
from mattebridge.whole_files import link_or_copy, link_whole, sweep_temporaries

# The set's list of frames, beside them.
SET_LIST = "set.json"
PATTERN = "matte.%V.%04d.exr"


def frame_file(store: Path, key: str) -> Path:
    """Where the frame of a key is, or will be."""
    return store / "frames" / f"{key}.exr"


def keep_frame(store: Path, key: str, source: Path) -> None:
    """Store a whole file as the frame of a key; the file also stays where it is."""
    target = frame_file(store, key)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        link_whole(source, target)
    except OSError as error:
        raise FrameWriteError(f"cannot write {target}: {error.strerror}") from error


def update_set(
    store: Path,
    current: Optional[Path],
    made: Sequence[MadeFrame],
    settings: ShotSettings,
    source: str = "",
) -> Path:
    """The folder of a set with the frames of the current set and the new ones.

    Frames of the current set that were made with other settings are left out: two looks in one shot
    are worse than missing frames, which the host reports. `source` identifies the state of the
    host's inputs; it is stored for each frame.
    """
    words = json.dumps(asdict(settings), sort_keys=True)
    frames: dict[str, str] = {}
    sources: dict[str, str] = {}
    if current is not None:
        before = read_set(current)
        if before.get("settings") == words:
            frames.update(before.get("frames", {}))
            sources.update(before.get("sources", {}))
    new = {f"{one.view}.{_number(one.frame)}": one.key for one in made}
    frames.update(new)
    sources.update(dict.fromkeys(new, source))
    content = json.dumps(
        {"settings": words, "frames": frames, "sources": sources}, sort_keys=True, indent=1
    )
    folder = store / hashlib.blake2b(content.encode(), digest_size=10).hexdigest()
    if not folder.is_dir():
        _make_set(store, folder, frames, content)
    return folder


def source_of(folder: Path) -> Optional[str]:
    """The `source` that all frames of a set have in common; None where they differ."""
    sources = set(read_set(folder).get("sources", {}).values())
    return str(sources.pop()) if len(sources) == 1 else None


def read_set(folder: Path) -> dict[str, Any]:
    """The list of a set; empty where there is no set."""
    try:
        found = json.loads((folder / SET_LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def clear(store: Path) -> None:
    """Remove every frame and set below a store."""
    shutil.rmtree(store, ignore_errors=True)


def sweep(store: Path) -> None:
    """Remove the unfinished frames of processes of this machine that were killed."""
    sweep_temporaries([store / "frames"])


def _make_set(store: Path, folder: Path, frames: Mapping[str, str], content: str) -> None:
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".set-", dir=store))
        try:
            os.chmod(temporary, 0o755)
            for name, key in frames.items():
                with contextlib.suppress(FileNotFoundError):  # removed: the host reports the frame
                    link_or_copy(frame_file(store, key), temporary / f"matte.{name}.exr")
            (temporary / SET_LIST).write_text(content, encoding="utf-8")
            with contextlib.suppress(OSError):  # another session made the same set meanwhile
                os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise FrameWriteError(f"cannot write {folder}: {error.strerror}") from error
    if not folder.is_dir():
        raise FrameWriteError(f"cannot write {folder}")


def _number(frame: int) -> str:
    # As Nuke writes `%04d`.
    return f"{frame:04d}"
