"""A Nuke for tests: nodes, knobs and groups that really evaluate, from Read to Write.

    host = NukeHost(gui=True)
    with host.running():            # `import nuke` works inside, and nowhere else
        host.module.nodes.Read(file=...)

Everything in `host.module` is the host's public API, held against the typing stubs by a test; the
rest of `NukeHost` is what a test does to it. What makes it more than a mock: an unknown knob, node
class or enumeration value is an error; a Write renders through the graph with its own defaults
(`channels rgb`, intersection with what there is, bounding box as data window, active proxy scale);
calls off the main thread raise; `executeInMainThreadWithResult` swallows exceptions and hangs
(raises, here) on the main thread; deleted nodes are dead; a cancel in mid-frame leaves a file
with black rows.

OpenImageIO reads and writes where it is installed, so that our own codec is not its own judge;
under an interpreter without it our codec stands in.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import sys
import threading
import time
import traceback
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from fakes.limits import SOON_S

SHORT = {"R": "rgba.red", "G": "rgba.green", "B": "rgba.blue", "A": "rgba.alpha"}
LONG = {"R": "red", "G": "green", "B": "blue", "A": "alpha"}
OURS = ("nuke", "mattebridge_nuke")
ROOT_SIZE = (2048, 1556)
COMPRESSIONS = ("none", "Zip (1 scanline)", "Zip (16 scanlines)", "PIZ Wavelet (32 scanlines)")


@dataclass
class Picture:
    """channels: `layer.channel` -> (H, W) float32, top row first; windows x, y, w, h, y down."""

    channels: dict[str, Any]
    data_window: tuple[int, int, int, int]
    width: int
    height: int
    aspect: float = 1.0


# -------------------------------------------------------------------------------------------- knobs


class Knob:
    def __init__(self, name: str = "", label: str = "", value: Any = None) -> None:
        self._name, self._label = name, label
        self._value = self._default = value
        self._tip, self._visible = "", True
        self._node: Any = None

    def name(self) -> str:
        return self._name

    def label(self) -> str:
        return self._label

    def value(self, index: int = 0) -> Any:
        return self._value

    def setValue(self, val: Any, chan: int = 0) -> bool:  # noqa: N802 - the host's name
        self._check(val)
        self._value = val
        if self._node is not None:
            self._node._host._knob_changed(self._node, self)
        return True

    def toScript(self, quote: bool = True, context: Any = None) -> str:  # noqa: N802
        return str(self._value)

    def tooltip(self) -> str:
        return self._tip

    def setTooltip(self, tooltip: str) -> None:  # noqa: N802
        self._tip = tooltip

    def visible(self) -> bool:
        return self._visible

    def setVisible(self, visible: bool) -> None:  # noqa: N802
        self._visible = visible

    def _check(self, value: Any) -> None:
        pass


class _Typed(Knob):
    _kind: Any = object

    def _check(self, value: Any) -> None:
        if not isinstance(value, self._kind):
            raise TypeError(f"{self._name}: {value!r} is not a {self._kind}")


class Int_Knob(_Typed):  # noqa: N801
    _kind = int

    def __init__(self, name: str = "", label: str = "", value: int = 0) -> None:
        super().__init__(name, label, value)


class Double_Knob(_Typed):  # noqa: N801
    _kind = (int, float)

    def __init__(self, name: str = "", label: str = "", value: float = 0.0) -> None:
        super().__init__(name, label, value)


class Boolean_Knob(_Typed):  # noqa: N801
    _kind = bool

    def __init__(self, name: str = "", label: str = "", value: bool = False) -> None:
        super().__init__(name, label, value)


class String_Knob(_Typed):  # noqa: N801
    _kind = str

    def __init__(self, name: str = "", label: str = "", value: str = "") -> None:
        super().__init__(name, label, value)


class Text_Knob(String_Knob):  # noqa: N801
    pass


class Multiline_Eval_String_Knob(String_Knob):  # noqa: N801
    pass


class File_Knob(String_Knob):  # noqa: N801
    def getEvaluatedValue(self) -> str:  # noqa: N802
        return str(self._value)


class Tab_Knob(Knob):  # noqa: N801
    pass


class PyScript_Knob(String_Knob):  # noqa: N801
    def execute(self) -> None:
        self._node._host._press(self._node, self)


class Enumeration_Knob(Knob):  # noqa: N801
    def __init__(self, name: str = "", label: str = "", values: Sequence[str] = ()) -> None:
        super().__init__(name, label, values[0] if values else "")
        self._values = list(values)

    def values(self) -> list[str]:
        return list(self._values)

    def setValue(self, val: Any, chan: int = 0) -> bool:  # noqa: N802
        return super().setValue(self._values[val] if isinstance(val, int) else val, chan)

    def _check(self, value: Any) -> None:
        if value not in self._values:
            raise TypeError(f"{self._name}: no value {value!r}; there are {self._values}")


KNOB_CLASSES: dict[str, type[Knob]] = {
    kind.__name__: kind
    for kind in (
        Knob, Int_Knob, Double_Knob, Boolean_Knob, String_Knob, Text_Knob, File_Knob, Tab_Knob,
        Multiline_Eval_String_Knob, PyScript_Knob, Enumeration_Knob,
    )
}  # fmt: skip


def _built_in(node_class: str) -> Iterator[Knob]:
    """The knobs that a node class has of its own."""
    yield Boolean_Knob("disable")
    yield String_Knob("knobChanged")
    yield String_Knob("label")
    if node_class != "Root":
        yield Int_Knob("xpos")
        yield Int_Knob("ypos")
    if node_class == "Read":
        yield File_Knob("file")
        for name in ("first", "last", "origfirst", "origlast"):
            yield Int_Knob(name, value=1)
        for name in ("origset", "raw", "premultiplied", "auto_alpha"):
            yield Boolean_Knob(name)
        yield Enumeration_Knob("on_error", "", ["error", "black", "checkerboard", "nearest frame"])
        for name in ("before", "after"):
            yield Enumeration_Knob(name, "", ["hold", "loop", "bounce", "black"])
    elif node_class == "Write":
        yield File_Knob("file")
        channels = String_Knob("channels", value="rgb")
        yield channels
        yield Enumeration_Knob("file_type", "", [" ", "exr", "dpx", "png", "jpeg"])
        yield Enumeration_Knob("datatype", "", ["16 bit half", "32 bit float"])
        yield Enumeration_Knob("compression", "", [*COMPRESSIONS[1:], "none"])
        for name in ("autocrop", "raw", "create_directories", "use_limit"):
            yield Boolean_Knob(name)
    elif node_class == "Switch":
        yield Int_Knob("which")
    elif node_class == "Input":
        yield Int_Knob("number")
    elif node_class == "FrameRange":
        yield Int_Knob("first_frame", value=1)
        yield Int_Knob("last_frame", value=100)
    elif node_class == "Grade":
        yield Double_Knob("white", value=1.0)
    elif node_class == "Copy":
        for number in range(4):
            value = "rgba.alpha" if number == 0 else "none"
            yield String_Knob(f"from{number}", value=value)
            yield String_Knob(f"to{number}", value=value)
    elif node_class == "Crop":
        yield Knob("box", value=(0, 0, 0, 0))
    elif node_class == "Reformat":
        yield Knob("box", value=(0, 0))
    elif node_class == "Root":
        yield String_Knob("name", value="")
        yield Int_Knob("first_frame", value=1)
        yield Int_Knob("last_frame", value=100)
        yield Boolean_Knob("proxy")
        yield Enumeration_Knob("colorManagement", "", ["Nuke", "OCIO"])
        yield String_Knob("workingSpaceLUT", value="linear")
    elif node_class == "Live":
        yield from _of_the_plugin()


def _of_the_plugin() -> Iterator[Knob]:
    """The parameters of the OFX plugin that we set, as Nuke shows them."""
    for name, value in (("model", "default"), ("cleanPlate", ""), ("endpoint", "")):
        yield String_Knob(name, value=value)
    for name, values in PLUGIN_CHOICES.items():
        yield Enumeration_Knob(name, "", values)
    for name in ("useBackground", "useHint"):
        yield Boolean_Knob(name, value=True)
    yield Double_Knob("timeout", value=60.0)
    for name in ("hintSharpen", "sourcePassthrough", "autoDespeckle", "despeckleHysteresis"):
        yield Boolean_Knob(name)
    for name, number in PLUGIN_WHOLE.items():
        yield Int_Knob(name, value=number)
    for name, share in (("despeckleThreshold", 0.5), ("despillStrength", 0.0)):
        yield Double_Knob(name, value=share)


PLUGIN_WHOLE = {
    "hintSharpenDilation": 3, "hintBlur": 0, "edgeErode": 3, "edgeBlur": 7, "despeckleSize": 400,
    "despeckleDilation": 25, "despeckleBlur": 5,
}  # fmt: skip
PLUGIN_CHOICES = {
    "outputMode": ["Premultiplied RGBA", "Foreground + alpha (straight)", "Matte"],
    "inputColor": ["Linear Rec.709", "sRGB display"],
    "premultiply": ["Linear light", "Display values"],
    "foregroundSource": ["Model", "Unmix", "Plate"],
    "alignment": ["Off", "Automatic", "Homography", "Model's own"],
    "nonfinite": ["Error", "Zero"],
    "spillMethod": ["Average", "Double limit", "Screen only"],
    "screen": ["Green", "Blue", "Model's own"],
    "hintChannel": ["Alpha", "Red", "Luma"],
}

CLASSES = (
    "Read", "Write", "Switch", "Input", "Output", "Group", "FrameRange", "Grade", "Crop",
    "Reformat", "NoOp", "Dot", "Copy",
)  # fmt: skip


# -------------------------------------------------------------------------------------------- nodes


class Node:
    def __init__(self, host: NukeHost, node_class: str, parent: Any) -> None:
        self._host, self._class, self._parent = host, node_class, parent
        self._name = ""
        self._knobs: dict[str, Knob] = {}
        self._own: list[str] = []
        self._inputs: dict[int, Node] = {}
        self._children: list[Node] = []
        self._dead = False
        for knob in _built_in("Live" if node_class in host.plugins else node_class):
            self._adopt(knob)

    def _adopt(self, knob: Knob) -> None:
        knob._node = self
        self._knobs[knob.name()] = knob

    def _alive(self) -> Node:
        self._host._main_only()
        if self._dead:
            raise ValueError("A PythonObject is not attached to a node")
        return self

    def Class(self) -> str:  # noqa: N802
        return self._alive()._class

    def name(self) -> str:
        if self._class == "Root":
            return str(self._knobs["name"].value() or "Root")
        return self._alive()._name

    def setName(self, name: str, uncollide: bool = True, updateExpressions: bool = False) -> None:  # noqa: N802, N803
        taken = {node._name for node in self._alive()._parent._children if node is not self}
        number, wanted = 1, name
        if self._class == "Group" and not name[-1].isdigit():
            wanted = f"{name}1"
        while uncollide and wanted in taken:
            number += 1
            wanted = f"{name.rstrip('0123456789')}{number}"
        self._name = wanted

    def fullName(self) -> str:  # noqa: N802
        above = self._alive()._parent
        return self._name if above._class == "Root" else f"{above.fullName()}.{self._name}"

    def knob(self, p: str) -> Optional[Knob]:
        return self._alive()._knobs.get(p)

    def knobs(self) -> dict[str, Knob]:
        return dict(self._alive()._knobs)

    def __getitem__(self, name: str) -> Knob:
        if name not in self._alive()._knobs:
            raise NameError(f"knob {name} does not exist")
        return self._knobs[name]

    def addKnob(self, knob: Knob) -> None:  # noqa: N802
        if knob.name() in self._alive()._knobs:
            raise ValueError(f"there is a knob {knob.name()} already")
        self._own.append(knob.name())
        self._adopt(knob)

    def setXYpos(self, x: int, y: int) -> None:  # noqa: N802
        self["xpos"]._value, self["ypos"]._value = x, y

    def input(self, index: int) -> Optional[Node]:
        return self._alive()._inputs.get(index)

    def inputs(self) -> int:
        return max(self._alive()._inputs, default=-1) + 1

    def parent(self) -> Any:
        return self._alive()._parent

    def setInput(self, i: int, node: Optional[Node]) -> bool:  # noqa: N802
        if node is None:
            self._alive()._inputs.pop(i, None)
        else:
            self._alive()._inputs[i] = node._alive()
        self._host._input_changed(self)
        return True

    def width(self) -> int:
        return self._size()[0]

    def height(self) -> int:
        return self._size()[1]

    def _size(self) -> tuple[int, int]:
        host = self._alive()._host
        try:
            picture = host._evaluate(self, host.current_frame, host.view_names[0])
        except RuntimeError:
            return ROOT_SIZE  # a node in error has the script's format
        return picture.width, picture.height

    def channels(self) -> list[str]:
        return list(self._host._evaluate(self._alive(), self._host.current_frame, "main").channels)

    def firstFrame(self) -> int:  # noqa: N802
        return self._range()[0]

    def lastFrame(self) -> int:  # noqa: N802
        return self._range()[1]

    def _range(self) -> tuple[int, int]:
        for first, last in (("first_frame", "last_frame"), ("first", "last")):
            if first in self._alive()._knobs and self._class in ("Root", "FrameRange", "Read"):
                return self._knobs[first].value(), self._knobs[last].value()
        source = self._inputs.get(0)
        if self._class == "Group":
            source = next(child for child in self._children if child._class == "Output")
        return source._range() if source else self._host.root_node._range()

    def hasError(self) -> bool:  # noqa: N802
        try:
            self._host._evaluate(self._alive(), self._host.current_frame, "main")
        except RuntimeError:
            return True
        return False


class Group(Node):
    def begin(self) -> Group:
        self._alive()
        self._host.context.append(self)
        return self

    def end(self) -> None:
        assert self._host.context.pop() is self

    def __enter__(self) -> Group:
        return self.begin()

    def __exit__(self, *_: Any) -> None:
        self.end()

    def node(self, s: str) -> Optional[Node]:
        for child in self._alive()._children:
            if child._name == s:
                return child
        return None

    def nodes(self) -> list[Node]:
        return list(self._alive()._children)


class Root(Group):
    pass


# --------------------------------------------------------------------------------------------- host


@dataclass
class NukeHost:
    """One run of Nuke. Fields are what a test sets up or looks at afterwards."""

    gui: bool = False
    view_names: tuple[str, ...] = ("main",)
    plugins: set[str] = field(default_factory=set)
    arguments: list[str] = field(default_factory=list)
    # A render raises RuntimeError('cancelled') once so many frames have been rendered.
    cancel_after: Optional[int] = None
    # Called before each frame; may raise.
    before_frame: Callable[[int], None] = lambda frame: None
    # A ProgressTask says cancelled after so many questions.
    cancel_bar_after: Optional[int] = None
    current_frame: int = 1
    # What the artist picks in a list of choices; None closes the window.
    pick: Callable[[list[str]], Optional[str]] = lambda options: options[0]

    def __post_init__(self) -> None:
        self.main = threading.current_thread()
        self.rendered: list[tuple[int, str, tuple[str, ...]]] = []
        self.bars: list[Any] = []
        self.menu_entries: dict[str, str] = {}
        self.undo_depth = 0
        self.live_renders = 0
        self.layers: dict[str, list[str]] = {}
        self.slowest_call_s = 0.0
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue()
        self._callbacks: dict[str, dict[str, list[Any]]] = {}
        self._this: list[tuple[Any, Any]] = []
        self._executing = False
        self.new_script()
        self.module = _make_module(self)

    def new_script(self) -> None:
        """An empty script."""
        self.root_node = Root(self, "Root", None)
        self.context: list[Any] = [self.root_node]
        self.selected: list[Node] = []

    @contextlib.contextmanager
    def running(self, *paths: Path) -> Iterator[types.ModuleType]:
        """`import nuke` is this host, and `paths` are plug-in paths: init.py, then menu.py, run.

        Without our folder among them our module cannot be imported, whoever else runs.
        """
        saved_path, saved = list(sys.path), {name: sys.modules.pop(name, None) for name in OURS}
        sys.modules["nuke"] = self.module
        if not paths:
            sys.modules["mattebridge_nuke"] = None  # type: ignore[assignment]
        sys.path[:0] = [str(path) for path in paths]
        try:
            for name in ("init.py", "menu.py") if self.gui else ("init.py",):
                for path in paths:
                    if (path / name).exists():
                        exec(compile((path / name).read_text(), str(path / name), "exec"), {})
            yield self.module
        finally:
            sys.path[:] = saved_path
            for name in OURS:
                sys.modules.pop(name, None)
                if saved[name] is not None:
                    sys.modules[name] = saved[name]

    def settle(self) -> None:
        """Let the tool's threads end, as Nuke's event loop does after the last frame."""
        self.pump(lambda: all(t.name != "mattebridge" for t in threading.enumerate()))

    def pump(self, until: Callable[[], bool], timeout_s: float = SOON_S) -> None:
        """The main thread's event loop, until something is true."""
        end = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > end:
                raise AssertionError(f"not within {timeout_s:g} s; Nuke's main thread waited")
            with contextlib.suppress(queue.Empty):
                call = self._queue.get(timeout=0.02)
                started = time.monotonic()
                call()
                self.slowest_call_s = max(self.slowest_call_s, time.monotonic() - started)

    def press(self, node: Node, button: str) -> None:
        """Click a button of a node."""
        node._knobs[button].execute()  # type: ignore[attr-defined]

    def open_bars(self) -> int:
        """Progress bars that nobody has closed."""
        return sum(bar() is not None for bar in self.bars)

    # -- what the API does ------------------------------------------------------------------------

    def _main_only(self) -> None:
        if threading.current_thread() is not self.main:
            raise RuntimeError("Nuke was called off its main thread")

    def _press(self, node: Node, knob: Knob) -> None:
        self._with_this(node, knob, str(knob.value()))

    def _with_this(self, node: Node, knob: Any, code: str) -> None:
        self._this.append((node, knob))
        try:
            exec(code, {"nuke": self.module})
        finally:
            self._this.pop()

    def _knob_changed(self, node: Node, knob: Knob) -> None:
        self._main_only()
        code = node._knobs["knobChanged"].value() if "knobChanged" in node._knobs else ""
        if code and knob.name() != "knobChanged":
            self._with_this(node, knob, code)
        self._call("KnobChanged", node, knob)

    def _input_changed(self, node: Node) -> None:
        self._event(node, "inputChange")

    def open_panel(self, node: Node) -> None:
        """Open a node's control panel."""
        self._event(node, "showPanel")

    def _event(self, node: Node, name: str) -> None:
        code = node._knobs["knobChanged"].value() if "knobChanged" in node._knobs else ""
        if code:
            self._with_this(node, Knob(name), code)

    def _register(self, kind: str, call: Any, args: Any, kwargs: Any, node_class: str) -> None:
        registry = self._callbacks.setdefault(kind, {}).setdefault(node_class, [])
        entry = (call, tuple(args), tuple(sorted(dict(kwargs).items())))
        if entry not in registry:
            registry.append(entry)

    def _call(self, kind: str, node: Node, knob: Any = None) -> None:
        registries = self._callbacks.get(kind, {})
        for name in (node._class, "*"):
            for call, args, kwargs in list(registries.get(name, ())):
                self._this.append((node, knob))
                try:
                    call(*args, **dict(kwargs))
                finally:
                    self._this.pop()

    def _make(self, node_class: str, knobs: dict[str, Any]) -> Node:
        self._main_only()
        if node_class not in CLASSES and node_class not in self.plugins:
            raise RuntimeError(f"{node_class}: Unknown command")
        parent = self.context[-1]
        kind = Group if node_class == "Group" else Node
        node = kind(self, node_class, parent)
        parent._children.append(node)
        node.setName(knobs.pop("name", f"{node_class}1"))
        if node_class == "Input":
            node._knobs["number"]._value = sum(c._class == "Input" for c in parent._children) - 1
        for index, source in enumerate(knobs.pop("inputs", [])):
            node._inputs[index] = source
        for name, value in knobs.items():
            node[name].setValue(value)
        self._call("OnCreate", node)
        return node

    # -- evaluation -----------------------------------------------------------------------------

    def _evaluate(self, node: Optional[Node], frame: int, view: str) -> Picture:
        if node is None:
            raise RuntimeError("nothing is connected")
        method = getattr(self, f"_do_{node._class.lower()}", None)
        if node._class in self.plugins:
            return self._do_plugin(node, frame, view)
        return (
            method(node, frame, view)
            if method
            else self._evaluate(node._inputs.get(0), frame, view)
        )

    def _do_read(self, node: Node, frame: int, view: str) -> Picture:
        first, last = node._knobs["first"].value(), node._knobs["last"].value()
        wanted = min(max(frame, first), last)
        path = expand(node._knobs["file"].value(), wanted, view)
        if not os.path.isfile(path):
            if node._knobs["on_error"].value() == "black":
                return Picture({}, (0, 0, 1, 1), 1, 1)
            raise RuntimeError(f"{node._name}: {path}: No such file or directory")
        return load(path)

    def _do_group(self, node: Node, frame: int, view: str) -> Picture:
        outputs = [child for child in node._children if child._class == "Output"]
        return self._evaluate(outputs[0]._inputs.get(0), frame, view)

    def _do_input(self, node: Node, frame: int, view: str) -> Picture:
        return self._evaluate(node._parent._inputs.get(node._knobs["number"].value()), frame, view)

    def _do_switch(self, node: Node, frame: int, view: str) -> Picture:
        return self._evaluate(node._inputs.get(node._knobs["which"].value()), frame, view)

    def _do_grade(self, node: Node, frame: int, view: str) -> Picture:
        picture = self._evaluate(node._inputs.get(0), frame, view)
        gain = np.float32(node._knobs["white"].value())
        channels = {
            name: plane if name == "rgba.alpha" else plane * gain
            for name, plane in picture.channels.items()
        }
        return replace(picture, channels=channels)

    def _do_plugin(self, node: Node, frame: int, view: str) -> Picture:
        """Half of a matte everywhere: enough to see which output comes from where."""
        picture = self._evaluate(node._inputs.get(0), frame, view)
        straight = node._knobs["outputMode"].value() == PLUGIN_CHOICES["outputMode"][1]
        half = np.float32(1.0 if straight else 0.5)
        colours = ("red", "green", "blue")
        channels = {f"rgba.{c}": picture.channels[f"rgba.{c}"] * half for c in colours}
        channels["rgba.alpha"] = np.full_like(channels["rgba.red"], 0.5)
        self.live_renders += 1
        return replace(picture, channels=channels)

    def _do_copy(self, node: Node, frame: int, view: str) -> Picture:
        below = self._evaluate(node._inputs.get(0), frame, view)
        above = self._evaluate(node._inputs.get(1), frame, view)
        channels = dict(below.channels)
        for number in range(4):
            source, target = (str(node._knobs[f"{w}{number}"].value()) for w in ("from", "to"))
            if source != "none":
                if target.split(".")[0] not in ("rgba", *self.layers):
                    raise RuntimeError(f"{node._name}: there is no layer of {target}")
                channels[target] = above.channels[source]
        return replace(below, channels=channels)

    def _do_crop(self, node: Node, frame: int, view: str) -> Picture:
        """The bounding box becomes `box` (x, y, w, h, y down); black where there was nothing."""
        picture = self._evaluate(node._inputs.get(0), frame, view)
        x, y, width, height = node._knobs["box"].value()
        left, top, w, h = picture.data_window
        channels = {}
        for name, plane in picture.channels.items():
            cut = np.zeros((height, width), np.float32)
            x0, y0 = max(x, left), max(y, top)
            x1, y1 = min(x + width, left + w), min(y + height, top + h)
            if x1 > x0 and y1 > y0:
                cut[y0 - y : y1 - y, x0 - x : x1 - x] = plane[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]
            channels[name] = cut
        return replace(picture, channels=channels, data_window=(x, y, width, height))

    def _do_reformat(self, node: Node, frame: int, view: str) -> Picture:
        picture = self._evaluate(node._inputs.get(0), frame, view)
        width, height = node._knobs["box"].value()
        return replace(picture, width=width, height=height)

    # -- rendering --------------------------------------------------------------------------------

    def _execute(self, nodes: Sequence[Node], ranges: Any, views: Sequence[str]) -> None:
        self._main_only()
        if self._executing:
            raise RuntimeError("I'm already executing something else")
        for node in nodes:
            if node._alive()._class != "Write":
                raise RuntimeError(f"{node._name} is not executable")
        self._executing = True
        try:
            for node in nodes:
                self._call("BeforeRender", node)
            for first, last, step in ranges:
                for frame in range(first, last + 1, step):
                    self._execute_frame(nodes, frame, views)
            for node in nodes:
                self._call("AfterRender", node)
        finally:
            self._executing = False

    def _execute_frame(self, nodes: Sequence[Node], frame: int, views: Sequence[str]) -> None:
        self.before_frame(frame)
        for view in views:
            if view not in self.view_names:
                raise RuntimeError(f"no view {view}")
            for node in nodes:
                self._call("BeforeFrameRender", node)
                cancelled = (
                    self.cancel_after is not None and len(self.rendered) >= self.cancel_after
                )
                self._write(node, frame, view, cancelled)
                if cancelled:
                    self.cancel_after = None
                    raise RuntimeError("cancelled")
                self._call("AfterFrameRender", node)
            names = tuple(sorted(str(node._knobs["file"].value()) for node in nodes))
            self.rendered.append((frame, view, names))

    def _write(self, node: Node, frame: int, view: str, cancelled: bool) -> None:
        picture = self._evaluate(node._inputs.get(0), frame, view)
        if self.root_node._knobs["proxy"].value():
            picture = half_size(picture)
        wanted = str(node._knobs["channels"].value())
        chosen = {k: v for k, v in picture.channels.items() if _in_mask(k, wanted)}
        if not chosen:
            raise RuntimeError(f"{node._name}: there are no channels of {wanted} to write")
        if cancelled:
            chosen = {k: np.array(v) for k, v in chosen.items()}
            for plane in chosen.values():
                plane[len(plane) // 2 :] = 0
        path = Path(expand(node._knobs["file"].value(), frame, view))
        if not path.parent.is_dir():
            raise RuntimeError(f"{path.parent}: No such directory")
        save(
            path,
            replace(picture, channels=chosen),
            half=node._knobs["datatype"].value() == "16 bit half",
            compression="none" if node._knobs["compression"].value() == "none" else "zip",
        )

    def frame_of(self, node: Node, frame: int, view: str = "main") -> Picture:
        """What a viewer would show. Raises RuntimeError where Nuke shows an error."""
        return self._evaluate(node, frame, view)


def _in_mask(channel: str, mask: str) -> bool:
    layer, _, name = channel.partition(".")
    if mask == "all":
        return True
    if mask == "rgb":
        return layer == "rgba" and name != "alpha"
    if mask == "alpha":
        return channel == "rgba.alpha"
    return mask in (layer, channel)


def expand(pattern: str, frame: int, view: str) -> str:
    """A file name of a frame, as Nuke expands it."""
    text = pattern.replace("%V", view)
    return re.sub(r"%(0\d)?d", lambda m: ("%" + (m.group(1) or "") + "d") % frame, text)


def half_size(picture: Picture) -> Picture:
    """What proxy mode renders."""
    x, y, _, _ = picture.data_window
    channels = {name: plane[::2, ::2] for name, plane in picture.channels.items()}
    height, width = next(iter(channels.values())).shape
    return Picture(
        channels, (x // 2, y // 2, width, height), picture.width // 2, picture.height // 2,
        picture.aspect,
    )  # fmt: skip


# -------------------------------------------------------------------------------------------- files


def nuke_name(name: str) -> str:
    """`R` -> `rgba.red`, `matte.A` -> `matte.alpha`."""
    if name in SHORT:
        return SHORT[name]
    layer, _, channel = name.rpartition(".")
    return f"{layer}.{LONG.get(channel, channel)}"


def exr_name(name: str) -> str:
    """The way back."""
    layer, _, channel = name.rpartition(".")
    short = {long: short for short, long in LONG.items()}.get(channel, channel)
    return short if layer == "rgba" else f"{layer}.{short}"


def load(path: str) -> Picture:
    """A picture from disk."""
    try:
        import OpenImageIO as oiio  # noqa: N813
    except ImportError:
        return _load_by_ourselves(path)
    source = oiio.ImageInput.open(path)
    if source is None:
        raise RuntimeError(f"{path}: {oiio.geterror()}")
    spec = source.spec()
    pixels = np.asarray(source.read_image("float"), np.float32)
    pixels = pixels.reshape(spec.height, spec.width, -1)
    source.close()
    channels = {nuke_name(name): pixels[..., i] for i, name in enumerate(spec.channelnames)}
    return Picture(
        channels,
        (spec.x - spec.full_x, spec.y - spec.full_y, spec.width, spec.height),
        spec.full_width,
        spec.full_height,
        spec.get_float_attribute("PixelAspectRatio", 1.0),
    )


def _load_by_ourselves(path: str) -> Picture:
    from mattebridge.hosts.exr import read_exr

    image = read_exr(path)
    channels = {nuke_name(k): np.asarray(v, np.float32) for k, v in image.channels.items()}
    _, _, width, height = image.display_window
    return Picture(channels, image.data_window, width, height, image.pixel_aspect)


def save(path: Path, picture: Picture, *, half: bool = False, compression: str = "none") -> None:
    """Write a picture as the host's EXR writer does: a temporary, then a rename."""
    temporary = path.with_name(path.name + ".1234.tmp.exr")
    try:
        import OpenImageIO as oiio  # noqa: N813
    except ImportError:
        _save_by_ourselves(temporary, picture, half)
    else:
        names = list(picture.channels)
        x, y, width, height = picture.data_window
        spec = oiio.ImageSpec(width, height, len(names), "half" if half else "float")
        spec.x, spec.y = x, y
        spec.full_width, spec.full_height = picture.width, picture.height
        spec.channelnames = tuple(exr_name(name) for name in names)
        spec.attribute("compression", compression)
        spec.attribute("PixelAspectRatio", picture.aspect)
        output = oiio.ImageOutput.create(str(temporary))
        if not output.open(str(temporary), spec):
            raise RuntimeError(output.geterror())
        output.write_image(np.stack([picture.channels[name] for name in names], axis=-1))
        output.close()
    os.replace(temporary, path)


def _save_by_ourselves(path: Path, picture: Picture, half: bool) -> None:
    from mattebridge.hosts.exr import write_exr

    write_exr(
        path,
        {exr_name(name): plane for name, plane in picture.channels.items()},
        dtype="float16" if half else "float32",
        data_window=picture.data_window,
        display_window=(0, 0, picture.width, picture.height),
        pixel_aspect=picture.aspect,
    )


# --------------------------------------------------------------------------------------- the module


def _make_module(host: NukeHost) -> types.ModuleType:
    """`nuke` as the host's scripts see it: nothing in it that the real one lacks."""
    from fakes import nuke_module

    module = types.ModuleType("nuke")
    for name, value in {**KNOB_CLASSES, **nuke_module.public(host)}.items():
        setattr(module, name, value)
    module.Node, module.Group, module.Root = Node, Group, Root  # type: ignore[attr-defined]
    return module


def report_swallowed() -> None:
    """What Nuke does with an exception on its main thread: prints it."""
    traceback.print_exc()
