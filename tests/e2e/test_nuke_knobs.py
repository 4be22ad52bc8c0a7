"""What the node's knobs and inputs do: the artist's mattes, held plates, live, stale, toolset."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import pytest

from fakes import nuke_host, nuke_script
from fakes.host_shot import HostShot, make_shot
from fakes.nuke_comp import NUKE_FOLDER, Comp, assert_same, offline
from fakes.nuke_host import NukeHost, Picture, load, save
from mattebridge.client import MatteClient
from mattebridge.wire import labels

DESCRIBE = NUKE_FOLDER.parent / "plugin_shim" / "src" / "describe.cpp"


def test_garbage_and_core_mattes_force_the_alpha_and_equal_the_command(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, (1,))
    comp = make_comp(shot)
    hint = comp.host.module.nodes.Read(file=shot.hint)
    white = load(shot.hint % 1).channels["rgba.alpha"] == 1
    comp.node.setInput(3, hint)
    comp.range(1, 1)
    assert (comp.frame(1).channels["matte.alpha"][white] == 0).all()
    comp.node.setInput(3, None)
    comp.node.setInput(4, hint)
    comp.range(1, 1)
    picture = comp.frame(1)
    assert (picture.channels["matte.alpha"][white] == 1).all()
    folder = offline(tmp_path, instance, shot, "1", "--core-matte", shot.hint, "--hint-channel=A")
    assert_same(picture, next(folder.glob("*.exr")))


def black_and_white(tmp_path: Path, shot: HostShot) -> str:
    """A pattern of the hint as a picture: its shape in the colours, an alpha of 1 everywhere."""
    for path in tmp_path.glob("hint.*.exr"):
        matte = load(str(path)).channels["rgba.alpha"]
        channels = {f"rgba.{name}": matte for name in ("red", "green", "blue")}
        channels["rgba.alpha"] = np.ones_like(matte)
        window = (0, 0, shot.width, shot.height)
        save(tmp_path / f"bw.{path.name[5:]}", Picture(channels, window, shot.width, shot.height))
    return f"{tmp_path}/bw.%04d.exr"


@pytest.mark.parametrize("role", [2, 3, 4])
def test_a_black_and_white_picture_with_alpha_1_is_taken_by_its_luma_and_it_is_said(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: int
) -> None:
    shot = make_shot(tmp_path, (1,))
    comp = make_comp(shot)
    sent: list[Any] = []
    submit = MatteClient.submit
    monkeypatch.setattr(
        MatteClient, "submit", lambda *a, **kw: (sent.append(dict(kw)), submit(*a, **kw))[1]
    )
    comp.node.setInput(role, comp.host.module.nodes.Read(file=shot.hint))
    comp.range(1, 1)
    comp.node.setInput(role, comp.host.module.nodes.Read(file=black_and_white(tmp_path, shot)))
    comp.range(1, 1)
    said = labels.SENTENCES[labels.MATTE_FROM_LUMA]
    name = ("alpha_hint", "garbage_matte", "core_matte")[role - 2]
    by_alpha, by_luma = (each[name] for each in sent)
    assert 0 < by_alpha.mean() < 1
    np.testing.assert_allclose(by_luma, by_alpha, atol=1e-6)
    assert said in comp.status
    comp.range(1, 1)
    assert comp.status.startswith("0 frames matted, 1 as before")
    assert said in comp.status


def test_what_is_less_than_asked_for_is_a_sentence_and_never_a_word_of_the_wire(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.node.setInput(1, comp.host.module.nodes.Grade(inputs=[comp.plate], white=30.0))
    comp.range(1, 1)
    assert labels.SENTENCES["no_set_visible"] in comp.status
    assert not re.search(r"[a-z]_[a-z]", comp.status)


def test_a_clean_plate_that_the_daemon_holds_is_used_by_name(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, (1,))
    comp = make_comp(shot, gui=True)
    comp.range(1, 1)
    comp.wait()
    expected = comp.frame(1)
    comp.node.setInput(1, None)
    comp.node["held_clean_plate"].setValue("sh010")
    comp.range(1, 1)
    assert "sh010" in comp.wait()
    channels = load(shot.clean_plate).channels
    plate = np.stack([channels[f"rgba.{name}"] for name in ("red", "green", "blue")], axis=-1)
    with MatteClient.connect(instance) as client:
        client.hold_clean_plate("sh010", plate)
        comp.range(1, 1)
        assert comp.wait() == "1 frames matted"
        for name, plane in comp.frame(1).channels.items():
            np.testing.assert_array_equal(plane, expected.channels[name])
        # The name may stand for another picture by now.
        client.hold_clean_plate("sh010", plate * np.float32(0.9), replace=True)
        comp.range(1, 1)
        assert comp.wait() == "1 frames matted"
        client.drop_clean_plate("sh010")


@pytest.mark.parametrize("space", ["linear", "srgb"])
def test_what_the_knobs_say_reaches_the_daemon_as_the_command_would_say_it(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str, space: str
) -> None:
    shot = make_shot(tmp_path, (1,))
    comp = make_comp(shot)
    for name, value in {
        "foreground": "unmix", "alignment": "off", "match_exposure": "off", "nonfinite": "zero",
        "settings": "shadow=0.5", "precision": "32 bit float", "colorspace": space,
        "premultiply": "display" if space == "srgb" else "linear",
    }.items():  # fmt: skip
        comp.node[name].setValue(value)
    comp.range(1, 1)
    words = ["--premultiply", "display"] if space == "srgb" else []
    words += ["--foreground", "unmix", "--alignment", "off", "--no-match-exposure", "--set"]
    words += ["shadow=0.5", "--format", "exr-float"]
    words += ["--colorspace", space, "--output-colorspace", space]
    assert_same(comp.frame(1), next(offline(tmp_path, instance, shot, "1", *words).glob("*.exr")))


@pytest.mark.slow
def test_scratch_files_that_only_the_command_can_read_go_that_way(
    make_comp: Callable[..., Comp],
    tmp_path: Path,
    instance: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shot = make_shot(tmp_path, (1, 2))
    comp = make_comp(shot, gui=True)
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", sys.executable)
    keep = comp.tool._NodeRequest._set_write

    def compressed(request: Any, write: Any, name: str, path: str) -> None:
        keep(request, write, name, path)
        write["compression"].setValue("Zip (16 scanlines)")

    monkeypatch.setattr(comp.tool._NodeRequest, "_set_write", compressed)
    comp.range(1, 2)
    assert comp.wait() == "2 frames matted; by the command line"
    comp.range(1, 2)
    assert comp.wait() == "0 frames matted, 2 as before; by the command line"
    same = offline(tmp_path, instance, shot, "1-2")
    for frame in (1, 2):
        assert_same(comp.frame(frame), next(same.glob(f"*.{frame:04d}.*")))


def test_a_plate_without_the_alpha_that_it_should_have_is_refused(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.node["plate_alpha"].setValue("straight")
    comp.range(1, 1)
    assert comp.wait() == "the plate has no alpha: set Plate alpha to opaque, or give the plate one"


# ------------------------------------------------------------------------------------ what is stale


def test_a_change_above_the_node_is_said_when_it_is_opened_or_connected(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    changed = comp.tool.CHANGED
    grade = comp.host.module.nodes.Grade(inputs=[comp.plate])
    comp.node.setInput(0, grade)
    comp.host.open_panel(comp.node)
    assert comp.status == "not matted yet"
    comp.range(1, 2)
    comp.host.open_panel(comp.node)
    assert comp.status == "2 frames matted"
    grade["white"].setValue(0.5)
    comp.host.open_panel(comp.node)
    assert comp.status == changed
    grade["white"].setValue(1.0)
    comp.host.open_panel(comp.node)
    assert comp.status == "the mattes are up to date"
    grade["label"].setValue("says nothing about pixels")
    grade.setName("Renamed")
    comp.host.open_panel(comp.node)
    assert comp.status == "the mattes are up to date"
    comp.node.setInput(0, comp.plate)
    assert comp.status == changed
    comp.range(1, 2)
    assert comp.status == "0 frames matted, 2 as before"


def test_a_knob_of_the_node_that_decides_pixels_is_a_change_too(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.range(1, 1)
    comp.node["foreground"].setValue("unmix")
    assert comp.status == comp.tool.CHANGED
    comp.node["foreground"].setValue("model")
    assert comp.status == "the mattes are up to date"
    comp.node["timeout_s"].setValue(5.0)
    assert comp.status == "the mattes are up to date"


def test_a_knob_above_that_decides_no_pixel_is_no_change(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.range(1, 2)
    comp.wait()
    below = comp.tool.create()
    below.setInput(0, comp.node)
    below.setInput(1, comp.clean_plate)
    for name in ("instance", "store", "model", "first", "last"):
        below[name].setValue(comp.node[name].value())
    comp.host.press(below, "matte_range")
    comp.host.pump(lambda: not comp.tool._jobs)
    matted = below["status"].value()
    assert matted.startswith("2 frames matted")

    def said(**values: Any) -> str:
        for name, value in values.items():
            comp.node[name].setValue(value)
        comp.host.open_panel(below)
        return str(below["status"].value())

    assert said(status="something else", timeout_s=5.0, instance="v9") == matted
    assert said(first=1, last=1, increment=2, scratch="/tmp") == matted
    assert said(foreground="unmix") == comp.tool.CHANGED
    assert said(foreground="model") == comp.tool.AS_MATTED
    button = comp.host.module.PyScript_Knob("note_button", "Note", "print(1)")
    comp.clean_plate.addKnob(button)
    assert said() == comp.tool.AS_MATTED
    comp.node["route"].setValue("pre-render")
    comp.node["instance"].setValue(below["instance"].value())
    comp.range(1, 1)
    comp.wait()
    assert said() == comp.tool.AS_MATTED
    comp.node["foreground"].setValue("plate")
    comp.range(1, 1)
    comp.wait()
    assert said() == comp.tool.CHANGED


def test_the_time_limit_of_a_live_node_above_is_no_change(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.host.plugins.add(comp.tool.PLUGIN_CLASS)
    comp.node["route"].setValue("live (OFX)")
    below = comp.tool.create()
    below.setInput(0, comp.node)
    before = comp.tool.graph_signature(below)
    comp.node["timeout_s"].setValue(5.0)
    comp.node["instance"].setValue("v9")
    assert comp.tool.graph_signature(below) == before
    comp.node["model"].setValue("default")
    assert comp.tool.graph_signature(below) != before


def test_frames_of_two_states_of_the_plate_are_said_to_be_so(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.range(1, 2)
    comp.node.setInput(0, comp.host.module.nodes.Grade(inputs=[comp.plate], white=0.5))
    comp.range(2, 2)
    comp.host.open_panel(comp.node)
    assert comp.status == comp.tool.CHANGED
    comp.range(1, 2)
    comp.host.open_panel(comp.node)
    assert comp.status == "1 frames matted, 1 as before"


def test_a_render_of_what_is_stale_prints_one_line_and_goes_on(
    make_comp: Callable[..., Comp], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comp = make_comp(make_shot(tmp_path))
    nuke = comp.host.module
    comp.range(1, 1)
    write = nuke.nodes.Write(inputs=[comp.node], file=f"{tmp_path}/out.%04d.exr")
    nuke.execute(write, 1, 1)
    assert capsys.readouterr().out == ""
    comp.plate["file"].setValue(comp.plate["file"].value().replace("plate", "plate_v2"))
    nuke.execute(write, 1, 1)
    assert capsys.readouterr().out == f"mattebridge: MatteBridge1: {comp.tool.CHANGED}\n"
    nuke.delete(write)


def test_a_graph_too_large_to_look_at_is_not_called_changed(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.range(1, 1)
    monkeypatch.setattr(comp.tool, "LOOK_LIMIT_S", -1.0)
    comp.plate["file"].setValue("elsewhere.exr")
    comp.host.open_panel(comp.node)
    assert comp.status == "1 frames matted"


# --------------------------------------------------------------------------------------- live route


def test_the_plugin_gets_what_stands_on_the_group(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.host.plugins.add(comp.tool.PLUGIN_CLASS)
    comp.node["colorspace"].setValue("srgb")
    comp.node["route"].setValue("live (OFX)")
    assert comp.status == "live"
    live = comp.node.node("Live")
    shown = {name: knob.value() for name, knob in live.knobs().items()}
    assert shown["model"] == "difference"
    assert shown["inputColor"] == "sRGB display"
    assert shown["alignment"] == "Model's own"
    assert (shown["endpoint"], shown["timeout"]) == (comp.node["instance"].value(), 600.0)
    for name, value in {
        "model": "default", "foreground": "unmix", "alignment": "homography", "timeout_s": 9.0,
        "held_clean_plate": "sh010", "hint_channel": "rgba.red", "nonfinite": "zero",
        "premultiply": "display",
    }.items():  # fmt: skip
        comp.node[name].setValue(value)
    assert (live["model"].value(), live["foregroundSource"].value()) == ("default", "Unmix")
    assert (live["alignment"].value(), live["timeout"].value()) == ("Homography", 9.0)
    assert (live["nonfinite"].value(), live["premultiply"].value()) == ("Zero", "Display values")
    assert (live["cleanPlate"].value(), live["hintChannel"].value()) == ("sh010", "Red")
    assert (live["useBackground"].value(), live["useHint"].value()) == (True, False)
    comp.node.setInput(1, None)
    comp.node.setInput(2, comp.plate)
    assert (live["useBackground"].value(), live["useHint"].value()) == (False, True)
    twin = comp.node.node("LiveForeground")
    for name, knob in live.knobs().items():
        assert name in ("outputMode", "xpos") or twin[name].value() == knob.value(), name
    assert comp.status == "live"


def test_the_nodes_inside_the_group_lie_beside_one_another(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.host.plugins.add(comp.tool.PLUGIN_CLASS)
    comp.node["route"].setValue("live (OFX)")
    places = [(inside["xpos"].value(), inside["ypos"].value()) for inside in comp.node.nodes()]
    assert len(set(places)) == len(places) == 12


def test_the_live_route_gives_the_layers_that_the_pre_render_gives(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.range(1, 1)
    layers = set(comp.frame(1).channels)
    comp.host.plugins.add(comp.tool.PLUGIN_CLASS)
    comp.node["route"].setValue("live (OFX)")
    live = comp.frame(1).channels
    assert set(live) == layers
    plate = comp.host.frame_of(comp.plate, 1).channels["rgba.red"]
    np.testing.assert_array_equal(live["foreground.red"], plate)
    np.testing.assert_array_equal(live["rgba.red"], plate * live["matte.alpha"])
    comp.node["route"].setValue("pre-render")
    comp.node["route"].setValue("live (OFX)")
    assert sum(node._class == comp.tool.PLUGIN_CLASS for node in comp.node.nodes()) == 2


def test_folders_are_called_as_the_studio_calls_them_on_this_machine(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.host.module.addFilenameFilter(lambda name: name.replace("X:/shows", str(tmp_path)))
    comp.node["store"].setValue("X:/shows/mattes")
    comp.range(1, 2)
    assert comp.status == "2 frames matted"
    assert (tmp_path / "mattes" / comp.node["node_uid"].value() / "frames").is_dir()
    comp.range(2, 2)
    comp.frame(1)


def test_what_the_plugin_has_no_knob_for_is_named(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.host.plugins.add(comp.tool.PLUGIN_CLASS)
    comp.node["route"].setValue("live (OFX)")
    comp.node["settings"].setValue("shadow=0.5")
    comp.node["match_exposure"].setValue("off")
    comp.node["hint_channel"].setValue("roto.alpha")
    comp.node.setInput(2, comp.plate)
    comp.node.setInput(4, comp.plate)
    assert comp.status == (
        "live; for pre-render only: Match exposure, Settings, CoreMatte, Hint channel"
    )
    comp.node["route"].setValue("pre-render")
    assert comp.status == "not matted yet"


def test_the_plugin_has_the_parameters_and_choices_that_the_fake_has() -> None:
    text = re.sub(r'"\s*\n\s*"', "", DESCRIBE.read_text())
    for name, choices in nuke_host.PLUGIN_CHOICES.items():
        found = re.search(rf'choice\(\{{"{name}".*?\}},\s*\{{(.*?)\}}', text, re.DOTALL)
        assert found is not None, name
        assert re.findall(r'"(.*?)"', found.group(1)) == choices
    for name in ("model", "cleanPlate", "endpoint"):
        assert f'text({{"{name}"' in text
    assert 'seconds({"timeout"' in text
    for name in ("useBackground", "useHint"):
        assert f'truth({{"{name}"' in text
    with NukeHost().running(NUKE_FOLDER):
        import mattebridge_nuke

        assert [n for n, _ in mattebridge_nuke._LIVE_CHOICES.values()] == [
            name for name in nuke_host.PLUGIN_CHOICES if name not in ("outputMode", "hintChannel")
        ]


# ------------------------------------------------------------------------------------------ toolset


def test_the_toolset_is_the_node_that_the_menu_makes() -> None:
    # After a change of the node: python tests/fakes/nuke_script.py
    assert nuke_script.TOOLSET.read_text("utf-8") == nuke_script.toolset_text()


def test_the_node_out_of_the_toolset_gets_an_id_and_mattes(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    node = comp.host.module.loadToolset(str(nuke_script.TOOLSET))
    assert node.name() == "MatteBridge2"
    assert len(node["node_uid"].value()) == 32
    for index, source in enumerate((comp.plate, comp.clean_plate)):
        node.setInput(index, source)
    for name in ("instance", "store", "model", "first", "last"):
        node[name].setValue(comp.node[name].value())
    comp.host.press(node, "matte_range")
    assert node["status"].value() == "2 frames matted"


def test_the_toolset_opens_where_nothing_of_ours_is_installed() -> None:
    host = NukeHost(gui=True)
    with host.running():
        node = host.module.loadToolset(str(nuke_script.TOOLSET))
        assert node["hint_channel"].value() == "rgba.alpha"
        assert node.knob("route").values() == ["pre-render", "live (OFX)"]
        node["foreground"].setValue("plate")
        host.press(node, "matte_frame")
        assert node["status"].value() == "mattebridge is not installed in this Nuke"


def test_a_real_tcl_reads_the_toolset_as_the_fake_does() -> None:
    # Nuke's own scripts are Tcl; where Python has none, the fake's reader is the only one.
    tkinter = pytest.importorskip("tkinter", reason="this Python was built without Tcl")
    tcl = tkinter.Tcl()
    text = nuke_script.TOOLSET.read_text("utf-8")
    nodes = [words for words in nuke_script.commands(text) if words[0][0].isupper()]
    tcl.eval("set found {}; proc stack {n} {return 0}; proc push {n} {}; proc end_group {} {}")
    for name in {words[0] for words in nodes}:
        tcl.eval(f"proc {name} {{body}} {{lappend ::found {name} $body}}")
    tcl.eval(text)
    found = tcl.splitlist(tcl.eval("set found"))
    assert list(found[::2]) == [name for name, _ in nodes]
    for body, (_, expected) in zip(found[1::2], nodes):
        pairs = list(nuke_script.commands(expected))
        words = tcl.splitlist(body)
        assert list(words) == [word for pair in pairs for word in pair]
        for name, value in pairs:
            if name == "addUserKnob":
                assert list(tcl.splitlist(value)) == next(nuke_script.commands(value))


def test_the_fake_reads_a_script_as_nuke_writes_it() -> None:
    text = """#! /usr/local/Nuke15.1v1/libnuke-15.1.so -nx
