"""A clip that lacks what its model needs is refused before its first frame, in words for clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mattebridge.clips import scan
from mattebridge.clips.job import job_of
from mattebridge.clips.needs import check_inputs
from mattebridge.errors import InputsError
from mattebridge.image_io import write_frame
from mattebridge.shot.job import MatteJob
from mattebridge.shot.preflight import preflight
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
