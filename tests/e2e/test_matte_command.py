"""The real command against a real daemon: what an artist types, and what a farm relies on."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fakes.daemon_process import wait_for
from fakes.light_python import light_python
from fakes.places import BRIDGE
from mattebridge.image_io import display_codes, read_frame, write_frame
from mattebridge.image_io.video_read import VideoReader, probe
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video

WIDTH, HEIGHT = 96, 64
FRAMES = range(1001, 1007)
LIMIT_S = 90


def paint(frame: int) -> tuple[np.ndarray, np.ndarray]:
    """A plate and its clean plate: a textured wall, and a bright disc in front of it."""
    rng = np.random.default_rng(5)
    wall = 0.15 + 0.1 * rng.random((HEIGHT // 4, WIDTH // 4, 3), dtype=np.float32)
    clean = wall.repeat(4, axis=0).repeat(4, axis=1)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    disc = (rows - 32) ** 2 + (columns - 30 - 4 * (frame % 8)) ** 2 < 18**2
    plate = np.where(disc[..., None], np.float32([2.5, 0.9, 0.2]), clean)
    return plate.astype(np.float32), clean


class Command:
    """Runs `mattebridge` with a runtime and configuration folder of its own."""

    def __init__(self, folder: Path, *, light: bool) -> None:
        self.python = light_python() if light else sys.executable
        # Socket paths are short; pytest's folders are not.
        self.runtime = Path(tempfile.mkdtemp(prefix="mb-"))
        (self.runtime / "run").mkdir(mode=0o700)
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MATTEBRIDGE_")},
            "PYTHONPATH": str(BRIDGE),
            "MATTEBRIDGE_RUNTIME_DIR": str(self.runtime / "run"),
            "XDG_CONFIG_HOME": str(self.runtime / "config"),
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self.python, "-m", "mattebridge", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"still running: {process.communicate()}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def status(self) -> dict:
        """What a daemon says about itself; there must be one."""
        asked = self.run("status", "--json")
        assert asked.returncode == 0, asked.stderr
        return json.loads(asked.stdout)

    def takes_work(self) -> bool:
        """Whether a daemon is there that is neither stopping nor gone."""
        said = json.loads(self.run("status", "--json").stdout)
        return said["state"] not in ("draining", "not running")

    def close(self) -> None:
        """Nothing stays behind, however the test ended."""
        self.run("stop")
        for process in self.started:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()
        shutil.rmtree(self.runtime)


@pytest.fixture
def command(tmp_path):
    """With the light engine: for what is about jobs, files and daemons, and not about mattes."""
    runner = Command(tmp_path, light=True)
    yield runner
    runner.close()


@pytest.fixture
def real_command(tmp_path):
    """With the real engine and the default model."""
    runner = Command(tmp_path, light=False)
    yield runner
    runner.close()


@pytest.fixture
def shot(tmp_path):
    for frame in FRAMES:
        plate, clean = paint(frame)
        write_frame(tmp_path / f"plate.{frame}.exr", plate)
    write_frame(tmp_path / "clean.exr", clean)
    return tmp_path


MATTE = ("matte", "plate.####.exr", "--clean-plate", "clean.exr", "-o", "out")


def outputs(shot: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(shot / "out")): path.read_bytes()
        for path in sorted((shot / "out").rglob("*.exr"))
    }


def leftovers(shot: Path) -> list[Path]:
    return [path for path in (shot / "out").rglob("*") if path.name.endswith(".tmp")]


def wait_for_a_frame(process: subprocess.Popen[str]) -> None:
    """Returns after the line of the first frame that is done.

    A frame that a gate holds back is the last one, since frames are taken in any order: held first,
    an earlier one would hold back all others until the watchdog.
    """
    for line in process.stdout:
        if re.match(r"frame \d+ done", line):
            return
    raise AssertionError(process.stderr.read())


def test_one_command_starts_a_daemon_and_mattes_the_shot(real_command, shot):
    done = real_command.run(*MATTE, "--outputs", "alpha,foreground,premultiplied,comp")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r"^frame 100\d done \d+ ms \(\d/6\)$", done.stdout, re.M)) == 6
    for output in ("alpha", "foreground", "premultiplied", "comp"):
        assert len(list((shot / "out" / output).glob("plate.100?.exr"))) == 6
    plate, _ = paint(1003)
    alpha = read_frame(shot / "out/alpha/plate.1003.exr").pixels[..., 0].astype(np.float32)
    subject = plate[..., 0] > 2
    assert alpha[subject].mean() > 0.9
    assert alpha[~subject].mean() < 0.1
    rgba = read_frame(shot / "out/premultiplied/plate.1003.exr").pixels.astype(np.float32)
    colour = read_frame(shot / "out/foreground/plate.1003.exr").pixels.astype(np.float32)
    np.testing.assert_allclose(rgba[..., :3], colour * alpha[..., None], rtol=2e-3, atol=2e-3)
    assert colour.max() > 2.0
    status = real_command.status()
    assert status["frames"]["done"] == 6
    assert status["sessions"][0]["client"] == "status"
    assert status["plates"] == []
    table = real_command.run("status")
    assert table.returncode == 0
    assert "6 done" in table.stdout
    assert real_command.run("stop").returncode == 0
    assert real_command.run("status").returncode == 5


@pytest.mark.slow
def test_the_first_run_on_a_machine_has_no_runtime_folder_yet(command, shot):
    (command.runtime / "run").rmdir()
    done = command.run(*MATTE, "--frames", "1001")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_eight_bit_pictures_in_a_folder_become_pngs(command, shot):
    for name, number in (("ada", 1), ("bob", 2)):
        plate, clean = paint(number)
        write_frame(shot / f"src/{name}.png", plate)
        write_frame(shot / f"bgr/{name}.png", clean)
    done = command.run("matte", "src", "--clean-plate", "bgr", "-o", "out", "--format", "png")
    assert done.returncode == 0, done.stderr
    frame = read_frame(shot / "out/premultiplied/bob.png")
    assert (frame.pixels.dtype, frame.pixels.shape, frame.alpha) == (
        "uint8",
        (64, 96, 4),
        "straight",
    )


@pytest.mark.slow
def test_display_premultiplication_reaches_the_files_and_the_comp(command, shared_daemon, shot):
    """Products and comps of encoded values, in an EXR that says it is encoded."""
    soft = np.tile(np.linspace(0, 1, WIDTH, dtype=np.float32), (HEIGHT, 1))[..., None]
    write_frame(shot / "soft.exr", soft)
    words = ("--frames", "1001", "--garbage-matte", "soft.exr", "--format", "exr-float")
    words += ("--outputs", "alpha,foreground,premultiplied,comp", "--background", "#808080")
    words += ("--premultiply", "display", "--output-colorspace", "srgb")
    words += ("--instance", str(shared_daemon.folder))
    assert command.run(*MATTE, *words).returncode == 0
    frames = {
        name: read_frame(shot / "out" / name / "plate.1001.exr")
        for name in ("alpha", "foreground", "premultiplied", "comp")
    }
    assert frames["premultiplied"].colorspace == frames["comp"].colorspace == "srgb"
    alpha, foreground = frames["alpha"].pixels, frames["foreground"].pixels
    assert 0 < alpha[20, 40] < 1
    product = frames["premultiplied"].pixels
    assert np.array_equal(product[..., :3], foreground * alpha)
    comp = product[..., :3] + (1 - alpha) * np.float32(128 / 255)
    # Rounding of the curve, there and back: 1e-6 at most.
    assert np.abs(frames["comp"].pixels - comp).max() < 1e-5


def test_a_truncated_plate_is_named_and_the_others_are_made(command, shot):
    path = shot / "plate.1003.exr"
    path.write_bytes(path.read_bytes()[:-100])
    done = command.run(*MATTE, "--progress", "openjd")
    assert done.returncode == 3
    assert done.stderr.startswith("mattebridge: frame 1003: cannot read plate.1003.exr")
    assert len(list((shot / "out/alpha").iterdir())) == 5
    assert len(re.findall(r"^openjd_fail: .*plate\.1003\.exr", done.stdout, re.M)) == 1
    assert "openjd_progress: 100.0" in done.stdout


def test_nothing_is_rendered_when_a_frame_is_missing(command, shot):
    (shot / "plate.1004.exr").unlink()
    done = command.run(*MATTE, "--frames", "1001-1006")
    assert (done.returncode, done.stdout) == (2, "")
    assert "plate has no frame 1004" in done.stderr
    assert not (shot / "out").exists()
    assert command.run("status").returncode == 5  # and no daemon was started for it


def test_a_wrong_setting_is_refused_with_the_models_words(command, shot):
    done = command.run(*MATTE, "--set", "no_such_knob=1")
    assert done.returncode == 2
    assert "no_such_knob" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_job_that_is_refused_before_its_first_frame_leaves_nothing(command, shot):
    refusals = {
        ("--set", "no_such_knob=1"): "no_such_knob",
        ("--model", "no_such_model"): "there is no model",
        ("--outputs", "alpha,error"): "gives no error",
        ("--format", "alpha=prores4444", "--set", "no_such_knob=1"): "no_such_knob",
        ("--existing", "overwrite", "--set", "no_such_knob=1"): "no_such_knob",
        ("--core-matte", "core.exr"): "core.exr",
        ("-o", "clean.exr/out"): "nothing can be written",
    }
    before = sorted(shot.rglob("*"))
    for options, why in refusals.items():
        done = command.run(*MATTE, *options)
        assert done.returncode == 2
        assert why in done.stderr
        assert sorted(shot.rglob("*")) == before
    done = command.run("matte", "plate.####.exr", "-o", "out")
    assert done.returncode == 2
    assert "needs a clean plate" in done.stderr
    assert sorted(shot.rglob("*")) == before


def test_a_refused_setting_leaves_what_an_earlier_job_made_as_it_is(command, shot):
    assert command.run(*MATTE, "--frames", "1001-1002").returncode == 0
    before = {path: path.read_bytes() for path in (shot / "out").rglob("*") if path.is_file()}
    for existing in ("overwrite", "verify"):
        done = command.run(*MATTE, "--existing", existing, "--set", "no_such_knob=1")
        assert done.returncode == 2
    after = {path: path.read_bytes() for path in (shot / "out").rglob("*") if path.is_file()}
    assert after == before


@pytest.fixture
def gate(tmp_path):
    """A file: while it is there, the frame that a hook names is not finished."""
    path = tmp_path / "gate"
    path.touch()
    return path


@pytest.mark.slow
def test_a_cancelled_job_is_status_four_and_is_resumed_to_the_same_bytes(command, shot, gate):
    assert command.run(*MATTE).returncode == 0
    clean_run = outputs(shot)
    shutil.rmtree(shot / "out")
    command.run("stop")
    process = command.start(*MATTE, MATTEBRIDGE_TEST_HOOKS=f"model#1006=gate:{gate}")
    wait_for_a_frame(process)
    process.terminate()
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 4
    assert errors == "mattebridge: the job was cancelled; run it again with --resume\n"
    assert leftovers(shot) == []
    assert 0 < len(outputs(shot)) < len(clean_run)
    assert command.status()["state"] in ("ready", "busy")
    gate.unlink()
    resumed = command.run(*MATTE, "--resume")
    assert resumed.returncode == 0
    assert "found" in resumed.stdout
    assert outputs(shot) == clean_run


@pytest.mark.slow
def test_a_job_killed_at_once_leaves_whole_frames_and_is_resumed(command, shot, gate):
    process = command.start(*MATTE, MATTEBRIDGE_TEST_HOOKS=f"model#1006=gate:{gate}")
    wait_for_a_frame(process)
    process.kill()
    process.communicate(timeout=LIMIT_S)
    gate.unlink()
    for name in outputs(shot):
        read_frame(shot / "out" / name)
    resumed = command.run(*MATTE, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert leftovers(shot) == []
    assert len(outputs(shot)) == 18


def test_a_daemon_killed_in_the_middle_is_replaced_and_no_frame_is_missing(command, shot, gate):
    process = command.start(*MATTE, MATTEBRIDGE_TEST_HOOKS=f"model#1006=gate:{gate}")
    wait_for_a_frame(process)
    os.kill(command.status()["pid"], signal.SIGKILL)
    gate.unlink()
    out, errors = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, errors) == (0, ""), out
    assert len(outputs(shot)) == 18
    for name in outputs(shot):
        read_frame(shot / "out" / name)


@pytest.mark.slow
def test_without_permission_to_start_one_a_lost_daemon_is_status_five(command, shot, gate):
    hooks = {"MATTEBRIDGE_TEST_HOOKS": f"model#1006=gate:{gate}"}
    assert command.run("serve", "--detach", "--devices", "cpu", **hooks).returncode == 0
    process = command.start(*MATTE, "--no-spawn")
    wait_for_a_frame(process)
    os.kill(command.status()["pid"], signal.SIGKILL)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 5
    assert errors.startswith("mattebridge: ")
    assert leftovers(shot) == []


def test_a_worker_that_dies_on_one_frame_costs_only_that_frame(command, shot):
    done = command.run(*MATTE, MATTEBRIDGE_TEST_HOOKS="model#1003=kill")
    assert done.returncode == 3, done.stderr
    assert "frame 1003" in done.stderr
    assert len(list((shot / "out/alpha").iterdir())) == 5


def film(folder: Path) -> None:
    """take.mov: six frames, lossless, and the clean plate as a picture."""
    writer = open_video(
        folder / "take.mov",
        VIDEO_FORMATS["png-mov"],
        width=WIDTH,
        height=HEIGHT,
        times=VideoTimes(Fraction(30000, 1001)),
    )
    for index in range(6):
        writer.add(display_codes(paint(index)[0], dtype="uint8", colorspace="linear"))
    writer.close()
    write_frame(folder / "clean.png", paint(0)[1])


VIDEO = ("matte", "take.mov", "--clean-plate", "clean.png", "-o", "out")
VIDEO += ("--outputs", "alpha,premultiplied", "--format", "ffv1,premultiplied=prores4444")


@pytest.mark.slow
def test_a_video_becomes_videos(real_command, tmp_path):
    film(tmp_path)
    done = real_command.run(*VIDEO)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    alpha, rgba = (
        probe(tmp_path / "out/alpha/take.mkv"),
        probe(tmp_path / "out/premultiplied/take.mov"),
    )
    assert (alpha.frames, alpha.rate, rgba.frames) == (6, Fraction(30000, 1001), 6)
    assert rgba.has_alpha
    reader = VideoReader(tmp_path / "out/alpha/take.mkv")
    for index in (4, 1):
        plate, _ = paint(index)
        matte = reader.frame(index).pixels[..., 0] / 255
        subject = plate[..., 0] > 2
        assert matte[subject].mean() > 0.9
        assert matte[~subject].mean() < 0.1
    reader.close()
    again = real_command.run(*VIDEO, "--resume")
    assert again.returncode == 0
    assert "6 found good" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow
def test_a_job_that_is_ended_leaves_no_video_under_a_final_name(command, tmp_path, gate, number):
    film(tmp_path)
    process = command.start(*VIDEO, MATTEBRIDGE_TEST_HOOKS=f"model#5=gate:{gate}")
    wait_for_a_frame(process)
    process.send_signal(number)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == (4 if number == signal.SIGTERM else -signal.SIGKILL)
    final = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".mov", ".mkv")]
    assert final == []
    if number == signal.SIGTERM:
        assert leftovers(tmp_path) == []
    else:
        assert len(leftovers(tmp_path)) > 0
    gate.unlink()
    assert command.run(*VIDEO, "--resume").returncode == 0
    assert leftovers(tmp_path) == []
    assert probe(tmp_path / "out/alpha/take.mkv").frames == 6


@pytest.fixture
def hangup_ends() -> Iterator[None]:
    """SIGHUP as a terminal gives it to what it starts, also where these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_the_end_of_the_terminal_cancels_as_a_queue_does(command, shot, gate, hangup_ends):
    process = command.start(*MATTE, MATTEBRIDGE_TEST_HOOKS=f"model#1006=gate:{gate}")
    wait_for_a_frame(process)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 4
    assert leftovers(shot) == []
    gate.unlink()
    assert command.run(*MATTE, "--resume").returncode == 0
    assert len(outputs(shot)) == 3 * len(FRAMES)


