"""The MatteBridge node in Nuke: a Group that sends its inputs to the daemon and reads the mattes.

    Plate, CleanPlate, Hint --> (while matting: Writes of scratch EXR) --> daemon
                                                                             |
    Output <-- Route <-- Matte (a Read of multi-layer EXRs, by content) <----+
                 ^------ Live  (the OFX plugin, where it is installed and chosen)

The Read gives premultiplied RGBA, `matte.alpha` and `foreground.red/green/blue`. Where Nuke cannot
load numpy, pyzmq and msgpack, the `mattebridge` command is used in place of the client. A script
with the node opens, shows its knobs, saves and renders finished mattes without this file, without
the mattebridge package and without a daemon: the node is a plain Group, its buttons are guarded
one-liners, and nothing here is imported by Nuke's own render.

In the graphical Nuke, a frame's inputs are rendered on the main thread and everything else runs on
a separate thread, so that the interface responds between frames; in a terminal session, all of it
runs on the main thread. Rules: Nuke is called on the main thread only; every wait checks whether
the request was cancelled; a thread never outlives its request by more than one poll interval.

A node is identified by the id in its knob `node_uid`, never by its name: a name that the artist
gives to another node must not give it the other's pictures. Its mattes are in a folder of that id,
which versions of the script share; what a script has made there is in records (hosts/store.py), so
that Clear in one version leaves the mattes of the others.

As a program, in Nuke's Python or under `nuke -t`:

    python -m mattebridge_nuke script.nk --frames=1001-1010 [--node=MatteBridge1]

The program does not write the script, which the artist may have open. The node finds the mattes by
their records when the script is opened, before a render in a terminal, and by the content of the
inputs when Matte range is pressed.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Callable, Optional

import nuke

VERSION = 1
PLUGIN_CLASS = "OFXorg.mattebridge.MatteBridge_v1"
# In the order of the node's arrows, with the role of each in a request.
INPUTS = {
    "Plate": "plate",
    "CleanPlate": "clean_plate",
    "Hint": "alpha_hint",
    "GarbageMatte": "garbage_matte",
    "CoreMatte": "core_matte",
}
MATTES = ("Hint", "GarbageMatte", "CoreMatte")
MARKER = "bridge_version"
# The knob that names a colour space of the config, and what stands for none in its list.
SPACE = "space"
AS_COLOUR_SAYS = "as Colour says"
# A file that never exists: the Read's error message then says what to do.
NOT_YET = "press_Matte_Range_first.%04d.exr"
READY = "not matted yet"
CHANGED = "the inputs or knobs have changed since this was matted: matte it again"
AS_MATTED = "the mattes are up to date"
ANY_FRAME = 1000000
# The knob that shows which daemon was found. It is about this machine and now, so a script that is
# opened shows NOT_LOOKED again.
FOUND = "daemon_found"
NOT_LOOKED = "not looked for yet"
STARTING = "starting the daemon"
ON_KNOB = """try:
    import mattebridge_nuke
except ImportError:
    pass
else:
    mattebridge_nuke.knob_changed(nuke.thisNode(), nuke.thisKnob().name())"""
# The longest time that checking the graph above the node may block the interface.
LOOK_LIMIT_S = 0.04
# Knobs of any node that do not affect pixels.
NO_PIXELS = re.compile(
    r"xpos|ypos|selected|name|label|note_font.*|tile_color|gl_color|hide_input|help|icon|bookmark"
    r"|indicators|postage_stamp.*|cached|dope_sheet|autolabel|knobChanged|updateUI|on[A-Z]\w*"
    r"|panel.*|rootNodeUpdated|lifetime\w*|useLifetime"
)
# Knobs of the OFX plugin that do not affect the pixels of a frame that it has computed.
NO_PLUGIN_PIXELS = ("timeout", "endpoint", "refresh")
POLL_S = 0.1
# The channel of a Nuke layer as an EXR names it.
EXR_NAMES = {"red": "R", "green": "G", "blue": "B", "alpha": "A"}

# A node's id is the name of its folder.
UID = re.compile(r"[0-9A-Za-z_-]+")
# In place of a script's name while it has none: another session's script is another one.
UNSAVED = f"unsaved-{uuid.uuid4().hex}"

_jobs: dict[str, _Job] = {}


class HostError(Exception):
    """One sentence for the artist."""


# ----------------------------------------------------------------------------------- start of Nuke


def set_up() -> None:
    """Called by `init.py`: adds the packages' folder and the callbacks. Imports nothing heavy."""
    if sys.version_info < (3, 9):  # noqa: UP036 - Nuke 13 runs this too
        raise HostError("needs Nuke 14 or newer (Python 3.9)")
    here = os.path.dirname(os.path.abspath(__file__))
    vendored = os.path.join(here, "vendor", "cp{}{}".format(*sys.version_info[:2]))
    # At the end, so that Nuke's own numpy is found first: Nuke was built with it.
    if os.path.isdir(vendored) and vendored not in sys.path:
        sys.path.append(vendored)
    nuke.addOnCreate(_on_create, nodeClass="Group")
    nuke.addOnDestroy(_on_destroy, nodeClass="Group")
    nuke.addOnScriptLoad(_on_script_load)
    nuke.addOnScriptClose(_on_script_close)
    nuke.addBeforeRender(_on_render)


def set_up_menu() -> None:
    """Called by `menu.py`: adds the menu entry."""
    menu = nuke.menu("Nodes").addMenu("mattebridge")
    menu.addCommand("MatteBridge", "import mattebridge_nuke; mattebridge_nuke.create()")


def _on_create() -> None:
    """A pasted copy gets its own id, and so its own folder."""
    node = nuke.thisNode()
    if not is_ours(node):
        return
    if node.knob(FOUND) is not None:
        _say_daemon(node, NOT_LOOKED)
    uid = node["node_uid"].value()
    others = [other for other in _our_nodes() if other.fullName() != node.fullName()]
    if any(other["node_uid"].value() == uid for other in others):
        node["node_uid"].setValue(uuid.uuid4().hex)
    _uid_of(node)


def _on_destroy() -> None:
    node = nuke.thisNode()
    if is_ours(node):
        _cancel_job(node["node_uid"].value())


def _on_script_load() -> None:
    """Show what was matted elsewhere: by a farm, or before the script's folder was moved."""
    for node in _our_nodes():
        _look_for_mattes(node)


def _on_script_close() -> None:
    for uid in list(_jobs):
        _cancel_job(uid)


