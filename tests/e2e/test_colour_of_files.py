"""Shots on disk in other colour spaces, through `mattebridge matte` and a real daemon."""

from __future__ import annotations

import json
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
from fakes.tagged_pictures import display
from mattebridge.color import srgb_decode
from mattebridge.image_io import Encoding, read_frame, read_header, write_frame

pytestmark = pytest.mark.slow

LOGC = "ARRI LogC3 (EI800)"
AP1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
COMMAND = (sys.executable, "-m", "mattebridge", "matte")
FIXED = ("--model", "difference", "--alignment", "off", "--foreground", "unmix")


def _pair() -> tuple[np.ndarray, np.ndarray]:
    """Plate and clean plate as ACEScg light."""
    clean_plate = np.random.default_rng(3).random((40, 56, 3), np.float32) * 0.3 + 0.2
    plate = clean_plate.copy()
    plate[10:30, 15:40] = (1.4, 0.02, 0.1)
    return plate, clean_plate


def _write(folder: Path, space: str, **encoding: Any) -> list[str]:
    """The pair as EXRs in a space: the plate's pattern, and the clean plate's option."""
    config = studio_spaces().config
    for name, light in zip(("plate", "clean"), _pair()):
        pixels = config.convert(light, "ACEScg", config.find(space))
        given = Encoding(**{"alpha": "opaque", "dtype": "float", **encoding})
        write_frame(folder / f"{name}.0007.exr", pixels, given)
    return [str(folder / "plate.####.exr"), "--clean-plate", str(folder / "clean.####.exr")]


def _matte(daemon: DaemonProcess, *words: str, **environment: str) -> Any:
    return subprocess.run(
        [*COMMAND, *words, *FIXED, "--no-spawn", "--instance", str(daemon.folder)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(BRIDGE), **environment},
    )


def _the_file(folder: Path, output: str) -> Path:
    (path,) = (folder / output).iterdir()
    return path


def _over_the_clean_plate(path: Path) -> np.ndarray:
    _, clean_plate = _pair()
    pixels = read_frame(path).pixels.astype(np.float32)
    return pixels[..., :3] + (1 - pixels[..., 3:]) * clean_plate


@pytest.mark.parametrize("how", ["tag", "primaries"])
def test_an_acescg_exr_is_found_by_itself_and_its_results_are_acescg(
    shared_daemon: DaemonProcess, tmp_path: Path, how: str
) -> None:
    tagged: dict[str, Any] = {"metadata": {"chromaticities": AP1}}
    if how == "tag":
        tagged = {"colorspace": "ACEScg", "interop_id": "lin_ap1_scene"}
    shot = _write(tmp_path, "ACEScg", **tagged)
    made = _matte(shared_daemon, *shot, "-o", str(tmp_path / "out"), "--format", "exr-float")
    assert made.returncode == 0, made.stderr
    said = [line for line in (made.stdout + made.stderr).splitlines() if "plate is in" in line]
    assert len(said) == 2  # once of the plate, once of the clean plate
    path = _the_file(tmp_path / "out", "premultiplied")
    assert np.abs(_over_the_clean_plate(path) - _pair()[0]).max() <= 1e-4
    header = read_header(path)
    assert header.colorspace in ("lin_ap1_scene", "ACEScg")
    assert header.metadata["chromaticities"] == pytest.approx(AP1, abs=1e-6)
    settings = json.loads(header.metadata["mattebridge:settings"])
    config = studio_spaces().config.described()
    assert settings["color_config"] == config
    assert header.metadata["mattebridge:colorspace"] == "ACEScg"
    assert studio_spaces().config.find(settings["output_colorspace"]) == "ACEScg"