@pytest.mark.slow
def test_a_terminal_that_is_gone_cannot_be_printed_to_and_is_no_bug(
    command, shot, gate, hangup_ends
):
    """As from a window that is closed: SIGHUP, and every further write is an error."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [command.python, "-m", "mattebridge", *MATTE, "--progress", "plain"],
        cwd=command.folder,
        env={**command.environment, "MATTEBRIDGE_TEST_HOOKS": f"model#1006=gate:{gate}"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        words = b""
        while not re.search(rb"frame \d+ done", words):
            words += os.read(ours, 4096)
        os.close(ours)  # it controls no process: the signal is ours to send
        process.send_signal(signal.SIGHUP)
        assert process.wait(LIMIT_S) == 4, words
        assert leftovers(shot) == []
    finally:
        process.kill()
        process.wait()


def test_under_nohup_the_end_of_the_terminal_changes_nothing(command, shot, gate):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = command.start(*MATTE, MATTEBRIDGE_TEST_HOOKS=f"model#1006=gate:{gate}")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for_a_frame(process)
    process.send_signal(signal.SIGHUP)
    gate.unlink()
    _out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err


def test_a_plate_that_is_a_link_into_the_output_folder_is_not_overwritten(command, shot):
    inside = shot / "out" / "alpha" / "plate.1001.exr"
    inside.parent.mkdir(parents=True)
    (shot / "plate.1001.exr").rename(inside)
    (shot / "plate.1001.exr").symlink_to(inside)
    before = inside.read_bytes()
    done = command.run(*MATTE, "--existing", "overwrite", "--no-spawn")
    assert done.returncode == 2, done.stdout
    assert "out/alpha/plate.1001.exr is an input of this job" in done.stderr
    assert inside.read_bytes() == before


def test_a_backdrop_in_the_output_folder_is_not_overwritten(command, shot):
    inside = shot / "out" / "comp" / "plate.1001.png"
    inside.parent.mkdir(parents=True)
    write_frame(inside, paint(1001)[0])
    before = inside.read_bytes()
    backed = ("--background", str(inside), "--outputs", "comp", "--format", "png")
    done = command.run(*MATTE, *backed, "--existing", "overwrite", "--no-spawn")
    assert done.returncode == 2, done.stdout
    assert "is an input of this job" in done.stderr
    assert inside.read_bytes() == before


def stop_under(command: Command, gate: Path) -> None:
    """Stop the daemon while the gate holds back the first frame and the others wait for it."""
    wait_for(Path(f"{gate}.reached").exists, LIMIT_S, "the first frame is being computed")
    stopping = command.start("stop")
    wait_for(lambda: not command.takes_work(), LIMIT_S, "the daemon drains or has ended")
    gate.unlink()
    out, _ = stopping.communicate(timeout=LIMIT_S)
    assert (stopping.returncode, "has stopped" in out) == (0, True)


@pytest.mark.slow
def test_a_daemon_that_is_stopped_under_a_running_job_is_followed_by_the_next(command, shot, gate):
    hooks = {"MATTEBRIDGE_TEST_HOOKS": f"model=deaf:{gate}"}
    process = command.start(*MATTE, "--in-flight", "3", **hooks)
    wait_for(Path(f"{gate}.reached").exists, LIMIT_S, "the first frame is being computed")
    first = command.status()["pid"]
    stop_under(command, gate)
    out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, err) == (0, ""), out
    assert len(outputs(shot)) == 3 * len(FRAMES)
    assert command.status()["pid"] != first


@pytest.mark.slow
def test_a_job_that_may_start_no_daemon_says_how_to_go_on_after_a_stop(command, shot, gate):
    hooks = {"MATTEBRIDGE_TEST_HOOKS": f"model=deaf:{gate}"}
    assert command.run("serve", "--detach", "--devices", "cpu", **hooks).returncode == 0
    process = command.start(*MATTE, "--no-spawn")
    stop_under(command, gate)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 5, out
    assert "the daemon is stopping" in err
    assert "run it with --resume" in err
    assert command.run(*MATTE, "--resume").returncode == 0
    assert len(outputs(shot)) == 3 * len(FRAMES)


@pytest.mark.slow
def test_models_are_listed_by_the_daemon(command):
    assert command.run("serve", "--detach", "--devices", "cpu").returncode == 0
    listed = json.loads(command.run("models", "--json").stdout)
    assert "difference" in {card["name"] for card in listed}
    assert "digest" in command.run("models", "show", "default").stdout
