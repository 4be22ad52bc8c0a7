"""The scratch EXR codec against OpenImageIO, hostile headers, and the scratch folders."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from mattebridge.errors import FrameReadError, FrameWriteError
from mattebridge.hosts import scratch, store
from mattebridge.hosts.exr import read_exr, write_exr
from mattebridge.wire import oslayer

RANDOM = np.random.default_rng(5)


def write_with_oiio(
    path: Path, channels: dict[str, Any], *, kind: str = "float", **attributes: Any
) -> None:
    names = list(channels)
    height, width = channels[names[0]].shape
    spec = oiio.ImageSpec(width, height, len(names), kind)
    spec.channelnames = tuple(names)
    attributes.setdefault("compression", "none")
    for name, value in attributes.items():
        if name in ("x", "y", "full_x", "full_y", "full_width", "full_height", "tile_width"):
            setattr(spec, name, value)
        else:
            spec.attribute(name, value)
    if attributes.get("tile_width"):
        spec.tile_height = attributes["tile_width"]
    output = oiio.ImageOutput.create(str(path))
    assert output.open(str(path), spec), oiio.geterror()
    pixels = np.stack([channels[name] for name in names], axis=-1).astype(np.float32)
    assert output.write_image(pixels), output.geterror()
    output.close()


def noise(*names: str, size: tuple[int, int] = (13, 17)) -> dict[str, Any]:
    return {name: RANDOM.normal(size=size).astype(np.float32) for name in names}


@pytest.mark.parametrize("kind", ["half", "float"])
def test_what_oiio_writes_is_read_bit_for_bit(tmp_path: Path, kind: str) -> None:
    channels = noise("R", "G", "B", "A", "foreground.R", "matte.A")
    path = tmp_path / "a.exr"
    write_with_oiio(
        path, channels, kind=kind, x=-3, y=5, full_x=0, full_y=0, full_width=20, full_height=30,
        PixelAspectRatio=2.0,
    )  # fmt: skip
    image = read_exr(path)
    assert image.data_window == (-3, 5, 17, 13)
    assert image.display_window == (0, 0, 20, 30)
    assert image.pixel_aspect == 2.0
    for name, plane in channels.items():
        expected = plane.astype(np.float16 if kind == "half" else np.float32)
        np.testing.assert_array_equal(image.channels[name], expected)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_we_write_is_read_by_oiio_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    channels = noise("R", "G", "B", "A", "foreground.R", "foreground.G", "foreground.B", "matte.A")
    path = tmp_path / "b.exr"
    write_exr(
        path, channels, dtype=dtype, data_window=(-4, -2, 17, 13), display_window=(0, 0, 9, 8),
        pixel_aspect=0.5, texts={"mattebridge:model": "difference"},
    )  # fmt: skip
    source = oiio.ImageInput.open(str(path))
    spec = source.spec()
    assert (spec.x, spec.y, spec.full_width, spec.full_height) == (-4, -2, 9, 8)
    assert spec.get_float_attribute("PixelAspectRatio") == 0.5
    assert spec.get_string_attribute("mattebridge:model") == "difference"
    pixels = source.read_image("float")
    source.close()
    for index, name in enumerate(spec.channelnames):
        expected = channels[name].astype(dtype).astype(np.float32)
        np.testing.assert_array_equal(pixels[..., index], expected)
    assert os.listdir(tmp_path) == ["b.exr"]


def test_a_region_is_cut_by_origin_and_black_outside(tmp_path: Path) -> None:
    channels = noise("A", size=(4, 6))
    path = tmp_path / "c.exr"
    write_exr(path, channels, data_window=(2, -1, 6, 4), display_window=(0, 0, 5, 5))
    plane = read_exr(path).plane("A", (0, 0, 5, 5))
    np.testing.assert_array_equal(plane[:3, 2:], channels["A"][1:, :3])
    assert not plane[:, :2].any()
    assert not plane[3:].any()


def test_highlights_beyond_half_stay_finite(tmp_path: Path) -> None:
    path = tmp_path / "d.exr"
    write_exr(path, {"R": np.full((1, 1), 1e6, np.float32)}, dtype="float16")
    assert read_exr(path).channels["R"][0, 0] == 65504


@pytest.mark.parametrize("compression", ["rle", "zips", "zip", "piz"])
def test_a_compressed_file_is_refused_by_name(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "e.exr"
    write_with_oiio(path, noise("R"), compression=compression)
    with pytest.raises(FrameReadError, match=f"compression is {compression}, not none"):
        read_exr(path)


def test_a_tiled_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.exr"
    write_with_oiio(path, noise("R", size=(64, 64)), tile_width=16)
    with pytest.raises(FrameReadError, match="tiled"):
        read_exr(path)


def test_every_truncation_and_every_flipped_header_byte_is_an_error_or_a_picture(
    tmp_path: Path,
) -> None:
    path, broken = tmp_path / "g.exr", tmp_path / "h.exr"
    write_exr(path, noise("R", "A", size=(3, 4)))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        broken.write_bytes(whole[:length])
        with pytest.raises(FrameReadError):
            read_exr(broken)
    for at in range(len(whole) - 3 * (8 + 32)):
        for value in (0, 0x7F, 0xFF):
            broken.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                image = read_exr(broken)
            except FrameReadError:
                continue
            assert all(plane.shape == (3, 4) for plane in image.channels.values())


def test_a_header_that_claims_a_huge_picture_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "i.exr"
    write_exr(path, noise("R", size=(3, 4)))
    data = bytearray(path.read_bytes())
    at = data.index(b"dataWindow\0box2i\0") + 17 + 4
    struct.pack_into("<iiii", data, at, 0, 0, 32767, 32767)
    path.write_bytes(data)
    with pytest.raises(FrameReadError, match="whole rows"):
        read_exr(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FrameWriteError, match="it needs 0 MB in"):
        write_exr(tmp_path / "missing" / "a.exr", noise("R"))


def test_a_scratch_folder_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch.ScratchFolder(str(tmp_path)) as folder:
        oslayer.current().check_private(folder.path)
        (folder.path / "plate.exr").write_bytes(b"x")
        assert scratch.sweep(tmp_path) == []
        assert folder.path.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_session_is_swept_and_nobody_elses(tmp_path: Path) -> None:
    code = (
        "import os, sys; from mattebridge.hosts.scratch import ScratchFolder;"
        "print(ScratchFolder(sys.argv[1]).path, flush=True); os._exit(9)"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    killed = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    assert os.path.isdir(killed)
    (tmp_path / "somebody-elses").mkdir()
    with scratch.ScratchFolder(str(tmp_path)):
        assert not os.path.exists(killed)
    assert [path.name for path in tmp_path.iterdir()] == ["somebody-elses"]


def test_the_unfinished_frame_of_a_killed_session_is_swept_from_the_store(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from mattebridge import whole_files;"
        "whole_files.os.fsync = lambda descriptor: os._exit(9);"
        "whole_files.write_whole(Path(sys.argv[1]), b'half')"
    )
    frame = store.frame_file(tmp_path, "key")
    frame.parent.mkdir()
    subprocess.run([sys.executable, "-c", code, str(frame)], check=False)
    assert len(list(frame.parent.iterdir())) == 1
    frame.with_name("other.exr").write_bytes(b"x")
    store.sweep(tmp_path)
    assert [path.name for path in frame.parent.iterdir()] == ["other.exr"]


def test_a_full_scratch_folder_says_where_and_how_much(tmp_path: Path) -> None:
    with scratch.ScratchFolder(str(tmp_path)) as folder:
        with pytest.raises(FrameWriteError, match=r"MB left and one frame needs 1000000000 MB"):
            folder.check_room(10**15)
        folder.check_room(1)


def test_memory_too_small_for_a_frame_is_not_chosen() -> None:
    assert scratch.choose_root(None, 10**18) != scratch.MEMORY_FOLDER
