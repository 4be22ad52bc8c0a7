"""The worked examples of docs/colour.md: their commands are read from the page, and run as written.

What stands in for what is not here: the show's config is the studio config as a file, since there
is no /shows; the files have the names and colour spaces that the page says, with small pictures in
them; and Nuke is the one of `fakes/nuke_host.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import pytest

from fakes.colour import studio_spaces
from fakes.host_shot import HostShot
from fakes.nuke_comp import Comp
from fakes.nuke_host import Picture, save
from fakes.places import BRIDGE, ROOT
from mattebridge.image_io import Encoding, read_frame, read_header, write_frame

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "colour.md").read_text()
SHOWS = "/shows/abc/aces/config.ocio"
LOGC, HLG = "ARRI LogC3 (EI800)", "hlg_rec2020_display"
AP1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
EXACT = " --foreground unmix --alignment off --format exr-float"


def example(begins: str) -> tuple[list[str], str]:
    """The commands of an example, one text for each block, and the whole of its text."""
    examples = PAGE.split("## Three examples")[1].split("\n## ")[0]
    (text,) = (part for part in re.split(r"\n(?=\*\*)", examples) if part.startswith(f"**{begins}"))
    blocks = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return [block.replace("\n    ", "\n").strip() for block in blocks], text


class Shell:
    """A folder with a shell, in which `mattebridge` is this one and its daemon nobody else's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._home = folder, Path(tempfile.mkdtemp(prefix="mb-"))
        command = self._home / "mattebridge"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mattebridge "$@"\n')
        command.chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if "OCIO" not in name},
            "PATH": f"{self._home}:{os.environ['PATH']}",
            "PYTHONPATH": str(BRIDGE),
            "MATTEBRIDGE_RUNTIME_DIR": str(self._home / "run"),
            "MATTEBRIDGE_DAEMON_PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
        }

    def run(self, commands: str, *, status: int = 0) -> str:
        """What commands said; they have to end with this status."""
        done = subprocess.run(
            ["bash", "-e", "-c", commands],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def close(self) -> None:
        subprocess.run(
            ["bash", "-c", "mattebridge stop"],
            env=self.environment,
            capture_output=True,
            timeout=60,
        )
        shutil.rmtree(self._home, ignore_errors=True)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    folder = tmp_path / "shot"
    folder.mkdir()
    found = Shell(folder)
    yield found
    found.close()


@pytest.fixture
def show(tmp_path: Path) -> str:
    """The studio config as a file, in place of the show's."""
    ocio = pytest.importorskip("PyOpenColorIO")
    config = ocio.Config.CreateFromFile("ocio://studio-config-v2.1.0_aces-v1.3_ocio-v2.3")
    path = tmp_path / "config.ocio"
    path.write_text(config.serialize())
    return str(path)


def pair() -> tuple[np.ndarray, np.ndarray]:
    """Plate and clean plate as ACEScg light: red that Rec. 709 does not have, and a lamp."""
    clean_plate = np.random.default_rng(3).random((90, 120, 3), np.float32) * 0.3 + 0.2
    plate = clean_plate.copy()
    plate[20:70, 30:80] = (0.9, 0.03, 0.1)
    plate[30:34, 40:44] = 3.0
    return plate, clean_plate


def write_pair(folder: Path, plate: str, clean: str, space: str, **encoding: Any) -> None:
    """The pair as half EXRs in a space of the config."""
    config = studio_spaces().config
    for name, light in zip((plate, clean), pair()):
        pixels = config.convert(light, "ACEScg", config.find(space))
        write_frame(folder / name, pixels, Encoding(alpha="opaque", dtype="float", **encoding))


def over_the_clean_plate(path: Path) -> np.ndarray:
    pixels = read_frame(path).pixels.astype(np.float32)
    return pixels[..., :3] + (1 - pixels[..., 3:]) * pair()[1]


def solid(path: Path) -> np.ndarray:
    return read_frame(path).pixels[..., 3] >= 1 / 1024


def test_the_page_has_these_examples() -> None:
    examples = PAGE.split("## Three examples")[1].split("\n## ")[0]
    assert len(re.findall(r"^\*\*", examples, re.MULTILINE)) == 3
    assert [len(example(b)[0]) for b in ("An ACEScg comp", "LogC", "A video")] == [2, 1, 1]


def test_an_acescg_shot_with_the_config_of_the_show(shell: Shell, show: str) -> None:
    (serve, matte), _ = example("An ACEScg comp in Nuke")
    assert SHOWS in serve
    serve = serve.replace(SHOWS, show)
    write_pair(shell.folder, "plate.1001.exr", "clean.exr", "ACEScg")
    shell.run(f"{serve}\n{matte}")
    made = shell.folder / "mattes" / "premultiplied" / "plate.1001.exr"
    header = read_header(made)
    assert header.metadata["chromaticities"] == pytest.approx(AP1, abs=1e-6)
    assert header.colorspace in ("ACEScg", "lin_ap1_scene")
    status = shell.run("mattebridge status")
    assert show in status
    # "With Foreground from unmix, over the clean plate they are the plate again, to 1e-4."
    export = serve.splitlines()[0]
    shell.run(f"{export}\n{matte.replace('-o mattes', '-o exact')}{EXACT}")
    exact = shell.folder / "exact" / "premultiplied" / "plate.1001.exr"
    off = np.abs(over_the_clean_plate(exact) - pair()[0])
    assert off[solid(exact)].max() <= 1e-4
    # "EXRs whose header says ACEScg need no --input-space".
    write_pair(
        shell.folder, "plate.1001.exr", "clean.exr", "ACEScg", metadata={"chromaticities": AP1}
    )
    untold = matte.replace("--input-space scene_linear ", "").replace("-o mattes", "-o found")
    assert untold != matte.replace("-o mattes", "-o found")
    shell.run(f"{export}\n{untold}{EXACT}")
    found = shell.folder / "found" / "premultiplied" / "plate.1001.exr"
    assert np.array_equal(read_frame(found).pixels, read_frame(exact).pixels)


def test_the_same_in_nuke(make_comp: Callable[..., Comp], tmp_path: Path) -> None:
    _, text = example("An ACEScg comp in Nuke")
    assert "has the script's working space in **Space**" in text
    for name, light in zip(("plate.main.0001", "clean"), pair()):
        channels = {f"rgba.{c}": light[..., i] for i, c in enumerate(("red", "green", "blue"))}
        save(tmp_path / f"{name}.exr", Picture(channels, (0, 0, 120, 90), 120, 90))
    files = (f"{tmp_path}/plate.%V.%04d.exr", f"{tmp_path}/clean.exr", "")
    comp = make_comp(HostShot(*files, 120, 90))
    root = comp.host.module.root()
    root["colorManagement"].setValue("OCIO")
    root["workingSpaceLUT"].setValue("scene_linear (ACES - ACEScg)")
    space = comp.tool.create()["space"].value()
    assert space == "ACES - ACEScg"
    # That node's own space, on the node that has the shot; floats, so that 1e-4 can be seen.
    for knob, value in {
        "space": space, "foreground": "unmix", "alignment": "off", "precision": "32 bit float",
    }.items():  # fmt: skip
        comp.node[knob].setValue(value)
    comp.range(1, 1)
    picture = comp.frame(1).channels
    rgba = [picture[f"rgba.{name}"] for name in ("red", "green", "blue", "alpha")]
    premultiplied, alpha = np.stack(rgba[:3], -1), rgba[3][..., None]
    off = np.abs(premultiplied + (1 - alpha) * pair()[1] - pair()[0])
    assert off[alpha[..., 0] >= 1 / 1024].max() <= 1e-4


def test_logc_plates_on_a_farm(shell: Shell) -> None:
    (matte,), text = example("LogC plates on a farm")
    write_pair(shell.folder, "A003C005.0101.exr", "A003_clean.exr", LOGC)
    shell.run(matte)
    made = shell.folder / "mattes" / "premultiplied" / "A003C005.0101.exr"
    assert read_header(made).metadata["chromaticities"] == pytest.approx(AP1, abs=1e-6)
    shell.run(matte.replace("-o mattes", "-o exact") + EXACT)
    exact = shell.folder / "exact" / "premultiplied" / "A003C005.0101.exr"
    off = np.abs(over_the_clean_plate(exact) - pair()[0])
    assert off[solid(exact)].max() <= 1e-4
    # "Nothing on the farm may guess", "another config is refused".
    assert "another config is refused" in text
    other = f"export OCIO=ocio://cg-config-latest\n{matte.replace('-o mattes', '-o other')}"
    said = shell.run(other.replace(LOGC, "ACEScg"), status=2)
    assert "set OCIO alike for both" in said


def write_phone_video(path: Path, light: np.ndarray) -> None:
    """A 10-bit HEVC of HLG with BT.2020 primaries and its tags, as phones make them."""
    av = pytest.importorskip("av")
    config = studio_spaces().config
    codes = np.clip(config.convert(light, "ACEScg", config.find(HLG)), 0, 1)
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx265", rate=30)
        stream.width, stream.height, stream.pix_fmt = 120, 90, "yuv420p10le"
        stream.options = {"crf": "1", "x265-params": "bframes=0:log-level=none"}
        rgb = av.VideoFrame.from_ndarray(
            np.round(codes * 65535).astype(np.uint16), format="rgb48le"
        )
        # 9: BT.2020, both of its primaries and of its matrix.
        frame = rgb.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
        for tagged in (stream.codec_context, frame):
            tagged.color_primaries, tagged.color_trc, tagged.colorspace = 9, 18, 9
            tagged.color_range = 1
        for index in range(2):
            frame.pts = index
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


def test_a_video_from_a_phone(shell: Shell) -> None:
    (matte,), text = example("A video from a phone")
    # Reference white, 203 cd/m2, in front of a mid grey.
    clean = np.full((90, 120, 3), 0.25 * 2.03, np.float32)
    plate = clean.copy()
    plate[20:70, 30:80] = 2.03
    write_phone_video(shell.folder / "IMG_0042.mov", plate)
    write_phone_video(shell.folder / "IMG_0043.mov", clean)
    said = shell.run(matte)
    assert "The plate is reported as `hlg_rec2020_display`" in text
    assert f"the plate is in {HLG}" in said
    subject = (45, 55)
    first, *_ = sorted((shell.folder / "out" / "premultiplied").iterdir())
    assert read_header(first).colorspace == "linear"
    assert "chromaticities" not in read_header(first).metadata
    # 10-bit codes of HLG are 0.8 % of light apart there, and the codec is not lossless.
    assert np.abs(read_frame(first).pixels[subject] - [2.03, 2.03, 2.03, 1]).max() < 0.08
    av = pytest.importorskip("av")
    (comp,) = (shell.folder / "out" / "comp").iterdir()
    with av.open(str(comp)) as video:
        frame = next(video.decode(video=0))
    assert (int(frame.color_primaries), int(frame.color_trc)) == (1, 1)
    assert np.abs(frame.to_ndarray(format="rgb24")[subject].astype(int) - 255).max() < 6
    # "With --output-colorspace "Linear Rec.2020" the EXRs keep the phone's primaries."
    option = re.search(r'With `(--output-colorspace "[^"]+")`', text)
    assert option is not None
    shell.run(matte.replace("-o out", f"-o wide {option[1]}"))
    first, *_ = sorted((shell.folder / "wide" / "premultiplied").iterdir())
    rec2020: Optional[Any] = read_header(first).metadata["chromaticities"]
    assert rec2020 == pytest.approx((0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329))
