"""What hosts and scripts may import: every public name, written out.

    mattebridge.client        the client, for Python programs and hosts
    mattebridge.errors        what it raises
    mattebridge.hosts         what a node in a host is made from
    mattebridge.image_batch   many pictures in one array or on a GPU
    mattebridge.clips         folders of clips, with the names of CorridorKey's pipeline

Everything else in the package is inner and may move. A name may be added here; one that is removed
or renamed breaks hosts and scripts, so it needs a line in the CHANGELOG.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import fields

import pytest

from fakes.places import PACKAGE

FACE = {
    "client": "DEFAULT_OUTPUTS Matte MatteClient MatteHandle",
    "errors": """
        ArgumentError BusyError Cancelled ColorError ConnectionFailed DaemonError DaemonLost
        DeadlineError DrainingError DtypeError FrameError FrameReadError FrameWriteError
        GeometryError IdReuseError InputsError InternalError LeaseError MattebridgeError
        MessageError
        MessageTooLarge ModelError NonFiniteError OutOfMemoryError OutputExistsError PlateError
        QuotaError RequestError SequenceError SlotBusyError TooLargeError TornError UidError
        UnsafeRuntimeError UsageError VersionError WorkerLostError one_line""",
    "hosts.request": """
        MadeFrame Render ScratchFiles ShotSettings check_needs find_card warnings_of""",
    "hosts.frame_range": "frame_range parse_frames",
    "hosts.settings_text": "parse_settings parse_settings_knob",
    "hosts.scratch": "ScratchFolder choose_root sweep user_word",
    "hosts.store": """
        PATTERN clear find_set frame_file keep_frame read_set source_of sweep take_up
        unsaved_folder update_set""",
    "hosts.route": "Route color_names open_route start_daemon status_line why_no_client",
    "hosts.resolve_colour": "SETTINGS space_of_project",
    "hosts.shot": "content_key layers_of matte_shot",
    "hosts.command": """
        color_names_by_command matte_by_command start_by_command status_by_command""",
    "hosts.panel_line": "line_of of_an_error",
    "hosts.exr": "ScratchImage read_exr write_exr",
    "hosts.exr_header": "WrongHeader read_attributes read_name",
    "image_batch": """
        BatchFailure CudaImageBatch DeviceConfig ImageBatch ImageInfo async_load_image_batch
        load_image_batch""",
    "clips": """
        AlphaUpsampleMode BackendChoice Clip ClipFailedError ClipLayers ClipManifest ClipRunner
        ClipScanError ClipState ClipStatus DeviceError ExrType ExtractionError
        FgUpsampleMode FrameMeta FrameMismatchError FrameReadError ImageFormat
        ImageUpsampleMode InOutRange InferenceConfig InferenceResult
        InvalidStateTransitionError JobCancelledError ModelError MultiDeviceRunner
        MultiGPUConfig MultiGPURunner PipelineConfig PipelineEvents PipelineRunner
        PostprocessConfig PostprocessedFrame PreprocessConfig PreprocessedFrame
        RefinerMode ScanResult SkippedPath VRAMInsufficientError VideoMetadata WriteConfig
        WriteFailureError load load_model load_video_metadata postprocess_frame
        preprocess_frame resolve_alpha resolve_devices run_inference scan state_of
        to_inference_config to_pipeline_config write_frame""",
}

# Of the classes that programs use by more than their name: methods and fields.
INSIDE = {
    "client.MatteClient": """
        close colors connect drop_clean_plate held_clean_plates hold_clean_plate load_model matte
        models ping release shutdown status submit unload_model""",
    "client.MatteHandle": "cancel done frame result",
    "client.Matte": """
        alpha clean_plate_digest degraded device digest error foreground frame model notes
        premultiplied refinement timings""",
    "errors.MattebridgeError": "code default_retry exit_status",
    "hosts.request.ShotSettings": """
        alignment auto_despeckle colorspace deciding despeckle_blur despeckle_dilation
        despeckle_hysteresis despeckle_size despeckle_threshold despill_strength edge_blur_px
        edge_erode_px exact foreground given held_clean_plate hint_blur_px hint_sharpen
        hint_sharpen_dilation match_exposure model nonfinite output_colorspace overscan params
        plate_alpha precision premultiply screen settings source_passthrough spill_method""",
    "hosts.request.ScratchFiles": """
        alpha_hint clean_plate core_matte files garbage_matte hint_channel plate""",
    "hosts.request.MadeFrame": "degraded found frame key path view",
    "hosts.route.Route": "client folder instance matte words",
    "hosts.scratch.ScratchFolder": "check_room close",
    "clips.ClipManifest": """
        alpha_frames_dir clip_name clip_root frame_count frame_numbers frame_range frames_dir
        is_linear model_copy needs_alpha output_dir png_compression video_meta_path""",
    "clips.ClipRunner": "cancel run",
    "clips.FrameMeta": "alpha_hint frame_index original_h original_w source_image",
    "clips.PostprocessedFrame": """
        alpha comp fg frame_index model_copy processed source_h source_w stem""",
    "hosts.exr.ScratchImage": """
        channels data_window display_window pixel_aspect pixels plane""",
}
CALLED_WITH = {
    "client.MatteClient.connect": "instance start daemon_python in_flight name host",
    "client.MatteClient.submit": """
        plate clean_plate alpha_hint garbage_matte core_matte clean_plate_key model outputs
        output_dtype out colorspace frame priority deadline_s timeout_s progress params""",
    "hosts.route.Route.matte": """
        frames render store settings priority timeout_s cancelled on_frame""",
    "hosts.route.open_route": "instance host folder",
    "hosts.store.clear": "store writer",
    "hosts.store.take_up": "store current settings source writer",
    "hosts.store.update_set": "store current made settings source writer",
    "clips.scan": "path reorganise events",
    "clips.load": "clip events png_compression input_space extract layers plate_alpha",
    "clips.resolve_alpha": "manifest alpha_frames_dir",
    "clips.preprocess_frame": "manifest i config image_files alpha_files",
    "clips.load_model": "config resolved_refiner_mode",
    "clips.run_inference": "frame model config resolved_refiner_mode",
    "clips.postprocess_frame": "result config stem output_dir",
    "clips.write_frame": "frame config",
    "clips.ClipRunner": "manifest config",
    "clips.MultiDeviceRunner": "manifest config",
    "hosts.exr.write_exr": "path channels dtype data_window display_window pixel_aspect texts",
}


def named(path: str) -> object:
    """`hosts.route.Route.matte`: the thing of that name in the package."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(["mattebridge", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise AssertionError(path)


