"""The steps of `mattebridge install`: each is printed, done, and written down for `--undo`.

    <to>/mattebridge-nuke.json   files: made here          trees: folders filled here
                                 lines: files of others that got one marked line, with the bytes
                                 interpreter: the note for the daemon's start, and the one before
                                 logon: the command that Windows runs at logon

Files of a host are bytes: they keep their encoding, their line ends and their permissions. The rule
that must not be broken: a file is replaced whole, and what this list does not name stays untouched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable

from mattebridge.commands.logon_entry import read_entry, remove_entry, write_entry
from mattebridge.daemon.interpreter_note import forget_interpreter, note_interpreter
from mattebridge.errors import FrameWriteError, UsageError, one_line
from mattebridge.whole_files import write_whole


class Steps:
    """Prints each step and does it, unless this is a dry run; records what was made."""

    def __init__(self, host: str, to: Path, *, dry: bool, undo_with: str) -> None:
        self.host, self.to, self.dry = host, to, dry
        self.undo_with = undo_with
        self.list = to / f"mattebridge-{host}.json"
        self.made: dict[str, Any] = {"files": [], "trees": [], "lines": [], "added": {}}
        self._again = False
        self._now: set[str] = set()  # files of this installation, not of an earlier one

    def begin(self) -> None:
        """Read what an earlier installation made here. Raises `UsageError`."""
        place = self.to
        while not place.exists():
            place = place.parent
        if not self.dry and not os.access(place, os.W_OK):
            raise UsageError(f"{place} cannot be written; choose another folder with --to")
        with contextlib.suppress(OSError, ValueError):
            self.made.update(json.loads(self.list.read_text("utf-8")))
            self._again = True

    def do(self, words: str, action: Callable[[], Any]) -> None:
        """Print a step and do it. Raises `UsageError` where the system refuses it."""
        print(f"{'would ' if self.dry else ''}{words}", flush=True)
        if self.dry:
            return
        try:
            action()
        except OSError as error:
            # Windows keeps a file that a program has open, such as a plugin that a host has loaded.
            at = error.filename2 or error.filename
            place = f" at {at}" if at and str(at) not in words else ""
            raise UsageError(
                f"cannot {words}: {error.strerror or error}{place}; close the programs that may"
                " have it open (the host, a viewer), see that you may write there, and try again"
            ) from error

    # -- files of mattebridge -----------------------------------------------------------------

    def copy(self, source: Path, target: Path) -> None:
        """A copy of a file."""
        self.write(target, source.read_bytes())

    def write(self, target: Path, data: bytes) -> None:
        """A file of mattebridge; another one of the same name stays, and is an error."""
        self._now.add(str(target))
        if self._is_foreign(target, data):
            raise UsageError(
                f"{target} exists and was not put there by mattebridge: move it away, or choose"
                " another folder with --to"
            )

        def action() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._record("files", target)
            write_whole(target, data)

        self.do(f"write {target}", action)

    def link(self, target: Path, to: str) -> None:
        """A symbolic link of mattebridge; what else has that name stays, and is an error."""
        self._now.add(str(target))
        there = os.path.lexists(target)
        ours = target.is_symlink() and os.readlink(target) == to
        if there and not ours:
            raise UsageError(
                f"{target} exists and was not put there by mattebridge: move it away, or choose"
                " another folder with --to"
            )

        def action() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._record("files", target)
            if not there:
                target.symlink_to(to)

        self.do(f"link {target} to {to}", action)

    def _is_foreign(self, target: Path, data: bytes) -> bool:
        if str(target) in self.made["files"] or not os.path.lexists(target):
            return False
        return not target.is_file() or target.read_bytes() != data

    def tree(self, target: Path, fill: Callable[[Path], Any]) -> None:
        """Fill a folder, whole or not at all; an old one stays until the new one is complete."""

        def action() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                prefix=".mattebridge-", dir=target.parent, ignore_cleanup_errors=True
            ) as name:
                place = Path(name)
                fill(place / target.name)
                self._record("trees", target)
                _exchange(place / target.name, target, place / "old")
            if place.exists():  # a host has a file of the old one open
                self._record("trees", place)

        self.do(f"fill {target}", action)

    # -- a file of the user's -----------------------------------------------------------------

    def add_line(self, target: Path, line: str) -> None:
        """One line at the end of a file of the user's, in that file's own line ends."""

        def action() -> None:
            before = target.read_bytes() if target.exists() else None
            if b"\0" in (before or b""):
                raise UsageError(f"{target} is not a text file of Python: look into it first")
            if line.encode().strip() not in (before or b""):
                added = _line_for(before or b"", line)
                self.made["added"][str(target)] = {"text": added.decode(), "new": before is None}
                self._record("lines", target)
                target.parent.mkdir(parents=True, exist_ok=True)
                replace_bytes(target, (before or b"") + added)
            self._record("lines", target)

        self.do(f"add one line to {target}", action)

    # -- the logon of Windows -----------------------------------------------------------------

    def run_at_logon(self, command: str) -> None:
        """A command that Windows runs at logon; another one of the name stays, and is an error."""
        there = read_entry()
        if there not in (None, command, self.made.get("logon")):
            raise UsageError(
                f"at logon Windows runs `{there}` under the name of mattebridge, which was not put"
                " there by this installation: remove it in Settings, Apps, Startup, or undo the"
                " other installation"
            )

        def action() -> None:
            self.made["logon"] = command
            self._save()
            write_entry(command)

        self.do(f"have Windows run {command} at logon", action)

    # -- the interpreter ----------------------------------------------------------------------

    def note_interpreter(self, python: str) -> None:
        """Write down the Python that starts the daemon, in the place of another one."""

        def action() -> None:
            try:
                before = note_interpreter(python)
            except FrameWriteError as error:
                print(
                    f"mattebridge: not recorded: {one_line(error.message)}. Set"
                    " MATTEBRIDGE_DAEMON_PYTHON for the host instead"
                )
                return
            if before is not None and before != python:
                print(f"  it was {before}")
            earlier = self.made.get("interpreter") or {"before": before}
            self.made["interpreter"] = {"python": python, "before": earlier["before"]}
            self._save()

        self.do(f"record {python} as the Python that starts the daemon", action)

    # -- the list -----------------------------------------------------------------------------

    def _record(self, kind: str, target: Path) -> None:
        """Write down what is about to be made, so that what is interrupted can be undone."""
        if str(target) not in self.made[kind]:
            self.made[kind].append(str(target))
        self._save()

    def _save(self) -> None:
        self.list.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.list, (json.dumps(self.made, indent=1) + "\n").encode())

    def finish(self, then: str) -> None:
        """Remove what an earlier installation has and this one has not; print what is next."""
        left = [name for name in self.made["files"] if name not in self._now]
        for name in left:
            self.do(f"remove {name}", partial(Path(name).unlink, missing_ok=True))
        if left and not self.dry:
            self.made["files"] = [name for name in self.made["files"] if name in self._now]
            self._save()
            _remove_empty(self.to, left)
        words = "nothing was done" if self.dry else f"done; {then}"
        print(f"mattebridge: {words}. Remove it with `{self.undo_with}`")

    def abandon(self) -> None:
        """After an error: remove what was made, unless an earlier installation is there too."""
        if self.dry or not self.list.exists():
            return
        if self._again:
            print(f"mattebridge: not finished. Remove it with `{self.undo_with}`")
        else:
            self.undo()

    def undo(self) -> None:
        """Remove what the list names, and the folders that are then empty. Raises `UsageError`."""
        try:
            made = json.loads(self.list.read_text("utf-8"))
        except (OSError, ValueError):
            raise UsageError(
                f"`mattebridge install {self.host}` has put nothing into {self.to}; name with --to"
                " the folder that it used"
            ) from None
        for name in made.get("trees", []):
            self.do(f"remove {name}", partial(_remove_tree, name))
        for name in made.get("files", []):
            self.do(f"remove {name}", partial(Path(name).unlink, missing_ok=True))
        for name in made.get("lines", []):
            added = made.get("added", {}).get(name)
            self.do(f"remove one line from {name}", partial(_drop_line, Path(name), added))
        logon = made.get("logon")
        if logon:
            self.do(f"no longer run {logon} at logon", partial(remove_entry, logon))
        noted = made.get("interpreter")
        if noted:
            self.do(
                f"no longer record {noted['python']} as the Python that starts the daemon",
                partial(forget_interpreter, noted["python"], noted["before"]),
            )
        self.do(f"remove {self.list}", lambda: self.list.unlink(missing_ok=True))
        if not self.dry:
            _remove_empty(self.to, [*made.get("trees", []), *made.get("files", [])])


def _exchange(new: Path, target: Path, old: Path) -> None:
    """Give a folder the name of another one, which gets a third; all as before where that fails."""
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _remove_tree(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(name)


def replace_bytes(path: Path, data: bytes) -> None:
    """Replace a file of the user's whole: behind a link, and with the permissions that it had."""
    place = Path(os.path.realpath(path))
    mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else None
    write_whole(place, data)
    if mode is not None:
        place.chmod(mode)


def _line_for(before: bytes, line: str) -> bytes:
    end = b"\r\n" if b"\r\n" in before else b"\n"
    first = end if before and not before.endswith((b"\n", b"\r")) else b""
    return first + line.encode().rstrip(b"\n") + end


def _drop_line(path: Path, added: Any) -> None:
    with contextlib.suppress(FileNotFoundError):
        data = path.read_bytes()
        if added is not None and added["text"].encode() in data:
            left = data.replace(added["text"].encode(), b"", 1)
        else:
            # The user has edited it since: only the marked line itself goes.
            left = b"".join(line for line in data.splitlines(True) if MARK not in line)
        if left or not (added is None or added["new"]):
            replace_bytes(path, left)
        else:
            path.unlink()


# In the line that is added: by it the line is found in a file that was edited since.
MARK = b"# mattebridge install "


def _remove_empty(to: Path, names: Sequence[str]) -> None:
    for name in names:
        folder = Path(name).parent
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        while folder != to and to in folder.parents:
            with contextlib.suppress(OSError):
                folder.rmdir()
            folder = folder.parent
