"""What must hold of the Nuke node whatever happens: other hosts' mistakes, each as a test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
import psutil
import pytest

from fakes.daemon_process import DaemonProcess, StartDaemon, wait_for
from fakes.host_shot import make_shot
from fakes.nuke_comp import NUKE_FOLDER, Comp, assert_same, offline
from fakes.nuke_host import NukeHost, load
from fakes.places import ROOT
from mattebridge.client import MatteClient
from mattebridge.hosts import scratch

# ------------------------------------------------------------------- processes, network, the thread


SESSION = """
import json, sys
sys.executable = sys.argv[1]
from pathlib import Path
from fakes.host_shot import make_shot
from fakes.nuke_host import NukeHost
folder = Path(sys.argv[2])
shot = make_shot(folder, (1, 2))
host = NukeHost(gui=True)
with host.running(Path(sys.argv[3])):
    import mattebridge_nuke
    nuke = host.module
    node = mattebridge_nuke.create()
    node.setInput(0, nuke.nodes.Read(file=shot.plate, last=9))
    node.setInput(1, nuke.nodes.Read(file=shot.clean_plate))
    for name, value in dict(instance=str(folder / "run"), store=str(folder / "store"),
                            scratch=str(folder), model="difference", first=1, last=2).items():
        node[name].setValue(value)
    host.press(node, "matte_range")
    host.pump(lambda: not mattebridge_nuke._jobs, 120)
    host.press(node, "cancel")
    host.press(node, "open_status")
    host.settle()
    host.press(node, "clear")
    print(json.dumps(node["status"].value()))
