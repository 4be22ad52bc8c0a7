"""Which clips a path holds, and what is skipped, with its reason."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mattebridge.clips import ClipScanError, PipelineEvents, ScanResult, scan
from mattebridge.errors import UsageError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def names(found: ScanResult) -> list[str]:
    return [clip.name for clip in found.clips]


def reasons(found: ScanResult) -> dict[str, str]:
    return {skipped.path.name: skipped.reason for skipped in found.skipped}


def test_clips_are_found_in_natural_order_with_what_belongs_to_them(tmp_path: Path) -> None:
    touch(tmp_path / "v10/INPUT/a.1001.exr")
    touch(tmp_path / "v2/Input/take.mov")
    touch(tmp_path / "v2/alphahint/h.1001.png")
    touch(tmp_path / "v2/CleanPlate.exr")
    found = scan(tmp_path)
    assert names(found) == ["v2", "v10"]
    assert found.skipped == ()
    second = found.clips[0]
    assert second.input_path == tmp_path / "v2/Input/take.mov"
    assert second.alpha_path == tmp_path / "v2/alphahint"
    assert second.clean_plate_path == tmp_path / "v2/CleanPlate.exr"
    assert found.clips[1].input_path == tmp_path / "v10/INPUT"


def test_videos_beside_the_folders_are_plate_and_hint(tmp_path: Path) -> None:
    plate, hint = touch(tmp_path / "a/Input.mp4"), touch(tmp_path / "a/AlphaHint.mov")
    (clip,) = scan(tmp_path / "a").clips
    assert (clip.input_path, clip.alpha_path) == (plate, hint)


@pytest.mark.parametrize("kind", ["mp4", "mov", "avi", "mkv", "mxf", "webm", "m4v", "MOV"])
def test_every_type_of_video_is_a_clip_by_itself_or_in_its_folder(
    tmp_path: Path, kind: str
) -> None:
    suffix = f".{kind}"
    loose = touch(tmp_path / f"loose{suffix}")
    inside = touch(tmp_path / f"take/Input/a{suffix}")
    beside = touch(tmp_path / f"zoom/Input{suffix}")
    assert [clip.input_path for clip in scan(tmp_path).clips] == [loose, inside, beside]
    assert [clip.input_path for clip in scan(loose).clips] == [loose]


def test_another_video_of_a_clip_folder_is_never_the_plate(tmp_path: Path) -> None:
    touch(tmp_path / "a/AlphaHint.mov")
    touch(tmp_path / "a/preview.mp4")
    found = scan(tmp_path)
    assert found.clips == ()
    assert "has no Input/" in reasons(found)["a"]


def test_an_empty_hint_folder_is_no_hint(tmp_path: Path) -> None:
    touch(tmp_path / "a/Input/a.1.exr")
    (tmp_path / "a/AlphaHint").mkdir()
    (clip,) = scan(tmp_path).clips
    assert clip.alpha_path is None


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (("Input/a.mov", "Input/b.mov"), "Input/ holds 2 videos; keep exactly one"),
        (("Input/a.mov", "Input/a.1.png", "Input/a.2.png"), "Input/ holds 1 video and 2 pictures"),
        (("Input/a.1.png", "input/a.1.png"), "keep one of them"),
        (("Input/a.1.png", "Input.mov"), "keep one of them"),
        (("Input/a.1.png", "AlphaHint/a.mov", "AlphaHint/b.mov"), "AlphaHint/ holds 2 videos"),
        (
            ("Input/a.mov", "Input/b.mov", "AlphaHint/a.mov", "AlphaHint/a.1.png"),
            "Input/ holds 2 videos; keep exactly one; AlphaHint/ holds 1 video and 1 picture",
        ),
        (("Input/notes.txt",), "Input/ holds no pictures and no video"),
    ],
)
def test_what_could_mean_two_things_is_skipped_with_its_reason(
    tmp_path: Path, files: tuple[str, ...], reason: str
) -> None:
    for name in files:
        touch(tmp_path / "a" / name)
    found = scan(tmp_path)
    assert found.clips == ()
    (skipped,) = found.skipped
    assert reason in skipped.reason
    assert skipped.is_clip


def test_two_loose_videos_are_two_clips_and_stay_where_they_are(tmp_path: Path) -> None:
    before = {touch(tmp_path / name) for name in ("one.mov", "two.mp4")}
    found = scan(tmp_path)
    assert [(clip.name, clip.root) for clip in found.clips] == [
        ("one", tmp_path / "one"),
        ("two", tmp_path / "two"),
    ]
    assert set(tmp_path.iterdir()) == before


def test_the_results_of_a_loose_video_are_no_clip_and_not_named(tmp_path: Path) -> None:
    touch(tmp_path / "one.mov")
    touch(tmp_path / "one/Output/alpha/frame_000000.exr")
    touch(tmp_path / "two/notes.txt")
    found = scan(tmp_path)
    assert names(found) == ["one"]
    assert set(reasons(found)) == {"two"}


def test_two_videos_with_one_folder_of_results_are_not_both_taken(tmp_path: Path) -> None:
    touch(tmp_path / "take.mov")
    touch(tmp_path / "take.mp4")
    found = scan(tmp_path)
    assert names(found) == ["take"]
    assert [skipped.is_clip for skipped in found.skipped] == [True]


def test_a_clip_and_a_link_to_it_are_one_clip(tmp_path: Path) -> None:
    touch(tmp_path / "a/Input/a.1.exr")
    os.symlink(tmp_path / "a", tmp_path / "b")
    found = scan(tmp_path)
    assert names(found) == ["a"]
    assert reasons(found) == {"b": "is the same clip as a"}


def test_of_a_clip_and_a_link_before_it_the_clip_is_the_one(tmp_path: Path) -> None:
    touch(tmp_path / "b/Input/a.1.exr")
    touch(tmp_path / "c/Input/a.1.exr")
    os.symlink(tmp_path / "b", tmp_path / "a")
    found = scan(tmp_path)
    assert [(clip.name, clip.root) for clip in found.clips] == [
        ("b", tmp_path / "b"),
        ("c", tmp_path / "c"),
    ]
    assert reasons(found) == {"a": "is the same clip as b"}


def test_links_to_folders_of_one_name_are_clips_of_their_own_names(tmp_path: Path) -> None:
    """Else `-o OUT` would put both into OUT/take."""
    for reel in ("r1", "r2"):
        touch(tmp_path / reel / "take/Input/a.1.exr")
        (tmp_path / "shots").mkdir(exist_ok=True)
        os.symlink(tmp_path / reel / "take", tmp_path / "shots" / reel)
    assert names(scan(tmp_path / "shots")) == ["r1", "r2"]


def test_links_that_lead_nowhere_or_round_in_a_circle_are_named_and_stop_nothing(
    tmp_path: Path,
) -> None:
    touch(tmp_path / "good/Input/a.1.exr")
    os.symlink(tmp_path, tmp_path / "all")
    os.symlink(tmp_path / "nowhere", tmp_path / "gone")
    os.symlink(tmp_path / "round", tmp_path / "round")
    (tmp_path / "linked").mkdir()
    os.symlink(tmp_path / "good/Input", tmp_path / "linked/Input")
    found = scan(tmp_path)
    assert names(found) == ["good", "linked"]
    assert set(reasons(found)) == {"all", "gone", "round"}


def test_hidden_folders_and_results_are_no_clips_and_anything_else_is_named(
    tmp_path: Path,
) -> None:
    for name in (".cache", "_old", "Output", "IgnoredClips", "good"):
        touch(tmp_path / name / "Input/a.1.exr")
    touch(tmp_path / "empty/readme.txt")
    touch(tmp_path / "notes.txt")
    found = scan(tmp_path)
    assert names(found) == ["good"]
    assert set(reasons(found)) == {"empty", "notes.txt"}
    assert not any(skipped.is_clip for skipped in found.skipped)


def test_a_path_that_is_missing_or_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipScanError, match="does not exist"):
        scan(tmp_path / "none")
    with pytest.raises(ClipScanError, match="no folder and no video"):
        scan(touch(tmp_path / "a.txt"))


def test_a_loose_video_is_moved_only_where_that_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path / "one.mov")
    touch(tmp_path / "two.mov")
    scan(tmp_path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "reorganise" in caplog.text
    found = scan(tmp_path, reorganise=True)
    assert [clip.input_path for clip in found.clips] == [
        tmp_path / "one/Input/one.mov",
        tmp_path / "two/Input/two.mov",
    ]
    assert all(clip.input_path.is_file() for clip in found.clips)
    again = scan(tmp_path, reorganise=True)
    assert [clip.input_path for clip in again.clips] == [clip.input_path for clip in found.clips]


def test_a_loose_video_is_never_moved_into_a_folder_that_is_there(tmp_path: Path) -> None:
    touch(tmp_path / "take.mov")
    touch(tmp_path / "take/notes.txt")
    found = scan(tmp_path, reorganise=True)
    assert found.clips == ()
    assert "take/ is there already" in reasons(found)["take.mov"]
    assert (tmp_path / "take.mov").is_file()


def test_a_video_that_cannot_be_moved_stays_where_it_is_and_can_be_moved_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = touch(tmp_path / "take.mov")

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(OSError, match=r"take\.mov cannot be moved.*cross-device") as caught:
            scan(tmp_path, reorganise=True)
    assert isinstance(caught.value, UsageError)
    assert list(tmp_path.iterdir()) == [source]
    (clip,) = scan(tmp_path, reorganise=True).clips
    assert clip.input_path == tmp_path / "take/Input/take.mov"


def test_a_callback_that_raises_ends_no_scan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        touch(tmp_path / name / "Input/a.1.exr")
    touch(tmp_path / "notes.txt")

    def broken(*_: object) -> None:
        raise RuntimeError("mine")

    found = scan(tmp_path, events=PipelineEvents(on_clip_found=broken, on_clip_skipped=broken))
    assert names(found) == ["a", "b"]
    assert [record.getMessage() for record in caplog.records] == [
        "the callback on_clip_found raised; the run goes on",
        "the callback on_clip_skipped raised; the run goes on",
    ]


def test_a_script_is_told_of_each_clip_and_each_skipped_path(tmp_path: Path) -> None:
    touch(tmp_path / "a/Input/a.1.exr")
    touch(tmp_path / "b/notes.txt")
    told: list[tuple[object, ...]] = []
    events = PipelineEvents(
        on_clip_found=lambda name, root: told.append((name, root)),
        on_clip_skipped=lambda reason, path: told.append((path, "has no Input/" in reason)),
    )
    scan(tmp_path, events=events)
    assert told == [("a", tmp_path / "a"), (tmp_path / "b", True)]


def test_a_folder_that_cannot_be_read_is_one_skipped_path_and_the_top_one_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "good/Input/a.1.exr")
    touch(tmp_path / "locked/Input/a.1.exr")
    listed = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = scan(tmp_path)
    assert names(found) == ["good"]
    assert reasons(found) == {"locked": "cannot be read (Permission denied)"}
    with pytest.raises(PermissionError, match="cannot be read"):
        scan(tmp_path / "locked")


def test_only_documented_names_are_read_and_others_are_said_or_left(tmp_path: Path) -> None:
    touch(tmp_path / "a/Input/a.1.exr")
    touch(tmp_path / "a/VideoMamaMaskHint/h.1.png")
    touch(tmp_path / "a/alphahint.PNG")
    touch(tmp_path / "a/inner/Input/b.1.exr")
    (tmp_path / "empty").mkdir()
    (clip,) = scan(tmp_path).clips
    assert clip.notes == (
        "VideoMamaMaskHint/ is not read",
        "alphahint.PNG is not read: put it into AlphaHint/",
    )
    assert clip.alpha_path is None
    assert scan(tmp_path / "empty") == ScanResult()
