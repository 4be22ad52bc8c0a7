"""Mattes in Fusion and on Resolve's Fusion page: Savers -> daemon -> Loaders, by a script.

    plate, clean plate, hint --Saver, float EXR--> scratch --> daemon --> mattes/<set>/...
                                                                               |
                             MatteBridge (Loader), MatteBridgeForeground <-----+

`main(fusion, comp, tool)` shows a dialog and mattes; `matte` mattes without one; `start` starts a
daemon. The only change to the composition is the two Loaders, which are one undo step: render
range, current time, selection, and the pass-through of the other Savers are restored in any case.
If the host is killed during a run, the next run restores them from a note in the composition. The
host renders a few frames at a time, so that the scratch folder stays small; in between, the
composition is not locked.

Nothing is imported from the host: it passes its objects to `main`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

QUIET = 524288  # REQF_Quiet: no dialogs while rendering
AUTOMATIC = -32768  # AddTool: Fusion chooses the position
ROLES = ("plate", "clean_plate", "alpha_hint", "garbage_matte", "core_matte")
# In place of a tool's name: a clean plate that the daemon holds.
HELD = "held:"
NOTE = "mattebridge.restore"
OURS = "mattebridge.scratch"
# On a Loader: the folder of the set that it shows, to which the next run adds.
SHOWN = "mattebridge.set"
# Frames of one Render call; more would only enlarge the scratch folder.
CHUNK_FRAMES = 8
EXR_FLOAT = 2
EXR_UNCOMPRESSED = 0
# Channels of the two Loaders, as the result files name them.
LOADERS = {
    "MatteBridge": ("R", "G", "B", "A"),
    "MatteBridgeForeground": ("foreground.R", "foreground.G", "foreground.B", "matte.A"),
}
CHANNEL_INPUTS = ("RedName", "GreenName", "BlueName", "AlphaName")


class HostError(Exception):
    """One sentence for the artist."""

    exit_status = 2


@dataclass(frozen=True)
class Options:
    """What to matte: tools by name (`held:NAME` for a clean plate that the daemon holds), an
    inclusive frame range, and the artist's settings. space: a colour space by its name in the
    daemon's OpenColorIO config, in place of `colorspace`."""

    plate: str
    clean_plate: str = ""
    alpha_hint: str = ""
    garbage_matte: str = ""
    core_matte: str = ""
    first: int = 0
    last: int = 0
    increment: int = 1
    model: str = "default"
    colorspace: str = "linear"
    space: str = ""
    premultiply: str = "linear"
    foreground: str = "model"
    hint_channel: str = "A"
    hint_sharpen: bool = False
    hint_sharpen_dilation: int = 3
    hint_blur_px: int = 0
    source_passthrough: bool = False
    edge_erode_px: int = 3
    edge_blur_px: int = 7
    auto_despeckle: bool = False
    despeckle_size: int = 400
    despeckle_dilation: int = 25
    despeckle_blur: int = 5
    despeckle_threshold: float = 0.5
    despeckle_hysteresis: bool = False
    despill_strength: float = 0.0
    spill_method: str = "average"
    screen: Optional[str] = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    instance: Optional[str] = None
    store: Optional[str] = None
    timeout_s: float = 600.0


# The clean-up behind the model, in the order in which it is done: option, label, largest value of
# its slider (0: a checkbox). Lengths and areas are in pixels.
CLEAN_UP: Sequence[tuple[str, str, int]] = (
    ("hint_sharpen", "Hint sharpen", 0),
    ("hint_sharpen_dilation", "Hint larger by", 500),
    ("hint_blur_px", "Hint softness", 500),
    ("source_passthrough", "Source passthrough", 0),
    ("edge_erode_px", "Inside smaller by", 500),
    ("edge_blur_px", "Inside softness", 500),
    ("auto_despeckle", "Despeckle", 0),
    ("despeckle_size", "Smallest island", 1000000),
    ("despeckle_dilation", "Keep around", 500),
    ("despeckle_blur", "Keep softness", 500),
    ("despeckle_threshold", "Island above", 1),
    ("despeckle_hysteresis", "Keep what is connected", 0),
    ("despill_strength", "Despill", 1),
)
AS_THE_MODEL = "as the model wants"


def main(fusion: Any, comp: Any, tool: Any = None) -> int:
    """Show the dialog, matte, add the Loaders. Prints an error as one sentence; an exit status."""
    try:
        options = _ask(comp, _proposal(comp, tool, _space_of_project(fusion)))
        if options is None:
            return 4
        text = matte(comp, options, report=_print)
    except Exception as error:
        _print(_sentence(error))
        return int(getattr(error, "exit_status", 1))
    _print(text)
    return 0


