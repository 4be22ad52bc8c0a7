"""A matted shot on disk: frames named by their content, and sets of them that a host's Read shows.

    mattes/frames/<key>.exr                 a frame, by the digest of all that decides its pixels
    mattes/<set>/matte.<view>.<frame>.exr   links to frames; the set is named by what is in it
    mattes/<set>/set.json                   which frames, with which settings, from which source
    mattes/runs/<writer>-<id>.json          what was made or used by one writer, in one state

When a frame changes, the set gets another name, so that no host shows a picture from its cache.
Frames and sets are whole or absent.

A writer is a document of the host, such as a script: two versions of a script share the store of
their nodes, and a farm's processes share a script. Each run leaves a record of what it made, under
a name of its own, so that no process overwrites what another has written. The records serve two
purposes: a node finds the frames that another process made for it (`take_up`), and `clear` knows
what it may remove. The rule that must not be broken: a file that is in no record of this writer, or
that is in the record of another one, is never deleted.

Standard library only: a host without numpy uses it as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import FrameWriteError
from mattebridge.hosts.request import MadeFrame, ShotSettings
from mattebridge.hosts.scratch import user_word
from mattebridge.whole_files import link_or_copy, link_whole, sweep_temporaries, write_whole

# The set's list of frames, beside them.
SET_LIST = "set.json"
PATTERN = "matte.%V.%04d.exr"
# The name of an unfinished set starts with this; one of this age was left by a killed process.
UNFINISHED = ".set-"
ABANDONED_AGE_S = 86400.0
# What a record may name, so that a damaged one cannot lead to another folder.
_KEY = re.compile(r"[0-9A-Za-z_]+")
_FRAME = re.compile(r"[^/\\]+\.-?\d+")


def unsaved_folder() -> Path:
    """The folder, of this user's, for the stores of a script or composition that has no path."""
    return Path(tempfile.gettempdir()) / f"mattebridge-mattes-{user_word()}"


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
    *,
    writer: str = "",
) -> Path:
    """The folder of a set with the frames of the current set and the new ones.

    Frames of the current set that were made with other settings are left out: two looks in one shot
    are worse than missing frames, which the host reports. So are frames whose files are gone.
    `source` identifies the state of the host's inputs; it is stored for each frame, and what other
    runs of the writer made in the same state is taken into the set. The current set may be in
    another store, such as that of the folder that a script was moved from.
    """
    state = _State(_text_of(settings), source)
    frames, sources = _shown(current, state)
    recorded = _recorded(_runs_of(store, writer), state)
    new = {**recorded, **{f"{one.view}.{_number(one.frame)}": one.key for one in made}}
    frames.update(new)
    sources.update(dict.fromkeys(new, source))
    files = {name: _file_of(store, current, name, key) for name, key in frames.items()}
    frames = {name: key for name, key in frames.items() if files[name] is not None}
    content = json.dumps(
        {
            "settings": state.settings,
            "frames": frames,
            "sources": {name: sources.get(name, "") for name in frames},
        },
        sort_keys=True,
        indent=1,
    )
    folder = store / hashlib.blake2b(content.encode(), digest_size=10).hexdigest()
    is_new = not folder.is_dir()
    _fill_set(store, folder, {name: files[name] for name in frames}, content)
    if made or is_new:
        _record(store, writer, state, made, {**recorded, **new}, _Set(folder.name, is_new))
    return folder


def take_up(
    store: Path,
    current: Optional[Path],
    settings: ShotSettings,
    source: str,
    *,
    writer: str = "",
) -> Optional[Path]:
    """The current set with what other runs of the writer made in this state since then, if any.

    None where there is nothing to add.
    """
    state = _State(_text_of(settings), source)
    recorded = _recorded(_runs_of(store, writer), state)
    shown, _ = _shown(current, state)
    if all(shown.get(name) == key for name, key in recorded.items()):
        return None
    return update_set(store, current, [], settings, source, writer=writer)


def source_of(folder: Path) -> Optional[str]:
    """The `source` that all frames of a set have in common; None where they differ."""
    sources = set(read_set(folder).get("sources", {}).values())
    return str(sources.pop()) if len(sources) == 1 else None


def read_set(folder: Path) -> dict[str, Any]:
    """The list of a set; empty where there is no set."""
    return _read_json(folder / SET_LIST)


