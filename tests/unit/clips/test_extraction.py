"""Videos of a clip as folders of pictures: the same pixels, whole or absent, never another's."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mattebridge.clips import (
    Clip,
    ClipState,
    ExtractionError,
    PipelineEvents,
    WriteFailureError,
    extraction,
    load,
    load_video_metadata,
    scan,
    state_of,
)
from mattebridge.clips.events import Teller
from mattebridge.clips.extraction import SOURCE_NAME, extracted
from mattebridge.clips.job import job_of
from mattebridge.errors import Cancelled, FrameWriteError
from mattebridge.image_io import read_frame
from mattebridge.image_io.sources import Pictures
from mattebridge.image_io.video_read import probe
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video
from mattebridge.shot.job import MatteJob
from mattebridge.shot.planes import FramePlanes
from mattebridge.shot.preflight import preflight

av = pytest.importorskip("av")


def video(path: Path, count: int = 3, form: str = "qtrle", seed: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    """Noise by a seed; without one (0), grey."""
    most = 255 if seed else 1
    rng = np.random.default_rng(seed)
    chosen = VIDEO_FORMATS[form]
    writer = open_video(path, chosen, width=32, height=16, times=VideoTimes(Fraction(24)))
    for _ in range(count):
        writer.add(rng.integers(0, most, (16, 32, 3), dtype=np.uint8).astype(chosen.dtype))
    writer.close()
    return path


def clip_of(root: Path) -> Clip:
    (clip,) = scan(root).clips
    return clip


def made(clip: Clip, **options: object) -> Clip:
    with Teller(None) as tell:
        return extracted(clip, tell, **options)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pictures_and_metadata_of_a_video_are_extracted_when_that_is_asked_for(
    tmp_path: Path,
) -> None:
    source = video(tmp_path / "Input/take.mov")
    video(tmp_path / "AlphaHint/h.mov", seed=2)
    told: list[tuple[object, ...]] = []
    events = PipelineEvents(
        on_stage_start=lambda *a: told.append(a),
        on_stage_done=lambda *a: told.append(a),
        on_extract_frame=lambda *a: told.append(a),
    )
    before = source.read_bytes()
    manifest = load(clip_of(tmp_path), events, extract=True)
    once = [("extract", 3), (0, 3), (1, 3), (2, 3), ("extract",)]
    assert told == once * 2
    assert source.read_bytes() == before
    assert names(tmp_path) == ["AlphaFrames", "AlphaHint", "Frames", "Input", "video_meta.json"]
    frames = [f"frame_{i:06d}.png" for i in range(3)]
    assert names(tmp_path / "Frames") == [SOURCE_NAME, *frames]
    assert manifest.frames_dir == tmp_path / "Frames"
    assert manifest.alpha_frames_dir == tmp_path / "AlphaFrames"
    assert manifest.frame_numbers == (0, 1, 2)
    assert manifest.video_meta_path == tmp_path / "video_meta.json"
    meta = load_video_metadata(tmp_path)
    assert meta is not None
    assert (meta.filename, meta.width, meta.fps, meta.frame_count) == ("take.mov", 32, 24.0, 3)
    assert meta.extra["x_pixel_aspect"] == 1.0


@pytest.mark.parametrize(("form", "dtype"), [("qtrle", "uint8"), ("prores4444", "uint16")])
def test_extracted_pictures_are_the_decoded_ones_in_their_own_depth(
    tmp_path: Path, form: str, dtype: str
) -> None:
    video(tmp_path / "Input/take.mov", form=form)
    clip = clip_of(tmp_path)
    direct = preflight(job_of(clip, MatteJob("", Path()), layout="stages"))
    pictures = preflight(job_of(made(clip), MatteJob("", Path()), layout="stages"))
    assert [task.outputs for task in direct.tasks] == [task.outputs for task in pictures.tasks]
    planes = FramePlanes(direct.job, direct.spaces), FramePlanes(pictures.job, pictures.spaces)
    for one, other in zip(direct.tasks, pictures.tasks):
        ours, theirs = planes[0].plate(one), planes[1].plate(other)
        assert ours.dtype == theirs.dtype == dtype
        assert np.array_equal(ours, theirs)


def test_a_second_run_takes_what_is_there_and_a_replaced_video_is_extracted_anew(
    tmp_path: Path,
) -> None:
    source = video(tmp_path / "Input/take.mov", count=3)
    made(clip_of(tmp_path))
    first = tmp_path / "Frames/frame_000000.png"
    stamp = first.stat().st_ino
    made(clip_of(tmp_path))
    assert first.stat().st_ino == stamp
    # Pictures that are made whole of their fields are others.
    made(clip_of(tmp_path), deinterlace=True)
    source_of_them = json.loads((tmp_path / "Frames" / SOURCE_NAME).read_text())
    assert source_of_them["deinterlace"] is True
    # Of equal length and of fewer pictures: none of the old ones stay.
    for seed, count in ((5, 3), (6, 2)):
        video(source, count=count, seed=seed)
        os.utime(source, (seed, seed))
        made(clip_of(tmp_path))
        assert len(names(tmp_path / "Frames")) == count + 1
        wanted = Pictures().frame(clip_pictures(tmp_path)[0]).pixels
        assert np.array_equal(read_frame(first).pixels, wanted)


def clip_pictures(root: Path) -> list[object]:
    plan = preflight(job_of(clip_of(root), MatteJob("", Path()), layout="stages"))
    return [task.inputs.plate for task in plan.tasks]


def test_the_metadata_of_a_video_are_all_that_is_documented(tmp_path: Path) -> None:
    path = tmp_path / "Input/take.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=Fraction(24000, 1001))
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        tags = stream.codec_context
        tags.colorspace, tags.color_trc, tags.color_primaries, tags.color_range = 1, 13, 12, 1
        sound = target.add_stream("aac", rate=48000, layout="mono")
        for index in range(4):
            grey = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 90, np.uint8), format="rgb24")
            grey.pts = index
            target.mux(stream.encode(grey))
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 6000), np.float32), "fltp", "mono")
        tone.rate, tone.pts = 48000, 0
        target.mux(sound.encode(tone))
        target.mux(stream.encode(None))
        target.mux(sound.encode(None))
    made(clip_of(tmp_path))
    found = json.loads((tmp_path / "video_meta.json").read_text())
    assert found.pop("duration_s") == pytest.approx(4 * 1001 / 24000, rel=1e-3)
    assert {name: value for name, value in found.items() if not name.startswith("x_")} == {
        "filename": "take.mp4",
        "width": 32,
        "height": 16,
        "fps_num": 24000,
        "fps_den": 1001,
        "pix_fmt": "yuv420p",
        "codec_name": "h264",
        "frame_count": 4,
        "has_audio": True,
        "color_space": "bt709",
        "color_transfer": "iec61966-2-1",
        "color_primaries": "smpte432",
    }


@pytest.mark.parametrize("what", ["another", "changed", "added"])
def test_a_folder_that_was_not_made_here_or_was_changed_is_left_alone(
    tmp_path: Path, what: str
) -> None:
    source = video(tmp_path / "Input/take.mov")
    frames = tmp_path / "Frames"
    if what == "another":
        frames.mkdir()
        (frames / "frame_000000.png").write_bytes(b"of another program")
    else:
        made(clip_of(tmp_path))
        name = "frame_000001.png" if what == "changed" else "mine.png"
        (frames / name).write_bytes(b"retouched")
    before = {path.name: path.read_bytes() for path in frames.iterdir()}
    os.utime(source, (9, 9))
    with pytest.raises(ExtractionError, match="move it elsewhere"):
        made(clip_of(tmp_path))
    assert {path.name: path.read_bytes() for path in frames.iterdir()} == before
    assert not (tmp_path / ".Frames.tmp").exists()


def test_of_an_extraction_that_does_not_end_well_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video(tmp_path / "Input/take.mov")
    clip = clip_of(tmp_path)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        made(clip, cancelled=stop)
    assert names(tmp_path) == ["Input"]

    def full(path: Path, *_: object) -> int:
        if path.name == "frame_000001.png":
            raise FrameWriteError("the disk is full")
        return path.write_bytes(b"x")

    monkeypatch.setattr(extraction, "write_frame", full)
    with pytest.raises(OSError, match="disk is full") as caught:
        made(clip)
    assert isinstance(caught.value, WriteFailureError)
    assert names(tmp_path) == ["Input"]


def test_a_damaged_picture_is_named_with_its_codec_and_nothing_is_left(tmp_path: Path) -> None:
    path = video(tmp_path / "Input/take.mov", count=4, form="png-mov")
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"\x89PNG"]
    data[starts[2] + 60 : starts[2] + 90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(ExtractionError, match=r"picture 2 is damaged.* \(codec png\)") as caught:
        made(clip_of(tmp_path))
    assert caught.value.exit_status == 3
    assert names(tmp_path) == ["Input"]


def test_a_video_of_an_unknown_colour_space_is_not_extracted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = video(tmp_path / "Input/take.mov")
    unknown = replace(probe(path), colorspace="unknown")
    monkeypatch.setattr(extraction, "probe", lambda _: unknown)
    with pytest.raises(ExtractionError, match=r"does not name its colour space.*without extract"):
        made(clip_of(tmp_path))
    assert names(tmp_path) == ["Input"]


def test_the_times_of_a_variable_rate_are_in_the_metadata(tmp_path: Path) -> None:
    form, ticks = VIDEO_FORMATS["qtrle"], (0, 20, 25, 100)
    (tmp_path / "Input").mkdir()
    times = VideoTimes(Fraction(24), clock=Fraction(1, 600))
    writer = open_video(tmp_path / "Input/take.mov", form, width=32, height=16, times=times)
    for tick in ticks:
        writer.add(np.full((16, 32, 3), tick, np.uint8), tick)
    writer.close()
    made(clip_of(tmp_path))
    found = load_video_metadata(tmp_path)
    assert found is not None
    assert found.extra["x_times_s"] == pytest.approx([tick / 600 for tick in ticks], abs=0.001)


def test_a_read_only_clip_is_refused_unless_its_pictures_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video(tmp_path / "Input/take.mov")
    opened = os.open

    def read_only(path: object, flags: int, *more: int, **how: int) -> int:
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *more, **how)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with pytest.raises(OSError, match="the file system is read-only") as caught:
            load(clip_of(tmp_path), extract=True)
    assert isinstance(caught.value, WriteFailureError)
    assert caught.value.exit_status == 2
    assert names(tmp_path) == ["Input"]
    whole = load(clip_of(tmp_path), extract=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        assert load(clip_of(tmp_path), extract=True) == whole


def test_what_a_killed_run_left_is_no_hindrance(tmp_path: Path) -> None:
    video(tmp_path / "Input/take.mov")
    (tmp_path / ".Frames.tmp").mkdir()
    (tmp_path / ".Frames.tmp/frame_000000.png").write_bytes(b"half")
    (tmp_path / ".Frames.lock").write_bytes(b"")
    clip = clip_of(tmp_path)
    assert state_of(clip).state is ClipState.RAW
    made(clip)
    assert names(tmp_path) == ["Frames", "Input", "video_meta.json"]


def test_a_clip_says_that_it_is_being_extracted_and_two_do_not_meet(tmp_path: Path) -> None:
    video(tmp_path / "Input/take.mov")
    clip = clip_of(tmp_path)
    seen: list[object] = []

    def while_at_work(i: int, total: int) -> None:
        # What is told of is on disk, whole.
        read_frame(tmp_path / f".Frames.tmp/frame_{i:06d}.png")
        if i == 0:
            seen.append(state_of(clip).state)
            with pytest.raises(ExtractionError, match="by another process"):
                made(clip)

    class Straight(Teller):
        def __call__(self, name: str, *arguments: object, frame: int | None = None) -> None:
            if name == "on_extract_frame":
                while_at_work(*arguments)  # type: ignore[arg-type]

    extracted(clip, Straight(None))
    assert seen == [ClipState.EXTRACTING]
    assert state_of(clip).state is ClipState.RAW


def test_hints_with_numbers_meet_extracted_pictures_as_they_meet_the_video(tmp_path: Path) -> None:
    video(tmp_path / "Input/take.mov")
    (tmp_path / "AlphaHint").mkdir()
    for number in (101, 102, 103):
        read = np.full((16, 32, 1), number, np.uint8)
        extraction.write_frame(tmp_path / f"AlphaHint/h.{number}.png", read)
    manifest = load(clip_of(tmp_path), extract=True)
    assert [entry.files["alpha_hint"].name for entry in manifest.frames] == [
        "h.101.png",
        "h.102.png",
        "h.103.png",
    ]


def test_the_compression_of_pictures_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    video(tmp_path / "a/Input/take.mov", seed=0)
    video(tmp_path / "b/Input/take.mov", seed=0)
    sizes = []
    for name, level in (("a", 0), ("b", 9)):
        manifest = load(clip_of(tmp_path / name), png_compression=level, extract=True)
        files = json.loads((manifest.frames_dir / SOURCE_NAME).read_text())["files"]
        sizes.append(sum(files.values()))
        assert manifest.png_compression == level
    assert sizes[0] > 3 * 16 * 32 * 3 > 0
    assert sizes[1] < sizes[0]
    video(tmp_path / "c/Input/take.mov")
    (tmp_path / "c/Input/take.mov").write_bytes(b"no video")
    with pytest.raises(ExtractionError, match=r"take\.mov"):
        load(clip_of(tmp_path / "c"), extract=True)


def test_pictures_of_a_linear_video_stay_linear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video(tmp_path / "Input/take.mov")
    clip = made(clip_of(tmp_path))
    path = tmp_path / "Frames" / SOURCE_NAME
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "colorspace": "linear"}))
    job = job_of(clip, MatteJob("", Path()), layout="stages")
    assert {task.colorspaces["plate"] for task in preflight(job).tasks} == {"linear"}
