"""The scripts for Fusion and Resolve in the composition of `fakes/fusion_host.py`."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import fusion_host
from fakes.colour import studio_spaces
from fakes.daemon_process import DaemonProcess
from fakes.fusion_host import Comp
from fakes.host_shot import HostShot, make_shot
from fakes.nuke_host import Picture, load, save
from fakes.places import ROOT
from mattebridge import cli
from mattebridge.client import MatteClient
from mattebridge.daemon import control
from mattebridge.hosts import resolve_colour, route
from mattebridge.wire import labels

FOLDER = ROOT / "resolve"


@pytest.fixture(scope="module")
def script() -> Iterator[types.ModuleType]:
    spec = importlib.util.spec_from_file_location(
        "mattebridge_fusion", FOLDER / "mattebridge_fusion.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mattebridge_fusion"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mattebridge_fusion"]


@pytest.fixture(autouse=True)
def _scratch_is_empty_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("MATTEBRIDGE_SCRATCH", str(tmp_path / "scratch"))
    yield
    assert list((tmp_path / "scratch").iterdir()) == []


def make_comp(tmp_path: Path, frames: Any = (1, 2)) -> tuple[Comp, HostShot]:
    shot = make_shot(tmp_path, frames)
    comp = Comp(min(frames), max(frames))
    clip = shot.plate.replace("%V", "main") % min(frames)
    comp.ActiveTool = comp.make("Loader", "Plate", Clip=clip)
    comp.selected = [comp.ActiveTool]
    comp.make("Loader", "CleanPlate", Clip=str(still(tmp_path, shot, frames)))
    comp.make("Saver", "Deliver", comp.ActiveTool, Clip=str(tmp_path / "deliver.0001.exr"))
    return comp, shot


def still(tmp_path: Path, shot: HostShot, frames: Any) -> Path:
    folder = tmp_path / "held"
    folder.mkdir()
    for frame in frames:
        (folder / f"clean.{frame:04d}.exr").write_bytes(Path(shot.clean_plate).read_bytes())
    return folder / f"clean.{min(frames):04d}.exr"


def options(script: Any, daemon: DaemonProcess, tmp_path: Path, **more: Any) -> Any:
    given: dict[str, Any] = {
        "plate": "Plate", "clean_plate": "CleanPlate", "first": 1, "last": 2,
        "model": "difference", "instance": str(daemon.folder), "store": str(tmp_path / "store"),
    }  # fmt: skip
    return script.Options(**{**given, **more})


def test_a_range_comes_back_as_two_loaders_and_one_undo_step_and_equals_the_command(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, shot = make_comp(tmp_path, (-1, 0, 1))
    before = comp.snapshot()
    words = script.matte(comp, options(script, shared_daemon, tmp_path, first=-1, last=1))
    assert words == "3 frames matted"
    assert comp.undo_steps == ["MatteBridge"]
    assert not (tmp_path / "deliver.0001.exr").exists()
    rgba, foreground = comp.FindTool("MatteBridge"), comp.FindTool("MatteBridgeForeground")
    assert rgba is not None
    assert foreground is not None
    out = tmp_path / "offline"
    status = cli.main(
        ["matte", shot.plate.replace("%V", "main"), "--clean-plate", shot.clean_plate, "--layers",
         "--format", "exr-none", "--model", "difference", "-o", str(out), "--no-spawn",
         "--instance", str(shared_daemon.folder), "--progress", "none"]
    )  # fmt: skip
    assert status == 0
    for frame in (-1, 0, 1):
        same = load(str(next(out.rglob(f"*.{frame:04d}.exr")))).channels
        got, colours = rgba._picture(frame).channels, foreground._picture(frame).channels
        for name in ("red", "green", "blue", "alpha"):
            np.testing.assert_array_equal(got[f"rgba.{name}"], same[f"rgba.{name}"])
        np.testing.assert_array_equal(colours["rgba.red"], same["foreground.red"])
        np.testing.assert_array_equal(colours["rgba.alpha"], same["matte.alpha"])
    comp._tools = [tool for tool in comp._tools if not tool._data]
    assert comp.snapshot() == before


def test_a_space_by_name_takes_the_place_of_colour(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, _ = make_comp(tmp_path)
    chosen = options(script, shared_daemon, tmp_path, space="ACECg", last=1)
    with pytest.raises(Exception, match="'ACECg' is no colour space"):
        script.matte(comp, chosen)
    named = dataclasses.replace(chosen, space="Linear Rec.709 (sRGB)")
    assert script.matte(comp, named) == "1 frames matted"
    # The same light under another name, so another set of files.
    assert script.matte(comp, dataclasses.replace(chosen, space="")) == "1 frames matted"


def test_again_costs_nothing_and_makes_no_second_loader(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, _ = make_comp(tmp_path)
    chosen = options(script, shared_daemon, tmp_path)
    script.matte(comp, chosen)
    count = len(comp._tools)
    assert script.matte(comp, chosen) == "0 frames matted, 2 as before"
    assert len(comp._tools) == count


def test_a_second_range_is_added_to_the_first_in_the_loaders(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, _ = make_comp(tmp_path, range(1, 8))
    script.matte(comp, options(script, shared_daemon, tmp_path, first=2, last=3))
    script.matte(comp, options(script, shared_daemon, tmp_path, first=6, last=7))
    script.matte(comp, options(script, shared_daemon, tmp_path, first=1, last=1))
    rgba, foreground = comp.FindTool("MatteBridge"), comp.FindTool("MatteBridgeForeground")
    assert rgba is not None
    assert foreground is not None
    for loader in (rgba, foreground):
        for frame in (1, 2, 3, 6, 7):
            loader._picture(frame)
        for frame in (4, 5):
            with pytest.raises(FileNotFoundError):
                loader._picture(frame)
        assert (loader._inputs["GlobalIn"], loader._inputs["GlobalOut"]) == (1, 7)
    assert sum(tool._kind == "Loader" for tool in comp._tools) == 4


def test_a_range_with_other_settings_is_not_mixed_with_the_first(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, _ = make_comp(tmp_path, range(1, 5))
    script.matte(comp, options(script, shared_daemon, tmp_path, first=1, last=2))
    other = {"foreground": "plate", "first": 3, "last": 4}
    script.matte(comp, options(script, shared_daemon, tmp_path, **other))
    rgba = comp.FindTool("MatteBridge")
    assert rgba is not None
    rgba._picture(3)
    with pytest.raises(FileNotFoundError):
        rgba._picture(1)
    assert (rgba._inputs["GlobalIn"], rgba._inputs["GlobalOut"]) == (3, 4)


def test_the_loaders_keep_their_first_range_after_the_folder_was_moved(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, _ = make_comp(tmp_path, range(1, 5))
    script.matte(comp, options(script, shared_daemon, tmp_path, first=1, last=2))
    (tmp_path / "store").rename(tmp_path / "moved")
    moved = {"store": str(tmp_path / "moved"), "first": 3, "last": 4}
    script.matte(comp, options(script, shared_daemon, tmp_path, **moved))
    rgba = comp.FindTool("MatteBridge")
    assert rgba is not None
    for frame in (1, 2, 3, 4):
        rgba._picture(frame)


def test_a_long_range_is_rendered_a_few_frames_at_a_time(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "CHUNK_FRAMES", 2)
    comp, _ = make_comp(tmp_path, (1, 2, 3, 4, 5))
    script.matte(comp, options(script, shared_daemon, tmp_path, last=5, increment=2))
    assert comp.renders == [(1, 3), (5, 5)]


def test_the_composition_is_as_before_whichever_step_fails(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, _ = make_comp(tmp_path)
    before = comp.snapshot()
    failures, said = 0, []
    while True:
        comp.calls, comp.fail_at = 0, failures + 1
        rendered = len(comp.renders)
        try:
            script.matte(comp, options(script, shared_daemon, tmp_path))
        except RuntimeError as error:
            said.append(str(error))
        else:
            break
        failures += 1
        assert comp.lock_depth == 0
        assert comp.undo == []
        assert comp.CurrentTime == before[2]
        assert (comp.ActiveTool, comp.selected) == before[5][:2]
        if len(comp.renders) == rendered:  # before the result is shown
            assert [t[:2] for t in comp.snapshot()[0]] == [t[:2] for t in before[0]]
            assert comp.snapshot()[1] == before[1]
        comp._tools = comp._tools[:3]
        # A step of the putting back that failed is done by the next run: the note is still there.
        script._recover(comp)
        assert comp.snapshot() == before
    assert failures > 20
    assert all(words.endswith(" failed") for words in said)


def test_a_render_that_says_false_is_an_error_and_everything_is_put_back(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, _ = make_comp(tmp_path)
    before = comp.snapshot()
    comp.render_says = False
    with pytest.raises(script.HostError, match="Fusion did not render 1-2"):
        script.matte(comp, options(script, shared_daemon, tmp_path))
    assert comp.snapshot() == before
    assert comp.undo_steps == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plate": "Nobody"}, "there is no tool Nobody"),
        ({"plate": ""}, "name the tool that gives the plate"),
        ({"first": 3, "last": 1}, "the frame range is empty"),
        ({"clean_plate": ""}, "needs a clean plate"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path, change: Any, words: str
) -> None:
    comp, _ = make_comp(tmp_path)
    before = comp.snapshot()
    with pytest.raises(Exception, match=words):
        script.matte(comp, options(script, shared_daemon, tmp_path, **change))
    assert comp.snapshot() == before


def test_a_cancel_stops_at_once_with_its_own_status(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, _ = make_comp(tmp_path)
    with pytest.raises(Exception, match="cancelled") as caught:
        script.matte(comp, options(script, shared_daemon, tmp_path), cancelled=lambda: True)
    assert caught.value.exit_status == 4


def test_garbage_and_core_mattes_force_the_alpha(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, shot = make_comp(tmp_path)
    rough = comp.make("Loader", "Roto", Clip=shot.hint % 1)
    inside = rough._picture(1).channels["rgba.alpha"] == 1
    for role, alpha in (("garbage_matte", 0), ("core_matte", 1)):
        script.matte(comp, options(script, shared_daemon, tmp_path, **{role: "Roto"}))
        rgba = comp.FindTool("MatteBridge")
        assert rgba is not None
        assert (rgba._picture(1).channels["rgba.alpha"][inside] == alpha).all()


def test_a_black_and_white_picture_with_alpha_1_is_taken_by_its_luma_and_it_is_said(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, shot = make_comp(tmp_path)
    matte = load(shot.hint % 1).channels["rgba.alpha"]
    colours = {f"rgba.{name}": matte for name in ("red", "green", "blue")}
    picture = {**colours, "rgba.alpha": np.ones_like(matte)}
    for frame in (1, 2):
        path = tmp_path / f"bw.{frame:04d}.exr"
        save(path, Picture(picture, (0, 0, shot.width, shot.height), shot.width, shot.height))
    comp.make("Loader", "Rough", Clip=str(tmp_path / "bw.0001.exr"))
    words = script.matte(comp, options(script, shared_daemon, tmp_path, core_matte="Rough"))
    assert words == f"2 frames matted; {labels.SENTENCES[labels.MATTE_FROM_LUMA]}"
    rgba = comp.FindTool("MatteBridge")
    assert rgba is not None
    alpha = rgba._picture(1).channels["rgba.alpha"]
    assert (alpha[matte == 1] == 1).all()
    assert alpha.min() == 0


def test_what_is_less_than_asked_for_is_a_sentence_and_never_a_word_of_the_wire(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, _ = make_comp(tmp_path)
    comp.make("BrightnessContrast", "Bright", comp.FindTool("Plate"), Gain=30.0)
    words = script.matte(comp, options(script, shared_daemon, tmp_path, clean_plate="Bright"))
    assert labels.SENTENCES["no_set_visible"] in words
    assert not re.search(r"[a-z]_[a-z]", words)


def test_a_clean_plate_that_the_daemon_holds_is_used_by_name(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    comp, shot = make_comp(tmp_path)
    script.matte(comp, options(script, shared_daemon, tmp_path))
    rgba = comp.FindTool("MatteBridge")
    assert rgba is not None
    expected = rgba._picture(2).channels
    channels = load(shot.clean_plate).channels
    plate = np.stack([channels[f"rgba.{name}"] for name in ("red", "green", "blue")], axis=-1)
    with MatteClient.connect(str(shared_daemon.folder)) as client:
        client.hold_clean_plate("sh020", plate)
        held = options(script, shared_daemon, tmp_path, clean_plate="held:sh020")
        assert script.matte(comp, held) == "2 frames matted"
        for name, plane in rgba._picture(2).channels.items():
            np.testing.assert_array_equal(plane, expected[name])
        client.drop_clean_plate("sh020")
    with pytest.raises(Exception, match="sh020"):
        script.matte(comp, held)


def test_where_the_wheels_cannot_be_loaded_the_command_gives_the_same_pixels(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comp, _ = make_comp(tmp_path)
    script.matte(comp, options(script, shared_daemon, tmp_path))
    rgba = comp.FindTool("MatteBridge")
    assert rgba is not None
    expected = rgba._picture(2).channels
    monkeypatch.setattr(route, "WHEELS", ("no_such_wheel",))
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", sys.executable)
    before = comp.snapshot()
    words = script.matte(comp, options(script, shared_daemon, tmp_path))
    assert words == "2 frames matted; by the command line"
    for name, plane in rgba._picture(2).channels.items():
        np.testing.assert_array_equal(plane, expected[name])
    assert [tool[:2] for tool in comp.snapshot()[0]] == [tool[:2] for tool in before[0]]


def test_what_a_killed_run_left_is_put_back_by_the_next(
    script: Any, shared_daemon: DaemonProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comp, _ = make_comp(tmp_path)
    before = comp.snapshot()

    class Killed(BaseException):
        pass

    left: list[Any] = []

    def die(settings: Any) -> bool:
        # The process ends here: what the script would still do is taken back below.
        attributes = [(tool, dict(tool._attributes)) for tool in comp._tools]
        left.extend((list(comp._tools), attributes, dict(comp._data)))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(comp, "Render", die)
        with pytest.raises(Killed):
            script.matte(comp, options(script, shared_daemon, tmp_path))
    comp._tools, attributes, comp._data = left
    for tool, values in attributes:
        tool._attributes = values
    comp._attributes["COMPN_RenderEnd"] = 77.0
    deliver = comp.FindTool("Deliver")
    assert deliver is not None
    assert deliver._attributes["TOOLB_PassThrough"] is True
    assert sum(tool._kind == "Saver" for tool in comp._tools) == 3
    with pytest.raises(script.HostError, match="there is no tool Nobody"):
        script.matte(comp, options(script, shared_daemon, tmp_path, plate="Nobody"))
    assert comp.snapshot()[:5] == before[:5]
    assert comp.undo_steps == []


def test_the_dialog_proposes_the_selected_tool_and_the_clean_plate_by_name(
    script: Any,
    shared_daemon: DaemonProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", str(shared_daemon.folder))
    comp, _ = make_comp(tmp_path)
    comp._attributes["COMPS_FileName"] = str(tmp_path / "shot.comp")
    asked: list[Any] = []

    def answer(defaults: dict[str, Any]) -> dict[str, Any]:
        asked.append(dict(defaults))
        return {**defaults, "model": "difference"}

    comp.answer = answer
    assert script.main(None, comp, None) == 0
    assert asked[0]["daemon"].startswith("daemon ready, mattebridge ")
    assert asked[0]["plate"] == "Plate"
    assert asked[0]["clean_plate"] == "CleanPlate"
    assert (asked[0]["first"], asked[0]["last"]) == (1, 2)
    assert "mattebridge: 2 frames matted" in capsys.readouterr().out
    assert (tmp_path / "mattebridge" / "shot" / "Plate").is_dir()
    comp.answer = lambda defaults: None
    assert script.main(None, comp, None) == 4
    comp.ActiveTool = None
    assert script.main(None, comp, None) == 2
    assert "select the tool that gives the plate" in capsys.readouterr().out


def test_the_menu_entry_starts_the_configured_daemon_and_never_the_hosts_own_binary(
    host_binary: None,
    script: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", str(folder))
    comp = Comp()
    shown: list[str] = []
    comp.answer = lambda defaults: shown.append(defaults["daemon"])
    template = (FOLDER / "menu_entry.py").read_text()
    installed = template.replace("@FOLDER@", str(FOLDER)).replace("@ACTION@", "start")
    none = f"no daemon is running in {folder}: Start daemon starts one, and so does matting"
    assert script._daemon_found() == none
    try:
        exec(installed, {"__name__": "__main__", "comp": comp})
        with MatteClient.connect() as client:
            pid = client.status()["pid"]
        assert f", process {pid} in {folder}; " in shown[0]
        assert capsys.readouterr().out == f"mattebridge: {shown[0]}\n"
    finally:
        control.stop()
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", "/nonexistent/python")
    assert script.start(None, comp) == 5
    assert shown[1].startswith("cannot start the daemon with /nonexistent/python")


class _Project:
    """A fusion object of Resolve, with its project's settings."""

    def __init__(self, mode: str, timeline: str) -> None:
        self.settings = {"colorScienceMode": mode, "colorSpaceTimeline": timeline}
        self.GetSetting = self.settings.get
        self.GetResolve = self.GetProjectManager = self.GetCurrentProject = lambda: self


