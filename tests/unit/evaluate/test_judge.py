"""`mattebridge eval`: sets in both forms, figures by kind, a picture, a sentence for faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mattebridge_sample
from mattebridge import cli
from mattebridge.color import srgb_decode
from mattebridge.engine.engine import Engine
from mattebridge.evaluate import metrics
from mattebridge.evaluate.judge import COLUMNS, DisplayMatte, change_where_still, judge
from mattebridge.evaluate.truth import find_set, read
from mattebridge.image_io import Encoding, read_frame, write_frame
from mattebridge.wire.params import RenderParams

HEIGHT, WIDTH = 64, 96
COLUMN_NAMES = [name for name, _ in COLUMNS]


def picture(left: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Plate, clean plate, alpha, foreground, display-encoded: a soft-edged square at `left`."""
    rng = np.random.default_rng(3)
    clean = np.repeat(np.repeat(rng.uniform(0.2, 0.5, (16, 24, 3)), 4, 0), 4, 1)
    alpha = np.zeros((HEIGHT, WIDTH, 1))
    alpha[16:56, left : left + 30] = 1
    alpha[16:56, left - 1] = alpha[16:56, left + 30] = 0.5
    foreground = np.broadcast_to([0.9, 0.15, 0.2], clean.shape)
    plate = alpha * foreground + (1 - alpha) * clean
    return tuple(np.float32(values) for values in (plate, clean, alpha, foreground))