def start(fusion: Any, comp: Any, tool: Any = None) -> int:
    """Start the daemon where none runs, and show which one runs, or why none; an exit status."""
    status = 0
    try:
        text = str(_package("route").start_daemon(None))
    except Exception as error:
        text, status = _daemon_error(error), int(getattr(error, "exit_status", 1))
    _print(text)
    if comp is not None:
        comp.AskUser("MatteBridge", {1: _daemon_field(text)})
    return status


# What an entry of the menu can do (menu_entry.py).
ACTIONS: Mapping[str, Callable[[Any, Any, Any], int]] = {"main": main, "start": start}


def _print(text: str) -> None:
    print(f"mattebridge: {text}", flush=True)


# ------------------------------------------------------------------------------------ what to matte


def _proposal(comp: Any, tool: Any, space: str = "") -> Options:
    """The selected tool as plate; tools with `clean` and `hint` in their names for the others."""
    if comp is None:
        raise HostError("open a composition first")
    plate = tool if tool is not None else comp.ActiveTool
    if plate is None:
        raise HostError("select the tool that gives the plate, then run the script again")
    of_plate = plate.GetAttrs()["TOOLS_Name"]
    # The plate would be its own clean plate where its name says so; a Saver gives no picture.
    left_out = {of_plate, *_names_of(comp.GetToolList(False, "Saver")), *LOADERS}
    names = [name for name in _names_of(comp.GetToolList(False)) if name not in left_out]
    first, last = _range_of(comp)
    return Options(
        plate=of_plate,
        clean_plate=_named_like("clean", names),
        alpha_hint=_named_like("hint", names),
        first=first,
        last=last,
        colorspace="linear",
        space="" if space == "linear" else space,
    )


def _space_of_project(fusion: Any) -> str:
    """The space in which Resolve hands pictures to its Fusion page; "" where none is known."""
    colour = _package("resolve_colour")
    try:
        project = fusion.GetResolve().GetProjectManager().GetCurrentProject()
        settings = {name: str(project.GetSetting(name) or "") for name in colour.SETTINGS}
    except (AttributeError, TypeError):  # Fusion by itself, which has no project
        return ""
    return str(colour.space_of_project(settings))


def _names_of(tools: Mapping[Any, Any]) -> list[str]:
    return [str(tool.GetAttrs()["TOOLS_Name"]) for tool in tools.values()]


def _named_like(word: str, names: Sequence[str]) -> str:
    found = [name for name in names if word in name.lower()]
    return found[0] if len(found) == 1 else ""


def _range_of(comp: Any) -> tuple[int, int]:
    attributes = comp.GetAttrs()
    return int(attributes["COMPN_RenderStart"]), int(attributes["COMPN_RenderEnd"])


def _ask(comp: Any, proposal: Options) -> Optional[Options]:
    """The artist's choice, or None."""
    words = {
        "plate": "Plate", "clean_plate": "CleanPlate", "alpha_hint": "Hint",
        "garbage_matte": "GarbageMatte", "core_matte": "CoreMatte", "model": "Model",
        "space": "Space by name, in place of Colour",
    }  # fmt: skip
    choices = {
        "colorspace": ("Colour", ("linear", "srgb")),
        "premultiply": ("Multiply in", ("linear", "display")),
        "foreground": ("Foreground from", ("model", "unmix", "plate")),
        "spill_method": ("Spill above", ("average", "double_limit", "screen_only")),
        "screen": ("Screen", (AS_THE_MODEL, "green", "blue")),
    }
    fields: dict[int, Any] = {1: _daemon_field(_daemon_found())}
    for name, label in words.items():
        fields[len(fields) + 1] = _field(name, label, "Text", Default=getattr(proposal, name))
    for name, label in {"first": "First", "last": "Last"}.items():
        number = _field(name, label, "Slider", Default=getattr(proposal, name), Integer=True)
        number.update(Min=-100000, Max=1000000)
        fields[len(fields) + 1] = number
    for name, label, highest in CLEAN_UP:
        fields[len(fields) + 1] = _clean_up_field(name, label, highest, getattr(proposal, name))
    for name, (label, values) in choices.items():
        options = dict(enumerate(values, 1))
        fields[len(fields) + 1] = _field(name, label, "Dropdown", Options=options, Default=0)
    answer = comp.AskUser("MatteBridge", fields)
    if not answer:
        return None
    chosen: dict[str, Any] = {name: str(answer[name]).strip() for name in words}
    for name, (_, values) in choices.items():
        value = answer[name]
        chosen[name] = value if isinstance(value, str) else values[int(value)]
    if chosen["screen"] == AS_THE_MODEL:
        chosen["screen"] = None
    for name, _, _ in CLEAN_UP:
        chosen[name] = type(getattr(proposal, name))(answer[name])
    return Options(**chosen, first=int(answer["first"]), last=int(answer["last"]))


