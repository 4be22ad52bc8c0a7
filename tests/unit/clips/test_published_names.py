"""Every name of the published page of CorridorKey's pipeline, with its fields and defaults.

The tables are that page in short. Where mattebridge has another default, the table holds ours, and
`OTHERWISE` says what the page has: docs/clips.md gives the reasons.
"""

from __future__ import annotations

import enum
import inspect
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

import mattebridge.clips as clips

NO_DEFAULT = object()
FUNCTIONS = {
    "scan": {"path": NO_DEFAULT, "reorganise": False, "events": None},
    "load": {"clip": NO_DEFAULT, "events": None, "png_compression": 1},
    "resolve_alpha": {"manifest": NO_DEFAULT, "alpha_frames_dir": NO_DEFAULT},
    "load_video_metadata": {"clip_root": NO_DEFAULT},
    "preprocess_frame": {
        "manifest": NO_DEFAULT,
        "i": NO_DEFAULT,
        "config": NO_DEFAULT,
        "image_files": None,
        "alpha_files": None,
    },
    "load_model": {"config": NO_DEFAULT, "resolved_refiner_mode": None},
    "run_inference": {
        "frame": NO_DEFAULT,
        "model": NO_DEFAULT,
        "config": NO_DEFAULT,
        "resolved_refiner_mode": None,
    },
    "postprocess_frame": {
        "result": NO_DEFAULT,
        "config": NO_DEFAULT,
        "stem": "",
        "output_dir": None,
    },
    "write_frame": {"frame": NO_DEFAULT, "config": NO_DEFAULT},
    "resolve_devices": {"devices": NO_DEFAULT},
    "to_inference_config": {"config": NO_DEFAULT},
    "to_pipeline_config": {"config": NO_DEFAULT},
}
# In the order of the page; what we have beyond it comes behind.
CONTRACTS: dict[str, dict[str, Any]] = {
    "Clip": {
        "name": NO_DEFAULT,
        "root": NO_DEFAULT,
        "input_path": NO_DEFAULT,
        "alpha_path": None,
    },
    "SkippedPath": {"path": NO_DEFAULT, "reason": NO_DEFAULT},
    "ScanResult": {"clips": (), "skipped": ()},
    "ClipManifest": {
        "clip_name": NO_DEFAULT,
        "clip_root": NO_DEFAULT,
        "frames_dir": NO_DEFAULT,
        "alpha_frames_dir": NO_DEFAULT,
        "output_dir": NO_DEFAULT,
        "needs_alpha": NO_DEFAULT,
        "frame_count": NO_DEFAULT,
        "frame_range": NO_DEFAULT,
        "is_linear": False,
        "video_meta_path": None,
        "png_compression": 1,
    },
    "VideoMetadata": {
        "filename": NO_DEFAULT,
        "width": NO_DEFAULT,
        "height": NO_DEFAULT,
        "fps_num": NO_DEFAULT,
        "fps_den": NO_DEFAULT,
        "pix_fmt": NO_DEFAULT,
        "codec_name": NO_DEFAULT,
        "frame_count": 0,
        "duration_s": None,
        "has_audio": False,
        "color_space": None,
        "color_transfer": None,
        "color_primaries": None,
    },
    "FrameMeta": {
        "frame_index": NO_DEFAULT,
        "original_h": NO_DEFAULT,
        "original_w": NO_DEFAULT,
        "source_image": None,
        "alpha_hint": None,
    },
    "PreprocessedFrame": {"tensor": NO_DEFAULT, "meta": NO_DEFAULT},
    "InferenceResult": {"alpha": NO_DEFAULT, "fg": NO_DEFAULT, "meta": NO_DEFAULT},
    "PostprocessedFrame": {
        "alpha": NO_DEFAULT,
        "fg": NO_DEFAULT,
        "processed": NO_DEFAULT,
        "comp": NO_DEFAULT,
        "frame_index": NO_DEFAULT,
        "source_h": NO_DEFAULT,
        "source_w": NO_DEFAULT,
        "stem": NO_DEFAULT,
    },
    "PreprocessConfig": {
        "img_size": 2048,
        "device": "auto",
        "image_upsample_mode": "bilinear",
        "half_precision": False,
        "source_passthrough": True,
        "sharpen_strength": 0.0,
    },
    "InferenceConfig": {
        "checkpoint_path": None,
        "device": "auto",
        "img_size": 2048,
        "use_refiner": True,
        "mixed_precision": True,
        "model_precision": "float32",
        "refiner_mode": "auto",
        "refiner_scale": 1.0,
        "backend": "auto",
    },
    "PostprocessConfig": {
        "fg_upsample_mode": "lanczos4",
        "alpha_upsample_mode": "lanczos4",
        "despill_strength": 0.5,
        "auto_despeckle": True,
        "despeckle_size": 400,
        "despeckle_dilation": 25,
        "despeckle_blur": 5,
        "checkerboard_size": 128,
        "source_passthrough": True,
        "edge_erode_px": 3,
        "edge_blur_px": 7,
        "hint_sharpen": True,
        "hint_sharpen_dilation": 3,
        "debug_dump": False,
    },
    "WriteConfig": {
        "output_dir": NO_DEFAULT,
        "alpha_enabled": True,
        "alpha_format": "exr",
        "fg_enabled": True,
        "fg_format": "exr",
        "processed_enabled": True,
        "processed_format": "exr",
        "comp_enabled": True,
        "comp_format": "png",
        "exr_compression": "zip",
    },
    "PipelineConfig": {
        "preprocess": clips.PreprocessConfig(),
        "inference": clips.InferenceConfig(),
        "postprocess": clips.PostprocessConfig(),
        "write": None,
        "input_queue_depth": 2,
        "output_queue_depth": 2,
        "resolved_refiner_mode": None,
        "events": None,
    },
    "MultiGPUConfig": {
        "devices": (),
        "inference": clips.InferenceConfig(),
        "preprocess": clips.PreprocessConfig(),
        "postprocess": clips.PostprocessConfig(),
        "write": None,
        "input_queue_depth": 2,
        "output_queue_depth": 2,
        "events": None,
    },
    "PipelineEvents": dict.fromkeys(
        (
            "on_stage_start",
            "on_stage_done",
            "on_extract_frame",
            "on_preprocess_queued",
            "on_inference_start",
            "on_inference_queued",
            "on_frame_written",
            "on_queue_depth",
            "on_frame_error",
            "on_clip_found",
            "on_clip_skipped",
        )
    ),
}
# What the page has, and docs/clips.md the reason for ours: by class and field.
OTHERWISE = {
    ("PreprocessConfig", "image_upsample_mode"): "bicubic",
    ("PreprocessConfig", "sharpen_strength"): "0.3",
    ("WriteConfig", "exr_compression"): "dwaa",
}
ENUMERATIONS = {
    "ImageUpsampleMode": {"bilinear", "bicubic"},
    "FgUpsampleMode": {"bilinear", "bicubic", "lanczos4"},
    "AlphaUpsampleMode": {"bilinear", "lanczos4"},
    "RefinerMode": {"auto", "full_frame", "tiled"},
    "BackendChoice": {"auto", "torch", "mlx"},
    "ImageFormat": {"png", "exr"},
}
# The names that scripts catch, and the built-in exceptions that the page documents for them.
# With each, the code of ours and the exit status that a command has for it.
ERRORS: dict[str, tuple[type[BaseException], str, int]] = {
    "ClipScanError": (Exception, "E_USAGE", 2),
    "ExtractionError": (Exception, "E_READ", 2),
    "FrameMismatchError": (Exception, "E_SEQUENCE", 2),
    "FrameReadError": (Exception, "E_READ", 3),
    "WriteFailureError": (OSError, "E_WRITE", 3),
    "VRAMInsufficientError": (Exception, "E_OOM", 3),
    "DeviceError": (Exception, "E_MODEL", 2),
    "ModelError": (Exception, "E_MODEL", 2),
    "InvalidStateTransitionError": (Exception, "E_INTERNAL", 1),
    "JobCancelledError": (Exception, "E_CANCELLED", 4),
}
PAGE = (Path(__file__).parents[3] / "docs/clips.md").read_text("utf-8")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_takes_what_is_documented_in_its_order(name: str) -> None:
    given = inspect.signature(getattr(clips, name)).parameters
    wanted = FUNCTIONS[name]
    assert list(given)[: len(wanted)] == list(wanted)
    for parameter, default in wanted.items():
        ours = given[parameter]
        assert ours.kind is ours.POSITIONAL_OR_KEYWORD
        assert ours.default == (inspect.Parameter.empty if default is NO_DEFAULT else default)
    beyond = [given[each] for each in list(given)[len(wanted) :]]
    assert all(each.kind is each.KEYWORD_ONLY for each in beyond)


