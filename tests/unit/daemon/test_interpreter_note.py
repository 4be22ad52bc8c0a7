"""Which Python starts the daemon: who notes it, when a note is replaced, when it is not obeyed."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from mattebridge import interpreter
from mattebridge.daemon import control, interpreter_note
from mattebridge.errors import ConnectionFailed, UnsafeRuntimeError

NOWHERE = "/nowhere/bin/python"


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the note, in a configuration folder of this test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("MATTEBRIDGE_DAEMON_PYTHON", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    path = tmp_path / "config" / "mattebridge" / "daemon.json"
    path.parent.mkdir(parents=True, mode=0o700)
    return path


def write(note: Path, python: str) -> None:
    note.write_text(json.dumps({"python": python}))
    note.chmod(0o600)


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def serve_in_the_background(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(control, "_start_detached", lambda *_: 0)
    assert control.serve(str(folder), detach=True) == 0


def without_mattebridge(tmp_path: Path) -> str:
    """A Python whose environment has lost mattebridge: it runs, and finds no module."""
    return script(tmp_path / "empty-python", f'exec {sys.executable} -I -S "$@"')


def test_serve_notes_its_own_interpreter_where_none_is_noted(
    note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_in_the_background(monkeypatch, tmp_path / "run")
    assert interpreter.daemon_command() == [sys.executable, "-m", "mattebridge"]
    assert stat.S_IMODE(note.stat().st_mode) == 0o600


@pytest.mark.parametrize("broken", ["gone", "without mattebridge", "hangs", "damaged"])
def test_serve_replaces_a_note_that_can_no_longer_start_a_daemon(
    broken: str, note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "hangs":
        monkeypatch.setattr(interpreter_note, "FIND_LIMIT_S", 1.0)
    if broken == "damaged":
        note.write_text('{"python": ')
    elif broken == "hangs":
        write(note, script(tmp_path / "slow-python", "exec sleep 600"))
    else:
        write(note, NOWHERE if broken == "gone" else without_mattebridge(tmp_path))
    serve_in_the_background(monkeypatch, tmp_path / "run")
    assert json.loads(note.read_text()) == {"python": sys.executable}


def test_serve_keeps_a_note_of_another_environment_that_can_start_a_daemon(
    note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = script(tmp_path / "other-python", f'exec {sys.executable} "$@"')
    write(note, other)
    serve_in_the_background(monkeypatch, tmp_path / "run")
    assert interpreter.daemon_command() == [other, "-m", "mattebridge"]


def test_an_environment_without_the_daemon_half_is_not_noted(
    note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "DAEMON_HALF", ("no_such_module",))
    serve_in_the_background(monkeypatch, tmp_path / "run")
    assert not note.exists()


def test_without_a_note_and_without_path_the_command_of_this_installation_is_found(
    note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in Nuke: the executable is the host, and nobody may start it.
    monkeypatch.setattr(sys, "executable", "/opt/Nuke15.1/Nuke15.1")
    (command,) = interpreter.daemon_command()
    assert Path(command).name == "mattebridge"
    assert os.access(command, os.X_OK)


def test_where_only_the_client_half_is_installed_a_broken_note_is_named(
    note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "DAEMON_HALF", ("no_such_module",))
    write(note, NOWHERE)
    with pytest.raises(ConnectionFailed, match=rf"{NOWHERE}, named in {note}, is not there"):
        interpreter.daemon_command()


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_note_that_others_may_have_written_is_not_obeyed_until_serve_has_written_it_anew(
    what: str, mode: int, note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(note, script(tmp_path / "python", "touch /tmp/obeyed"))
    opened = note if what == "file" else note.parent
    opened.chmod(mode if what == "file" else mode | 0o111)
    with pytest.raises(UnsafeRuntimeError, match=rf"{opened} belongs to user .*chmod go-w"):
        interpreter.daemon_command()
    # An interpreter that is named elsewhere needs no note.
    assert interpreter.daemon_command("/usr/bin/python3")[0] == "/usr/bin/python3"
    serve_in_the_background(monkeypatch, tmp_path / "run")
    assert interpreter.daemon_command() == [sys.executable, "-m", "mattebridge"]


def test_a_note_of_another_user_is_not_obeyed(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(note, sys.executable)
    if os.geteuid() == 0:
        os.chown(note, 4321, -1)
    else:
        someone = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: someone)
    with pytest.raises(UnsafeRuntimeError, match="belongs to user"):
        interpreter.daemon_command()


def test_a_pipe_in_the_place_of_the_note_keeps_nobody_waiting(note: Path) -> None:
    os.mkfifo(note, 0o600)
    assert interpreter.noted_interpreter() is None
