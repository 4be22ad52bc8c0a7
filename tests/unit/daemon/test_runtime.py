"""The runtime folder: its name, its safety, its lock, its log and its status."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mattebridge.daemon import control
from mattebridge.daemon import runtime as runtime_module
from mattebridge.daemon.runtime import Runtime
from mattebridge.errors import ConnectionFailed, UnsafeRuntimeError
from mattebridge.wire.folder import (
    INSTANCE,
    check_folder,
    check_path_length,
    instance_name,
    runtime_folder,
)


@pytest.fixture(autouse=True)
def _mask() -> Iterator[None]:
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r") / "i"


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["v1", "a", "0", "job-42.frame_7", "a" * 64])
def test_a_plain_name_is_an_instance(name: str) -> None:
    assert instance_name(name) == name


@pytest.mark.parametrize("name", ["Job 42", "-x", ".hidden", "a" * 65, "ärger", "A"])
def test_any_other_name_becomes_a_digest_of_itself(name: str) -> None:
    made = instance_name(name)
    assert made.startswith("job-")
    assert INSTANCE.match(made)
    assert made == instance_name(name)
    assert made != instance_name(name + "x")


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "a..b", "a\0b"])
def test_a_name_that_would_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(UnsafeRuntimeError, match="would leave"):
        instance_name(name)


def test_the_instance_is_the_argument_then_the_environment_then_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert instance_name() == "v1"
    monkeypatch.setenv("MATTEBRIDGE_INSTANCE", "shot42")
    assert instance_name() == "shot42"
    assert instance_name("other") == "other"


def test_an_absolute_path_is_an_instance_in_the_environment_as_in_the_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_INSTANCE", "/run/farm/job")
    assert runtime_folder() == Path("/run/farm/job")
    assert runtime_folder("/run/other") == Path("/run/other")
    assert runtime_folder("v1").name == "v1"
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", "/run/elsewhere")
    assert runtime_folder() == Path("/run/elsewhere")
    monkeypatch.delenv("MATTEBRIDGE_RUNTIME_DIR")
    monkeypatch.setenv("MATTEBRIDGE_INSTANCE", "run/farm")
    with pytest.raises(UnsafeRuntimeError, match="would leave"):
        runtime_folder()


# -- places --------------------------------------------------------------------------------------


def test_the_folder_is_below_the_users_runtime_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder() == tmp_path / "mattebridge" / "v1"
    assert runtime_folder("farm") == tmp_path / "mattebridge" / "farm"


def test_without_a_runtime_directory_it_is_a_folder_of_the_users_own_in_the_temporary_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "absent"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    assert runtime_folder() == Path(f"/tmp/mattebridge-{os.getuid()}/v1")


def test_a_relative_or_unusable_runtime_directory_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative/folder")
    assert "relative" not in str(runtime_folder())


def test_an_absolute_path_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime_folder("/run/farm/job") == Path("/run/farm/job")
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", "/run/elsewhere")
    assert runtime_folder() == Path("/run/elsewhere")
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", "elsewhere")
    with pytest.raises(UnsafeRuntimeError, match="absolute"):
        runtime_folder()


def test_a_socket_path_may_have_107_bytes_and_no_more() -> None:
    longest = Path("/" + "x" * (107 - len("//door")))
    check_path_length(longest)
    with pytest.raises(UnsafeRuntimeError, match=r"108 bytes.*107.*MATTEBRIDGE_RUNTIME_DIR"):
        check_path_length(longest.with_name(longest.name + "x"))
    with pytest.raises(UnsafeRuntimeError):
        # Bytes count, not letters.
        check_path_length(Path("/" + "ä" * 60))


# -- safety --------------------------------------------------------------------------------------


def test_the_folder_is_made_private_with_all_that_leads_to_it(folder: Path) -> None:
    deep = folder / "mattebridge" / "v1"
    os.umask(0)
    Runtime(deep).prepare()
    for path in (deep, deep.parent, deep.parent.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    Runtime(deep).prepare()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755, 0o701])
def test_a_folder_that_is_open_to_others_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UnsafeRuntimeError, match=r"open to other users.*chmod 700"):
        Runtime(folder).prepare()


def test_a_folder_that_is_a_link_or_a_file_is_refused(folder: Path) -> None:
    elsewhere = folder.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    with pytest.raises(UnsafeRuntimeError, match="not a folder"):
        Runtime(folder).prepare()
    folder.unlink()
    folder.touch()
    with pytest.raises(UnsafeRuntimeError):
        Runtime(folder).prepare()


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o700)
    someone = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: someone)
    with pytest.raises(UnsafeRuntimeError, match=f"belongs to user {someone - 1}"):
        check_folder(folder)


def test_nothing_is_made_behind_a_link_that_another_user_planted(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    planted = tmp_path / "mattebridge-1000"
    planted.symlink_to(victim)
    _give_away(planted)
    with pytest.raises(UnsafeRuntimeError, match=rf"{planted} belongs to user"):
        Runtime(planted / "v1").prepare()
    assert list(victim.iterdir()) == []


def test_nothing_is_made_behind_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    planted = tmp_path / "mattebridge-1000"
    planted.symlink_to(tmp_path / "victim" / "new")
    (tmp_path / "victim").mkdir(mode=0o700)
    with pytest.raises(UnsafeRuntimeError, match="leads nowhere"):
        Runtime(planted / "v1").prepare()
    assert list((tmp_path / "victim").iterdir()) == []


def test_nothing_is_made_in_a_folder_of_another_user(tmp_path: Path) -> None:
    parent = tmp_path / "theirs"
    parent.mkdir(mode=0o755)
    _give_away(parent)
    with pytest.raises(UnsafeRuntimeError, match=rf"{parent} belongs to user"):
        Runtime(parent / "mattebridge" / "v1").prepare()
    assert list(parent.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o772])
@pytest.mark.parametrize("made_before", [False, True])
def test_a_parent_that_others_can_write_is_refused(
    tmp_path: Path, mode: int, made_before: bool
) -> None:
    parent = tmp_path / "mattebridge"
    parent.mkdir()
    if made_before:
        Runtime(parent / "v1").prepare()
    parent.chmod(mode)
    with pytest.raises(UnsafeRuntimeError, match=rf"written by others .*chmod go-w {parent}"):
        Runtime(parent / "v1").prepare()
    assert (parent / "v1").exists() == made_before


def test_a_shared_parent_whose_entries_belong_to_their_makers_is_taken(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    (tmp_path / "link").symlink_to(tmp_path / "tmp")
    Runtime(tmp_path / "link" / "v1").prepare()
    assert stat.S_IMODE((tmp_path / "tmp" / "v1").stat().st_mode) == 0o700


def _give_away(path: Path) -> None:
    """Make it another user's, which takes root."""
    if os.geteuid() != 0:
        pytest.skip("giving a file to another user takes root")
    os.chown(path, 4321, -1, follow_symlinks=False)