def default_of(field: Any) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return NO_DEFAULT if field.default is MISSING else field.default


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_contract_has_its_documented_fields_in_their_order_and_is_frozen(name: str) -> None:
    kind = getattr(clips, name)
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    ours = {field.name: default_of(field) for field in fields(kind)}
    wanted = CONTRACTS[name]
    assert list(ours)[: len(wanted)] == list(wanted)
    assert {field: ours[field] for field in wanted} == wanted
    beyond = list(ours)[len(wanted) :]
    assert all(ours[field] is not NO_DEFAULT for field in beyond)
    assert all(field in (kind.__doc__ or "") for field in beyond)
    if name != "PipelineEvents":
        assert callable(kind.model_copy)


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_every_enumeration_has_its_documented_words_which_are_texts_too(name: str) -> None:
    kind = getattr(clips, name)
    assert issubclass(kind, enum.Enum)
    assert {str(each) for each in kind} >= ENUMERATIONS[name]
    assert all(each == str(each) for each in kind)


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_its_name_its_exit_status_and_the_documented_built_in(name: str) -> None:
    kind = getattr(clips, name)
    built_in, code, status = ERRORS[name]
    assert issubclass(kind, built_in)
    assert (kind.code, kind.exit_status) == (code, status)


def test_runners_have_both_names_and_take_a_manifest_and_a_configuration() -> None:
    assert clips.PipelineRunner is clips.ClipRunner
    assert clips.MultiGPURunner is clips.MultiDeviceRunner
    for runner in (clips.PipelineRunner, clips.MultiGPURunner):
        assert list(inspect.signature(runner).parameters)[:2] == ["manifest", "config"]
        assert list(inspect.signature(runner.run).parameters) == ["self"]
    metadata = clips.VideoMetadata("a.mov", 2, 2, 24, 1, "", "", duration_s=2.0)
    assert (metadata.fps, metadata.estimated_frame_count) == (24.0, 48)


@pytest.mark.parametrize(("field", "theirs"), OTHERWISE.items())
def test_every_other_default_is_named_on_the_page_with_what_was_documented(
    field: tuple[str, str], theirs: str
) -> None:
    name, attribute = field
    assert str(CONTRACTS[name][attribute]) != theirs
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and theirs in line]
    assert rows


@pytest.mark.parametrize("name", [*FUNCTIONS, "ClipRunner", "MultiDeviceRunner", "PipelineRunner"])
def test_every_function_and_runner_is_on_the_page(name: str) -> None:
    assert f"`{name}" in PAGE