def _on_render() -> None:
    """Before a Write: print which mattes are older than their inputs. Never an error."""
    parent = nuke.thisNode().parent()
    if parent is not None and is_ours(parent):
        return  # the scratch Write of a MatteBridge node
    for node in _our_nodes():
        if not nuke.GUI:
            _look_for_mattes(node)
        if check_upstream(node) and not nuke.GUI:
            print(f"mattebridge: {node.fullName()}: {CHANGED}", flush=True)


def is_ours(node: nuke.Node) -> bool:
    """Whether a node is a MatteBridge group."""
    return node.Class() == "Group" and node.knob(MARKER) is not None


def _our_nodes() -> list[nuke.Node]:
    found = nuke.allNodes("Group", group=nuke.root(), recurseGroups=True)
    return [node for node in found if is_ours(node)]


def _node_of(uid: str, handle: Optional[nuke.Node] = None) -> Optional[nuke.Node]:
    """The node with an id, whatever its name is by now; `handle` is where it was before.

    The handle comes first because some editions of Nuke list a few nodes only.
    """
    try:
        if handle is not None and handle["node_uid"].value() == uid:
            return handle
    except ValueError:  # the node was deleted; undo makes it again, with another handle
        pass
    found = (node for node in _our_nodes() if node["node_uid"].value() == uid)
    return next(found, None)


def _uid_of(node: nuke.Node) -> str:
    """The id of a node. One that has lost its own gets a new one, and with it an empty folder."""
    uid = str(node["node_uid"].value())
    if not UID.fullmatch(uid):
        uid = uuid.uuid4().hex
        node["node_uid"].setValue(uid)
    return uid


# ---------------------------------------------------------------------------------------- the node


def create() -> nuke.Node:
    """A MatteBridge node, connected to the selected nodes."""
    selected = nuke.selectedNodes()
    node = nuke.nodes.Group()
    node.setName("MatteBridge1", uncollide=True)
    _fill(node)
    for knob in _knobs():
        node.addKnob(knob)
    node["node_uid"].setValue(uuid.uuid4().hex)
    node[SPACE].setValue(working_space())
    set_input_range(node)
    for index, source in enumerate(list(reversed(selected))[:3]):
        node.setInput(index, source)
    return node


def _fill(node: Any) -> None:
    with node:
        for index, name in enumerate(INPUTS):
            nuke.nodes.Input(name=name).setXYpos(110 * index, 0)
        read = nuke.nodes.Read(name="Matte", file=NOT_YET)
        _set(read, raw=True, premultiplied=True, on_error="error")
        _set(read, origset=True, **dict.fromkeys(("first", "origfirst"), -ANY_FRAME))
        _set(read, **dict.fromkeys(("last", "origlast"), ANY_FRAME))
        # Reports the range of the mattes. The Read takes any frame; a missing file is an error.
        shown = nuke.nodes.FrameRange(name="Matted", inputs=[read])
        route = nuke.nodes.Switch(name="Route", inputs=[shown])
        output = nuke.nodes.Output(inputs=[route])
        for row, inside in enumerate((read, shown, route, output)):
            inside.setXYpos(0, 120 + 80 * row)
    node["knobChanged"].setValue(ON_KNOB)


def _set(node: nuke.Node, **values: Any) -> None:
    for name, value in values.items():
        node[name].setValue(value)


def _button(function: str) -> str:
    return (
        "try:\n    import mattebridge_nuke\nexcept ImportError:\n"
        "    nuke.thisNode()['status'].setValue('mattebridge is not installed in this Nuke')\n"
        f"else:\n    mattebridge_nuke.{function}(nuke.thisNode())"
    )


def _knobs() -> Iterator[nuke.Knob]:
    """Every knob, in order. Saved scripts contain the names, so they never change."""
    yield nuke.Tab_Knob("mattebridge", "MatteBridge")
    yield _tip(nuke.Text_Knob("status", "Status", READY), "The result of the last action.")
    for function, label, tip in (
        ("matte_frame", "Matte frame", "Matte the current frame, in all views."),
        ("matte_range", "Matte range", "Matte First to Last. Frames that have not changed are "
         "rendered, but not matted again."),
        ("cancel", "Cancel", "Stop matting; frames that are finished stay."),
        ("clear", "Clear", "Remove the mattes that this node made for this script "
         "from disk. Those that other versions of the script use stay."),
        ("start_daemon", "Start daemon", "Start the daemon on this machine, if none runs."),
        ("open_status", "Daemon status", "Show which daemon runs and what it is doing."),
    ):  # fmt: skip
        yield _tip(nuke.PyScript_Knob(function, label, _button(function)), tip)
    yield _tip(nuke.Text_Knob(FOUND, "Daemon found", NOT_LOOKED), "The daemon that this node would "
               "use, or why there is none. Matting starts one by itself.")  # fmt: skip
    yield _tip(nuke.Int_Knob("first", "First"), "First frame of Matte range.")
    yield _tip(nuke.Int_Knob("last", "Last"), "Last frame of Matte range.")
    step = nuke.Int_Knob("increment", "Every")
    step.setValue(1)
    yield _tip(step, "Step of the range: 2 mattes every second frame.")
    yield _tip(
        nuke.PyScript_Knob("set_input_range", "Input range", _button("set_input_range")),
        "Set First and Last to the range of Plate.",
    )
    yield _tip(nuke.String_Knob("model", "Model", "default"), "Name of a model; the command "
                "`mattebridge models` lists them.")  # fmt: skip
    for name, label, choices, tip in _CHOICES:
        yield _tip(nuke.Enumeration_Knob(name, label, list(choices)), tip)
        if name == "colorspace":
            yield from _space_knobs()
    yield _tip(nuke.String_Knob("hint_channel", "Hint channel", "rgba.alpha"), "The channel of "
                "Hint, GarbageMatte and CoreMatte that is the matte.")  # fmt: skip
    yield _tip(nuke.String_Knob("held_clean_plate", "Held clean plate", ""), "Name of a clean "
                "plate that the daemon holds. Used if CleanPlate is not connected; such frames are "
                "always computed again.")  # fmt: skip
    yield _tip(nuke.Boolean_Knob("overscan", "Overscan"), "Matte all pixels of Plate, also those "
                "outside the format.")  # fmt: skip
    yield _tip(nuke.Multiline_Eval_String_Knob("settings", "Settings"), "Settings of the model, "
                "one per line: key=value.")  # fmt: skip
    yield nuke.Tab_Knob("clean_up", "Clean-up")
    yield from _clean_up_knobs()
    yield nuke.Tab_Knob("advanced", "Advanced")
    yield _tip(nuke.File_Knob("store", "Folder"), "Where mattes are kept. Empty: a folder "
                "`mattebridge` beside the script, else a temporary one.")  # fmt: skip
    yield _tip(nuke.File_Knob("scratch", "Scratch folder"), "Where scratch files are written. "
                "Empty: memory if a frame fits, else the temporary folder.")  # fmt: skip
    limit = nuke.Double_Knob("timeout_s", "Time limit (s)")
    limit.setValue(600.0)
    yield _tip(limit, "The longest wait for one frame.")
    yield _tip(nuke.String_Knob("instance", "Daemon", ""), "Which daemon: a name, or the folder "
                "it runs in. Empty: the default one.")  # fmt: skip
    for name, value in ((MARKER, str(VERSION)), ("node_uid", ""), ("matted_from", "")):
        hidden = nuke.String_Knob(name, name, value)
        hidden.setVisible(False)
        yield _tip(hidden, "Used internally by the node.")


