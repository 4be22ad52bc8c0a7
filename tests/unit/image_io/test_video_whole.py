"""Videos that are whole or not, and whose times can be trusted or not: each picture its own."""

from __future__ import annotations

import io
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fakes.interlaced import interlaced
from fakes.mostly_slow import mostly_slow
from mattebridge.errors import FrameReadError, UsageError
from mattebridge.image_io.sequences import find_frames
from mattebridge.image_io.video_read import VideoReader, probe
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video

WIDTH, HEIGHT, COUNT = 192, 48, 30
B_FRAMES = {"bf": "3", "g": "12"}
QUICK = {"deadline": "realtime", "cpu-used": "8"}


def picture(index: int) -> np.ndarray:
    """Dark noise that does not compress, and a white block whose place tells the index."""
    rng = np.random.default_rng(index)
    pixels = rng.integers(40, 80, (HEIGHT, WIDTH, 1)).astype(np.uint8).repeat(3, axis=2)
    pixels[16:32, index * 6 : index * 6 + 8] = 240
    return pixels


def index_of(pixels: np.ndarray) -> int:
    bright = pixels[20:28, :, 1].mean(axis=0) > 160 * (257 if pixels.dtype == np.uint16 else 1)
    return round(int(np.flatnonzero(bright)[0]) / 6)


def made(
    path: Path,
    codec: str = "libx264",
    *,
    options=None,
    container=None,
    count: int = COUNT,
    ticks=None,
    held: int = 0,
    form: str = "",
) -> Path:
    """`count` numbered pictures. container: options of the muxer. held: ticks of the last one."""
    with av.open(str(path), "w", format=form or None, options=container or {}) as target:
        stream = target.add_stream(codec, rate=30, options=options or {})
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = {"ffv1": "bgr0", "prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}.get(
            codec, "yuv420p"
        )
        stream.codec_context.time_base = Fraction(1, 30)
        packets = []
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = ticks[index] if ticks else index, Fraction(1, 30)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        last = max(packet.pts for packet in packets)
        for packet in packets:
            if held and packet.pts == last:
                packet.duration = held
            target.mux(packet)
    return path