def test_a_folder_that_cannot_be_made_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnsafeRuntimeError, match="MATTEBRIDGE_RUNTIME_DIR"):
        Runtime(tmp_path / "file" / "v1").prepare()


# -- lock ----------------------------------------------------------------------------------------


def _prepared(folder: Path) -> Runtime:
    runtime = Runtime(folder)
    runtime.prepare()
    return runtime


def _release(runtime: Runtime) -> None:
    """What the end of the holder's process does."""
    runtime.remove_sockets()
    assert runtime._lock_fd is not None
    os.close(runtime._lock_fd)


def test_one_holds_the_lock_and_the_next_gets_it_at_its_end(folder: Path) -> None:
    first, second = _prepared(folder), _prepared(folder)
    assert first.acquire()
    assert not second.acquire()
    first.remove_sockets()
    assert not second.acquire()
    _release(first)
    assert second.acquire()
    _release(second)
    assert stat.S_IMODE((folder / "lock").stat().st_mode) == 0o600


def test_the_lock_is_free_at_once_after_its_holder_was_killed(folder: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path;"
        "from mattebridge.daemon.runtime import Runtime; r = Runtime(Path(sys.argv[1]));"
        "r.prepare(); print(r.acquire(), flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "True"
        runtime = _prepared(folder)
        assert not runtime.acquire()
        holder.kill()
        holder.wait(60)
        assert runtime.acquire()
        _release(runtime)
    finally:
        holder.kill()
        holder.communicate()


def test_the_lock_is_not_inherited_by_children(folder: Path) -> None:
    runtime = _prepared(folder)
    assert runtime.acquire()
    assert runtime._lock_fd is not None
    assert not os.get_inheritable(runtime._lock_fd)
    _release(runtime)


def test_a_lock_that_is_a_link_is_refused(folder: Path) -> None:
    runtime = _prepared(folder)
    (folder / "lock").symlink_to("/etc/passwd")
    with pytest.raises(UnsafeRuntimeError, match="lock"):
        runtime.acquire()


def test_a_file_system_without_locks_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = _prepared(folder)

    def no_locks(_fd: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnsafeRuntimeError, match=r"No locks available.*local disk"):
        runtime.acquire()
    assert len(os.listdir("/proc/self/fd")) == before


def test_leftovers_are_swept_by_the_holder_of_the_lock_alone(folder: Path) -> None:
    runtime = _prepared(folder)
    for name in ("door", "ctl", "ctl.tmp", ".status.json.1.tmp", "log", "status.json", "notes"):
        (folder / name).touch()
    assert runtime.acquire()
    assert {path.name for path in folder.iterdir()} == {"lock", "log", "status.json", "notes"}
    (folder / "door").touch()
    assert not _prepared(folder).acquire()
    assert (folder / "door").exists()
    _release(runtime)


def test_a_folder_that_was_taken_away_is_noticed_and_its_successor_left_alone(
    folder: Path,
) -> None:
    runtime = _prepared(folder)
    assert runtime.acquire()
    (folder / "door").touch()
    runtime.bound()
    assert runtime.still_there()
    (folder / "door").unlink()
    assert not runtime.still_there()
    (folder / "other").touch()
    (folder / "door").touch()
    assert not runtime.still_there() or os.lstat(folder / "door").st_ino == runtime._inode
    _release(runtime)


# -- status and log ------------------------------------------------------------------------------


def test_the_status_is_replaced_whole_and_private(folder: Path) -> None:
    runtime = _prepared(folder)
    for state in ("starting", "ready"):
        runtime.write_status({"state": state})
        assert json.loads((folder / "status.json").read_text()) == {"state": state}
    assert stat.S_IMODE((folder / "status.json").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["status.json"]


def test_a_status_that_cannot_be_written_stops_nothing_and_leaves_nothing(folder: Path) -> None:
    runtime = _prepared(folder)
    runtime.write_status({"state": "ready"})
    with _small_files(4):
        runtime.write_status({"state": "x" * 1000})
    assert json.loads((folder / "status.json").read_text()) == {"state": "ready"}
    assert [path.name for path in folder.iterdir()] == ["status.json"]


@contextlib.contextmanager
def _small_files(limit: int) -> Iterator[None]:
    """Like a full disk: no file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_log_that_cannot_be_written_stops_nothing(folder: Path) -> None:
    runtime = _prepared(folder)
    root = logging.getLogger()
    handlers, level, loud = list(root.handlers), root.level, logging.raiseExceptions
    try:
        runtime.open_log(to_terminal=False)
        assert stat.S_IMODE((folder / "log").stat().st_mode) == 0o600
        with _small_files(4):
            logging.getLogger("mattebridge.test").info("a line that does not fit")
        logging.getLogger("mattebridge.test").info("a line that does")
        assert (folder / "log").read_text().endswith("a line that does\n")
    finally:
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        logging.raiseExceptions = loud


def test_starting_a_daemon_leaves_the_callers_mask_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_accepts", lambda _folder: False)
    monkeypatch.setattr(control, "LAUNCH_LIMIT_S", 0.0)
    monkeypatch.setattr(control.sys, "executable", "/bin/true")
    os.umask(0o022)
    with pytest.raises(ConnectionFailed):
        control.serve(str(folder), detach=True, auto=True)
    assert os.umask(0o022) == 0o022
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# -- the process ---------------------------------------------------------------------------------


def test_the_limit_of_open_files_is_raised_as_far_as_is_allowed() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2048));"
        "from mattebridge.daemon.runtime import raise_descriptor_limit;"
        "raise_descriptor_limit(); print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "(2048, 2048)"


def test_a_reader_without_its_c_extension_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime_module.check_reader()

    class Slow:
        Unpacker = type("Unpacker", (), {"__module__": "msgpack.fallback"})

    monkeypatch.setattr(runtime_module, "msgpack", Slow)
    with pytest.raises(UnsafeRuntimeError, match="C extension"):
        runtime_module.check_reader()
