"""Whole shots with every kind of input and output: folders, videos, holes, presets, backgrounds.

The client mattes in this process; what is asserted is what stands on disk.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fakes.inprocess_client import InProcessClient
from fakes.interlaced import write_interlaced
from fakes.jobs import matte_job
from fakes.systems import linux_alone
from mattebridge import color
from mattebridge.errors import InputsError, NonFiniteError, SequenceError, UsageError
from mattebridge.image_io import read_frame, read_header, write_frame
from mattebridge.image_io.video_read import VideoReader, probe
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video
from mattebridge.shot.job import MatteJob
from mattebridge.shot.preflight import preflight
from mattebridge.shot.progress import Progress
from mattebridge.shot.run import run_job
from mattebridge.shot.summary import Summary

WIDTH, HEIGHT = 64, 48
NTSC = Fraction(30000, 1001)


def clean_pixels() -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    grey = 60 + columns + rows // 2
    return np.stack([grey, grey + 10, grey - 20], axis=2).astype(np.uint8)


def plate_pixels(index: int) -> np.ndarray:
    """The clean plate with a white block that moves by 4 a frame."""
    pixels = clean_pixels()
    left = 4 * (index % 12)
    pixels[12:36, left : left + 16] = 250
    return pixels


def left_of(alpha: np.ndarray) -> int:
    """Where the block begins in a matte of any kind."""
    row = color.to_float(alpha)[24, :, -1]
    return int(np.flatnonzero(row > 0.5)[0])


def write_video(path: Path, count: int = 8, name: str = "qtrle", ticks=None, **options) -> Path:
    times = VideoTimes(NTSC, Fraction(1, 600) if ticks else None)
    writer = open_video(
        path, VIDEO_FORMATS[name], width=WIDTH, height=HEIGHT, times=times, **options
    )
    for index in range(count):
        writer.add(plate_pixels(index), ticks[index] if ticks else None)
    writer.close()
    return path


def read_video(path: Path) -> list[np.ndarray]:
    reader = VideoReader(path)
    pictures = [reader.frame(index).pixels for index in range(reader.info.frames)]
    reader.close()
    return pictures


@pytest.fixture
def folder(tmp_path):
    """A clean plate, and eight plates 0001-0008 as PNG; block at 0, 4, 8 ..."""
    for index in range(8):
        write_frame(tmp_path / f"in/plate.{index + 1:04d}.png", plate_pixels(index))
    write_frame(tmp_path / "clean.png", clean_pixels())
    return tmp_path


def job(folder: Path, **options) -> MatteJob:
    given = {
        "plate": str(folder / "in/plate.####.png"),
        "clean_plate": str(folder / "clean.png"),
        "output": folder / "out",
        **options,
    }
    return matte_job(**given)


def run(folder: Path, client: InProcessClient | None = None, **options) -> Summary:
    client = client or InProcessClient()
    progress = options.pop("progress", None)
    return run_job(job(folder, **options), lambda: client, progress=progress)


def tree(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.suffix != ".jsonl")


# ------------------------------------------------------------------------------------------ folders


def test_folders_of_folders_keep_their_structure(tmp_path):
    for index, name in enumerate(("ada", "sub/ada", "sub/deep/eve")):
        write_frame(tmp_path / f"src/{name}.png", plate_pixels(index))
        write_frame(tmp_path / f"bgr/{name}.jpg", clean_pixels())
    options = {"plate": str(tmp_path / "src"), "clean_plate": str(tmp_path / "bgr")}
    # The results inside the plates' own folder: they are no plates of a second run.
    options |= {"recursive": True, "output": tmp_path / "src/out", "outputs": ("alpha",)}
    assert run(tmp_path, **options).exit_status == 0
    assert tree(tmp_path / "src/out") == [
        "alpha/ada.exr", "alpha/sub/ada.exr", "alpha/sub/deep/eve.exr"
    ]  # fmt: skip
    assert left_of(read_frame(tmp_path / "src/out/alpha/sub/ada.exr").pixels) == 4
    again = run(tmp_path, **options, existing="verify")
    assert (again.exit_status, again.count("found")) == (0, 3)


def test_pictures_of_several_sizes_are_one_job(tmp_path):
    for name, height in (("a", 48), ("b", 30)):
        write_frame(tmp_path / f"src/{name}.png", plate_pixels(1)[:height])
        write_frame(tmp_path / f"bgr/{name}.png", clean_pixels()[:height])
    options = {"plate": str(tmp_path / "src"), "clean_plate": str(tmp_path / "bgr")}
    assert run(tmp_path, **options).exit_status == 0
    sizes = [read_header(tmp_path / f"out/alpha/{name}.exr").height for name in "ab"]
    assert sizes == [48, 30]
    with pytest.raises(InputsError, match="frame 1 is 64x48 but frame 2 64x30"):
        run(tmp_path, **options, formats="ffv1", output=tmp_path / "video")


# -------------------------------------------------------------------------------------------- holes


def test_a_missing_plate_can_be_held_or_black(folder):
    (folder / "in/plate.0003.png").unlink()
    options = {"outputs": ("alpha", "premultiplied"), "formats": "png"}
    with pytest.raises(SequenceError, match="is not complete: no frame 3"):
        run(folder, **options)
    held = run(folder, **options, missing="hold", output=folder / "held")
    assert (held.exit_status, len(held.records)) == (0, 8)
    assert "1 with plate held" in held.text
    assert left_of(read_frame(folder / "held/alpha/plate.0003.png").pixels) == 4
    client = InProcessClient()
    black = run(folder, client, **options, missing="black", output=folder / "black")
    assert (black.exit_status, len(client.requests)) == (0, 7)
    assert "1 with plate black" in black.text
    assert black.records[2].black == ("plate",)
    for output in ("alpha", "premultiplied"):
        assert read_frame(folder / f"black/{output}/plate.0003.png").pixels.max() == 0
    assert left_of(read_frame(folder / "black/alpha/plate.0004.png").pixels) == 12


def test_a_missing_clean_plate_is_never_black(folder):
    for number in (1, 2, 4):
        write_frame(folder / f"c/clean.{number:04d}.png", clean_pixels())
    options = {"clean_plate": str(folder / "c"), "frames": "1-4"}
    with pytest.raises(SequenceError, match=r"clean plate has no frame 3 .*hold"):
        run(folder, **options, missing="black")
    assert run(folder, **options, missing="hold").exit_status == 0


def test_a_missing_hint_can_be_black(folder):
    for number in (1, 3):
        write_frame(folder / f"g/g.{number:04d}.png", np.full((HEIGHT, WIDTH), 9, np.uint8))
    client = InProcessClient()
    run(folder, client, garbage_matte=str(folder / "g"), frames="1-3", missing="black")
    requests = sorted(client.requests, key=lambda request: request["frame"])
    assert [int(request["garbage_matte"].max()) for request in requests] == [9, 0, 9]


def test_an_input_can_be_moved_to_meet_the_plate(folder):
    for number in range(1001, 1009):
        pixels = plate_pixels(2) if number == 1003 else clean_pixels()
        write_frame(folder / f"c/clean.{number}.png", pixels)
    options = {"clean_plate": str(folder / "c"), "outputs": ("alpha",)}
    with pytest.raises(SequenceError, match="clean plate has no frames 1-8"):
        run(folder, **options)
    run(folder, **options, offsets={"clean_plate": -1000})
    maxima = [read_frame(folder / f"out/alpha/plate.{n:04d}.exr").pixels.max() for n in (2, 3, 4)]
    assert maxima == [1, 0, 1]
    for offsets in ({"clean_plate": 5}, {"plate": 5}):
        with pytest.raises(UsageError, match="--offset"):
            run(folder, offsets=offsets)


# --------------------------------------------------------------------------------- videos as inputs


def test_a_video_is_a_shot_from_frame_0(folder):
    write_video(folder / "take.mov", metadata={"timecode": "01:00:00:28"})
    summary = run(folder, plate=str(folder / "take.mov"), outputs=("alpha",))
    assert [record.frame for record in summary.records] == list(range(8))
    assert tree(folder / "out")[:2] == ["alpha/take.000000.exr", "alpha/take.000001.exr"]
    for index in range(8):
        path = folder / f"out/alpha/take.{index:06d}.exr"
        assert left_of(read_frame(path).pixels) == 4 * index
    metadata = read_header(folder / "out/alpha/take.000003.exr").metadata
    assert metadata["FramesPerSecond"] == (30000, 1001)
    assert metadata["smpte:TimeCode"][0] == 0x01000101
    again = run(folder, plate=str(folder / "take.mov"), outputs=("alpha",), existing="verify")
    assert again.count("found") == 8
    write_video(folder / "take.mov", 8, "png-mov")
    client = InProcessClient()
    run(folder, client, plate=str(folder / "take.mov"), outputs=("alpha",), existing="verify")
    assert len(client.requests) == 8


@pytest.mark.parametrize(("tag", "name"), [(9, "BT.2020"), (11, "DCI-P3")])
def test_a_video_of_wide_primaries_is_refused_or_taken_and_tagged_as_it_is(folder, tag, name):
    plate = write_video(folder / "take.mov", 3, primaries=tag)
    options = {"plate": str(plate), "outputs": ("foreground",), "formats": "prores4444"}
    advice = "give --input-space.* srgb takes it as it is"
    with pytest.raises(InputsError, match=rf"take\.mov has other primaries \({name}\).*{advice}"):
        run(folder, **options)
    assert run(folder, **options, colorspace="srgb").exit_status == 0
    with av.open(str(folder / "out/foreground/take.mov")) as source:
        assert int(next(source.decode(video=0)).color_primaries) == tag


def test_a_video_in_display_p3_becomes_one_in_rec709(folder):
    plate = write_video(folder / "take.mov", 3, primaries=12)
    client = InProcessClient()
    made = run(folder, client, plate=str(plate), outputs=("foreground",), formats="prores4444")
    assert made.exit_status == 0
    assert client.requests[0]["colorspace"] == "srgb_p3d65_scene"
    assert client.requests[0]["output_colorspace"] == "srgb"
    with av.open(str(folder / "out/foreground/take.mov")) as source:
        assert int(next(source.decode(video=0)).color_primaries) == 1


def test_what_a_user_should_know_of_a_video_is_noted_before_the_first_frame(folder):
    path = folder / "take.mkv"
    with av.open(str(path), "w") as target:
        streams = [target.add_stream("ffv1", rate=24) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        for stream in streams:
            for index in range(2):
                frame = av.VideoFrame.from_ndarray(plate_pixels(index), format="rgb24")
                frame.pts = index
                target.mux(stream.encode(frame.reformat(format="bgr0")))
            target.mux(stream.encode(None))
    plan = preflight(job(folder, plate=str(path)))
    assert plan.notes == [
        f"{path}: it holds 2 videos; number 1 of them is taken (ffv1 64x48)",
    ]


def test_frames_of_a_video_are_chosen_by_number(folder):
    write_video(folder / "take.mov")
    options = {"plate": str(folder / "take.mov"), "outputs": ("alpha",)}
    run(folder, **options, frames="5-6")
    run(folder, **options, frames="1001", offsets={"plate": 1000})
    assert tree(folder / "out") == [
        "alpha/take.000005.exr", "alpha/take.000006.exr", "alpha/take.001001.exr"
    ]  # fmt: skip
    assert left_of(read_frame(folder / "out/alpha/take.000005.exr").pixels) == 20
    assert left_of(read_frame(folder / "out/alpha/take.001001.exr").pixels) == 4
    with pytest.raises(SequenceError, match="plate has no frames 8-9"):
        run(folder, **options, frames="5-9")


def test_a_clean_plate_and_a_hint_can_be_videos(folder):
    write_video(folder / "take.mov")
    writer = open_video(
        folder / "clean.mov", VIDEO_FORMATS["qtrle"], width=WIDTH, height=HEIGHT,
        times=VideoTimes(NTSC),
    )  # fmt: skip
    for index in range(6):
        writer.add(plate_pixels(index) if index == 4 else clean_pixels())
    writer.close()
    options = {"plate": str(folder / "take.mov"), "clean_plate": str(folder / "clean.mov")}
    with pytest.raises(SequenceError, match="clean plate has no frames 6-7"):
        run(folder, **options)
    client = InProcessClient()
    summary = run(
        folder, client, **options, missing="hold", alpha_hint=str(folder / "clean.mov"),
        hint_channel="R",
    )  # fmt: skip
    assert "2 with clean plate held" in summary.text
    maxima = [read_frame(path).pixels.max() for path in sorted((folder / "out/alpha").iterdir())]
    assert maxima == [1, 1, 1, 1, 0, 1, 1, 1]
    assert client.requests[0]["alpha_hint"].shape == (HEIGHT, WIDTH, 1)


def test_a_video_with_a_damaged_picture_costs_that_frame(folder):
    path = write_video(folder / "take.mov", 6, "png-mov")
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"\x89PNG"]
    data[starts[3] + 60 : starts[3] + 90] = bytes(30)
    path.write_bytes(data)
    summary = run(folder, plate=str(path), outputs=("alpha",))
    assert summary.exit_status == 3
    assert [r.frame for r in summary.records if r.status == "failed"] == [3]
    assert "take.mov: picture 3 is damaged" in summary.first_failure


# -------------------------------------------------------------------------------- videos as outputs


@pytest.mark.parametrize("in_flight", [1, 4])
def test_videos_hold_the_frames_in_order_whichever_ends_first(folder, in_flight):
    shuffled = InProcessClient(delay_s=lambda frame: 0.05 if frame % 2 else 0.0)
    summary = run(
        folder, shuffled, outputs=("alpha", "premultiplied", "comp"), in_flight=in_flight,
        formats="prores4444,alpha=ffv1,comp=h264", frame_rate=NTSC,
    )  # fmt: skip
    assert summary.exit_status == 0
    assert tree(folder / "out") == [
        "alpha/plate.mkv", "comp/plate.mp4", "premultiplied/plate.mov"
    ]  # fmt: skip
    assert [left_of(p) for p in read_video(folder / "out/alpha/plate.mkv")] == list(range(0, 32, 4))
    rgba = read_video(folder / "out/premultiplied/plate.mov")
    assert [left_of(pixels) for pixels in rgba] == list(range(0, 32, 4))
    for path in ("alpha/plate.mkv", "comp/plate.mp4", "premultiplied/plate.mov"):
        info = probe(folder / "out" / path)
        assert (info.frames, info.rate) == (8, NTSC)
    with av.open(str(folder / "out/premultiplied/plate.mov")) as source:
        told = json.loads(source.metadata["comment"])
    assert told["mattebridge:modelDigest"] == "sha256:of-the-fake"
    # Colours are the plate's where it is solid, after the codec.
    plate = plate_pixels(0).astype(float)
    solid = rgba[0][..., 3] > 65000
    assert np.abs(rgba[0][solid][:, :3] / 257.0 - plate[solid]).mean() < 2.0


def test_rate_times_timecode_and_sound_of_a_video_go_into_the_new_ones(folder):
    take = folder / "take.mov"
    with av.open(str(take), "w") as target:
        target.metadata["timecode"] = "01:00:00:00"
        stream = target.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = target.add_stream("aac", rate=48000, layout="mono")
        for index in range(24):
            frame = av.VideoFrame.from_ndarray(plate_pixels(index), format="rgb24")
            frame.pts = index
            target.mux(stream.encode(frame))
            tone = np.sin(np.arange(2000, dtype=np.float32) * 0.05)[None] * 0.2
            heard = av.AudioFrame.from_ndarray(tone.astype(np.float32), "fltp", "mono")
            heard.rate, heard.pts = 48000, index * 2000
            target.mux(sound.encode(heard))
        target.mux(stream.encode(None))
        target.mux(sound.encode(None))
    options = {"plate": str(take), "outputs": ("alpha", "comp"), "formats": "h264"}
    assert run(folder, **options, frames="6-17").exit_status == 0
    comp = probe(folder / "out/comp/take.mp4")
    assert (comp.frames, comp.rate, comp.has_audio) == (12, Fraction(24), True)
    assert comp.metadata["timecode"] == "01:00:00:06"
    assert not probe(folder / "out/alpha/take.mp4").has_audio
    run(folder, **options, audio=False, output=folder / "mute")
    assert not probe(folder / "mute/comp/take.mp4").has_audio
    with pytest.raises(UsageError, match=r"webm cannot hold the aac sound of .* --no-audio"):
        preflight(job(folder, **{**options, "formats": "vp9"}))


def test_the_times_of_a_variable_rate_are_kept(folder):
    ticks = [0, 20, 25, 60, 100, 110, 200, 240]
    write_video(folder / "take.mov", ticks=ticks)
    run(folder, plate=str(folder / "take.mov"), outputs=("alpha",), formats="ffv1")
    info = probe(folder / "out/alpha/take.mkv")
    shown = [float((time - info.times[0]) * info.clock) for time in info.times]
    assert shown == pytest.approx([tick / 600 for tick in ticks], abs=0.001)


def test_pictures_and_videos_can_be_made_at_once_and_are_resumed(folder):
    options = {"outputs": ("alpha", "comp"), "formats": "exr,comp=ffv1"}
    assert run(folder, **options).exit_status == 0
    whole = (folder / "out/comp/plate.mkv").read_bytes()
    again = InProcessClient()
    assert run(folder, again, **options, existing="verify").count("found") == 8
    assert again.requests == []
    # One picture is gone: the video is whole and stays.
    (folder / "out/alpha/plate.0004.exr").unlink()
    client = InProcessClient()
    assert run(folder, client, **options, existing="verify").exit_status == 0
    assert [request["frame"] for request in client.requests] == [4]
    assert (folder / "out/comp/plate.mkv").read_bytes() == whole
    # The video is cut short: all frames are needed for it.
    (folder / "out/comp/plate.mkv").write_bytes(whole[:-10])
    client = InProcessClient()
    assert run(folder, client, **options, existing="verify").exit_status == 0
    assert len(client.requests) == 8
    assert (folder / "out/comp/plate.mkv").read_bytes() == whole
    for other in ({"foreground": "unmix"}, {"frame_rate": NTSC}):
        with pytest.raises(UsageError, match="made with other settings"):
            run(folder, **options, **other, existing="verify")


def test_a_frame_that_fails_leaves_no_video_and_the_pictures_go_on(folder):
    notes = []

    class Listener(Progress):
        def note(self, text):
            notes.append(text)

    client = InProcessClient(fail={4: NonFiniteError("3 values are not finite")})
    options = {"outputs": ("alpha", "comp"), "formats": "exr,comp=h264"}
    summary = run(folder, client, **options, progress=Listener())
    assert summary.exit_status == 3
    assert summary.count("done") == 7
    assert notes == ["no video is made, since frame 4 failed"]
    assert len(tree(folder / "out")) == 7
    assert run(folder, **options, existing="verify").exit_status == 0
    assert probe(folder / "out/comp/plate.mp4").frames == 8


def test_a_frame_that_fails_ends_a_job_of_videos_alone(folder):
    client = InProcessClient(fail={4: NonFiniteError("3 values are not finite")}, delay_s=0.02)
    summary = run(folder, client, outputs=("alpha",), formats="ffv1", in_flight=1)
    assert summary.exit_status == 3
    assert "no video was made, since frame 4 failed: 3 values" in summary.first_failure
    assert tree(folder / "out") == []


def noise_with_a_block(folder: Path, count: int = 8) -> None:
    """Plates whose colours do not compress and whose mattes do."""
    noise = np.random.default_rng(1).integers(0, 120, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    write_frame(folder / "clean.png", noise)
    for index in range(count):
        plate = noise.copy()
        plate[12:36, 4 * (index % 12) : 4 * (index % 12) + 16] = 250
        write_frame(folder / f"in/plate.{index + 1:04d}.png", plate)


def in_a_child_whose_files_end_at(size_bytes: int, act: Callable[[], None]) -> None:
    """What a full disk does to one big file, without a disk: the limit on the size of files."""
    child = os.fork()
    if child == 0:
        status = 9
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@linux_alone("it limits the size of files in a forked child")
@pytest.mark.parametrize(
    ("form", "kept"),
    [("png-mov", 0.5), ("ffv1", 0.999)],
    ids=["while frames are added", "at the end"],
)
def test_a_video_that_fills_the_disk_leaves_the_small_ones_whole(folder, form, kept):
    noise_with_a_block(folder)
    options = {"outputs": ("comp", "alpha"), "formats": form}
    options["background"] = str(folder / "clean.png")
    assert run(folder, **options, output=folder / "whole").exit_status == 0
    suffix = VIDEO_FORMATS[form].suffix
    big = (folder / f"whole/comp/plate{suffix}").stat().st_size
    assert big * 0.3 > (folder / f"whole/alpha/plate{suffix}").stat().st_size
    notes: list[str] = []

    class Listener(Progress):
        def note(self, text):
            notes.append(text)

    def act() -> None:
        summary = run(folder, **options, progress=Listener())
        assert summary.exit_status == 3
        assert f"comp/plate{suffix}" in summary.first_failure
        (said,) = notes
        assert "the comp video is given up, the others go on" in said

    in_a_child_whose_files_end_at(int(big * kept), act)
    assert tree(folder / "out") == [f"alpha/plate{suffix}"]
    left = [left_of(pixels) for pixels in read_video(folder / f"out/alpha/plate{suffix}")]
    assert left == [4 * index for index in range(8)]


@linux_alone("it limits the size of files in a forked child")
def test_a_video_that_fills_the_disk_leaves_the_pictures_whole_and_is_resumed(folder):
    noise_with_a_block(folder)
    options = {"outputs": ("comp", "alpha"), "formats": "png,comp=ffv1"}
    options["background"] = str(folder / "clean.png")

    def act() -> None:
        assert run(folder, **options).exit_status == 3

    in_a_child_whose_files_end_at(30_000, act)
    pictures = [f"alpha/plate.{index + 1:04d}.png" for index in range(8)]
    assert tree(folder / "out") == pictures
    assert run(folder, **options, existing="verify").exit_status == 0
    assert tree(folder / "out") == [*pictures, "comp/plate.mkv"]


@linux_alone("it limits the size of files in a forked child")
def test_a_job_of_nothing_but_a_video_that_fills_the_disk_ends_at_once(folder):
    noise_with_a_block(folder, 40)
    done = folder / "frames"

    def act() -> None:
        over = str(folder / "clean.png")
        summary = run(folder, outputs=("comp",), formats="png-mov", background=over, in_flight=1)
        done.write_text(str(summary.count("done")))
        assert summary.exit_status == 3

    in_a_child_whose_files_end_at(20_000, act)
    assert int(done.read_text()) < 40
    assert tree(folder / "out") == []


def test_a_codec_or_size_that_cannot_be_is_refused_before_anything_starts(folder):
    write_frame(folder / "odd/p.0001.png", plate_pixels(0)[:47])
    write_frame(folder / "odd.png", clean_pixels()[:47])

    def never():
        raise AssertionError("no daemon is needed for this")

    for options, says in (
        ({"plate": str(folder / "odd/p.0001.png"), "clean_plate": str(folder / "odd.png"),
          "formats": "h264", "outputs": ("comp",)}, "h264 takes even sizes only"),
        ({"formats": "h264", "outputs": ("premultiplied",)}, "h264 holds no alpha"),
        ({"formats": "mpeg9", "outputs": ("comp",)}, "no format 'mpeg9'"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=says):
            run_job(job(folder, **options), never)
    assert not (folder / "out").exists()


# ---------------------------------------------------------------------------------- behind the comp


def expected_comp(plate: np.ndarray, behind: np.ndarray) -> np.ndarray:
    light = np.where(plate[..., :1] == 250, color.srgb_decode(plate), color.srgb_decode(behind))
    return color.srgb_encode(light)


def test_a_comp_stands_over_a_picture_that_is_cut_to_fit(folder):
    behind = np.zeros((HEIGHT * 2, WIDTH * 4, 3), np.uint8)
    behind[:, WIDTH : WIDTH * 3] = (10, 120, 200)
    write_frame(folder / "behind.png", behind)
    run(folder, outputs=("comp",), formats="png", background=str(folder / "behind.png"), frames="3")
    comp = read_frame(folder / "out/comp/plate.0003.png").pixels
    flat = np.broadcast_to(np.uint8([10, 120, 200]), comp.shape)
    expected = expected_comp(plate_pixels(2), flat) * 255
    assert np.abs(comp - expected).mean() < 1.0


def test_a_background_video_runs_along_and_begins_again(folder):
    writer = open_video(
        folder / "behind.mov", VIDEO_FORMATS["qtrle"], width=WIDTH, height=HEIGHT,
        times=VideoTimes(NTSC),
    )  # fmt: skip
    for level in (0, 100, 200):
        writer.add(np.full((HEIGHT, WIDTH, 3), level, np.uint8))
    writer.close()
    options = {"outputs": ("comp",), "formats": "png", "background": str(folder / "behind.mov")}
    run(folder, **options, frames="1-4")
    run(folder, **options, frames="5-8")
    corners = [
        int(read_frame(path).pixels[0, -1, 0]) for path in sorted((folder / "out/comp").iterdir())
    ]
    assert corners == [0, 100, 200, 0, 100, 200, 0, 100]
    os.utime(folder / "behind.mov")
    client = InProcessClient()
    run(folder, client, **options, existing="verify")
    assert len(client.requests) == 8


def test_a_background_that_is_not_there_is_refused(folder):
    with pytest.raises(SequenceError, match=r"background .*none\.mov does not exist"):
        run(folder, outputs=("comp",), background="none.mov")


# ------------------------------------------------------------------------------------------ presets


def test_the_preset_names_and_stores_as_the_published_image_script(tmp_path):
    for index, name in enumerate(("a.0001", "sub/b", "c")):
        write_frame(tmp_path / f"src/{name}.jpg", plate_pixels(index))
        write_frame(tmp_path / f"bgr/{name}.png", clean_pixels())
    summary = run(
        tmp_path, plate=str(tmp_path / "src"), clean_plate=str(tmp_path / "bgr"),
        preset="background-matting",
        outputs=("premultiplied", "alpha", "foreground", "error"),
    )  # fmt: skip
    assert summary.exit_status == 0
    assert tree(tmp_path / "out") == [
        "com/a.0001.png", "com/c.png", "com/sub/b.png",
        "err/a.0001.jpg", "err/c.jpg", "err/sub/b.jpg",
        "fgr/a.0001.jpg", "fgr/c.jpg", "fgr/sub/b.jpg",
        "pha/a.0001.jpg", "pha/c.jpg", "pha/sub/b.jpg",
    ]  # fmt: skip
    com = read_frame(tmp_path / "out/com/sub/b.png")
    alpha = com.pixels[..., 3]
    assert (com.alpha, com.pixels.dtype) == ("straight", np.uint8)
    # Straight: colour is the foreground's wherever there is coverage, and 0 elsewhere.
    assert (com.pixels[alpha == 0] == 0).all()
    plate = read_frame(tmp_path / "src/sub/b.jpg").pixels
    some = alpha > 0
    assert np.abs(com.pixels[some][:, :3].astype(int) - plate[some]).max() <= 1
    assert read_frame(tmp_path / "out/pha/c.jpg").pixels.shape == (HEIGHT, WIDTH, 1)


def test_the_preset_numbers_image_sequences_from_zero(folder):
    write_video(folder / "take.mov")
    options = {"preset": "background-matting", "numbering": "image_sequences"}
    options |= {"plate": str(folder / "take.mov")}
    assert run(folder, **options, frames="0-2").exit_status == 0
    # A later chunk goes on counting where it stands in the shot.
    assert run(folder, **options, frames="6-7").exit_status == 0
    for name, suffix in (("com", "png"), ("pha", "jpg"), ("fgr", "jpg")):
        assert sorted(os.listdir(folder / "out" / name)) == [
            f"0000{index}.{suffix}" for index in (0, 1, 2, 6, 7)
        ]
    run(folder, numbering="image_sequences", formats="png", output=folder / "five")
    assert sorted(os.listdir(folder / "five/alpha"))[0] == "00000.png"


def test_an_interlaced_video_is_named_and_made_whole_on_request(folder):
    path = write_interlaced(folder / "take.mkv", [plate_pixels(index) for index in range(8)])
    options = {"plate": str(path), "outputs": ("alpha",), "frames": "1"}
    edges = {}
    for deinterlace in (False, True):
        output = folder / f"out{deinterlace}"
        asked = job(folder, **options, deinterlace=deinterlace, output=output)
        notes = preflight(asked).notes
        assert [("it is interlaced" in note) for note in notes] == [True] * (not deinterlace)
        assert run_job(asked, InProcessClient).exit_status == 0
        alpha = read_frame(output / "alpha/take.000001.exr").pixels[..., 0] > 0.5
        edges[deinterlace] = [int(np.flatnonzero(alpha[row])[0]) for row in range(14, 34)]
    # The block is at 8 in the first field, which has the even lines, and at 12 in the second.
    assert edges[False] == [8, 12] * 10
    assert edges[True][::2] == [8] * 10
    assert max(edges[True]) < 12


def test_what_deinterlacing_cannot_change_is_said(folder):
    with pytest.raises(UsageError, match="--deinterlace is for videos, and the inputs are pict"):
        preflight(job(folder, deinterlace=True))
    plate = str(write_video(folder / "take.mov"))
    (note,) = preflight(job(folder, plate=plate, deinterlace=True)).notes
    assert "not marked as interlaced" in note


def test_the_preset_makes_mp4_videos_of_a_video(folder, monkeypatch):
    write_video(folder / "take.mov")
    options = {"plate": str(folder / "take.mov"), "preset": "background-matting"}
    assert run(folder, **options).exit_status == 0
    assert tree(folder / "out") == ["com.mp4", "fgr.mp4", "pha.mp4"]
    com = read_video(folder / "out/com.mp4")
    assert len(com) == 8
    assert probe(folder / "out/com.mp4").codec == "mpeg4"
    assert probe(folder / "out/com.mp4").rate == NTSC
    # Over the scripts' green, mixed in encoded values.
    assert np.abs(com[0][40:, 40:].reshape(-1, 3).mean(axis=0) - (120, 255, 155)).max() < 6
    capture = cv2.VideoCapture(str(folder / "out/pha.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 8
    capture.release()


def test_what_the_preset_says_can_be_said_otherwise(folder):
    write_video(folder / "take.mov")
    run(
        folder, plate=str(folder / "take.mov"), preset="background-matting",
        formats="jpg,premultiplied=png16", frames="2",
    )  # fmt: skip
    assert tree(folder / "out") == [
        "com/take.000002.png", "fgr/take.000002.jpg", "pha/take.000002.jpg"
    ]  # fmt: skip
    assert read_frame(folder / "out/com/take.000002.png").pixels.dtype == np.uint16


def test_values_can_be_cut_instead_of_rounded(folder):
    for truncate in (False, True):
        run(
            folder, outputs=("comp",), formats="png", background="0.5,0.5,0.5", frames="1",
            truncate=truncate, output=folder / f"out{truncate}",
        )  # fmt: skip
    rounded, cut = (
        int(read_frame(folder / f"out{name}/comp/plate.0001.png").pixels[0, -1, 0])
        for name in (False, True)
    )
    exact = float(color.srgb_encode(np.float32([0.5]))[0]) * 255
    assert (rounded, cut) == (round(exact), int(exact))
    assert rounded != cut


def test_only_what_is_stored_is_asked_for_and_in_its_own_space(folder):
    for formats, outputs, asked, space in (
        ("png", ("premultiplied",), {"alpha", "foreground"}, "srgb"),
        ("exr", ("premultiplied",), {"premultiplied"}, "linear"),
        ("png,foreground=exr", ("premultiplied", "foreground"), {"alpha", "foreground"}, "linear"),
        ("prores4444", ("premultiplied", "alpha"), {"alpha", "foreground"}, "srgb"),
    ):
        client = InProcessClient()
        run(folder, client, formats=formats, outputs=outputs, frames="1", existing="overwrite")
        assert set(client.requests[0]["outputs"]) == asked
        assert client.requests[0]["output_colorspace"] == space


def test_settings_and_model_are_written_into_the_files(folder):
    run(folder, outputs=("alpha", "comp"), formats="exr,comp=png", frames="1", foreground="unmix")
    for path in ("out/alpha/plate.0001.exr", "out/comp/plate.0001.png"):
        told = read_header(folder / path).metadata
        settings = json.loads(told["mattebridge:settings"])
        assert told["mattebridge:modelDigest"] == "sha256:of-the-fake"
        assert (settings["foreground"], settings["clean_plate"]) == ("unmix", "clean")


def test_a_plan_says_what_will_be_written_without_writing(folder):
    plan = preflight(job(folder, outputs=("alpha", "comp"), formats="exr,comp=h264"))
    assert [video.path for video in plan.videos] == [folder / "out/comp/plate.mp4"]
    assert not (folder / "out").exists()
