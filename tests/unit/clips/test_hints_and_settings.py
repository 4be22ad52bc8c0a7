"""The plate + hint network in the stage functions: hints that are made where a clip has none, and
settings of the model, against the engine that the daemon's worker runs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fakes.stage_keyer import INFERENCE, POSTPROCESS, PREPROCESS, keyer, network
from mattebridge.clips import (
    ClipManifest,
    FrameMeta,
    InferenceConfig,
    PipelineConfig,
    PostprocessedFrame,
    PreprocessConfig,
    PreprocessedFrame,
    load,
    postprocess_frame,
    preprocess_frame,
    run_inference,
    scan,
)
from mattebridge.clips.requests import clean_up_of, settings_of
from mattebridge.clips.runner import job_for
from mattebridge.engine.engine import Engine
from mattebridge.errors import InputsError, MessageError, ModelError
from mattebridge.image_io import write_frame as write_picture
from mattebridge.models.entry import Entry
from mattebridge.models.registry import Registry
from mattebridge.wire.params import RenderParams

# No multiple of what the makers of hints work in.
HEIGHT, WIDTH = 90, 158
GREEN = np.array([0.05, 0.32, 0.06], np.float32)


def clean(screen: np.ndarray = GREEN) -> np.ndarray:
    shade = np.linspace(1, 0.8, WIDTH, dtype=np.float32)[None, :, None]
    return np.broadcast_to(screen * shade, (HEIGHT, WIDTH, 3)).astype(np.float16)


def plate_of(screen: np.ndarray = GREEN) -> np.ndarray:
    """A red subject with highlights before a screen that is darker on the right, (H, W, 3) half."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    subject = np.stack([0.5 + 0.1 * np.sin(x / 3), 0.2 + 0 * x, 0.15 + y / 400], axis=2)
    alpha = np.clip((34 - np.hypot(x - 80, y - 45)) / 6, 0, 1)[..., None]
    picture = clean(screen).astype(np.float32) * (1 - alpha) + subject * alpha
    picture[40:44, 78:84] = 4.0
    return picture.astype(np.float16)


def hint() -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return ((np.hypot(x - 78, y - 46) < 30) * 255).astype(np.uint8)[..., None]


def manifest_of(root: Path, planes: dict[str, np.ndarray]) -> ClipManifest:
    """A clip of one frame, 1001."""
    folders = {"plate": "Input/a.1001.exr", "clean_plate": "CleanPlate/clean.exr"}
    folders["alpha_hint"] = "AlphaHint/h.1001.png"
    for role, pixels in planes.items():
        (root / folders[role]).parent.mkdir(parents=True)
        write_picture(root / folders[role], pixels)
    (found,) = scan(root).clips
    return load(found)


def by_stages(
    manifest: ClipManifest, preprocess: PreprocessConfig, inference: InferenceConfig
) -> PostprocessedFrame:
    frame = preprocess_frame(manifest, 0, preprocess)
    return postprocess_frame(run_inference(frame, network(), inference), POSTPROCESS)


@cache
def engine() -> Engine:
    """That of a worker, whose only model is `key`; it loads it once."""
    return Engine(
        "cpu",
        registry=Registry(lambda: {"key": Entry(keyer().card, lambda card: keyer())}, aliases={}),
    )


def by_the_engine(
    planes: dict[str, np.ndarray], settings: dict[str, Any], space: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What the daemon's worker gives, and its notes of the model."""
    sharpens = "alpha_hint" in planes
    clean_up = clean_up_of(replace(POSTPROCESS, hint_sharpen=sharpens))
    params = RenderParams("linear", output_colorspace=space, settings=settings, **clean_up)
    shape = {"alpha": 1, "foreground": 3, "premultiplied": 4}
    out = {role: np.empty((HEIGHT, WIDTH, n), np.float32) for role, n in shape.items()}
    report = engine().matte(planes, params, model="key", out=out)
    return out, dict(report.notes["model"])


def assert_equal(
    done: PostprocessedFrame, planes: dict[str, np.ndarray], settings: dict[str, Any]
) -> None:
    light, notes = by_the_engine(planes, settings, "linear")
    shown, _ = by_the_engine(planes, settings, "srgb")
    assert np.array_equal(done.alpha, light["alpha"])
    assert np.array_equal(done.processed, light["premultiplied"])
    assert np.array_equal(done.fg, shown["foreground"])
    assert np.count_nonzero(done.alpha) > 0
    of_both = ("img_size", "screen", "channels_swapped", "hint", "precision", "refiner")
    assert {name: done.notes[name] for name in of_both} == {name: notes[name] for name in of_both}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "has_clean_plate", "made_by"),
    [
        ("auto", True, "difference"),
        ("twoplate", True, "twoplate"),
        ("screen", True, "screen"),
        ("auto", False, "screen"),
    ],
)
def test_a_frame_without_a_hint_has_the_one_that_the_daemon_makes(
    tmp_path: Path, asked: str, has_clean_plate: bool, made_by: str
) -> None:
    planes = {"plate": plate_of()} | ({"clean_plate": clean()} if has_clean_plate else {})
    manifest = manifest_of(tmp_path, planes)
    assert manifest.needs_alpha
    preprocess = replace(PREPROCESS, hint_source=asked)
    done = by_stages(manifest, preprocess, INFERENCE)
    assert done.notes["hint"] == made_by
    # A runner sends these settings; a clip without a hint gets no hint sharpen of either.
    job = job_for(manifest, PipelineConfig(preprocess, replace(INFERENCE, checkpoint_path=None)))
    assert not job.params.hint_sharpen
    assert_equal(done, planes, settings_of(preprocess, INFERENCE, POSTPROCESS))
    # The configuration of the network may say it as well.
    other = replace(INFERENCE, hint_source=asked)
    again = by_stages(manifest, preprocess, other)
    assert np.array_equal(again.processed, done.processed)


