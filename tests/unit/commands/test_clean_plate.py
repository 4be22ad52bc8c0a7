"""`mattebridge clean-plate`: what it writes, what it says, and when it refuses."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fakes.interlaced import write_interlaced
from fakes.moving_subjects import Shot, display_error, shot
from mattebridge import cli
from mattebridge.image_io import Encoding, display_codes, read_frame, write_frame
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video

FIRST = 1001


def write(given: Shot, folder: Path, suffix: str = ".exr") -> None:
    for index, (frame, matte) in enumerate(zip(given.frames, given.mattes)):
        write_frame(folder / f"plate.{FIRST + index}{suffix}", frame, Encoding(alpha="opaque"))
        write_frame(folder / f"rough.{FIRST + index}.png", matte[..., None])


@pytest.fixture
def walking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shot:
    """Seventeen frames of somebody who walks through, in the working folder."""
    given = shot("through")
    write(given, tmp_path)
    monkeypatch.chdir(tmp_path)
    return given


@pytest.fixture
def swaying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shot:
    given = shot("sways")
    write(given, tmp_path)
    monkeypatch.chdir(tmp_path)
    return given


MAKE = ["clean-plate", "plate.####.exr", "-o", "clean.exr", "--no-align"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(list(arguments))
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_plate_is_the_set_with_its_confidence_as_a_layer(walking, capsys):
    status, out, err = run(capsys, *MAKE)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "mattebridge: clean.exr is the set of 17 frames, as frame 1009 shows it",
        "  mattebridge matte plate.####.exr --clean-plate clean.exr --alignment auto -o mattes",
    ]
    plate = read_frame("clean.exr")
    assert (plate.pixels.dtype, plate.colorspace, plate.alpha) == ("float16", "linear", "opaque")
    assert display_error(plate.pixels.astype(np.float32), walking.sets[8]).max() < 0.1
    confidence = read_frame("clean.exr", layer="confidence").pixels
    assert confidence.shape == (108, 192, 1)
    assert confidence.min() > 0.3
    assert confidence.max() == 1


def test_other_types_have_their_confidence_beside_them(walking, capsys):
    arguments = ["clean-plate", "plate.####.exr", "--no-align", "--frames", "1001-1016x3"]
    for name, beside in (("a.png", "a.confidence.png"), ("b.jpg", "b.confidence.png")):
        status, out, _ = run(capsys, *arguments, "-o", name)
        assert status == 0
        assert f"confidence: {beside}" in out
        assert read_frame(name).pixels.dtype == np.uint8
        assert read_frame(beside).pixels.shape == (108, 192, 1)


def test_display_encoded_frames_are_settled_in_linear_light(tmp_path, monkeypatch, capsys):
    given = shot("through")
    write(given, tmp_path, ".png")
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "clean-plate", "plate.####.png", "-o", "clean.exr", "--no-align")
    assert (status, err) == (0, "")
    visible = given.sets[8] < 1
    plate = read_frame("clean.exr").pixels.astype(np.float32)
    assert np.abs(plate - given.sets[8])[visible].mean() < 0.01


def test_who_never_leaves_is_an_error_with_the_share_of_the_frame(swaying, capsys):
    status, out, err = run(capsys, *MAKE)
    assert (status, out) == (2, "")
    assert err.startswith("mattebridge: the set behind ")
    assert " % of the frame is never visible (within x " in err
    assert "--alpha-hint" in err
    assert err.count("\n") == 1
    assert not Path("clean.exr").exists()
    share = float(err.split("behind ")[1].split(" %")[0])
    assert 10 < share < 30
    accepted = err.strip().rsplit(" ", 1)[1]
    status, out, err = run(capsys, *MAKE, "--max-hidden", accepted)
    assert (status, err) == (0, "")
    assert "% of the frame is never visible and was guessed" in out
    confidence = read_frame("clean.exr", layer="confidence").pixels[..., 0]
    assert confidence[swaying.always_covered].mean() < 0.05


def test_rough_mattes_take_the_subject_out(swaying, capsys):
    arguments = [*MAKE, "--alpha-hint", "rough.####.png", "--max-hidden", "30"]
    status, _, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    confidence = read_frame("clean.exr", layer="confidence").pixels[..., 0]
    assert not confidence[swaying.always_covered].any()


def test_layers_of_the_shot_and_of_the_rough_mattes_can_be_named(walking, capsys):
    assert run(capsys, *MAKE)[0] == 0
    plain = read_frame("clean.exr").pixels
    for index, frame in enumerate(walking.frames):
        in_layer = Encoding(alpha="opaque", layers={"beauty": frame})
        write_frame(f"plate.{FIRST + index}.exr", np.zeros_like(frame), in_layer)
    asked = [*MAKE, "--existing", "overwrite", "--layer", "beauty"]
    assert run(capsys, *asked)[0] == 0
    assert np.array_equal(read_frame("clean.exr").pixels, plain)
    for index, matte in enumerate(walking.mattes):
        in_layer = Encoding(alpha="opaque", layers={"roto": matte[..., None]})
        write_frame(f"hint.{FIRST + index}.exr", np.zeros((*matte.shape, 3), np.float32), in_layer)
    hints = ["--alpha-hint", "hint.####.exr", "--hint-layer"]
    assert run(capsys, *asked, *hints, "roto")[0] == 0
    status, _, err = run(capsys, *asked, *hints, "nowhere")
    assert (status, "roto" in err) == (3, True)


def test_frames_are_taken_evenly_and_the_reference_is_among_them(walking, capsys):
    status, out, _ = run(capsys, *MAKE, "--samples", "6", "--reference", "1002")
    assert status == 0
    assert "the set of 7 frames, as frame 1002 shows it" in out
    status, _, err = run(capsys, *MAKE, "--existing", "overwrite", "--reference", "7")
    assert (status, "--reference 7 is not among the frames" in err) == (2, True)


@pytest.mark.slow
def test_a_drifting_shot_is_aligned_and_a_foreign_frame_is_named(tmp_path, monkeypatch, capsys):
    given = shot("through", drift_px=3.0)
    write(given, tmp_path)
    write_frame(tmp_path / "plate.1004.exr", shot("through", seed=9).frames[3])
    monkeypatch.chdir(tmp_path)
    status, out, err = run(
        capsys, "clean-plate", "plate.####.exr", "-o", "clean.exr", "--max-hidden", "5"
    )
    assert (status, err) == (0, "")
    assert "left out, since they could not be aligned: 1004" in out
    plate = read_frame("clean.exr").pixels.astype(np.float32)
    assert (display_error(plate, given.sets[8])[8:-8, 8:-8] > 0.1).mean() < 0.01


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["clean-plate", "none.####.exr", "-o", "c.exr"], "no plate frames match none.####.exr"),
        (["clean-plate", "plate.1001.exr", "-o", "c.exr"], "at least 5 frames of the shot; got 1"),
        ([*MAKE, "--frames", "1001-1003"], "at least 5 frames of the shot; got 3"),
        ([*MAKE, "--frames", "1001-1099"], "plate has no frames 1018-1099"),
        ([*MAKE, "--samples", "0"], "--samples takes a number"),
        (["clean-plate", "plate.####.exr", "-o", "c.mov"], "-o takes a file of type .exr"),
        (["clean-plate", "plate.####.exr", "-o", "plate.1003.exr"], "is a frame of the shot"),
        ([*MAKE, "--deinterlace"], "--deinterlace is for videos, and the inputs are pictures"),
        ([*MAKE, "--alpha-hint", "none.####.png"], "no alpha hint frames match none"),
        ([*MAKE, "--screen"], "no green or blue screen was found"),
        ([*MAKE, "--screen", "--alpha-hint", "rough.####.png"], "leave out --alpha-hint"),
    ],
)
def test_wrong_usage_is_status_two_and_one_sentence(walking, capsys, arguments, says):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert not Path("clean.exr").exists()


def test_a_plate_that_is_there_is_not_written_over(walking, capsys):
    Path("clean.exr").write_bytes(b"mine")
    status, _, err = run(capsys, *MAKE)
    assert (status, "exists already; use --existing overwrite" in err) == (2, True)
    assert Path("clean.exr").read_bytes() == b"mine"
    assert run(capsys, *MAKE, "--existing", "overwrite")[0] == 0
    Path("a.confidence.png").write_bytes(b"mine")
    assert run(capsys, "clean-plate", "plate.####.exr", "-o", "a.png")[0] == 2


def test_an_unreadable_frame_is_status_three_and_nothing_is_written(walking, capsys):
    path = Path("plate.1005.exr")
    path.write_bytes(path.read_bytes()[:-200])
    status, _, err = run(capsys, *MAKE)
    assert status == 3
    assert "cannot read plate.1005.exr" in err
    assert not Path("clean.exr").exists()


def test_a_frame_that_does_not_say_its_colour_space_is_asked_about(tmp_path, monkeypatch, capsys):
    for index, frame in enumerate(shot("through").frames[:6]):
        write_frame(tmp_path / f"plate.{index}.dpx", frame)
    monkeypatch.chdir(tmp_path)
    arguments = ["clean-plate", "plate.#.dpx", "-o", "clean.exr", "--no-align"]
    status, _, err = run(capsys, *arguments)
    assert (status, "give --colorspace, with a name of" in err) == (2, True)
    assert run(capsys, *arguments, "--colorspace", "srgb", "--max-hidden", "100")[0] == 0


def test_ended_by_a_queue_it_is_status_four_and_leaves_nothing(walking, capsys, monkeypatch):
    import signal

    from mattebridge import image_io

    read = image_io.read_frame

    def ended(path, **options):
        if str(path).endswith("1007.exr"):
            os.kill(os.getpid(), signal.SIGTERM)
        return read(path, **options)

    monkeypatch.setattr("mattebridge.image_io.read.read_frame", ended)
    status, _, err = run(capsys, *MAKE)
    assert (status, err) == (4, "mattebridge: the command was ended\n")
    assert not Path("clean.exr").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_plate_is_made_from_a_video(walking, capsys):
    height, width = walking.frames[0].shape[:2]
    writer = open_video(
        Path("take.mov"),
        VIDEO_FORMATS["png-mov"],
        width=width,
        height=height,
        times=VideoTimes(Fraction(24)),
    )
    for frame in walking.frames:
        writer.add(display_codes(frame, dtype="uint8", colorspace="linear"))
    writer.close()
    arguments = ["clean-plate", "take.mov", "-o", "clean.exr", "--no-align", "--frames", "0-16x2"]
    status, _, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    made = read_frame("clean.exr").pixels.astype(np.float32)
    assert display_error(made, np.clip(walking.sets[8], 0, 1)).max() < 0.1


def test_an_interlaced_video_is_made_whole_on_request(walking, capsys):
    """Its clean plate has no comb where the subject is in both fields of most pictures."""
    codes = [display_codes(f, dtype="uint8", colorspace="linear") for f in walking.frames[:12]]
    write_interlaced(Path("take.mkv"), codes)
    made = []
    for more in ([], ["--deinterlace"]):
        asked = ["clean-plate", "take.mkv", "-o", "clean.exr", "--no-align", "--max-hidden", "100"]
        assert run(capsys, *asked, "--existing", "overwrite", *more)[0] == 0
        made.append(read_frame("clean.exr").pixels.astype(np.float32))
    combs = [np.abs(2 * each[1:-1] - each[:-2] - each[2:]).mean() for each in made]
    # Medians of integers: no rounding to speak of. Measured: 0.0180 and 0.0214.
    assert combs[1] < 0.93 * combs[0]


def test_the_screen_of_a_shot_is_whole_though_somebody_never_leaves(tmp_path, monkeypatch, capsys):
    wall, rng = np.full((72, 128, 3), (0.02, 0.34, 0.06), np.float32), np.random.default_rng(1)
    for index in range(7):
        plate = wall.copy()
        plate[30:, 50 + index : 80 + index] = (0.4, 0.2, 0.1)
        plate += rng.normal(0, 0.002, plate.shape).astype(np.float32)
        write_frame(tmp_path / f"plate.{FIRST + index}.exr", np.maximum(plate, 0))
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *MAKE, "--screen")
    assert (status, err) == (0, "")
    assert "% of the frame is never visible and was continued from the screen around it" in out
    assert "--clean-plate clean.exr --model screen -o mattes" in out
    made = read_frame("clean.exr").pixels.astype(np.float32)
    assert np.abs(made - wall).max() < 0.01
    assert not read_frame("clean.exr", layer="confidence").pixels[40:, 60:75].any()
