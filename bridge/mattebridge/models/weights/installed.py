"""The user's own checkpoints: a folder of weights, and the registry that records what they are.

    $MATTEBRIDGE_MODELS, or <the user's data folder>/mattebridge/models/
        models.json         by name: digest, family, settings, licence, size
        weights/<sha256>    copies of the files, named by their content
        lock                held while something is added or removed

A file is recognised and copied under its digest before its name is written to `models.json`, which
is replaced in one step: a reader sees a model whole or not at all, and a command that is killed
leaves at most a file that no name refers to, which the next command removes. The daemon reads the
time stamp of `models.json` at every request, so that additions and removals need no restart.

The rule that must not be broken: a file is parsed only if its digest is the recorded one, and a
damaged registry or file affects no other models than those in it. Imports neither torch nor numpy.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional, Union

from mattebridge.errors import FrameWriteError, ModelError, UsageError, one_line
from mattebridge.models.entry import DEFAULT, NAME_PATTERN, Entry
from mattebridge.models.families import FAMILIES, built_in
from mattebridge.models.weights.file import (
    MAX_WEIGHTS_BYTES,
    UNKNOWN_LICENCE,
    WeightsRecord,
    digest_of,
    read_whole,
)
from mattebridge.whole_files import replace_file, sweep_temporaries
from mattebridge.wire import file_locks, oslayer

log = logging.getLogger(__name__)

VARIABLE = "MATTEBRIDGE_MODELS"
VERSION = 1
REGISTRY = "models.json"
WEIGHTS = "weights"
LOCK = "lock"
# Names of a few thousand models; a larger file is damage.
MAX_REGISTRY_BYTES = 1 << 20
MAX_TEXT = 200

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_STORED = re.compile("[0-9a-f]{64}")

Settings = Mapping[str, Union[str, int]]


def models_folder() -> Path:
    """The folder of the user's weights; `UsageError` where the setting is not a full path."""
    given = os.environ.get(VARIABLE)
    if given:
        folder = Path(given).expanduser()
        if not folder.is_absolute():
            raise UsageError(f"{VARIABLE} is '{given}'; it must be the full path of a folder")
        return folder
    return oslayer.current().data_folder() / "models"


class NoModels:
    """A source without models, because the setting of the folder is wrong."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __call__(self) -> Mapping[str, Entry]:
        return {}


def users_models() -> Union[InstalledModels, NoModels]:
    """The models of the user's folder; none, with a `problem`, where its setting is wrong."""
    try:
        return InstalledModels(models_folder())
    except UsageError as error:
        return NoModels(error.message)