def _clean_up_knobs() -> Iterator[nuke.Knob]:
    kinds = {bool: nuke.Boolean_Knob, int: nuke.Int_Knob, float: nuke.Double_Knob}
    for name, _, label, default, tip in _CLEAN_UP:
        knob = kinds[type(default)](name, label)
        knob.setValue(default)
        yield _tip(knob, tip)
    for name, label, choices, tip in _CLEAN_UP_CHOICES:
        yield _tip(nuke.Enumeration_Knob(name, label, list(choices)), tip)


# Knob and render parameter, the plugin's knob, label, default, tip; in the order in which it is
# done.
_CLEAN_UP: Sequence[tuple[str, str, str, Any, str]] = (
    ("hint_sharpen", "hintSharpen", "Hint sharpen", False, "Alpha becomes 0 outside Hint, which "
     "is made larger first. Hair that the hint does not cover is lost."),
    ("hint_sharpen_dilation", "hintSharpenDilation", "Hint larger by", 3, "In pixels."),
    ("hint_blur_px", "hintBlur", "Hint softness", 0, "In pixels to each side of its edge."),
    ("source_passthrough", "sourcePassthrough", "Source passthrough", False, "Inside the subject, "
     "where alpha is above 0.95, the colour is Plate's own."),
    ("edge_erode_px", "edgeErode", "Inside smaller by", 3, "In pixels."),
    ("edge_blur_px", "edgeBlur", "Inside softness", 7, "In pixels to each side of its edge."),
    ("auto_despeckle", "autoDespeckle", "Despeckle", False, "Remove small islands of alpha. Soft "
     "alpha far from every larger one goes with them."),
    ("despeckle_size", "despeckleSize", "Smallest island", 400, "Area in pixels of the smallest "
     "island that stays."),
    ("despeckle_dilation", "despeckleDilation", "Keep around", 25, "In pixels around the islands "
     "that stay."),
    ("despeckle_blur", "despeckleBlur", "Keep softness", 5, "In pixels to each side of its edge."),
    ("despeckle_threshold", "despeckleThreshold", "Island above", 0.5, "Alpha above which a pixel "
     "belongs to an island."),
    ("despeckle_hysteresis", "despeckleHysteresis", "Keep what is connected", False, "Keep all "
     "soft alpha that is connected to an island that stays: hair, motion blur."),
    ("despill_strength", "despillStrength", "Despill", 0.0, "How much of the screen's light is "
     "taken out of the colours; 0: none."),
)  # fmt: skip
_CLEAN_UP_CHOICES: Sequence[tuple[str, str, Sequence[str], str]] = (
    ("spill_method", "Spill above", ("average", "double_limit", "screen_only"), "What of the "
     "screen's channel is spill: what is above the mean of the other two, above the larger of "
     "them, or above their mean without making up for it in those."),
    ("screen", "Screen", ("as the model wants", "green", "blue"), "The colour of the spill."),
)  # fmt: skip


def _space_knobs() -> Iterator[nuke.Knob]:
    yield _tip(nuke.String_Knob(SPACE, "Space", ""), "Colour space of Plate and CleanPlate in "
                "this script, by its name in the daemon's OpenColorIO config: ACEScg, a role, an "
                "alias. Empty: what Colour says.")  # fmt: skip
    yield _tip(
        nuke.PyScript_Knob("choose_space", "Choose space", _button("choose_space")),
        "Choose Space from the names of the daemon's config.",
    )


_CHOICES: Sequence[tuple[str, str, Sequence[str], str]] = (
    ("route", "Route", ("pre-render", "live (OFX)"), "Pre-render: mattes are made by the buttons "
     "and read from disk. Live: the OFX plugin mattes each frame as the viewer asks for it."),
    ("colorspace", "Colour", ("linear", "srgb"), "Colour space of Plate and CleanPlate in this "
     "script: scene-linear, as Nuke works, or display-encoded."),
    ("foreground", "Foreground from", ("model", "unmix", "plate"), "Where the subject's colour "
     "comes from: the model, the plate with the clean plate taken out, or the plate as it is."),
    ("alignment", "Align clean plate", ("as the model wants", "off", "auto", "homography"),
     "Fit CleanPlate to Plate before keying."),
    ("match_exposure", "Match exposure", ("as the model wants", "on", "off"), "Fit CleanPlate's "
     "exposure and white balance to Plate."),
    ("premultiply", "Multiply in", ("linear", "display"), "How the result is multiplied by its "
     "alpha: in linear light, or as encoded values, for comps of those (needs Colour srgb)."),
    ("plate_alpha", "Plate alpha", ("opaque", "straight", "premultiplied"), "What the alpha of "
     "Plate means; opaque: it is ignored."),
    ("nonfinite", "NaN and infinity", ("error", "zero"), "In Plate or CleanPlate: refuse the "
     "frame, or treat them as black."),
    ("precision", "Files", ("16 bit half", "32 bit float"), "Sample type of the mattes on disk."),
)  # fmt: skip


def _tip(knob: nuke.Knob, text: str) -> nuke.Knob:
    knob.setTooltip(text)
    return knob


# ------------------------------------------------------------------------------------- the buttons


def matte_frame(node: nuke.Node) -> None:
    """Button: matte the current frame."""
    _start(node, [int(nuke.frame())])


