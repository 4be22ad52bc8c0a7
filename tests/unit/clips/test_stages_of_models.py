"""The stage functions with every kind of model, against the engine of the daemon's worker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes.generated_weights import generated_state
from fakes.mostly_slow import mostly_slow
from fakes.stage_keyer import network
from fakes.tagged_pictures import cicp, png
from mattebridge.clips import (
    ClipManifest,
    InferenceConfig,
    PostprocessConfig,
    PreprocessConfig,
    WriteConfig,
    load,
    load_model,
    postprocess_frame,
    preprocess_frame,
    run_inference,
    scan,
    write_frame,
)
from mattebridge.clips.requests import clean_up_of
from mattebridge.engine.engine import Engine
from mattebridge.errors import InputsError, ModelError
from mattebridge.image_io import read_frame
from mattebridge.image_io import write_frame as write_picture
from mattebridge.models.background_matting.networks import make_network
from mattebridge.models.weights.installed import InstalledModels
from mattebridge.wire.params import RenderParams

# No multiple of what any model works in.
HEIGHT, WIDTH = 90, 158
SCREEN = np.array([0.05, 0.32, 0.06], np.float32)
POSTPROCESS = PostprocessConfig(despeckle_size=5, despeckle_dilation=3, despeckle_threshold=0.1)
# Settings that are not the models' own defaults. The clean plate is that of a screen.
SETTINGS = [
    ("difference", {}),
    ("twoplate", {}),
    ("twoplate", {"screen": "off"}),
    ("screen", {"screen": "green"}),
    ("weights", {"backbone_scale": 0.5}),
]


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the user's models, with generated weights of a plate + clean plate network."""
    monkeypatch.setenv("MATTEBRIDGE_MODELS", str(tmp_path / "models"))
    with torch.device("meta"):
        shapes = make_network("MattingRefine", "mobilenetv2").state_dict()
    torch.save(generated_state(shapes), tmp_path / "weights.pth")
    InstalledModels(tmp_path / "models").add(tmp_path / "weights.pth", "weights")


def plate_of(number: int) -> np.ndarray:
    """A red subject with highlights before a screen that is darker on the right, (H, W, 3) half."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    screen = clean().astype(np.float32)
    subject = np.stack([0.5 + 0.1 * np.sin(x / 3 + number), 0.2 + 0 * x, 0.15 + y / 400], axis=2)
    alpha = np.clip((34 - np.hypot(x - 80 - number % 5, y - 45)) / 6, 0, 1)[..., None]
    picture = screen * (1 - alpha) + subject * alpha
    picture[40:44, 78:84] = 4.0
    return picture.astype(np.float16)


def clean() -> np.ndarray:
    shade = np.linspace(1, 0.8, WIDTH, dtype=np.float32)[None, :, None]
    return np.broadcast_to(SCREEN * shade, (HEIGHT, WIDTH, 3)).astype(np.float16)


def manifest_of(root: Path, *, clean_plate: bool = True) -> ClipManifest:
    (root / "Input").mkdir(parents=True)
    for number in (1001, 1002):
        write_picture(root / f"Input/a.{number}.exr", plate_of(number))
    if clean_plate:
        (root / "CleanPlate").mkdir()
        write_picture(root / "CleanPlate/clean.exr", clean())
    (found,) = scan(root).clips
    return load(found)


def by_the_engine(
    model: str, settings: dict[str, object], space: str, dtype: str
) -> dict[str, np.ndarray]:
    """What the daemon's worker gives for frame 1002."""
    clean_up = clean_up_of(replace(POSTPROCESS, hint_sharpen=False))
    params = RenderParams("linear", output_colorspace=space, settings=settings, **clean_up)
    shape = {"alpha": 1, "foreground": 3, "premultiplied": 4}
    out = {role: np.empty((HEIGHT, WIDTH, n), dtype) for role, n in shape.items()}
    planes = {"plate": plate_of(1002), "clean_plate": clean()}
    if model == "screen":
        planes.pop("clean_plate")
    Engine("cpu").matte(planes, params, model=model, out=out, frame=1002)
    return out


@pytest.mark.parametrize(("model", "settings"), mostly_slow(SETTINGS, quick=2, several=True))
def test_every_kind_of_model_gives_the_pixels_of_the_daemons_engine(
    tmp_path: Path, model: str, settings: dict[str, object]
) -> None:
    manifest = manifest_of(tmp_path / "shot", clean_plate=model != "screen")
    assert manifest.needs_alpha
    config = InferenceConfig(model=model, device="cpu", settings=settings)
    loaded = load_model(config)
    assert isinstance(loaded, torch.nn.Module)
    frame = preprocess_frame(manifest, 1, PreprocessConfig(device="cpu", model=model))
    assert frame.tensor.shape == (1, 3, HEIGHT, WIDTH)
    made = run_inference(frame, loaded, config)
    assert (made.alpha.shape, made.fg.shape) == ((1, 1, HEIGHT, WIDTH), (1, 3, HEIGHT, WIDTH))
    done = postprocess_frame(made, POSTPROCESS)
    light, shown = (
        by_the_engine(model, settings, "linear", "float32"),
        by_the_engine(model, settings, "srgb", "float32"),
    )
    assert np.array_equal(done.alpha, light["alpha"])
    assert np.array_equal(done.processed, light["premultiplied"])
    assert np.array_equal(done.fg, shown["foreground"])
    assert done.alpha.max() > 0
    write_frame(done, WriteConfig(tmp_path / "out", comp_enabled=False))
    half = by_the_engine(model, settings, "linear", "float16")
    written = read_frame(tmp_path / "out/processed/a.1002.exr").pixels
    assert np.array_equal(written, half["premultiplied"])