@pytest.mark.parametrize(
    ("fusion", "space"),
    [
        (_Project("davinciYRGBColorManagedv2", "DaVinci WG"), "Linear DaVinci WideGamut"),
        (_Project("davinciYRGBColorManaged", "S-Gamut3.Cine/S-Log3"), "Linear S-Gamut3.Cine"),
        (_Project("davinciYRGBColorManagedv2", "Rec.709 Gamma 2.4"), ""),  # linear, as ever
        (_Project("davinciYRGBColorManagedv2", "Something New"), ""),
        (_Project("acescct", ""), "ACEScg"),
        (_Project("davinciYRGB", "DaVinci WG"), ""),  # not managed: pictures are as in their files
        (object(), ""),
        (None, ""),
    ],
)
def test_the_dialog_proposes_the_space_of_resolves_project(
    script: Any, tmp_path: Path, fusion: Any, space: str
) -> None:
    comp, _ = make_comp(tmp_path)
    asked: list[Any] = []
    comp.answer = asked.append
    assert script.main(fusion, comp, None) == 4
    assert asked[0]["space"] == space
    if space:
        assert studio_spaces().is_known(space)


def test_every_space_of_a_project_is_one_of_the_studio_config() -> None:
    for space in set(resolve_colour._LINEAR.values()):
        assert studio_spaces().is_known(space), space