def matte_range(node: nuke.Node) -> None:
    """Button: matte the range on the node."""
    _guarded(node, lambda: _start(node, _range_of(node)))


def cancel(node: nuke.Node) -> None:
    """Button: stop this node's request, if one is running."""
    if not _cancel_job(node["node_uid"].value()):
        _say(node, "nothing is being matted")


def clear(node: nuke.Node) -> None:
    """Button: remove the mattes that this node made for this script, also from disk."""

    def work() -> None:
        if node["node_uid"].value() in _jobs:
            raise HostError("cancel the matte that is running first")
        clear_store = _package("store").clear
        left = [str(each) for each in _stores_of(node) if not clear_store(each, _writer_of(each))]
        _read_of(node)["file"].setValue(NOT_YET)
        node["matted_from"].setValue("")
        others = f"{READY}; other files, such as mattes of other scripts, are still in "
        _say(node, others + " and ".join(left) if left else READY)

    _guarded(node, work)


def set_input_range(node: nuke.Node) -> None:
    """Button: the range of Plate, or of the script if nothing is connected."""
    source = node.input(0) or nuke.root()
    node["first"].setValue(int(source.firstFrame()))
    node["last"].setValue(int(source.lastFrame()))


def knob_changed(node: Any, knob: str) -> None:
    """Called for each knob, and when the node is opened or connected.

    No network and no files on this thread: which daemon runs is asked on another.
    """
    if not is_ours(node):
        return  # it is not complete yet
    if knob == "showPanel" and nuke.GUI and node.knob(FOUND) is not None:
        open_status(node)
    if knob == "route":
        choose_route(node)
    elif node["route"].value() == LIVE:
        if knob in (*PIXEL_KNOBS, SPACE, "timeout_s", "instance", "inputChange", "showPanel"):
            _guarded(node, lambda: _pass_on(node))
    elif knob in (*PIXEL_KNOBS, SPACE, "inputChange", "showPanel"):
        check_upstream(node)


def choose_route(node: Any) -> None:
    """Called when the Route knob changes; makes the plugin's node the first time it is chosen."""

    def work() -> None:
        live = node["route"].value() == LIVE
        if live and node.node("Live") is None:
            _add_plugin(node)
        node.node("Route")["which"].setValue(1 if live else 0)
        if live:
            _pass_on(node)
        else:
            _say(node, AS_MATTED if node["matted_from"].value() else READY)
            check_upstream(node)

    _guarded(node, work)


def check_upstream(node: nuke.Node) -> bool:
    """Whether the nodes above or the knobs have changed since matting; sets the node's status."""
    before, node_is_live = node["matted_from"].value(), node["route"].value() == LIVE
    if not before or node_is_live or node["node_uid"].value() in _jobs:
        return False
    now = graph_signature(node)
    if not now:
        return False
    changed = now != before
    if changed != (node["status"].value() == CHANGED):
        _say(node, CHANGED if changed else AS_MATTED)
    return changed


def open_status(node: nuke.Node) -> None:
    """Button: show which daemon runs, asked for on a separate thread."""
    _show_daemon(node, lambda instance: str(_package("route").status_line(instance)))


def start_daemon(node: nuke.Node) -> None:
    """Button: start the daemon where none runs, on a separate thread, and show which one runs."""
    _say_daemon(node, STARTING)
    _show_daemon(node, lambda instance: str(_package("route").start_daemon(instance)))


def _show_daemon(node: nuke.Node, ask: Callable[[Optional[str]], str]) -> None:
    """Show the line that `ask` gives for the daemon of this node, or its error."""
    instance = node["instance"].value() or None
    uid = _uid_of(node)

    def work() -> None:
        try:
            text = ask(instance)
        except Exception as error:
            text = _why_no_daemon(error)
        _on_main(lambda: _say_daemon(_node_of(uid, node), text))

    if nuke.GUI:
        _run_aside(work)
    else:
        work()  # without a window Nuke does not run what a thread hands to the main thread


def _why_no_daemon(error: Exception) -> str:
    try:
        return str(_package("panel_line").of_an_error(error))
    except HostError:  # the package is missing: that is what the error says too
        return _sentence(error)


def _say_daemon(node: Optional[nuke.Node], text: str) -> None:
    if node is None:
        return
    # Nodes of older scripts have no such knob.
    knob = node.knob(FOUND) or node["status"]
    if knob.value() != text:  # setting a knob marks the script as changed
        knob.setValue(text)


def choose_space(node: nuke.Node) -> None:
    """Button: choose Space from the names of the daemon's config, asked for on another thread."""
    instance = node["instance"].value() or None
    uid = _uid_of(node)

    def ask() -> None:
        try:
            names = _package("route").color_names(instance)
        except Exception as error:
            text = _sentence(error)
            _on_main(lambda: _say_to(uid, node, text))
        else:
            _on_main(lambda: _choose_from(uid, node, names))

    if nuke.GUI:
        _run_aside(ask)


def _choose_from(uid: str, handle: nuke.Node, names: Sequence[str]) -> None:
    node = _node_of(uid, handle)
    if node is None:
        return
    options = [AS_COLOUR_SAYS, *names]
    now = _space_of(node)
    chosen = nuke.choice(
        "MatteBridge", "Colour space", options, options.index(now) if now in options else 0
    )
    if chosen is not None:  # None: the window was closed
        node[SPACE].setValue("" if int(chosen) == 0 else options[int(chosen)])


def working_space() -> str:
    """The script's working space where OpenColorIO manages its colours, else empty."""
    managed, space = (nuke.root().knob(name) for name in ("colorManagement", "workingSpaceLUT"))
    if managed is None or space is None or str(managed.value()) != "OCIO":
        return ""
    name = str(space.value())
    # The role is shown with the space that has it: `scene_linear (ACES - ACEScg)`.
    shown = re.fullmatch(r"scene_linear \((.+)\)", name)
    return shown.group(1) if shown else name


def _space_of(node: nuke.Node) -> str:
    """The knob Space, which nodes of older scripts do not have."""
    knob = node.knob(SPACE)
    return "" if knob is None else str(knob.value() or "").strip()


def _range_of(node: nuke.Node) -> list[int]:
    first, last, step = (int(node[name].value()) for name in ("first", "last", "increment"))
    if step < 1:
        raise HostError("Every must be 1 or more")
    frames: list[int] = _package("frame_range").frame_range(first, last, step)
    return frames