def find_set(store: Path, folder: Path) -> Optional[Path]:
    """Where a set is: in its folder, or in the store under the same name after a move."""
    for place in (folder, store / folder.name):
        if (place / SET_LIST).is_file():
            return place
    return None


def clear(store: Path, writer: str = "") -> bool:
    """Remove the frames and sets that only this writer has made; true where nothing remains.

    What other writers made or use stays, and so does any other file. Raises `FrameWriteError` where
    something cannot be removed, before anything is, as far as permissions tell.
    """
    sweep(store)
    everyone = _read_runs(store)
    own = [run for run in everyone if run.writer == writer]
    others = [run for run in everyone if run.writer != writer]
    used = {key for run in others for key in (*run.frames.values(), *run.made)}
    frames = {key for run in own for key in run.made} - used
    sets = {name for run in own for name in run.sets}
    sets -= {name for run in others for name in run.sets}
    files = [path for name in sorted(sets) for path in _files_of_set(store / name)]
    files += [frame_file(store, key) for key in sorted(frames)]
    files += [run.path for run in own]
    _remove(store, files, [*(store / name for name in sets), store / "frames", store / "runs"])
    return not store.is_dir()


def sweep(store: Path) -> None:
    """Remove the unfinished frames of processes of this machine that were killed."""
    sweep_temporaries([store / "frames", store / "runs"])
    for left in store.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > ABANDONED_AGE_S:
                shutil.rmtree(left, ignore_errors=True)


# ------------------------------------------------------------------------------------------- sets


@dataclass(frozen=True)
class _State:
    """What frames were made from: the settings as text, and the state of the host's inputs."""

    settings: str
    source: str


def _text_of(settings: ShotSettings) -> str:
    return json.dumps(settings.deciding(), sort_keys=True)


def _shown(current: Optional[Path], state: _State) -> tuple[dict[str, str], dict[str, str]]:
    """The keys and the sources of the current set's frames, where its settings are these."""
    before = {} if current is None else read_set(current)
    if before.get("settings") != state.settings or "frames" not in before:
        return {}, {}
    frames = {name: key for name, key in before["frames"].items() if _is_frame(name, key)}
    return frames, dict(before.get("sources", {}))


def _file_of(store: Path, current: Optional[Path], name: str, key: str) -> Optional[Path]:
    """The file of a frame: in the store, or in the current set where that is all there is."""
    places = [frame_file(store, key)]
    if current is not None and read_set(current).get("frames", {}).get(name) == key:
        places.append(current / f"matte.{name}.exr")
    return next((path for path in places if path.is_file()), None)


def _fill_set(store: Path, folder: Path, files: Mapping[str, Optional[Path]], content: str) -> None:
    """Make the set, or what is missing in it. Its permissions are those of the folder around it."""
    try:
        if folder.is_dir():
            _link_missing(folder, files)
            return
        store.mkdir(parents=True, exist_ok=True)
        temporary = store / f"{UNFINISHED}{uuid.uuid4().hex}"
        temporary.mkdir()
        try:
            _link_missing(temporary, files)
            (temporary / SET_LIST).write_text(content, encoding="utf-8")
            with contextlib.suppress(OSError):  # another session made the same set meanwhile
                os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise FrameWriteError(f"cannot write {folder}: {error.strerror}") from error
    if not folder.is_dir():
        raise FrameWriteError(f"cannot write {folder}")


def _link_missing(folder: Path, files: Mapping[str, Optional[Path]]) -> None:
    for name, source in files.items():
        target = folder / f"matte.{name}.exr"
        if source is not None and not target.exists():
            link_or_copy(source, target)


def _files_of_set(folder: Path) -> list[Path]:
    """The files that belong to a set; files of any other origin are not among them."""
    names = [name for name in read_set(folder).get("frames", {}) if _FRAME.fullmatch(name)]
    return [*(folder / f"matte.{name}.exr" for name in sorted(names)), folder / SET_LIST]


def _number(frame: int) -> str:
    # As Nuke writes `%04d`.
    return f"{frame:04d}"


# ---------------------------------------------------------------------------------------- records


