"""The MatteBridge node in the Nuke of `fakes/nuke_host.py`, with a real daemon and real EXRs."""

from __future__ import annotations

import os
import runpy
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess, StartDaemon
from fakes.host_shot import make_shot
from fakes.limits import SOON_S
from fakes.nuke_comp import NUKE_FOLDER, Comp, assert_same, offline
from fakes.nuke_host import NukeHost, Picture, load, save
from fakes.nuke_script import save_node
from mattebridge import __version__
from mattebridge.client import MatteClient
from mattebridge.daemon import control


def test_without_a_window_a_range_is_there_when_the_button_returns_and_equals_the_command(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, (1001, 1002, 1003))
    comp = make_comp(shot)
    comp.range(1001, 1003)
    assert comp.status == "3 frames matted"
    same = offline(tmp_path, instance, shot, "1001-1003")
    for frame in (1001, 1002, 1003):
        picture = comp.frame(frame)
        assert set(picture.channels) == {
            *(f"rgba.{c}" for c in ("red", "green", "blue", "alpha")),
            *(f"foreground.{c}" for c in ("red", "green", "blue")),
            "matte.alpha",
        }
        assert_same(picture, next(same.glob(f"*{frame}*")))
    assert (comp.node.firstFrame(), comp.node.lastFrame()) == (1001, 1003)
    with pytest.raises(RuntimeError, match="No such file"):
        comp.frame(1004)


