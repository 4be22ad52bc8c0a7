"""What a queue is told and given: frame texts, exit statuses, lines, resumed frames, and recipes.

Rows J1 to J15 are those of the acceptance list of the farm; each docstring names its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml

from fakes.farm import ROOT, paint_shot
from fakes.inprocess_client import InProcessClient
from fakes.jobs import matte_job
from mattebridge import cli, errors
from mattebridge.commands.farm import queues
from mattebridge.commands.farm.bundle import farm_folder
from mattebridge.commands.farm.path_map import map_path, read_rules
from mattebridge.commands.options import make_job
from mattebridge.commands.tables import status_table
from mattebridge.errors import FrameWriteError, UsageError
from mattebridge.image_io import read_frame, write_frame
from mattebridge.image_io.frame_ranges import parse_frames
from mattebridge.shot import summary
from mattebridge.shot.job import MatteJob
from mattebridge.shot.run import run_job

FRAMES = range(1001, 1011)


@pytest.fixture
def shot(tmp_path, monkeypatch):
    paint_shot(tmp_path, FRAMES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


MATTE = ["plate.####.exr", "--clean-plate", "clean.exr", "-o", "out"]


def run(shot: Path, client: InProcessClient | None = None, **options):
    job = matte_job(
        plate=str(shot / "plate.####.exr"),
        clean_plate=str(shot / "clean.exr"),
        output=shot / "out",
        **options,
    )
    return run_job(job, lambda: client or InProcessClient())


# ------------------------------------------------------------------------------------ frame texts


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        # The same characters mean other frames elsewhere: hence the prefix.
        ("1-10x2", [1, 3, 5, 7, 9]),
        ("nuke:1-10x2", [1, 3, 5, 7, 9]),
        ("openjd:1-10x2", None),
        ("openjd:1-5:2", [1, 3, 5]),
        ("1-5:2", None),
        ("nuke:1-5:2", None),
        ("nuke:1 3 4 8", [1, 3, 4, 8]),
        ("1 3 4 8", None),
        ("openjd:1 3 4 8", None),
        ("1,3-5", [1, 3, 4, 5]),
        ("openjd:1,3-5", [1, 3, 4, 5]),
        ("1-10y3", [2, 3, 5, 6, 8, 9]),
        ("-3--1", [-3, -2, -1]),
        ("-3-5", list(range(-3, 6))),
        ("openjd:-3--1", [-3, -2, -1]),
        ("10-1", list(range(1, 11))),
        ("openjd:10-1:-1", list(range(1, 11))),
        ("1-3,2-5", [1, 2, 3, 4, 5]),
        ("", None),
        ("   ", None),
        ("openjd:", None),
        ("nuke:", None),
        # What a queue cuts ranges into.
        ("openjd:7,9", [7, 9]),
        ("openjd:1-3,7", [1, 2, 3, 7]),
        ("openjd:0-2", [0, 1, 2]),
        ("openjd:5-5", [5]),
    ],
)
def test_a_frame_text_means_its_frames_or_is_refused(text, frames):
    """J7."""
    if frames is None:
        with pytest.raises(UsageError):
            parse_frames(text)
    else:
        assert parse_frames(text) == frames


def test_the_text_of_a_queue_never_reaches_the_reader_of_another_grammar(monkeypatch):
    """J7: fileseq takes 1-5:2 for five frames, and says nothing."""
    import fileseq.frameset

    def never(*_: object) -> None:
        raise AssertionError("read by fileseq")

    monkeypatch.setattr(fileseq.frameset.FrameSet, "__init__", never)
    assert parse_frames("openjd:1-5:2") == [1, 3, 5]


def test_a_chunk_takes_every_input_by_frame_number(shot):
    """J11: plate 1001-1010, hint 995-1020, a still clean plate; frame 1005 meets hint 1005."""
    for frame in range(995, 1021):
        write_frame(shot / f"hint.{frame}.exr", np.full((48, 64, 1), frame / 2048, np.float32))
    client = InProcessClient(card={"uses_alpha_hint": True})
    hint = str(shot / "hint.####.exr")
    assert run(shot, client, frames="openjd:1005-1007", alpha_hint=hint).exit_status == 0
    met = {entry["frame"]: float(entry["alpha_hint"].max()) for entry in client.requests}
    assert met == pytest.approx({frame: frame / 2048 for frame in (1005, 1006, 1007)}, abs=1e-3)


# --------------------------------------------------------------------------------- exit statuses


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("E_INPUTS", 2),
        ("E_GEOMETRY", 2),
        ("E_DTYPE", 2),
        ("E_TOO_LARGE", 2),
        ("E_MODEL", 2),
        ("E_MESSAGE", 2),
        ("E_VERSION", 2),
        ("E_NONFINITE", 3),
        ("E_OOM", 3),
        ("E_TORN", 3),
        ("E_UID", 5),
        ("E_LEASE", 5),
        ("E_DRAINING", 5),
        ("E_QUOTA", 5),
        ("E_WORKER_LOST", 5),
        ("E_INTERNAL", 1),
    ],
)
def test_every_error_of_the_daemon_has_its_exit_status(code, status):
    """J8."""
    assert errors.from_wire(code, "words", False, {}).exit_status == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConnectionFailed("no daemon"), 5),
        (errors.DaemonLost("gone"), 5),
        (errors.Cancelled("stop"), 4),
        (errors.FrameReadError("damaged"), 3),
        (errors.FrameWriteError("full"), 3),
        (errors.SequenceError("a hole"), 2),
        (errors.OutputExistsError("there"), 2),
        (ZeroDivisionError("oops"), 1),
    ],
)
def test_every_ending_of_the_command_has_its_exit_status_and_one_last_line(
    shot, monkeypatch, capsys, error, status
):
    """J8, J9: by direct call, before the first frame; cancelled is never 0."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("mattebridge.commands.matte.connect", refuse)
    assert cli.main(["matte", *MATTE, "--progress", "openjd"]) == status
    printed = capsys.readouterr()
    assert printed.out.count("openjd_fail: ") == 1
    assert str(error) in printed.out


