"""Videos in and out with real codecs: every picture its own, every tag right, whole or absent."""

from __future__ import annotations

import os
import resource
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mattebridge.errors import FrameReadError, FrameWriteError, UsageError
from mattebridge.image_io.video_read import VideoReader, probe
from mattebridge.image_io.video_times import indexed, read_through
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoFormat, VideoTimes, open_video

WIDTH, HEIGHT = 64, 48
NTSC = Fraction(30000, 1001)


def picture(index: int, channels: int = 3, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """8-bit ramps, and a block whose place tells the index."""
    rows, columns = np.mgrid[:height, :width]
    ramp = (40 + columns * 120 // width, 60 + rows * 100 // height, 150 - columns * 60 // width)
    pixels = np.stack(ramp, axis=2).astype(np.uint8)
    left = 4 + index * 4 % (width - 12)
    pixels[8:24, left : left + 8] = (230, 30, 60)
    if channels == 4:
        alpha = (columns * 255 // (width - 1)).astype(np.uint8)
        pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
    return pixels


def index_of(pixels: np.ndarray) -> int:
    """The index that a picture of `picture` tells, after any codec."""
    row = pixels[16, :, 0].astype(float) - pixels[16, :, 1]
    if pixels.dtype == np.uint16:
        row /= 257
    return round((int(np.flatnonzero(row > 120)[0]) - 4) / 4)


def write(path: Path, name: str = "ffv1", count: int = 10, **options) -> Path:
    """`count` numbered pictures as a video."""
    size = {"width": options.pop("width", WIDTH), "height": options.pop("height", HEIGHT)}
    times = options.pop("times", VideoTimes(NTSC))
    ticks = options.pop("ticks", None)
    channels = 4 if options.get("alpha") else 3
    writer = open_video(path, VIDEO_FORMATS[name], **size, times=times, **options)
    for index in range(count):
        writer.add(picture(index, channels, **size), ticks[index] if ticks else None)
    assert writer.close() == path.stat().st_size
    return path


def read_all(path: Path) -> list[np.ndarray]:
    reader = VideoReader(path)
    pictures = [reader.frame(index).pixels for index in range(reader.info.frames)]
    reader.close()
    return pictures


# ------------------------------------------------------------------------------------------ codecs

# By format: the mean error that its compression may make, in codes of 255.
LOSSY = {"h264": 3.0, "h264-444": 2.0, "h265": 3.0, "prores4444": 1.0, "prores422hq": 2.5}
LOSSY |= {"cineform": 1.0, "dnxhr": 3.0, "dnxhr-444": 1.0, "vp9": 4.0, "mp4v": 5.0}


@pytest.mark.parametrize("name", VIDEO_FORMATS)
def test_every_format_gives_back_the_pictures_at_the_rate_and_with_the_tags(tmp_path, name):
    form = VIDEO_FORMATS[name]
    size = {"width": 256, "height": 128} if name.startswith("dnxhr") else {}
    path = write(tmp_path / f"a{form.suffix}", name, 5, **size)
    assert os.listdir(tmp_path) == [path.name]
    info = probe(path)
    assert (info.frames, info.rate, info.is_constant) == (5, NTSC, True)
    assert info.dtype == ("uint8" if form.depth == 8 else "uint16")
    for index, pixels in enumerate(read_all(path)):
        expected = picture(index, **size).astype(float)
        given = pixels.astype(float) / (257 if pixels.dtype == np.uint16 else 1)
        assert np.abs(given - expected).mean() <= LOSSY.get(name, 0.0)
    with av.open(str(path)) as source:
        frame = next(source.decode(video=0))
    tags = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
    if form.plain.startswith("yuv"):
        assert tags == (1, 1, 1, 1)


@pytest.mark.parametrize("name", [name for name, form in VIDEO_FORMATS.items() if form.has_alpha])
def test_alpha_comes_back(tmp_path, name):
    form = VIDEO_FORMATS[name]
    path = write(tmp_path / f"a{form.suffix}", name, 3, alpha=True)
    info = probe(path)
    assert info.has_alpha
    assert (info.header.alpha, info.header.channels) == ("straight", ("R", "G", "B", "A"))
    for index, pixels in enumerate(read_all(path)):
        given = pixels.astype(float) / (257 if pixels.dtype == np.uint16 else 1)
        worst = {"prores4444": 2, "cineform": 2, "vp9": 12}.get(name, 0)
        assert np.abs(given[..., 3] - picture(index, 4)[..., 3]).max() <= worst
        assert np.abs(given[..., :3] - picture(index)).mean() <= LOSSY.get(name, 0.0)


def test_sixteen_bits_survive_a_lossless_codec(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 4)).astype(np.uint16)
    writer = open_video(
        tmp_path / "a.mkv", VIDEO_FORMATS["ffv1-16"], width=WIDTH, height=HEIGHT,
        times=VideoTimes(Fraction(24)), alpha=True,
    )  # fmt: skip
    writer.add(pixels)
    writer.close()
    np.testing.assert_array_equal(read_all(tmp_path / "a.mkv")[0], pixels)


def test_ten_bits_are_read_as_more_than_eight(tmp_path):
    ramp = np.linspace(20000, 40000, WIDTH).astype(np.uint16)
    pixels = np.broadcast_to(ramp[None, :, None], (HEIGHT, WIDTH, 3))
    writer = open_video(
        tmp_path / "a.mov", VIDEO_FORMATS["prores4444"], width=WIDTH, height=HEIGHT,
        times=VideoTimes(Fraction(24)),
    )  # fmt: skip
    writer.add(pixels)
    writer.close()
    (given,) = read_all(tmp_path / "a.mov")
    assert given.dtype == np.uint16
    assert np.abs(given.astype(int) - pixels).max() < 257
    assert len(np.unique(given[0, :, 1])) == WIDTH


def test_a_matte_of_one_channel_becomes_grey(tmp_path):
    matte = np.linspace(0, 255, WIDTH).astype(np.uint8)[None, :, None].repeat(HEIGHT, axis=0)
    writer = open_video(
        tmp_path / "a.mov", VIDEO_FORMATS["qtrle"], width=WIDTH, height=HEIGHT,
        times=VideoTimes(Fraction(24)),
    )  # fmt: skip
    writer.add(matte)
    writer.close()
    np.testing.assert_array_equal(read_all(tmp_path / "a.mov")[0], matte.repeat(3, axis=2))


def test_equal_videos_are_equal_files(tmp_path):
    for name in ("ffv1", "prores4444", "h264"):
        suffix = VIDEO_FORMATS[name].suffix
        first, second = (write(tmp_path / f"{which}{suffix}", name, 3) for which in "ab")
        assert first.read_bytes() == second.read_bytes()


def test_timecode_pixel_aspect_and_texts_travel(tmp_path):
    path = write(
        tmp_path / "a.mov", "prores4444", 3, pixel_aspect=2.0, times=VideoTimes(Fraction(24)),
        metadata={"timecode": "01:00:00:12", "comment": "model difference"},
    )  # fmt: skip
    info = probe(path)
    assert info.pixel_aspect == 2.0
    assert info.metadata["timecode"] == "01:00:00:12"
    assert info.metadata["FramesPerSecond"] == (24, 1)
    with av.open(str(path)) as source:
        assert source.metadata["comment"] == "model difference"


# -------------------------------------------------------------------------------------- frame-exact


@pytest.mark.parametrize("name", ["h264", "h265", "mp4v", "prores4444", "vp9"])
def test_every_position_gives_its_own_picture_in_any_order(tmp_path, name):
    path = write(tmp_path / f"a{VIDEO_FORMATS[name].suffix}", name, 13)
    reader = VideoReader(path)
    order = [0, 1, 2, 12, 5, 6, 4, 11, 3, 0, 9]
    assert [index_of(reader.frame(index).pixels) for index in order] == order
    reader.close()
    assert index_of(reader.frame(7).pixels) == 7
    reader.close()


@pytest.mark.parametrize(("name", "suffix"), [("h264", ".mp4"), ("prores4444", ".mov")])
def test_a_variable_rate_is_read_exactly_and_its_times_are_written_back(tmp_path, name, suffix):
    ticks = [0, 40, 50, 120, 130, 131, 300, 310, 320, 500]
    clock = Fraction(1, 1000)
    times = VideoTimes(Fraction(30), clock)
    path = write(tmp_path / f"a{suffix}", name, times=times, ticks=ticks)
    info = probe(path)
    assert not info.is_constant
    assert [round(float((t - info.times[0]) * info.clock * 1000)) for t in info.times] == ticks
    reader = VideoReader(path)
    for index in (9, 3, 4, 5, 0, 8):
        assert index_of(reader.frame(index).pixels) == index
    reader.close()


@pytest.mark.parametrize("name", ["prores4444", "qtrle", "png-mov", "cineform", "dnxhr", "h264"])
def test_the_times_in_the_index_of_a_mov_are_those_of_its_pictures(tmp_path, name):
    ticks = [0, 40, 50, 120, 130, 131]
    path = write(
        tmp_path / "a.mov", name, 6, times=VideoTimes(Fraction(30), Fraction(1, 1000)), ticks=ticks,
        width=256, height=128,
    )  # fmt: skip
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        found = indexed(source, stream)
        assert found == (None if name == "h264" else read_through(source, stream).times)


def test_a_mov_that_ends_before_the_pictures_of_its_index_is_refused(tmp_path):
    """A mov with its index first, as for the web, whose copying was interrupted."""
    path = write(tmp_path / "a.mov", "prores4444", 20)
    with (
        av.open(str(path)) as source,
        av.open(str(tmp_path / "b.mov"), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None:
                packet.stream = stream
                target.mux(packet)
    assert probe(tmp_path / "b.mov").frames == 20
    whole = (tmp_path / "b.mov").read_bytes()
    (tmp_path / "b.mov").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FrameReadError, match="it is cut short"):
        probe(tmp_path / "b.mov")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_a_video_shorter_than_the_delay_of_its_encoder_has_times_of_decoding(tmp_path, count):
    """x265 leaves them unset; what stands in memory there was refused, or not, by chance."""
    for attempt in range(4):
        path = write(tmp_path / f"{attempt}.mp4", "h265", count)
        with av.open(str(path)) as source:
            packets = [packet for packet in source.demux(video=0) if packet.size]
        decoded = [packet.dts for packet in packets]
        step = packets[0].duration
        assert decoded == list(range(decoded[0], decoded[0] + count * step, step))
        assert all(0 <= packet.pts - packet.dts <= 4 * step for packet in packets)
        assert [index_of(pixels) for pixels in read_all(path)] == list(range(count))


def test_a_rate_in_rounded_milliseconds_is_still_that_rate(tmp_path):
    path = write(tmp_path / "a.mkv", "ffv1", 40)
    info = probe(path)
    assert info.clock == Fraction(1, 1000)
    assert (info.rate, info.is_constant) == (NTSC, True)


def test_a_rotated_video_is_turned_upright_once(tmp_path):
    path = write(tmp_path / "a.mov", "qtrle", 1)
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mov"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.pts is not None:
                packet.stream = stream
                target.mux(packet)
    info = probe(tmp_path / "b.mov")
    assert (info.width, info.height) == (HEIGHT, WIDTH)
    (pixels,) = read_all(tmp_path / "b.mov")
    np.testing.assert_array_equal(pixels, np.rot90(picture(0)))
    capture = cv2.VideoCapture(str(tmp_path / "b.mov"))
    shown = capture.read()[1][..., ::-1]
    capture.release()
    np.testing.assert_array_equal(pixels, shown)


@pytest.mark.parametrize(
    ("matrix", "range_", "height", "expected"),
    [(1, 1, 48, 1), (5, 1, 720, 5), (2, 0, 48, 5), (2, 0, 720, 1), (1, 2, 48, 1)],
)
def test_yuv_is_read_with_the_matrix_and_range_of_the_file(
    tmp_path, matrix, range_, height, expected
):
    """A red picture: the wrong matrix turns it orange, the wrong range makes it dull."""
    red = np.zeros((height, WIDTH, 3), np.uint8)
    red[...] = (220, 20, 30)
    with av.open(str(tmp_path / "a.mkv"), "w") as target:
        stream = target.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, height, "yuv444p"
        frame = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(
            format="yuv444p", dst_colorspace=expected, dst_color_range=range_ or 1
        )
        for tagged in (frame, stream.codec_context):
            tagged.colorspace, tagged.color_range = matrix, range_
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    (pixels,) = read_all(tmp_path / "a.mkv")
    assert np.abs(pixels.astype(int) - red).max() <= 2


def test_a_log_or_hdr_curve_is_not_taken_for_a_display_one(tmp_path):
    for transfer, expected in ((16, "unknown"), (8, "linear"), (13, "srgb"), (2, "srgb")):
        with av.open(str(tmp_path / "a.mov"), "w") as target:
            stream = target.add_stream("prores_ks", rate=24)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p10le"
            frame = av.VideoFrame.from_ndarray(picture(0), format="rgb24")
            frame = frame.reformat(format="yuv444p10le")
            for tagged in (frame, stream.codec_context):
                tagged.color_trc = transfer
            target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
        assert probe(tmp_path / "a.mov").colorspace == expected
        (tmp_path / "a.mov").unlink()


# ------------------------------------------------------------------------------------------- sound


def with_sound(path: Path, codec: str, seconds: float = 2.0) -> Path:
    """A video of 24 frames/s with a tone in it."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = target.add_stream(codec, rate=48000, layout="mono")
        for index in range(int(24 * seconds)):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts = index
            target.mux(stream.encode(frame))
            tone = np.sin(np.arange(2000) * 0.05 + index * 100.0).astype(np.float32) * 0.2
            samples = (
                (tone * 32767).astype(np.int16)[None] if codec.startswith("pcm") else tone[None]
            )
            kind = "s16" if codec.startswith("pcm") else "fltp"
            heard = av.AudioFrame.from_ndarray(samples, format=kind, layout="mono")
            heard.rate, heard.pts = 48000, index * 2000
            target.mux(sound.encode(heard))
        target.mux(stream.encode(None))
        target.mux(sound.encode(None))
    return path


def sound_of(path: Path) -> tuple[float, float]:
    """When the sound begins and ends, in seconds."""
    with av.open(str(path)) as source:
        stream = source.streams.audio[0]
        times = [
            (float(p.pts * p.time_base), float((p.pts + (p.duration or 0)) * p.time_base))
            for p in source.demux(stream)
            if p.pts is not None
        ]
    return times[0][0], times[-1][1]


@pytest.mark.parametrize(
    ("codec", "name"),
    [("aac", "h264"), ("aac", "prores4444"), ("pcm_s16le", "prores4444"), ("aac", "ffv1")],
)
def test_sound_is_copied_for_the_frames_that_are_taken(tmp_path, codec, name):
    source = with_sound(tmp_path / "in.mov", codec)
    assert probe(source).has_audio
    path = tmp_path / f"a{VIDEO_FORMATS[name].suffix}"
    write(path, name, 24, times=VideoTimes(Fraction(24)), audio=(source, 0.5, 1.5))
    begins, ends = sound_of(path)
    assert begins == pytest.approx(0.0, abs=0.05)
    assert ends == pytest.approx(1.0, abs=0.08)
    assert probe(path).frames == 24


def test_sound_that_the_container_does_not_take_is_named(tmp_path):
    source = with_sound(tmp_path / "in.mov", "aac")
    with pytest.raises(UsageError, match=r"webm cannot hold the aac sound .*--no-audio"):
        write(tmp_path / "a.webm", "vp9", audio=(source, 0.0, 1.0))
    assert os.listdir(tmp_path) == ["in.mov"]


# ---------------------------------------------------------------------------------- what is refused


def test_an_encoder_that_is_missing_is_an_error_that_names_those_present(tmp_path):
    absent = VideoFormat("av1", ".mp4", "mp4", "no-such-encoder", "yuv420p")
    with pytest.raises(UsageError, match="no encoder no-such-encoder for av1; it can write: h264"):
        open_video(tmp_path / "a.mp4", absent, width=64, height=48, times=VideoTimes(NTSC))


def test_without_pyav_everything_but_the_preview_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mkv", "ffv1", 2)
    probe.__globals__["_probed"].cache_clear()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"needs PyAV: pip install 'mattebridge\[video\]'"):
        probe(path)
    with pytest.raises(UsageError, match="h264 needs PyAV"):
        write(tmp_path / "b.mp4", "h264")
    write(tmp_path / "c.mp4", "mp4v", 6)
    assert sorted(os.listdir(tmp_path)) == ["a.mkv", "c.mp4"]
    monkeypatch.undo()
    assert [index_of(pixels) for pixels in read_all(tmp_path / "c.mp4")] == list(range(6))


@pytest.mark.parametrize("without_pyav", [False, True])
def test_an_odd_size_is_refused_and_not_cut(tmp_path, monkeypatch, without_pyav):
    if without_pyav:
        monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match="mp4v takes even sizes only and the plate is 65x49"):
        write(tmp_path / "a.mp4", "mp4v", width=65, height=49)
    assert os.listdir(tmp_path) == []
    if not without_pyav:
        write(tmp_path / "a.mov", "prores4444", 2, width=65, height=49)


@pytest.mark.parametrize("without_pyav", [False, True])
def test_a_frame_of_another_size_is_refused(tmp_path, monkeypatch, without_pyav):
    if without_pyav:
        monkeypatch.setitem(sys.modules, "av", None)
    writer = open_video(
        tmp_path / "a.mp4", VIDEO_FORMATS["mp4v"], width=64, height=48, times=VideoTimes(NTSC)
    )
    writer.add(picture(0))
    with pytest.raises(FrameWriteError, match="frame 2 is 32x48 and the video 64x48"):
        writer.add(picture(0)[:, :32])
    writer.discard()
    assert os.listdir(tmp_path) == []


def test_a_video_that_is_not_closed_leaves_nothing_under_its_name(tmp_path):
    writer = open_video(
        tmp_path / "a.mov", VIDEO_FORMATS["qtrle"], width=64, height=48, times=VideoTimes(NTSC)
    )
    writer.add(picture(0))
    assert not (tmp_path / "a.mov").exists()
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".a.mov.")
    writer.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "suffix"), [("ffv1", ".mkv"), ("prores4444", ".mov")])
def test_a_disk_that_fills_up_is_an_error_and_leaves_nothing(tmp_path, name, suffix):
    """The limit on the size of files, in a child: what a full disk does, without a disk."""
    child = os.fork()
    if child == 0:
        status = 9
        try:
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            writer = open_video(
                tmp_path / f"a{suffix}", VIDEO_FORMATS[name], width=64, height=48,
                times=VideoTimes(NTSC),
            )  # fmt: skip
            rng = np.random.default_rng(1)
            try:
                for _ in range(12):
                    writer.add(rng.integers(0, 256, (48, 64, 3)).astype(np.uint8))
                writer.close()
            except FrameWriteError:
                writer.discard()
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "kept"), [("a.mov", 0.6), ("a.mkv", 0.6), ("a.mp4", 0.0)])
def test_an_unfinished_video_is_refused(tmp_path, name, kept):
    codec = {"a.mov": "prores4444", "a.mkv": "ffv1", "a.mp4": "h264"}[name]
    path = write(tmp_path / name, codec, 60)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(FrameReadError, match="cannot read") as refused:
        probe(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_damaged_picture_is_an_error_and_its_neighbours_are_read(tmp_path):
    path = write(tmp_path / "a.mov", "png-mov", 6)
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"\x89PNG"]
    data[starts[3] + 60 : starts[3] + 90] = bytes(30)
    path.write_bytes(data)
    reader = VideoReader(path)
    assert index_of(reader.frame(2).pixels) == 2
    with pytest.raises(FrameReadError, match=r"a\.mov: picture 3 is damaged"):
        reader.frame(3)
    assert index_of(reader.frame(4).pixels) == 4
    # The damaged one lies on the way to the next that is asked for.
    reader.close()
    assert [index_of(reader.frame(index).pixels) for index in (2, 5)] == [2, 5]
    with pytest.raises(FrameReadError, match="no picture 6, only 0 to 5"):
        reader.frame(6)
    reader.close()


def test_a_video_that_may_not_be_read_is_not_called_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "take.mov").write_bytes(b"pictures")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(FrameReadError, match=r"cannot read .*take\.mov: permission denied"):
        probe(tmp_path / "take.mov")


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mov").write_bytes(b"this is no video")
    with pytest.raises(FrameReadError, match="not a finished video"):
        probe(tmp_path / "a.mov")
    with pytest.raises(FrameReadError, match="no such file"):
        probe(tmp_path / "b.mov")