def _add_plugin(node: Any) -> None:
    """The plugin twice: for RGBA, and for the layers, which Nuke computes only when needed."""
    nuke.Layer("foreground", [f"foreground.{colour}" for colour in ("red", "green", "blue")])
    nuke.Layer("matte", ["matte.alpha"])
    with node:
        plain = _one_plugin(node, "Live", 0)
        layers = nuke.nodes.Copy(
            name="LiveLayers", inputs=[plain, _one_plugin(node, "LiveForeground", 1)]
        )
        for index, colour in enumerate(("red", "green", "blue")):
            values = {f"from{index}": f"rgba.{colour}", f"to{index}": f"foreground.{colour}"}
            _set(layers, **values)
        _set(layers, from3="rgba.alpha", to3="matte.alpha")
        layers.setXYpos(110, 240)
        node.node("Route").setInput(1, layers)


def _one_plugin(node: Any, name: str, output: int) -> nuke.Node:
    try:
        made = nuke.createNode(PLUGIN_CLASS, "", False)
    except RuntimeError as error:
        node["route"].setValue("pre-render")
        raise HostError(
            "the OFX plugin is not installed here: run `mattebridge install ofx`"
        ) from error
    made.setName(name)
    made["outputMode"].setValue(output)
    made.setXYpos(110 * (output + 1), 120)
    for index, source in enumerate(("Plate", "CleanPlate", "Hint")):
        made.setInput(index, node.node(source))
    return made


def _pass_on(node: Any) -> None:
    """Set the plugin's knobs from the group's; the status names those that it does not have."""
    plugins = [node.node(name) for name in ("Live", "LiveForeground")]
    if None in plugins:
        raise HostError("the plugin is no longer in this group: make a new MatteBridge node")
    for live in plugins:
        for ours, theirs in _LIVE_TEXTS.items():
            live[theirs].setValue(str(node[ours].value()))
        for ours, (theirs, numbers) in _LIVE_CHOICES.items():
            live[theirs].setValue(numbers[str(_value(node, ours, next(iter(numbers))))])
        for ours, theirs, _, default, _ in _CLEAN_UP:
            live[theirs].setValue(_value(node, ours, default))
        live["timeout"].setValue(float(node["timeout_s"].value()))
        # Inside the group an input is always connected, even if the group's own is not.
        live["useBackground"].setValue(node.input(1) is not None)
        live["useHint"].setValue(node.input(2) is not None)
        live["hintChannel"].setValue(_LIVE_HINTS.get(str(node["hint_channel"].value()), 0))
    known = str(node["hint_channel"].value()) in _LIVE_HINTS
    left = [node[name].label() for name in _NOT_LIVE if not _is_as_made(node, name)]
    left += ["Space"] if _space_of(node) else []
    left += [name for index, name in enumerate(INPUTS) if index > 2 and node.input(index)]
    left += ["Hint channel"] if not known and node.input(2) is not None else []
    _say(node, f"live; for pre-render only: {', '.join(left)}" if left else "live")


def _is_as_made(node: nuke.Node, name: str) -> bool:
    return node[name].value() in ("", False, "as the model wants", "opaque")


def _value(node: nuke.Node, name: str, otherwise: Any) -> Any:
    """The value of a knob that nodes of scripts from older versions do not have."""
    knob = node.knob(name)
    return otherwise if knob is None else knob.value()


LIVE = "live (OFX)"
# Knobs of the group and of the plugin, whose choices are numbers.
_LIVE_TEXTS = {"model": "model", "held_clean_plate": "cleanPlate", "instance": "endpoint"}
_LIVE_CHOICES: dict[str, tuple[str, dict[str, int]]] = {
    "colorspace": ("inputColor", {"linear": 0, "srgb": 1}),
    "premultiply": ("premultiply", {"linear": 0, "display": 1}),
    "foreground": ("foregroundSource", {"model": 0, "unmix": 1, "plate": 2}),
    "alignment": (
        "alignment",
        {"off": 0, "auto": 1, "homography": 2, "as the model wants": 3},
    ),
    "nonfinite": ("nonfinite", {"error": 0, "zero": 1}),
    "spill_method": ("spillMethod", {"average": 0, "double_limit": 1, "screen_only": 2}),
    "screen": ("screen", {"green": 0, "blue": 1, "as the model wants": 2}),
}
_LIVE_HINTS = {"rgba.alpha": 0, "rgba.red": 1}
_NOT_LIVE = ("match_exposure", "plate_alpha", "settings", "overscan")
# Knobs of the group that affect pixels.
PIXEL_KNOBS = (
    "model", "colorspace", "premultiply", "foreground", "alignment", "match_exposure",
    "plate_alpha", "nonfinite", "precision", "hint_channel", "held_clean_plate", "overscan",
    "settings", *(str(knob[0]) for knob in (*_CLEAN_UP, *_CLEAN_UP_CHOICES)),
)  # fmt: skip


def graph_signature(node: nuke.Node, limit_s: Optional[float] = None) -> str:
    """A digest of the knobs of all nodes above the node, and of its own that affect pixels.

    Files that were overwritten under their old names are not noticed. Empty for a graph that takes
    longer than `limit_s`, by default `LOOK_LIMIT_S`.
    """
    until = time.monotonic() + (LOOK_LIMIT_S if limit_s is None else limit_s)
    digest = hashlib.sha256()
    for name in PIXEL_KNOBS:
        digest.update(f"{name}={_value(node, name, None)}\n".encode())
    if _space_of(node):
        digest.update(f"{SPACE}={_space_of(node)}\n".encode())
    waiting: list[Any] = [node.input(index) for index in reversed(range(len(INPUTS)))]
    seen: dict[str, int] = {}
    while waiting:
        above = waiting.pop()
        # Numbered in the order of the walk, not by name: a renamed node is the same node.
        name = "" if above is None else above.fullName()
        new = name not in seen
        digest.update(f"{seen.setdefault(name, len(seen))}\n".encode())
        if above is None or not new:
            continue
        digest.update(f"{above.Class()}\n".encode())
        for knob_name, text in _pixel_knobs(above):
            digest.update(f"{knob_name} {text}\n".encode())
        if time.monotonic() > until:
            return ""
        waiting += [above.input(index) for index in reversed(range(above.inputs()))]
        if above.Class() == "Group":
            waiting += [inside for inside in above.nodes() if inside.Class() == "Output"]
    return digest.hexdigest()


