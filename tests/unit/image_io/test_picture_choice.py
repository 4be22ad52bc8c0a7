"""Which channels of a file are the picture: colours only, one reader for header and pixels."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses
import pytest

from mattebridge.errors import FrameReadError
from mattebridge.image_batch import load_image_batch
from mattebridge.image_io import read_frame, read_header, read_matte

SIDE = 4


def write_parts(path: Path, *parts: tuple[str, tuple[str, ...]]) -> Path:
    """An EXR of parts, each a name and its channels; the n-th channel of all has the value n."""
    specs, value = [], 0
    for name, channels in parts:
        spec = oiio.ImageSpec(SIDE, SIDE, len(channels), "half")
        spec.channelnames = channels
        if name:
            spec.attribute("oiio:subimagename", name)
        specs.append(spec)
    target = oiio.ImageOutput.create(str(path))
    assert target.open(str(path), specs if len(specs) > 1 else specs[0]), target.geterror()
    for number, spec in enumerate(specs):
        if number:
            assert target.open(str(path), spec, "AppendSubimage")
        values = np.arange(value, value + spec.nchannels, dtype=np.float32)
        value += spec.nchannels
        assert target.write_image(np.broadcast_to(values, (SIDE, SIDE, len(values))).copy())
    target.close()
    return path


def write_channels(path: Path, *channels: str) -> Path:
    return write_parts(path, ("", channels))


def values(path: Path, **options) -> list[float]:
    return read_frame(path, **options).pixels[0, 0].tolist()


@pytest.mark.parametrize("extra", ["Z", "A", "id", "Y2"])
def test_a_bare_channel_that_is_no_colour_is_not_the_picture(tmp_path, extra):
    path = write_channels(tmp_path / "a.exr", extra, "beauty.R", "beauty.G", "beauty.B")
    names = oiio.ImageInput.open(str(path)).spec().channelnames
    assert values(path) == [float(names.index(f"beauty.{c}")) for c in "RGB"]
    assert read_header(path).channels == ("R", "G", "B")


def test_several_layers_in_colour_are_named_and_one_is_read_by_its_name(tmp_path):
    channels = ("View.Combined.R", "View.Combined.G", "View.Combined.B", "View.Depth.Z")
    channels += ("View.Diffuse.R", "View.Diffuse.G", "View.Diffuse.B")
    path = write_channels(tmp_path / "a.exr", *channels)
    with pytest.raises(FrameReadError, match=r"View\.Combined, View\.Depth, View\.Diffuse;.*--lay"):
        read_frame(path)
    assert values(path, layer="View.Combined") == [0.0, 1.0, 2.0]
    assert values(path, layer="View.Depth") == [3.0]
    with pytest.raises(FrameReadError, match=r"no layer 'View'; it holds: View\.Combined"):
        read_frame(path, layer="View")


def test_a_layer_without_a_picture_says_what_it_has(tmp_path):
    path = write_channels(tmp_path / "a.exr", "R", "G", "B", "motion.u", "motion.v")
    assert values(path) == [0.0, 1.0, 2.0]
    with pytest.raises(FrameReadError, match="'motion' has no R, G, B or A but u, v"):
        read_frame(path, layer="motion")


def test_the_part_in_colour_is_the_picture_wherever_it_stands(tmp_path):
    path = write_parts(tmp_path / "a.exr", ("depth", ("Z",)), ("beauty", ("R", "G", "B")))
    assert values(path) == [1.0, 2.0, 3.0]
    assert values(path, layer="depth") == [0.0]
    assert read_header(path).layers == ("beauty", "depth")


@pytest.mark.parametrize("main", ["rgba", "other"])
def test_of_several_parts_in_colour_only_one_called_rgba_is_the_default(tmp_path, main):
    parts = (("left", ("R", "G", "B")), (main, ("R", "G", "B")))
    path = write_parts(tmp_path / "a.exr", *parts)
    assert values(path, layer="left") == [0.0, 1.0, 2.0]
    if main == "rgba":
        assert values(path) == [3.0, 4.0, 5.0]
    else:
        with pytest.raises(FrameReadError, match="left, other"):
            read_frame(path)


def test_a_part_whose_channels_carry_its_name_is_found_by_it(tmp_path):
    parts = (("rgba", ("R", "G", "B")), ("hint", ("hint.A",)))
    path = write_parts(tmp_path / "a.exr", *parts)
    assert read_matte(path, layer="hint")[0, 0].tolist() == [3.0]


def test_a_bare_alpha_beside_a_layer_is_what_a_matte_is(tmp_path):
    path = write_channels(tmp_path / "a.exr", "A", "beauty.R", "beauty.G", "beauty.B")
    names = oiio.ImageInput.open(str(path)).spec().channelnames
    assert read_matte(path)[0, 0].tolist() == [float(names.index("A"))]


@pytest.mark.parametrize("name", ["A", "Y", "matte.A", "Z"])
def test_the_only_channel_of_a_file_is_its_picture(tmp_path, name):
    path = write_channels(tmp_path / "a.exr", name)
    assert values(path) == [0.0]
    assert read_matte(path).shape == (SIDE, SIDE, 1)


# ---------------------------------------------------------------------------------------- Ultra HDR


def ultra_hdr(base: bytes, gain: bytes) -> bytes:
    """A JPEG with a gain map behind it, as ISO 21496-1's predecessor (Ultra HDR 1.1) has it."""

    def segment(number: int, body: bytes) -> bytes:
        return b"\xff" + bytes([0xE0 + number]) + struct.pack(">H", len(body) + 2) + body

    def xmp(attributes: str, inside: str = "") -> bytes:
        return segment(
            1,
            b"http://ns.adobe.com/xap/1.0/\0"
            + (
                '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
                ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
                ' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
                ' xmlns:Container="http://ns.google.com/photos/1.0/container/"'
                ' xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
                f' hdrgm:Version="1.0" {attributes}>{inside}</rdf:Description>'
                "</rdf:RDF></x:xmpmeta>"
            ).encode(),
        )

    gain = (
        gain[:2]
        + xmp('hdrgm:GainMapMin="0" hdrgm:GainMapMax="2" hdrgm:HDRCapacityMax="2"')
        + gain[2:]
    )
    item = '<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" {}/></rdf:li>'
    items = item.format('Item:Semantic="Primary"')
    items += item.format(f'Item:Semantic="GainMap" Item:Length="{len(gain)}"')
    seq = f"<Container:Directory><rdf:Seq>{items}</rdf:Seq></Container:Directory>"
    head = base[:2] + xmp("", seq)
    # The index of pictures (CIPA DC-007): three entries of a directory, then one of each picture.
    size = 4 + 8 + 2 + 3 * 12 + 4 + 2 * 16
    primary = len(head) + 4 + size + len(base) - 2
    directory = struct.pack(">H", 3) + struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
    directory += struct.pack(">HHII", 0xB001, 4, 1, 2) + struct.pack(">HHII", 0xB002, 7, 32, 50)
    entries = struct.pack(">IIIHH", 0x030000, primary, 0, 0, 0)
    entries += struct.pack(">IIIHH", 0, len(gain), primary - len(head) - 8, 0, 0)
    index = b"MPF\0MM\0*" + struct.pack(">I", 8) + directory + bytes(4) + entries
    return head + segment(2, index) + base[2:] + gain