def test_a_log_plate_is_named_and_comes_back_as_light(
    shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    shot = _write(tmp_path, LOGC)
    words = ("--input-space", LOGC, "--format", "exr-float,comp=png16", "--outputs")
    words = (*words, "premultiplied,comp", "--background", "0.18,0.18,0.18")
    linear = _matte(shared_daemon, *shot, "-o", str(tmp_path / "out"), *words)
    assert linear.returncode == 0, linear.stderr
    path = _the_file(tmp_path / "out", "premultiplied")
    assert read_header(path).colorspace == "linear"
    assert "chromaticities" not in read_header(path).metadata
    acescg = _matte(
        shared_daemon, *shot, "-o", str(tmp_path / "aces"), *words[:2], "--output-colorspace",
        "ACEScg", "--format", "exr-float",
    )  # fmt: skip
    assert acescg.returncode == 0, acescg.stderr
    again = _over_the_clean_plate(_the_file(tmp_path / "aces", "premultiplied"))
    assert np.abs(again - _pair()[0]).max() <= 1e-4
    # The comp is a display picture of the same light, whatever the plate was in.
    config = studio_spaces().config
    pixels = read_frame(path).pixels
    expected = pixels[..., :3] + (1 - pixels[..., 3:]) * np.float32(0.18)
    shown = srgb_decode(read_frame(_the_file(tmp_path / "out", "comp")).rgb)
    assert np.abs(shown - np.clip(expected, 0, 1)).max() < 1e-3  # of a 16-bit code
    assert config.knows(LOGC)


def test_results_in_log_are_asked_for_by_name(shared_daemon: DaemonProcess, tmp_path: Path) -> None:
    shot = _write(tmp_path, "ACEScg", colorspace="ACEScg")
    words = ("-o", str(tmp_path / "out"), "--output-colorspace", LOGC, "--format", "exr-float")
    made = _matte(shared_daemon, *shot, *words)
    assert made.returncode == 0, made.stderr
    path = _the_file(tmp_path / "out", "premultiplied")
    assert read_header(path).colorspace == LOGC
    pixels = read_frame(path).pixels
    config = studio_spaces().config
    light = config.convert(pixels[..., :3], LOGC, "ACEScg", exact=True)
    again = light + (1 - pixels[..., 3:]) * _pair()[1]
    assert np.abs(again - _pair()[0]).max() <= 1e-4


def test_what_cannot_be_known_is_asked_for(shared_daemon: DaemonProcess, tmp_path: Path) -> None:
    odd = (0.7, 0.3, 0.2, 0.7, 0.1, 0.05, 0.3127, 0.329)
    shot = _write(tmp_path, "ACEScg", metadata={"chromaticities": odd})
    refused = _matte(shared_daemon, *shot, "-o", str(tmp_path / "out"))
    assert refused.returncode == 2
    assert "has primaries that are of no colour space known here" in refused.stderr
    assert "give --input-space" in refused.stderr
    unknown = _matte(shared_daemon, *shot, "-o", str(tmp_path / "out"), "--input-space", "ACECg")
    assert unknown.returncode == 2
    assert "--input-space 'ACECg', for " in unknown.stderr
    assert "nearest: ACEScg" in unknown.stderr


def test_a_profile_that_is_not_known_is_said_once(
    shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    image = pytest.importorskip("PIL.Image")
    # ProPhoto RGB, which configs do not have.
    odd = display((0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, 0.3457, 0.3585), "g18")
    for name, frames in (("plate", 2), ("clean", 1)):
        for frame in range(frames):
            picture = image.new("RGB", (32, 24), (200, 90, 90 if name == "clean" else 10))
            picture.save(tmp_path / f"{name}.{frame}.png", icc_profile=odd)
    words = (str(tmp_path / "plate.#.png"), "--clean-plate", str(tmp_path / "clean.0.png"))
    made = _matte(shared_daemon, *words, "-o", str(tmp_path / "out"))
    assert made.returncode == 0, made.stderr
    said = made.stdout + made.stderr
    for role in ("plate", "clean plate"):
        assert said.count(f"the {role} has the ICC profile 'Test', which is not known here") == 1
    named = _matte(
        shared_daemon, *words, "-o", str(tmp_path / "named"), "--input-space", "sRGB Encoded AP1"
    )
    assert named.returncode == 0, named.stderr
    assert "ICC profile" not in named.stdout + named.stderr


def test_a_command_with_another_config_than_the_daemon_is_refused(
    shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    shot = _write(tmp_path, "ACEScg", colorspace="ACEScg")
    words = (*shot, "-o", str(tmp_path / "out"))
    refused = _matte(shared_daemon, *words, OCIO="ocio://cg-config-latest")
    assert refused.returncode == 2
    assert "set OCIO alike for both" in refused.stderr


_HLG, _PQ = ("hlg_rec2020_display", 18), ("pq_rec2020_display", 16)


def _write_hdr_video(path: Path, light: np.ndarray, kind: tuple[str, int]) -> None:
    """A video of one picture of ACEScg light, with the tags of its space."""
    av = pytest.importorskip("av")
    config, (name, transfer) = studio_spaces().config, kind
    codes = np.clip(config.convert(light, "ACEScg", config.find(name)), 0, 1)
    with av.open(str(path), "w") as target:
        stream = target.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 56, 40, "gbrp16le"
        planes = np.round(codes * 65535).astype(np.uint16)
        frame = av.VideoFrame.from_ndarray(planes, format="rgb48le").reformat(format="gbrp16le")
        for tagged in (stream.codec_context, frame):
            tagged.color_primaries, tagged.color_trc = 9, transfer
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


@pytest.mark.parametrize("kind", [_HLG, _PQ], ids=["hlg", "pq"])
@pytest.mark.parametrize("background", ["1,1,1", "encoded:1,1,1"])
def test_white_of_an_hdr_video_is_white_in_files_for_displays(
    shared_daemon: DaemonProcess, tmp_path: Path, kind: Any, background: str
) -> None:
    # Reference white, 203 cd/m2, is 2.03 in the config; a quarter of it is a mid grey.
    plate, clean = np.full((2, 40, 56, 3), 0.25 * 2.03, np.float32)
    plate[10:30, 15:40] = 2.03
    for name, light in (("plate", plate), ("clean", clean)):
        _write_hdr_video(tmp_path / f"{name}.mkv", light, kind)
    words = (str(tmp_path / "plate.mkv"), "--clean-plate", str(tmp_path / "clean.mkv"))
    words = (*words, "-o", str(tmp_path / "out"), "--outputs", "foreground,premultiplied,comp")
    words = (*words, "--background", background, "--format", "png16,foreground=exr-float,comp=h264")
    made = _matte(shared_daemon, *words)
    assert made.returncode == 0, made.stderr
    subject, around = (20, 27), (3, 3)
    foreground = read_frame(_the_file(tmp_path / "out", "foreground")).pixels
    assert np.abs(foreground[subject] - 2.03).max() < 0.01
    shown = read_frame(_the_file(tmp_path / "out", "premultiplied")).pixels
    assert shown.dtype == np.uint16
    assert np.abs(shown[subject].astype(int) - 65535).max() < 200
    av = pytest.importorskip("av")
    with av.open(str(_the_file(tmp_path / "out", "comp"))) as video:
        comp = next(video.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    # White over white: one white all over. A background twice as dark would be grey.
    assert np.abs(comp[subject] - 255).max() < 6
    assert np.abs(comp[around] - 255).max() < 6


def test_an_hdr_video_is_read_by_its_tags_and_its_results_are_light(
    shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    for name, light in zip(("plate", "clean"), _pair()):
        _write_hdr_video(tmp_path / f"{name}.mkv", light, _HLG)
    words = (str(tmp_path / "plate.mkv"), "--clean-plate", str(tmp_path / "clean.mkv"))
    words = (*words, "-o", str(tmp_path / "out"), "--output-colorspace", "ACEScg")
    made = _matte(shared_daemon, *words, "--format", "exr-float")
    assert made.returncode == 0, made.stderr
    assert "the plate is in hlg_rec2020_display" in made.stdout + made.stderr
    again = _over_the_clean_plate(_the_file(tmp_path / "out", "premultiplied"))
    # Steps of 16-bit codes, three matrices and HLG's gain.
    assert np.abs(again - _pair()[0]).max() < 2e-3