def cut(path: Path, kept: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    return path


def refused(path: Path) -> str:
    with pytest.raises(FrameReadError, match="cannot read") as error:
        probe(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def indices(path: Path, order=None) -> list[int]:
    reader = VideoReader(path)
    chosen = range(reader.info.frames) if order is None else order
    found = [index_of(reader.frame(index).pixels) for index in chosen]
    reader.close()
    return found


# --------------------------------------------------------------------------------- whole or not

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
KINDS = {
    "mkv": ("a.mkv", "libx264", {}),
    "mkv lossless": ("a.mkv", "ffv1", {}),
    "mkv recorded live": ("a.mkv", "libx264", {"live": "1"}),
    "webm": ("a.webm", "libvpx-vp9", {}),
    "mp4 with its index first": ("a.mp4", "libx264", {"movflags": "faststart"}),
    "mp4 with its index last": ("a.mp4", "libx264", {}),
    "mp4 in fragments": ("a.mp4", "libx264", FRAGMENTED),
    "mov in order": ("a.mov", "prores_ks", {"movflags": "faststart"}),
    "avi": ("a.avi", "mjpeg", {}),
    "avi out of order": ("a.avi", "libx264", {}),
    "mxf": ("a.mxf", "mpeg2video", {}),
}


def of_kind(folder: Path, kind: str) -> Path:
    name, codec, container = KINDS[kind]
    options = {"libx264": B_FRAMES, "mpeg2video": {"b": "20000k"}, "libvpx-vp9": QUICK}.get(codec)
    return made(folder / name, codec, options=options, container=container)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_video_is_read_whole(tmp_path, kind):
    assert indices(of_kind(tmp_path, kind)) == list(range(COUNT))


@pytest.mark.parametrize("kept", mostly_slow([0.5, 0.995, 0.25, 0.75, 0.95], quick=2))
@pytest.mark.parametrize("kind", KINDS)
def test_a_video_that_was_cut_is_refused_before_the_first_picture(tmp_path, kind, kept):
    message = refused(cut(of_kind(tmp_path, kind), kept))
    assert "render or copy it again" in message


@pytest.mark.parametrize("kind", KINDS)
def test_a_video_whose_end_is_zeros_is_refused(tmp_path, kind):
    """A file that was reserved in full and copied in part, wherever in it the copy ended."""
    path = of_kind(tmp_path, kind)
    data = path.read_bytes()
    for part in np.linspace(0.3, 0.97, 20):
        kept = int(len(data) * part)
        path.write_bytes(data[:kept] + bytes(len(data) - kept))
        with pytest.raises(FrameReadError):
            indices(path)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.webm"])
def test_a_last_picture_that_is_held_for_long_is_no_cut(tmp_path, name):
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = made(tmp_path / name, codec, held=90, options=QUICK if "vp9" in codec else None)
    assert probe(path).frames == COUNT
    assert indices(path) == list(range(COUNT))
    if name != "a.mp4":
        assert probe(path).seconds(COUNT) == pytest.approx((COUNT - 1 + 90) / 30, abs=0.01)


def test_pictures_that_are_held_in_between_are_no_cut(tmp_path):
    ticks = [index + 100 * (index > 9) + 200 * (index > 25) for index in range(COUNT)]
    path = made(tmp_path / "a.mkv", ticks=ticks)
    assert not probe(path).is_constant
    assert indices(path) == list(range(COUNT))


def test_a_video_that_begins_after_its_sound_is_whole(tmp_path):
    """Its header states when it ends, not for how long it is shown."""
    path = made(tmp_path / "a.mkv", ticks=[150 + index for index in range(COUNT)])
    assert indices(path) == list(range(COUNT))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_bytes_behind_the_end_do_not_matter(tmp_path, name):
    path = made(tmp_path / name)
    path.write_bytes(path.read_bytes() + bytes(100))
    assert probe(path).frames == COUNT


def test_an_avi_with_dropped_pictures_is_whole(tmp_path):
    """Dropped pictures are empty chunks: those before them are held."""
    ticks = [index + 3 * (index > 9) for index in range(COUNT)]
    path = made(tmp_path / "a.avi", "mjpeg", ticks=ticks)
    assert indices(path) == list(range(COUNT))


# --------------------------------------------------------------------------- times and counting

OUT_OF_ORDER = [("libx264", B_FRAMES), ("mpeg4", {"bf": "2", "g": "12", "q": "2"})]


@pytest.mark.parametrize(("codec", "options"), OUT_OF_ORDER)
def test_pictures_of_an_avi_that_are_stored_out_of_order_are_each_their_own(
    tmp_path, codec, options
):
    path = made(tmp_path / "a.avi", codec, options=options)
    info = probe(path)
    assert (info.frames, info.rate, info.is_constant) == (COUNT, 30, True)
    assert indices(path) == list(range(COUNT))
    order = [0, 17, 16, 3, 29, 28, 10, 0]
    assert indices(path, order) == order


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mov", "mpeg4", {"bf": "2", "g": "9", "q": "2"}),
        ("a.mp4", "libx264", {"bf": "3", "g": "10", "x264-params": "open-gop=1"}),
        ("a.mkv", "mpeg2video", {"bf": "2", "g": "9"}),
        ("a.mxf", "mpeg2video", {"bf": "2", "g": "9", "b": "20000k"}),
    ],
)
def test_pictures_shown_before_the_key_frame_that_is_stored_before_them_are_found(
    tmp_path, name, codec, options
):
    """An open group of pictures: a seek lands behind the picture, each time anew."""
    path = made(tmp_path / name, codec, options=options)
    for index in range(COUNT):
        assert indices(path, [index]) == [index]


def test_pictures_that_come_out_with_the_times_of_others_are_counted(tmp_path):
    """H.264 in MXF without an index of the order: packets are numbered as they are stored."""
    path = made(tmp_path / "a.mxf", options={"bf": "2"})
    assert probe(path).counted
    order = [0, 17, 16, 3, 29]
    assert indices(path, order) == order


def test_where_counting_loses_pictures_the_video_is_refused_before_the_first(tmp_path):
    path = made(tmp_path / "a.avi", options=B_FRAMES)
    data = bytearray(path.read_bytes())
    chunks = [at for at in range(len(data)) if data[at : at + 4] == b"00dc"][10:14]
    for at in chunks:
        data[at + 8 : at + 60] = bytes(52)
    path.write_bytes(data)
    refused(path)


