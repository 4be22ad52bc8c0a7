"""`mattebridge plates` against a real daemon: a clean plate held by name, and a frame naming it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess
from fakes.pictures import PLAIN, matted_here, same, shot
from mattebridge import cli, color
from mattebridge.errors import PlateError
from mattebridge.image_io import Encoding, write_frame


@pytest.fixture
def plates(shared_daemon: DaemonProcess, monkeypatch, capsys):
    """Runs the command; its status, and what it printed."""
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", str(shared_daemon.folder))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["plates", *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    yield run
    for plate in json.loads(run("--json")[1]):
        run("remove", plate["name"])


def held(plates) -> list[str]:
    return [plate["name"] for plate in json.loads(plates("list", "--json")[1])]


def test_a_plate_is_added_listed_named_by_a_frame_and_removed(
    plates, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    plate, clean_plate = shot()
    write_frame(tmp_path / "clean.exr", clean_plate, Encoding(dtype="float32"))
    status, out, _ = plates("add", "loft", str(tmp_path / "clean.exr"))
    assert (status, out) == (
        0,
        "mattebridge: 'loft' is held: 64x48, for scene-linear plates\n",
    )
    assert held(plates) == ["loft"]
    assert "loft" in plates()[1]
    with shared_daemon.client() as client:
        matte = client.matte(plate, "loft", colorspace="linear", **PLAIN)
        assert same(matte, matted_here(plate, clean_plate))
        assert plates("remove", "loft")[0] == 0
        with pytest.raises(PlateError, match="holds no clean plate called 'loft'"):
            client.matte(plate, "loft", colorspace="linear", **PLAIN)
    assert plates()[1] == "mattebridge: no clean plate is held\n"


def test_a_picture_is_held_in_the_space_of_the_requests_that_will_name_it(
    plates, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    plate, clean_plate = shot()
    write_frame(tmp_path / "clean.png", clean_plate)
    status, out, _ = plates("add", "loft", str(tmp_path / "clean.png"), "--hold", "linear")
    assert status == 0
    assert "for scene-linear plates" in out
    eight_bit = np.round(color.srgb_encode(clean_plate) * 255).astype(np.uint8)
    expected = matted_here(plate, color.srgb_decode(eight_bit))
    with shared_daemon.client() as client:
        matte = client.matte(plate, "loft", colorspace="linear", **PLAIN)
    assert same(matte, expected)


def test_a_layer_of_an_exr_can_be_held(
    plates, shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    plate, clean_plate = shot()
    layers = Encoding(dtype="float32", layers={"beauty": clean_plate})
    write_frame(tmp_path / "clean.exr", np.zeros_like(clean_plate), layers)
    assert plates("add", "loft", str(tmp_path / "clean.exr"), "--layer", "beauty")[0] == 0
    with shared_daemon.client() as client:
        matte = client.matte(plate, "loft", colorspace="linear", **PLAIN)
    assert same(matte, matted_here(plate, clean_plate))
    status, _, err = plates("add", "attic", str(tmp_path / "clean.exr"), "--layer", "nowhere")
    assert status == 3
    assert "beauty" in err
    assert err.count("\n") == 1


def test_a_name_that_is_taken_holds_the_newer_plate_where_that_is_asked_for(
    plates, tmp_path: Path
) -> None:
    write_frame(tmp_path / "clean.exr", shot(64, 48).clean_plate)
    write_frame(tmp_path / "cleaner.exr", shot(80, 60).clean_plate)
    assert plates("add", "loft", str(tmp_path / "clean.exr"))[0] == 0
    status, _, err = plates("add", "loft", str(tmp_path / "cleaner.exr"))
    assert status == 2
    assert "another clean plate called 'loft' (64x48" in err
    assert "--replace" in err
    assert err.count("\n") == 1
    assert plates("add", "loft", str(tmp_path / "clean.exr"))[0] == 0
    assert plates("add", "loft", str(tmp_path / "cleaner.exr"), "--replace")[0] == 0
    (only,) = json.loads(plates("--json")[1])
    assert (only["w"], only["h"]) == (80, 60)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (
            ("add", "Loft!", "clean.exr"),
            2,
            "the name of a held clean plate is 1 to 64 of a-z 0-9 . _ -",
        ),
        (("add", "loft", "nowhere.exr"), 3, "nowhere.exr"),
        (("remove", "nobody"), 2, "the daemon holds no clean plate called 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(plates, arguments, status, says) -> None:
    done, out, err = plates(*arguments)
    assert done == status
    assert says in err
    assert err.count("\n") == 1
    assert not out


def test_without_a_daemon_nothing_is_held_and_nothing_can_be_removed(
    monkeypatch, capsys, tmp_path: Path
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    assert cli.main(["plates"]) == 0
    assert capsys.readouterr().out == "mattebridge: no clean plate is held\n"
    assert cli.main(["plates", "remove", "loft"]) == 5
    assert "no daemon" in capsys.readouterr().err