@pytest.mark.parametrize(
    ("others", "clean_plate"),
    [([], ""), (["Roto"], ""), (["Empty_clean"], "Empty_clean"), (["Clean1", "Clean2"], "")],
)
def test_the_plate_is_never_proposed_as_its_own_clean_plate_or_hint(
    script: Any, others: list[str], clean_plate: str
) -> None:
    comp = Comp(1, 2)
    tool = comp.make("Loader", "CleanupPlateHint", Clip="a.0001.exr")
    for name in others:
        comp.make("Loader", name, Clip="b.0001.exr")
    proposal = script._proposal(comp, tool)
    assert (proposal.plate, proposal.clean_plate) == ("CleanupPlateHint", clean_plate)
    assert proposal.alpha_hint == ""


def test_a_saver_is_never_proposed_as_a_clean_plate(script: Any) -> None:
    comp = Comp(1, 2)
    tool = comp.make("Loader", "Plate", Clip="a.0001.exr")
    comp.make("Saver", "SaveClean", tool, Clip="c.0001.exr")
    assert script._proposal(comp, tool).clean_plate == ""
    comp.make("Loader", "CleanPlate", Clip="b.0001.exr")
    assert script._proposal(comp, tool).clean_plate == "CleanPlate"


def test_the_fake_and_the_script_use_no_name_that_is_not_in_the_table(script: Any) -> None:
    known = {name for names in fusion_host.NAMES.values() for name in names}
    for kind, names in ((fusion_host.Comp, "comp"), (fusion_host.Tool, "tool")):
        public = {name for name in dir(kind) if name[0].isupper()}
        assert public <= set(fusion_host.NAMES[names]), kind
    tree = ast.parse((FOLDER / "mattebridge_fusion.py").read_text())
    used = {
        item.attr for item in ast.walk(tree) if isinstance(item, ast.Attribute)
        and item.attr[0].isupper()
    }  # fmt: skip
    ours = {"ExitStack", "SETTINGS", "ScratchFiles", "ScratchFolder", "ShotSettings"}
    assert used - ours <= known
    lua = (FOLDER / "MatteBridge.lua").read_text()
    assert set(re.findall(r":([A-Z]\w+)\(", lua)) <= known


def test_the_menu_entry_says_what_is_missing_and_never_raises(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mattebridge_fusion", None)
    source = (FOLDER / "menu_entry.py").read_text()
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(compile(source, "launcher", "exec"), {"__name__": "__main__"})
    assert "mattebridge: not loaded:" in capsys.readouterr().out