def test_a_hint_is_only_made_where_that_is_asked_for(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "shot", {"plate": plate_of()})
    with pytest.raises(ValueError, match=r"PreprocessConfig\.hint_source"):
        preprocess_frame(manifest, 0, PREPROCESS)
    with pytest.raises(InputsError, match="clean plate"):
        preprocess_frame(manifest, 0, replace(PREPROCESS, hint_source="difference"))
    with pytest.raises(ValueError, match="hint_source must be one of"):
        PreprocessConfig(hint_source="guess")
    grey = manifest_of(tmp_path / "grey", {"plate": np.full((HEIGHT, WIDTH, 3), 110, np.uint8)})
    with pytest.raises(InputsError, match="found none of them"):
        preprocess_frame(grey, 0, replace(PREPROCESS, hint_source="auto"))
    two = replace(PREPROCESS, hint_source="screen"), replace(INFERENCE, hint_source="auto")
    with pytest.raises(ValueError, match="'screen' and InferenceConfig 'auto': give both the same"):
        settings_of(*two, POSTPROCESS)


@pytest.mark.slow
def test_with_a_hint_that_is_sent_another_may_still_be_asked_for(tmp_path: Path) -> None:
    planes = {"plate": plate_of(), "alpha_hint": hint()}
    manifest = manifest_of(tmp_path, planes)
    sent = by_stages(manifest, PREPROCESS, INFERENCE)
    assert sent.notes["hint"] == "sent"
    made = by_stages(manifest, PREPROCESS, replace(INFERENCE, hint_source="screen"))
    assert made.notes["hint"] == "screen"
    assert_equal(
        made,
        planes,
        {**settings_of(PREPROCESS, INFERENCE, POSTPROCESS)} | {"hint_source": "screen"},
    )
    assert not np.array_equal(sent.alpha, made.alpha)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The premultiplied result without settings."""
    planes = {"plate": plate_of(), "alpha_hint": hint()}
    manifest = manifest_of(tmp_path_factory.mktemp("plain"), planes)
    return by_stages(manifest, PREPROCESS, INFERENCE).processed


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"fit": "letterbox"},
        {"screen": "blue"},
        {"img_size": 96, "image_upsample_mode": "bicubic"},
        {"sharpen_strength": 0.5, "img_size": 192},
        {"refiner": "tiled", "refiner_scale": 0.5},
        {"result_upsample_mode": "bilinear"},
        {"alpha_upsample_mode": "bicubic"},
        {"precision": "bfloat16"},
        {"hint_source": "screen"},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_settings_of_the_model_act_as_in_the_daemon(
    tmp_path: Path, plain: np.ndarray, settings: dict[str, Any]
) -> None:
    planes = {"plate": plate_of(), "alpha_hint": hint()}
    manifest = manifest_of(tmp_path, planes)
    inference = replace(INFERENCE, settings=settings)
    done = by_stages(manifest, PREPROCESS, inference)
    assert_equal(done, planes, settings_of(PREPROCESS, inference, POSTPROCESS))
    assert not np.array_equal(done.processed, plain)


def test_settings_that_cannot_act_are_refused(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, {"plate": plate_of(), "alpha_hint": hint()})
    frame = preprocess_frame(manifest, 0, PREPROCESS)
    letterbox = replace(INFERENCE, settings={"fit": "letterbox"})
    own = FrameMeta(0, HEIGHT, WIDTH, frame.meta.source_image, frame.meta.alpha_hint)
    with pytest.raises(ValueError, match=r"fit of InferenceConfig .* not made by preprocess_frame"):
        run_inference(PreprocessedFrame(frame.tensor, own), network(), letterbox)
    changed = PreprocessedFrame(torch.flip(frame.tensor, (3,)), frame.meta)
    with pytest.raises(ValueError, match="tensor of this frame was changed"):
        run_inference(changed, network(), letterbox)
    with pytest.raises(MessageError, match="fits"):
        run_inference(frame, network(), replace(INFERENCE, settings={"fits": "letterbox"}))
    with pytest.raises(ModelError, match="multiple of 32"):
        run_inference(frame, network(), replace(INFERENCE, settings={"img_size": 40}))