def test_plate_clean_plate_and_hint_go_out_in_one_pass(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    shot = make_shot(tmp_path)
    comp = make_comp(shot)
    comp.node.setInput(2, comp.host.module.nodes.Read(file=shot.hint, last=9))
    comp.range(1, 2)
    assert [frame for frame, _, _ in comp.host.rendered] == [1, 2]
    names = [os.path.basename(name) for name in comp.host.rendered[0][2]]
    assert names == ["CleanPlate.exr", "Hint.exr", "Plate.exr"]


def test_before_anything_is_matted_the_node_is_an_error_and_not_the_plate(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    assert comp.status == "not matted yet"
    with pytest.raises(RuntimeError, match="press_Matte_Range_first"):
        comp.frame(1)


def test_an_unchanged_frame_is_not_computed_again_and_a_changed_one_gets_another_name(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, (1, 2, 3)))
    comp.range(1, 3)
    read = comp.node.node("Matte")
    first = read["file"].value()
    before = comp.frame(2).channels["rgba.red"]
    comp.range(1, 3)
    assert comp.status == "0 frames matted, 3 as before"
    assert read["file"].value() == first
    grade = comp.host.module.nodes.Grade(inputs=[comp.plate], white=0.8)
    comp.node.setInput(0, grade)
    comp.range(2, 2)
    assert comp.status == "1 frames matted"
    assert read["file"].value() != first
    assert not np.array_equal(comp.frame(2).channels["rgba.red"], before)
    comp.frame(1)
    grade["white"].setValue(1.0)
    comp.range(1, 3)
    assert comp.status == "0 frames matted, 3 as before"
    np.testing.assert_array_equal(comp.frame(2).channels["rgba.red"], before)


def test_frames_of_other_settings_are_not_mixed_with_new_ones(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.range(1, 2)
    comp.node["foreground"].setValue("unmix")
    comp.range(1, 1)
    comp.frame(1)
    with pytest.raises(RuntimeError, match="No such file"):
        comp.frame(2)


def test_negative_frames_holes_and_increments_keep_their_numbers(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, (-5, -3, -1, 1))
    comp = make_comp(shot)
    comp.range(-5, 1, 2)
    assert comp.status == "4 frames matted"
    assert [frame for frame, _, _ in comp.host.rendered] == [-5, -3, -1, 1]
    with pytest.raises(RuntimeError, match="No such file"):
        comp.frame(-4)
    with pytest.raises(Exception, match="frame -4 could not be rendered"):
        comp.range(-5, 1)


def test_two_views_are_two_mattes(make_comp: Callable[..., Comp], tmp_path: Path) -> None:
    shot = make_shot(tmp_path, views=("left", "right"))
    comp = make_comp(shot, view_names=("left", "right"))
    comp.range(1, 2)
    assert comp.status == "4 frames matted"
    left, right = (comp.frame(1, view).channels["matte.alpha"] for view in ("left", "right"))
    assert not np.array_equal(left, right)


@pytest.mark.parametrize(
    "window", [(-7, -4, 80, 50), (3, 2, 50, 30), (-7, 5, 40, 40)], ids=["larger", "smaller", "off"]
)
def test_a_bounding_box_other_than_the_format_lands_where_it_belongs(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str, window: Any
) -> None:
    shot = make_shot(tmp_path, (1,), plate_window=window, aspect=2.0)
    comp = make_comp(shot)
    comp.range(1, 1)
    picture = comp.frame(1)
    assert (picture.width, picture.height, picture.aspect) == (61, 37, 2.0)
    assert picture.data_window == (0, 0, 61, 37)
    assert_same(picture, next(offline(tmp_path, instance, shot, "1").glob("*.exr")))


def test_overscan_is_matted_when_asked_for(make_comp: Callable[..., Comp], tmp_path: Path) -> None:
    comp = make_comp(make_shot(tmp_path, (1,), plate_window=(-7, -4, 80, 50)))
    comp.node["overscan"].setValue(True)
    comp.range(1, 1)
    assert comp.frame(1).data_window == (-7, -4, 80, 50)


def test_proxy_mode_is_left_while_matting_and_back_afterwards(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.host.root_node["proxy"].setValue(True)
    comp.range(1, 1)
    assert comp.frame(1).channels["rgba.red"].shape == (37, 61)
    assert comp.host.root_node["proxy"].value() is True


def test_the_hint_is_its_alpha_and_not_its_red(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shot = make_shot(tmp_path, (1,), hint_layer="roto.alpha")
    comp = make_comp(shot)
    comp.node.setInput(2, comp.host.module.nodes.Read(file=shot.hint))
    comp.node["hint_channel"].setValue("roto.alpha")
    sent: list[Any] = []
    shot_module = comp.tool._package("shot")
    keep = shot_module.check_needs
    monkeypatch.setattr(
        shot_module,
        "check_needs",
        lambda card, planes, asked: (sent.append(planes), keep(card, planes, asked)),
    )
    comp.range(1, 1)
    hint = load(shot.hint.replace("%04d", "0001")).channels
    np.testing.assert_array_equal(sent[0]["alpha_hint"], hint["roto.alpha"])
    assert hint["rgba.red"].min() == 1


def test_a_hint_layer_that_is_not_there_is_refused_by_name(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    shot = make_shot(tmp_path, (1,))
    comp = make_comp(shot, gui=True)
    comp.node.setInput(2, comp.host.module.nodes.Read(file=shot.hint))
    comp.node["hint_channel"].setValue("roto.alpha")
    comp.range(1, 1)
    assert "no channels of roto to write" in comp.wait()
    comp.node["hint_channel"].setValue("alpha")
    comp.range(1, 1)
    assert comp.wait() == "Hint channel takes layer.channel, such as rgba.alpha; not 'alpha'"


def test_a_clean_plate_of_another_format_is_one_sentence(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    small = comp.host.module.nodes.Reformat(inputs=[comp.clean_plate])
    small["box"].setValue((30, 20))
    comp.node.setInput(1, small)
    comp.range(1, 1)
    assert comp.wait() == (
        "the plate is 61x37 and the clean plate is 30x20: reformat the clean plate to the plate's "
        "format"
    )


def test_with_a_window_the_button_returns_at_once_and_nuke_is_only_called_on_its_main_thread(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, range(1, 6)), gui=True)
    comp.range(1, 5)
    assert comp.status == "matting 5 frames"
    comp.range(1, 5)
    assert comp.status == "this node is being matted; press Cancel first"
    assert comp.wait() == "5 frames matted"
    comp.frame(5)


def test_the_bar_cancels_a_range_and_the_next_one_works_at_once(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, range(1, 60)), gui=True, cancel_bar_after=0)
    comp.range(1, 59)
    assert comp.wait() == "cancelled"
    rendered = len(comp.host.rendered)
    assert rendered < 59
    comp.host.cancel_bar_after = None
    comp.host.press(comp.node, "cancel")
    assert comp.status == "nothing is being matted"
    comp.range(58, 59)
    assert "matted" in comp.wait()
    assert len(comp.host.rendered) == rendered + 2


def test_a_render_that_nuke_cancels_half_way_leaves_no_half_frame(
    make_comp: Callable[..., Comp], tmp_path: Path, instance: str
) -> None:
    shot = make_shot(tmp_path, range(1, 5))
    comp = make_comp(shot, gui=True, cancel_after=2)
    comp.range(1, 4)
    assert comp.wait() == "cancelled"
    comp.range(1, 4)
    comp.wait()
    same = offline(tmp_path, instance, shot, "1-4")
    for frame in range(1, 5):
        assert_same(comp.frame(frame), next(same.glob(f"*{frame:04d}*")))


def test_an_error_on_the_main_thread_reaches_the_artist(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    def fail(frame: int) -> None:
        raise RuntimeError("the Grade has lost its mind")

    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.host.before_frame = fail
    comp.range(1, 2)
    assert comp.wait() == "frame 1 could not be rendered: the Grade has lost its mind"


def test_a_node_deleted_while_matting_ends_its_request(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, range(1, 40)), gui=True)
    comp.range(1, 39)
    comp.host.pump(lambda: len(comp.host.rendered) >= 1)
    comp.host.module.delete(comp.node)
    comp.host.pump(lambda: not comp.tool._jobs)
    assert len(comp.host.rendered) < 39


def test_a_node_renamed_while_matting_keeps_its_job_and_its_old_name_gives_another_node_nothing(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, range(1, 9)), gui=True)
    comp.range(1, 8)
    comp.host.pump(lambda: len(comp.host.rendered) >= 1)
    old_name = comp.node.name()
    comp.node.setName("Hero")
    other = comp.tool.create()
    other.setName(old_name)
    assert comp.wait() == "8 frames matted"
    comp.host.settle()
    comp.frame(8)
    assert other.name() == old_name
    assert other["status"].value() == comp.tool.READY
    with pytest.raises(RuntimeError, match="press_Matte_Range_first"):
        comp.host.frame_of(other, 1)
    other.setName("Elsewhere")
    comp.host.press(comp.node, "open_status")
    comp.node.setName("Renamed")
    comp.host.pump(lambda: comp.found.startswith("daemon ready"))


def test_no_daemon_is_one_sentence_and_the_node_still_opens(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", "/nonexistent/python")
    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.node["instance"].setValue(str(tmp_path / "nobody"))
    comp.range(1, 1)
    assert "cannot start the daemon" in comp.wait()
    comp.host.press(comp.node, "open_status")
    nobody = f"no daemon is running in {tmp_path}/nobody: "
    comp.host.pump(lambda: comp.found == nobody + "Start daemon starts one, and so does matting")
    comp.host.press(comp.node, "start_daemon")
    comp.host.pump(lambda: comp.found.startswith("cannot start the daemon with /nonexistent"))


def test_which_daemon_runs_is_asked_on_a_thread(
    make_comp: Callable[..., Comp], tmp_path: Path, shared_daemon: DaemonProcess
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    assert comp.found == "not looked for yet"
    comp.host.open_panel(comp.node)
    comp.host.pump(lambda: comp.found.startswith("daemon ready"))
    assert comp.found == (
        f"daemon ready, mattebridge {__version__}, process {shared_daemon.pid} in"
        f" {shared_daemon.folder}; 1 worker; 0 frames waiting"
    )
    assert comp.status == "not matted yet"


def test_without_a_window_the_line_is_there_when_the_button_returns(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.host.press(comp.node, "open_status")
    assert comp.found.startswith("daemon ready")


def test_a_script_that_is_opened_has_not_looked_for_a_daemon_yet(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.host.press(comp.node, "open_status")
    script = str(tmp_path / "shot.nk")
    comp.host.module.scriptSave(script)
    comp.host.module.scriptOpen(script)
    opened = comp.host.module.toNode("MatteBridge1")
    assert opened["daemon_found"].value() == comp.tool.NOT_LOOKED


def test_a_node_of_an_older_script_shows_the_daemon_in_its_status(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    del comp.node._knobs["daemon_found"]
    comp.host.press(comp.node, "open_status")
    assert comp.status.startswith("daemon ready")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["client", "command"])
def test_the_button_starts_the_configured_daemon_once_and_never_the_hosts_own_binary(
    way: str,
    make_comp: Callable[..., Comp],
    host_binary: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if way == "command":
        monkeypatch.setattr("mattebridge.hosts.route.why_no_client", lambda: "No module")
    comp = make_comp(make_shot(tmp_path), gui=True)
    folder = tmp_path / "run"
    comp.node["instance"].setValue(str(folder))
    try:
        comp.host.press(comp.node, "start_daemon")
        assert comp.found == comp.tool.STARTING
        comp.host.pump(lambda: comp.found != comp.tool.STARTING)
        with MatteClient.connect(str(folder)) as client:
            pid = client.status()["pid"]
        assert f", process {pid} in {folder}; " in comp.found
        comp.host.press(comp.node, "start_daemon")
        comp.host.pump(lambda: comp.found != comp.tool.STARTING)
        assert f", process {pid} in {folder}; " in comp.found
        comp.range(1, 1)
        assert comp.wait() == "1 frames matted" + ("; by the command line" * (way == "command"))
    finally:
        control.stop(str(folder))


def test_no_call_on_the_main_thread_waits_for_the_daemon(
    make_comp: Callable[..., Comp], tmp_path: Path, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(light=True, hooks="model=sleep:600")
    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.node["instance"].setValue(str(daemon.folder))
    started = time.monotonic()
    comp.range(1, 1)
    for name in ("model", "foreground", "first"):
        comp.node[name].setValue(comp.node[name].value())
    comp.host.pump(lambda: len(comp.host.rendered) == 1)
    comp.host.press(comp.node, "open_status")
    comp.host.press(comp.node, "cancel")
    comp.wait()
    assert time.monotonic() - started < 2 * SOON_S
    assert comp.host.slowest_call_s < SOON_S  # a render of the fake, never the model's ten minutes


def test_clear_removes_this_nodes_files_and_no_others(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.range(1, 2)
    other = tmp_path / "store" / "other"
    other.mkdir()
    comp.host.press(comp.node, "clear")
    assert os.listdir(tmp_path / "store") == ["other"]
    assert comp.status == "not matted yet"


@pytest.mark.parametrize("rematted", [False, True])
@pytest.mark.parametrize("chosen", [False, True])
def test_clear_in_a_later_version_leaves_the_mattes_of_the_earlier_one(
    make_comp: Callable[..., Comp], tmp_path: Path, rematted: bool, chosen: bool
) -> None:
    comp = make_comp(make_shot(tmp_path, (1, 2, 3)))
    nuke = comp.host.module
    if not chosen:
        comp.node["store"].setValue("")
    first, second = str(tmp_path / "shot_v1.nk"), str(tmp_path / "shot_v2.nk")
    nuke.scriptSave(first)
    comp.range(1, 3)
    nuke.scriptSave(first)
    expected = comp.frame(2).channels["matte.alpha"]
    nuke.scriptSave(second)
    if rematted:
        comp.node["foreground"].setValue("plate")
        comp.range(2, 2)
        comp.range(3, 3)
    comp.host.press(comp.node, "clear")
    assert comp.status.startswith("not matted yet; other files, such as mattes of other ")
    nuke.scriptSave(second)
    nuke.scriptOpen(first)
    node = nuke.toNode("MatteBridge1")
    same = comp.host.frame_of(node, 2).channels["matte.alpha"]
    np.testing.assert_array_equal(same, expected)
    comp.host.press(node, "clear")
    assert node["status"].value() == "not matted yet"
    assert not list(tmp_path.rglob("frames/*.exr"))


def test_clear_of_a_script_that_was_saved_under_two_names_since_it_was_matted_deletes_nothing(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.range(1, 2)
    comp.host.module.scriptSave(str(tmp_path / "shot_v1.nk"))
    comp.host.module.scriptSave(str(tmp_path / "shot_v2.nk"))
    uid = comp.node["node_uid"].value()
    comp.node["store"].setValue("")
    comp.host.press(comp.node, "clear")
    assert comp.status.endswith(f"are still in {tmp_path / 'store' / uid}")
    comp.host.module.scriptOpen(str(tmp_path / "shot_v1.nk"))
    comp.host.frame_of(comp.host.module.toNode("MatteBridge1"), 2)


def test_clear_after_another_folder_was_chosen_removes_the_mattes_from_the_one_before(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.host.module.scriptSave(str(tmp_path / "shot.nk"))
    comp.range(1, 2)
    comp.node["store"].setValue(str(tmp_path / "elsewhere"))
    comp.host.press(comp.node, "clear")
    assert comp.status == "not matted yet"
    assert list((tmp_path / "store").iterdir()) == []


def test_a_node_without_an_id_never_clears_the_chosen_folder(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "plate.0001.exr").write_text("the artist's own")
    for lost in ("", "..", "../store", "."):
        comp.node["node_uid"].setValue(lost)
        comp.host.press(comp.node, "clear")
        assert comp.status == "not matted yet"
        assert [path.name for path in (tmp_path / "store").iterdir()] == ["plate.0001.exr"]
    comp.node["node_uid"].setValue("")
    comp.range(1, 2)
    assert comp.status == "2 frames matted"
    assert len(comp.node["node_uid"].value()) == 32
    comp.host.press(comp.node, "clear")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["plate.0001.exr"]


def test_clear_that_may_not_remove_the_files_says_so_and_goes_on_showing_them(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.range(1, 2)
    comp.wait()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    comp.host.press(comp.node, "clear")
    assert comp.status.endswith("ask them to press Clear. Nothing was removed")
    comp.frame(2)


def test_a_moved_script_keeps_its_finished_frames_when_some_are_matted_again(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, (1, 2, 3)))
    nuke = comp.host.module
    comp.node["store"].setValue("")
    for folder in ("old", "new", "copy"):
        (tmp_path / folder).mkdir()
    nuke.scriptSave(str(tmp_path / "old" / "shot.nk"))
    comp.range(1, 3)
    nuke.scriptSave(str(tmp_path / "copy" / "shot.nk"))
    grade = nuke.nodes.Grade(inputs=[comp.plate], white=0.8)
    comp.node.setInput(0, grade)
    comp.range(2, 2)
    for frame in (1, 2, 3):
        comp.frame(frame)
    # Now the folder of the script with everything in it.
    nuke.scriptOpen(str(tmp_path / "copy" / "shot.nk"))
    nuke.scriptSave(str(tmp_path / "old" / "shot.nk"))
    (tmp_path / "new").rmdir()
    os.rename(tmp_path / "old", tmp_path / "new")
    nuke.scriptOpen(str(tmp_path / "new" / "shot.nk"))
    node = nuke.toNode("MatteBridge1")
    comp.host.frame_of(node, 3)
    node["first"].setValue(2)
    node["last"].setValue(2)
    comp.host.press(node, "matte_range")
    assert node["status"].value() == "0 frames matted, 1 as before"
    for frame in (1, 2, 3):
        comp.host.frame_of(node, frame)
    comp.host.press(node, "clear")
    assert node["status"].value() == "not matted yet"


def test_a_script_opens_saves_unchanged_and_renders_from_its_reads_without_our_python(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.range(1, 2)
    script, copy = tmp_path / "shot.nk", tmp_path / "copy.nk"
    comp.host.module.scriptSave(str(script))
    expected = comp.frame(2)

    bare = NukeHost(gui=True)
    with bare.running():
        bare.module.scriptOpen(str(script))
        node = bare.module.toNode("MatteBridge1")
        assert node["model"].value() == "difference"
        assert node.knob("colorspace").values() == ["linear", "srgb"]
        write = bare.module.nodes.Write(inputs=[node], file=f"{tmp_path}/out.%04d.exr")
        write["channels"].setValue("all")
        bare.module.execute(write, 1, 2, 1)
        bare.module.delete(write)
        bare.press(node, "matte_range")
        assert node["status"].value() == "mattebridge is not installed in this Nuke"
        node["status"].setValue("2 frames matted")
        bare.module.scriptSave(str(copy))
    picture = load(str(tmp_path / "out.0002.exr"))
    np.testing.assert_array_equal(picture.channels["matte.alpha"], expected.channels["matte.alpha"])
    assert copy.read_text().replace(str(copy), str(script)) == script.read_text()


def test_a_pasted_copy_gets_a_folder_of_its_own(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path))
    comp.node["settings"].setValue("shadow=0.5\nband=2")
    comp.range(1, 2)
    uid = comp.node["node_uid"].value()
    (tmp_path / "clipboard.nk").write_text(save_node(comp.node))
    copy = comp.host.module.loadToolset(str(tmp_path / "clipboard.nk"))
    assert copy["node_uid"].value() not in ("", uid)
    assert comp.node["node_uid"].value() == uid
    for name, knob in comp.node.knobs().items():
        assert name == "node_uid" or copy[name].value() == knob.value(), name
    comp.host.press(copy, "clear")
    comp.frame(1)


def test_the_farm_program_mattes_a_script_and_says_how_it_ended(
    make_comp: Callable[..., Comp], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comp = make_comp(make_shot(tmp_path, range(1, 5)))
    script = str(tmp_path / "farm.nk")
    comp.host.module.scriptSave(script)
    before = Path(script).read_bytes()
    assert comp.tool.main([script, "--frames=1-4x2", "end"]) == 0
    assert "MatteBridge1: 2 frames matted; in " in capsys.readouterr().out
    assert Path(script).read_bytes() == before
    comp.host.module.scriptOpen(script)
    comp.host.frame_of(comp.host.module.toNode("MatteBridge1"), 3)
    assert comp.tool.main([script, "--frames=9", "end"]) != 0
    assert "No such file" in capsys.readouterr().err
    comp.host.cancel_after = 0
    assert comp.tool.main([script, "--frames=1-4", "end"]) == 4
    assert comp.tool.main([script, "--node=Nobody", "end"]) == 2


def test_the_farm_program_takes_the_words_behind_it_and_not_those_of_nuke(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, (1, 2, 3)))
    comp.host.module.scriptSave(str(tmp_path / "farm.nk"))
    program = NUKE_FOLDER / "mattebridge_nuke.py"
    host = NukeHost(arguments=[
        "/usr/local/Nuke15.1v1/Nuke15.1", "-V", "2", "-t", str(program), str(tmp_path / "farm.nk"),
        "--node=MatteBridge1", "--frames=2-3", "end",
    ])  # fmt: skip
    with host.running(NUKE_FOLDER), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(program), run_name="__main__")
    assert ended.value.code == 0
    assert [frame for frame, _, _ in host.rendered] == [2, 3]


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        (
            ["/opt/Nuke", "-t", "/x/mattebridge_nuke.py", "a.nk", "--frames=1-2", "9"],
            ["mb", "a.nk"],
        ),
        (["Nuke.exe", "-t", "C:\\x\\mattebridge_nuke.py", "a.nk", "--frames=1-2", "9"], ["mb"]),
        ([], ["/x/mattebridge_nuke.py", "a.nk", "--frames=1-2", "9"]),
        (["/opt/Nuke/python3"], ["/x/mattebridge_nuke.py", "a.nk", "--frames=1-2", "9"]),
    ],
    ids=["nuke -t", "nuke -t on Windows", "python without rawArgs", "python with rawArgs"],
)
def test_the_words_of_the_program_are_all_those_behind_it(
    raw: list[str], arguments: list[str]
) -> None:
    with NukeHost().running(NUKE_FOLDER):
        import mattebridge_nuke

        found = mattebridge_nuke.arguments_of(raw, arguments)
    assert found == ["a.nk", "--frames=1-2", "9"]


def test_a_script_named_by_a_relative_path_keeps_its_mattes_beside_it(
    make_comp: Callable[..., Comp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comp = make_comp(make_shot(tmp_path, (1,)))
    comp.node["store"].setValue("")
    (tmp_path / "show").mkdir()
    comp.host.module.scriptSave(str(tmp_path / "show" / "farm.nk"))
    monkeypatch.chdir(tmp_path / "show")
    assert comp.tool.main(["farm.nk", "--frames=1", "end"]) == 0
    assert len(list((tmp_path / "show" / "mattebridge").rglob("frames/*.exr"))) == 1


def test_two_chunks_of_a_farm_add_up_in_the_artists_script_which_neither_writes(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, range(1, 5)), gui=True)
    script = tmp_path / "shot.nk"
    comp.host.module.scriptSave(str(script))
    before = script.read_bytes()
    for frames in ("1-2", "3-4"):
        farm = NukeHost()
        with farm.running(NUKE_FOLDER):
            import mattebridge_nuke

            assert mattebridge_nuke.main([str(script), f"--frames={frames}", "end"]) == 0
    assert script.read_bytes() == before
    comp.host.module.scriptOpen(str(script))
    node = comp.host.module.toNode("MatteBridge1")
    for frame in range(1, 5):
        comp.host.frame_of(node, frame)
    assert (node.firstFrame(), node.lastFrame()) == (1, 4)
    assert node["status"].value() == comp.tool.AS_MATTED


def test_an_artist_with_the_script_open_gets_the_farms_mattes_by_their_content(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, range(1, 5)), gui=True)
    script = tmp_path / "shot.nk"
    comp.host.module.scriptSave(str(script))
    farm = NukeHost()
    with farm.running(NUKE_FOLDER):
        import mattebridge_nuke

        assert mattebridge_nuke.main([str(script), "--frames=1-4", "end"]) == 0
    comp.range(2, 3)
    assert comp.wait() == "0 frames matted, 2 as before"
    comp.frame(4)


def test_a_render_in_a_terminal_finds_what_the_farm_matted_before(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, (1, 2)))
    nuke = comp.host.module
    script = str(tmp_path / "shot.nk")
    nuke.nodes.Write(inputs=[comp.node], file=f"{tmp_path}/out.%04d.exr", name="Write1")
    nuke.scriptSave(script)
    nuke.delete(nuke.toNode("Write1"))
    farm, render = NukeHost(), NukeHost()
    with render.running(NUKE_FOLDER):
        render.module.scriptOpen(script)
        with farm.running(NUKE_FOLDER):
            import mattebridge_nuke

            assert mattebridge_nuke.main([script, "--frames=1-2", "end"]) == 0
        render.module.execute(render.module.toNode("Write1"), 1, 2, 1)
    assert (tmp_path / "out.0002.exr").is_file()


def test_mattes_of_another_state_of_the_graph_are_not_taken_up(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path, (1, 2)))
    comp.node.setInput(0, comp.host.module.nodes.Grade(inputs=[comp.plate], white=0.75))
    script = str(tmp_path / "shot.nk")
    comp.host.module.scriptSave(script)
    assert comp.tool.main([script, "--frames=1-2", "end"]) == 0
    saved = Path(script).read_text()
    assert saved.count("white 0.75") == 1
    Path(script).write_text(saved.replace("white 0.75", "white 0.5"))
    comp.host.module.scriptOpen(script)
    with pytest.raises(RuntimeError, match="press_Matte_Range_first"):
        comp.host.frame_of(comp.host.module.toNode("MatteBridge1"), 1)


def test_an_interrupt_on_the_farm_is_a_cancel_with_its_own_status(
    make_comp: Callable[..., Comp], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(frame: int) -> None:
        if frame == 3:
            raise KeyboardInterrupt

    comp = make_comp(make_shot(tmp_path, range(1, 5)))
    script = str(tmp_path / "farm.nk")
    comp.host.module.scriptSave(script)
    before = Path(script).read_text()
    comp.host.before_frame = interrupt
    assert comp.tool.main([script, "--frames=1-4", "end"]) == 4
    assert capsys.readouterr().err == "mattebridge: cancelled\n"
    assert Path(script).read_text() == before


def test_the_live_route_wraps_the_plugin_and_says_so_where_it_is_missing(
    make_comp: Callable[..., Comp], tmp_path: Path
) -> None:
    comp = make_comp(make_shot(tmp_path), gui=True)
    comp.node["route"].setValue("live (OFX)")
    assert comp.node["route"].value() == "pre-render"
    assert "mattebridge install ofx" in comp.status
    comp.host.plugins.add(comp.tool.PLUGIN_CLASS)
    comp.node["route"].setValue("live (OFX)")
    assert comp.node.node("Live").input(1) is comp.node.node("CleanPlate")
    comp.frame(1)
    comp.node["route"].setValue("pre-render")
    with pytest.raises(RuntimeError, match="press_Matte_Range_first"):
        comp.frame(1)


def test_a_daemon_killed_in_mid_frame_is_one_error_and_the_next_frame_works(
    make_comp: Callable[..., Comp],
    tmp_path: Path,
    start_daemon: StartDaemon,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon = start_daemon(light=True, hooks="model=sleep:600")
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", "/nonexistent/python")
    comp = make_comp(make_shot(tmp_path, range(1, 4)), gui=True)
    good = comp.node["instance"].value()
    comp.node["instance"].setValue(str(daemon.folder))
    comp.range(1, 3)
    comp.host.pump(lambda: len(comp.host.rendered) >= 1)
    daemon.kill()
    assert "daemon" in comp.wait()
    comp.node["instance"].setValue(good)
    comp.range(1, 3)
    assert "3 frames matted" in comp.wait()


def test_a_red_plate_saved_by_the_fake_is_what_oiio_says(tmp_path: Path) -> None:
    planes = {"rgba.red": np.ones((2, 3), np.float32), "roto.alpha": np.zeros((2, 3), np.float32)}
    save(tmp_path / "a.exr", Picture(planes, (0, 0, 3, 2), 3, 2))
    assert set(load(str(tmp_path / "a.exr")).channels) == set(planes)