def test_the_module_of_a_model_gives_the_same_when_it_is_called(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "shot")
    loaded = load_model(InferenceConfig(model="difference", device="cpu"))
    frame = preprocess_frame(manifest, 0, PreprocessConfig(device="cpu", model="difference"))
    made = run_inference(frame, loaded, InferenceConfig(model="difference"))
    assert torch.equal(loaded(frame)["alpha"], made.alpha)
    done = postprocess_frame(made, PostprocessConfig())
    assert done.stem == "a.1001"
    black = made.model_copy(update={"alpha": torch.zeros_like(made.alpha)})
    assert not postprocess_frame(black, PostprocessConfig()).processed.any()


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "shot", clean_plate=False)
    with pytest.raises(InputsError, match="clean plate"):
        preprocess_frame(manifest, 0, PreprocessConfig(model="difference"))
    with pytest.raises(ModelError, match="there is no model 'other'"):
        preprocess_frame(manifest, 0, PreprocessConfig(model="other"))
    with pytest.raises(ModelError, match="there is no model 'other'"):
        load_model(InferenceConfig(model="other"))
    frame = preprocess_frame(manifest, 0, PreprocessConfig(model="screen", device="cpu"))
    other = load_model(InferenceConfig(model="difference", device="cpu"))
    with pytest.raises(ValueError, match="prepared for model 'screen' and this is 'difference'"):
        run_inference(frame, other, InferenceConfig(model="difference"))
    ours = load_model(InferenceConfig(model="screen", device="cpu"))
    changed = frame.model_copy(update={"tensor": frame.tensor * 2})
    with pytest.raises(ValueError, match="its tensor was changed"):
        run_inference(changed, ours, InferenceConfig(model="screen"))
    with pytest.raises(ValueError, match=r"leave PreprocessConfig\.model None"):
        run_inference(frame, network(), InferenceConfig())
    made = run_inference(frame, ours, InferenceConfig(model="screen"))
    half = made.model_copy(update={"alpha": made.alpha[..., ::2]})
    with pytest.raises(ValueError, match=f"plate of {WIDTH}x{HEIGHT}"):
        postprocess_frame(half, PostprocessConfig())


@pytest.mark.parametrize("changed", [False, True])
def test_white_of_an_hdr_clip_is_white_in_its_comp_and_its_files(
    tmp_path: Path, changed: bool
) -> None:
    """75 % of HLG, in front of a quarter of that light: 2.03 as light, 1 for displays."""
    white, grey = 0.75, 0.433
    for folder, subject in (("Input", white), ("CleanPlate", grey)):
        codes = np.full((HEIGHT, WIDTH, 3), grey, np.float32)
        codes[20:70, 40:110] = subject
        (tmp_path / "shot" / folder).mkdir(parents=True)
        picture = np.round(codes * 65535).astype(np.uint16)
        png(tmp_path / "shot" / folder, cicp(9, 18), pixels=picture, name="a.1001.png")
    (found,) = scan(tmp_path / "shot").clips
    frame = preprocess_frame(load(found), 0, PreprocessConfig(device="cpu", model="difference"))
    config = InferenceConfig(model="difference", device="cpu")
    post = replace(POSTPROCESS, source_passthrough=False, auto_despeckle=False)
    made = postprocess_frame(run_inference(frame, load_model(config), config), post)
    subject, background = (45, 75), 0.15
    assert np.abs(made.processed[subject][:3] - 2.03).max() < 0.01
    assert np.abs(made.fg[subject] - 1).max() < 0.005
    assert np.abs(made.comp[subject] - 1).max() < 0.005
    # The checker behind it is as dark as it is behind any other clip.
    assert np.abs(made.comp[2, 2] - background).max() < 0.005
    if changed:  # by a script: its files are made from what the script sees
        made = made.model_copy(update={"fg": made.fg.copy()})
    write_frame(made, WriteConfig(tmp_path / "out"))
    comp = read_frame(tmp_path / "out/comp/a.1001.png").rgb / np.float32(255)
    assert np.abs(comp[subject] - 1).max() < 0.01
    assert np.abs(comp[2, 2] - background).max() < 0.01
    for output in ("fg", "processed"):
        light = read_frame(tmp_path / f"out/{output}/a.1001.exr").pixels[subject][:3]
        assert np.abs(light - 2.03).max() < 0.02, output
