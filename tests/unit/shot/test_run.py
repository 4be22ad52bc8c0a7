"""A whole shot from files to files, with a client that mattes in this process.

What is asserted is what an artist or a queue sees: files, exit status, sentences.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses
import pytest

from fakes.daemon_process import wait_for
from fakes.inprocess_client import InProcessClient
from fakes.jobs import matte_job
from fakes.limits import SOON_S
from fakes.systems import linux_alone
from mattebridge import color, whole_files
from mattebridge.errors import (
    DaemonLost,
    InputsError,
    InternalError,
    MessageError,
    ModelError,
    NonFiniteError,
    OutOfMemoryError,
    OutputExistsError,
    SequenceError,
    UsageError,
    WorkerLostError,
)
from mattebridge.image_io import Encoding, read_frame, read_header, write_frame
from mattebridge.image_io.sources import Pictures
from mattebridge.models.base import Setting, SettingsSchema
from mattebridge.report.records import read_shot
from mattebridge.shot import one_frame
from mattebridge.shot.job import MatteJob
from mattebridge.shot.preflight import preflight
from mattebridge.shot.progress import Progress
from mattebridge.shot.run import refuse_job, run_job
from mattebridge.shot.summary import write_report
from mattebridge.wire import oslayer
from mattebridge.wire.labels import SENTENCES
from mattebridge.wire.windows_names import fault_of

WIDTH, HEIGHT = 48, 32


def clean_pixels() -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.random((HEIGHT, WIDTH, 3), dtype=np.float32) * 0.5


def plate_pixels(frame: int) -> np.ndarray:
    """The clean plate with a bright square that moves with the frame number."""
    pixels = clean_pixels()
    left = frame % 20
    pixels[8:20, left : left + 12] = 3.0
    return pixels


@pytest.fixture
def shot(tmp_path):
    """Six scene-linear frames 1001-1006 and a clean plate."""
    for frame in range(1001, 1007):
        metadata = {"smpte:TimeCode": (frame, 0), "FramesPerSecond": (24, 1)}
        path = tmp_path / "in" / f"plate.{frame}.exr"
        write_frame(path, plate_pixels(frame), Encoding(metadata=metadata, pixel_aspect=2.0))
    write_frame(tmp_path / "in" / "clean.exr", clean_pixels())
    return tmp_path


def job(shot: Path, **options) -> MatteJob:
    given = {
        "plate": str(shot / "in" / "plate.####.exr"),
        "clean_plate": str(shot / "in" / "clean.exr"),
        "output": shot / "out",
        **options,
    }
    return matte_job(**given)


def run(shot: Path, client: InProcessClient | None = None, **options):
    client = client or InProcessClient()
    progress = options.pop("progress", None)
    cancelled = options.pop("cancelled", None)
    return run_job(job(shot, **options), lambda: client, progress=progress, cancelled=cancelled)


def never_connect():
    raise AssertionError("no daemon is needed for this")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tree(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


class Recorder(Progress):
    def __init__(self, then=None) -> None:
        self.records, self.notes, self.finished, self.then = [], [], None, then

    def frame(self, record, finished, total) -> None:
        self.records.append((record.frame, record.status, finished, total))
        if self.then:
            self.then(record)

    def note(self, text) -> None:
        self.notes.append(text)

    def finish(self, status, text, cause="") -> None:
        self.finished = (status, text)


# --------------------------------------------------------------------------------- what is written


def test_a_shot_becomes_alpha_foreground_and_premultiplied_under_its_own_names(shot):
    summary = run(shot)
    assert summary.exit_status == 0
    assert names(shot / "out") == [
        "alpha",
        "foreground",
        "plate.mattebridge.jsonl",
        "premultiplied",
    ]
    for output in ("alpha", "foreground", "premultiplied"):
        expected = [f"plate.{frame}.exr" for frame in range(1001, 1007)]
        assert names(shot / "out" / output) == expected
    alpha = read_frame(shot / "out/alpha/plate.1003.exr").pixels
    foreground = read_frame(shot / "out/foreground/plate.1003.exr").pixels
    premultiplied = read_frame(shot / "out/premultiplied/plate.1003.exr")
    assert alpha.shape == (HEIGHT, WIDTH, 1)
    assert alpha[10, 3 + 5] == 1.0
    assert alpha[0, 0] == 0.0
    np.testing.assert_allclose(premultiplied.pixels[..., :3], foreground * alpha, rtol=2e-3)
    np.testing.assert_array_equal(premultiplied.pixels[..., 3:], alpha)
    assert premultiplied.alpha == "premultiplied"
    assert foreground.max() == 3.0


def test_timecode_rate_aspect_and_model_travel_into_the_outputs(shot):
    run(shot, frames="1002")
    header = read_header(shot / "out/alpha/plate.1002.exr")
    assert header.pixel_aspect == 2.0
    assert header.metadata["smpte:TimeCode"] == (1002, 0)
    assert header.metadata["FramesPerSecond"] == (24, 1)
    assert header.metadata["mattebridge:model"] == "difference"
    assert header.metadata["mattebridge:modelDigest"] == "sha256:of-the-fake"


def test_one_multi_layer_exr_holds_everything(shot):
    assert run(shot, layers=True, frames="1001").exit_status == 0
    assert names(shot / "out") == ["layers", "plate.mattebridge.jsonl"]
    path = shot / "out/layers/plate.1001.exr"
    assert read_header(path).layers == ("foreground", "matte")
    main = read_frame(path).pixels
    matte = read_frame(path, layer="matte").pixels
    foreground = read_frame(path, layer="foreground").pixels
    np.testing.assert_array_equal(main[..., 3:], matte)
    np.testing.assert_allclose(main[..., :3], foreground * matte, rtol=2e-3)


@pytest.mark.parametrize(
    ("form", "suffix", "dtype"),
    [("png", ".png", "uint8"), ("png16", ".png", "uint16"), ("tiff16", ".tif", "uint16")],
)
def test_display_formats_hold_srgb_and_straight_alpha(shot, form, suffix, dtype):
    run(shot, formats=form, outputs=("premultiplied", "alpha"), frames="1001")
    frame = read_frame(shot / f"out/premultiplied/plate.1001{suffix}")
    assert (frame.pixels.dtype, frame.alpha, frame.colorspace) == (dtype, "straight", "srgb")
    plate = color.srgb_encode(np.clip(plate_pixels(1001), 0, 1))
    solid = frame.pixels[..., 3] == np.iinfo(dtype).max
    assert solid.sum() >= 100
    difference = np.abs(color.to_float(frame.pixels[..., :3]) - plate)[solid]
    assert difference.max() < 2e-3 + 1.0 / np.iinfo(dtype).max


def test_each_output_can_have_its_own_format(shot):
    run(
        shot,
        formats="png,comp=jpg,alpha=exr",
        outputs=("alpha", "comp", "foreground"),
        frames="1001",
    )
    assert tree(shot / "out") == [
        "alpha/plate.1001.exr",
        "comp/plate.1001.jpg",
        "foreground/plate.1001.png",
        "plate.mattebridge.jsonl",
    ]


def test_a_comp_stands_over_a_colour_in_linear_light(shot):
    run(shot, outputs=("comp", "premultiplied"), background="0.25,0.5,1", frames="1001")
    comp = read_frame(shot / "out/comp/plate.1001.exr").pixels.astype(np.float32)
    rgba = read_frame(shot / "out/premultiplied/plate.1001.exr").pixels.astype(np.float32)
    expected = rgba[..., :3] + (1 - rgba[..., 3:]) * np.float32([0.25, 0.5, 1])
    np.testing.assert_allclose(comp, expected, rtol=2e-3)


def test_a_checker_shows_two_greys(shot):
    run(shot, outputs=("comp",), frames="1001")
    comp = read_frame(shot / "out/comp/plate.1001.exr").pixels
    assert comp[0, 0, 0] == pytest.approx(0.12, rel=1e-3)
    assert comp[0, 40, 0] == pytest.approx(0.24, rel=1e-3)


def test_an_error_map_is_passed_through_where_the_model_gives_one(shot):
    run(shot, outputs=("alpha", "error"), frames="1001")
    alpha = read_frame(shot / "out/alpha/plate.1001.exr").pixels
    error = read_frame(shot / "out/error/plate.1001.exr").pixels
    np.testing.assert_allclose(error, 1 - alpha, atol=1e-3)
    with pytest.raises(InputsError, match="gives no refinement"):
        run(shot, outputs=("refinement",), frames="1002")


def test_only_what_is_wanted_is_asked_of_the_daemon(shot):
    client = InProcessClient()
    run(shot, client, outputs=("alpha",), frames="1001")
    assert client.requests[0]["outputs"] == ("alpha",)
    assert client.requests[0]["output_dtype"] == "float16"
    client = InProcessClient()
    run(shot, client, outputs=("comp",), frames="1002", formats="png")
    assert client.requests[0]["outputs"] == ("premultiplied",)
    assert client.requests[0]["output_dtype"] == "float32"


def test_render_parameters_travel_with_every_request(shot):
    client = InProcessClient()
    run(
        shot,
        client,
        frames="1001",
        foreground="unmix",
        alignment="off",
        match_exposure=False,
        settings={"gain": 2.0},
        deadline_s=5.0,
    )
    (request,) = client.requests
    for name, value in {
        "foreground": "unmix",
        "alignment": "off",
        "match_exposure": False,
        "settings": {"gain": 2.0},
        "deadline_s": 5.0,
        "priority": "batch",
        "frame": 1001,
        "colorspace": "linear",
        "output_colorspace": "linear",
        "premultiply": "linear",
    }.items():
        assert request[name] == value


def test_encoded_exr_is_written_only_on_request_and_says_so(shot):
    run(shot, outputs=("foreground",), output_colorspace="srgb", frames="1001")
    frame = read_frame(shot / "out/foreground/plate.1001.exr")
    assert frame.colorspace == "srgb"
    assert frame.pixels[0, 0, 0] == pytest.approx(
        color.srgb_encode(plate_pixels(1001))[0, 0, 0], rel=2e-3
    )
    with pytest.raises(UsageError, match="png holds sRGB"):
        run(shot, outputs=("foreground",), formats="png", output_colorspace="linear")


@linux_alone("it makes links, which Wine 8 does not")
def test_the_records_are_written_over_no_file_of_the_job(shot):
    plate = shot / "in/plate.1001.exr"
    (shot / "link.json").symlink_to(plate)
    before = plate.read_bytes()
    for report, says in (
        (plate, "is an input of this job; choose another --report"),
        (shot / "in/../in/clean.exr", "is an input of this job"),
        (shot / "link.json", "is an input of this job"),
        (shot / "out/alpha/plate.1001.exr", "is an output of this job; choose another --report"),
        (shot / "out/plate.mattebridge.jsonl", "is an output of this job"),
    ):
        with pytest.raises(UsageError, match=says):
            run_job(job(shot, frames="1001", report=report), never_connect)
    assert plate.read_bytes() == before
    assert run(shot, frames="1001", report=shot / "records.jsonl").exit_status == 0


def test_display_premultiplication_is_refused_where_the_files_cannot_hold_it(shot):
    asked = {"premultiply": "display", "frames": "1001"}
    with pytest.raises(UsageError, match="the results are linear; add --output-colorspace srgb"):
        run(shot, **asked)
    for form, holds in (("png", "straight alpha"), ("tiff-float", "linear light")):
        with pytest.raises(UsageError, match=f"{form} holds {holds}; choose exr"):
            run(shot, outputs=("premultiplied",), formats=form, output_colorspace="srgb", **asked)
    client = InProcessClient()
    assert run(shot, client, outputs=("comp",), formats="jpg", **asked).exit_status == 0
    assert client.requests[0]["premultiply"] == "display"
    assert client.requests[0]["output_colorspace"] == "srgb"


def test_a_data_window_is_written_back_on_request(tmp_path):
    window = {"data_window": (4, 3, 20, 10), "display_window": (0, 0, WIDTH, HEIGHT)}
    write_frame(tmp_path / "in/plate.0001.exr", plate_pixels(1), Encoding(**window))
    write_frame(tmp_path / "in/clean.exr", clean_pixels())
    options = {"plate": str(tmp_path / "in/plate.0001.exr"), "outputs": ("alpha",)}
    run(tmp_path, **options)
    full = read_header(tmp_path / "out/alpha/plate.0001.exr")
    assert full.data_window == full.display_window == (0, 0, WIDTH, HEIGHT)
    run(tmp_path, **options, keep_data_window=True, existing="overwrite")
    assert read_header(tmp_path / "out/alpha/plate.0001.exr").data_window == (4, 3, 20, 10)


def test_a_data_window_outside_of_the_frame_fails_that_frame_alone(tmp_path):
    display = (0, 0, WIDTH, HEIGHT)
    for frame, left in ((1, 0), (2, WIDTH - 8), (3, WIDTH + 8), (4, 8)):
        window = Encoding(data_window=(left, 0, WIDTH, HEIGHT), display_window=display)
        pixels = plate_pixels(frame)
        if left > WIDTH:
            path = tmp_path / "in" / f"p.{frame}.exr"
            write_with_window(path, pixels, left)
        else:
            write_frame(tmp_path / "in" / f"p.{frame}.exr", pixels, window)
    write_frame(tmp_path / "in" / "clean.exr", clean_pixels())
    options = {"plate": str(tmp_path / "in/p.#.exr"), "outputs": ("alpha",)}
    summary = run(tmp_path, **options, keep_data_window=True)
    assert summary.exit_status == 3
    assert [record.status for record in summary.records] == ["done", "done", "failed", "done"]
    assert "wholly outside of the frame" in summary.records[2].message
    assert run(tmp_path, **options, existing="overwrite").exit_status == 0


def write_with_window(path: Path, pixels: np.ndarray, left: int) -> None:
    """A frame whose data window lies to the right of its display window."""
    spec = oiio.ImageSpec(WIDTH, HEIGHT, 3, "half")
    spec.x, spec.full_width, spec.full_height = left, WIDTH, HEIGHT
    target = oiio.ImageOutput.create(str(path))
    assert target.open(str(path), spec)
    assert target.write_image(pixels)
    target.close()


@linux_alone("OpenImageIO ends the process over them under Wine 8")
def test_metadata_that_are_no_utf8_are_left_out_and_said_once(shot):
    for frame in (1002, 1004):
        path = shot / "in" / f"plate.{frame}.exr"
        note = {"camera:note": "Cafe Mueller", "camera:roll": "A001"}
        write_frame(path, plate_pixels(frame), Encoding(metadata=note))
        path.write_bytes(path.read_bytes().replace(b"Cafe Mueller", b"Caf\xe9 M\xfcller "))
    progress = Recorder()
    assert run(shot, progress=progress).exit_status == 0
    assert len([note for note in progress.notes if "camera:note" in note]) == 1
    carried = read_header(shot / "out/alpha/plate.1004.exr").metadata
    assert carried["camera:roll"] == "A001"
    assert "camera:note" not in carried


def test_files_of_the_name_that_are_not_taken_are_named_once(shot):
    (shot / "in" / "plate.7.exr").touch()
    progress = Recorder()
    assert run(shot, progress=progress).exit_status == 0
    assert len([note for note in progress.notes if "plate.7.exr of the same name" in note]) == 1


@linux_alone("it makes links, which Wine 8 does not")
def test_a_link_to_nowhere_is_a_frame_that_failed(shot):
    (shot / "in" / "plate.1007.exr").symlink_to("nowhere.exr")
    summary = run(shot)
    assert summary.exit_status == 3
    assert summary.records[-1].status == "failed"
    assert summary.records[-1].frame == 1007


# ------------------------------------------------------------------------------------------ layers


def write_layers(path: Path, **layers: np.ndarray) -> None:
    """An EXR of named layers alone, each (H, W, 1) or (H, W, 3)."""
    letters = {1: "Z", 3: "RGB"}
    names = [f"{n}.{c}" if n else c for n, p in layers.items() for c in letters[p.shape[2]]]
    spec = oiio.ImageSpec(WIDTH, HEIGHT, len(names), "half")
    spec.channelnames = tuple(names)
    target = oiio.ImageOutput.create(str(path))
    assert target.open(str(path), spec)
    assert target.write_image(np.concatenate(list(layers.values()), axis=2))
    target.close()


def test_layers_are_chosen_by_name_for_each_input(shot):
    hint = np.zeros((HEIGHT, WIDTH, 1), np.float32)
    hint[8:20, 0:12] = 0.75
    write_layers(shot / "in/all.exr", beauty=plate_pixels(0), set=clean_pixels(), rough=hint)
    client = InProcessClient()
    one = str(shot / "in/all.exr")
    given = {"plate": one, "clean_plate": one, "alpha_hint": one, "layer": "beauty"}
    given |= {"clean_plate_layer": "set", "hint_layer": "rough", "outputs": ("alpha",)}
    assert run(shot, client, **given).exit_status == 0
    assert read_frame(shot / "out/alpha/all.exr").pixels[10, 5] == 1.0
    np.testing.assert_allclose(client.requests[0]["alpha_hint"], hint, rtol=1e-3)
    settings = json.loads(read_header(shot / "out/alpha/all.exr").metadata["mattebridge:settings"])
    assert settings["layers"] == {"plate": "beauty", "clean_plate": "set", "alpha_hint": "rough"}


def test_several_layers_without_a_default_are_named(shot):
    write_layers(shot / "in/all.exr", beauty=plate_pixels(0), diffuse=clean_pixels())
    summary = run(shot, plate=str(shot / "in/all.exr"))
    assert summary.exit_status == 3
    assert "beauty, diffuse; choose one with --layer" in summary.records[0].message


def test_a_black_and_white_hint_with_a_full_alpha_is_its_luma_and_the_notes_say_so(shot):
    grey = np.linspace(0, 1, WIDTH, dtype=np.float32)[None, :, None].repeat(HEIGHT, 0)
    hint = np.concatenate([grey, grey, grey, np.ones_like(grey)], axis=2)
    write_frame(shot / "in/hint.exr", hint, Encoding(dtype="float"))
    client = InProcessClient()
    summary = run(shot, client, alpha_hint=str(shot / "in/hint.exr"), frames="1001-1002")
    assert summary.exit_status == 0
    np.testing.assert_allclose(client.requests[0]["alpha_hint"], grey, atol=1e-6)
    assert all("matte_from_luma" in record.degraded for record in summary.records)
    assert summary.text.endswith(f"; in 2 frames {SENTENCES['matte_from_luma']}")
    summary = run(
        shot,
        client,
        alpha_hint=str(shot / "in/hint.exr"),
        hint_channel="A",
        frames="1001-1002",
        existing="overwrite",
    )
    assert not any("matte_from_luma" in record.degraded for record in summary.records)


def test_overscan_is_mentioned(tmp_path):
    pixels = np.pad(plate_pixels(1), ((2, 2), (2, 2), (0, 0)))
    window = {
        "data_window": (-2, -2, WIDTH + 4, HEIGHT + 4),
        "display_window": (0, 0, WIDTH, HEIGHT),
    }
    write_frame(tmp_path / "in/plate.0001.exr", pixels, Encoding(**window))
    write_frame(tmp_path / "in/clean.exr", clean_pixels())
    seen = Recorder()
    assert run(tmp_path, progress=seen).exit_status == 0
    assert any("overscan" in note for note in seen.notes)


# ------------------------------------------------------------------------------ inputs of all kinds


def test_eight_bit_plates_are_srgb_and_a_linear_clean_plate_meets_them(tmp_path):
    for frame in (1, 2):
        write_frame(tmp_path / f"in/plate.{frame}.png", np.clip(plate_pixels(frame), 0, 1))
    write_frame(tmp_path / "in/clean.exr", clean_pixels())
    client = InProcessClient()
    summary = run(tmp_path, client, plate=str(tmp_path / "in/plate.#.png"))
    assert summary.exit_status == 0
    assert {request["colorspace"] for request in client.requests} == {"srgb"}
    alpha = read_frame(tmp_path / "out/alpha/plate.1.exr").pixels
    assert alpha[0, 0] < 0.02
    assert alpha[10, 5] == 1.0


def test_the_colour_space_can_be_said(shot):
    client = InProcessClient()
    run(shot, client, frames="1001", colorspace="srgb")
    assert client.requests[0]["colorspace"] == "srgb"


def test_a_file_without_a_colour_space_must_be_told(tmp_path):
    for name in ("plate.0001.dpx", "clean.dpx"):
        write_frame(tmp_path / "in" / name, np.clip(plate_pixels(1), 0, 1))
    given = {
        "plate": str(tmp_path / "in/plate.0001.dpx"),
        "clean_plate": str(tmp_path / "in/clean.dpx"),
    }
    with pytest.raises(InputsError, match="--input-space"):
        run(tmp_path, **given)
    assert run(tmp_path, **given, colorspace="srgb").exit_status == 0


def test_grey_and_rgba_plates_are_plates(tmp_path):
    write_frame(tmp_path / "in/a.1.exr", plate_pixels(1)[..., :1])
    rgba = np.concatenate([plate_pixels(2), np.zeros((HEIGHT, WIDTH, 1), np.float32)], axis=2)
    write_frame(tmp_path / "in/a.2.exr", rgba)
    write_frame(tmp_path / "in/clean.exr", clean_pixels())
    assert run(tmp_path, plate=str(tmp_path / "in/a.#.exr")).exit_status == 0
    assert read_frame(tmp_path / "out/foreground/a.2.exr").pixels.max() == 3.0


def test_a_still_clean_plate_is_left_with_the_daemon_once_and_taken_back(shot):
    client = InProcessClient()
    run(shot, client)
    held = {request["clean_plate"] for request in client.requests}
    assert (client.held, len(held)) == (1, 1)
    assert client.plates == {}
    assert client.closed


def test_a_clean_plate_that_the_daemon_forgot_is_left_there_again(shot):
    client = InProcessClient(forgets=1)
    assert run(shot, client, in_flight=1).exit_status == 0
    assert client.held == 2
    assert all(isinstance(request["clean_plate"], str) for request in client.requests)


def test_a_clean_plate_that_is_always_forgotten_is_sent_with_each_frame(shot):
    client = InProcessClient(forgets=1000)
    assert run(shot, client).exit_status == 0
    sent = [r for r in client.requests if isinstance(r["clean_plate"], np.ndarray)]
    assert len(sent) == 6


def test_equal_clean_plates_have_one_name(shot):
    names = set()
    for frame in ("1001", "1002"):
        client = InProcessClient()
        run(shot, client, frames=frame)
        names |= {request["clean_plate"] for request in client.requests}
    assert len(names) == 1


def test_a_clean_plate_for_each_frame_meets_its_own_plate(shot):
    for frame in range(1001, 1007):
        pixels = plate_pixels(frame) if frame == 1004 else clean_pixels()
        write_frame(shot / f"clean/bg_{frame:05d}.exr", pixels)
    summary = run(shot, clean_plate=str(shot / "clean"), outputs=("alpha",))
    assert summary.exit_status == 0
    for frame in range(1001, 1007):
        alpha = read_frame(shot / f"out/alpha/plate.{frame}.exr").pixels
        assert alpha.max() == (0.0 if frame == 1004 else 1.0)


def test_a_held_clean_plate_is_said_in_the_record_and_at_the_end(shot):
    for frame in (1001, 1004):
        write_frame(shot / f"clean/bg.{frame}.exr", clean_pixels())
    with pytest.raises(SequenceError, match="clean plate has no frames 1002-1003, 1005-1006"):
        run(shot, clean_plate=str(shot / "clean"))
    summary = run(shot, clean_plate=str(shot / "clean"), missing="hold")
    assert [record.frame for record in summary.records if record.held] == [1002, 1003, 1005, 1006]
    assert "4 with clean plate held" in summary.text


def test_hints_and_mattes_meet_by_number(shot):
    for frame in range(995, 1021):
        write_frame(
            shot / f"hint/h.{frame:04d}.png", np.full((HEIGHT, WIDTH), frame - 990, np.uint8)
        )
    write_frame(shot / "in/garbage.png", np.full((HEIGHT, WIDTH), 7, np.uint8))
    client = InProcessClient()
    run(
        shot,
        client,
        frames="1005-1006",
        alpha_hint=str(shot / "hint/h.####.png"),
        garbage_matte=str(shot / "in/garbage.png"),
    )
    for request in client.requests:
        assert request["alpha_hint"].shape == (HEIGHT, WIDTH, 1)
        assert request["alpha_hint"].max() == request["frame"] - 990
        assert request["garbage_matte"].max() == 7


def test_a_hint_that_the_model_does_not_use_is_mentioned(shot):
    write_frame(shot / "in/hint.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    seen = Recorder()
    run(shot, frames="1001", alpha_hint=str(shot / "in/hint.png"), progress=seen)
    assert seen.notes == ["model 'difference' makes no use of --alpha-hint"]


def test_a_single_file_is_a_shot_of_one_frame(shot):
    summary = run(shot, plate=str(shot / "in/plate.1002.exr"))
    assert [record.frame for record in summary.records] == [1002]
    assert names(shot / "out/alpha") == ["plate.1002.exr"]


def test_folders_of_pictures_without_numbers_meet_by_name(tmp_path):
    for index, name in enumerate(("ada", "bob", "eve")):
        write_frame(tmp_path / f"src/{name}.png", np.clip(plate_pixels(index), 0, 1))
        write_frame(tmp_path / f"bgr/{name}.jpg", np.clip(clean_pixels(), 0, 1))
    summary = run(tmp_path, plate=str(tmp_path / "src"), clean_plate=str(tmp_path / "bgr"))
    assert summary.exit_status == 0
    assert names(tmp_path / "out/alpha") == ["ada.exr", "bob.exr", "eve.exr"]


def test_an_empty_option_is_an_option_that_was_not_given(shot):
    assert run(shot, alpha_hint="", garbage_matte="", frames="1001").exit_status == 0


# ---------------------------------------------------------------------------------------- preflight


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"frames": "1005-1010"}, "plate has no frames 1007-1010"),
        ({"frames": "nuke:1 2 3"}, "plate has no frames 1-3"),
        ({"frames": ""}, "contain no frame"),
        ({"clean_plate": "/none/c.exr"}, "clean plate .none.c.exr does not exist"),
        ({"formats": "gif"}, "no format 'gif'"),
        ({"formats": "jpg"}, "holds no alpha"),
        ({"formats": "bogus=exr"}, "no output 'bogus'"),
        ({"layers": True, "formats": "png"}, "--layers writes EXR"),
        ({"outputs": ("comp",), "background": "pink"}, "no background 'pink'"),
        ({"output": Path("/proc/none/out")}, "nothing can be written"),
        ({"output": Path("mattes.####.exr")}, "-o takes a folder"),
        ({"within": "1-5"}, "is within 1-5"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(shot, options, says):
    with pytest.raises(UsageError, match=says) as refused:
        run_job(job(shot, **options), never_connect)
    assert refused.value.exit_status == 2
    assert not (shot / "out").exists()


def test_an_output_that_is_there_is_not_touched(shot):
    write_frame(shot / "out/alpha/plate.1003.exr", clean_pixels()[..., :1])
    before = (shot / "out/alpha/plate.1003.exr").read_bytes()
    with pytest.raises(OutputExistsError, match=r"plate\.1003\.exr exists already; use --resume"):
        run_job(job(shot), never_connect)
    assert (shot / "out/alpha/plate.1003.exr").read_bytes() == before
    assert run(shot, frames="1001").exit_status == 0


def test_writing_over_an_input_is_refused(shot):
    (shot / "in").rename(shot / "alpha")
    given = {
        "plate": str(shot / "alpha/plate.####.exr"),
        "clean_plate": str(shot / "alpha/clean.exr"),
    }
    with pytest.raises(SequenceError, match="is an input of this job"):
        run_job(job(shot, output=shot, existing="overwrite", **given), never_connect)


@linux_alone("Windows makes no such files; tests/windows/inside/test_paths.py asks it")
def test_names_that_the_system_takes_for_another_file_are_refused(shot, monkeypatch):
    """Asked of the system's layer; here its answers are those of Windows."""
    write_frame(shot / "in/nul.exr", clean_pixels())
    write_frame(shot / "in/take:1.0001.exr", plate_pixels(1001))
    layer = type(oslayer.current())
    monkeypatch.setattr(layer, "fault_of_path", lambda _self, path: fault_of(path))
    for given, says in (
        ({"output": shot / "mattes/aux"}, "'aux' is the name of a device"),
        ({"output": Path("C:mattes")}, "current folder of that drive"),
        ({"report": shot / "records."}, "drops the dot"),
        ({"clean_plate": str(shot / "in/nul.exr")}, "'nul.exr' is the name of a device"),
        ({"plate": str(shot / "in/take:1.0001.exr")}, "hidden stream"),
    ):
        with pytest.raises(UsageError, match=f"cannot be used: .*{says}"):
            run_job(job(shot, **given), never_connect)
    assert not (shot / "out").exists()
    assert run(shot, frames="1001").exit_status == 0


