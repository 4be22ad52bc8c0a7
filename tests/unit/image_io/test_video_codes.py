"""Videos against the codes in them: levels of every depth, chroma at its place, pictures upright.

What is read is compared with codes that PyAV was given, and what is written with codes that PyAV
gives back: never with a round trip of our own.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fakes.colour import studio_spaces
from mattebridge.errors import FrameReadError
from mattebridge.image_io.video_read import VideoReader, probe
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video

WIDTH, HEIGHT = 256, 128
RATE = Fraction(24)
LIMITED, FULL = 1, 2


def frame_of_planes(pixel_format: str, planes: list[np.ndarray]) -> av.VideoFrame:
    """A frame with these codes in its planes, in the order of its components."""
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], pixel_format)
    dtype = np.dtype("u1" if max(part.bits for part in frame.format.components) == 8 else "<u2")
    for part, codes in zip(frame.format.components, planes):
        plane = frame.planes[part.plane]
        lines = np.zeros((plane.height, plane.line_size // dtype.itemsize), dtype)
        lines[:, : codes.shape[1]] = codes
        plane.update(lines.tobytes())
    return frame


def planes_of(frame: av.VideoFrame) -> list[np.ndarray]:
    """The codes of a decoded frame, in the order of its components."""
    dtype = np.dtype("u1" if max(part.bits for part in frame.format.components) == 8 else "<u2")
    planes = []
    for part in frame.format.components:
        plane = frame.planes[part.plane]
        lines = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        planes.append(lines[:, : plane.width].astype(int))
    return planes


def stored(path: Path, codec: str, frame: av.VideoFrame, options=None, **tags) -> Path:
    """One frame as a video. tags: of frame and stream."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=24, options=options or {})
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        for name, value in tags.items():
            setattr(frame, name, value)
            setattr(stream.codec_context, name, value)
        frame.pts, frame.time_base = 0, Fraction(1, 24)
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


def read(path: Path) -> np.ndarray:
    reader = VideoReader(path)
    pixels = reader.frame(0).pixels
    reader.close()
    return pixels


def decoded(path: Path) -> av.VideoFrame:
    with av.open(str(path)) as source:
        return next(source.decode(video=0))


def written(path: Path, name: str, codes: np.ndarray) -> av.VideoFrame:
    """One frame of code values through our writer, as PyAV decodes it."""
    height, width = codes.shape[:2]
    writer = open_video(
        path, VIDEO_FORMATS[name], width=width, height=height, times=VideoTimes(RATE),
        alpha=codes.shape[2] == 4,
    )  # fmt: skip
    writer.add(codes)
    writer.close()
    return decoded(path)


# ---------------------------------------------------------------------------------------- levels

