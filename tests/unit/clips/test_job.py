"""A clip as a job: how the numbers of its inputs meet, and the names of its results."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mattebridge.clips import Clip, scan
from mattebridge.clips.job import job_of
from mattebridge.errors import SequenceError
from mattebridge.image_io import write_frame
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video
from mattebridge.shot.job import MatteJob
from mattebridge.shot.plan import Plan
from mattebridge.shot.planes import FramePlanes
from mattebridge.shot.preflight import preflight
from mattebridge.wire.params import RenderParams

GREY = np.full((16, 32, 3), 120, np.uint8)


def pictures(folder: Path, *numbers: int) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        write_frame(folder / f"a.{number:04d}.png", GREY)


def video(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True)
    form = VIDEO_FORMATS["qtrle"]
    writer = open_video(path, form, width=32, height=16, times=VideoTimes(Fraction(24)))
    for _ in range(count):
        writer.add(GREY)
    writer.close()


def planned(root: Path, layout: str = "stages") -> Plan:
    (clip,) = scan(root).clips
    common = MatteJob(plate="", output=Path())
    return preflight(job_of(clip, common, layout=layout))


def test_a_hint_video_begins_at_the_first_picture_of_the_plate(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", 1001, 1002, 1003)
    video(tmp_path / "AlphaHint/h.mov", 3)
    assert [task.inputs.files["alpha_hint"].index for task in planned(tmp_path).tasks] == [0, 1, 2]


def test_hints_of_a_plate_video_begin_at_its_first_picture_whatever_their_numbers(
    tmp_path: Path,
) -> None:
    video(tmp_path / "Input/take.mov", 3)
    pictures(tmp_path / "AlphaHint", 101, 102, 103)
    named = [task.inputs.files["alpha_hint"].name for task in planned(tmp_path).tasks]
    assert named == ["a.0101.png", "a.0102.png", "a.0103.png"]


def test_a_still_hint_of_a_video_serves_for_all_whatever_number_is_in_its_name(
    tmp_path: Path,
) -> None:
    video(tmp_path / "Input/take.mov", 2)
    pictures(tmp_path / "AlphaHint", 101)
    named = [task.inputs.files["alpha_hint"].name for task in planned(tmp_path).tasks]
    assert named == ["a.0101.png"] * 2


def test_a_missing_hint_is_named_and_shifts_no_other(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", 1, 2, 3, 4)
    pictures(tmp_path / "AlphaHint", 1, 2, 4)
    with pytest.raises(SequenceError, match="3"):
        planned(tmp_path)


@pytest.mark.parametrize(
    ("layout", "first"),
    [
        ("stages", "alpha/frame_000000.exr"),
        ("classic", "Matte/00000.exr"),
        ("matte", "alpha/take.000000.exr"),
    ],
)
def test_frames_of_a_video_are_named_by_the_layout_and_nothing_is_created(
    tmp_path: Path, layout: str, first: str
) -> None:
    video(tmp_path / "Input/take.mov", 2)
    task = planned(tmp_path, layout).tasks[0]
    assert task.outputs["alpha"] == tmp_path / "Output" / first
    assert [path.name for path in tmp_path.iterdir()] == ["Input"]


def test_hint_sharpen_is_only_asked_for_where_there_is_a_hint(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", 1, 2)
    common = MatteJob("", Path(), params=RenderParams("linear", hint_sharpen=True))
    without = Clip("a", tmp_path, tmp_path / "Input")
    given = Clip("a", tmp_path, tmp_path / "Input", tmp_path / "Input")
    asked = [job_of(clip, common, layout="stages").params for clip in (without, given)]
    assert [params.hint_sharpen for params in asked] == [False, True]


def test_hints_of_another_size_are_fitted_and_that_is_said_once(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", 1, 2, 3)
    pictures(tmp_path / "AlphaHint", 1, 2)
    write_frame(tmp_path / "AlphaHint/a.0003.png", GREY)
    for number in (1, 2):
        write_frame(tmp_path / f"AlphaHint/a.{number:04d}.png", GREY[::2, ::2])
    plan = planned(tmp_path)
    assert [task.resized for task in plan.tasks] == [("alpha_hint",), ("alpha_hint",), ()]
    assert "the alpha hint of 2 frames is resized to the size of the plate" in plan.notes
    planes = FramePlanes(plan.job, plan.spaces)
    hints = [planes.matte(task, "alpha_hint")[0] for task in plan.tasks]
    assert {hint.shape for hint in hints} == {(16, 32, 1)}
    assert all((hint == 120).all() for hint in hints)
    pictures(tmp_path / "CleanPlate", 1, 2)
    write_frame(tmp_path / "CleanPlate/a.0003.png", GREY[::2, ::2])
    problems = [task.problem for task in planned(tmp_path).tasks]
    assert problems[:2] == [None, None]
    assert "bring both to one size" in str(problems[2])


@pytest.mark.parametrize("name", ["%04d weird", "sh [x] #1", "take.exr"])
def test_a_folder_of_results_may_be_named_like_a_pattern_or_a_file(
    tmp_path: Path, name: str
) -> None:
    """It has the name of its clip, which the user did not choose for it."""
    pictures(tmp_path / name / "Input", 1, 2)
    (clip,) = scan(tmp_path).clips
    job = job_of(clip, MatteJob("", Path()), layout="stages", output=tmp_path / "out")
    plan = preflight(job)
    assert plan.tasks[1].outputs["alpha"] == tmp_path / "out" / name / "alpha/a.0002.exr"