def test_two_plates_of_one_name_are_refused(tmp_path):
    for name in ("a.jpg", "a.png", "b.png"):
        write_frame(tmp_path / "in" / name, np.clip(clean_pixels(), 0, 1))
    with pytest.raises(SequenceError, match="only in their type"):
        run_job(job(tmp_path, plate=str(tmp_path / "in"), clean_plate=""), never_connect)


def test_a_clean_plate_of_another_size_is_refused_with_both_sizes(shot):
    write_frame(shot / "in/clean.exr", clean_pixels()[:20])
    with pytest.raises(InputsError, match=r"clean\.exr is 48x20 and plate plate\.1001\.exr 48x32"):
        run_job(job(shot), never_connect)


def test_within_clips_a_chunk_that_runs_over_the_end(shot):
    summary = run(shot, frames="1005-1014", within="1001-1006")
    assert [record.frame for record in summary.records] == [1005, 1006]


def test_a_model_that_is_not_there_or_needs_more_is_refused(shot):
    with pytest.raises(ModelError, match="no model 'magic'; the models present are: difference"):
        run(shot, model="magic")
    card = {"needs": ["plate", "clean_plate", "alpha_hint"]}
    with pytest.raises(InputsError, match="needs an alpha hint: give one with --alpha-hint"):
        run(shot, InProcessClient(card=card))
    assert not (shot / "out").exists()


