"""DPX in a camera's log, and PNGs of PQ and HLG, through `mattebridge matte` and `clips`.

The files are real ones: a DPX of 10 bits, PNGs of 16 bits with cICP. A picture of light goes into
them, and what comes out is held against the light that their codes stand for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.colour import studio_spaces
from fakes.daemon_process import DaemonProcess
from fakes.places import BRIDGE
from fakes.tagged_pictures import chrm, cicp, display, gama, iccp, png
from mattebridge.color import srgb_encode, to_float
from mattebridge.image_io import Encoding, read_frame, read_header, write_frame
from mattebridge.ocio.primaries import ADOBE_RGB, P3_D65, REC709

pytestmark = pytest.mark.slow

LOGC, PQ, HLG = "ARRI LogC3 (EI800)", "pq_rec2020_display", "hlg_rec2020_display"
NUMBERS = {PQ: (9, 16, 0, 1), HLG: (9, 18, 0, 1)}
# 203 cd/m2 in units of 100: reference white of HDR video.
WHITE = 2.03
SUBJECT, AROUND = (20, 27), (3, 3)
EXACT = ("--model", "difference", "--alignment", "off", "--foreground", "unmix")
# What `clips` has on by itself and `matte` has not.
WITHOUT = ("--no-auto-despeckle", "--no-source-passthrough")
OF_CLIPS = ("--model", "difference", "--alignment", "off", "--despill-strength", "0")


def pair(white: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Plate and clean plate as Rec. 709 light: white in front of a grey with noise."""
    noise = np.random.default_rng(3).random((40, 56, 3), np.float32) * 0.02
    clean_plate = (0.25 + noise) * np.float32(white)
    plate = clean_plate.copy()
    plate[10:30, 15:40] = white
    return plate, clean_plate


def codes_of(light: np.ndarray, space: str) -> np.ndarray:
    config = studio_spaces().config
    return np.clip(config.of_light(light, config.find(space), exact=True), 0, 1)


