"""What must hold of the Nuke node and the Fusion script, as a program for any Python of a host.

    python -c "from fakes.host_tour import main; main(folder, instance)"

The tests of one interpreter go further; these are run under each. It needs what a host has: numpy,
pyzmq, msgpack, and nothing of the daemon's half. Each stop is a function that asserts; `main`
prints their names as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from fakes import nuke_script
from fakes.fusion_host import Comp as FusionComp
from fakes.host_shot import make_shot
from fakes.nuke_comp import NUKE_FOLDER, Comp
from fakes.nuke_host import NukeHost

BLOCKED = ("torch", "cv2", "OpenImageIO")


@contextmanager
def node(folder: Path, instance: str, frames: Any = (1, 2), **options: Any) -> Iterator[Comp]:
    """Our node in a Nuke of its own."""
    views = options.pop("views", ("main",))
    shot = make_shot(folder, frames, views=views, **options.pop("shot", {}))
    host = NukeHost(view_names=views, **options)
    with host.running(NUKE_FOLDER):
        comp = Comp(host, shot, instance, folder / "store")
        comp.node["scratch"].setValue(str(folder))
        yield comp
        host.settle()
        assert (host.undo_depth, host.open_bars()) == (0, 0)


def a_range_with_a_window_is_matted_once(folder: Path, instance: str) -> None:
    with node(folder, instance, gui=True) as comp:
        comp.range(1, 2)
        assert comp.wait() == "2 frames matted"
        assert 0.05 < comp.frame(2).channels["matte.alpha"].mean() < 0.5
        comp.range(1, 2)
        assert comp.wait() == "0 frames matted, 2 as before"


def numbers_views_and_boxes_are_kept(folder: Path, instance: str) -> None:
    shot = {"plate_window": (-7, -4, 80, 50), "aspect": 2.0}
    with node(folder, instance, (-3, -1, 1), views=("left", "right"), shot=shot) as comp:
        comp.range(-3, 1, 2)
        assert comp.status == "6 frames matted"
        left, right = (comp.frame(-1, view) for view in ("left", "right"))
        assert (left.data_window, left.aspect) == ((0, 0, 61, 37), 2.0)
        assert not np.array_equal(left.channels["rgba.red"], right.channels["rgba.red"])


def a_missing_hint_layer_is_refused(folder: Path, instance: str) -> None:
    with node(folder, instance, gui=True) as comp:
        comp.node.setInput(2, comp.host.module.nodes.Read(file=comp.shot.hint))
        comp.node["hint_channel"].setValue("roto.alpha")
        comp.range(1, 1)
        assert "no channels of roto to write" in comp.wait()


def a_cancel_leaves_no_flag(folder: Path, instance: str) -> None:
    with node(folder, instance, range(1, 30), gui=True, cancel_bar_after=0) as comp:
        comp.range(1, 29)
        assert comp.wait() == "cancelled"
        comp.host.cancel_bar_after = None
        comp.host.cancel_after = len(comp.host.rendered) + 1
        comp.range(1, 3)
        assert comp.wait() == "cancelled"
        comp.range(1, 3)
        assert "matted" in comp.wait()


def errors_reach_the_artist(folder: Path, instance: str) -> None:
    def fail(frame: int) -> None:
        raise RuntimeError("the Grade has lost its mind")

    with node(folder, instance, gui=True) as comp:
        comp.host.before_frame = fail
        comp.range(1, 1)
        assert comp.wait().endswith("the Grade has lost its mind")
        comp.host.before_frame = lambda frame: None
        # Beside the daemon's own folder: a socket's path has a limit.
        comp.node["instance"].setValue(str(Path(instance).with_name("none")))
        comp.range(1, 1)
        status = comp.wait()
        assert "daemon" in status, status
        comp.node["scratch"].setValue(str(folder / "gone"))
        comp.range(1, 1)
        assert comp.wait().endswith("does not exist")


def a_script_lives_without_our_package(folder: Path, instance: str) -> None:
    with node(folder, instance) as comp:
        comp.range(1, 2)
        comp.host.module.scriptSave(str(folder / "a.nk"))
        expected = comp.frame(2).channels["matte.alpha"]
    bare = NukeHost()
    with bare.running():
        bare.module.scriptOpen(str(folder / "a.nk"))
        found = bare.frame_of(bare.module.toNode("MatteBridge1"), 2)
        np.testing.assert_array_equal(found.channels["matte.alpha"], expected)
        bare.module.scriptSave(str(folder / "b.nk"))
        assert bare.module.loadToolset(str(nuke_script.TOOLSET)).name() == "MatteBridge2"
    texts = [(folder / name).read_text() for name in ("a.nk", "b.nk")]
    assert texts[0].replace("a.nk", "b.nk") == texts[1]


def what_is_stale_is_said_and_live_gets_the_knobs(folder: Path, instance: str) -> None:
    with node(folder, instance) as comp:
        comp.range(1, 1)
        comp.node.setInput(0, comp.host.module.nodes.Grade(inputs=[comp.plate], white=0.5))
        assert comp.status == comp.tool.CHANGED
        comp.host.plugins.add(comp.tool.PLUGIN_CLASS)
        comp.node["route"].setValue("live (OFX)")
        comp.node["foreground"].setValue("unmix")
        assert comp.node.node("Live")["foregroundSource"].value() == "Unmix"
        assert "matte.alpha" in comp.frame(1).channels


def outcome(call: Callable[[], Any]) -> Optional[Exception]:
    """The error of a call, or None."""
    try:
        call()
    except RuntimeError as error:
        return error
    return None


def fusion_is_as_before_whichever_step_fails(folder: Path, instance: str) -> None:
    import mattebridge_fusion as script

    shot = make_shot(folder, (1, 2))
    for frame in (1, 2):
        (folder / f"clean.{frame:04d}.exr").write_bytes(Path(shot.clean_plate).read_bytes())
    comp = FusionComp(1, 2)
    comp.ActiveTool = comp.make("Loader", "Plate", Clip=shot.plate.replace("%V", "main") % 1)
    comp.make("Loader", "CleanPlate", Clip=str(folder / "clean.0001.exr"))
    comp.make("Saver", "Deliver", comp.ActiveTool, Clip=str(folder / "deliver.0001.exr"))
    comp.selected = [comp.ActiveTool]
    asked = script.Options(
        "Plate", "CleanPlate", first=1, last=2, model="difference", instance=instance,
        store=str(folder / "store"),
    )  # fmt: skip
    before, failures = comp.snapshot(), 0
    while True:
        comp.calls, comp.fail_at = 0, failures + 1
        error = outcome(lambda: script.matte(comp, asked))
        if error is None:
            break
        assert str(error).endswith(" failed")
        failures += 1
        comp._tools = comp._tools[:3]
        script._recover(comp)
        assert comp.snapshot() == before
    assert failures > 20
    alpha = comp.FindTool("MatteBridge")._picture(2).channels["rgba.alpha"]  # type: ignore[union-attr]
    assert 0.05 < float(alpha.mean()) < 0.5


STOPS = (
    a_range_with_a_window_is_matted_once,
    numbers_views_and_boxes_are_kept,
    a_missing_hint_layer_is_refused,
    a_cancel_leaves_no_flag,
    errors_reach_the_artist,
    a_script_lives_without_our_package,
    what_is_stale_is_said_and_live_gets_the_knobs,
    fusion_is_as_before_whichever_step_fails,
)


def main(folder: str, instance: str) -> None:
    """All stops, each in a folder of its own; no host binary, nothing of the daemon's half."""
    sys.executable = "/nonexistent/host"
    os.environ["MATTEBRIDGE_DAEMON_PYTHON"] = "/nonexistent/python"
    sys.modules.update(dict.fromkeys(BLOCKED))  # type: ignore[arg-type]
    for stop in STOPS:
        place = Path(folder) / stop.__name__
        place.mkdir()
        stop(place, instance)
        left = [path.name for path in place.glob("mattebridge-*")]
        assert (left, threading.active_count()) == ([], 1), stop.__name__
    print(json.dumps([stop.__name__ for stop in STOPS]))