@pytest.fixture
def phone_picture(tmp_path) -> tuple[Path, np.ndarray]:
    """An Ultra HDR photo and the 8-bit picture in it."""
    rng = np.random.default_rng(3)
    pixels = cv2.GaussianBlur(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8), (0, 0), 4)
    base = cv2.imencode(".jpg", pixels)[1].tobytes()
    gain = cv2.imencode(".jpg", np.full((32, 48), 128, np.uint8))[1].tobytes()
    path = tmp_path / "phone.jpg"
    path.write_bytes(ultra_hdr(base, gain))
    source = oiio.ImageInput.open(str(path))
    assert str(source.spec().format) == "half", "OpenImageIO no longer applies the gain map"
    return path, cv2.imdecode(np.frombuffer(base, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_an_ultra_hdr_photo_is_the_eight_bit_picture_that_viewers_show(phone_picture):
    path, pixels = phone_picture
    header, frame = read_header(path), read_frame(path)
    assert (header.dtype, header.channels, header.colorspace) == ("uint8", ("R", "G", "B"), "srgb")
    assert (frame.alpha, frame.colorspace) == ("opaque", "srgb")
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert not [name for name in header.metadata if name.startswith(("hdrgm", "Item"))]


def test_a_batch_takes_ultra_hdr_photos_by_path_and_as_bytes(phone_picture):
    path, pixels = phone_picture
    batch = load_image_batch([path, path.read_bytes()])
    np.testing.assert_array_equal(batch.array, [pixels, pixels])
    small = load_image_batch([path], width=24, height=16, filter="draft")
    assert small.array.shape == (1, 16, 24, 3)


def test_an_ultra_hdr_photo_that_is_damaged_is_refused(phone_picture):
    path, _ = phone_picture
    data = path.read_bytes()
    at = data.rindex(b"\xff\xda", 0, data.rindex(b"\xff\xd8")) + 200
    path.write_bytes(data[:at] + bytes(600) + data[at + 600 :])
    for read in (read_frame, lambda p: load_image_batch([p])):
        with pytest.raises(FrameReadError, match="damaged or cut short"):
            read(path)