def test_a_cancel_that_comes_before_the_first_frame_is_a_cancel(shot, monkeypatch, capsys):
    """J3, J8: the queue changes its mind while the command is still starting."""

    def cancelled_meanwhile(options: argparse.Namespace) -> MatteJob:
        os.kill(os.getpid(), signal.SIGTERM)
        return make_job(options)

    monkeypatch.setattr("mattebridge.commands.matte.make_job", cancelled_meanwhile)
    monkeypatch.setattr(
        "mattebridge.commands.matte.connect", lambda options, **given: InProcessClient(delay_s=0.2)
    )
    assert cli.main(["matte", *MATTE, "--progress", "openjd"]) == 4
    assert capsys.readouterr().out.count("openjd_fail: ") == 1


def test_the_gravest_of_several_endings_decides(shot):
    """J8: 1 before 4 before 5 before 3 before 2."""
    order = [ValueError(), errors.Cancelled(""), errors.DaemonLost(""), FrameWriteError(""),
             UsageError("")]  # fmt: skip
    assert [summary.gravity(cause) for cause in order] == [0, 1, 2, 3, 4]


# ----------------------------------------------------------------------------------------- lines


def test_no_name_of_a_file_and_no_bug_begins_a_line(tmp_path, monkeypatch, capsys):
    """J9: a line that begins with openjd_ is a command to the queue."""
    hostile = tmp_path / "in\nopenjd_env: X=1\r\x1b[31m"
    hostile.mkdir()
    (hostile / "a\nopenjd_fail: b.0001.exr").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    folder = str(hostile)
    assert cli.main(["matte", folder, "--clean-plate", folder, "-o", "out"]) == 3
    assert cli.main(["matte", f"{folder}/none.exr", "-o", "out", "--progress", "openjd"]) == 2
    with pytest.raises(SystemExit):
        cli.main(["matte", folder, "-o", "out", "--progress", "x\nopenjd_env: Y=1"])

    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug\nopenjd_env: Z=1")

    monkeypatch.setattr("mattebridge.commands.matte.make_job", broken)
    assert cli.main(["matte", folder, "-o", "out", "--progress", "openjd"]) == 1
    printed = capsys.readouterr()
    said = (printed.out + printed.err).splitlines()
    commands = [line for line in said if line.lstrip().startswith("openjd_")]
    assert [line.partition(":")[0] for line in commands] == ["openjd_fail"] * 2
    assert "\x1b" not in printed.out + printed.err
    assert "Traceback" in printed.err


