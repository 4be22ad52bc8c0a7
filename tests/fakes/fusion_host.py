"""A Fusion composition for tests: tools that really evaluate, from Loader to Saver.

The typing stubs of Resolve say nothing about compositions, so `NAMES` is the table that the fake
and our scripts are held against: each name with where it was seen. Unknown inputs and attributes
are errors, and so are edits outside a lock or an undo step. `render_says` scripts a False from
Render, `fail_at` an exception at the n-th call: a test can break the recipe at every step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from fakes.nuke_host import LONG, Picture, load, nuke_name, save

GUIDE = "Fusion Scripting Guide"
RECIPE = "ynput/ayon-fusion, extract_render_local.py"
RESOLVE = "Resolve's own README of its scripting API"
NAMES = {
    "comp": {
        "ActiveTool": GUIDE, "AddTool": RECIPE, "AskUser": GUIDE, "CurrentTime": GUIDE,
        "EndUndo": RECIPE, "FindTool": GUIDE, "GetAttrs": RECIPE, "GetToolList": RECIPE,
        "Lock": RECIPE, "Render": RECIPE, "SetAttrs": GUIDE, "StartUndo": RECIPE,
        "Unlock": RECIPE, "SetActiveTool": GUIDE, "CurrentFrame": GUIDE, "GetData": GUIDE,
        "SetData": GUIDE,
    },
    "frame": {"FlowView": GUIDE},
    "fusion": {"GetResolve": RESOLVE},
    "resolve": {
        "GetProjectManager": RESOLVE, "GetCurrentProject": RESOLVE, "GetSetting": RESOLVE,
    },
    "flow": {"Select": GUIDE},
    "tool": {
        "ConnectInput": GUIDE, "Delete": GUIDE, "GetAttrs": RECIPE, "GetData": GUIDE,
        "SetAttrs": RECIPE, "SetData": GUIDE, "SetInput": GUIDE,
    },
}  # fmt: skip
_EXR = {f"OpenEXRFormat.{n}" for n in ("Depth", "Compression")} | {
    f"OpenEXRFormat.{n}Enable" for n in ("Red", "Green", "Blue", "Alpha")
}
INPUTS = {
    "Saver": {"Clip", "OutputFormat", *_EXR},
    "Loader": {
        "Clip", "GlobalIn", "GlobalOut", "MissingFrames", "PostMultiplyByAlpha",
        *(f"Clip1.OpenEXRFormat.{n}Name" for n in ("Red", "Green", "Blue", "Alpha")),
    },
    "BrightnessContrast": {"Gain"},
}  # fmt: skip


class Tool:
    """A tool of the composition."""

    def __init__(self, comp: Comp, kind: str, name: str) -> None:
        self._comp, self._kind = comp, kind
        self._attributes: dict[str, Any] = {"TOOLS_Name": name, "TOOLB_PassThrough": False}
        self._inputs: dict[str, Any] = {}
        self._data: dict[str, Any] = {}
        self._source: Optional[Tool] = None

    def GetAttrs(self) -> dict[str, Any]:  # noqa: N802 - the host's names, here and below
        return dict(self._attributes)

    def SetAttrs(self, attributes: Any) -> None:  # noqa: N802
        self._comp._step("SetAttrs")
        given = dict(attributes.items())
        unknown = set(given) - set(self._attributes)
        assert not unknown, f"a tool has no attribute {unknown}"
        self._attributes.update(given)

    def SetInput(self, name: str, value: Any, time: Optional[float] = None) -> None:  # noqa: N802
        self._comp._step("SetInput")
        assert name in INPUTS[self._kind], f"{self._kind} has no input {name}"
        self._inputs[name] = value

    def ConnectInput(self, name: str, tool: Tool) -> None:  # noqa: N802
        self._comp._step("ConnectInput")
        assert name == "Input"
        self._source = tool

    def GetData(self, name: str) -> Any:  # noqa: N802
        return self._data.get(name)

    def SetData(self, name: str, value: Any) -> None:  # noqa: N802
        self._comp._step("SetData")
        self._data[name] = value

    def Delete(self) -> None:  # noqa: N802
        self._comp._step("Delete", may_fail=False)
        self._comp._tools.remove(self)
        self._comp.selected = [tool for tool in self._comp.selected if tool is not self]
        if self._comp.ActiveTool is self:
            self._comp.ActiveTool = None

    # -- evaluation ---------------------------------------------------------------------------

    def _picture(self, frame: int) -> Picture:
        if self._kind != "Loader":
            assert self._source is not None, f"{self._attributes['TOOLS_Name']} has no input"
            picture = self._source._picture(frame)
            gain = self._inputs.get("Gain", 1.0) if self._kind == "BrightnessContrast" else 1.0
            channels = {
                n: p if n == "rgba.alpha" else p * np.float32(gain)
                for n, p in picture.channels.items()
            }
            return Picture(channels, picture.data_window, picture.width, picture.height)
        path = Path(numbered(str(self._inputs["Clip"]), frame))
        if not path.is_file():
            raise FileNotFoundError(str(path))
        picture = load(str(path))
        chosen = {}
        for short, (name, long) in zip(("Red", "Green", "Blue", "Alpha"), LONG.items()):
            wanted = self._inputs.get(f"Clip1.OpenEXRFormat.{short}Name", name)
            if nuke_name(wanted) in picture.channels:
                chosen[f"rgba.{long}"] = picture.channels[nuke_name(wanted)]
        return Picture(chosen, picture.data_window, picture.width, picture.height)


class _Flow:
    """The flow of a composition's window: which tools are selected."""

    def __init__(self, comp: Comp) -> None:
        self._comp = comp

    def Select(self, tool: Optional[Tool] = None, select: bool = True) -> None:  # noqa: N802
        if tool is None:
            self._comp.selected = []
        elif select and tool not in self._comp.selected:
            self._comp.selected.append(tool)


