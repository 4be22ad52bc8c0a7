"""The Lua script for Resolve's free edition, in the composition of `fakes/fusion_host.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess
from fakes.fusion_host import Comp, Tool
from fakes.host_shot import make_shot
from fakes.nuke_host import Picture, save
from fakes.places import ROOT
from mattebridge.wire.labels import MATTE_FROM_LUMA, SENTENCES

# The Lua of Resolve: LuaJIT.
lupa = pytest.importorskip("lupa.luajit21", reason="there is no LuaJIT (the wheel lupa) here")
SCRIPT = ROOT / "resolve" / "MatteBridge.lua"


class LuaTool:
    """A tool as Lua sees it: tables in place of dictionaries, methods called with a colon."""

    def __init__(self, lua: Any, tool: Tool) -> None:
        self._lua, self.tool = lua, tool

    def GetAttrs(self) -> Any:  # noqa: N802 - the host's names
        return self._lua.table_from(self.tool.GetAttrs())

    def ConnectInput(self, name: str, other: LuaTool) -> None:  # noqa: N802
        self.tool.ConnectInput(name, other.tool)

    def SetAttrs(self, attributes: Any) -> None:  # noqa: N802
        self.tool.SetAttrs(attributes)

    def SetInput(self, name: str, value: Any) -> None:  # noqa: N802
        self.tool.SetInput(name, value)

    def Delete(self) -> None:  # noqa: N802
        self.tool.Delete()


class LuaFrame:
    """A composition's window as Lua sees it."""

    def __init__(self, comp: Comp) -> None:
        self.comp, self.FlowView = comp, self

    def Select(self, tool: Any = None, select: bool = True) -> None:  # noqa: N802
        assert self.comp.CurrentFrame is not None
        flow = self.comp.CurrentFrame.FlowView
        flow.Select(*(() if tool is None else (tool.tool, select)))


class LuaComp:
    """A composition as Lua sees it."""

    def __init__(self, lua: Any, comp: Comp) -> None:
        self._lua, self.comp = lua, comp
        for name in ("Lock", "Unlock", "StartUndo", "EndUndo", "Render", "SetAttrs"):
            setattr(self, name, self._plain(getattr(comp, name)))
        self.CurrentFrame = LuaFrame(comp)

    def _plain(self, method: Any) -> Any:
        # comp:Lock() hands the composition over as first argument of a plain function.
        return lambda me, *given: method(*given)

    @property
    def CurrentTime(self) -> float:  # noqa: N802
        return self.comp.CurrentTime

    @CurrentTime.setter
    def CurrentTime(self, time: float) -> None:  # noqa: N802
        self.comp.CurrentTime = time

    @property
    def ActiveTool(self) -> Any:  # noqa: N802
        return None if self.comp.ActiveTool is None else LuaTool(self._lua, self.comp.ActiveTool)

    def SetActiveTool(self, tool: Any) -> None:  # noqa: N802
        self.comp.SetActiveTool(None if tool is None else tool.tool)

    def GetAttrs(self) -> Any:  # noqa: N802
        return self._lua.table_from(self.comp.GetAttrs())

    def AddTool(self, kind: str, x: int, y: int) -> LuaTool:  # noqa: N802
        return LuaTool(self._lua, self.comp.AddTool(kind, x, y))

    def FindTool(self, name: str) -> Any:  # noqa: N802
        tool = self.comp.FindTool(name)
        return None if tool is None else LuaTool(self._lua, tool)

    def GetToolList(self, selected: bool, kind: Any = None) -> Any:  # noqa: N802
        found = self.comp.GetToolList(selected, kind)
        return self._lua.table_from({n: LuaTool(self._lua, tool) for n, tool in found.items()})


@pytest.fixture
def lua() -> Any:
    return lupa.LuaRuntime(unpack_returned_tuples=True)


@pytest.fixture
def script(lua: Any) -> Any:
    return lua.execute(SCRIPT.read_text())


def given(lua: Any, **more: Any) -> Any:
    words = {
        "plate": "Plate", "clean_plate": "CleanPlate", "alpha_hint": "", "model": "difference",
        "colorspace": "linear", "first": 1, "last": 2,
    }  # fmt: skip
    return lua.table_from({**words, **more})


def make_comp(folder: Path) -> Comp:
    shot = make_shot(folder, (1, 2))
    for frame in (1, 2):
        (folder / f"clean.{frame:04d}.exr").write_bytes(Path(shot.clean_plate).read_bytes())
    comp = Comp(1, 2)
    comp.make("Loader", "Plate", Clip=shot.plate.replace("%V", "main") % 1)
    comp.make("Loader", "CleanPlate", Clip=str(folder / "clean.0001.exr"))
    comp.make("Saver", "Deliver", comp.FindTool("Plate"), Clip=str(folder / "deliver.0001.exr"))
    comp.make("Loader", "Rough", Clip=shot.hint % 1)
    comp.ActiveTool = comp.FindTool("Plate")
    comp.selected = [tool for tool in comp._tools if tool._kind == "Loader"]
    return comp