# ----------------------------------------------------------------------------------- failing frames


def test_a_truncated_frame_fails_alone_and_is_named(shot):
    path = shot / "in/plate.1003.exr"
    path.write_bytes(path.read_bytes()[:-40])
    seen = Recorder()
    summary = run(shot, progress=seen)
    assert summary.exit_status == 3
    assert [entry[:2] for entry in seen.records] == [
        (frame, "failed" if frame == 1003 else "done") for frame in range(1001, 1007)
    ]
    assert "plate.1003.exr" in summary.first_failure
    assert "5 done" in summary.text
    assert "plate.1003.exr" not in names(shot / "out/alpha")
    assert len(names(shot / "out/alpha")) == 5


def test_a_frame_of_another_size_fails_alone(shot):
    write_frame(shot / "in/plate.1002.exr", plate_pixels(2)[:20])
    summary = run(shot)
    assert summary.exit_status == 3
    assert [r.frame for r in summary.records if r.status == "failed"] == [1002]
    assert "48x32 and plate plate.1002.exr 48x20" in summary.first_failure


@pytest.mark.parametrize(
    "error",
    [
        NonFiniteError("3 values are not finite"),
        InternalError("a model error"),
        WorkerLostError("the worker died"),
    ],
)
def test_a_frame_that_the_daemon_cannot_matte_fails_alone(shot, error):
    summary = run(shot, InProcessClient(fail={1002: error, 1005: error}))
    assert summary.exit_status == 3
    assert [r.frame for r in summary.records if r.status == "done"] == [1001, 1003, 1004, 1006]
    assert "frames 1002, 1005: " + error.message in summary.first_failure
    codes = [record.code for record in summary.records if record.status == "failed"]
    assert codes == [error.code, error.code]