"""


@pytest.mark.slow
def test_a_whole_session_that_starts_the_daemon_never_runs_the_hosts_own_binary(
    tmp_path: Path,
) -> None:
    host = tmp_path / "Nuke15.1"
    host.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    host.chmod(host.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "run").mkdir(mode=0o700)
    try:
        said = subprocess.run(
            [sys.executable, "-c", SESSION, str(host), str(tmp_path), str(NUKE_FOLDER)],
            capture_output=True, text=True, check=False, cwd="/", timeout=200,
            env={
                **os.environ, "MATTEBRIDGE_DAEMON_PYTHON": sys.executable, "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join((str(ROOT / "bridge"), str(ROOT / "tests"))),
            },
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        assert json.loads(said.stdout.splitlines()[-1]) == "not matted yet"
    finally:
        with MatteClient.connect(str(tmp_path / "run")) as client:
            client.shutdown()
    assert not (tmp_path / "executed").exists()


QUIT = """
import sys
from pathlib import Path
from fakes.host_shot import make_shot
from fakes.nuke_host import NukeHost
from mattebridge.hosts import route
route.WHEELS = tuple(sys.argv[4:]) or route.WHEELS
folder = Path(sys.argv[1])
shot = make_shot(folder, (1, 2, 3, 4))
host = NukeHost(gui=True)
with host.running(Path(sys.argv[3])):
    import mattebridge_nuke
    nuke = host.module
    node = mattebridge_nuke.create()
    node.setInput(0, nuke.nodes.Read(file=shot.plate, last=9))
    node.setInput(1, nuke.nodes.Read(file=shot.clean_plate))
    for name, value in dict(instance=sys.argv[2], store=str(folder / "store"),
                            scratch=str(folder), model="difference", first=1, last=4).items():
        node[name].setValue(value)
    host.press(node, "matte_range")
    busy = route.command.atexit if len(sys.argv) > 4 else None
    started = []
    if busy is not None:
        keep = busy.register
        busy.register = lambda call: (started.append(call), keep(call))
    host.pump(lambda: started if busy else len(host.rendered) >= 2, 60)
    print("quits", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("missing", [(), ("no_such_wheel",)], ids=["client", "command"])
def test_the_host_quits_in_the_middle_of_a_frame_and_nothing_goes_on(
    missing: tuple[str, ...], tmp_path: Path, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(light=True, hooks="model=sleep:600")
    before = set(psutil.Process().children(recursive=True))
    words = [sys.executable, "-W", "error", "-c", QUIT, str(tmp_path), str(daemon.folder)]
    said = subprocess.run(
        [*words, str(NUKE_FOLDER), *missing],
        capture_output=True, text=True, check=False, cwd="/", timeout=200,
        env={
            **os.environ, "MATTEBRIDGE_DAEMON_PYTHON": sys.executable, "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join((str(ROOT / "bridge"), str(ROOT / "tests"))),
        },
    )  # fmt: skip
    assert (said.returncode, said.stdout, said.stderr) == (0, "quits\n", "")
    wait_for(lambda: commands_of(daemon) == [], 60.0, lambda: "the command has ended")
    with daemon.client() as client:
        wait_for(lambda: waiting(client) == 0, 60.0, "no frame waits")
    assert set(psutil.Process().children(recursive=True)) <= before


def waiting(client: MatteClient) -> int:
    """Frames in the daemon's queue."""
    queue = client.status()["queue"]
    return int(queue["interactive"] + queue["batch"])


def commands_of(daemon: DaemonProcess) -> list[int]:
    """Processes that matte by this daemon, known by its folder in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "matte" in line and str(daemon.folder) in line:
            found.append(process.pid)
    return found


def test_making_opening_and_turning_knobs_asks_nobody(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a knob asked the network, or waited for a process")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(MatteClient, "connect", refuse)
    node = comp.tool.create()
    for knob in node.knobs().values():
        if type(knob).__name__ not in ("PyScript_Knob", "Tab_Knob"):
            knob.setValue(knob.value())
    comp.host.open_panel(node)
    node.setInput(0, comp.plate)
    comp.host.press(node, "set_input_range")
    comp.host.module.scriptSave(str(tmp_path / "a.nk"))
    comp.host.module.scriptOpen(str(tmp_path / "a.nk"))


# ------------------------------------------------------------------------------------------- cancel


def test_a_cancel_in_mid_frame_is_told_to_the_daemon_and_leaves_no_flag(
    make_comp: Callable[..., Comp], tmp_path: Path, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(light=True, hooks="model#1=sleep:600,model#2=sleep:600")
    comp = make_comp(make_shot(tmp_path, range(1, 6)), gui=True)
    comp.node["instance"].setValue(str(daemon.folder))
    comp.host.press(comp.node, "cancel")  # before the start
    assert comp.status == "nothing is being matted"
    comp.range(1, 5)
    comp.host.pump(lambda: len(comp.host.rendered) >= 2)
    comp.host.press(comp.node, "cancel")
    comp.host.press(comp.node, "cancel")  # twice
    assert comp.wait() == "cancelled"
    rendered = len(comp.host.rendered)
    assert rendered < 5
    comp.host.press(comp.node, "cancel")  # after the end
    comp.range(3, 4)
    assert comp.wait() == "2 frames matted"
    assert len(comp.host.rendered) == rendered + 2
    assert sorted(path.name for path in (tmp_path / "store").rglob("*.tmp")) == []


# ------------------------------------------------------------------------------- geometry and views


def test_views_increments_holes_and_a_pixel_aspect_equal_the_command(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    frames = (-2, 0, 2, 1001, 1003)
    shot = make_shot(tmp_path, frames, views=("main", "right"), aspect=2.0)
    comp = make_comp(shot, view_names=("main", "right"))
    comp.range(-2, 2, 2)
    comp.range(1001, 1003, 2)
    same = offline(tmp_path, instance, shot, "-2,0,2,1001,1003")
    for frame in frames:
        assert_same(comp.frame(frame), next(same.glob(f"*.{frame:04d}.*")))
    shutil.rmtree(tmp_path / "offline")
    right = make_shot(tmp_path, ())
    right = type(right)(shot.plate.replace("%V", "right"), *list(vars(shot).values())[1:])
    same = offline(tmp_path, instance, right, "0,1003")
    for frame in (0, 1003):
        assert_same(comp.frame(frame, "right"), next(same.glob(f"*.{frame:04d}.*")))


@pytest.mark.slow  # two HD frames
def test_an_odd_size_with_overscan_in_the_plate_and_proxy_on_equals_the_command(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, (1,), width=1919, height=1079, plate_window=(-9, -5, 1950, 1099))
    comp = make_comp(shot)
    comp.host.root_node["proxy"].setValue(True)
    comp.range(1, 1)
    comp.host.root_node["proxy"].setValue(False)
    picture = comp.frame(1)
    assert picture.data_window == (0, 0, 1919, 1079)
    assert_same(picture, next(offline(tmp_path, instance, shot, "1").glob("*.exr")))


# ------------------------------------------------------------------------------------------ scratch


def test_a_full_scratch_folder_is_named_with_the_need(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    monkeypatch.setattr(scratch, "_free_bytes", lambda folder: 1000)
    comp.range(1, 2)
    words = comp.wait()
    assert str(tmp_path / "scratch") in words
    assert "MB left and one frame needs" in words
    assert "MATTEBRIDGE_SCRATCH" in words


def test_a_scratch_folder_that_cannot_be_written_is_named(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)

    def refuse(**_: Any) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(scratch.tempfile, "mkdtemp", refuse)
    comp.range(1, 2)
    assert f"cannot make a scratch folder in {tmp_path / 'scratch'}: Read-only" in comp.wait()
    monkeypatch.undo()
    comp.node["scratch"].setValue(str(tmp_path / "gone"))
    comp.range(1, 2)
    assert comp.wait() == f"the scratch folder {tmp_path / 'gone'} does not exist"


def test_a_scratch_folder_removed_in_the_middle_is_an_error_and_no_half_frame(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, (1, 2, 3))
    comp = make_comp(shot, gui=True)

    def remove(frame: int) -> None:
        if frame == 2:
            for folder in (tmp_path / "scratch").iterdir():
                shutil.rmtree(folder)

    comp.host.before_frame = remove
    comp.range(1, 3)
    assert "No such" in comp.wait()
    comp.host.before_frame = lambda frame: None
    comp.range(1, 3)
    assert "matted" in comp.wait()
    same = offline(tmp_path, instance, shot, "1-3")
    for frame in (1, 2, 3):
        assert_same(comp.frame(frame), next(same.glob(f"*.{frame:04d}.*")))


def test_a_store_that_cannot_be_written_is_named(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    (tmp_path / "file").write_text("in the way")
    comp.node["store"].setValue(str(tmp_path / "file"))
    comp.range(1, 1)
    assert f"cannot make {tmp_path / 'file'}" in comp.wait()


# ----------------------------------------------------------------------------------------- the farm


def test_a_script_made_without_our_python_renders_from_its_reads_like_nuke_x(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.range(1, 2)
    nuke = comp.host.module
    nuke.nodes.Write(inputs=[comp.node], file=f"{tmp_path}/out.%04d.exr", name="Write1")
    nuke.scriptSave(str(tmp_path / "farm.nk"))
    nuke.delete(nuke.toNode("Write1"))
    expected = comp.frame(2)
    bare = NukeHost()
    with bare.running():
        bare.module.scriptOpen(str(tmp_path / "farm.nk"))
        bare.module.execute(bare.module.toNode("Write1"), 1, 2, 1)
        with pytest.raises(RuntimeError, match="No such file"):
            bare.module.execute(bare.module.toNode("Write1"), 3, 3, 1)
    picture = load(str(tmp_path / "out.0002.exr"))
    for name in ("red", "green", "blue"):
        half = expected.channels[f"rgba.{name}"].astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(picture.channels[f"rgba.{name}"], half)