@pytest.mark.parametrize("module", FACE)
def test_every_public_name_is_there(module: str) -> None:
    missing = set(FACE[module].split()) - set(vars(named(module)))
    assert not missing


@pytest.mark.parametrize("kind", INSIDE)
def test_every_public_method_and_field_is_there(kind: str) -> None:
    found = named(kind)
    assert inspect.isclass(found)
    names = set(dir(found))
    if hasattr(found, "__dataclass_fields__"):
        names |= {field.name for field in fields(found)}
    assert set(INSIDE[kind].split()) <= names


@pytest.mark.parametrize("function", CALLED_WITH)
def test_every_argument_has_its_name(function: str) -> None:
    found = named(function)
    assert callable(found)
    assert set(CALLED_WITH[function].split()) <= set(inspect.signature(found).parameters)


def test_the_faces_that_declare_their_names_declare_these() -> None:
    for module in ("client", "image_batch", "clips"):
        found = importlib.import_module(f"mattebridge.{module}")
        assert sorted(found.__all__) == sorted(FACE[module].split())


def test_every_error_and_every_module_for_hosts_is_listed() -> None:
    from mattebridge import errors

    kinds = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.MattebridgeError)
    }
    assert kinds == set(FACE["errors"].split()) - {"one_line"}
    modules = {f"hosts.{path.stem}" for path in (PACKAGE / "hosts").glob("[!_]*.py")}
    assert modules == {module for module in FACE if module.startswith("hosts.")}


def test_these_tests_see_that_a_name_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    from mattebridge.hosts import route

    monkeypatch.delattr(route, "open_route")
    with pytest.raises(AssertionError):
        test_every_public_name_is_there("hosts.route")


def test_everything_that_a_module_for_hosts_has_is_listed() -> None:
    for module in (name for name in FACE if name.startswith("hosts.")):
        found = importlib.import_module(f"mattebridge.{module}")
        own = {
            name
            for name, thing in vars(found).items()
            if not name.startswith("_") and getattr(thing, "__module__", "") == found.__name__
        }
        assert own <= set(FACE[module].split()), module
    for kind in (name for name in INSIDE if name.startswith(("client.", "hosts."))):
        own = {name for name in dir(named(kind)) if not name.startswith("_")}
        assert own <= set(INSIDE[kind].split()), kind