class InstalledModels:
    """The models of a folder: a source for `Registry`, and the commands that change the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: Any = "nothing yet"
        self._records: dict[str, WeightsRecord] = {}
        self._entries: dict[str, Entry] = {}
        # Why models may be missing, as a sentence; empty when all is well.
        self.problem = ""

    # -- reading ----------------------------------------------------------------------------------

    def __call__(self) -> Mapping[str, Entry]:
        """The models as entries; read again when the registry file has changed."""
        self._look()
        return self._entries

    def records(self) -> dict[str, WeightsRecord]:
        """The records by name, also those of families that this version does not know."""
        self._look()
        return dict(self._records)

    def check(self, name: str) -> WeightsRecord:
        """Read the file of a model again; `ModelError` unless it is the one that was added."""
        record = self.records().get(name)
        if record is None:
            raise self._unknown(name)
        record.read()
        return record

    def _unknown(self, name: str) -> ModelError:
        if name in built_in() or name == DEFAULT:
            return ModelError(f"model '{name}' is built in and has no file", reason="built_in")
        added = ", ".join(sorted(self._records)) or "none"
        why = f" ({self.problem})" if self.problem else ""
        return ModelError(
            f"no model '{one_line(name, MAX_TEXT)}' was added; those that were: {added}{why}",
            reason="unknown",
        )

    def _look(self) -> None:
        seen = _stamp(self.folder / REGISTRY)
        if seen == self._seen:
            return
        self._seen = seen
        problems: list[str] = []
        try:
            self._records = _records(self.folder, _read_registry(self.folder), problems)
        except ModelError as error:
            self._records = {}
            problems.append(error.message)
        self._entries = _entries(self._records, problems)
        self.problem = "; ".join(problems)
        for problem in problems:
            log.warning("%s", problem)

    # -- changing ---------------------------------------------------------------------------------

    def add(
        self,
        file: Path,
        name: str,
        *,
        licence: str = "",
        screen: str = "",
        replace: bool = False,
    ) -> WeightsRecord:
        """Copy a checkpoint into the folder under a name, once it was recognised.

        screen: the colour of screen that it was trained on, for families that have one. The same
        file under the same name again changes nothing but licence and screen, if they are given.
        Raises `UsageError` for a name that is not allowed or taken and for a screen where there is
        none, `ModelError` for a file that is not a checkpoint, is damaged, or does not fit any
        network here.
        """
        check_name(name)
        label = f"weights file {file}"
        data = read_whole(file, label)
        family, settings = _recognised(data, label, file.name)
        if screen and "screen" not in settings:
            raise UsageError(f"{label} is of {family}, which has no screen: leave out --screen")
        digest = digest_of(data)
        with self._locked():
            models = _read_registry(self.folder)
            old = _records(self.folder, models, []).get(name)
            if old is not None and old.digest != digest and not replace:
                raise UsageError(
                    f"a model '{name}' was added already, from {old.file_name or 'another file'}; "
                    "choose another --name, or use --replace"
                )
            record = WeightsRecord(
                name=name,
                path=str(_stored(self.folder, digest)),
                digest=digest,
                family=family,
                settings=_with_screen(settings, screen, old),
                licence=one_line(licence, MAX_TEXT) or (old.licence if old else UNKNOWN_LICENCE),
                size_bytes=len(data),
                file_name=one_line(file.name, MAX_TEXT),
                added=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            )
            self._store(record, data)
            self._write({**models, name: _to_json(record)})
        return record

    def remove(self, name: str) -> None:
        """Remove a model, and its file unless another name refers to it.

        Raises `ModelError` for a name that was not added.
        """
        with self._locked():
            models = _read_registry(self.folder)
            if name not in models:
                self._look()
                raise self._unknown(name)
            del models[name]
            self._write(models)

    def _store(self, record: WeightsRecord, data: bytes) -> None:
        """Write the file under its digest, unless it is there and whole."""
        try:
            record.read()
        except ModelError:
            _written(Path(record.path), data)

    def _write(self, models: Mapping[str, Any]) -> None:
        text = json.dumps({"version": VERSION, "models": models}, indent=2, sort_keys=True) + "\n"
        _written(self.folder / REGISTRY, text.encode())
        # Of damaged entries as well: a user who repairs one by hand still needs the file.
        self._sweep(set(_STORED.findall(text)))

    def _sweep(self, kept: set[str]) -> None:
        """Remove weights that no name refers to, and the temporary files of killed commands."""
        sweep_temporaries([self.folder, self.folder / WEIGHTS])
        for name in os.listdir(self.folder / WEIGHTS):
            if _STORED.fullmatch(name) and name not in kept:
                with contextlib.suppress(OSError):
                    os.unlink(self.folder / WEIGHTS / name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The folder, made on first use, locked: one command at a time changes it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / WEIGHTS).mkdir(mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | oslayer.OWN_FILE
            descriptor = os.open(self.folder / LOCK, flags, 0o600)
        except OSError as failure:
            raise _not_writable(self.folder, failure) from failure
        try:
            with file_locks.locked(descriptor):
                yield
        finally:
            os.close(descriptor)


def check_name(name: str) -> None:
    """Raise `UsageError` for what cannot be the name of a user's model."""
    if not NAME_PATTERN.fullmatch(name) or not re.search("[a-z0-9]", name):
        raise UsageError(
            f"'{one_line(name, MAX_TEXT)}' is not a model name; one has 1 to 64 of a-z 0-9 . _ -, "
            "and a letter or digit among them"
        )
    if name in built_in() or name == DEFAULT:
        raise UsageError(f"'{name}' is the name of a built-in model; choose another --name")


# --- the registry ---------------------------------------------------------------------------------