def _patience_s() -> Optional[float]:
    """How long looking at the graph may take: without a window no interface waits."""
    return None if nuke.GUI else math.inf


def _pixel_knobs(node: Any) -> Iterator[tuple[str, str]]:
    """The knobs of a node that affect its pixels, as text."""
    parent = node.parent()
    for name, knob in sorted(node.knobs().items()):
        if _decides_no_pixel(node, name, knob):
            continue
        text = knob.toScript()
        if name == "file" and parent is not None and is_ours(parent):
            text = "/".join(text.split("/")[-2:])  # the set: its name says what is in it
        yield name, text


def _decides_no_pixel(node: Any, name: str, knob: nuke.Knob) -> bool:
    if is_ours(node):
        return name not in (*PIXEL_KNOBS, SPACE, "route", "disable")
    if node.Class() == PLUGIN_CLASS and name in NO_PLUGIN_PIXELS:
        return True
    kinds = (nuke.Tab_Knob, nuke.PyScript_Knob, nuke.Text_Knob)
    return NO_PIXELS.fullmatch(name) is not None or isinstance(knob, kinds)


# ------------------------------------------------------------------------------------ one request


class _NodeRequest:
    """What a request needs of the node, taken once, on the main thread."""

    def __init__(self, node: nuke.Node, frames: Sequence[int]) -> None:
        request = _package("request")
        self.uid = _uid_of(node)
        self.handle = node
        self.frames = [(frame, view) for frame in frames for view in nuke.views()]
        self.settings = _settings_of(node, request.ShotSettings)
        self.store = _store_of(node)
        self.writer = _writer_of(self.store)
        self.scratch = _path_on(node, "scratch")
        self.timeout_s = float(node["timeout_s"].value())
        self.instance = node["instance"].value() or None
        self.hint_layer, self.hint_name = _hint_channel(str(node["hint_channel"].value()))
        self.source = graph_signature(node, _patience_s())
        self.inputs = [name for index, name in enumerate(INPUTS) if node.input(index) is not None]
        if "Plate" not in self.inputs:
            raise HostError("connect a plate to the Plate input")
        plate = node.input(0)
        assert plate is not None
        # Half as much again, for a bounding box larger than the format.
        self.frame_bytes = int(plate.width() * plate.height() * 4 * 4 * len(self.inputs) * 1.5)

    def node(self) -> Any:
        """The node, whatever its name is by now. `Cancelled` where it was deleted."""
        found = _node_of(self.uid, self.handle)
        if found is None:
            raise _cancelled()
        return found

    def run(
        self,
        on_main: Callable[[Callable[[], Any]], Any],
        cancelled: Callable[[], bool],
        report: Callable[[int, str], None],
    ) -> str:
        """Matte everything; a sentence about it. Runs on any thread."""
        scratch, route = _package("scratch"), _package("route")
        made: list[Any] = []

        def on_frame(one: Any) -> None:
            made.append(one)
            report(len(made), f"frame {one.frame}")

        with scratch.ScratchFolder(self.scratch, need_bytes=2 * self.frame_bytes) as folder:

            def render(frame: int, view: str) -> Any:
                folder.check_room(self.frame_bytes)
                return on_main(lambda: self._render(folder.path, frame, view))

            try:
                with route.open_route(self.instance, host="nuke", folder=folder.path) as way:
                    way.matte(
                        self.frames,
                        render,
                        store=self.store,
                        settings=self.settings,
                        timeout_s=self.timeout_s,
                        priority="interactive" if len(self.frames) == 1 else "batch",
                        cancelled=cancelled,
                        on_frame=on_frame,
                    )
                    words = way.words
            finally:
                if made:
                    on_main(lambda: self._show(made))
        return "; ".join(filter(None, (self._words(made), words)))

    def _render(self, folder: Any, frame: int, view: str) -> Any:
        """The inputs of one frame as scratch EXR, in one pass. On the main thread."""
        request = _package("request")
        node = self.node()
        files = {name: folder / (f"{name}.exr") for name in self.inputs}
        for path in files.values():
            if path.exists():
                path.unlink()
        with _Quiet():
            writes: list[nuke.Node] = []
            try:
                with node:
                    for name, path in files.items():
                        writes.append(nuke.nodes.Write(inputs=[node.node(name)]))
                        self._set_write(writes[-1], name, str(path))
                _execute(writes, frame, view)
            finally:
                for write in writes:
                    nuke.delete(write)
        missing = [name for name, path in files.items() if not path.is_file()]
        if missing:
            raise HostError(f"frame {frame} of {missing[0]} was not rendered")
        by_role = {INPUTS[name]: path for name, path in files.items()}
        return request.ScratchFiles(**by_role, hint_channel=self.hint_name)

    def _set_write(self, write: nuke.Node, name: str, path: str) -> None:
        channels = "rgb"
        if name in MATTES:
            channels = self.hint_layer
        elif name == "Plate" and self.settings.plate_alpha != "opaque":
            channels = "rgba"
        _set(write, file=path.replace("\\", "/"), file_type="exr", channels=channels)
        _set(write, datatype="32 bit float", compression="none", autocrop=False, raw=True)

    def _show(self, made: Sequence[Any]) -> None:
        """Point the Read in the group at the new set. On the main thread."""
        node = self.node()
        folder = _package("store").update_set(
            self.store,
            _current_set(node, self.store),
            made,
            self.settings,
            self.source,
            writer=self.writer,
        )
        _show_set(node, folder)

    def _words(self, made: Sequence[Any]) -> str:
        found = sum(one.found for one in made)
        text = f"{len(made) - found} frames matted"
        text += f", {found} as before" if found else ""
        return "; ".join((text, *_package("request").warnings_of(made)))


def _current_set(node: nuke.Node, store: Any) -> Any:
    """The folder of the set that the node shows, also after a move of the script; or None."""
    shown = _here(str(_read_of(node)["file"].value() or ""))
    if not os.path.dirname(shown):
        return None
    return _package("store").find_set(store, type(store)(shown).parent)


def _show_set(node: Any, folder: Any) -> None:
    """Point the Read in the group at a set of frames."""
    store = _package("store")
    numbers = [int(name.split(".")[-1]) for name in store.read_set(folder).get("frames", {})]
    _read_of(node)["file"].setValue((folder / store.PATTERN).as_posix())
    # Frames made from different states of the graph count as changed, because some of them are.
    source = store.source_of(folder)
    node["matted_from"].setValue("several" if source is None else source)
    if numbers:
        _set(node.node("Matted"), first_frame=min(numbers), last_frame=max(numbers))


