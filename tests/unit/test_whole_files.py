"""Files that are whole or absent, on disks that are full, read-only or in the way."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest

from fakes.limits import SOON_S
from fakes.places import BRIDGE
from mattebridge import whole_files
from mattebridge.errors import FrameWriteError, UsageError
from mattebridge.image_io import check_frame, write_frame
from mattebridge.whole_files import (
    GrowingFile,
    check_names,
    link_whole,
    replace_file,
    sweep_temporaries,
    temporary_name,
    write_whole,
)
from mattebridge.wire import oslayer
from mattebridge.wire.windows_names import fault_of

FORMATS = ["a.exr", "a.png", "a.jpg", "a.tif", "a.dpx"]


def test_a_file_appears_whole_under_its_name_and_nothing_else(tmp_path):
    target = tmp_path / "new" / "folder" / "a.bin"
    assert replace_file(target, b"12345") == 5
    assert replace_file(target, memoryview(b"678")) == 3
    assert target.read_bytes() == b"678"
    assert os.listdir(target.parent) == ["a.bin"]


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_the_temporary_is_hidden_names_its_owner_and_stays_in_the_folder():
    name = temporary_name("plate.1001.exr")
    assert re.fullmatch(rf"\.plate\.1001\.exr\.[\w.-]+-{os.getpid()}\.\d+\.tmp", name)
    assert name != temporary_name("plate.1001.exr")
    assert len(temporary_name("x" * 250 + ".exr").encode()) <= 255


def test_the_longest_name_that_a_file_may_have_can_be_written(tmp_path):
    replace_file(tmp_path / ("x" * 251 + ".exr"), b"1")
    with pytest.raises(FrameWriteError, match="name is too long"):
        replace_file(tmp_path / ("x" * 252 + ".exr"), b"1")


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch):
    target = tmp_path / "a.exr"
    replace_file(target, b"old")

    def no_sync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files.os, "fsync", no_sync)
    with pytest.raises(FrameWriteError, match=r"a\.exr: the disk is full.*--resume"):
        replace_file(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.exr"]


def test_an_interrupt_leaves_no_temporary(tmp_path, monkeypatch):
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(whole_files.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "a.exr", b"new")
    assert not os.listdir(tmp_path)


def test_a_device_or_folder_is_never_replaced(tmp_path):
    (tmp_path / "a.exr").mkdir()
    os.mkfifo(tmp_path / "b.exr")
    (tmp_path / "c.exr").symlink_to("/dev/full")
    for name in ("a.exr", "b.exr", "c.exr"):
        with pytest.raises(FrameWriteError, match=name):
            replace_file(tmp_path / name, b"x")
    assert sorted(os.listdir(tmp_path)) == ["a.exr", "b.exr", "c.exr"]
    assert (tmp_path / "c.exr").is_symlink()


def test_nothing_is_written_under_a_name_that_the_system_takes_for_another_file(
    tmp_path, monkeypatch
):
    """Asked of the system's layer; here its answers are those of Windows."""
    layer = type(oslayer.current())
    monkeypatch.setattr(layer, "fault_of_path", lambda _self, path: fault_of(path))
    whole = tmp_path / "whole"
    whole.write_bytes(b"x")
    for write in (
        lambda path: replace_file(path, b"x"),
        lambda path: write_whole(path, b"x"),
        lambda path: link_whole(whole, path),
        GrowingFile,
    ):
        with pytest.raises((FrameWriteError, OSError), match=r"'aux\.exr' is the name of a device"):
            write(tmp_path / "aux.exr")
    assert os.listdir(tmp_path) == ["whole"]
    with pytest.raises(UsageError, match=r"aux\.exr cannot be used: 'aux\.exr' is the name"):
        check_names([whole, tmp_path / "aux.exr"])


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(FrameWriteError, match=r"out/alpha"):
        replace_file(tmp_path / "out" / "alpha" / "a.exr", b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FrameWriteError, match="may not be written"):
        replace_file(tmp_path / "a.exr", b"x")


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_size_limit_is_an_error_and_leaves_nothing(tmp_path, name):
    pixels = np.random.default_rng(1).random((300, 300, 3), dtype=np.float32)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(FrameWriteError, match=name):
            write_frame(tmp_path / name, pixels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not os.listdir(tmp_path)


# --------------------------------------------------------------------------------------- full disk

FULL_DISK = """
import os, sys
import numpy as np
from mattebridge.errors import FrameWriteError, UsageError
from mattebridge.image_io import check_frame, write_frame
folder, name = sys.argv[1:]
pixels = np.random.default_rng(1).random((400, 400, 3), dtype=np.float32)
written = []
try:
    for number in range(100):
        path = f"{folder}/{number}.{name}"
        write_frame(path, pixels)
        written.append(path)
except FrameWriteError as refused:
    print("refused:", refused)
for path in written:
    check_frame(path)
assert sorted(os.listdir(folder)) == sorted(os.path.basename(path) for path in written)
"""


@pytest.fixture
def tiny_disk(tmp_path):
    """A command prefix that runs in a mount namespace where tmp_path is a file system of 1 MB."""
    mount = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}" && exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if os.geteuid() == 0:
        prefix = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True, timeout=SOON_S)
    except (OSError, subprocess.SubprocessError) as why:
        pytest.skip(f"no mount namespace here: {why}")
    return prefix


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_an_error_and_every_file_on_it_is_whole(tmp_path, tiny_disk, name):
    command = [*tiny_disk, sys.executable, "-c", FULL_DISK, str(tmp_path), name]
    source = str(BRIDGE)
    environment = {**os.environ, "PYTHONPATH": source}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "refused: cannot write" in run.stdout
    assert "the disk is full" in run.stdout