@dataclass(frozen=True)
class _Run:
    """A record: `frames` are what the writer uses, by name; `made` and `sets` what is its own."""

    path: Path
    writer: str
    state: _State
    time_ns: int
    frames: Mapping[str, str]
    made: Sequence[str] = field(default_factory=tuple)
    sets: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class _Set:
    """The set that a run gives, and whether the run made it."""

    name: str
    is_new: bool


def _runs_of(store: Path, writer: str) -> list[_Run]:
    found = _read_runs(store, f"{_short(writer)}-*.json")
    return [run for run in found if run.writer == writer]


def _read_runs(store: Path, names: str = "*.json") -> list[_Run]:
    """The records of a store, the earliest first; what is not a record is passed over."""
    found = filter(None, (_read_run(path) for path in (store / "runs").glob(names)))
    return sorted(found, key=lambda run: (run.time_ns, run.path.name))


def _read_run(path: Path) -> Optional[_Run]:
    read = _read_json(path)
    try:
        return _Run(
            path,
            str(read["writer"]),
            _State(str(read["settings"]), str(read["source"])),
            int(read["time_ns"]),
            {name: key for name, key in read["frames"].items() if _is_frame(name, key)},
            tuple(key for key in read["made"] if _KEY.fullmatch(key)),
            tuple(name for name in read["sets"] if _KEY.fullmatch(name)),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _is_frame(name: str, key: str) -> bool:
    return bool(_FRAME.fullmatch(name) and _KEY.fullmatch(key))


def _recorded(runs: Iterable[_Run], state: _State) -> dict[str, str]:
    """The frames that records name for a state that is known; later records count first."""
    frames: dict[str, str] = {}
    for run in runs:
        if state.source and run.state == state:
            frames.update(run.frames)
    return frames


def _record(
    store: Path,
    writer: str,
    state: _State,
    made: Sequence[MadeFrame],
    frames: Mapping[str, str],
    shown: _Set,
) -> None:
    """Write the record of a run; it takes the place of the writer's earlier ones of this state.

    Another process that does the same at the same time writes a record of its own: what was in the
    earlier ones is then in both.
    """
    everyone = _read_runs(store)
    earlier = [run for run in everyone if run.writer == writer and run.state == state]
    # What was there before is shared with those whose records name it; without such a record
    # its writer is not known, and it stays out of this one.
    own = {key for run in earlier for key in run.made}
    known = {key for run in everyone for key in run.made}
    own |= {one.key for one in made if not one.found or one.key in known}
    sets = {name for run in earlier for name in run.sets}
    if shown.is_new or any(shown.name in run.sets for run in everyone):
        sets.add(shown.name)
    used = {name: key for run in earlier for name, key in run.frames.items()}
    content = {
        "writer": writer,
        "settings": state.settings,
        "source": state.source,
        "time_ns": time.time_ns(),
        "frames": {**used, **frames},
        "made": sorted(own),
        "sets": sorted(sets),
    }
    path = store / "runs" / f"{_short(writer)}-{uuid.uuid4().hex}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content, sort_keys=True, indent=1).encode())
    except OSError as error:
        raise FrameWriteError(f"cannot write {path}: {error.strerror}") from error
    for run in earlier:
        with contextlib.suppress(OSError):
            run.path.unlink()


def _short(writer: str) -> str:
    return hashlib.blake2b(writer.encode(), digest_size=6).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# --------------------------------------------------------------------------------------- removing


def _remove(store: Path, files: Sequence[Path], folders: Sequence[Path]) -> None:
    there = [path for path in files if path.exists()]
    locked = {path.parent for path in there if not _may_write(path.parent)}
    if locked:
        raise FrameWriteError(
            f"cannot remove the mattes in {store}: {_owner_of(min(locked))} owns them and no one "
            "else may write there; ask them to press Clear. Nothing was removed"
        )
    failed = [error for path in there for error in _try_unlink(path)]
    for folder in (*folders, store):
        with contextlib.suppress(OSError):  # something else is in it, or it is not there
            folder.rmdir()
    if failed:
        raise FrameWriteError(
            f"{len(failed)} of {len(there)} files in {store} could not be removed: "
            f"{failed[0].strerror}; change the permissions, then press Clear again"
        )


def _try_unlink(path: Path) -> Iterator[OSError]:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        yield error


def _may_write(folder: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)


def _owner_of(folder: Path) -> str:
    try:
        return folder.owner()
    except (KeyError, OSError, NotImplementedError):
        return "another user"
