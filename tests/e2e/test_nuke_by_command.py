"""The node where Nuke cannot load numpy, pyzmq and msgpack: by the `mattebridge` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable

import psutil
import pytest

from fakes.daemon_process import StartDaemon
from fakes.host_shot import make_shot
from fakes.interpreters import run
from fakes.nuke_comp import Comp, assert_same, offline
from fakes.places import ROOT
from mattebridge.errors import ConnectionFailed
from mattebridge.hosts import command
from mattebridge.hosts.request import ScratchFiles, ShotSettings

pytestmark = pytest.mark.slow

SRGB = ("--colorspace", "srgb", "--output-colorspace", "srgb")


@pytest.fixture(autouse=True)
def _no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    from mattebridge.hosts import route

    monkeypatch.setattr(route, "WHEELS", ("no_such_wheel",))
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", sys.executable)


def test_a_range_of_two_views_equals_the_command_and_is_not_made_twice(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, (-1, 1, 3), views=("main", "right"))
    comp = make_comp(shot, gui=True, view_names=("main", "right"))
    comp.range(-1, 3, 2)
    assert comp.wait() == "6 frames matted; by the command line"
    same = offline(tmp_path, instance, shot, "-1,1,3")
    for frame in (-1, 1, 3):
        assert_same(comp.frame(frame), next(same.glob(f"*.{frame:04d}.*")))
    before = comp.node.node("Matte")["file"].value()
    comp.range(-1, 3, 2)
    assert comp.wait() == "0 frames matted, 6 as before; by the command line"
    assert comp.node.node("Matte")["file"].value() == before


def test_every_knob_is_said_to_the_command(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, (1,))
    comp = make_comp(shot)
    for name, value in {
        "foreground": "unmix", "alignment": "off", "match_exposure": "off", "nonfinite": "zero",
        "settings": "shadow=0.5", "precision": "32 bit float", "colorspace": "srgb",
        "premultiply": "display",
    }.items():  # fmt: skip
        comp.node[name].setValue(value)
    comp.range(1, 1)
    words = ["--premultiply", "display", "--foreground", "unmix", "--alignment", "off"]
    words += ["--no-match-exposure", "--set"]
    words += ["shadow=0.5", "--format", "exr-float", *SRGB]
    assert_same(comp.frame(1), next(offline(tmp_path, instance, shot, "1", *words).glob("*.exr")))


def test_a_hint_of_a_layer_of_its_own_is_taken(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    shot = make_shot(tmp_path, (1,), hint_layer="roto.alpha")
    comp = make_comp(shot)
    comp.range(1, 1)
    without = comp.frame(1).channels["matte.alpha"]
    comp.node.setInput(4, comp.host.module.nodes.Read(file=shot.hint))
    comp.node["hint_channel"].setValue("roto.alpha")
    comp.range(1, 1)
    inside = comp.frame(1).channels["matte.alpha"]
    assert (inside >= without).all()
    assert inside[18, 24] == 1


def test_a_cancel_ends_the_command_and_the_next_request_works(
    make_comp: Callable[..., Comp], tmp_path: Path, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(light=True, hooks="model=sleep:600")
    comp = make_comp(make_shot(tmp_path, (1, 2)), gui=True)
    good = comp.node["instance"].value()
    comp.node["instance"].setValue(str(daemon.folder))
    comp.range(1, 2)
    comp.host.pump(lambda: bool(commands_running()))
    comp.host.press(comp.node, "cancel")
    assert comp.wait() == "cancelled"
    assert commands_running() == []
    comp.node["instance"].setValue(good)
    comp.range(1, 2)
    assert comp.wait() == "2 frames matted; by the command line"


def test_a_command_that_hangs_before_the_first_frame_is_cancelled_or_ended_at_the_limit(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file, hanging = tmp_path / "pid", tmp_path / "python"
    hanging.write_text(f"#!/bin/sh\necho $$ > {pid_file}; exec sleep 600\n")
    hanging.chmod(0o755)
    comp = make_comp(make_shot(tmp_path, (1,)), gui=True)
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", str(hanging))
    comp.range(1, 1)
    comp.host.pump(pid_file.exists)
    comp.host.press(comp.node, "cancel")
    assert comp.wait() == "cancelled"
    pid = int(pid_file.read_text())
    assert not psutil.pid_exists(pid)
    monkeypatch.setattr(command, "START_LIMIT_S", 0.0)
    asked = ShotSettings(model="difference")
    with pytest.raises(ConnectionFailed, match="`mattebridge models` did not end within 1 s"):
        command.matte_by_command(
            [], asked_for, folder=tmp_path, store=tmp_path, settings=asked, timeout_s=1.0
        )
    assert int(pid_file.read_text()) != pid
    assert not psutil.pid_exists(int(pid_file.read_text()))


def asked_for(frame: int, view: str) -> ScratchFiles:
    raise AssertionError(f"frame {frame} of {view} was asked for")


def commands_running() -> list[int]:
    """Children of this process that matte."""
    found = []
    for child in psutil.Process().children():
        try:
            if "matte" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def test_what_fails_is_the_sentence_of_the_command(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.node.setInput(1, None)
    comp.range(1, 1)
    assert comp.wait() == "model 'difference' needs a clean plate: connect one"
    comp.node.setInput(1, comp.clean_plate)
    comp.node["model"].setValue("nobody")
    comp.range(1, 1)
    assert "there is no model 'nobody'" in comp.wait()
    comp.node["model"].setValue("difference")
    comp.node["settings"].setValue("shadow=7")
    comp.range(1, 1)
    assert "shadow" in comp.wait()
    comp.node["settings"].setValue("")
    comp.node["overscan"].setValue(True)
    comp.range(1, 1)
    assert "Overscan needs numpy" in comp.wait()
    comp.node["overscan"].setValue(False)
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", "/nonexistent/python")
    comp.range(1, 1)
    assert "cannot start /nonexistent/python" in comp.wait()
    assert [path.name for path in (tmp_path / "store").rglob(".command*")] == []


def test_the_status_is_asked_of_the_command(make_comp: Callable[..., Comp], tmp_path: Path) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.host.press(comp.node, "open_status")
    comp.host.pump(lambda: comp.found.startswith(("daemon ready, ", "daemon busy, ")))


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_without_numpy_at_all_frames_come_back(
    version: str, shared_daemon: Any, tmp_path: Path
) -> None:
    shot = make_shot(tmp_path, (1, 2))
    code = f"""
