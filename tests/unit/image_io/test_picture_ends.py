"""Encoded pictures that were cut, as an encoder without room leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mattebridge.errors import FrameWriteError
from mattebridge.image_io import Encoding, write
from mattebridge.image_io.picture_ends import is_whole

PIXELS = np.random.default_rng(3).random((37, 53, 3)).astype(np.float16)
CODES = (PIXELS * 255).astype(np.uint8)
EXR = ("none", "rle", "zips", "zip", "piz", "pxr24", "dwaa", "dwab")
KINDS = {
    **{f"exr {codec}": ("a.exr", PIXELS, Encoding(compression=codec)) for codec in EXR},
    "exr float": ("a.exr", PIXELS.astype(np.float32), Encoding(dtype="float32")),
    "dpx": ("a.dpx", CODES, Encoding(colorspace="srgb")),
    "tiff": ("a.tif", CODES, Encoding(colorspace="srgb")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_whole_to_its_last_byte_and_not_a_byte_before(kind: str) -> None:
    name, pixels, encoding = KINDS[kind]
    encoded = write.encode_frame(name, pixels, encoding)
    form = {"exr": "openexr", "dpx": "dpx", "tif": "tiff"}[name.rpartition(".")[2]]
    assert is_whole(encoded, form)
    for length in (len(encoded) - 1, len(encoded) // 2, 400, 40, 9, 0):
        assert not is_whole(encoded[:length], form)


@pytest.mark.parametrize("name", ["a.exr", "a.dpx", "a.tif"])
def test_what_an_encoder_has_cut_without_a_word_is_an_error_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole = write._through_memory
    monkeypatch.setattr(write, "_through_memory", lambda *given: whole(*given)[:-500])
    pixels = PIXELS if name == "a.exr" else CODES
    with pytest.raises(FrameWriteError, match="no room to encode it"):
        write.write_frame(tmp_path / name, pixels, Encoding(colorspace="srgb"))
    assert not list(tmp_path.iterdir())
