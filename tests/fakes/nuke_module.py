"""The functions of `nuke` over a `NukeHost`. Every name and parameter here stands in the stubs."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    from fakes.nuke_host import NukeHost

MAIN_THREAD_WAIT_S = 60.0


def public(host: NukeHost) -> dict[str, Any]:
    """name -> value of everything that scripts may use."""
    functions = {**_graph(host), **_render(host), **_script(host), **_window(host)}
    checked = {name: _main_only(host, function) for name, function in functions.items()}
    return {
        **checked,
        **_threads(host),
        **_callbacks(host),
        "nodes": _Nodes(host),
        "Undo": _undo(host),
        "ProgressTask": _progress_task(host),
        "Layer": _layer(host),
        "GUI": host.gui,
        "INTERACTIVE": host.gui,
        "EXE_PATH": "/nonexistent/Nuke",
        "rawArgs": host.arguments,
        "NUKE_VERSION_STRING": "15.1v1",
    }


def _main_only(host: NukeHost, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        host._main_only()
        return function(*args, **kwargs)

    return checked


class _Nodes:
    def __init__(self, host: NukeHost) -> None:
        self._host = host

    def __getattr__(self, item: str) -> Callable[..., Any]:
        if item.startswith("_"):
            raise AttributeError(item)
        return lambda **knobs: self._host._make(item, knobs)


def _graph(host: NukeHost) -> dict[str, Callable[..., Any]]:
    def createNode(typ: str, knobs: str = "", inpanel: bool = True) -> Any:  # noqa: N802
        node = host._make(typ, {})
        if host.selected and typ != "Group":
            node.setInput(0, host.selected[0])
        return node

    def delete(n: Any) -> None:
        host._call("OnDestroy", n._alive())
        n._parent._children.remove(n)
        for other in _everything(host.root_node):
            other._inputs = {i: source for i, source in other._inputs.items() if source is not n}
        n._dead = True

    def toNode(s: str) -> Any:  # noqa: N802
        node: Any = host.root_node
        for part in s.split("."):
            node = next((child for child in node._children if child._name == part), None)
            if node is None:
                return None
        return node

    def allNodes(*args: Any, **kwargs: Any) -> list[Any]:  # noqa: N802
        where = kwargs.get("group") or host.context[-1]
        found = _everything(where) if kwargs.get("recurseGroups") else where._children
        return [node for node in found if not args or node._class == args[0]]

    def selectedNodes(filter: str = "") -> list[Any]:  # noqa: N802
        return [node for node in host.selected if not filter or node._class == filter]

    def thisNode() -> Any:  # noqa: N802
        return host._this[-1][0]

    def thisKnob() -> Any:  # noqa: N802
        return host._this[-1][1]

    def root() -> Any:
        return host.root_node

    return {name: value for name, value in locals().items() if callable(value) and name != "host"}


def _everything(group: Any) -> list[Any]:
    found = []
    for child in group._children:
        found += [child, *_everything(child)]
    return found


def _render(host: NukeHost) -> dict[str, Callable[..., Any]]:
    def execute(
        nameOrNode: Any,  # noqa: N803
        start: int,
        end: int,
        incr: int = 1,
        views: Sequence[str] = (),
        continueOnError: bool = False,  # noqa: N803
    ) -> None:
        host._execute([nameOrNode], [(start, end, incr)], list(views) or list(host.view_names))

    def executeMultiple(  # noqa: N802
        nodes: Any,
        ranges: Any,
        views: Any,
        continueOnError: bool = False,  # noqa: N803
    ) -> None:
        if continueOnError:
            raise AssertionError("a hole must be an error")
        host._execute(list(nodes), ranges, list(views) or list(host.view_names))

    def views() -> list[str]:
        return list(host.view_names)

    def frame(f: Optional[int] = None) -> int:
        if f is not None:
            host.current_frame = int(f)
        return host.current_frame

    return {"execute": execute, "executeMultiple": executeMultiple, "views": views, "frame": frame}


def _script(host: NukeHost) -> dict[str, Callable[..., Any]]:
    from fakes.nuke_script import load_script, load_toolset, save_script

    def scriptOpen(filename: Optional[str] = None) -> None:  # noqa: N802
        assert filename is not None
        if not Path(filename).is_file():
            raise RuntimeError(f"{filename}: No such file or directory")
        load_script(host, Path(filename).read_text())
        host.root_node._knobs["name"]._value = str(filename)
        host._call("OnScriptLoad", host.root_node)

    def scriptSave(filename: Optional[str] = None) -> bool:  # noqa: N802
        name = filename or host.root_node._knobs["name"].value()
        host.root_node._knobs["name"]._value = str(name)
        Path(name).write_text(save_script(host))
        return True

    def loadToolset(filename: str) -> Any:  # noqa: N802
        return load_toolset(host, Path(filename).read_text())

    return {"scriptOpen": scriptOpen, "scriptSave": scriptSave, "loadToolset": loadToolset}


class _Menu:
    def __init__(self, host: NukeHost) -> None:
        self._host = host

    def addMenu(self, name: str) -> _Menu:  # noqa: N802
        return self

    def addCommand(self, name: str, command: str = "", *args: Any) -> None:  # noqa: N802
        self._host.menu_entries[name] = command


def _window(host: NukeHost) -> dict[str, Callable[..., Any]]:
    def menu(name: str) -> _Menu:
        if not host.gui:
            raise RuntimeError("there are no menus without a window")
        return _Menu(host)

    def choice(title: str, prompt: str, options: Sequence[str], default: int = 0) -> Optional[int]:
        if not host.gui:
            raise RuntimeError("there is nobody to choose without a window")
        picked = host.pick(list(options))
        return None if picked is None else list(options).index(picked)

    return {"menu": menu, "choice": choice}


def _threads(host: NukeHost) -> dict[str, Callable[..., Any]]:
    def arguments(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (args if isinstance(args, tuple) else (args,)), dict(kwargs)

    def executeInMainThread(call: Any, args: Any = (), kwargs: Any = ()) -> None:  # noqa: N802
        if threading.current_thread() is host.main:
            raise AssertionError("executeInMainThread on the main thread would hang")
        given, named = arguments(args, kwargs)
        host._queue.put(lambda: _swallow(call, given, named))

    def executeInMainThreadWithResult(  # noqa: N802
        call: Any, args: Any = (), kwargs: Any = ()
    ) -> Any:
        if threading.current_thread() is host.main:
            raise AssertionError("executeInMainThreadWithResult on the main thread would hang")
        given, named = arguments(args, kwargs)
        done = threading.Event()
        results: list[Any] = []

        def run() -> None:
            results.append(_swallow(call, given, named))
            done.set()

        host._queue.put(run)
        done.wait(MAIN_THREAD_WAIT_S)
        return results[0] if results else None

    return {
        "executeInMainThread": executeInMainThread,
        "executeInMainThreadWithResult": executeInMainThreadWithResult,
    }


def _swallow(call: Any, args: Any, kwargs: Any) -> Any:
    from fakes.nuke_host import report_swallowed

    try:
        return call(*args, **kwargs)
    except Exception:
        report_swallowed()
        return None


def _callbacks(host: NukeHost) -> dict[str, Callable[..., Any]]:
    def adder(kind: str, default: str) -> Callable[..., None]:
        def add(call: Any, args: Any = (), kwargs: Any = (), nodeClass: str = default) -> None:  # noqa: N803
            host._register(kind, call, args, kwargs or {}, nodeClass)

        return add

    kinds = ("OnCreate", "OnDestroy", "OnScriptClose", "OnScriptLoad", "OnScriptSave")
    found = {f"add{kind}": adder(kind, "*") for kind in (*kinds, "KnobChanged")}
    for kind in ("BeforeRender", "BeforeFrameRender", "AfterFrameRender", "AfterRender"):
        found[f"add{kind}"] = adder(kind, "Write")

    def addFilenameFilter(  # noqa: N802
        call: Any,
        args: Any = (),
        kwargs: Any = (),
        nodeClass: str = "*",  # noqa: N803
    ) -> None:
        host._register("FilenameFilter", call, args, kwargs or {}, nodeClass)

    def filenameFilter(filename: str) -> Any:  # noqa: N802
        for call, args, kwargs in host._callbacks.get("FilenameFilter", {}).get("*", []):
            filename = call(filename, *args, **dict(kwargs)) or filename
        return filename

    return {**found, "addFilenameFilter": addFilenameFilter, "filenameFilter": filenameFilter}


def _undo(host: NukeHost) -> Any:
    class Undo:
        @classmethod
        def disable(cls) -> None:
            host.undo_depth += 1

        @classmethod
        def enable(cls) -> None:
            host.undo_depth -= 1

    return Undo


def _layer(host: NukeHost) -> Any:
    class Layer:
        def __init__(self, name: str, channels: Sequence[str]) -> None:
            host._main_only()
            assert all(channel.startswith(f"{name}.") for channel in channels)
            host.layers.setdefault(name, list(channels))

    return Layer


def _progress_task(host: NukeHost) -> Any:
    class ProgressTask:
        def __init__(self, name: str) -> None:
            host._main_only()
            if not host.gui:
                raise RuntimeError("there are no progress bars without a window")
            self.percent, self.asked = 0, 0
            host.bars.append(weakref.ref(self))

        def setProgress(self, percent: int) -> None:  # noqa: N802
            host._main_only()
            if not isinstance(percent, int):
                raise TypeError("an integer is required")
            self.percent = percent

        def setMessage(self, message: str) -> None:  # noqa: N802
            host._main_only()

        def isCancelled(self) -> bool:  # noqa: N802
            host._main_only()
            self.asked += 1
            return host.cancel_bar_after is not None and self.asked > host.cancel_bar_after

    return ProgressTask