def write(path: Path, values: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if values.shape[2] == 1:
        write_frame(path, values, Encoding(dtype="uint16"))
    else:
        write_frame(path, values, Encoding(colorspace="srgb", alpha="opaque", dtype="uint16"))


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    """Three named frames of two kinds, beside each other."""
    folder = tmp_path / "stills"
    for name, left in (("01_plain_a", 20), ("02_plain_b", 40), ("similar_03", 30)):
        plate, clean, alpha, foreground = picture(left)
        write(folder / f"{name}_plate.png", plate)
        write(folder / f"{name}_clean.png", clean)
        write(folder / f"{name}_alpha.png", alpha)
        write(folder / f"{name}_fg.png", foreground)
    return folder


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    """Three frames as `mattebridge sample` lays them out, one clean plate for all."""
    folder = tmp_path / "shot"
    for frame in (9, 10, 11):
        plate, clean, alpha, foreground = picture(20 + frame)
        write(folder / "plate" / f"plate.{frame}.png", plate)
        write(folder / "truth" / "alpha" / f"alpha.{frame}.png", alpha)
        write(folder / "truth" / "foreground" / f"foreground.{frame}.png", foreground)
    write(folder / "clean_plate" / "clean_plate.png", clean)
    return folder


def evaluate(capsys, *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["eval", *(str(argument) for argument in arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_figures_are_those_of_the_engines_matte(stills, capsys):
    status, out, _ = evaluate(capsys, "--set", stills, "--json")
    assert status == 0
    (rows,) = json.loads(out).values()
    frame = {
        role: read_frame(stills / f"02_plain_b_{role}.png").pixels for role in ("plate", "clean")
    }
    made = {
        "alpha": np.empty((HEIGHT, WIDTH, 1), np.float32),
        "foreground": np.empty((HEIGHT, WIDTH, 3), np.float32),
    }
    Engine("cpu").matte(
        {"plate": frame["plate"], "clean_plate": frame["clean"]},
        RenderParams(colorspace="srgb"),
        model="default",
        out=made,
    )
    _, _, alpha, foreground = picture(40)
    shown = np.clip(made["foreground"], 0, 1)
    expected = metrics.measure(made["alpha"], alpha, shown, foreground).as_dict()
    (found,) = [row for row in rows if row["frame"] == "02_plain_b"]
    for figure, value in expected.items():
        assert found[figure] == pytest.approx(value, abs=0.02), figure


def test_the_table_has_a_line_for_every_kind_and_the_means(stills, capsys):
    _, out, _ = evaluate(capsys, "--set", stills)
    lines = out.splitlines()
    assert lines[0].split()[0] == "difference"
    assert [line.rsplit(")", 1)[0] for line in lines[1:]] == [
        "plain (2",
        "similar (1",
        "all (3",
        "all but similar (2",
    ]
    assert all(len(line.split(")")[1].split()) == 9 for line in lines[1:])


def test_a_shot_is_found_and_its_change_where_nothing_moves_is_told(shot, capsys):
    assert [frame.name for frame in find_set(shot)] == ["9", "10", "11"]
    status, out, _ = evaluate(capsys, "--set", shot)
    assert status == 0
    assert "shot (3)" in out
    assert "from frame to frame where nothing moves" in out
    assert "dtSSD" in out
    assert "times" not in out  # the default here is `difference` itself


def test_the_dtssd_of_a_shot_is_compared_with_that_of_difference(shot, capsys, monkeypatch):
    made = picture(30)[2]

    def still(engine, model, frame):
        alpha = made if model == "twoplate" else frame.alpha
        return DisplayMatte(np.float32(alpha), np.zeros((HEIGHT, WIDTH, 3), np.float32))

    monkeypatch.setattr("mattebridge.evaluate.judge.matte", still)
    _, out, _ = evaluate(capsys, "--set", shot, "--model", "twoplate", "--json")
    rows = json.loads(out)
    assert list(rows) == ["twoplate"]
    # The square moves by a pixel: of each of 40 rows four pixels change by a half.
    moved = 1e3 * np.sqrt(40 * 4 * 0.25 / (HEIGHT * WIDTH))
    assert [row.get("dtssd") for row in rows["twoplate"]] == [
        None,
        *[pytest.approx(moved, rel=1e-3)] * 2,
    ]
    monkeypatch.setattr(
        "mattebridge.evaluate.judge.matte",
        lambda engine, model, frame: still(engine, "twoplate", frame),
    )
    _, out, _ = evaluate(capsys, "--set", shot, "--model", "twoplate")
    assert f"1.00 times that of difference, {moved:.2f}e-3" in out


def test_one_clean_plate_may_lie_beside_the_folders_of_a_shot(shot):
    (shot / "clean_plate" / "clean_plate.png").rename(shot / "clean.png")
    assert {frame.files["clean_plate"] for frame in find_set(shot)} == {shot / "clean.png"}


@pytest.fixture
def boxed(stills: Path) -> Path:
    """A frame without a true alpha, but with boxes: certain set at the left, then the subject."""
    (stills / "02_plain_b_alpha.png").unlink()
    boxes = {"sure_bg": [[0, 0, 30, HEIGHT], [0, 0, WIDTH, 8]], "sure_fg": [[45, 20, 65, 50]]}
    (stills / "boxes.json").write_text(json.dumps([{"name": "02_plain_b", **boxes}]))
    return stills


def test_boxes_of_certain_set_and_subject_are_judged_without_a_true_alpha(boxed, capsys):
    _, out, _ = evaluate(capsys, "--set", boxed, "--json")
    (rows,) = json.loads(out).values()
    by_name = {row["frame"]: row for row in rows}
    assert "mad" not in by_name["02_plain_b"]
    assert 0 <= by_name["02_plain_b"]["leak"] < 1
    assert 0 <= by_name["02_plain_b"]["missing"] < 1
    assert "leak" not in by_name["01_plain_a"]
    _, out, _ = evaluate(capsys, "--set", boxed)
    head, plain, *_ = out.splitlines()
    assert head.split()[-4:] == ["leak", "e-3", "missing", "e-3"]
    # Means over the frames that have the figure: one of the two.
    assert float(plain.split(")")[1].split()[0]) == pytest.approx(
        by_name["01_plain_a"]["mad"], abs=1e-3
    )


def test_leak_and_missing_are_the_means_in_the_boxes(boxed):
    (frame,) = [one for one in find_set(boxed) if one.name == "02_plain_b"]
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.float32)
    alpha[:, :15], alpha[:, 45:65] = 0.5, 0.75
    made = DisplayMatte(alpha, np.zeros((HEIGHT, WIDTH, 3), np.float32))
    found = judge(frame, made, read(frame))
    covered = 30 * HEIGHT + (WIDTH - 30) * 8
    assert found.leak == pytest.approx(1e3 * (0.5 * 15 * HEIGHT + 0.75 * 20 * 8) / covered)
    assert found.missing == pytest.approx(250)
    assert found.figures is None
    assert found.islands == 1


def test_a_set_of_boxes_alone_is_drawn_without_mattes(boxed, tmp_path, capsys):
    for path in boxed.glob("*_alpha.png"):
        path.unlink()
    for path in (*boxed.glob("01_*"), *boxed.glob("similar*")):
        path.unlink()
    assert evaluate(capsys, "--set", boxed, "-o", tmp_path / "eval.png")[0] == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not a list of objects"),
        ('[{"sure_bg": []}]', "is not a list of objects"),
        ('[{"name": "02_plain_b", "sure_bg": [[5, 5, 5, 9]]}]', "has no area"),
        ('[{"name": "02_plain_b", "sure_bg": [[0, 0, 97, 9]]}]', "not inside the plate of 96x64"),
    ],
)
def test_boxes_that_are_none_are_one_sentence(boxed, capsys, text, says):
    (boxed / "boxes.json").write_text(text)
    status, out, err = evaluate(capsys, "--set", boxed)
    assert status == 2
    assert says in err.replace("\n", " ")
    assert not out


def test_the_sample_shot_is_a_set(tmp_path):
    shot = mattebridge_sample._layout(tmp_path, 2, 1001, WIDTH, HEIGHT, False)
    for frame in shot.frames:
        for role, pixels in zip(("plate", "clean_plate", "alpha", "foreground"), picture(30)):
            mattebridge_sample._write(shot.file(role, frame), pixels)
    frames = find_set(tmp_path)
    assert [frame.name for frame in frames] == ["1001", "1002"]
    assert set(frames[1].files) == {"plate", "clean_plate", "alpha", "foreground"}
    assert read(frames[1]).colorspace == "linear"


def test_light_in_exr_is_matted_as_light(tmp_path):
    plate, clean, alpha, _ = picture(30)
    write_frame(tmp_path / "a_plate.exr", srgb_decode(plate), Encoding(dtype="float32"))
    write(tmp_path / "a_clean.png", clean)
    write(tmp_path / "a_alpha.png", alpha)
    (frame,) = find_set(tmp_path)
    pictures = read(frame)
    assert pictures.colorspace == "linear"
    assert np.abs(pictures.clean_plate - srgb_decode(clean)).max() < 1e-4
    assert pictures.foreground is None


def test_without_a_true_foreground_there_are_no_figures_of_colour(stills, capsys):
    for path in stills.glob("*_fg.png"):
        path.unlink()
    status, out, _ = evaluate(capsys, "--set", stills)
    assert status == 0
    cells = dict(zip(COLUMN_NAMES, out.splitlines()[1].split(")")[1].split()))
    assert cells["fg MSE e-3"] == cells["edge e-3"] == "-"
    assert float(cells["unknown e-3"]) > 0


def test_the_evaluation_is_drawn(stills, tmp_path, capsys):
    drawing = tmp_path / "eval.png"
    assert evaluate(capsys, "--set", stills, "-o", drawing)[0] == 0
    pixels = read_frame(drawing).pixels
    # Plate, clean plate, truth and one model; a row for each of two kinds below the bars.
    assert pixels.shape[1] == 10 + 4 * 310
    assert pixels.shape[0] > 2 * 200
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2])[::17], axis=0)) > 20