version 15.1 v1
Root {
 inputs 0
 first_frame 1001
}
Read {
 inputs 0
 name Read1
 file "/a b/\\\\[getenv SHOT].%04d.exr"
 raw true
}
set N7f [stack 0]
push 0
push $N7f
Switch {
 inputs 2
 name Switch1
 which 1
 addUserKnob {20 User l User}
 addUserKnob {26 note l "" +STARTLINE T "say \\"hi\\"\\n\\{then\\} go"}
 addUserKnob {4 way l Way M {one "two three"}}
 way "two three"
}
"""
    host = NukeHost()
    with host.running():
        nuke_script.load_script(host, text)
        switch: Any = host.module.toNode("Switch1")
        read = host.module.toNode("Read1")
        assert switch.input(0) is read
        assert switch.input(1) is None
        assert (switch["which"].value(), switch["way"].value()) == (1, "two three")
        assert switch["note"].value() == 'say "hi"\n{then} go'
        assert read["file"].value() == "/a b/\\[getenv SHOT].%04d.exr"
        assert host.module.root().firstFrame() == 1001


def assert_space_as_the_command_takes_it(
    comp: Comp, folder: Path, instance: str, shot: HostShot, named: str, options: tuple[str, str]
) -> None:
    """The node's frame in the space `named`; options: the command's input and output space."""
    comp.node["alignment"].setValue("off")
    comp.node["space"].setValue(named)
    comp.range(1, 1)
    source, target = options
    words = ["--alignment", "off", "--input-space", source, "--output-colorspace", target]
    assert_same(comp.frame(1), next(offline(folder, instance, shot, "1", *words).glob("*.exr")))


def test_a_space_by_name_reaches_the_daemon_as_the_command_would_say_it(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, (1,))
    comp = make_comp(shot)
    both = ("lin_ap1", "lin_ap1")
    assert_space_as_the_command_takes_it(comp, tmp_path, instance, shot, "lin_ap1", both)
    comp.node["space"].setValue("ACECg")
    with pytest.raises(Exception, match="'ACECg' is no colour space"):
        comp.range(1, 1)


@pytest.mark.parametrize(
    ("name", "what"), [("Raw", "data"), ("Un-tone-mapped", "a view"), ("data", "data")]
)
def test_a_name_that_is_no_colour_space_is_said_in_one_sentence(
    make_comp: Callable[..., Comp], tmp_path: Path, name: str, what: str
) -> None:
    comp = make_comp(make_shot(tmp_path, (1,)))
    comp.node["space"].setValue(name)
    with pytest.raises(Exception, match=f"'{name}' is {what} of .*, and no colour space; the near"):
        comp.range(1, 1)


@pytest.mark.slow
def test_srgb_in_other_letters_is_srgb(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, (1,))
    comp = make_comp(shot)
    both = ("SRGB", "srgb")
    assert_space_as_the_command_takes_it(comp, tmp_path, instance, shot, "sRGB", both)


def test_a_new_node_takes_the_working_space_of_the_script(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, (1,)))
    root, tool = comp.host.module.root(), comp.tool
    assert tool.create()["space"].value() == ""
    root["colorManagement"].setValue("OCIO")
    for shown, name in {
        "scene_linear (ACES - ACEScg)": "ACES - ACEScg",
        "ACES2065-1": "ACES2065-1",
        "ARRI LogC3 (EI800)": "ARRI LogC3 (EI800)",
    }.items():
        root["workingSpaceLUT"].setValue(shown)
        assert tool.create()["space"].value() == name


@pytest.mark.parametrize(
    ("picked", "name"), [("ACEScg", "ACEScg"), (None, "ACES2065-1"), ("as Colour says", "")]
)
def test_the_space_is_chosen_from_the_names_of_the_daemons_config(
    make_comp: Callable[..., Comp], tmp_path: Path, picked: Optional[str], name: str
) -> None:
    comp = make_comp(make_shot(tmp_path, (1,)), gui=True)
    comp.node["space"].setValue("ACES2065-1")
    asked: list[Optional[str]] = []

    def pick(options: list[str]) -> Optional[str]:
        asked.append(picked)
        assert len(options) > 50
        return picked

    comp.host.pick = pick
    comp.host.press(comp.node, "choose_space")
    comp.host.pump(lambda: asked == [picked])
    assert comp.node["space"].value() == name