def _daemon_found() -> str:
    """Which daemon there is, or why none."""
    try:
        return str(_package("route").status_line(None))
    except Exception as error:
        return _daemon_error(error)


def _daemon_error(error: Exception) -> str:
    try:
        return str(_package("panel_line").of_an_error(error))
    except HostError:  # the package is missing: that is what the error says too
        return _sentence(error)


def _daemon_field(text: str) -> dict[Any, Any]:
    return _field("daemon", "Daemon found", "Text", Default=text, ReadOnly=True, Lines=2, Wrap=True)


def _clean_up_field(name: str, label: str, highest: int, value: Any) -> dict[Any, Any]:
    if isinstance(value, bool):
        return _field(name, label, "Checkbox", Default=int(value))
    whole = isinstance(value, int)
    return _field(name, label, "Slider", Default=value, Integer=whole, Min=0, Max=highest)


def _field(name: str, label: str, kind: str, **more: Any) -> dict[Any, Any]:
    return {1: name, "Name": label, 2: kind, **more}


# -------------------------------------------------------------------------------------- doing it


def matte(
    comp: Any,
    options: Options,
    report: Callable[[str], None] = lambda text: None,
    cancelled: Callable[[], bool] = bool,
) -> str:
    """Matte the range and add the Loaders; returns a sentence about the result."""
    request, store, scratch = _package("request"), _package("store"), _package("scratch")
    route, ranges = _package("route"), _package("frame_range")
    _recover(comp)
    frames = ranges.frame_range(options.first, options.last, max(1, options.increment))
    tools = _tools_of(comp, options)
    held = options.clean_plate.startswith(HELD)
    settings = request.ShotSettings(
        model=options.model or "default",
        colorspace=options.space or options.colorspace,
        premultiply=options.premultiply,
        foreground=options.foreground,
        spill_method=options.spill_method,
        screen=options.screen,
        **{name: getattr(options, name) for name, _, _ in CLEAN_UP},
        settings=dict(options.settings),
        held_clean_plate=options.clean_plate[len(HELD) :] if held else "",
    )
    place = _store_of(comp, options)
    made: list[Any] = []
    with (
        scratch.ScratchFolder() as folder,
        route.open_route(options.instance, host="fusion", folder=folder.path) as way,
    ):
        for at in range(0, len(frames), CHUNK_FRAMES):
            chunk = frames[at : at + CHUNK_FRAMES]
            if cancelled():
                raise _cancelled()
            files = _render(comp, tools, chunk, folder.path)

            def inputs_of(frame: int, view: str, files: Any = files) -> Any:
                found = {role: files[role][frame] for role in files}
                return request.ScratchFiles(**found, hint_channel=options.hint_channel)

            made += way.matte(
                [(frame, "main") for frame in chunk],
                inputs_of,
                store=place,
                settings=settings,
                priority="interactive" if len(frames) == 1 else "batch",
                timeout_s=options.timeout_s,
                cancelled=cancelled,
                on_frame=lambda one: report(f"frame {one.frame} of {frames[0]}-{frames[-1]}"),
            )
            for paths in files.values():
                for path in paths.values():
                    path.unlink(missing_ok=True)  # the command line has deleted them already
        words = way.words
    shown = _shown_set(comp, tools["plate"], place)
    _show(comp, tools["plate"], store.update_set(place, shown, made, settings))
    found = sum(one.found for one in made)
    text = f"{len(made) - found} frames matted" + (f", {found} as before" if found else "")
    return "; ".join(filter(None, (text, *request.warnings_of(made), words)))


def _tools_of(comp: Any, options: Options) -> dict[str, Any]:
    tools = {}
    for role in ROLES:
        name = getattr(options, role)
        if not name or (role == "clean_plate" and name.startswith(HELD)):
            continue
        tools[role] = comp.FindTool(name)
        if tools[role] is None:
            raise HostError(f"there is no tool {name} in this composition")
    if "plate" not in tools:
        raise HostError("name the tool that gives the plate")
    return tools