class _Frame:
    """A composition's window."""

    def __init__(self, comp: Comp) -> None:
        self.FlowView = _Flow(comp)


class Comp:
    """A composition; what starts with an underscore or is lower case is the test's own."""

    def __init__(self, first: int = 1, last: int = 2, saved: str = "") -> None:
        self._attributes: dict[str, Any] = {
            "COMPN_RenderStart": float(first), "COMPN_RenderEnd": float(last),
            "COMPN_GlobalStart": float(first), "COMPN_GlobalEnd": float(last),
            "COMPS_FileName": saved,
        }  # fmt: skip
        self._tools: list[Tool] = []
        self.CurrentTime = float(first)
        self.ActiveTool: Optional[Tool] = None
        self.CurrentFrame: Optional[_Frame] = _Frame(self)
        self.selected: list[Tool] = []
        self._data: dict[str, Any] = {}
        self.lock_depth = 0
        self.undo: list[str] = []
        self.undo_steps: list[str] = []
        self.render_says: Optional[bool] = None
        self.fail_at: Optional[int] = None
        self.calls = 0
        self.answer: Callable[[dict[str, Any]], Optional[Mapping[str, Any]]] = lambda asked: asked
        self.renders: list[tuple[int, int]] = []

    def make(self, kind: str, name: str, source: Optional[Tool] = None, **inputs: Any) -> Tool:
        """A tool that the artist had before."""
        tool = Tool(self, kind, name)
        tool._source, tool._inputs = source, dict(inputs)
        self._tools.append(tool)
        return tool

    def snapshot(self) -> Any:
        """Everything that must be as before."""
        tools = [(t._kind, dict(t._attributes), dict(t._inputs)) for t in self._tools]
        chosen = (self.ActiveTool, list(self.selected), {k: v for k, v in self._data.items() if v})
        return (
            tools, dict(self._attributes), self.CurrentTime, self.lock_depth, list(self.undo),
            chosen,
        )  # fmt: skip

    def _step(self, what: str, *, may_fail: bool = True) -> None:
        assert self.lock_depth > 0, f"{what} outside Lock"
        assert self.undo, f"{what} outside an undo step"
        self.calls += 1
        if may_fail and self.fail_at is not None and self.calls == self.fail_at:
            self.fail_at = None
            raise RuntimeError(f"{what} failed")

    # -- the host's API -----------------------------------------------------------------------

    def GetAttrs(self) -> dict[str, Any]:  # noqa: N802
        return dict(self._attributes)

    def SetAttrs(self, attributes: Any) -> None:  # noqa: N802
        self._attributes.update(dict(attributes.items()))

    def Lock(self) -> None:  # noqa: N802
        self.lock_depth += 1

    def Unlock(self) -> None:  # noqa: N802
        assert self.lock_depth > 0
        self.lock_depth -= 1

    def StartUndo(self, name: str) -> None:  # noqa: N802
        self.undo.append(name)

    def EndUndo(self, keep: bool) -> None:  # noqa: N802
        name = self.undo.pop()
        if keep:
            self.undo_steps.append(name)

    def AddTool(self, kind: str, x: int, y: int) -> Tool:  # noqa: N802
        self._step("AddTool")
        assert (x, y) == (-32768, -32768)
        number = sum(tool._kind == kind for tool in self._tools) + 1
        tool = Tool(self, kind, f"{kind}{number}")
        self._tools.append(tool)
        # As in the host: what is new is what is selected.
        self.ActiveTool, self.selected = tool, [tool]
        return tool

    def SetActiveTool(self, tool: Optional[Tool]) -> None:  # noqa: N802
        self.ActiveTool = tool

    def GetData(self, name: str) -> Any:  # noqa: N802
        return self._data.get(name)

    def SetData(self, name: str, value: Any) -> None:  # noqa: N802
        self._data[name] = value

    def FindTool(self, name: str) -> Optional[Tool]:  # noqa: N802
        for tool in self._tools:
            if tool._attributes["TOOLS_Name"] == name:
                return tool
        return None

    def GetToolList(self, selected: bool = False, kind: Optional[str] = None) -> Any:  # noqa: N802
        pool = self.selected if selected else self._tools
        found = [tool for tool in pool if kind is None or tool._kind == kind]
        return {float(number): tool for number, tool in enumerate(found, 1)}

    def AskUser(self, title: str, fields: Any) -> Optional[Mapping[str, Any]]:  # noqa: N802
        defaults = {each[1]: each.get("Default") for each in fields.values()}
        return self.answer(defaults)

    def Render(self, settings: Any) -> bool:  # noqa: N802
        given = dict(settings.items())
        assert set(given) <= {"Start", "End", "Step", "Wait", "RenderFlags"}
        assert given["Wait"] is True
        assert given["RenderFlags"] == 1 << 19, "a dialog would wait for somebody"
        self._step("Render")
        start, end, step = int(given["Start"]), int(given["End"]), int(given.get("Step", 1))
        self.renders.append((start, end))
        self._attributes.update(COMPN_RenderStart=float(start), COMPN_RenderEnd=float(end))
        if self.render_says is False:
            return False
        for frame in range(start, end + 1, step):
            self.CurrentTime = float(frame)
            for tool in self._tools:
                if tool._kind == "Saver" and not tool._attributes["TOOLB_PassThrough"]:
                    _save(tool, frame)
        return True


def _save(saver: Tool, frame: int) -> None:
    assert saver._source is not None
    picture = saver._source._picture(frame)
    inputs = saver._inputs
    path = Path(numbered(str(inputs["Clip"]), frame))
    if not path.parent.is_dir():
        raise FileNotFoundError(str(path.parent))
    plain = inputs.get("OpenEXRFormat.Compression", 3) == 0
    save(
        path, picture, half=inputs.get("OpenEXRFormat.Depth") != 2,
        compression="none" if plain else "zip",
    )  # fmt: skip


def numbered(clip: str, frame: int) -> str:
    """A clip's file of a frame: its last number is the frame's place."""
    match = re.search(r"(-?\d+)(\.\w+)$", clip)
    if match is None:
        return re.sub(r"(\.\w+)$", rf"{frame:04d}\1", clip)
    width = len(match.group(1))
    return f"{clip[: match.start()]}{frame:0{width}d}{match.group(2)}"
