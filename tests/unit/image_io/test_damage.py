"""Damaged files that a library takes for pictures, and files that promise too much."""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses
import pytest

from mattebridge.errors import FrameReadError
from mattebridge.image_batch import load_image_batch
from mattebridge.image_io import Encoding, check_frame, read_frame, read_header, write_frame


def plate(height: int = 120, width: int = 200) -> np.ndarray:
    """What a camera films: grain everywhere, no two pixels alike, uint8."""
    rng = np.random.default_rng(11)
    smooth = cv2.GaussianBlur(rng.random((height, width, 3)).astype(np.float32), (0, 0), 5)
    grain = rng.normal(0, 0.02, smooth.shape)
    return np.clip((smooth - 0.5) * 3 + 0.5 + grain, 0.05, 0.95).__mul__(255).astype(np.uint8)


def jpeg_of(pixels: np.ndarray, *, quality: int = 95, progressive: int = 0, restart: int = 0):
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    options += [cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    return cv2.imencode(".jpg", pixels[..., ::-1], options)[1].tobytes()


def with_hole(data: bytes, size: int = 1500) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes(size) + data[at + size :]


def cut_in_half_with_an_end(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\xff\xd9"


JPEGS = [
    {"quality": quality, "progressive": progressive, "restart": restart}
    for quality in (60, 100)
    for progressive in (0, 1)
    for restart in (0, 4)
]


@pytest.mark.parametrize("damage", [with_hole, cut_in_half_with_an_end])
@pytest.mark.parametrize("options", JPEGS)
def test_a_jpeg_that_is_damaged_inside_is_refused_by_the_reader_and_the_loader(
    tmp_path, damage, options
):
    data = jpeg_of(plate(), **options)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    read_frame(path)
    path.write_bytes(damage(data))
    for read in (read_frame, lambda p: load_image_batch([p])):
        with pytest.raises(FrameReadError, match="damaged or cut short"):
            read(path)
    with pytest.raises(FrameReadError, match="damaged or cut short"):
        load_image_batch([damage(data)])
    with pytest.raises(FrameReadError, match="damaged or cut short"):
        load_image_batch([path], width=50, height=30, filter="draft")


@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (120, 200)])
def test_a_good_jpeg_is_not_suspected(tmp_path, options, size):
    for pixels in (plate(*size), np.full((*size, 3), 90, np.uint8)):
        (tmp_path / "a.jpg").write_bytes(jpeg_of(pixels, **options) + b"\0" * 40)
        decoded = read_frame(tmp_path / "a.jpg").pixels
        stored = cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1]
        np.testing.assert_array_equal(decoded, stored)


@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("size", [(64, 96), (333, 517)])
def test_a_good_jpeg_is_decoded_as_a_draft(options, size):
    data = jpeg_of(plate(*size), **options)
    batch = load_image_batch([data], width=size[1] // 4, height=size[0] // 4, filter="draft")
    whole = load_image_batch([data], width=size[1] // 4, height=size[0] // 4)
    # Two ways of averaging the same picture, which has grain of 5 code values.
    assert np.abs(batch.array.astype(int) - whole.array).mean() < 5


@pytest.mark.parametrize("spare", [1, 20])
def test_a_few_spare_bytes_as_cameras_write_them_are_no_damage(tmp_path, spare):
    data = jpeg_of(plate())
    (tmp_path / "a.jpg").write_bytes(data[:-2] + bytes(spare) + data[-2:])
    read_frame(tmp_path / "a.jpg")


# ------------------------------------------------------------------------------------ zero tails

STORED = [
    ("a.exr", "half", "none"),
    ("a.exr", "float", "none"),
    ("a.exr", "half", "piz"),
    ("a.exr", "float", "piz"),
    ("a.exr", "half", "b44"),
    ("a.exr", "half", "b44a"),
    ("a.exr", "float", "b44"),
    ("a.exr", "half", "zip"),
    ("a.exr", "half", "dwaa"),
    ("a.tif", "uint8", "none"),
    ("a.tif", "uint16", "none"),
    ("a.tif", "float", "none"),
    ("a.tif", "uint8", "zip"),
    ("a.tif", "uint16", "lzw"),
    ("a.dpx", "uint16", "none"),
]


def store(path: Path, pixels: np.ndarray, kind: str, compression: str) -> bytes:
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], kind)
    spec.attribute("compression", compression)
    spec.attribute("oiio:BitsPerSample", 10 if path.suffix == ".dpx" else 0)
    target = oiio.ImageOutput.create(str(path))
    assert target.open(str(path), spec), target.geterror()
    # As fractions of 1: OpenImageIO converts to the file's type.
    assert target.write_image(np.ascontiguousarray(pixels.astype(np.float32) / 255))
    target.close()
    return path.read_bytes()


@pytest.mark.parametrize(("name", "kind", "compression"), STORED)
@pytest.mark.parametrize("kept", [0.497, 0.93, 0.99])
def test_a_file_whose_tail_is_zeros_is_refused(tmp_path, name, kind, compression, kept):
    path = tmp_path / name
    data = store(path, plate(), kind, compression)
    read_frame(path)
    check_frame(path)
    size = int(len(data) * kept)
    path.write_bytes(data[:size] + bytes(len(data) - size))
    with pytest.raises(FrameReadError, match="damaged or cut short"):
        read_frame(path)
    with pytest.raises(FrameReadError, match="damaged or cut short"):
        check_frame(path)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float"])