def test_the_status_names_the_sessions_that_a_daemon_is_kept_for():
    """J5: nobody may be connected, and yet it is in use."""
    assert "users     by-hand, openjd-3f2a\n" in status_table({"users": ["by-hand", "openjd-3f2a"]})
    assert "users" not in status_table({"users": ["by-hand"]})


# ---------------------------------------------------------------------------- resumed frames


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _almost(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.999)])


def _not_renamed(path: Path) -> None:
    path.rename(path.with_name(f".{path.name}.elsewhere-1.0.tmp"))


def _read_only(path: Path) -> None:
    _half(path)
    path.chmod(0o444)


@pytest.mark.parametrize(
    "damage", [Path.unlink, _half, _almost, lambda path: path.write_bytes(b""), _not_renamed,
               _read_only], ids=["gone", "half", "almost", "empty", "not renamed", "read-only"]
)  # fmt: skip
def test_a_retry_makes_only_what_is_not_good_and_the_same_bytes(shot, damage):
    """J10."""
    assert run(shot, frames="1001-1003").exit_status == 0
    paths = sorted((shot / "out").rglob("*.exr"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    damage(shot / "out/alpha/plate.1002.exr")
    again = run(shot, frames="1001-1003", existing="verify")
    assert again.exit_status == 0
    assert [record.status for record in again.records] == ["found", "done", "found"]
    assert {path: path.read_bytes() for path in paths} == {p: b for p, (b, _) in before.items()}
    untouched = [path for path in paths if "1002" not in path.name]
    assert all(path.stat().st_mtime_ns == before[path][1] for path in untouched)


def test_frames_of_other_settings_are_never_mixed(shot):
    """J10: the digest of the frames on disk is another one."""
    assert run(shot, frames="1001-1002").exit_status == 0
    with pytest.raises(errors.OutputExistsError, match="foreground: model then, unmix now"):
        run(shot, frames="1001-1003", existing="verify", foreground="unmix")
    assert not (shot / "out/alpha/plate.1003.exr").exists()


# ------------------------------------------------------------------------------------- submitting


@pytest.fixture
def no_tools(monkeypatch, tmp_path):
    """A PATH with no queue's tool, and the folder on it where a test may put one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def submit(*arguments: str) -> int:
    return cli.main(["farm", "submit", *MATTE, *arguments])


def put_tool(folder: Path, name: str, status: int = 0) -> Path:
    """A tool that notes what it was given."""
    noted = folder / f"{name}.given"
    tool = folder / name
    tool.write_text(
        f"#!/bin/sh\nfor word in \"$@\"; do printf '%s\\n' \"$word\"; done > '{noted}'\n"
        f"exit {status}\n"
    )
    tool.chmod(0o755)
    return noted


def test_a_job_is_written_with_the_shots_values_and_options(shot, no_tools, capsys):
    """J1."""
    options = ("--frames", "1001-1009x2", "--set", "band=3", "--no-match-exposure", "--exact",
               "--format", "exr,comp=png", "--outputs", "alpha,comp", "--chunk", "4",
               "--chunk-limit", "900", "--name", "sh010: mattes")  # fmt: skip
    assert submit(*options) == 0
    folder = shot / "out" / "farm"
    values = json.loads((folder / "parameters.json").read_text())
    assert values.pop("Instance").startswith("sh010-mattes-")
    assert values == {
        "JobName": "sh010: mattes",
        "Frames": "1001-1009:2",
        "Plate": str(shot / "plate.####.exr"),
        "CleanPlate": str(shot / "clean.exr"),
        "AlphaHint": "",
        "Output": str(shot / "out"),
        "Model": "default",
        "ChunkSize": 4,
    }
    listed = json.loads((folder / "parameter_values.json").read_text())["parameterValues"]
    assert {entry["name"]: entry["value"] for entry in listed}.items() >= values.items()
    template = (folder / "template.yaml").read_text()
    assert "timeout: 900\n" in template
    assert "amount.worker.gpu" in template
    assert needs_of(template) == {"attr.worker.os.family": ["linux"], "amount.worker.gpu": 1}
    for word in ("--set=band=3", "--no-match-exposure", "--exact", "--format=exr,comp=png"):
        assert f'            - "{word}"\n' in template
    said = capsys.readouterr().out
    assert "5 frames, 4 a task" in said
    assert "The job was not handed over" in said
    for tool in ("openjd run", "deadline bundle submit", "deadlinecommand", "pyoutline"):
        assert tool in said


def test_what_cannot_work_is_refused_before_anything_is_written(shot, no_tools, capsys):
    assert submit("--frames", "1001-1020") == 2
    assert "plate has no frames 1011-1020" in capsys.readouterr().err
    assert submit("--queue", "deadline10") == 2
    assert "`deadlinecommand`, the tool of Deadline 10, is not installed" in capsys.readouterr().err
    assert submit("--queue", "royalrender") == 2
    assert submit("--unchecked") == 2
    assert "--frames" in capsys.readouterr().err
    assert submit("--set", "note={{Param.Output}}") == 2
    assert submit("--format", "exr,comp=mp4v", "--outputs", "comp", "--chunk", "5") == 2
    assert "is one file, and every task would overwrite it" in capsys.readouterr().err
    assert not (shot / "out").exists()


def test_frames_that_only_the_farm_sees_are_not_looked_for(shot, no_tools):
    elsewhere = ["farm", "submit", "/farm/only/p.####.exr", "-o", "/tmp/nowhere/at/all"]
    rest = ["--unchecked", "--frames", "1-20", "--within", "5-30", "--to", str(shot / "job")]
    assert cli.main([*elsewhere, *rest]) == 0
    values = json.loads((shot / "job" / "parameters.json").read_text())
    assert (values["Frames"], values["Plate"]) == ("5-20", "/farm/only/p.####.exr")
    assert values["JobName"] == "p mattes"


def test_a_job_goes_to_the_queue_whose_tool_is_there(shot, no_tools, capsys):
    noted = put_tool(no_tools, "deadline")
    assert submit() == 0
    folder = str(shot / "out" / "farm")
    assert noted.read_text().splitlines() == ["bundle", "submit", folder, "--yes"]
    put_tool(no_tools, "deadlinecommand")
    assert submit() == 2
    assert "tools of several queues" in capsys.readouterr().err
    assert submit("--queue", "none") == 0


def test_each_queues_tool_is_given_the_job_in_its_own_way(shot, no_tools):
    noted = put_tool(no_tools, "deadlinecommand")
    assert submit("--queue", "deadline10", "--name", "two words") == 0
    given = noted.read_text().splitlines()
    assert given[:5] == ["-SubmitCommandLineJob", "-name", "two words", "-executable",
                         "mattebridge"]  # fmt: skip
    assert given[-4:] == ["-frames", "1001-1010", "-chunksize", "20"]
    put_tool(no_tools, "pycuerun")
    noted = put_tool(no_tools, "python3")  # the one that has pyoutline stands beside it
    assert submit("--queue", "opencue") == 0
    assert noted.read_text().splitlines() == [str(shot / "out" / "farm" / "opencue.py")]


def test_a_job_that_is_tried_here_and_fails_is_status_three(shot, no_tools):
    noted = put_tool(no_tools, "openjd", status=1)
    assert submit("--queue", "openjd") == 3
    template = shot / "out" / "farm" / "template.yaml"
    assert noted.read_text().splitlines()[:3] == ["run", str(template), "--step=Matte"]


def test_a_queue_that_refuses_the_job_is_not_a_success(shot, no_tools, capsys):
    put_tool(no_tools, "deadlinecommand", status=1)
    assert submit() == 2
    assert "Deadline 10 did not take the job" in capsys.readouterr().err


def test_every_template_travels_with_the_package():
    tomllib = pytest.importorskip("tomllib")
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = {
        path
        for patterns in listed["data-files"].values()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }
    files = {path for path in (ROOT / "farm").rglob("*") if path.is_file()}
    assert files - shipped == set()
    for target, patterns in listed["data-files"].items():
        if "/farm/" in target:
            assert [f"{target.removeprefix('share/mattebridge/')}/*"] == patterns
    assert (farm_folder() / "openjd" / "template.yaml").is_file()


@pytest.mark.parametrize(
    "path", ["P:\\shots\\p.####.exr", "\\\\server\\p.####.exr", "P:/p.####.exr"]
)
@pytest.mark.parametrize("option", ["plate", "--clean-plate", "-o", "--background"])
def test_a_path_of_windows_is_refused_and_never_made_one_of_this_folder(
    option, path, shot, no_tools, capsys
):
    given = ["plate.####.exr", "--frames", "1001-1002", "--unchecked", "-o", "out"]
    given = [path, *given[1:]] if option == "plate" else [*given, option, path]
    assert cli.main(["farm", "submit", *given]) == 2
    assert "is a Windows path, and the workers of this job run Linux" in capsys.readouterr().err
    assert not (shot / "out").exists()


WINDOWS_RULES = {
    "version": "pathmapping-1.0",
    "path_mapping_rules": [
        {"source_path_format": "WINDOWS", "source_path": "P:\\", "destination_path": "/mnt/p"},
        {"source_path_format": "WINDOWS", "source_path": "\\\\server\\plates",
         "destination_path": "/mnt/plates/"},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("P:\\sh010\\plate.####.exr", "/mnt/p/sh010/plate.####.exr"),
        ("p:/sh010/../plate.exr", "/mnt/p/sh010/../plate.exr"),
        ("\\\\SERVER\\Plates\\Sh010\\a.exr", "/mnt/plates/Sh010/a.exr"),
        ("P:\\cache\\clean.exr", "/fast/clean.exr"),
        ("P:\\cache2\\clean.exr", "/mnt/p/cache2/clean.exr"),
        ("/Volumes/shots/a b.exr", "/mnt/shots/a b.exr"),
        ("/Volumes/Shots/a.exr", None),
        ("Q:\\sh010\\plate.exr", None),
        ("/mnt/elsewhere.exr", None),
    ],
)
def test_a_path_of_another_system_is_mapped_part_by_part_by_the_longest_rule(path, there, tmp_path):
    (tmp_path / "rules.json").write_text(json.dumps(WINDOWS_RULES))
    rules = [str(tmp_path / "rules.json"), "P:\\CACHE=/fast", "/Volumes/shots/=/mnt/shots"]
    assert map_path(path, read_rules(rules)) == there


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("P:\\=Q:\\", "an absolute path such as /mnt/shots"),
        ("shots=/mnt/shots", "shots here is not absolute"),
        ("no such file.json", "FROM=TO or a file of rules, and no such file.json cannot be read"),
        ("{shot}/clean.exr", "is no file of path mapping rules of Open Job Description"),
    ],
)
def test_a_rule_that_leads_nowhere_is_refused_before_anything_is_written(
    rule, why, shot, no_tools, capsys
):
    assert submit("--map", rule.format(shot=shot)) == 2
    assert why in capsys.readouterr().err
    assert not (shot / "out").exists()


def test_frames_are_looked_for_here_and_paths_are_written_as_the_workers_see_them(shot, no_tools):
    picture = shot / "set.exr"
    picture.write_bytes((shot / "clean.exr").read_bytes())
    assert submit("--map", f"{shot}=/mnt/sh010", f"--background={picture}") == 0
    values = json.loads((shot / "out" / "farm" / "parameters.json").read_text())
    assert values["Frames"] == "1001-1010"
    assert values["Plate"] == "/mnt/sh010/plate.####.exr"
    assert (values["CleanPlate"], values["Output"]) == ("/mnt/sh010/clean.exr", "/mnt/sh010/out")
    template = (shot / "out" / "farm" / "template.yaml").read_text()
    assert "--background=/mnt/sh010/set.exr" in template
    assert str(shot) not in template


def test_the_jobs_files_need_a_folder_of_this_machine(shot, no_tools, capsys):
    given = [
        "farm",
        "submit",
        "P:\\x\\..\\plate.####.exr",
        "-o",
        "P:\\mattes",
        "--map",
        "P:\\=/mnt/p",
    ]
    given += ["--unchecked", "--frames=1-2"]
    assert cli.main(given) == 2
    assert "say with --to where the job's files go" in capsys.readouterr().err
    assert cli.main([*given, "--to", "job"]) == 0
    values = json.loads((shot / "job" / "parameters.json").read_text())
    assert (values["Plate"], values["Output"]) == ("/mnt/p/plate.####.exr", "/mnt/p/mattes")


@pytest.mark.parametrize(
    ("plate", "left_out"),
    [
        ('say "cut".####.exr', {"deadline10.txt", "royalrender.cfg"}),
        ("a<b>.####.exr", {"deadline10.txt", "royalrender.cfg"}),
    ],
)
def test_a_path_that_one_queue_cannot_hold_leaves_the_job_to_the_others(
    plate, left_out, shot, no_tools, capsys
):
    farm_files = shot / "out" / "farm"
    given = ["--frames", "1001-1002", "--unchecked", "-o", "out", "--queue", "none"]
    assert cli.main(["farm", "submit", "plate.####.exr", *given]) == 0
    every = {path.name for path in farm_files.iterdir()}
    capsys.readouterr()
    assert cli.main(["farm", "submit", plate, *given]) == 0
    said = capsys.readouterr().out
    # Those of the job before would submit another plate.
    assert {path.name for path in farm_files.iterdir()} == every - left_out
    for name in left_out:
        assert f"without {name}: " in said
        assert f"farm/{name}" not in said
    assert str(shot / plate) in shlex.split(_opencue_command(farm_files))


def test_the_queue_that_was_asked_for_must_be_able_to_hold_the_job(
    shot, no_tools, monkeypatch, capsys
):
    monkeypatch.setattr(queues.shutil, "which", lambda name: f"/usr/bin/{name}")
    given = ["farm", "submit", 'a "b".####.exr', "--frames", "1", "--unchecked", "-o", "out"]
    assert cli.main([*given, "--queue", "deadline10"]) == 2
    assert "Deadline 10 cannot take" in capsys.readouterr().err
    assert not (shot / "out").exists()


def test_every_line_for_deadline_is_an_argument(shot, no_tools):
    assert submit("--name", "#3 mattes") == 0
    folder = shot / "out" / "farm"
    lines = (folder / "deadline10.txt").read_text().splitlines()
    assert lines[0] == "-SubmitCommandLineJob"
    assert [line for line in lines[1::2] if not line.startswith("-")] == []
    assert len(lines) % 2 == 1
    assert queues.QUEUES["deadline10"].command(folder) == ["deadlinecommand", *lines]
    assert lines[lines.index("-name") + 1] == "#3 mattes"


# ---------------------------------------------------------------------------------------- recipes


def needs_of(template: str) -> dict:
    """What the job asks of a worker."""
    needs = yaml.safe_load(template)["steps"][0]["hostRequirements"]
    found = {each["name"]: each["anyOf"] for each in needs.get("attributes", [])}
    return {**found, **{each["name"]: each["min"] for each in needs.get("amounts", [])}}


def job_of(command: list[str]) -> MatteJob:
    """What a worker makes of a recipe's command line."""
    assert command[0] == "matte"
    return make_job(cli.build_parser().parse_args(command))


def frames_of(command: list[str]) -> list[int]:
    job = job_of(command)
    return sorted(set(parse_frames(job.frames)) & set(parse_frames(job.within)))


@pytest.fixture
def recipes(shot, no_tools):
    """The files of a job of frames 1001-1009 by twos, in a folder with a blank."""
    folder = shot / "a blank"
    options = ("--frames", "1001-1009x2", "--chunk", "2", "--to", str(folder), "--set", "band=3")
    plate = shot / "with blank" / "plate.####.exr"
    paint_shot(plate.parent, FRAMES)
    given = ["farm", "submit", str(plate), "--clean-plate", "clean.exr", "-o", "out"]
    assert cli.main([*given, *options]) == 0
    return folder


@pytest.mark.parametrize(("start", "end", "frames"), [(1001, 1003, [1001, 1003]), (1005, 1007, [
    1005, 1007]), (1009, 1009, [1009]), (1002, 1006, [1003, 1005])])  # fmt: skip
def test_deadlines_tokens_become_the_frames_of_the_task(recipes, start, end, frames):
    """J14: start and end lose the step, --within restores it."""
    lines = [
        line
        for line in (recipes / "deadline10.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    given = dict(zip(lines[1::2], lines[2::2]))
    assert lines[0] == "-SubmitCommandLineJob"
    assert (given["-executable"], given["-chunksize"]) == ("mattebridge", "2")
    assert parse_frames(given["-frames"]) == [1001, 1003, 1005, 1007, 1009]
    tokens = {"<STARTFRAME>": str(start), "<ENDFRAME>": str(end), "<QUOTE>": '"'}
    text = re.sub(r"<\w+>", lambda found: tokens[found.group()], given["-arguments"])
    command = shlex.split(text)
    assert frames_of(command) == frames
    assert job_of(command).params.settings == {"band": 3}
    assert " " in job_of(command).plate
    assert "--progress=deadline" in command
    assert "--private" in command


def _opencue_command(recipes: Path) -> str:
    """The command that the script gives to a layer; pyoutline itself is not needed for that."""
    script = compile((recipes / "opencue.py").read_text(), "opencue.py", "exec")
    assert script.co_names.count("COMMAND") == 1
    return next(
        constant
        for constant in script.co_consts
        if isinstance(constant, str) and constant.startswith("mattebridge ")
    )


@pytest.mark.parametrize(
    ("spec", "frames"),
    [("1001-1003x2", [1001, 1003]), ("1005,1007", [1005, 1007]), ("1009", [1009])],
)
def test_opencues_tokens_become_the_frames_of_the_task(recipes, spec, frames):
    """J14."""
    command = shlex.split(_opencue_command(recipes).replace("#FRAMESPEC#", spec))
    assert command[0] == "mattebridge"
    assert frames_of(command[1:]) == frames
    text = (recipes / "opencue.py").read_text()
    assert 'range="1001-1009x2", chunk=int("2")' in text


def test_a_chunk_that_overshoots_the_range_is_clipped():
    """J14: 72 frames by ten end with the chunk 71-80."""
    job = job_of(["matte", "p.exr", "-o", "out", "--frames=71-80", "--within=1-72"])
    assert sorted(set(parse_frames(job.frames)) & set(parse_frames(job.within))) == [71, 72]


def test_royal_renders_tokens_become_the_frames_of_the_task(recipes):
    """J14."""
    text = (recipes / "royalrender.cfg").read_text()
    line = text.partition("CommandLine=\n")[2].replace("\n", " ")
    tokens = {"<Exe>": "mattebridge", "<SeqStart>": "1005", "<SeqEnd>": "1009", "<SeqStep>": "2"}
    command = shlex.split(re.sub(r"<\w+>", lambda found: tokens[found.group()], line))
    assert command[0] == "mattebridge"
    assert frames_of(command[1:]) == [1005, 1007, 1009]


def test_a_daemon_that_the_farm_keeps_is_used_and_not_started(shot, no_tools):
    assert submit("--instance", "farm") == 0
    text = (shot / "out/farm/deadline10.txt").read_text()
    assert "--no-spawn --instance=farm" in text
    assert "--private" not in text
    assert json.loads((shot / "out/farm/parameters.json").read_text())["Instance"] == "farm"


def test_every_option_of_matte_survives_the_way_to_the_worker(shot, no_tools):
    """What was typed at submission is what the worker's command line says."""
    given = shlex.split(
        """--frames 1001-1003 --hint-channel R --missing hold --colorspace linear
        --plate-alpha straight --outputs alpha,comp --format exr,comp=exr-float
        --background clean.exr --output-colorspace srgb --premultiply display
        --keep-data-window --set a=1 --set b=x
        --no-audio --quantise truncate --offset core_matte=3
        --foreground unmix --alignment off --no-match-exposure --nonfinite zero --exact
        --timeout 5 --deadline 4 --in-flight 3 --memory 64 --existing overwrite"""
    )
    parser = cli.build_parser()
    typed = make_job(parser.parse_args(["matte", *MATTE, *given]))
    assert submit(*given) == 0
    text = (shot / "out/farm/opencue.py").read_text()
    command = shlex.split(re.search(r'^COMMAND = "(.*)"$', text, re.M)[1])
    arrived = job_of([word.replace("#FRAMESPEC#", "1001-1003") for word in command[1:]])
    same = {name: value for name, value in vars(typed).items() if name not in ("within",)}
    for name in ("plate", "clean_plate", "background"):
        same[name] = os.path.abspath(same[name])
    same["output"] = Path(os.path.abspath(same["output"]))
    assert {name: getattr(arrived, name) for name in same} == same
    template = (shot / "out/farm/template.yaml").read_text()
    words = re.findall(r'^            - "(--.*)"$', template, re.M)
    assert "--existing=overwrite" in words
    assert read_frame(shot / "plate.1001.exr").pixels.shape == (48, 64, 3)