# ------------------------------------------------------------------------------ several streams


def with_streams(path: Path, counts: list[int]) -> Path:
    """A video with several video streams of these many pictures; the last has the numbers."""
    with av.open(str(path), "w") as target:
        streams = []
        for place in range(len(counts)):
            stream = target.add_stream("mjpeg" if place + 1 < len(counts) else "mpeg4", rate=30)
            stream.width, stream.height = WIDTH, HEIGHT
            stream.pix_fmt = "yuvj420p" if place + 1 < len(counts) else "yuv420p"
            streams.append(stream)
        for place, (stream, count) in enumerate(zip(streams, counts)):
            for index in range(count):
                shown = picture(index) if place + 1 == len(counts) else picture(28)
                frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 30)
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
    return path


def test_a_cover_picture_in_front_is_not_taken_for_the_video(tmp_path):
    path = with_streams(tmp_path / "a.mov", [1, 12])
    assert indices(path) == list(range(12))
    assert probe(path).notes == (
        "it holds 2 videos; number 2 of them is taken (mpeg4 192x48)",
    )  # fmt: skip


def test_of_two_videos_the_first_is_taken_and_named(tmp_path):
    path = with_streams(tmp_path / "a.mov", [5, 12])
    assert probe(path).frames == 5
    assert probe(path).notes == ("it holds 2 videos; number 1 of them is taken (mjpeg 192x48)",)


def test_a_file_with_nothing_but_a_cover_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    cover = io.BytesIO()
    with av.open(cover, "w", format="image2pipe") as target:
        stream = target.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        target.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        target.mux(stream.encode(None))
    with av.open(str(path), "w") as target:
        sound = target.add_stream("aac", rate=48000, layout="mono")
        art = target.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        heard.rate = 48000
        target.mux(sound.encode(heard))
        packet = av.Packet(cover.getvalue())
        packet.stream, packet.pts, packet.dts = art, 0, 0
        target.mux(packet)
        target.mux(sound.encode(None))
    assert "it holds no video, only a cover picture" in refused(path)


# ---------------------------------------------------------------------- names, types, interlaced


def test_a_relative_name_with_a_colon_is_a_file_and_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("A001:C001.mkv")
    writer = open_video(
        path, VIDEO_FORMATS["ffv1"], width=WIDTH, height=HEIGHT, times=VideoTimes(Fraction(30))
    )
    for index in range(3):
        writer.add(picture(index))
    writer.close()
    assert indices(path) == [0, 1, 2]
    assert list(find_frames("A001:C001.mkv").files) == [0, 1, 2]


def test_a_relative_name_with_a_colon_is_written_without_pyav(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    writer = open_video(
        Path("A001:C001.mp4"), VIDEO_FORMATS["mp4v"], width=WIDTH, height=HEIGHT,
        times=VideoTimes(Fraction(30)),
    )  # fmt: skip
    writer.add(picture(0))
    writer.close()
    monkeypatch.undo()
    assert (tmp_path / "A001:C001.mp4").stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("00001.MTS", r"MPEG stream .*-c copy 00001\.mkv"),
        ("a.m2ts", r"-c copy a\.mkv"),
        ("tape.mpg", r"-c copy tape\.mkv"),
        ("clip.3gp", r"-c copy clip\.mp4"),
        ("walk.gif", r"animation, .*walk\.%04d\.png"),
        ("old.wmv", r"-c:v ffv1 old\.mkv"),
        ("a take.flv", r"'a take'\.mkv"),
        ("A001.R3D", "raw recording, .*export it as EXR or ProRes"),
    ],
)
def test_other_moving_pictures_are_refused_with_what_to_convert_them_to(tmp_path, name, advice):
    (tmp_path / name).write_bytes(b"anything")
    for role in ("plate", "clean_plate"):
        with pytest.raises(UsageError, match=advice):
            find_frames(tmp_path / name, role=role)


def test_an_interlaced_video_is_known(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame = interlaced(frame.reformat(format="yuv420p"))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    assert probe(path).interlaced
    assert not probe(made(tmp_path / "b.mkv")).interlaced