def test_an_all_unreadable_shot_needs_no_daemon_and_is_not_a_success(shot):
    for path in (shot / "in").glob("plate.*.exr"):
        path.write_bytes(b"")
    summary = run_job(job(shot), never_connect)
    assert summary.exit_status == 3
    assert summary.count("failed") == 6
    assert "empty" in summary.first_failure
    assert not (shot / "out").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DaemonLost("the daemon went away"), 5),
        (WorkerLostError("workers are given up", retry=False), 5),
        (ModelError("setting 'gain' must be a number"), 2),
    ],
)
def test_what_concerns_every_frame_stops_the_job(shot, error, status):
    client = InProcessClient(fail={1002: error}, delay_s=0.02)
    summary = run(shot, client, in_flight=1)
    assert summary.exit_status == status
    assert error.message in summary.first_failure
    assert summary.count("cancelled") >= 1
    assert summary.total == 6 == len(summary.records)


def test_a_full_disk_stops_the_job_and_leaves_nothing_half_written(shot, monkeypatch):
    real, calls = os.fsync, []

    def full_after_four(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(whole_files.os, "fsync", full_after_four)
    summary = run(shot)
    monkeypatch.undo()
    assert summary.exit_status == 3
    assert "the disk is full" in summary.first_failure
    assert not [path for path in tree(shot / "out") if path.endswith(".tmp")]
    resumed = run(shot, existing="verify")
    assert resumed.exit_status == 0


def test_a_bug_is_status_one_and_named(shot, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("mattebridge.shot.one_frame.write_output", broken)
    summary = run(shot)
    assert summary.exit_status == 1
    assert "ZeroDivisionError" in summary.first_failure


def test_a_file_that_vanishes_after_writing_is_not_a_success(shot):
    gone = shot / "out/alpha/plate.1001.exr"
    summary = run(
        shot, progress=Recorder(then=lambda record: record.frame == 1006 and gone.unlink())
    )
    assert summary.exit_status == 3
    assert "plate.1001.exr" in summary.first_failure


# ------------------------------------------------------------------------------------------- cancel


def test_a_cancel_ends_soon_with_status_four_and_no_partial_file(shot):
    cancelled = threading.Event()
    client = InProcessClient(delay_s=lambda frame: 0.0 if frame == 1001 else 60.0)
    seen = Recorder(then=lambda record: cancelled.set())
    started = time.monotonic()
    # A place for every frame: nothing says that the first frame is read first, and with fewer
    # places it could stand behind those that are stuck.
    summary = run(shot, client, progress=seen, cancelled=cancelled, in_flight=6)
    assert time.monotonic() - started < 30
    assert summary.exit_status == 4
    assert 1 <= summary.count("done") < 6
    assert summary.count("done") + summary.count("cancelled") == 6
    assert "--resume" in summary.first_failure
    for path in tree(shot / "out"):
        assert not path.endswith(".tmp")
        if path.endswith(".exr"):
            read_frame(shot / "out" / path)
    assert client.closed
    assert run(shot, existing="verify").exit_status == 0


def test_a_job_waits_for_the_models_as_long_as_for_a_frame(shot):
    """The first start of a worker loads torch: on a slow disk that takes minutes."""
    client = InProcessClient()
    assert run(shot, client, timeout_s=1234.0).exit_status == 0
    assert client.models_limit_s == 1234.0


def test_a_cancel_before_the_first_frame_is_no_success(shot):
    cancelled = threading.Event()
    cancelled.set()
    summary = run(shot, cancelled=cancelled)
    assert summary.exit_status == 4
    assert summary.count("done") == 0


# ------------------------------------------------------------------------------------------- resume


def test_resuming_makes_only_what_is_missing_or_damaged(shot):
    assert run(shot).exit_status == 0
    whole = {path: (shot / "out" / path).read_bytes() for path in tree(shot / "out")}
    (shot / "out/alpha/plate.1002.exr").unlink()
    cut = shot / "out/foreground/plate.1004.exr"
    cut.write_bytes(cut.read_bytes()[:-1])
    (shot / "out/premultiplied/plate.1005.exr").write_bytes(b"")
    client = InProcessClient()
    summary = run(shot, client, existing="verify")
    assert summary.exit_status == 0
    assert sorted(request["frame"] for request in client.requests) == [1002, 1004, 1005]
    assert [record.status for record in summary.records] == [
        "found", "done", "found", "done", "done", "found"
    ]  # fmt: skip
    for path, data in whole.items():
        if path.endswith(".exr"):
            assert (shot / "out" / path).read_bytes() == data, path


def test_a_plate_that_was_rendered_again_is_matted_again(shot):
    run(shot, outputs=("alpha",))
    time.sleep(0.01)
    write_frame(shot / "in/plate.1003.exr", plate_pixels(1010))
    client = InProcessClient()
    assert run(shot, client, outputs=("alpha",), existing="verify").exit_status == 0
    assert [request["frame"] for request in client.requests] == [1003]


def test_resuming_refuses_to_mix_settings(shot):
    run(shot, frames="1001-1003")
    client = InProcessClient()
    with pytest.raises(OutputExistsError, match=r"frame 1001 .*foreground: model then, unmix now"):
        run(shot, client, foreground="unmix", existing="verify")
    assert client.requests == []
    with pytest.raises(OutputExistsError, match="made with other settings"):
        run(shot, InProcessClient(card={"digest": "sha256:another"}), existing="verify")
    with pytest.raises(OutputExistsError, match="made with other settings"):
        run(shot, formats="exr-float", existing="verify")
    assert run(shot, frames="1004-1006", foreground="unmix").exit_status == 0


def test_resuming_onto_frames_of_unknown_origin_is_refused(shot):
    run(shot, frames="1001")
    (shot / "out/plate.mattebridge.jsonl").unlink()
    with pytest.raises(OutputExistsError, match=r"plate\.mattebridge\.jsonl is missing"):
        run(shot, existing="verify")


def test_overwriting_makes_everything_again_and_is_then_the_new_truth(shot):
    run(shot, frames="1001-1003")
    assert run(shot, foreground="unmix", existing="overwrite", frames="1001-1002").exit_status == 0
    client = InProcessClient()
    assert run(shot, client, foreground="unmix", existing="verify", frames="1001-1002")
    assert client.requests == []
    with pytest.raises(OutputExistsError, match="frame 1003"):
        run(shot, foreground="unmix", existing="verify", frames="1001-1003")


def test_a_frame_written_but_not_noted_by_a_killed_run_is_made_again(shot):
    run(shot)
    ledger = shot / "out/plate.mattebridge.jsonl"
    lines = ledger.read_text().splitlines()
    kept = [line for line in lines if '"frame": 1004' not in line]
    ledger.write_text("\n".join(kept) + '\n{"frame": 1004, "jo')  # torn by the kill
    client = InProcessClient()
    assert run(shot, client, existing="verify").exit_status == 0
    assert [request["frame"] for request in client.requests] == [1004]
    assert run(shot, existing="verify").count("found") == 6


def test_more_outputs_can_be_added_later(shot):
    run(shot, outputs=("alpha",))
    client = InProcessClient()
    assert run(shot, client, outputs=("alpha", "comp"), existing="verify").exit_status == 0
    assert len(client.requests) == 6


def test_the_ledger_says_how_frames_are_made_before_one_of_their_files_is_written(
    shot, monkeypatch
):
    written, texts = one_frame.write_output, []

    def write_output(*given, **options):
        texts.append((shot / "out/plate.mattebridge.jsonl").read_text())
        return written(*given, **options)

    monkeypatch.setattr(one_frame, "write_output", write_output)
    run(shot, frames="1001-1002", in_flight=1)
    assert '"settings"' in texts[0]
    before = len(texts)
    run(shot, frames="1001-1002", existing="overwrite")
    assert '{"stale": [1001, 1002]}' in texts[before]


def test_a_job_that_a_model_refuses_leaves_no_ledger(shot):
    refusal = ModelError("model 'keyer' has no setting 'gain'", reason="setting")
    summary = run(shot, InProcessClient(fail=dict.fromkeys(range(1001, 1007), refusal)))
    assert summary.exit_status == 2
    assert not (shot / "out").exists()


def test_a_setting_that_the_card_does_not_have_is_refused_before_a_frame_is_read(shot):
    gain = SettingsSchema(gain=Setting(1.0, "", minimum=0.0))
    client = InProcessClient(card={"settings": gain.describe()})
    for given, kind in (({"gian": 1.0}, MessageError), ({"gain": -1.0}, ModelError)):
        with pytest.raises(kind, match=r"setting 'g.*'") as refused:
            run(shot, client, settings=given)
        assert refused.value.exit_status == 2
    assert client.requests == []
    assert not (shot / "out").exists()
    assert run(shot, client, settings={"gain": 2.0}).exit_status == 0


def test_what_refuses_a_job_is_known_without_making_anything_of_it(shot):
    client = InProcessClient()
    refuse_job(job(shot), lambda: client)
    assert client.closed
    with pytest.raises(ModelError, match="there is no model 'key'"):
        refuse_job(job(shot, model="key"), InProcessClient)
    assert client.requests == []
    assert not (shot / "out").exists()
    run(shot, frames="1001")
    with pytest.raises(OutputExistsError):
        refuse_job(job(shot), never_connect)
    for path in (shot / "in").glob("plate.*.exr"):
        path.write_bytes(b"")
    refuse_job(job(shot, existing="verify"), never_connect)


def test_of_a_job_whose_frames_all_fail_the_ledger_alone_is_left_and_says_why(shot):
    errors = dict.fromkeys(range(1001, 1007), OutOfMemoryError("no room"))
    assert run(shot, InProcessClient(fail=errors)).exit_status == 3
    assert tree(shot / "out") == ["plate.mattebridge.jsonl"]
    entries = read_shot(shot / "out/plate.mattebridge.jsonl").entries
    assert {entry.frame: entry.message for entry in entries} == dict.fromkeys(errors, "no room")
    # It is in the way of no other run: nothing was made, so nothing can be mixed.
    for more in ({"foreground": "unmix", "existing": "verify"}, {"frames": "1001-1002"}):
        assert run(shot, InProcessClient(fail=errors), **more).exit_status == 3
        assert tree(shot / "out") == ["plate.mattebridge.jsonl"]
    assert run(shot, existing="verify").exit_status == 0
    entries = read_shot(shot / "out/plate.mattebridge.jsonl").entries
    assert [entry.status for entry in entries] == ["done"] * 6


def test_chunks_of_a_farm_share_one_ledger(shot):
    for chunk in ("1001-1002", "1003-1004", "1005-1006"):
        assert run(shot, frames=chunk).exit_status == 0
    assert run(shot, existing="verify").count("found") == 6


# ----------------------------------------------------------------------------------------- pipeline


def test_frames_are_reported_in_order_although_they_end_in_any(shot):
    shuffled = InProcessClient(delay_s=lambda frame: 0.15 if frame % 2 else 0.0)
    seen = Recorder()
    summary = run(shot, shuffled, progress=seen, in_flight=4)
    assert [entry[0] for entry in seen.records] == list(range(1001, 1007))
    assert [entry[2] for entry in seen.records] == list(range(1, 7))
    assert seen.finished[0] == summary.exit_status == 0


def test_several_frames_are_in_flight_and_never_more_than_asked(shot):
    client = InProcessClient(delay_s=0.05)
    run(shot, client, in_flight=3)
    assert client.most_in_flight == 3


def test_memory_is_bounded_by_bytes_and_one_frame_always_passes(shot):
    client = InProcessClient(delay_s=0.02)
    assert run(shot, client, in_flight=4, max_bytes=1).exit_status == 0
    assert client.most_in_flight == 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"formats": "png", "outputs": ("premultiplied",)}])
