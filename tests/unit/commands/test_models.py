"""`mattebridge models` without a daemon: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest
import safetensors.torch
import torch

from fakes.generated_weights import generated_state
from mattebridge import cli
from mattebridge.models.background_matting.networks import make_network
from mattebridge.models.twoplate.network import TwoPlate


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights and a runtime folder without a daemon."""
    monkeypatch.setenv("MATTEBRIDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        shapes = make_network("MattingBase", "mobilenetv2").state_dict()
    return generated_state(shapes)


@pytest.fixture
def file(tmp_path: Path, weights: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "published.safetensors"
    safetensors.torch.save_file(weights, path)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(["models", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_checkpoint_is_added_listed_shown_verified_and_removed(file, folder, capsys):
    status, out, err = run(capsys, "add", str(file), "--name", "portrait", "--licence", "MIT")
    assert (status, err) == (0, "")
    assert "model 'portrait' is background_matting: class MattingBase, backbone mob" in out
    assert "MB, in " in out
    status, out, _ = run(capsys)
    named = [line.split()[0] for line in out.splitlines()]
    assert named == ["MODEL", "difference", "portrait", "screen", "twoplate"]
    assert "MIT" in out.splitlines()[2]
    status, out, _ = run(capsys, "list", "--json")
    (card,) = [card for card in json.loads(out) if card["name"] == "portrait"]
    assert card["needs"] == ["plate", "clean_plate"]
    status, out, _ = run(capsys, "show", "portrait")
    assert "sha256:" in out
    assert "precision" in out
    status, out, err = run(capsys, "verify")
    assert (status, err) == (0, "")
    assert out.startswith("portrait: good, sha256:")
    status, out, err = run(capsys, "remove", "portrait")
    assert (status, out, err) == (0, "mattebridge: model 'portrait' is removed\n", "")
    status, out, _ = run(capsys, "verify")
    assert (status, "no model was added" in out) == (0, True)


def test_a_pth_file_is_added_like_any_other(weights, tmp_path, capsys):
    torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "a.pth")
    assert run(capsys, "add", "a.pth", "--name", "a")[0] == 0
    assert run(capsys, "verify", "a")[0] == 0


def test_verify_names_what_is_bad_and_ends_with_status_two(file, folder, capsys):
    run(capsys, "add", str(file), "--name", "good")
    torch.save(dict(safetensors.torch.load_file(file)), "other.pth")
    run(capsys, "add", "other.pth", "--name", "spoiled")
    digest = json.loads((folder / "models.json").read_text())["models"]["spoiled"]["digest"]
    stored = folder / "weights" / digest.removeprefix("sha256:")
    stored.write_bytes(stored.read_bytes()[:-1])
    status, out, err = run(capsys, "verify")
    assert status == 2
    assert [line.split(", ")[0].split(":")[1] for line in out.splitlines()] == [" good", " BAD"]
    assert err.startswith("mattebridge: the weights of model 'spoiled' are not those")
    assert err.count("\n") == 1
    assert run(capsys, "verify", "good")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "none.pth", "--name", "x"], "weights file none.pth cannot be read: No such file"),
        (["add", "published.safetensors", "--name", "../x"], "'../x' is not a model name"),
        (["add", "published.safetensors", "--name", "difference"], "of a built-in model"),
        (["remove", "portrait"], "no model 'portrait' was added; those that were: none"),
        (["remove", "difference"], "'difference' is built in"),
        (["verify", "portrait"], "no model 'portrait' was added"),
        (["show", "portrait"], "no model 'portrait'; the models present are: difference"),
    ],
)
def test_what_cannot_be_done_is_status_two_and_one_sentence(file, capsys, arguments, says):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert err.startswith("mattebridge: ")
    assert says in err
    assert err.count("\n") == 1


def test_a_damaged_registry_is_a_note_under_the_list(folder, capsys):
    folder.mkdir()
    (folder / "models.json").write_text("{")
    status, out, _ = run(capsys)
    assert status == 0
    assert "difference" in out
    assert out.splitlines()[-1].startswith("note: ")
    assert "models.json cannot be used" in out
    assert run(capsys, "verify")[0] == 2


def test_shared_options_may_stand_before_and_behind_the_action(file, capsys, tmp_path):
    for arguments in (["--json", "list"], ["list", "--json"], ["--json"]):
        assert json.loads(run(capsys, *arguments)[1])
    instance = str(tmp_path / "elsewhere")
    parser = cli.build_parser()
    for arguments in (["--instance", instance, "list"], ["list", "--instance", instance]):
        assert parser.parse_args(["models", *arguments]).instance == instance


def test_adding_needs_a_name(file, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["models", "add", str(file)])
    assert ended.value.code == 2
    assert "--name" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ export


@pytest.fixture
def own(tmp_path: Path, capsys) -> None:
    """A small network of the family twoplate, added as `mine`."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = TwoPlate((8, 8), 8)
        torch.nn.init.normal_(network.refiner.leave.weight, 0, 0.05)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "mine.safetensors")
    assert run(capsys, "add", "mine.safetensors", "--name", "mine")[0] == 0


@pytest.mark.slow
def test_a_network_is_exported_and_computes_the_same(own, tmp_path, capsys):
    status, out, _ = run(capsys, "export", "mine", "-o", "mine.onnx", "--size", "90x52")
    assert status == 0
    assert "'mine' for frames of 90x52" in out
    session = onnxruntime.InferenceSession("mine.onnx")
    assert session.get_inputs()[0].shape == [1, 3, 52, 90]
    assert [output.name for output in session.get_outputs()] == ["alpha", "foreground"]


@pytest.mark.slow
def test_a_file_that_computes_something_else_is_not_written(own, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mattebridge.models.twoplate.onnx._difference", lambda *_: float("nan"))
    status, _, err = run(capsys, "export", "mine", "-o", "mine.onnx", "--size", "90x52")
    assert status == 2
    assert "was not written" in err
    assert not (tmp_path / "mine.onnx").exists()


def test_a_file_that_is_there_is_not_written_over(own, tmp_path, capsys):
    (tmp_path / "mine.onnx").write_text("precious")
    status, _, err = run(capsys, "export", "mine", "-o", "mine.onnx", "--size", "90x52")
    assert status == 2
    assert "exists already" in err
    assert (tmp_path / "mine.onnx").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("export", "difference", "-o", "x.onnx"), "only networks of the family twoplate"),
        (("export", "nobody", "-o", "x.onnx"), "there is no model 'nobody'"),
        (("export", "difference", "-o", "x.pb"), "-o takes a file of type .onnx"),
    ],
)
def test_what_cannot_be_exported_is_status_two_and_one_sentence(capsys, arguments, says):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