YUV = [("yuv444p", 8), ("yuv422p10le", 10), ("yuv444p12le", 12), ("yuv444p16le", 16)]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("pixel_format", "bits"), YUV)
def test_every_grey_code_is_read_as_its_share_of_white(tmp_path, pixel_format, bits, full):
    step, middle = 1 << (bits - 8), 1 << (bits - 1)
    black, white = (0, (1 << bits) - 1) if full else (16 * step, 235 * step)
    luma = np.linspace(black, white, WIDTH).round().astype(int)[None].repeat(HEIGHT, axis=0)
    chroma = np.full((HEIGHT, WIDTH // (2 if "422" in pixel_format else 1)), middle)
    path = stored(
        tmp_path / "a.mkv", "ffv1", frame_of_planes(pixel_format, [luma, chroma, chroma]),
        colorspace=1, color_range=FULL if full else LIMITED,
    )  # fmt: skip
    top = 255 if bits == 8 else 65535
    expected = (luma[0] - black) / (white - black) * top
    given = read(path)
    # Rounded to whole codes, computed in float32: at most one code of 65535 beside the nearest.
    assert np.abs(given.astype(float) - expected[None, :, None]).max() <= 0.5 + (bits > 8)
    assert (given[:, 0] == 0).all()
    assert (given[:, -1] == top).all()


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_every_code_of_a_wide_rgb_codec_is_read_as_its_share_of_white(tmp_path, bits):
    top = (1 << bits) - 1
    codes = np.linspace(0, top, WIDTH).round().astype(int)[None].repeat(HEIGHT, axis=0)
    frame = frame_of_planes(f"gbrp{bits}le", [codes, codes[:, ::-1], codes // 2])
    given = read(stored(tmp_path / "a.mkv", "ffv1", frame))
    expected = np.stack([codes, codes[:, ::-1], codes // 2], axis=2) * 65535 / top
    assert np.abs(given - expected).max() <= 0.5


@pytest.mark.parametrize(("tagged", "red"), [(1, 0.2126), (5, 0.299), (9, 0.2627)])
def test_saturated_colours_of_ten_bits_are_read_with_the_tagged_matrix(tmp_path, tagged, red):
    """Pure red in limited range, from the definition of its codes."""
    blue = {1: 0.0722, 5: 0.114, 9: 0.0593}[tagged]
    luma, cb, cr = 64 + 876 * red, 512 - 896 * red / (2 * (1 - blue)), 512 + 448
    planes = [np.full((HEIGHT, WIDTH), round(code)) for code in (luma, cb, cr)]
    frame = frame_of_planes("yuv444p10le", planes)
    path = stored(tmp_path / "a.mkv", "ffv1", frame, colorspace=tagged, color_range=LIMITED)
    # One code of 10 bits is 75 of 65535, and blue is luma plus up to twice that of Cb.
    assert np.abs(read(path)[5, 5].astype(int) - (65535, 0, 0)).max() <= 120


# By format: the highest code of white, of what its decoder gives.
WHITE = {"prores4444": 940 * 4, "prores422hq": 940, "h264-444": 940, "h265": 940}
WHITE |= {"dnxhr": 940, "dnxhr-444": 940, "h264": 235, "mp4v": 235, "vp9": 235}


@pytest.mark.parametrize("name", WHITE)
def test_written_black_grey_and_white_are_the_codes_of_the_standard(tmp_path, name):
    form = VIDEO_FORMATS[name]
    for level in (0.0, 0.5, 1.0):
        codes = np.full((HEIGHT, WIDTH, 3), round(level * (255 if form.depth == 8 else 65535)))
        path = tmp_path / f"{level}{form.suffix}"
        luma, cb, cr = planes_of(written(path, name, codes.astype(form.dtype)))[:3]
        step = WHITE[name] // 235
        # An even picture has no detail to lose: what is left is the rounding of the transform.
        bound = 0.75 * step if name in ("mp4v", "vp9") else 0.5 * max(1, step // 4)
        assert abs(luma.mean() - (16 + 219 * level) * step) <= bound
        assert abs(cb.mean() - 128 * step) <= bound
        assert abs(cr.mean() - 128 * step) <= bound


def test_twelve_bits_of_rgb_are_rounded_and_not_cut_off(tmp_path):
    """The planes that the encoder is given: CineForm itself is lossy."""
    from mattebridge.image_io.video_pictures import frame_of

    codes = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    (red, _, _) = planes_of(frame_of(codes, "gbrp12le", matrix=1))
    assert np.abs(red - codes[..., 0].astype(float) * 4095 / 65535).max() <= 0.5


def test_alpha_of_ten_bits_is_full_range_in_limited_range_video(tmp_path):
    alpha = np.linspace(0, 1023, WIDTH).round().astype(int)[None].repeat(HEIGHT, axis=0)
    luma, chroma = np.full((HEIGHT, WIDTH), 940), np.full((HEIGHT, WIDTH), 512)
    frame = frame_of_planes("yuva444p10le", [luma, chroma, chroma, alpha])
    given = read(stored(tmp_path / "a.mkv", "ffv1", frame, colorspace=1, color_range=LIMITED))
    assert np.abs(given[..., 3] - alpha * 65535 / 1023).max() <= 0.5


@pytest.mark.parametrize(
    ("planar", "packed"), [("yuv420p10le", "p010le"), ("yuv422p", "uyvy422"), ("yuv420p", "nv12")]
)
def test_packed_pictures_are_read_like_planar_ones(planar, packed):
    from mattebridge.image_io.video_pictures import Orientation, pixels_of
    from mattebridge.image_io.ycbcr import LEFT

    bits = 10 if "10" in planar else 8
    frame = av.VideoFrame(WIDTH, HEIGHT, planar)
    rng = np.random.default_rng(1)
    for plane in frame.planes:
        kind = "<u2" if bits > 8 else "u1"
        samples = rng.integers(0, 1 << bits, plane.buffer_size // np.dtype(kind).itemsize)
        plane.update(samples.astype(kind).tobytes())
    given = [
        pixels_of(each, LEFT, Orientation()) for each in (frame, frame.reformat(format=packed))
    ]
    np.testing.assert_array_equal(*given)


# ---------------------------------------------------------------------------------------- chroma

SLOPE = 4.0  # codes of 8 bits from one luma sample to the next


def chroma_ramp(subsampling: str, x: float, y: float) -> av.VideoFrame:
    """8-bit grey with Cb that rises to the right and Cr that rises downward, sited at x, y."""
    across, down = 2, 2 if subsampling == "420" else 1
    columns = np.arange(32) * across + x
    rows = np.arange(64 // down) * down + (y if down == 2 else 0)
    cb = 128 + SLOPE * (columns[None] - 32) + 0 * rows[:, None]
    cr = 128 + SLOPE * (rows[:, None] - 32) + 0 * columns[None]
    luma = np.full((64, 64), 126)
    planes = [luma, *(each.clip(0, 255).astype(int) for each in (cb, cr))]
    return frame_of_planes(f"yuv{subsampling}p", planes)


def places_read(path: Path) -> tuple[float, float]:
    """How far chroma was read to the right of, and below, where it belongs; in luma samples."""
    rgb = read(path).astype(float)
    luma = rgb @ (0.2126, 0.7152, 0.0722)
    cb = (rgb[..., 2] - luma) / (2 * (1 - 0.0722)) * 224 / 255 + 128
    cr = (rgb[..., 0] - luma) / (2 * (1 - 0.2126)) * 224 / 255 + 128
    true = 128 + SLOPE * (np.arange(64) - 32)
    inner = slice(20, 44)  # where nothing is clipped
    right = (true[None, inner] - cb[inner, inner]).mean() / SLOPE
    down = (true[inner, None] - cr[inner, inner]).mean() / SLOPE
    return right, down


LOSSLESS = {"qp": "0", "preset": "ultrafast"}
SITED = [
    # codec, suffix, options, subsampling, where its chroma lies
    ("libx264", ".mp4", LOSSLESS, "420", (0.0, 0.5)),
    ("libx264", ".mp4", {**LOSSLESS, "x264-params": "chromaloc=1"}, "420", (0.5, 0.5)),
    ("libx264", ".mp4", {**LOSSLESS, "x264-params": "chromaloc=2"}, "420", (0.0, 0.0)),
    ("libx264", ".mp4", LOSSLESS, "422", (0.0, 0.0)),
    ("ffv1", ".mkv", {}, "420", (0.0, 0.5)),
    ("ffv1", ".mkv", {}, "422", (0.0, 0.0)),
    ("mpeg1video", ".mkv", {"qmin": "1", "qmax": "1"}, "420", (0.5, 0.5)),
]


@pytest.mark.parametrize(("codec", "suffix", "options", "subsampling", "place"), SITED)
def test_chroma_is_read_where_the_stream_has_it(
    tmp_path, codec, suffix, options, subsampling, place
):
    frame = chroma_ramp(subsampling, *place)
    path = stored(tmp_path / f"a{suffix}", codec, frame, options, colorspace=1, color_range=LIMITED)
    # Half a sample is the error of a wrong place; rounding and the codec move it by less than 0.1.
    assert places_read(path) == pytest.approx((0.0, 0.0), abs=0.15)


@pytest.mark.parametrize("name", ["h264", "h265", "prores422hq", "dnxhr", "mp4v", "vp9"])
def test_chroma_is_written_on_the_left_where_readers_look_for_it(tmp_path, name):
    """A picture whose Cb rises to the right and whose Cr rises downward."""
    form = VIDEO_FORMATS[name]
    columns, rows = np.arange(WIDTH) - WIDTH / 2, np.arange(HEIGHT) - HEIGHT / 2
    cb, cr = 0.6 * columns[None] / WIDTH, 0.6 * rows[:, None] / HEIGHT
    red, blue = 0.5 + 2 * (1 - 0.2126) * cr + 0 * cb, 0.5 + 2 * (1 - 0.0722) * cb + 0 * cr
    green = (0.5 - 0.2126 * red - 0.0722 * blue) / 0.7152
    rgb = np.stack([red, green, blue], axis=2)
    top = 255 if form.depth == 8 else 65535
    codes = np.clip(rgb * top, 0, top).round().astype(form.dtype)
    planes = planes_of(written(tmp_path / f"a{form.suffix}", name, codes))
    step = 1 << (form.depth - 8)
    slopes = 0.6 * 224 * step / WIDTH, 0.6 * 224 * step / HEIGHT
    down = HEIGHT // planes[1].shape[0]
    at_x = np.arange(WIDTH // 2) * 2
    at_y = np.arange(HEIGHT // down) * down + (0.5 if down == 2 else 0.0)
    inner = (slice(HEIGHT // down // 4, -(HEIGHT // down) // 4), slice(WIDTH // 8, -WIDTH // 8))
    true_cb = 128 * step + slopes[0] * (at_x[None] - WIDTH / 2) + 0 * at_y[:, None]
    true_cr = 128 * step + slopes[1] * (at_y[:, None] - HEIGHT / 2) + 0 * at_x[None]
    # The middle instead of the left is 0.5 of a slope, and a mean over thousands of samples moves
    # little by what a codec loses: most by MPEG-4, by 0.32.
    bound = 0.4 if name == "mp4v" else 0.25
    assert abs((planes[1] - true_cb)[inner].mean()) <= bound * slopes[0]
    assert abs((planes[2] - true_cr)[inner].mean()) <= bound * slopes[1]


@pytest.mark.parametrize("subsampling", ["411", "410", "440"])
def test_rare_chroma_grids_are_read_at_their_place(tmp_path, subsampling):
    across, down = {"411": (4, 1), "410": (4, 4), "440": (1, 2)}[subsampling]
    columns = np.arange(64 // across) * across
    rows = np.arange(64 // down) * down + (down - 1) / 2
    cb = 128 + SLOPE * (columns[None] - 32) + 0 * rows[:, None]
    cr = 128 + SLOPE * (rows[:, None] - 32) + 0 * columns[None]
    planes = [np.full((64, 64), 126), *(each.clip(0, 255).astype(int) for each in (cb, cr))]
    frame = frame_of_planes(f"yuv{subsampling}p", planes)
    path = stored(tmp_path / "a.mkv", "ffv1", frame, colorspace=1, color_range=LIMITED)
    assert places_read(path) == pytest.approx((0.0, 0.0), abs=0.15)


# --------------------------------------------------------------------------------------- upright

ONE = 1 << 16
# By name: the matrix's a, b, c, d, and what it does to (H, W, C) pixels.
MATRICES = {
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "half a turn": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "a quarter to the right": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "a quarter to the left": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "rows and columns exchanged": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "exchanged and half a turn": ((0, -1, -1, 0), lambda p: p.swapaxes(0, 1)[::-1, ::-1]),
    "as it is": ((1, 0, 0, 1), lambda p: p),
}


def with_matrix(path: Path, given: tuple[float, float, float, float]) -> np.ndarray:
    """A video with a display matrix, and its stored pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    a, b, c, d = (round(value * ONE) for value in given)
    with av.open(str(path), "w") as target:
        stream = target.add_stream("qtrle", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 24)
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return pixels


@pytest.mark.parametrize("name", MATRICES)
def test_the_whole_display_matrix_is_honoured(tmp_path, name):
    matrix, upright = MATRICES[name]
    pixels = with_matrix(tmp_path / "a.mov", matrix)
    expected = upright(pixels)
    info = probe(tmp_path / "a.mov")
    assert (info.height, info.width) == expected.shape[:2]
    np.testing.assert_array_equal(read(tmp_path / "a.mov"), expected)


def test_a_video_that_is_turned_by_an_odd_angle_is_refused(tmp_path):
    with_matrix(tmp_path / "a.mov", (0.866, 0.5, -0.5, 0.866))
    with pytest.raises(FrameReadError, match="turned by an odd angle; render it upright"):
        probe(tmp_path / "a.mov")


# ------------------------------------------------------------------------------------- primaries


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"color_primaries": 9, "colorspace": 9, "color_trc": 14}, "BT.2020"),
        ({"color_primaries": 2, "colorspace": 9, "color_trc": 2}, "BT.2020"),
        ({"color_primaries": 12, "colorspace": 1, "color_trc": 1}, "Display P3"),
        ({"color_primaries": 11, "colorspace": 1, "color_trc": 1}, "DCI-P3"),
        ({"color_primaries": 1, "colorspace": 1, "color_trc": 16}, "PQ"),
        ({"color_primaries": 11, "colorspace": 9, "color_trc": 18}, "HLG"),
    ],
)
def test_wide_primaries_are_not_taken_for_those_of_rec709(tmp_path, tags, name):
    planes = [np.full((HEIGHT, WIDTH), code) for code in (502, 512, 512)]
    frame = frame_of_planes("yuv444p10le", planes)
    info = probe(stored(tmp_path / "a.mkv", "ffv1", frame, color_range=LIMITED, **tags))
    assert info.colorspace == "unknown"
    assert name in info.header.unknown_because
    red_x = info.header.metadata.get("chromaticities", (None,))[0]
    assert red_x == {1: None, 2: 0.708, 9: 0.708, 11: 0.68, 12: 0.68}[tags["color_primaries"]]


@pytest.mark.parametrize(
    ("primaries", "transfer", "space"),
    [
        (9, 16, "pq_rec2020_display"),
        (9, 18, "hlg_rec2020_display"),
        (12, 16, "pq_p3d65_display"),
        (12, 13, "srgb_p3d65_scene"),
    ],
)
def test_a_pair_of_primaries_and_curve_that_configs_have_is_named(
    tmp_path, primaries, transfer, space
):
    planes = [np.full((HEIGHT, WIDTH), code) for code in (502, 512, 512)]
    frame = frame_of_planes("yuv444p10le", planes)
    tags = {"color_primaries": primaries, "colorspace": 9, "color_trc": transfer}
    info = probe(stored(tmp_path / "a.mkv", "ffv1", frame, color_range=LIMITED, **tags))
    assert (info.colorspace, info.header.unknown_because) == (space, "")
    assert studio_spaces().is_known(space)


@pytest.mark.parametrize("primaries", [1, 2, 5, 6])
def test_rec709_and_standard_definition_are_srgb(tmp_path, primaries):
    planes = [np.full((HEIGHT, WIDTH), code) for code in (502, 512, 512)]
    frame = frame_of_planes("yuv444p10le", planes)
    path = stored(
        tmp_path / "a.mkv", "ffv1", frame, color_range=LIMITED, colorspace=1,
        color_primaries=primaries, color_trc=1,
    )  # fmt: skip
    info = probe(path)
    assert (info.colorspace, info.header.unknown_because) == ("srgb", "")
    assert "chromaticities" not in info.header.metadata


@pytest.mark.parametrize(("matrix", "name"), [(8, "YCgCo"), (10, "constant luminance"), (14, "IC")])
def test_a_matrix_that_is_not_read_is_refused(tmp_path, matrix, name):
    planes = [np.full((HEIGHT, WIDTH), code) for code in (502, 512, 512)]
    frame = frame_of_planes("yuv444p10le", planes)
    path = stored(tmp_path / "a.mkv", "ffv1", frame, color_range=LIMITED, colorspace=matrix)
    with pytest.raises(FrameReadError, match=f"{name}.*convert it to Rec.709"):
        probe(path)


@pytest.mark.parametrize("name", ["prores4444", "h264", "ffv1-16", "h265"])
def test_a_video_is_tagged_with_the_primaries_of_its_plate(tmp_path, name):
    form = VIDEO_FORMATS[name]
    for primaries in (1, 9, 12):
        path = tmp_path / f"{primaries}{form.suffix}"
        writer = open_video(
            path, form, width=WIDTH, height=HEIGHT, times=VideoTimes(RATE), primaries=primaries
        )
        writer.add(np.zeros((HEIGHT, WIDTH, 3), form.dtype))
        writer.close()
        assert int(decoded(path).color_primaries) == primaries
