"""The command line: what it prints, where, and with which exit status."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fakes.inprocess_client import InProcessClient
from fakes.limits import SOON_S
from fakes.places import BRIDGE, TESTS
from mattebridge import cli
from mattebridge.clips.configs import PostprocessConfig
from mattebridge.clips.job import LAYOUTS
from mattebridge.clips.requests import clean_up_of
from mattebridge.commands import clips, options
from mattebridge.commands.options import make_job
from mattebridge.commands.tables import model_text, models_table, status_table
from mattebridge.errors import ConnectionFailed, NonFiniteError
from mattebridge.image_io import read_frame, write_frame
from mattebridge.shot import outputs, progress
from mattebridge.shot.job import NUMBERINGS, MatteJob
from mattebridge.wire import oslayer
from mattebridge.wire.params import CLEAN_UP_NAMES, PARAMS, RenderParams
from mattebridge.wire.windows_names import fault_of


@pytest.fixture
def shot(tmp_path, monkeypatch):
    """Three small frames, a clean plate, and a client that needs no daemon."""
    clean = np.random.default_rng(1).random((16, 24, 3), dtype=np.float32) * 0.5
    for frame in (1001, 1002, 1003):
        plate = clean.copy()
        plate[4:9, 5:12] = 2.0
        write_frame(tmp_path / f"plate.{frame}.exr", plate)
    write_frame(tmp_path / "clean.exr", clean)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def client(monkeypatch):
    fake = InProcessClient()
    monkeypatch.setattr("mattebridge.commands.matte.connect", lambda options, **given: fake)
    return fake


MATTE = ["matte", "plate.####.exr", "--clean-plate", "clean.exr", "-o", "out"]


# ----------------------------------------------------------------------------------------- matte


def test_matte_writes_the_mattes_and_says_so(shot, client, capsys):
    assert cli.main(MATTE) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == (
        "mattebridge: frames 1001-1003 with model difference:"
        " alpha, foreground, premultiplied to out"
    )
    assert [line.split(" ms")[1] for line in lines[1:4]] == [" (1/3)", " (2/3)", " (3/3)"]
    assert lines[4].startswith("mattebridge: 3 frames: 3 done, ")
    assert read_frame("out/alpha/plate.1002.exr").pixels.max() == 1.0


def test_a_failed_frame_is_status_three_and_one_sentence(shot, client, capsys):
    client.fail[1002] = NonFiniteError("the plate holds 3 values that are not finite")
    assert cli.main([*MATTE, "--report", "report.jsonl"]) == 3
    printed = capsys.readouterr()
    assert printed.err == (
        "mattebridge: frame 1002: the plate holds 3 values that are not finite\n"
    )
    assert "frame 1002 failed: the plate holds" in printed.out
    lines = Path("report.jsonl").read_text().splitlines()
    statuses = [json.loads(line)["status"] for line in lines]
    assert statuses == ["done", "failed", "done"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["matte", "none.exr", "-o", "out"], "plate none.exr does not exist"),
        ([*MATTE, "--frames", "1001-1009"], "plate has no frames 1004-1009"),
        ([*MATTE, "--frames", "1001 1002"], "frames '1001 1002'"),
        ([*MATTE, "--frames", "-3--1"], "plate has no frames -3--1"),
        ([*MATTE, "--outputs", "alpha,depth"], "no output 'depth'"),
        ([*MATTE, "--set", "gain"], "--set takes key=value"),
        ([*MATTE, "--model", "magic"], "no model 'magic'"),
    ],
)
def test_wrong_usage_is_status_two_and_one_sentence(shot, client, capsys, arguments, says):
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("mattebridge: ")
    assert says in printed.err
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err


def test_the_parser_speaks_in_one_sentence_too(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["matte", "--frames"])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("mattebridge: ")
    assert printed.count("\n") == 1


def test_clips_start_with_the_clean_up_of_the_clip_pipelines_configuration():
    options = vars(cli.build_parser().parse_args(["clips", "shots"]))
    assert {name: options[name].value for name in CLEAN_UP_NAMES} == clean_up_of(
        PostprocessConfig()
    )


def test_a_traceback_is_shown_only_when_asked_for(shot, client, capsys, monkeypatch):
    wrong = [*MATTE, "--frames", "7"]
    assert cli.main([*wrong, "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("MATTEBRIDGE_TRACEBACK", "1")
    assert cli.main(wrong) == 2
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("MATTEBRIDGE_TRACEBACK", "0")
    assert cli.main(wrong) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_no_daemon_and_no_spawn_is_status_five(shot, tmp_path, capsys):
    nobody = str(tmp_path / "run")
    assert cli.main([*MATTE, "--no-spawn", "--instance", nobody]) == 5
    assert "no daemon" in capsys.readouterr().err
    assert not Path("out").exists()


def test_resuming_finds_what_is_good(shot, client, capsys):
    cli.main(MATTE)
    os.unlink("out/alpha/plate.1002.exr")
    assert cli.main([*MATTE, "--resume"]) == 0
    assert "3 frames: 1 done" in capsys.readouterr().out
    assert cli.main(MATTE) == 2
    assert "--resume" in capsys.readouterr().err


def test_every_option_reaches_the_job():
    text = """--alpha-hint h.####.png --garbage-matte g.exr --core-matte c.exr --hint-channel R
        --frames=1-2 --within 1-9 --missing hold --colorspace srgb --plate-alpha straight
        --deinterlace --offset clean_plate=-1000 --offset alpha-hint=5 --recursive
        --preset background-matting --numbering image_sequences --frame-rate 29.97 --no-audio
        --quantise truncate
        --outputs alpha,comp --layers --format png --background #204080 --output-colorspace srgb
        --premultiply display --keep-data-window --existing overwrite
        --model m --set a=1 --set b=0.5 --set c=true --set d=closed-form
        --foreground unmix --alignment off --no-match-exposure --nonfinite zero --exact
        --timeout 5 --deadline 4 --in-flight 3 --memory 64"""
    given = cli.build_parser().parse_args([*MATTE, *text.split()])
    assert make_job(given) == MatteJob(
        plate="plate.####.exr",
        output=Path("out"),
        clean_plate="clean.exr",
        alpha_hint="h.####.png",
        garbage_matte="g.exr",
        core_matte="c.exr",
        hint_channel="R",
        deinterlace=True,
        frames="1-2",
        within="1-9",
        offsets={"clean_plate": -1000, "alpha_hint": 5},
        recursive=True,
        preset="background-matting",
        numbering="image_sequences",
        frame_rate=Fraction(30000, 1001),
        audio=False,
        truncate=True,
        missing="hold",
        outputs=("alpha", "comp"),
        layers=True,
        formats="png",
        background="#204080",
        keep_data_window=True,
        existing="overwrite",
        model="m",
        params=RenderParams(
            colorspace="srgb",
            output_colorspace="srgb",
            premultiply="display",
            plate_alpha="straight",
            foreground="unmix",
            alignment="off",
            match_exposure=False,
            nonfinite="zero",
            exact=True,
            settings={"a": 1, "b": 0.5, "c": True, "d": "closed-form"},
        ),
        timeout_s=5.0,
        deadline_s=4.0,
        in_flight=3,
        max_bytes=64 << 20,
    )


def test_options_left_out_are_the_defaults_of_the_job():
    given = cli.build_parser().parse_args(["matte", "p.exr", "-o", "out"])
    assert make_job(given) == MatteJob(plate="p.exr", output=Path("out"))


def test_the_choices_of_the_parser_are_those_of_the_job():
    parser = argparse.ArgumentParser()
    options.add_outputs(parser)
    choices = {action.dest: action.choices for action in parser._actions}
    assert choices["numbering"] == NUMBERINGS
    of_layouts = {preset for preset in LAYOUTS.values() if preset is not None}
    assert {*choices["preset"], *of_layouts} == set(outputs.PRESETS)


def test_the_layouts_of_clips_are_those_of_the_parser():
    parser = argparse.ArgumentParser()
    clips._add_results(parser)
    choices = {action.dest: action.choices for action in parser._actions}
    assert set(choices["layout"]) == set(LAYOUTS)


def test_every_render_parameter_is_an_option():
    parser = argparse.ArgumentParser()
    add_all = (options.add_inputs, options.add_outputs, options.add_keying, options.add_clean_up)
    for add in add_all:
        add(parser)
    actions = {action.dest: action for action in parser._actions}
    for param in PARAMS:
        assert param.option in actions[param.name].option_strings
        if param.kind != "space":
            assert tuple(actions[param.name].choices or ()) == param.choices


def test_a_number_of_the_clean_up_is_read_within_its_range(capsys):
    parser = argparse.ArgumentParser()
    options.add_clean_up(parser)
    asked = parser.parse_args(["--despill-strength", "0.5", "--despeckle-size", "9"])
    assert (asked.despill_strength, asked.despeckle_size) == (0.5, 9)
    for words in (["--despill-strength", "2"], ["--edge-blur-px", "1.5"]):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert f"'{words[1]}' is not a" in capsys.readouterr().err


# The options and arguments that name what is read; every other path is written.
READ = {"folder", "records", "wheels", "set", "file", "path", "import_config"}


def parsers_below(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    below = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in {id(each): each for each in action.choices.values()}.values():
                below += parsers_below(one)
    return below


def test_every_path_that_a_command_writes_is_checked_in_one_place():
    paths = {
        (parser.prog.split()[1], action.dest): action.type
        for parser in parsers_below(cli.build_parser())
        for action in parser._actions
        if action.type in (Path, options.path_to_write)
    }
    assert {dest for (_, dest), kind in paths.items() if kind is Path} == READ
    written = {key for key, kind in paths.items() if kind is options.path_to_write}
    assert written >= {
        ("matte", "output"), ("matte", "report"), ("clips", "results"), ("clips", "report"),
        ("hint", "output"), ("clean-plate", "output"), ("sample", "directory"),
        ("demo", "directory"), ("report", "output"), ("eval", "output"), ("models", "output"),
        ("install", "to"), ("farm", "to"), ("farm", "output"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "command",
    ["sample aux", "report out -o aux", "clean-plate p.exr -o aux", "hint p.exr -o aux"],
)
def test_a_name_that_the_system_takes_for_another_file_is_refused_at_once(
    command, monkeypatch, capsys
):
    layer = type(oslayer.current())
    monkeypatch.setattr(layer, "fault_of_path", lambda _self, path: fault_of(path))
    with pytest.raises(SystemExit) as ended:
        cli.main(command.split())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "aux cannot be used: 'aux' is the name of a device in Windows; choose another" in said


def test_the_help_names_every_format_output_and_progress():
    text = cli.build_parser().format_help()
    for command in ("matte", "sample", "demo", "serve", "status", "stop", "models"):
        assert command in text
    matte = subprocess.run(
        [sys.executable, "-m", "mattebridge", "matte", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "500", "PYTHONPATH": str(BRIDGE)},
    ).stdout
    for name in (*outputs.OUTPUTS, *(form.name for form in outputs.FORMATS.values())):
        assert name in matte
    assert "{" + ",".join(progress.MODES) + "}" in matte
    assert "examples:" in matte
    assert "exit status:" in matte


def test_help_and_the_client_side_load_nothing_heavy():
    watch = (
        "import sys; from mattebridge import cli; cli.build_parser().format_help();"
        "heavy = {'torch', 'cv2', 'numpy', 'zmq', 'OpenImageIO'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": str(BRIDGE)}
    subprocess.run([sys.executable, "-c", watch], check=True, env=environment, timeout=60)


# ---------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_cancels_with_status_four_and_nothing_half_written(
    shot, client, capsys, monkeypatch, number
):
    # SIGUSR1 stands for SIGBREAK, which Windows has from Ctrl-Break and the closing of a console.
    layer, asked = type(oslayer.current()), oslayer.current().stop_signals()
    monkeypatch.setattr(layer, "stop_signals", lambda _self: (*asked, signal.SIGUSR1))
    before = signal.getsignal(number)

    def delay_s(frame: int) -> float:
        if frame != 1002:  # in whatever order they come
            return 0.0
        os.kill(os.getpid(), number)  # the job runs, so its handler is there
        return 10 * SOON_S

    client.delay_s = delay_s
    started = time.monotonic()
    assert cli.main([*MATTE, "--in-flight", "1"]) == 4
    assert time.monotonic() - started < 4 * SOON_S
    assert (
        "mattebridge: the job was cancelled; run it again with --resume" in capsys.readouterr().err
    )
    assert not [path for path in Path("out").rglob("*") if path.name.endswith(".tmp")]
    assert signal.getsignal(number) is before


HANGING = """
import os, sys, time
sys.path[:0] = sys.argv[1:3]
from fakes.inprocess_client import InProcessClient
from mattebridge import cli
from mattebridge.commands import matte
from mattebridge.image_io.sources import Pictures
matte.connect = lambda options, **given: InProcessClient()
matte.CANCEL_LIMIT_S = 0.5
# One write: two readers may come here at once.
Pictures.frame = lambda self, source, **_: (os.write(1, b"reading\\n"), time.sleep(60))
sys.exit(cli.main(["matte", "plate.####.exr", "--clean-plate", "clean.exr", "-o", "out",
                   "--progress", "none"]))