def write_dpx(path: Path, light: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its values as they are: LogC.
    codes = codes_of(light, LOGC)
    write_frame(path, codes, Encoding(colorspace="srgb", alpha="opaque"))


def write_png(path: Path, light: np.ndarray, space: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    codes = np.round(codes_of(light, space) * 65535).astype(np.uint16)
    png(path.parent, cicp(*NUMBERS[space]), pixels=codes, name=path.name)


def light_in(path: Path, space: str) -> np.ndarray:
    """The light that the codes of a file stand for, by OpenColorIO."""
    config = studio_spaces().config
    return config.light_of(to_float(read_frame(path).rgb), config.find(space), exact=True)


def run(daemon: DaemonProcess, command: str, *words: object) -> Any:
    line = [sys.executable, "-m", "mattebridge", command, *map(str, words), "--no-spawn"]
    return subprocess.run(
        [*line, "--instance", str(daemon.folder)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(BRIDGE)},
    )


def the_file(folder: Path) -> Path:
    (path,) = (path for path in folder.iterdir() if not path.name.endswith("jsonl"))
    return path


def off_the_plate(premultiplied: np.ndarray, plate: np.ndarray, clean: np.ndarray) -> float:
    """How far the result over the clean plate is off the plate, of the larger of both."""
    alpha = premultiplied[..., 3:].astype(np.float32)
    again = premultiplied[..., :3] + (1 - alpha) * clean
    largest = np.maximum(np.abs(plate).max(-1, keepdims=True), 1)
    return float((np.abs(again - plate) / largest)[alpha[..., 0] >= 1 / 1024].max())


@pytest.fixture
def dpx(tmp_path: Path) -> tuple[Path, Path]:
    for name, light in zip(("plate", "clean"), pair()):
        write_dpx(tmp_path / f"{name}.0007.dpx", light)
    return tmp_path / "plate.0007.dpx", tmp_path / "clean.0007.dpx"


def test_a_dpx_in_log_becomes_light_and_a_dpx_for_displays(
    shared_daemon: DaemonProcess, dpx: tuple[Path, Path], tmp_path: Path
) -> None:
    plate, clean = dpx
    codes = to_float(read_frame(plate).rgb)
    # In steps of 10 bits.
    assert np.abs(codes * 1023 - np.round(codes * 1023)).max() < 0.02
    assert np.abs(codes - codes_of(pair()[0], LOGC)).max() < 0.51 / 1023
    words = (tmp_path / "plate.####.dpx", "--clean-plate", clean, *EXACT)
    untold = run(shared_daemon, "matte", *words, "-o", tmp_path / "untold")
    assert untold.returncode == 2
    assert "does not name its colour space; give --input-space" in untold.stderr
    out = ("--format", "exr-float,comp=dpx10", "--outputs", "premultiplied,comp")
    told = (*words, "--input-space", LOGC, *out, "--background", "0.18,0.18,0.18")
    made = run(shared_daemon, "matte", *told, "-o", tmp_path / "out")
    assert made.returncode == 0, made.stderr
    path = the_file(tmp_path / "out" / "premultiplied")
    assert read_header(path).colorspace == "linear"
    result, light = read_frame(path).pixels, light_in(plate, LOGC)
    assert off_the_plate(result, light, light_in(clean, LOGC)) <= 1e-4
    comp = to_float(read_frame(the_file(tmp_path / "out" / "comp")).rgb)
    over = result[..., :3] + (1 - result[..., 3:]) * np.float32(0.18)
    # Half of a 10-bit code, and rounding.
    assert np.abs(comp - np.clip(srgb_encode(over), 0, 1)).max() < 0.6 / 1023
    log = run(
        shared_daemon, "matte", *words, "--input-space", LOGC, "--output-colorspace", LOGC,
        "--outputs", "comp", "--format", "dpx10", "-o", tmp_path / "log",
    )  # fmt: skip
    assert log.returncode == 2
    assert "dpx10 holds sRGB pixels; choose exr" in log.stderr


@pytest.mark.parametrize("space", [PQ, HLG])
def test_an_hdr_png_is_found_by_its_cicp_and_comes_out_as_light_codes_and_a_display_picture(
    shared_daemon: DaemonProcess, tmp_path: Path, space: str
) -> None:
    for name, light in zip(("plate", "clean"), pair(WHITE)):
        write_png(tmp_path / f"{name}.0007.png", light, space)
    plate, clean = (light_in(tmp_path / f"{name}.0007.png", space) for name in ("plate", "clean"))
    assert np.abs(plate[SUBJECT] - WHITE).max() < 2e-3
    words = (tmp_path / "plate.####.png", "--clean-plate", tmp_path / "clean.0007.png", *EXACT)
    out = ("--format", "exr-float,comp=png16", "--outputs", "premultiplied,comp")
    made = run(
        shared_daemon, "matte", *words, *out, "--background", "1,1,1", "-o", tmp_path / "out"
    )
    assert made.returncode == 0, made.stderr
    assert f"the plate is in {space}" in made.stdout + made.stderr
    path = the_file(tmp_path / "out" / "premultiplied")
    assert read_header(path).colorspace == "linear"
    assert off_the_plate(read_frame(path).pixels, plate, clean) <= 1e-4
    # White over white, for displays: one white all over, in a file that says it is sRGB.
    comp = the_file(tmp_path / "out" / "comp")
    assert b"cICP\x01\x0d\x00\x01" in comp.read_bytes()
    assert read_header(comp).colorspace == "srgb"
    shown = read_frame(comp).rgb.astype(int)
    assert np.abs(shown[SUBJECT] - 65535).max() < 200
    assert np.abs(shown[AROUND] - 65535).max() < 200
    # The same space out, by its name: codes of PQ or HLG in an EXR that says so.
    back = ("--output-colorspace", space, "--format", "exr-float", "-o", tmp_path / "back")
    made = run(shared_daemon, "matte", *words, *back)
    assert made.returncode == 0, made.stderr
    path = the_file(tmp_path / "back" / "premultiplied")
    config, named = studio_spaces().config, read_header(path).colorspace
    assert config.find(named) == config.find(space)
    pixels = read_frame(path).pixels
    light = config.light_of(np.ascontiguousarray(pixels[..., :3]), config.find(space), exact=True)
    assert off_the_plate(np.dstack([light, pixels[..., 3:]]), plate, clean) <= 1e-4


def test_plates_of_two_whites_in_one_job_have_each_its_own(
    shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    """Frame 1 is HLG, frame 2 an ordinary PNG of the same scene: white is white in both."""
    (hdr, hdr_clean), (sdr, sdr_clean) = pair(WHITE), pair()
    for name, of_hdr, of_sdr in (("plate", hdr, sdr), ("clean", hdr_clean, sdr_clean)):
        write_png(tmp_path / f"{name}.0001.png", of_hdr, HLG)
        write_frame(tmp_path / f"{name}.0002.png", of_sdr, Encoding(dtype="uint16"))
    words = (tmp_path / "plate.####.png", "--clean-plate", tmp_path / "clean.####.png", *EXACT)
    out = ("--outputs", "foreground,premultiplied,comp", "--background", "1,1,1")
    form = ("--format", "exr-float,premultiplied=png16,comp=png16")
    made = run(shared_daemon, "matte", *words, *out, *form, "-o", tmp_path / "out")
    assert made.returncode == 0, made.stderr
    for frame, white in ((1, WHITE), (2, 1.0)):
        # Light is what OpenColorIO has; for displays white is white.
        light = read_frame(tmp_path / f"out/foreground/plate.{frame:04}.exr").pixels
        assert np.abs(light[SUBJECT] - white).max() < 2e-3
        for output in ("premultiplied", "comp"):
            shown = read_frame(tmp_path / f"out/{output}/plate.{frame:04}.png").rgb.astype(int)
            assert np.abs(shown[SUBJECT] - 65535).max() < 200, (frame, output)
        assert np.abs(shown[AROUND] - 65535).max() < 200, frame


@pytest.mark.parametrize("space", [LOGC, PQ, HLG])
def test_clips_of_dpx_and_of_hdr_pngs_give_the_pixels_of_matte(
    shared_daemon: DaemonProcess, tmp_path: Path, space: str
) -> None:
    clip, white = tmp_path / "clips" / "shot", 1.0 if space == LOGC else WHITE
    for folder, light in zip(("Input", "CleanPlate"), pair(white)):
        if space == LOGC:
            write_dpx(clip / folder / "a.0007.dpx", light)
        else:
            write_png(clip / folder / "a.0007.png", light, space)
    told = ("--input-space", LOGC) if space == LOGC else ()
    out = ("--outputs", "foreground,premultiplied,comp", "--format", "exr-float,comp=png16")
    if space == LOGC:
        untold = run(shared_daemon, "clips", tmp_path / "clips", *OF_CLIPS, *WITHOUT)
        assert untold.returncode == 2
        assert "does not name its colour space; give --input-space" in untold.stderr
    made = run(shared_daemon, "clips", tmp_path / "clips", *told, *out, *OF_CLIPS, *WITHOUT)
    assert made.returncode == 0, made.stderr
    folder = clip / "Output"
    assert np.abs(read_frame(the_file(folder / "fg")).pixels[SUBJECT] - white).max() < 0.01 * white
    shown = read_frame(the_file(folder / "comp")).rgb.astype(int)
    assert np.abs(shown[SUBJECT] - 65535).max() < 500
    alone = run(
        shared_daemon, "matte", clip / "Input", "--clean-plate", clip / "CleanPlate", *told,
        "--outputs", "foreground,premultiplied,comp", "--format", "exr-float,comp=png16",
        "--background", "checker:128", *OF_CLIPS, "-o", tmp_path / "alone",
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    its = {"fg": "foreground", "processed": "premultiplied", "comp": "comp"}
    for ours, theirs in its.items():
        one, other = the_file(folder / ours), the_file(tmp_path / "alone" / theirs)
        assert np.array_equal(read_frame(one).pixels, read_frame(other).pixels), ours


PROPHOTO = (0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, 0.3457, 0.3585)
ODD_TAGS = {
    # Contradicting: the first of the PNG specification counts.
    "pq and a profile of sRGB": ((cicp(9, 16), iccp(display(REC709))), PQ),
    # A name says nothing: this profile calls itself Test, and is linear.
    "a linear profile": ((iccp(display(REC709, "lin", "gamma")),), "lin_rec709_scene"),
    "a profile of Adobe RGB": ((iccp(display(ADOBE_RGB, "g22", "table")),), "g22_adobergb_scene"),
    "cHRM of P3": ((gama(2.2), chrm(P3_D65)), "srgb_p3d65_scene"),
    # The library that reads PNGs leaves out what is no profile.
    "a damaged profile": ((iccp(b"no profile"),), "srgb_tx"),
    "a profile that no config has": ((iccp(display(PROPHOTO, "g18")),), "srgb_tx"),
}


@pytest.mark.parametrize("kind", ODD_TAGS)
def test_a_png_with_odd_tags_gives_the_light_that_its_codes_stand_for(
    shared_daemon: DaemonProcess, tmp_path: Path, kind: str
) -> None:
    chunks, space = ODD_TAGS[kind]
    codes = np.random.default_rng(1).integers(20_000, 30_000, (40, 56, 3), np.uint16)
    png(tmp_path, *chunks, pixels=codes, name="clean.0007.png")
    codes[10:30, 15:40] = (50_000, 8_000, 12_000)
    png(tmp_path, *chunks, pixels=codes, name="plate.0007.png")
    words = (tmp_path / "plate.####.png", "--clean-plate", tmp_path / "clean.0007.png", *EXACT)
    made = run(
        shared_daemon, "matte", *words, "--output-colorspace", " ACEScg", "--format", "exr-float",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert ("is not known here" in made.stdout + made.stderr) == ("no config" in kind)
    config = studio_spaces().config
    plate, clean = (
        config.convert(
            to_float(read_frame(tmp_path / f"{name}.0007.png").rgb),
            config.find(space),
            "ACEScg",
            exact=True,
        )
        for name in ("plate", "clean")
    )
    result = read_frame(the_file(tmp_path / "out" / "premultiplied")).pixels
    assert off_the_plate(result, plate, clean) <= 1e-4


@pytest.mark.parametrize(
    ("name", "what"), [("Raw", "data"), ("Un-tone-mapped", "a view"), ("ARRI LogC", "no colour")]
)
def test_a_name_that_is_no_space_ends_a_job_with_one_sentence(
    shared_daemon: DaemonProcess, tmp_path: Path, name: str, what: str
) -> None:
    for folder, picture in zip(("Input", "CleanPlate"), pair()):
        write_dpx(tmp_path / "clips" / "shot" / folder / "a.0007.dpx", picture)
    plate, clean = (tmp_path / "clips" / "shot" / f / "a.0007.dpx" for f in ("Input", "CleanPlate"))
    matte = ("matte", plate, "--clean-plate", clean, "-o", tmp_path / "out")
    clips = ("clips", tmp_path / "clips", "--model", "difference")
    for command in (matte, clips):
        refused = run(shared_daemon, *command, "--input-space", name)
        assert refused.returncode == 2
        assert f"--input-space '{name}'" in refused.stderr
        assert f"is {what}" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    results = run(shared_daemon, *matte, "--input-space", LOGC, "--output-colorspace", name)
    assert results.returncode == 2
    assert f"--output-colorspace '{name}' is {what}" in results.stderr