def test_several_models_stand_below_each_other(stills, capsys):
    _, out, _ = evaluate(capsys, "--set", stills, "--model", "difference", "--model", "default")
    # An alias is the model it leads to.
    assert out.count("all (3)") == 1


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "02_plain_b_clean.png").unlink(), "'02_plain_b' of"),
        (lambda folder: (folder / "02_plain_b_alpha.png").unlink(), "has no alpha"),
        (
            lambda folder: write(folder / "02_plain_b_alpha.png", picture(30)[2][:-1]),
            "the plate is 96x64 and the alpha 96x63",
        ),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "holds no set"),
    ],
)
def test_a_set_that_lacks_something_is_one_sentence(stills, capsys, spoil, says):
    spoil(stills)
    status, out, err = evaluate(capsys, "--set", stills)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert not out


def test_a_model_that_is_not_there_is_named(stills, capsys):
    status, _, err = evaluate(capsys, "--set", stills, "--model", "nobody")
    assert status == 2
    assert "there is no model 'nobody'" in err


def test_change_is_counted_where_the_truth_stands_still_alone():
    truth = np.zeros((4, 4, 1), np.float32)
    moved = truth.copy()
    moved[:2] = 1
    alpha = np.full((4, 4, 1), 0.01, np.float32)
    alpha[:2] = 0.9
    assert change_where_still(alpha, truth, moved, truth) == pytest.approx(10.0)
    assert change_where_still(alpha, truth, truth + 1, truth) is None
