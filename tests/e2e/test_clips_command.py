"""Folders of clips by a real daemon and command: layouts, equal pixels, resume, exit statuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess
from mattebridge.clips import ClipRunner, InferenceConfig, PipelineConfig, WriteConfig, load, scan
from mattebridge.image_io import read_frame, write_frame
from mattebridge.image_io.video_read import probe
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video
from mattebridge.image_io.write import display_codes
from mattebridge_sample import SampleShot, render_shot

PASSES = {"alpha": "alpha", "fg": "foreground", "processed": "premultiplied"}


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> SampleShot:
    folder = tmp_path_factory.mktemp("shot")
    return render_shot(folder, frames=3, width=160, height=90, screen="green")


@pytest.fixture
def clips(shot: SampleShot, tmp_path: Path) -> Path:
    """Two clips: one with a hint, one without."""
    folder = tmp_path / "clips"
    for name in ("first", "second"):
        shutil.copytree(Path(shot.plate).parent, folder / name / "Input")
    shutil.copytree(shot.file("alpha", 1001).parent, folder / "first/AlphaHint")
    return folder


def run(daemon: DaemonProcess, command: str, *more: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mattebridge", command, *map(str, more), "--model", "screen"]
    line += ["--instance", str(daemon.folder), "--progress", "none"]
    return subprocess.run(line, timeout=120, capture_output=True, text=True, check=False)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_clip_is_matted_with_the_pixels_of_matte(
    shared_daemon: DaemonProcess, clips: Path, tmp_path: Path
) -> None:
    before = tree(clips)
    done = run(shared_daemon, "clips", clips, "--report", tmp_path / "report.jsonl")
    assert done.returncode == 0, done.stderr
    assert {name for name in tree(clips) if "Output" not in name} == before
    names = {"alpha": "exr", "fg": "exr", "processed": "exr", "comp": "png"}
    for clip in ("first", "second"):
        made = {name for name in tree(clips / clip / "Output") if not name.endswith("jsonl")}
        assert made == {f"{n}/plate.{f}.{names[n]}" for n in names for f in (1001, 1002, 1003)}
    records = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [(r["clip"], r["frame"]) for r in records] == [
        (clip, frame) for clip in ("first", "second") for frame in (1001, 1002, 1003)
    ]
    # The same planes are asked for: half in place of float rounds before the product.
    outputs = ["--outputs", "alpha,foreground,premultiplied,comp", "--format", "exr,comp=png"]
    clean_up = [*outputs, "--source-passthrough", "--auto-despeckle", "--despill-strength", "0.5"]
    alone = run(shared_daemon, "matte", clips / "second/Input", "-o", tmp_path / "m", *clean_up)
    assert alone.returncode == 0, alone.stderr
    for ours, its in PASSES.items():
        one = read_frame(clips / f"second/Output/{ours}/plate.1002.exr").pixels
        other = read_frame(tmp_path / f"m/{its}/plate.1002.exr").pixels
        assert np.array_equal(one, other)


@pytest.mark.slow
def test_the_classic_layout_goes_to_a_folder_of_ones_own_and_is_resumed(
    shared_daemon: DaemonProcess, clips: Path, tmp_path: Path
) -> None:
    given = [clips, "-o", tmp_path / "out", "--layout", "classic", "--frames", "1002"]
    before = tree(clips)
    assert run(shared_daemon, "clips", *given).returncode == 0
    assert tree(clips) == before
    kept = tmp_path / "out/second/FG/plate.1002.exr"
    made = kept.stat().st_mtime_ns
    comp = tmp_path / "out/first/Comp/plate.1002.png"
    comp.unlink()
    again = run(shared_daemon, "clips", *given)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert run(shared_daemon, "clips", *given, "--resume").returncode == 0
    assert comp.exists()
    assert kept.stat().st_mtime_ns == made


def test_a_clip_that_cannot_be_matted_stops_no_other_and_is_no_success(
    shared_daemon: DaemonProcess, clips: Path
) -> None:
    hints = sorted((clips / "first/AlphaHint").iterdir())
    hints[1].unlink()
    shutil.copytree(clips / "second/Input", clips / "second/input")
    shutil.copytree(clips / "first/Input", clips / "third/Input")
    done = run(shared_daemon, "clips", clips, "--outputs", "alpha")
    assert done.returncode == 2
    assert "first: " in done.stderr
    assert "1002" in done.stderr
    assert "second: has Input and input; keep one of them" in done.stderr
    assert not (clips / "first/Output").exists()
    assert not (clips / "second/Output").exists()
    assert (clips / "third/Output/alpha/plate.1002.exr").exists()


def test_clips_that_are_refused_before_their_first_frame_get_no_output_folder(
    shared_daemon: DaemonProcess, clips: Path
) -> None:
    before = tree(clips)
    for options in (["--set", "no_such_knob=1"], ["--set", "screen=red"], ["--set", "screen=blue"]):
        done = run(shared_daemon, "clips", clips, *options)
        assert done.returncode == 2
        assert tree(clips) == before
    assert not list(clips.rglob("Output"))


@pytest.mark.slow
def test_listing_makes_nothing(shared_daemon: DaemonProcess, clips: Path) -> None:
    before = tree(clips)
    done = run(shared_daemon, "clips", clips, "--list")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("first: ready, 0 of 3 frames done: plate ")
    assert "hint" in first
    assert second.startswith("second: raw, 0 of 3 frames done: ")
    assert tree(clips) == before
    assert (
        run(shared_daemon, "clips", clips, "--outputs", "alpha", "--frames", "1002").returncode == 0
    )
    (clips / "second/Input/plate.1001.exr").unlink()
    (clips / "second/Input/plate.1004.exr").write_bytes(b"damaged")
    done = run(shared_daemon, "clips", clips, "--list")
    first, second = done.stdout.splitlines()
    assert first.startswith("first: ready, 1 of 3 frames done: ")
    assert second.startswith("second: error, 1 of 3 frames done (frame 1004: ")
    assert done.returncode == 3
    # A clip that cannot be matted as it is weighs less.
    (clips / "third/Input").mkdir(parents=True)
    (clips / "third/Input/take.mov").write_bytes(b"no video")
    assert run(shared_daemon, "clips", clips, "--list").returncode == 3
    done = run(shared_daemon, "clips", clips / "third", "--list")
    assert (done.returncode, done.stdout[:13]) == (2, "third: error ")
    done = run(shared_daemon, "clips", clips / "third")
    assert done.returncode == 2
    assert "third: " in done.stderr
    assert "take.mov" in done.stderr
    shutil.rmtree(clips / "third")
    more = ["--outputs", "alpha", "--resume"]
    assert run(shared_daemon, "clips", clips / "first", *more).returncode == 0
    done = run(shared_daemon, "clips", clips / "first", "--list")
    assert done.stdout.startswith("first: complete, 3 of 3 frames done: ")


@pytest.mark.slow
def test_a_check_reads_every_frame_and_makes_nothing(clips: Path, tmp_path: Path) -> None:
    before = tree(clips)
    line = [sys.executable, "-m", "mattebridge", "clips", str(clips), "--check", "--no-spawn"]
    # There is no daemon in this folder, and none is needed.
    line += ["--instance", str(tmp_path / "none"), "--progress", "plain"]

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run(line, timeout=120, capture_output=True, text=True, check=False)

    done = check()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("3 of 3 frames can be read") == 2
    damaged = sorted((clips / "first/AlphaHint").iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:-400])
    done = check()
    assert done.returncode == 3
    assert "first: frame 1002" in done.stderr
    assert str(damaged) in done.stderr
    assert "second" not in done.stderr
    damaged.unlink()
    done = check()
    assert done.returncode == 2
    assert "first: " in done.stderr
    assert tree(clips) == before - {str(damaged.relative_to(clips))}


def take_of(folder: Path, plates: list[np.ndarray]) -> Path:
    """A clip `take` of one video."""
    (folder / "take/Input").mkdir(parents=True)
    form, (height, width) = VIDEO_FORMATS["prores4444"], plates[0].shape[:2]
    path, times = folder / "take/Input/t.mov", VideoTimes(Fraction(24))
    writer = open_video(path, form, width=width, height=height, times=times)
    for plate in plates:
        writer.add(display_codes(plate, dtype=form.dtype, colorspace="linear"))
    writer.close()
    return folder / "take"


def test_pictures_are_extracted_for_no_clip_that_is_refused(
    shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    pytest.importorskip("av")
    take, out = take_of(tmp_path, [np.full((16, 32, 3), 0.2, np.float32)]), tmp_path / "out"
    (out / "take/alpha").mkdir(parents=True)
    there = out / "take/alpha/frame_000000.exr"
    there.write_bytes(b"of somebody else")
    refusals = {
        (): "'screen' has nothing to make a matte of",
        ("--set", "screen=red"): "setting 'screen' of model 'screen' must be one of",
        ("--outputs", "alpha,error", "--set", "screen=green"): "gives no error",
        ("-o", str(out), "--set", "screen=green"): "exists already",
    }
    for options, why in refusals.items():
        done = run(shared_daemon, "clips", take, *options, "--extract")
        assert done.returncode == 2
        assert why in done.stderr
        assert tree(take) == {"Input/t.mov"}
    done = run(shared_daemon, "clips", take, "--check", "--extract")
    assert done.returncode == 0
    assert tree(take) == {"Input/t.mov"}
    assert tree(out) == {"take/alpha/frame_000000.exr"}


@pytest.mark.slow
def test_a_video_is_extracted_where_that_is_asked_for_and_gives_the_same_pixels(
    shared_daemon: DaemonProcess, clips: Path, tmp_path: Path
) -> None:
    pytest.importorskip("av")
    plates = [read_frame(path).pixels for path in sorted((clips / "first/Input").iterdir())]
    take_of(tmp_path, plates)
    direct = run(shared_daemon, "clips", tmp_path / "take", "-o", tmp_path / "direct")
    assert direct.returncode == 0, direct.stderr
    assert tree(tmp_path / "take") == {"Input/t.mov"}
    done = run(shared_daemon, "clips", tmp_path / "take", "-o", tmp_path / "out", "--extract")
    assert done.returncode == 0, done.stderr
    names = {f"Frames/frame_{index:06d}.png" for index in range(3)}
    assert tree(tmp_path / "take") - {"Frames/.video.json"} == {
        "Input/t.mov",
        "video_meta.json",
        *names,
    }
    for name in {name for name in tree(tmp_path / "out") if not name.endswith("jsonl")}:
        one, other = read_frame(tmp_path / "out" / name), read_frame(tmp_path / "direct" / name)
        assert one.pixels.tobytes() == other.pixels.tobytes()
    listed = run(shared_daemon, "clips", tmp_path / "take", "-o", tmp_path / "out", "--list")
    assert listed.stdout.startswith("take: complete, 3 of 3 frames done: ")


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "path"), [("stages", "comp.mov"), ("classic", "Comp.mov")])
def test_a_clip_becomes_a_video_of_the_rate_of_its_plate(
    shared_daemon: DaemonProcess, clips: Path, tmp_path: Path, layout: str, path: str
) -> None:
    pytest.importorskip("av")
    plates = [read_frame(path).pixels for path in sorted((clips / "first/Input").iterdir())]
    take = take_of(tmp_path, plates)
    formats = ["--outputs", "alpha,comp", "--format", "exr,comp=prores4444", "--layout", layout]
    done = run(shared_daemon, "clips", take, *formats)
    assert done.returncode == 0, done.stderr
    made = probe(take / "Output" / path)
    assert (made.frames, made.rate, made.width, made.height) == (3, Fraction(24), 160, 90)
    before = (take / "Output" / path).stat().st_mtime_ns
    assert run(shared_daemon, "clips", take, *formats, "--resume").returncode == 0
    assert (take / "Output" / path).stat().st_mtime_ns == before
    listed = run(shared_daemon, "clips", take, "--list", "--layout", layout)
    assert listed.stdout.startswith("take: complete, 3 of 3 frames done: ")


def test_a_folder_without_a_clip_is_refused(shared_daemon: DaemonProcess, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    done = run(shared_daemon, "clips", tmp_path / "nothing")
    assert done.returncode == 2
    assert "holds no clip" in done.stderr


def test_a_clip_that_nothing_can_be_made_of_is_refused_and_the_others_are_matted(
    shared_daemon: DaemonProcess, clips: Path
) -> None:
    grey = np.full((90, 160, 3), 110, np.uint8)
    shutil.rmtree(clips / "first")
    (clips / "grey/Input").mkdir(parents=True)
    write_frame(clips / "grey/Input/a.1002.png", grey)
    done = run(shared_daemon, "clips", clips, "--outputs", "alpha", "--frames", "1002")
    assert done.returncode == 2
    assert "grey: model 'screen' has nothing to make a matte of" in done.stderr
    assert "--clean-plate" not in done.stderr
    assert not (clips / "grey/Output").exists()
    assert (clips / "second/Output/alpha/plate.1002.exr").exists()


def test_a_hint_sharpen_that_was_asked_for_and_cannot_be_is_said(
    shared_daemon: DaemonProcess, clips: Path
) -> None:
    given = [clips, "--outputs", "alpha", "--frames", "1002"]
    line = [sys.executable, "-m", "mattebridge", "clips", *map(str, given), "--model", "screen"]
    line += ["--instance", str(shared_daemon.folder), "--progress", "plain"]
    for more, said in ((["--hint-sharpen"], True), (["--existing", "overwrite"], False)):
        done = subprocess.run(
            [*line, *more], timeout=120, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert ("second has no hint: --hint-sharpen does nothing" in done.stdout) is said
        assert "first has no hint" not in done.stdout


def test_settings_of_a_corridorkey_toml_are_taken_and_options_win(
    shared_daemon: DaemonProcess, clips: Path, tmp_path: Path
) -> None:
    toml = tmp_path / "corridorkey.toml"
    toml.write_text(
        'device = "cuda"\n[postprocess]\nauto_despeckle = false\n[writer]\nfg_format = "png"\n'
        "alpha_enabled = false\ncomp_enabled = false\n"
    )
    given = [clips / "second", "--frames", "1002", "--import-config", toml]
    done = run(shared_daemon, "clips", *given)
    assert done.returncode == 0, done.stderr
    assert "not taken: device (the daemon's" in done.stderr
    made = {name for name in tree(clips / "second/Output") if not name.endswith("jsonl")}
    assert made == {"fg/plate.1002.png", "processed/plate.1002.exr"}
    done = run(shared_daemon, "clips", *given, "--outputs", "alpha", "--format", "png")
    assert done.returncode == 0, done.stderr
    assert (clips / "second/Output/alpha/plate.1002.png").exists()


def test_a_runner_makes_the_files_of_the_command(
    shared_daemon: DaemonProcess, clips: Path, tmp_path: Path
) -> None:
    assert run(shared_daemon, "clips", clips).returncode == 0
    for clip in scan(clips).clips:
        write = WriteConfig(tmp_path / clip.name)
        config = PipelineConfig(inference=InferenceConfig(model="screen"), write=write)
        report = ClipRunner(load(clip), config, instance=str(shared_daemon.folder)).run()
        assert report.count("done") == 3
        names = {name for name in tree(tmp_path / clip.name) if not name.endswith("jsonl")}
        assert len(names) == 12
        for name in names:
            ours = read_frame(tmp_path / clip.name / name).pixels
            theirs = read_frame(clips / clip.name / "Output" / name).pixels
            assert ours.tobytes() == theirs.tobytes()


@pytest.mark.slow
def test_a_clip_that_is_stopped_leaves_nothing_partial_and_is_made_whole_by_a_resume(
    shared_daemon: DaemonProcess, clips: Path
) -> None:
    line = [sys.executable, "-m", "mattebridge", "clips", str(clips), "--model", "screen"]
    line += ["--instance", str(shared_daemon.folder), "--progress", "plain"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        for said in job.stdout:
            if "frame 1001 done" in said:
                break
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=60)
    # The job may have been quicker than the signal.
    assert job.returncode in (0, 4)
    assert not [name for name in tree(clips) if name.endswith(".tmp")]
    for name in tree(clips / "first/Output"):
        if not name.endswith("jsonl"):
            read_frame(clips / "first/Output" / name)
    assert run(shared_daemon, "clips", clips, "--resume").returncode == 0
    listed = run(shared_daemon, "clips", clips, "--list").stdout.splitlines()
    assert all("complete, 3 of 3 frames done" in each for each in listed)


@pytest.mark.slow
def test_a_clip_in_chunks_has_the_bytes_of_the_whole_one(
    shared_daemon: DaemonProcess, clips: Path, tmp_path: Path
) -> None:
    first = clips / "first"
    assert run(shared_daemon, "clips", first, "-o", tmp_path / "whole").returncode == 0
    for frame in (1003, 1001, 1002):
        given = [first, "-o", tmp_path / "chunks", "--frames", str(frame)]
        assert run(shared_daemon, "clips", *given).returncode == 0
    names = {name for name in tree(tmp_path / "whole") if not name.endswith("jsonl")}
    assert {name for name in tree(tmp_path / "chunks") if not name.endswith("jsonl")} == names
    for name in names:
        one, other = tmp_path / "whole" / name, tmp_path / "chunks" / name
        assert one.read_bytes() == other.read_bytes()
