"""The configurations: documented fields and defaults, values that are refused, what they mean."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from mattebridge.clips import (
    DeviceError,
    FgUpsampleMode,
    InferenceConfig,
    MultiGPUConfig,
    PipelineConfig,
    PostprocessConfig,
    PreprocessConfig,
    WriteConfig,
    to_inference_config,
    to_pipeline_config,
)
from mattebridge.clips.corridorkey_toml import import_config
from mattebridge.clips.requests import settings_of, written_of
from mattebridge.clips.runner import resolve_devices
from mattebridge.errors import ModelError, UsageError
from mattebridge.models.greenformer import budget
from mattebridge.models.greenformer.card import SETTINGS
from mattebridge.shot.outputs import parse_formats


def test_queues_outputs_and_devices_have_their_documented_defaults() -> None:
    config = PipelineConfig()
    assert (config.input_queue_depth, config.output_queue_depth) == (2, 2)
    assert (config.write, config.resolved_refiner_mode, config.events) == (None, None, None)
    assert PipelineConfig(inference=None).inference is None
    write = WriteConfig(Path("out"))
    assert written_of(write).outputs == ("alpha", "foreground", "premultiplied", "comp")
    assert write.comp_format == "png"
    assert MultiGPUConfig(devices=["cuda:0", "cuda:1"]).devices == ("cuda:0", "cuda:1")
    assert PostprocessConfig(fg_upsample_mode="bicubic").fg_upsample_mode is FgUpsampleMode.BICUBIC


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PreprocessConfig(img_size=1000), "img_size must be 512, 1024"),
        (lambda: InferenceConfig(img_size=-32), "img_size"),
        (lambda: InferenceConfig(refiner_mode="tiles"), "auto, full_frame, tiled; got 'tiles'"),
        (lambda: InferenceConfig(model_precision="int8"), "model_precision"),
        (lambda: InferenceConfig(model_precision=torch.float64), "model_precision"),
        (lambda: PreprocessConfig(sharpen_strength=2), "sharpen_strength must be a number from"),
        (lambda: PostprocessConfig(despill_strength=5), "despill_strength"),
        (lambda: PostprocessConfig(edge_blur_px=-1), "edge_blur_px"),
        (lambda: PostprocessConfig(spill_method="half"), "spill_method"),
        (lambda: PostprocessConfig(checkerboard_size=0), "checkerboard_size"),
        (lambda: WriteConfig(Path(), alpha_format="tif"), "alpha_format"),
        (lambda: WriteConfig(Path(), exr_compression="zap"), "exr_compression"),
        (lambda: WriteConfig(Path(), exr_compression="dwaa"), "lossless for alpha"),
        (
            lambda: WriteConfig(
                Path(),
                alpha_enabled=False,
                fg_enabled=False,
                processed_enabled=False,
                comp_enabled=False,
            ),
            "all outputs are off",
        ),
        (lambda: PipelineConfig(existing="skip"), "existing"),
        (lambda: PipelineConfig(model=object()), "model must be None"),
        (lambda: MultiGPUConfig(), "at least one device"),
        (lambda: MultiGPUConfig(devices="cuda:0"), "a list of at least one device.*got 'cuda:0'"),
        (lambda: MultiGPUConfig(devices=["cpu"], inference=None), "must be InferenceConfig; got"),
        (lambda: PipelineConfig(inference="key.pth"), "must be InferenceConfig or None; got"),
        (lambda: PipelineConfig(write=Path("out")), "write must be WriteConfig or None"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("given", "precision"),
    [
        ({}, "auto"),
        ({"mixed_precision": False}, "float32"),
        ({"model_precision": torch.float16}, "float16"),
        ({"model_precision": torch.bfloat16, "mixed_precision": False}, "bfloat16"),
        ({"model_precision": "auto"}, "auto"),
    ],
)
def test_the_two_fields_of_precision_are_one(given: dict[str, Any], precision: str) -> None:
    assert InferenceConfig(**given).precision == precision


def test_the_configurations_become_settings_of_the_model() -> None:
    settings = settings_of(
        PreprocessConfig(img_size=512, image_upsample_mode="bicubic", sharpen_strength=0.3),
        InferenceConfig(img_size=512, use_refiner=False, refiner_scale=0.5),
        PostprocessConfig(fg_upsample_mode="bilinear"),
    )
    assert SETTINGS.validate(settings, model="key") == {
        **{name: setting.default for name, setting in SETTINGS.items()},
        "img_size": 512,
        "image_upsample_mode": "bicubic",
        "sharpen_strength": 0.3,
        "refiner": "off",
        "refiner_scale": 0.5,
        "result_upsample_mode": "bilinear",
        "alpha_upsample_mode": "lanczos4",
    }
    with pytest.raises(ValueError, match=r"img_size 512 and InferenceConfig 2048"):
        settings_of(PreprocessConfig(img_size=512), InferenceConfig(), PostprocessConfig())
    with pytest.raises(ModelError, match="mlx"):
        settings_of(PreprocessConfig(), InferenceConfig(backend="mlx"), PostprocessConfig())
    half = PreprocessConfig(half_precision=True)
    for network in (InferenceConfig(), InferenceConfig(model_precision="float16")):
        assert settings_of(half, network, PostprocessConfig())["precision"] == "float16"
    for precision, network in {
        "bfloat16": InferenceConfig(model_precision="bfloat16"),
        "float32": InferenceConfig(mixed_precision=False),
    }.items():
        with pytest.raises(ValueError, match=f"half_precision.*asks for {precision}: leave one"):
            settings_of(half, network, PostprocessConfig())


@pytest.mark.parametrize(("named", "refused"), [("mlx", True), ("MLX ", True), ("torch", False)])
def test_the_documented_variable_names_the_backend_over_the_configuration(
    monkeypatch: pytest.MonkeyPatch, named: str, refused: bool
) -> None:
    monkeypatch.setenv("CORRIDORKEY_BACKEND", named)
    network = InferenceConfig(backend="auto" if refused else "mlx")
    if not refused:
        assert settings_of(PreprocessConfig(), network, PostprocessConfig())
        return
    with pytest.raises(ModelError, match="'mlx' of CORRIDORKEY_BACKEND is not available here"):
        settings_of(PreprocessConfig(), network, PostprocessConfig())


def test_a_size_by_memory_is_settled_once_for_both_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert to_inference_config(InferenceConfig(img_size=0, device="cpu")).img_size == 512
    given = InferenceConfig(img_size=1024)
    assert to_inference_config(given) is given
    both = PipelineConfig(
        preprocess=PreprocessConfig(img_size=0, device="cpu"),
        inference=InferenceConfig(img_size=0, device="cpu"),
    )
    gib = 1 << 30
    for free, mode in ((64 * gib, "full_frame"), (gib // 4, "tiled")):
        monkeypatch.setattr(budget, "free_bytes", lambda _, free=free: free)
        settled = to_pipeline_config(both)
        assert settled.inference is not None
        assert (settled.preprocess.img_size, settled.inference.img_size) == (512, 512)
        assert settled.resolved_refiner_mode == mode
    named = both.model_copy(update={"inference": InferenceConfig(img_size=1024, device="cpu")})
    assert to_pipeline_config(named).preprocess.img_size == 1024
    kept = both.model_copy(update={"resolved_refiner_mode": "full_frame"})
    assert to_pipeline_config(kept).resolved_refiner_mode == "full_frame"
    check = PipelineConfig(inference=None)
    assert to_pipeline_config(check) is check
    with pytest.raises(ValueError, match="img_size 2048 and InferenceConfig 1024"):
        to_pipeline_config(PipelineConfig(inference=InferenceConfig(img_size=1024)))
    with pytest.raises(DeviceError, match="'cuda:77' cannot be used"):
        to_inference_config(InferenceConfig(img_size=0, device="cuda:77"))


def test_words_for_devices_are_those_of_the_field() -> None:
    assert resolve_devices("cpu") == ["cpu"]
    assert resolve_devices("cuda:0, cuda:1,cuda:0") == ["cuda:0", "cuda:1"]
    assert resolve_devices("rocm:1") == ["cuda:1"]
    assert resolve_devices("all")
    assert len(resolve_devices("auto")) == 1
    with pytest.raises(ValueError, match="name none"):
        resolve_devices(" ")


TOML = """
device = "cuda"
theme = "dark"

