"""A model that would choose its working size and precision by its device has one of each in a shot,
whatever runs make it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.inprocess_client import FakeMatte, InProcessClient
from fakes.jobs import matte_job
from mattebridge.errors import NonFiniteError
from mattebridge.image_io import read_frame, write_frame
from mattebridge.shot.ledger import Ledger
from mattebridge.shot.run import run_job
from mattebridge.shot.summary import Summary

FRAMES = range(1, 9)
CARD = {
    "settings": {
        "img_size": {"type": "int", "default": 0},
        "precision": {"type": "str", "default": "auto"},
    }
}


class Workers(InProcessClient):
    """Workers whose free memory differs: each frame for itself would be of another size, and of
    `precision`. Alpha is the size over 4096, so that files tell it."""

    def __init__(self, *, card: Any = CARD, precision: str = "float32", **options: Any) -> None:
        super().__init__(card=card, **options)
        self.precision = precision

    def _make(self, plate: np.ndarray, clean: Any, options: Any) -> FakeMatte:
        matte = super()._make(plate, clean, options)
        asked = options.get("settings") or {}
        size = asked.get("img_size", 0) or 512 + 32 * options["frame"]
        precision = asked.get("precision", "auto")
        precision = self.precision if precision == "auto" else precision
        matte.notes = {"model": {"img_size": size, "precision": precision}}
        matte.alpha = np.full_like(matte.alpha, size / 4096)
        return matte


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    for frame in FRAMES:
        write_frame(tmp_path / f"plate.{frame:04d}.png", np.full((8, 12, 3), 200, np.uint8))
    write_frame(tmp_path / "clean.png", np.full((8, 12, 3), 20, np.uint8))
    return tmp_path


def run(shot: Path, client: InProcessClient, **options: Any) -> Summary:
    given = {"plate": str(shot / "plate.####.png"), "clean_plate": str(shot / "clean.png")}
    job = matte_job(output=shot / "out", in_flight=4, formats="exr", **given, **options)
    return run_job(job, lambda: client)


def asked_of(client: InProcessClient, name: str = "img_size") -> dict[int, Any]:
    """The value of a setting that was asked for, by frame; the last one of each."""
    return {r["frame"]: (r.get("settings") or {}).get(name) for r in client.requests}


def sizes(shot: Path, client: InProcessClient, **options: Any) -> dict[int, Any]:
    """The size that was asked for, by frame."""
    assert len(run(shot, client, **options).records) == len(FRAMES)
    return asked_of(client)


def written(shot: Path) -> set[int]:
    """The sizes of which the files are."""
    alphas = (read_frame(path).pixels for path in (shot / "out/alpha").iterdir())
    return {round(float(alpha.max()) * 4096) for alpha in alphas}


def test_all_frames_are_of_the_size_that_the_first_reply_names(shot: Path) -> None:
    client = Workers(delay_s=0.05)
    asked = sizes(shot, client)
    (first,) = [frame for frame, size in asked.items() if not size]
    assert client.requests[0]["frame"] == first
    assert {size for frame, size in asked.items() if frame != first} == {512 + 32 * first}
    # Behind the first one, frames are in flight together as ever.
    assert client.most_in_flight > 1


def test_where_the_first_frame_fails_the_next_one_decides(shot: Path) -> None:
    failed = {frame: NonFiniteError("it failed") for frame in (1, 2, 3)}
    asked = sizes(shot, Workers(fail=failed))
    decided = {size for size in asked.values() if size}
    assert len(decided) == 1
    assert decided < {512 + 32 * frame for frame in FRAMES if frame not in failed}


@pytest.mark.parametrize(
    ("card", "settings", "size"),
    [
        (CARD, {"img_size": 1024}, 1024),
        ({}, {}, None),
        ({"settings": {"slope": {"default": 1.0}}}, {}, None),
    ],
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


def test_the_precision_of_the_first_reply_is_that_of_all(shot: Path) -> None:
    client = Workers(precision="bfloat16")
    run(shot, client)
    first = client.requests[0]["frame"]
    asked = asked_of(client, "precision")
    assert {value for frame, value in asked.items() if frame != first} == {"bfloat16"}


# --- other runs of the job ------------------------------------------------------------------------


def test_a_resumed_run_makes_what_is_missing_in_the_size_of_what_is_there(shot: Path) -> None:
    failed = {frame: NonFiniteError("it failed") for frame in (5, 6, 7, 8)}
    run(shot, Workers(fail=failed))
    (size,) = written(shot)
    # It would choose another one: the first frame that it makes is no longer frame 1.
    client = Workers(precision="bfloat16")
    run(shot, client, existing="verify")
    assert set(asked_of(client).values()) == {size}
    # It knows the choice from the start: no frame is made twice.
    assert len(client.requests) == len(failed)
    assert set(asked_of(client, "precision").values()) == {"float32"}
    assert written(shot) == {size}


@pytest.mark.parametrize("existing", ["error", "overwrite"])
def test_chunks_that_are_made_one_after_the_other_have_one_size(shot: Path, existing: str) -> None:
    for frames in ("1-4", "5-8"):
        run(shot, Workers(), frames=frames, existing=existing)
    assert len(written(shot)) == 1


def test_of_two_chunks_at_the_same_time_the_one_that_noted_its_size_first_decides(
    shot: Path,
) -> None:
    class Slower(Workers):
        """Another run finishes its first frame while the first frame of this one is computed."""

        def _make(self, plate: np.ndarray, clean: Any, options: Any) -> FakeMatte:
            if len(self.requests) == 1:
                run(shot, Workers(), frames="1-4")
            return super()._make(plate, clean, options)

    client = Slower()
    summary = run(shot, client, frames="5-8")
    assert summary.exit_status == 0
    (size,) = written(shot)
    assert size < 512 + 32 * 5
    # The frame that was first was made again, and no other one.
    frames = [r["frame"] for r in client.requests]
    assert frames[0] == frames[1]
    assert sorted(frames[1:]) == [5, 6, 7, 8]


def test_a_job_with_other_settings_chooses_anew(shot: Path) -> None:
    run(shot, Workers(), frames="1-4")
    client = Workers()
    run(shot, client, frames="5-8", foreground="plate")
    assert client.requests[0].get("settings", {}).get("img_size") is None
    assert len(written(shot)) == 2


def test_a_choice_that_was_half_written_is_none(shot: Path) -> None:
    run(shot, Workers(), frames="1-4")
    (path,) = (shot / "out").glob("*.jsonl")
    text = path.read_text()
    line = next(line for line in text.splitlines() if '"choice"' in line)
    assert Ledger.open(path)._choices
    path.write_text(text.replace(line, line[:-20]))
    assert not Ledger.open(path)._choices