def test_three_frames_of_uhd_fit_into_the_memory_that_is_given_by_default(tmp_path, options):
    write_frame(tmp_path / "in/plate.0001.exr", np.zeros((2160, 3840, 3), np.float16))
    write_frame(tmp_path / "in/clean.exr", np.zeros((2160, 3840, 3), np.float16))
    plan = preflight(job(tmp_path, **options))
    assert 3 * plan.tasks[0].size_bytes <= plan.job.max_bytes


def test_memory_stays_flat_however_long_the_shot(shot):
    """Frames that have ended let go of their pixels: what lives at once is what is admitted."""
    given, most = [], []

    def alive() -> int:
        return sum(each() is not None for each in list(given))

    class Watched:
        def __init__(self, handle):
            self.handle, self.cancel = handle, handle.cancel

        def result(self, timeout_s=None):
            matte = self.handle.result(timeout_s)
            given.append(weakref.ref(matte.alpha))
            most.append(alive())
            return matte

    class Watching(InProcessClient):
        def submit(self, *arguments, **options):
            return Watched(super().submit(*arguments, **options))

    for frame in range(1007, 1061):
        write_frame(shot / "in" / f"plate.{frame}.exr", plate_pixels(frame))
    frame_bytes = preflight(job(shot)).tasks[0].size_bytes
    summary = run(shot, Watching(), in_flight=4, max_bytes=5 * frame_bytes)
    assert (summary.exit_status, len(most)) == (0, 60)
    assert max(most) <= 5
    gc.collect()
    assert alive() == 0


