"""Paths of Windows: names that mean something else, long ones, and two spellings of one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fakes.jobs import matte_job
from mattebridge.cli import main
from mattebridge.errors import OutputExistsError, SequenceError, UsageError
from mattebridge.image_io import read_frame, write_frame
from mattebridge.image_io.output_names import refuse_collisions
from mattebridge.shot.preflight import preflight

PICTURE = np.linspace(0, 2, 12, dtype=np.float16).reshape(2, 2, 3)


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    write_frame(tmp_path / "plate.1001.exr", PICTURE)
    return tmp_path / "plate.1001.exr"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("aux", "device"), ("nul.mattes", "device"), ("mattes.", "drops the dot"),
        ("mattes ", "drops the dot"), ("mattes:1", "hidden stream"), ("a|b", "allows no"),
    ],
)  # fmt: skip
def test_a_job_is_refused_whose_results_would_go_elsewhere(
    plate: Path, output: str, says: str
) -> None:
    before = sorted(plate.parent.iterdir())
    with pytest.raises(UsageError, match=f"cannot be used: .*{says}"):
        preflight(matte_job(plate=str(plate), output=plate.parent / output))
    assert sorted(plate.parent.iterdir()) == before


def test_a_path_from_the_current_folder_of_a_drive_is_refused(plate: Path) -> None:
    with pytest.raises(UsageError, match=r"such as C:\\mattes"):
        preflight(matte_job(plate=str(plate), output=Path("C:mattes")))


def test_an_input_in_another_spelling_is_no_place_for_an_output(plate: Path) -> None:
    for spelling in (str(plate).upper(), str(plate).replace("\\", "/").lower()):
        with pytest.raises(SequenceError, match="is an input of this job"):
            refuse_collisions([Path(spelling)], [plate])
    # Also where one of them has the prefix of long paths.
    with pytest.raises(SequenceError, match="is an input of this job"):
        refuse_collisions([Path(f"\\\\?\\{str(plate).upper()}")], [plate])


def test_a_result_that_is_there_in_other_letters_exists(plate: Path) -> None:
    write_frame(plate.parent / "MATTES" / "Alpha" / "PLATE.1001.exr", PICTURE[..., :1])
    with pytest.raises(OutputExistsError, match="exists already"):
        preflight(matte_job(plate=str(plate), output=plate.parent / "mattes", outputs=("alpha",)))


@pytest.mark.parametrize(
    "command",
    [
        ["sample", "{}/aux"], ["demo", "{}/nul"], ["report", "{}", "-o", "{}/con.html"],
        ["clean-plate", "{}/plate.1001.exr", "-o", "{}/prn.exr"],
        ["hint", "{}/plate.1001.exr", "-o", "{}/lpt1"], ["clips", "{}", "-o", "{}/com1"],
        ["matte", "{}/plate.1001.exr", "-o", "{}/out", "--report", "{}/conin$"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_every_command_refuses_a_name_to_write_that_is_a_device(
    plate: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(plate.parent.iterdir())
    with pytest.raises(SystemExit) as ended:
        main([word.replace("{}", str(plate.parent)) for word in command])
    assert ended.value.code == 2
    assert "is the name of a device in Windows; choose another name" in capsys.readouterr().err
    assert sorted(plate.parent.iterdir()) == before


def test_pictures_are_written_and_read_behind_the_prefix_of_long_paths(tmp_path: Path) -> None:
    path = Path(f"\\\\?\\{tmp_path}", "shot " * 30 + "1", "plate" * 40, "matte.1001.exr")
    assert len(str(path)) > 300
    write_frame(path, PICTURE)
    assert np.array_equal(read_frame(path).pixels, PICTURE)
    assert [entry.name for entry in path.parent.iterdir()] == ["matte.1001.exr"]