def _look_for_mattes(node: nuke.Node) -> None:
    """Show the mattes that other processes made of what the node would be matted from now.

    Also those of the node's own set, where it is in another folder since the script was moved.
    Never an error: a script opens without them, and a button says what is wrong.
    """
    if node["route"].value() == LIVE or not UID.fullmatch(str(node["node_uid"].value())):
        return
    try:
        place, store = _store_of(node), _package("store")
        current = _current_set(node, place)
        settings = _settings_of(node, _package("request").ShotSettings)
        writer = _writer_of(place)
        source = graph_signature(node, _patience_s())
        found = store.take_up(place, current, settings, source, writer=writer)
        shown = os.path.dirname(_here(str(_read_of(node)["file"].value() or "")))
        if found is None and current is not None and not os.path.isdir(shown):
            found = current
        if found is not None:
            _show_set(node, found)
            _say(node, AS_MATTED)
            check_upstream(node)
    except Exception as error:
        if not nuke.GUI:
            print(f"mattebridge: {node.fullName()}: {_sentence(error)}", flush=True)


class _Quiet:
    """No proxy and no entries in the undo list, while scratch Writes are added and removed."""

    def __enter__(self) -> None:
        nuke.Undo.disable()
        self._proxy = nuke.root()["proxy"].value()
        if self._proxy:
            nuke.root()["proxy"].setValue(False)

    def __exit__(self, *_: Any) -> None:
        if self._proxy:
            nuke.root()["proxy"].setValue(True)
        nuke.Undo.enable()


def _execute(writes: Sequence[nuke.Node], frame: int, view: str) -> None:
    try:
        nuke.executeMultiple(writes, [(frame, frame, 1)], [view])
    except RuntimeError as error:
        if "cancel" in str(error).lower():
            raise _cancelled() from error
        raise HostError(f"frame {frame} could not be rendered: {error}") from error


# Knobs that hold a value of the render parameter of the same name.
_PARAMS = ("colorspace", "premultiply", "foreground", "alignment", "plate_alpha", "nonfinite")


def _settings_of(node: nuke.Node, kind: Callable[..., Any]) -> Any:
    def chosen(name: str) -> Any:
        value = node[name].value()
        return None if value == "as the model wants" else value

    clean_up = {name: _value(node, name, default) for name, _, _, default, _ in _CLEAN_UP}
    method = _value(node, "spill_method", "average")
    screen = _value(node, "screen", "as the model wants")
    exposure = chosen("match_exposure")
    return kind(
        model=str(node["model"].value()).strip() or "default",
        match_exposure=None if exposure is None else exposure == "on",
        settings=_package("settings_text").parse_settings_knob(
            str(node["settings"].value() or ""), where="Settings"
        ),
        precision="float32" if node["precision"].value() == "32 bit float" else "float16",
        overscan=bool(node["overscan"].value()),
        held_clean_plate=_held(node),
        **{name: type(default)(clean_up[name]) for name, _, _, default, _ in _CLEAN_UP},
        spill_method=method,
        screen=None if screen == "as the model wants" else screen,
        **{name: chosen(name) for name in _PARAMS if name != "colorspace"},
        colorspace=_space_of(node) or chosen("colorspace"),
    )


def _held(node: nuke.Node) -> str:
    return "" if node.input(1) is not None else str(node["held_clean_plate"].value()).strip()


def _hint_channel(name: str) -> tuple[str, str]:
    """`rgba.alpha` as the layer to write and the channel's name in the file."""
    layer, _, channel = name.rpartition(".")
    if not layer:
        raise HostError(f"Hint channel takes layer.channel, such as rgba.alpha; not '{name}'")
    suffix = EXR_NAMES.get(channel, channel)
    if layer == "rgba":
        # With its colours: where the alpha of a black-and-white picture is 1 all over, they count.
        return ("rgba" if channel == "alpha" else "rgb"), suffix
    return layer, f"{layer}.{suffix}"


def _store_of(node: nuke.Node) -> Any:
    """The folder of this node's mattes."""
    from pathlib import Path

    uid = _uid_of(node)
    chosen = _path_on(node, "store")
    if chosen:
        return Path(chosen) / uid
    script = nuke.root().name()
    if os.path.isabs(script):
        return Path(script).parent / "mattebridge" / uid
    return _package("store").unsaved_folder() / uid


def _stores_of(node: nuke.Node) -> list[Any]:
    """The folder of this node's mattes, and where it was when those that it shows were made."""
    store = _store_of(node)
    shown = _current_set(node, store)
    if shown is None or shown.parent == store or shown.parent.name != _uid_of(node):
        return [store]
    return [store, shown.parent]


def _writer_of(store: Any) -> str:
    """Who makes the mattes in a store: the open script, by its way from there.

    It is the same after both were moved, and on machines with another mount point.
    """
    script = nuke.root().name()
    if not os.path.isabs(script):
        return UNSAVED
    try:
        return os.path.relpath(script, store).replace("\\", "/")
    except ValueError:  # on another drive of Windows
        return script


def _path_on(node: nuke.Node, name: str) -> Optional[str]:
    """A folder on the node, with its path on this machine."""
    knob: Any = node[name]
    path = knob.getEvaluatedValue()
    return _here(path) if path else None


def _here(path: str) -> str:
    """A path after the studio's filename filter, which may differ from machine to machine."""
    rules: Any = nuke.filenameFilter
    return rules(path) or path


def _read_of(node: Any) -> nuke.Node:
    read = node.node("Matte")
    if read is None:
        raise HostError(f"there is no Read named Matte in {node.name()} any more")
    return read


# -------------------------------------------------------------------------- threads, words, errors