def test_reading_and_writing_overlap_with_the_daemon(shot, monkeypatch):
    """While the first frame is written, a second is with the daemon and a third is read.

    Any frame may be the first: two are read at once, and either may be the sooner.
    """
    client, plates_read, held = InProcessClient(), [], []
    real_read, real_write = Pictures.frame, one_frame.write_output

    def watched_read(pictures, source, **options):
        if "plate" in source.name:
            plates_read.append(source)
        return real_read(pictures, source, **options)

    def held_write(*arguments, **options):
        if not held:
            wait_for(
                lambda: len(plates_read) >= 3 and len(client.requests) >= 2,
                SOON_S,
                "two more frames are on their way",
            )
            held.append(arguments)
        return real_write(*arguments, **options)

    monkeypatch.setattr(Pictures, "frame", watched_read)
    monkeypatch.setattr("mattebridge.shot.one_frame.write_output", held_write)
    assert run(shot, client, outputs=("alpha",), in_flight=1).exit_status == 0
    assert held


def test_the_report_has_a_line_for_every_frame(shot, tmp_path):
    summary = run(shot, InProcessClient(fail={1002: NonFiniteError("bad")}))
    write_report(tmp_path / "report.jsonl", summary.records)
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(1001, 1007))
    assert lines[1]["status"] == "failed"
    assert lines[1]["code"] == "E_NONFINITE"
    assert Path(lines[0]["outputs"]["alpha"]).as_posix().endswith("alpha/plate.1001.exr")
    assert lines[0]["bytes"] > 0
    rooms = {"room_read_ms", "room_matte_ms", "room_write_ms", "room_wait_ms"}
    assert rooms <= set(lines[0]["timings"])


@linux_alone("it forks; tests/windows/inside/test_files.py sweeps there")
def test_leftovers_of_a_killed_run_are_swept_at_the_start(shot):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    leftover = whole_files.temporary_name("plate.1001.exr").replace(str(os.getpid()), str(child))
    (shot / "out/alpha").mkdir(parents=True)
    (shot / "out/alpha" / leftover).write_bytes(b"half")
    run(shot, frames="1001")
    assert names(shot / "out/alpha") == ["plate.1001.exr"]