@pytest.mark.parametrize("size", [40, 1500])
def test_a_deflated_tiff_with_a_hole_is_refused(tmp_path, kind, size):
    path = tmp_path / "a.tif"
    path.write_bytes(with_hole(store(path, plate(), kind, "zip"), size))
    with pytest.raises(FrameReadError, match="damaged or cut short"):
        read_frame(path)


def shape(draw: str) -> np.ndarray:
    """Pictures that end in black of their own right."""
    pixels = plate()
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    inside = {
        "letterbox": rows < 100,
        "black": rows < 0,
        "disc": (rows - 60) ** 2 + (columns - 100) ** 2 < 50**2,
        "slope": columns < 180 - rows,
        "pillar": columns < 150,
    }[draw]
    return pixels * inside[..., None].astype(np.uint8)


@pytest.mark.parametrize("draw", ["letterbox", "black", "disc", "slope", "pillar"])
@pytest.mark.parametrize(("name", "kind", "compression"), STORED)
def test_black_at_the_end_of_a_picture_is_no_damage(tmp_path, name, kind, compression, draw):
    path = tmp_path / name
    store(path, shape(draw), kind, compression)
    read_frame(path)
    check_frame(path)


# ------------------------------------------------------------------------------ promises of headers


def png_of_black(width: int, height: int) -> bytes:
    """The header of a PNG, which is all that may be read of it, and a thousandth of its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    body = bytes(3 * width * height // 1000)
    return start + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_small_file_that_claims_gigabytes_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of_black(30_000, 15_000))
    assert path.stat().st_size < 4_000_000
    for read in (read_header, read_frame, lambda p: load_image_batch([p])):
        with pytest.raises(FrameReadError, match=r"claim to be 1\.4 GB of pixels"):
            read(path)


def test_a_black_picture_of_usual_size_is_no_bomb(tmp_path):
    path = tmp_path / "black.png"
    path.write_bytes(png_of_black(8192, 4320))
    assert read_header(path).width == 8192


def many_channels(count: int) -> bytes:
    """An uncompressed EXR of one row with so many channels."""
    names = sorted(f"layer{i:05}.R".encode() for i in range(count))
    listed = b"".join(name + b"\0" + struct.pack("<iiii", 1, 0, 1, 1) for name in names) + b"\0"
    box = struct.pack("<4i", 0, 0, 3, 0)

    def attribute(name: bytes, kind: bytes, value: bytes) -> bytes:
        return name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value

    header = (
        struct.pack("<II", 20000630, 2)
        + attribute(b"channels", b"chlist", listed)
        + attribute(b"compression", b"compression", b"\0")
        + attribute(b"dataWindow", b"box2i", box)
        + attribute(b"displayWindow", b"box2i", box)
        + attribute(b"lineOrder", b"lineOrder", b"\0")
        + attribute(b"pixelAspectRatio", b"float", struct.pack("<f", 1))
        + attribute(b"screenWindowCenter", b"v2f", bytes(8))
        + attribute(b"screenWindowWidth", b"float", struct.pack("<f", 1))
        + b"\0"
    )
    row = count * 4 * 2
    chunk = struct.pack("<ii", 0, row) + bytes(row)
    return header + struct.pack("<Q", len(header) + 8) + chunk


def test_an_exr_of_many_thousand_channels_is_refused_at_once(tmp_path):
    path = tmp_path / "a.exr"
    path.write_bytes(many_channels(60_000))
    started = time.process_time()
    for read in (read_header, read_frame, check_frame):
        with pytest.raises(FrameReadError, match="more than 1024 channels"):
            read(path)
    # OpenEXR takes minutes for it on any processor; only that would break this bound.
    assert time.process_time() - started < 20


def test_an_exr_with_the_channels_of_a_large_render_is_read(tmp_path):
    path = tmp_path / "a.exr"
    path.write_bytes(many_channels(900))
    assert read_frame(path, layer="layer00007").pixels.shape == (1, 4, 1)


def test_a_data_window_beyond_the_size_limit_is_refused(tmp_path):
    data = bytearray(many_channels(3))
    at = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    data[at : at + 16] = struct.pack("<4i", 0, 0, 60_000, 60_000)
    (tmp_path / "a.exr").write_bytes(data)
    with pytest.raises(FrameReadError):
        read_frame(tmp_path / "a.exr")


def test_a_piz_that_packing_made_no_smaller_may_end_in_black(tmp_path: Path) -> None:
    matte = np.zeros((40, 52, 1), np.float32)
    matte[30:38] = np.random.default_rng(1).random((8, 52, 1), dtype=np.float32)
    path = tmp_path / "a.exr"
    write_frame(path, matte, Encoding(dtype="float", compression="piz"))
    assert not any(path.read_bytes()[-28:])
    check_frame(path)
