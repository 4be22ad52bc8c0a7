"""A clip that lacks what its model needs is refused before its first frame, in words for clips."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from mattebridge.clips import scan, state_of
from mattebridge.clips.checking import check_job
from mattebridge.clips.job import job_of
from mattebridge.clips.needs import check_inputs
from mattebridge.errors import InputsError
from mattebridge.image_io import write_frame
from mattebridge.shot.job import MatteJob
from mattebridge.shot.preflight import preflight
from mattebridge.shot.progress import Progress
from mattebridge.wire.params import RenderParams

KEY = {"name": "key", "family": "greenformer", "needs": ["plate"]}
SCREEN = {"name": "screen", "family": "screen", "needs": ["plate"]}
DIFFERENCE = {"name": "difference", "family": "difference", "needs": ["plate", "clean_plate"]}
GREY, GREEN = (110, 110, 110), (40, 170, 60)


def pictures(folder: Path, *colours: tuple[int, int, int]) -> None:
    folder.mkdir(parents=True)
    for number, colour in enumerate(colours, 1):
        write_frame(folder / f"a.{number:04d}.png", np.full((48, 64, 3), colour, np.uint8))


def check(root: Path, card: dict[str, Any], **settings: Any) -> None:
    (clip,) = scan(root).clips
    common = MatteJob("", Path(), params=RenderParams("srgb", settings=settings))
    check_inputs(preflight(job_of(clip, common, layout="stages")), card)


def test_a_model_that_needs_a_clean_plate_asks_for_its_folder(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", GREEN, GREEN)
    with pytest.raises(InputsError, match=r"needs a clean plate.* add CleanPlate/"):
        check(tmp_path, DIFFERENCE)
    pictures(tmp_path / "CleanPlate", GREY)
    check(tmp_path, DIFFERENCE)


def test_a_plate_that_changes_its_size_is_refused_and_the_frame_named(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", GREEN, GREEN, GREEN)
    write_frame(tmp_path / "Input/a.0002.png", np.full((24, 64, 3), GREEN, np.uint8))
    with pytest.raises(InputsError, match="frame 2 is 64x24 and the frames before it 64x48"):
        check(tmp_path, SCREEN)
    (clip,) = scan(tmp_path).clips
    status = state_of(clip)
    assert (status.state, status.detail[:16]) == ("error", "frame 2 is 64x24")
    job = job_of(clip, MatteJob("", Path()), layout="stages")
    with pytest.raises(InputsError, match="frame 2 is 64x24"):
        check_job(job, Progress(), Event())


@pytest.mark.parametrize("card", [KEY, SCREEN])
def test_without_hint_clean_plate_and_screen_the_clip_is_refused(
    tmp_path: Path, card: dict[str, Any]
) -> None:
    pictures(tmp_path / "Input", *[GREY] * 7)
    with pytest.raises(InputsError, match=r"no AlphaHint/ and no CleanPlate/.* 1, 4, 7") as caught:
        check(tmp_path, card)
    assert caught.value.exit_status == 2
    check(tmp_path, card, screen="green")


def test_a_screen_in_one_of_three_frames_is_enough(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", GREY, GREEN, GREY)
    check(tmp_path, KEY)
    with pytest.raises(InputsError, match="no green or blue screen"):
        check_one(tmp_path, KEY)


def check_one(root: Path, card: dict[str, Any]) -> None:
    (clip,) = scan(root).clips
    common = MatteJob("", Path(), frames="1", params=RenderParams("srgb"))
    check_inputs(preflight(job_of(clip, common, layout="stages")), card)


@pytest.mark.parametrize("folder", ["AlphaHint", "CleanPlate"])
def test_a_hint_or_a_clean_plate_is_enough(tmp_path: Path, folder: str) -> None:
    pictures(tmp_path / "Input", GREY, GREY)
    pictures(tmp_path / folder, GREY, GREY)
    check(tmp_path, KEY)
    if folder == "AlphaHint":
        with pytest.raises(InputsError, match="no green or blue screen"):
            check(tmp_path, KEY, hint_source="screen")
        with pytest.raises(InputsError, match="from a clean plate, and the clip has none"):
            check(tmp_path, KEY, hint_source="difference")