def _store_of(comp: Any, options: Options) -> Path:
    """Where the mattes are kept: beside the composition once it is saved."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", options.plate)
    if options.store:
        return Path(options.store) / name
    saved = comp.GetAttrs().get("COMPS_FileName") or ""
    if os.path.isabs(saved):
        return Path(saved).parent / "mattebridge" / Path(saved).stem / name
    from mattebridge.hosts.store import unsaved_folder

    return unsaved_folder() / name


# ------------------------------------------------------------------------------------ host renders


def _render(
    comp: Any, tools: Mapping[str, Any], frames: Sequence[int], folder: Path
) -> dict[str, dict[int, Path]]:
    """Scratch EXRs of some frames: role -> frame -> file. Leaves the composition unchanged."""
    with _undisturbed(comp):
        ours: list[Any] = []
        try:
            for role, tool in tools.items():
                (folder / role).mkdir(exist_ok=True)
                ours.append(comp.AddTool("Saver", AUTOMATIC, AUTOMATIC))
                ours[-1].SetData(OURS, True)
                _set_saver(ours[-1], tool, folder / role / "frame.0000.exr")
            step = frames[1] - frames[0] if len(frames) > 1 else 1
            settings = {"Start": frames[0], "End": frames[-1], "Step": step, "Wait": True}
            if not comp.Render({**settings, "RenderFlags": QUIET}):
                raise HostError(f"Fusion did not render {frames[0]}-{frames[-1]}; see its console")
        finally:
            with contextlib.ExitStack() as steps:
                for saver in ours:
                    steps.callback(saver.Delete)
    # Fusion may return True although files are missing.
    return {role: _files_of(folder / role, role, frames) for role in tools}


def _set_saver(saver: Any, tool: Any, path: Path) -> None:
    saver.ConnectInput("Input", tool)
    for name, value in {
        "Clip": str(path),
        "OutputFormat": "OpenEXRFormat",
        "OpenEXRFormat.Depth": EXR_FLOAT,
        "OpenEXRFormat.Compression": EXR_UNCOMPRESSED,
        **{f"OpenEXRFormat.{name}Enable": 1 for name in ("Red", "Green", "Blue", "Alpha")},
    }.items():
        saver.SetInput(name, value)


def _files_of(folder: Path, role: str, frames: Sequence[int]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in folder.iterdir():
        number = re.search(r"(-?\d+)\.exr$", path.name)
        if number:
            found[int(number.group(1))] = path
    missing = [frame for frame in frames if frame not in found]
    if missing:
        raise HostError(f"Fusion wrote no {role.replace('_', ' ')} for frame {missing[0]}")
    return {frame: found[frame] for frame in frames}


@contextlib.contextmanager
def _undisturbed(comp: Any) -> Iterator[None]:
    """Other Savers do not write meanwhile; range and time are restored; no undo step remains."""
    attributes = comp.GetAttrs()
    kept = {name: attributes[name] for name in ("COMPN_RenderStart", "COMPN_RenderEnd")}
    time = comp.CurrentTime
    with _one_step(comp, "MatteBridge render", keep=False):
        savers = list(comp.GetToolList(False, "Saver").values())
        before = [(saver, saver.GetAttrs()) for saver in savers]
        passed = {each["TOOLS_Name"]: bool(each["TOOLB_PassThrough"]) for _, each in before}
        comp.SetData(NOTE, json.dumps({"range": kept, "savers": passed}))
        try:
            for saver, _ in before:
                saver.SetAttrs({"TOOLB_PassThrough": True})
            yield
        finally:
            # Each on its own, so that a failure does not prevent restoring the rest. The note then
            # stays, and the next run tries again.
            with contextlib.ExitStack() as steps:
                steps.push(lambda kind, *_: None if kind else comp.SetData(NOTE, ""))
                steps.callback(setattr, comp, "CurrentTime", time)
                steps.callback(comp.SetAttrs, kept)
                for saver, each in before:
                    passed_through = {"TOOLB_PassThrough": each["TOOLB_PassThrough"]}
                    steps.callback(saver.SetAttrs, passed_through)


def _recover(comp: Any) -> None:
    """Restore what a run that was killed during a render has changed."""
    try:
        note = json.loads(comp.GetData(NOTE) or "")
    except (TypeError, ValueError):
        return
    with _one_step(comp, "MatteBridge recovery", keep=False):
        for saver in list(comp.GetToolList(False, "Saver").values()):
            name = saver.GetAttrs()["TOOLS_Name"]
            if saver.GetData(OURS):
                saver.Delete()
            elif name in note["savers"]:
                saver.SetAttrs({"TOOLB_PassThrough": note["savers"][name]})
        comp.SetAttrs(note["range"])
        comp.SetData(NOTE, "")


@contextlib.contextmanager
def _one_step(comp: Any, name: str, *, keep: bool) -> Iterator[None]:
    """The composition locked, and at most one undo step; keeps the selection."""
    active, selected = comp.ActiveTool, list(comp.GetToolList(True).values())
    comp.Lock()
    try:
        comp.StartUndo(name)
        try:
            yield
        finally:
            _select(comp, selected, active)
            comp.EndUndo(keep)
    finally:
        comp.Unlock()


def _select(comp: Any, tools: Sequence[Any], active: Any) -> None:
    frame = comp.CurrentFrame
    if frame is not None:  # there is a window
        frame.FlowView.Select()
        for tool in tools:
            frame.FlowView.Select(tool, True)
    comp.SetActiveTool(active)


def _loaders_of(comp: Any, plate: Any) -> dict[str, Any]:
    """The Loaders that earlier runs made for a plate, by what they give."""
    of = plate.GetAttrs()["TOOLS_Name"]
    return {
        loader.GetData("mattebridge.gives"): loader
        for loader in comp.GetToolList(False, "Loader").values()
        if loader.GetData("mattebridge.plate") == of
    }


def _shown_set(comp: Any, plate: Any, store: Path) -> Optional[Path]:
    """The folder of the set that the Loaders of a plate show, also after a move; or None."""
    for loader in _loaders_of(comp, plate).values():
        shown = loader.GetData(SHOWN)
        if shown:
            found: Optional[Path] = _package("store").find_set(store, Path(shown))
            return found
    return None


def _show(comp: Any, plate: Any, folder: Path) -> None:
    """Two Loaders of the set: premultiplied RGBA, and foreground with the matte as alpha."""
    of = plate.GetAttrs()["TOOLS_Name"]
    listed = _package("store").read_set(folder)["frames"]
    frames = sorted(int(name.split(".")[-1]) for name in listed)
    with _one_step(comp, "MatteBridge", keep=True):
        known = _loaders_of(comp, plate)
        for name, channels in LOADERS.items():
            loader = known.get(name)
            if loader is None:
                loader = comp.AddTool("Loader", AUTOMATIC, AUTOMATIC)
                loader.SetAttrs({"TOOLS_Name": name})
                loader.SetData("mattebridge.plate", of)
                loader.SetData("mattebridge.gives", name)
            loader.SetData(SHOWN, str(folder))
            loader.SetInput("Clip", str(folder / f"matte.main.{frames[0]:04d}.exr"))
            loader.SetInput("GlobalIn", frames[0])
            loader.SetInput("GlobalOut", frames[-1])
            loader.SetInput("MissingFrames", 0)
            loader.SetInput("PostMultiplyByAlpha", 0)
            for wanted, channel in zip(CHANNEL_INPUTS, channels):
                loader.SetInput(f"Clip1.OpenEXRFormat.{wanted}", channel)


# ------------------------------------------------------------------------------------------- words


def _sentence(error: BaseException) -> str:
    """An error as one line, also where mattebridge cannot be imported."""
    message = str(getattr(error, "message", None) or str(error) or type(error).__name__)
    try:
        from mattebridge.errors import one_line
    except ImportError:
        return " ".join(message.split())
    return one_line(message)


def _cancelled() -> Exception:
    from mattebridge.errors import Cancelled

    return Cancelled("cancelled")


def _package(name: str) -> Any:
    """A module of `mattebridge.hosts`; `HostError` says what is missing."""
    if sys.version_info < (3, 9):  # noqa: UP036 - Fusion runs what the user has installed
        raise HostError("needs Python 3.9 or newer; choose one in Fusion's preferences")
    try:
        import importlib

        return importlib.import_module(f"mattebridge.hosts.{name}")
    except ImportError as error:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise HostError(
            f"mattebridge cannot be loaded here (Python {version}): {error}; run `mattebridge "
            "install resolve`, or use the script MatteBridge.lua, which needs no Python"
        ) from error


def set_up(folder: str) -> None:
    """Add the packages that `mattebridge install` put beside this file to the import path."""
    vendored = os.path.join(folder, "vendor", "cp{}{}".format(*sys.version_info[:2]))
    if os.path.isdir(vendored) and vendored not in sys.path:
        sys.path.append(vendored)