class _Job:
    """A request on a thread, with a progress bar; only if Nuke has a window."""

    def __init__(self, request: _NodeRequest) -> None:
        self.request = request
        self.stop = threading.Event()
        self.done = 0
        self.words = "rendering"
        self.task: Optional[nuke.ProgressTask] = nuke.ProgressTask("MatteBridge")
        self.ended = threading.Event()

    def start(self) -> None:
        _jobs[self.request.uid] = self
        _run_aside(self._work)
        _run_aside(self._watch)

    def _work(self) -> None:
        try:
            text = self.request.run(self._call_on_main, self.stop.is_set, self._report)
        except Exception as error:
            text = _sentence(error)
        finally:
            self.ended.set()
        _on_main(lambda: self._finish(text))

    def _call_on_main(self, call: Callable[[], Any]) -> Any:
        if self.stop.is_set():
            raise _cancelled()
        return _on_main(call)

    def _report(self, done: int, words: str) -> None:
        self.done, self.words = done, words

    def _watch(self) -> None:
        """Update the progress bar and check for cancellation, ten times a second."""
        while not self.ended.wait(POLL_S):
            _on_main(self._poll)

    def _poll(self) -> None:
        if self.task is None:
            return
        self.task.setProgress(int(100 * self.done / max(1, len(self.request.frames))))
        self.task.setMessage(f"{self.words} ({self.done}/{len(self.request.frames)})")
        if self.task.isCancelled():
            self.stop.set()

    def _finish(self, text: str) -> None:
        # Nuke closes the progress bar when the object is deleted.
        self.task = None
        if _jobs.get(self.request.uid) is self:
            del _jobs[self.request.uid]
        _say_to(self.request.uid, self.request.handle, text)


def _start(node: nuke.Node, frames: Sequence[int]) -> None:
    def work() -> None:
        if node["node_uid"].value() in _jobs:
            raise HostError("this node is being matted; press Cancel first")
        request = _NodeRequest(node, frames)
        if nuke.GUI:
            _say(node, f"matting {len(request.frames)} frames")
            _Job(request).start()
        else:
            _say(node, matte_here(request))

    _guarded(node, work)


def matte_here(
    request: _NodeRequest, report: Callable[[int, str], None] = lambda n, text: None
) -> str:
    """Matte on this thread; used without a window."""
    return request.run(lambda call: call(), lambda: False, report)


def _cancel_job(uid: str) -> bool:
    job = _jobs.get(uid)
    if job is None:
        return False
    job.stop.set()
    return True


def _guarded(node: nuke.Node, work: Callable[[], None]) -> None:
    """Run a button; an error is shown in the node's status, or raised if there is no window."""
    try:
        work()
    except Exception as error:
        if not nuke.GUI:
            raise
        _say(node, _sentence(error))


def _on_main(call: Callable[[], Any]) -> Any:
    """The value of `call`, run on Nuke's main thread; its error is raised here.

    Nuke's own call swallows exceptions and gives None.
    """

    def guarded() -> tuple[bool, Any]:
        try:
            return True, call()
        except Exception as error:
            return False, error

    if threading.current_thread() is threading.main_thread():
        return call()
    outcome = _with_result(guarded)
    if outcome is None:
        raise HostError("Nuke did not run a step of the matte; see its terminal")
    good, value = outcome
    if not good:
        raise value
    return value


def _with_result(call: Callable[[], Any]) -> Any:
    wait: Any = nuke.executeInMainThreadWithResult
    return wait(call)


def _run_aside(work: Callable[[], None]) -> None:
    # A daemon thread, so that Nuke can quit during a frame.
    threading.Thread(target=work, name="mattebridge", daemon=True).start()


def _say(node: nuke.Node, text: str) -> None:
    node["status"].setValue(text)


def _say_to(uid: str, handle: nuke.Node, text: str) -> None:
    node = _node_of(uid, handle)
    if node is not None:
        _say(node, text)


def _sentence(error: BaseException) -> str:
    """An error as one line, also where mattebridge cannot be imported."""
    message = str(getattr(error, "message", None) or str(error) or type(error).__name__)
    try:
        from mattebridge.errors import one_line
    except ImportError:
        return " ".join(message.split())
    return one_line(message)


def _package(name: str) -> Any:
    """A module of `mattebridge.hosts`; `HostError` says what is missing."""
    try:
        import importlib

        return importlib.import_module(f"mattebridge.hosts.{name}")
    except ImportError as error:
        raise HostError(
            f"mattebridge cannot be loaded in this Nuke (Python {sys.version_info[0]}."
            f"{sys.version_info[1]}): {error}; run `mattebridge install nuke`"
        ) from error


def _cancelled() -> Exception:
    _package("request")
    from mattebridge.errors import Cancelled

    return Cancelled("cancelled")


# ----------------------------------------------------------------------------------- as a program


def main(arguments: Sequence[str]) -> int:
    """Matte the nodes of a script without a window; an exit status as of `mattebridge matte`."""
    import argparse

    parser = argparse.ArgumentParser(prog="mattebridge_nuke")
    parser.add_argument("script")
    parser.add_argument("--frames", help="1001-1010, 1-20x2; default: as on the node")
    parser.add_argument("--node", help="one node; default: every MatteBridge in the script")
    # Nuke takes a last argument that is a number as its own frame range.
    options = parser.parse_args([word for word in arguments if word != "end"])
    try:
        # A relative name would be that of a script without a folder.
        nuke.scriptOpen(os.path.abspath(options.script))
        nodes = [nuke.toNode(options.node)] if options.node else _our_nodes()
        nodes = [node for node in nodes if node is not None]
        if not nodes:
            wanted = options.node or "MatteBridge"
            raise HostError(f"there is no node {wanted} in {options.script}")
        for node in nodes:
            frames = _frames_of(options.frames) if options.frames else _range_of(node)
            request = _NodeRequest(node, frames)
            total = len(request.frames)
            text = matte_here(request, _print_progress(total))
            print(f"{node.fullName()}: {text}; in {request.store}", flush=True)
    except KeyboardInterrupt:
        print("mattebridge: cancelled", file=sys.stderr, flush=True)
        return 4
    except Exception as error:
        print(f"mattebridge: {_sentence(error)}", file=sys.stderr, flush=True)
        return int(getattr(error, "exit_status", 2 if isinstance(error, HostError) else 1))
    return 0


def _frames_of(text: str) -> list[int]:
    frames: list[int] = _package("frame_range").parse_frames(text)
    return frames


def _print_progress(total: int) -> Callable[[int, str], None]:
    def report(done: int, words: str) -> None:
        print(f"mattebridge: {words} ({done}/{total})", flush=True)

    return report


def arguments_of(raw: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """The words behind this file: of all that Nuke was started with, else of `sys.argv`.

    Before this file come Nuke's own (`-t`, `-V 2`), and Nuke removes a last one that is a number
    from `sys.argv`.
    """
    own = os.path.basename(__file__)
    for index, word in enumerate(raw):
        if os.path.basename(word.replace("\\", "/")) == own:
            return list(raw[index + 1 :])
    return list(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(arguments_of(nuke.rawArgs, sys.argv)))