"""


def test_a_read_that_hangs_does_not_keep_a_cancelled_job(shot):
    source = [str(BRIDGE), str(TESTS)]
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, *source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "reading\n"
            process.terminate()
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 4
    assert errors.startswith("mattebridge: cancelled")


# --------------------------------------------------------------------------------- other commands

STATUS = {
    "state": "ready",
    "version": "0.1.0",
    "pid": 15021,
    "instance": "v1",
    "folder": "/run/user/0/mattebridge/v1",
    "log": "/run/user/0/mattebridge/v1/log",
    "uptime_s": 3725.4,
    "workers": [
        {
            "device": "cuda:0",
            "state": "busy",
            "pid": 15025,
            "restarts": 1,
            "frames": 40,
            "frame": 1003,
            "in_flight": 3,
            "memory": {"resident_bytes": 3_100_000_000},
        }
    ],
    "models": ["difference"],
    "queue": {"interactive": 1, "batch": 2, "limit": 256},
    "sessions": [{"client": "matte", "host": "", "pid": 7, "arenas": 2, "bytes": 5_000_000}],
    "frames": {"done": 40, "error": 1, "cancelled": 0},
    "timings": {"queue_ms": 0.2, "render_ms": 300.0},
    "memory": {"arena_bytes": 2e8, "arena_limit": 4e9, "front_bytes": 2.8e7},
    "plates": [{"name": "set\n1", "w": 1920, "h": 1080, "bytes": 2.5e7}],
}


def test_the_status_table_reads_like_a_page():
    shown = status_table(STATUS)
    assert shown.splitlines()[0] == (
        "mattebridge 0.1.0: ready (instance v1, pid 15021, up 1:02:05)"
    )
    for words in (
        "cuda:0  busy",
        "frame 1003 +2",
        "3.1 GB",
        "40 done, 1 error",
        "1920x1080",
        "set 1",
    ):
        assert words in shown
    assert "arenas 200 MB of 4.0 GB" in shown


def test_an_empty_status_is_still_a_table():
    assert "mattebridge ?: ?" in status_table({})


def test_status_prints_json_for_programs(monkeypatch, capsys):
    class Client(InProcessClient):
        def status(self):
            return {**STATUS, "op": "status", "id": b"x"}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

    monkeypatch.setattr("mattebridge.client.MatteClient.connect", lambda *_, **__: Client())
    assert cli.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS
    assert cli.main(["status"]) == 0
    assert "WORKER" in capsys.readouterr().out


def test_status_without_a_daemon_says_how_to_start_one(tmp_path, capsys):
    assert cli.main(["status", "--json", "--instance", str(tmp_path)]) == 5
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"state": "not running"}
    assert "mattebridge serve" in printed.err


def test_stop_without_a_daemon_is_a_success(tmp_path, capsys):
    assert cli.main(["stop", "--instance", str(tmp_path)]) == 0
    assert "no daemon runs" in capsys.readouterr().out


def test_models_are_listed_without_a_daemon(tmp_path, capsys):
    instance = ["--instance", str(tmp_path)]
    assert cli.main(["models", *instance]) == 0
    assert "difference (default)" in capsys.readouterr().out
    assert cli.main(["models", "list", "--json", *instance]) == 0
    assert "difference" in {card["name"] for card in json.loads(capsys.readouterr().out)}
    assert cli.main(["models", "show", "default", *instance]) == 0
    assert "digest" in capsys.readouterr().out
    assert cli.main(["models", "show", "magic", *instance]) == 2
    assert "no model 'magic'" in capsys.readouterr().err


def test_the_settings_of_a_model_are_shown_with_their_range():
    card = {
        "name": "m",
        "needs": ["plate"],
        "settings": {
            "gain": {"type": "float", "default": 1.0, "help": "how much", "min": 0.0, "max": 4.0},
            "mode": {"type": "choice", "default": "a", "help": "which", "choices": ["a", "b"]},
        },
    }
    shown = model_text(card)
    assert "gain     1.0      0 .. 4  how much" in shown
    assert "mode     a        a | b   which" in shown
    assert models_table([card]).splitlines()[1].startswith("m")


def test_serve_passes_its_options_on(monkeypatch, capsys):
    from mattebridge.daemon import control

    seen = {}

    def serve(instance, **given):
        seen.update(given, instance=instance)
        return 0

    monkeypatch.setattr(control, "serve", serve)
    arguments = ["serve", "--detach", "--devices", "cpu", "--instance", "x", "--idle-exit", "120"]
    assert cli.main(arguments) == 0
    assert seen == {
        "instance": "x",
        "detach": True,
        "devices": "cpu",
        "idle_exit_s": 120.0,
        "auto": False,
    }
    assert "the daemon accepts in" in capsys.readouterr().out


def test_a_refusal_of_serve_is_one_sentence(monkeypatch, capsys):
    from mattebridge.daemon import control

    def serve(instance, **given):
        raise ConnectionFailed("the daemon ended with status 1 before it accepted: no memory")

    monkeypatch.setattr(control, "serve", serve)
    assert cli.main(["serve", "--detach"]) == 5
    assert capsys.readouterr().err.startswith("mattebridge: the daemon ended with status 1")


@pytest.mark.slow
def test_sample_renders_a_shot_and_says_what_to_type_next(tmp_path, capsys):
    arguments = ["sample", str(tmp_path / "shot"), "--frames", "1", "--size", "64x36"]
    assert cli.main([*arguments, "--first-frame", "7"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split()[:2] == ["mattebridge", "matte"]
    plate = last.split()[2]
    assert read_frame(plate.replace("####", "0007")).pixels.shape == (36, 64, 3)
    with pytest.raises(SystemExit):
        cli.main(["sample", "x", "--size", "big"])


@pytest.mark.slow
def test_sample_asks_before_it_replaces_and_never_replaces_what_is_not_its_own(tmp_path, capsys):
    shot = tmp_path / "shot"
    again = ["sample", str(shot), "--frames", "1", "--size", "64x36"]
    assert cli.main(again) == 0
    before = (shot / "shot.json").read_bytes()
    assert cli.main([*again, "--seed", "2"]) == 2
    assert "shot.json exists already; use --existing overwrite" in capsys.readouterr().err
    assert (shot / "shot.json").read_bytes() == before
    assert cli.main([*again, "--seed", "2", "--existing", "overwrite"]) == 0
    assert (shot / "shot.json").read_bytes() != before
    mine = shot / "plate" / "hero.1001.exr"
    mine.write_bytes(b"mine")
    assert cli.main([*again, "--existing", "overwrite"]) == 2
    assert "hero.1001.exr is no frame of a sample shot" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "shot.json").write_text("{}")
    for existing in ("error", "overwrite"):
        assert cli.main(["sample", str(other), "--frames", "1", "--existing", existing]) == 2
    assert (other / "shot.json").read_text() == "{}"


CLOSED_STREAMS = """
import os, sys
from mattebridge import cli
ended, *command = sys.argv[1:]
status = cli.main(command)
streams = [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]
open(ended, "w").write("\\n".join([str(status), *streams]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "arguments"),
    [
        ((1,), ["models"]),
        ((2,), ["models"]),
        ((0,), ["models"]),
        # Files are opened and written while all three numbers would be free.
        ((0, 1, 2), ["sample", "shot", "--frames", "1", "--size", "64x36"]),
    ],
)
def test_closed_standard_streams_are_no_bug_and_their_numbers_no_files(tmp_path, closed, arguments):
    """As in `mattebridge sample shot >&-`."""
    ended = tmp_path / "ended"
    command = [sys.executable, "-c", CLOSED_STREAMS, str(ended), *arguments]
    closing = " ".join(f"{number}>&-" for number in closed)
    subprocess.run(
        ["sh", "-c", f'exec "$@" {closing}', "sh", *command], check=True, timeout=120, cwd=tmp_path
    )
    status, *streams = ended.read_text().split("\n")
    assert status == "0"
    assert [streams[number] for number in closed] == ["/dev/null"] * len(closed)