[logging]
level = "INFO"

[preprocess]
img_size = 1024
image_upsample_mode = "bicubic"
source_passthrough = false

[inference]
checkpoint_path = "~/key.pth"
refiner_mode = "tiled"
model_precision = "bfloat16"
flash_attention = "on"

[postprocess]
edge_blur_px = 0
despill_strength = 1.0
checkerboard_size = 64

[writer]
fg_format = "png"
processed_format = "png"
comp_enabled = false
exr_compression = "piz"
"""


def test_a_corridorkey_toml_is_mapped_and_what_is_not_taken_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "corridorkey.toml"
    path.write_text(TOML)
    imported = import_config(path)
    assert asdict(imported) == {
        "options": {
            "edge_blur_px": 0,
            "despill_strength": 1.0,
            "source_passthrough": False,
            "background": "checker:64",
            "outputs": "alpha,foreground,premultiplied",
            "format": "alpha=exr-piz,foreground=png,premultiplied=png16",
        },
        "settings": {
            "img_size": 1024,
            "image_upsample_mode": "bicubic",
            "refiner": "tiled",
            "precision": "bfloat16",
        },
        "left_out": (
            "device (the daemon's: `mattebridge serve --devices`)",
            "inference.checkpoint_path (add the file with `mattebridge models add`, and name it:"
            " --model)",
            "inference.flash_attention",
            "logging (the daemon's log is in its runtime folder)",
            "theme",
        ),
    }
    path.write_text("")
    assert asdict(import_config(path)) == {"options": {}, "settings": {}, "left_out": ()}


def test_the_lossy_codec_of_the_published_page_is_taken_for_colours_and_never_for_alpha(
    tmp_path: Path,
) -> None:
    path = tmp_path / "corridorkey.toml"
    path.write_text('[writer]\nexr_compression = "dwaa"\n')
    imported = import_config(path)
    assert imported.options["format"] == (
        "alpha=exr,foreground=exr-dwaa,premultiplied=exr-dwaa,comp=png"
    )
    (why,) = imported.left_out
    assert why == "writer.exr_compression dwaa for alpha, which is written lossless"
    forms = parse_formats(imported.options["format"], imported.options["outputs"].split(","))
    assert (forms["foreground"].compression, forms["alpha"].name) == ("dwaa", "exr")
    path.write_text('[writer]\nexr_compression = "dwaa"\nalpha_format = "png"\n')
    assert import_config(path).options["format"].startswith("alpha=png,foreground=exr-dwaa")
    path.write_text('[writer]\nexr_compression = "dwab"\nalpha_enabled = false\n')
    assert import_config(path).left_out == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[preprocess]\nimg_size = 1000", "img_size must be"),
        ("[postprocess]\ndespill_strength = 'much'", "despill_strength"),
        ("[writer]\nalpha_format = 'tga'", "alpha_format"),
        ("[preprocess", "is not TOML"),
    ],
)
def test_a_corridorkey_toml_with_a_wrong_value_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "corridorkey.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        import_config(path)
    with pytest.raises(UsageError, match="cannot be read"):
        import_config(tmp_path / "none.toml")
