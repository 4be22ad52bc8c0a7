"""Where a clip stands: by its inputs, by the ledger and by what is on disk, never by counts."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from fakes.inprocess_client import InProcessClient
from mattebridge.clips import (
    Clip,
    ClipManifest,
    ClipState,
    ClipStatus,
    InferenceConfig,
    InOutRange,
    InvalidStateTransitionError,
    PipelineConfig,
    WriteConfig,
    load,
    scan,
    state_of,
)
from mattebridge.clips.checking import check_job
from mattebridge.clips.job import job_of
from mattebridge.clips.runner import job_for
from mattebridge.errors import OutOfMemoryError, UsageError
from mattebridge.image_io import write_frame
from mattebridge.shot import preflight as preflight_module
from mattebridge.shot.job import MatteJob
from mattebridge.shot.progress import Progress
from mattebridge.shot.run import run_job

NUMBERS = (1001, 1002, 1003)
CARD = {"name": "difference", "family": "difference", "needs": ["plate", "clean_plate"]}


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    plate = np.full((16, 32, 3), 120, np.uint8)
    for folder in ("Input", "CleanPlate"):
        (tmp_path / "shot" / folder).mkdir(parents=True)
    for number in NUMBERS:
        write_frame(tmp_path / f"shot/Input/a.{number}.png", plate)
    write_frame(tmp_path / "shot/CleanPlate/clean.png", plate)
    (found,) = scan(tmp_path).clips
    return found


def matted(manifest: ClipManifest, *, fail: tuple[int, ...] = (), **write: object) -> None:
    errors = {number: OutOfMemoryError("no room") for number in fail}
    config = PipelineConfig(
        inference=InferenceConfig(model="difference"),
        existing="overwrite",
        write=WriteConfig(manifest.output_dir, **write),  # type: ignore[arg-type]
    )
    run_job(job_for(manifest, config), lambda: InProcessClient(card=CARD, fail=errors))


def shown(clip: Clip) -> tuple[str, int, int]:
    status = state_of(clip)
    return str(status.state), status.done, status.total


def test_a_plate_alone_is_raw_and_with_a_hint_or_a_clean_plate_it_is_ready(clip: Clip) -> None:
    assert shown(clip) == ("ready", 0, 3)
    assert shown(clip.model_copy(update={"clean_plate_path": None})) == ("raw", 0, 3)
    assert not (clip.root / "Output").exists()


def test_complete_means_that_every_frame_was_made_from_what_is_there_now(clip: Clip) -> None:
    manifest = load(clip)
    matted(manifest.model_copy(update={"frame_range": (0, 2)}))
    assert shown(clip) == ("ready", 2, 3)
    assert state_of(clip, in_out=InOutRange(1001, 1002)).state is ClipState.COMPLETE
    matted(manifest)
    assert shown(clip) == ("complete", 3, 3)
    os.utime(clip.root / "Input/a.1002.png", (5, 5))
    assert shown(clip) == ("ready", 2, 3)


def test_files_prove_nothing_by_their_number(clip: Clip) -> None:
    matted(load(clip), alpha_format="png", comp_enabled=False)
    assert shown(clip) == ("complete", 3, 3)
    alpha = clip.root / "Output/alpha/a.1003.png"
    whole = alpha.read_bytes()
    alpha.write_bytes(whole[:-9])
    assert shown(clip) == ("ready", 2, 3)
    alpha.write_bytes(whole)
    assert shown(clip) == ("complete", 3, 3)
    (clip.root / "Output/frame.mattebridge.jsonl").write_text("")
    for path in (clip.root / "Output").glob("*.jsonl"):
        path.unlink()
    assert shown(clip) == ("ready", 0, 3)


def test_a_frame_that_failed_is_an_error_until_it_is_made(clip: Clip) -> None:
    manifest = load(clip)
    matted(manifest, fail=(1002,))
    status = state_of(clip)
    assert (status.state, status.done, status.total) == (ClipState.ERROR, 2, 3)
    assert status.detail == "frame 1002: no room"
    assert status.exit_status == 3
    matted(manifest)
    assert shown(clip) == ("complete", 3, 3)


def test_the_reason_is_known_where_no_frame_of_a_clip_could_be_made(clip: Clip) -> None:
    manifest = load(clip)
    matted(manifest, fail=NUMBERS)
    assert [path.name for path in manifest.output_dir.iterdir()] == ["a.mattebridge.jsonl"]
    status = state_of(clip)
    assert (status.state, status.done, status.total) == (ClipState.ERROR, 0, 3)
    assert status.detail == "frame 1001 (and 2 more): no room"
    assert status.exit_status == 3
    matted(manifest)
    assert shown(clip) == ("complete", 3, 3)


def test_the_state_of_a_read_only_clip_is_seen_and_nothing_is_tried_in_it(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load(clip)
    matted(manifest.model_copy(update={"frame_range": (0, 2)}))
    monkeypatch.setattr(preflight_module, "can_write", lambda folder: False)
    assert shown(clip) == ("ready", 2, 3)
    job = job_of(clip, MatteJob("", Path()), layout="stages")
    assert check_job(job, Progress(), Event()).count("found") == 3
    before = sorted(clip.root.rglob("*"))
    with pytest.raises(UsageError, match=r"nothing can be written to .*Output; choose another -o"):
        matted(manifest)
    assert sorted(clip.root.rglob("*")) == before


def test_a_clip_that_cannot_be_loaded_is_an_error_with_its_reason(clip: Clip) -> None:
    os.unlink(clip.root / "Input/a.1002.png")
    assert shown(clip) == ("error", 0, 0)
    assert state_of(clip).exit_status == 2
    assert "no frame 1002" in state_of(clip).detail
    write_frame(clip.root / "Input/a.1002.png", np.zeros((8, 8, 3), np.uint8))
    status = state_of(clip)
    assert (status.state, status.total) == (ClipState.ERROR, 3)
    assert status.detail.startswith("frame 1002 is 8x8 and the frames before it 32x16")


def test_the_colour_space_of_a_plate_that_names_none_can_be_said(clip: Clip) -> None:
    (clip.root / "Input").rename(clip.root / "png")
    (clip.root / "Input").mkdir()
    for number in NUMBERS:
        write_frame(clip.root / f"Input/a.{number}.dpx", np.full((16, 32, 3), 9000, np.uint16))
    assert state_of(clip).state is ClipState.ERROR
    assert "--input-space" in state_of(clip).detail
    assert state_of(clip, input_space="srgb").state is ClipState.READY


def test_results_elsewhere_are_found_where_they_are(clip: Clip, tmp_path: Path) -> None:
    manifest = load(clip).model_copy(update={"output_dir": tmp_path / "out/shot"})
    matted(manifest)
    assert state_of(clip).state is ClipState.READY
    assert state_of(clip, tmp_path / "out/shot").state is ClipState.COMPLETE
    assert state_of(clip, tmp_path / "out/shot", layout="classic").done == 0


@pytest.mark.parametrize(
    ("before", "after", "may"),
    [
        ("extracting", "raw", True),
        ("raw", "ready", True),
        ("ready", "complete", True),
        ("complete", "ready", True),
        ("complete", "error", False),
        ("complete", "extracting", False),
        ("error", "raw", True),
        ("error", "complete", False),
        ("extracting", "complete", False),
    ],
)
def test_states_follow_each_other_as_documented(before: str, after: str, may: bool) -> None:
    status = ClipStatus("shot", ClipState(before), exit_status=2 if before == "error" else 0)
    if may:
        moved = status.moved_to(ClipState(after), "why")
        assert (moved.state, moved.detail, moved.exit_status) == (after, "why", 0)
        return
    with pytest.raises(InvalidStateTransitionError, match=f"{before} and cannot become {after}"):
        status.moved_to(ClipState(after))


def test_a_range_from_in_to_out_has_both_ends(clip: Clip) -> None:
    manifest = load(clip)
    assert InOutRange(1002, 1003).indices(manifest) == (1, 3)
    assert InOutRange(1, 9999).indices(manifest) == (0, 3)
    with pytest.raises(ValueError, match="no frame of 5-6"):
        InOutRange(5, 6).indices(manifest)
    with pytest.raises(ValueError, match="1003 is behind 1001"):
        InOutRange(1003, 1001)