def test_a_range_goes_through_the_command_and_comes_back_as_two_loaders(
    lua: Any, script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp = make_comp(tmp_path)
    command = f"MATTEBRIDGE_RUNTIME_DIR='{shared_daemon.folder}' '{sys.executable}' -m mattebridge"
    words = script.matte(
        LuaComp(lua, comp), given(lua, command=command), str(tmp_path / "it's here")
    )
    assert words.startswith("2 frames: 2 done")
    assert comp.ActiveTool is comp.FindTool("Plate")
    assert [tool._attributes["TOOLS_Name"] for tool in comp.selected] == [
        "Plate", "CleanPlate", "Rough"
    ]  # fmt: skip
    assert comp.undo_steps == ["MatteBridge"]
    assert not (tmp_path / "deliver.0001.exr").exists()
    rgba = comp.FindTool("MatteBridge")
    assert rgba is not None
    alpha = rgba._picture(2).channels["rgba.alpha"]
    assert 0.05 < float(np.mean(alpha)) < 0.5
    assert not list((tmp_path / "it's here").glob("scratch-*"))


def test_a_failure_is_one_sentence_and_the_composition_is_as_before(
    lua: Any, script: Any, tmp_path: Path
) -> None:
    comp = make_comp(tmp_path)
    before = comp.snapshot()
    for change, words in (
        ({"plate": "Nobody"}, "there is no tool Nobody"),
        ({"command": "/nonexistent/mattebridge"}, "nonexistent"),
    ):
        with pytest.raises(lupa.LuaError, match=words):
            script.matte(LuaComp(lua, comp), given(lua, **change), str(tmp_path / "out"))
        assert comp.snapshot() == before
    comp.render_says = False
    with pytest.raises(lupa.LuaError, match="Fusion did not render"):
        script.matte(LuaComp(lua, comp), given(lua), str(tmp_path / "out"))
    assert comp.snapshot() == before


def test_the_lines_of_the_command_are_put_in_words(script: Any) -> None:
    assert script.describe('{"event": "frame", "frame": -3, "status": "done"}') == "frame -3 done"
    assert script.describe('{"event": "finish", "status": 3, "text": "2 failed"}') == "2 failed"
    assert script.describe("mattebridge: no daemon") == "mattebridge: no daemon"
    assert script.describe('{"event": "start", "total": 3}') is None
    assert script.status_of('{"event": "finish", "status": 3, "text": ""}') == 3


def test_a_garbage_matte_is_its_alpha(
    lua: Any, script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp = make_comp(tmp_path)
    command = f"MATTEBRIDGE_RUNTIME_DIR='{shared_daemon.folder}' '{sys.executable}' -m mattebridge"
    asked = given(lua, command=command, garbage_matte="Rough", last=1)
    script.matte(LuaComp(lua, comp), asked, str(tmp_path / "out"))
    rgba, rough = comp.FindTool("MatteBridge"), comp.FindTool("Rough")
    assert rgba is not None
    assert rough is not None
    inside = rough._picture(1).channels["rgba.alpha"] == 1
    assert (rgba._picture(1).channels["rgba.alpha"][inside] == 0).all()


def test_a_matte_whose_alpha_is_full_is_its_luma_and_the_script_says_so(
    lua: Any, script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp = make_comp(tmp_path)
    rough = comp.FindTool("Rough")
    assert rough is not None
    matte = rough._picture(1).channels["rgba.alpha"]
    picture = {f"rgba.{name}": matte for name in ("red", "green", "blue")}
    picture["rgba.alpha"] = np.ones_like(matte)
    height, width = matte.shape
    save(tmp_path / "bw.0001.exr", Picture(picture, (0, 0, width, height), width, height))
    comp.make("Loader", "Roto", Clip=str(tmp_path / "bw.0001.exr"))
    command = f"MATTEBRIDGE_RUNTIME_DIR='{shared_daemon.folder}' '{sys.executable}' -m mattebridge"
    asked = given(lua, command=command, core_matte="Roto", last=1)
    words = script.matte(LuaComp(lua, comp), asked, str(tmp_path / "out"))
    assert words.endswith(SENTENCES[MATTE_FROM_LUMA])
    rgba = comp.FindTool("MatteBridge")
    assert rgba is not None
    alpha = rgba._picture(1).channels["rgba.alpha"]
    assert (alpha[matte == 1] == 1).all()
    assert alpha.min() == 0


def test_on_windows_the_lines_are_those_of_its_shell(lua: Any, script: Any) -> None:
    script.windows = True
    asked = given(lua, model="my model", core_matte="Roto")
    scratch, out = r"C:\Users\Ann Lee\scratch-1", r"C:\Users\Ann Lee\mattes-1"
    python = r'"C:\Program Files\Python311\python.exe" -m mattebridge'
    line = script.command_line(python, scratch, out, asked)
    assert line[:2] == '""'
    assert "--hint-channel" not in line
    assert line.endswith(' 2>&1"')
    assert rf' matte "{scratch}\plate\frame.####.exr" ' in line
    assert rf' --clean-plate "{scratch}\clean_plate\frame.####.exr" ' in line
    assert rf' --core-matte "{scratch}\core_matte\frame.####.exr" ' in line
    assert f' --model "my model" -o "{out}" ' in line
    assert script.make_folder(script.path("C:/a b", "plate")) == r'"mkdir "C:\a b\plate""'
    assert script.remove_folder(scratch) == f'"rd /s /q "{scratch}""'
    path = r"C:\\o\\layers\\frame.0001.exr"
    event = f'{{"event": "frame", "status": "done", "outputs": {{"layers": "{path}"}}}}'
    assert script.file_of(event) == r"layers\frame.0001.exr"
    script.windows = False
    assert script.make_folder("it's") == "mkdir -p 'it'\\''s'"
    assert script.file_of(event.replace("\\\\", "/")) == "layers/frame.0001.exr"
    assert script.file_of('{"event": "frame", "status": "failed", "outputs": {}}') is None