# ---------------------------------------------------------------------------------------- sweeping


def dead_pid() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_only_what_dead_processes_of_this_host_left_is_swept(tmp_path):
    ours = temporary_name("plate.1001.exr")
    host = ours.split("-" + str(os.getpid()))[0][len(".plate.1001.exr.") :]
    dead = dead_pid()
    gone = [f".plate.1001.exr.{host}-{dead}.3.tmp", f".plate.1002.exr.{host}-{dead}.tmp", ours]
    kept = [
        f".plate.1001.exr.otherhost-{dead}.3.tmp",
        f".plate.1001.exr.{host}-1.0.tmp",
        "plate.1001.exr",
        f"plate.{host}-{dead}.tmp",
        ".hidden.tmp",
    ]
    for name in gone + kept:
        (tmp_path / name).write_bytes(b"half a frame")
    swept = sweep_temporaries([tmp_path, tmp_path / "missing"])
    assert sorted(path.name for path in swept) == sorted(gone)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_a_temporary_that_is_being_written_by_this_process_is_not_swept(tmp_path, monkeypatch):
    reached, go_on = threading.Event(), threading.Event()

    def slow_sync(descriptor: int) -> None:
        reached.set()
        assert go_on.wait(60)

    monkeypatch.setattr(whole_files.os, "fsync", slow_sync)
    writer = threading.Thread(target=replace_file, args=(tmp_path / "a.exr", b"x"))
    writer.start()
    assert reached.wait(60)
    assert sweep_temporaries([tmp_path]) == []
    go_on.set()
    writer.join()
    assert os.listdir(tmp_path) == ["a.exr"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_second_name_is_whole_and_replaces_what_was_there(tmp_path, monkeypatch, has_links):
    def no_links(*paths: object) -> None:
        raise OSError("no hard links on this file system")

    if not has_links:
        monkeypatch.setattr(whole_files.os, "link", no_links)
    (tmp_path / "a.exr").write_bytes(b"new")
    (tmp_path / "b.exr").write_bytes(b"old")
    for _ in range(2):  # the second time both names are one file
        link_whole(tmp_path / "a.exr", tmp_path / "b.exr")
        assert (tmp_path / "b.exr").read_bytes() == b"new"
        assert sorted(os.listdir(tmp_path)) == ["a.exr", "b.exr"]
    with pytest.raises(FileNotFoundError):
        link_whole(tmp_path / "none.exr", tmp_path / "b.exr")
    assert (tmp_path / "b.exr").read_bytes() == b"new"


def test_writing_whole_makes_no_folder_and_leaves_its_advice_to_the_caller(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "a.exr", b"x")
    write_whole(tmp_path / "a.exr", bytearray(b"x"))
    assert os.listdir(tmp_path) == ["a.exr"]


KILLED = """
import os, signal, sys
import numpy as np
from mattebridge import whole_files
from mattebridge.image_io import write_frame
whole_files.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
write_frame(sys.argv[1], np.ones((40, 40, 3), np.float32))
"""


def test_a_writer_killed_half_way_leaves_no_final_and_is_swept(tmp_path):
    target = tmp_path / "a.exr"
    environment = {**os.environ, "PYTHONPATH": str(BRIDGE)}
    subprocess.run([sys.executable, "-c", KILLED, str(target)], env=environment, timeout=60)
    assert not target.exists()
    assert len(os.listdir(tmp_path)) == 1
    assert len(sweep_temporaries([tmp_path])) == 1
    write_frame(target, np.ones((40, 40, 3), np.float32))
    check_frame(target)
    assert os.listdir(tmp_path) == ["a.exr"]