def _stamp(path: Path) -> Optional[tuple[int, ...]]:
    """Figures that change when the file is replaced or edited; None when it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read_registry(folder: Path) -> dict[str, Any]:
    """The entries of a registry file by name; none without a file.

    Raises `ModelError` for a file that cannot be read, which must not be overwritten.
    """
    path = folder / REGISTRY
    text = _registry_text(path)
    if text is None:
        return {}
    try:
        found = json.loads(text)
        version, models = found["version"], found["models"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(path, "it is not what `mattebridge models add` wrote") from error
    if not isinstance(version, int) or not isinstance(models, dict):
        raise _damaged(path, "it is not what `mattebridge models add` wrote")
    if version > VERSION:
        raise _damaged(path, f"it was written by a newer mattebridge (version {version})")
    return models


def _registry_text(path: Path) -> Optional[str]:
    try:
        descriptor = os.open(path, os.O_RDONLY | oslayer.NO_WAIT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as failure:
        raise _damaged(path, f"it cannot be read ({failure.strerror})") from failure
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_REGISTRY_BYTES:
            raise _damaged(path, "it is not a file, or too large")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_REGISTRY_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise _damaged(path, "it cannot be read") from failure
    finally:
        os.close(descriptor)


def _records(
    folder: Path, models: Mapping[str, Any], problems: list[str]
) -> dict[str, WeightsRecord]:
    """The entries that are complete; of each other one a sentence goes to `problems`."""
    records = {}
    for name, fields in models.items():
        try:
            records[name] = _from_json(folder, name, fields)
        except (TypeError, ValueError, KeyError, AttributeError):
            problems.append(
                f"'{one_line(name, MAX_TEXT)}' in {folder / REGISTRY} is damaged: remove it and "
                "add the model again"
            )
    return records


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} cannot be used: {why}; move it away and add your models again", reason="registry"
    )


def _from_json(folder: Path, name: str, fields: Mapping[str, Any]) -> WeightsRecord:
    if not NAME_PATTERN.fullmatch(name) or not _DIGEST.fullmatch(fields["digest"]):
        raise ValueError("name or digest")
    settings = fields["settings"]
    if not all(isinstance(k, str) and isinstance(v, (str, int)) for k, v in settings.items()):
        raise TypeError("settings")
    texts = {key: fields[key] for key in ("family", "licence", "file_name", "added")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError("texts")
    size_bytes = fields["size_bytes"]
    if not isinstance(size_bytes, int) or not 0 <= size_bytes <= MAX_WEIGHTS_BYTES:
        raise ValueError("size_bytes")
    return WeightsRecord(
        name=name,
        path=str(_stored(folder, fields["digest"])),
        digest=fields["digest"],
        settings=dict(settings),
        size_bytes=size_bytes,
        **texts,
    )


def _to_json(record: WeightsRecord) -> dict[str, Any]:
    kept = ("digest", "size_bytes", "family", "settings", "licence", "file_name", "added")
    fields = {name: getattr(record, name) for name in kept}
    return {**fields, "settings": dict(record.settings)}


def _entries(records: Mapping[str, WeightsRecord], problems: list[str]) -> dict[str, Entry]:
    entries = {}
    for name, record in records.items():
        family = FAMILIES.get(record.family)
        if name in built_in() or name == DEFAULT:
            problems.append(f"the added model '{name}' has the name of a built-in one: remove it")
        elif family is None or family.entry is None:
            problems.append(f"model '{name}' is of a family that this version does not know")
        else:
            try:
                entries[name] = family.entry_of(record)
            except (KeyError, TypeError, ValueError):
                problems.append(f"the entry of model '{name}' is incomplete: add it again")
    return entries


# --- files ----------------------------------------------------------------------------------------


def _recognised(data: bytes, label: str, file_name: str) -> tuple[str, Settings]:
    """The family of a file and the settings of its record; `ModelError`. Imports torch."""
    try:
        from mattebridge.models.weights.state_dict import parse_state_dict
    except ImportError as error:
        raise ModelError(
            "adding weights needs torch: pip install 'mattebridge[daemon]'",
            reason="import",
        ) from error
    state = parse_state_dict(data, label, file_name=file_name)
    refusals = []
    for name, family in FAMILIES.items():
        if family.describe is None:
            continue
        try:
            return name, family.described(state)
        except ModelError as error:
            refusals.append(error)
    # The most specific one: a family whose weights these are not gives the reason "family".
    refusal = next((e for e in refusals if e.details.get("reason") != "family"), refusals[0])
    raise ModelError(f"{label}: {refusal.message}", **refusal.details) from refusal


def _with_screen(settings: Settings, screen: str, old: Optional[WeightsRecord]) -> Settings:
    """The settings of a record with the screen that the user gave, now or before."""
    if "screen" not in settings:
        return settings
    before = old.settings.get("screen") if old is not None else None
    return {**settings, "screen": screen or before or settings["screen"]}


def _stored(folder: Path, digest: str) -> Path:
    return folder / WEIGHTS / digest.removeprefix("sha256:")


def _written(path: Path, data: bytes) -> None:
    try:
        replace_file(path, data)
    except FrameWriteError as failure:
        cause = failure.__cause__
        raise _not_writable(path, cause if isinstance(cause, OSError) else OSError()) from failure


def _not_writable(path: Path, failure: OSError) -> ModelError:
    return ModelError(
        f"cannot write {path}: {failure.strerror or 'unknown reason'}; make room there, or set "
        f"{VARIABLE} to another folder",
        reason="write",
    )