import json, shutil, sys
for name in ("numpy", "zmq", "msgpack"):
    sys.modules[name] = None
from pathlib import Path
from mattebridge.hosts.request import ScratchFiles, ShotSettings
from mattebridge.hosts.route import open_route
from mattebridge.hosts.scratch import ScratchFolder
from mattebridge.hosts.store import update_set
here = Path({str(tmp_path)!r})
def render(frame, view):
    plate = shutil.copyfile({shot.plate!r}.replace("%V", view) % frame, here / "plate.exr")
    return ScratchFiles(plate, shutil.copyfile({shot.clean_plate!r}, here / "clean_plate.exr"))
with ScratchFolder({str(tmp_path)!r}) as folder:
    with open_route({str(shared_daemon.folder)!r}, host="nuke", folder=folder.path) as way:
        asked = ShotSettings(model="difference")
        made = way.matte([(1, "main"), (2, "main")], render, store=here / "store", settings=asked)
print(json.dumps([way.words, str(update_set(here / "store", None, made, asked))]))
"""
    words, folder = run(version, code, ROOT / "bridge", MATTEBRIDGE_DAEMON_PYTHON=sys.executable)
    assert words == "by the command line"
    names = sorted(path.name for path in Path(folder).iterdir())
    assert names == ["matte.main.0001.exr", "matte.main.0002.exr", "set.json"]
