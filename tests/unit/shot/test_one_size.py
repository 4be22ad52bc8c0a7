"""A model that would choose its working size by free memory has one size in a shot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.inprocess_client import FakeMatte, InProcessClient
from fakes.jobs import matte_job
from mattebridge.errors import NonFiniteError
from mattebridge.image_io import write_frame
from mattebridge.shot.run import run_job

FRAMES = range(1, 9)
CARD = {"settings": {"img_size": {"type": "int", "default": 0}}}


class Workers(InProcessClient):
    """Workers whose free memory differs: each frame for itself would be of another size."""

    def _make(self, plate: np.ndarray, clean: Any, options: Any) -> FakeMatte:
        matte = super()._make(plate, clean, options)
        asked = (options.get("settings") or {}).get("img_size", 0)
        matte.notes = {"model": {"img_size": asked or 512 + 32 * options["frame"]}}
        return matte


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    for frame in FRAMES:
        write_frame(tmp_path / f"plate.{frame:04d}.png", np.full((8, 12, 3), 200, np.uint8))
    write_frame(tmp_path / "clean.png", np.full((8, 12, 3), 20, np.uint8))
    return tmp_path


def sizes(shot: Path, client: InProcessClient, **options: Any) -> dict[int, Any]:
    """The size that was asked for, by frame."""
    given = {"plate": str(shot / "plate.####.png"), "clean_plate": str(shot / "clean.png")}
    job = matte_job(output=shot / "out", in_flight=4, **given, **options)
    summary = run_job(job, lambda: client)
    assert len(summary.records) == len(FRAMES)
    asked = sorted(client.requests, key=lambda request: request["frame"])
    return {r["frame"]: (r.get("settings") or {}).get("img_size") for r in asked}


def test_all_frames_are_of_the_size_that_the_first_reply_names(shot: Path) -> None:
    client = Workers(card=CARD, delay_s=0.05)
    asked = sizes(shot, client)
    (first,) = [frame for frame, size in asked.items() if not size]
    assert client.requests[0]["frame"] == first
    assert {size for frame, size in asked.items() if frame != first} == {512 + 32 * first}
    # Behind the first one, frames are in flight together as ever.
    assert client.most_in_flight > 1


def test_where_the_first_frame_fails_the_next_one_decides(shot: Path) -> None:
    failed = {frame: NonFiniteError("it failed") for frame in (1, 2, 3)}
    asked = sizes(shot, Workers(card=CARD, fail=failed))
    decided = {size for size in asked.values() if size}
    assert len(decided) == 1
    assert decided < {512 + 32 * frame for frame in FRAMES if frame not in failed}


@pytest.mark.parametrize(
    ("card", "settings", "size"),
    [(CARD, {"img_size": 1024}, 1024), ({}, {}, None), ({"settings": {"slope": {}}}, {}, None)],
)
def test_a_size_that_is_named_stays_and_other_models_are_asked_for_none(
    shot: Path, card: dict[str, Any], settings: dict[str, Any], size: int | None
) -> None:
    asked = sizes(shot, Workers(card=card), settings=settings)
    assert set(asked.values()) == {size}


def test_a_reply_that_names_no_size_holds_nothing_back(shot: Path) -> None:
    client = InProcessClient(card=CARD, delay_s=0.05)
    assert set(sizes(shot, client).values()) == {None}
    assert client.most_in_flight > 1
