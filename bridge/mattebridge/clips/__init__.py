"""Folders of clips, as CorridorKey users have them: found, loaded, and matted by `shot/`.

    scan(path) --> Clip --load--> ClipManifest --ClipRunner(manifest, config).run()--> files
                                       |         through a daemon, by shot.run.run_job
                                       '--preprocess_frame, run_inference, postprocess_frame,
                                          write_frame: one frame, in the process of the caller

The names, fields and functions are those that scripts for CorridorKey's pipeline use. Nothing is
moved, renamed or deleted in a clip folder, and nothing is created before the first frame. Importing
this imports no torch: the stage functions do, when they are called.

    contracts, frames   what is passed on          stages      the stage functions: their faces
    configs             one dataclass a stage      reading     a frame as the network's input
    errors, events      what is raised, and told   network     a checkpoint in this process
    scanning, loading   which frames there are     finishing   the network's result as pictures
    video_meta          video_meta.json            writing     pictures as files
    extraction          videos as pictures         job         a clip as a job of `shot/`
    states              how far a clip is          needs       what a clip lacks for its model
    requests            what configurations mean   resolving   sizes by the memory of the moment
    runner, telling     a clip through a daemon    checkpoints a file as a model of the daemon
"""

from mattebridge.clips.configs import (
    AlphaUpsampleMode,
    BackendChoice,
    ExrType,
    FgUpsampleMode,
    ImageFormat,
    ImageUpsampleMode,
    InferenceConfig,
    MultiGPUConfig,
    PipelineConfig,
    PostprocessConfig,
    PreprocessConfig,
    RefinerMode,
    WriteConfig,
)
from mattebridge.clips.contracts import (
    Clip,
    ClipLayers,
    ClipManifest,
    ScanResult,
    SkippedPath,
    VideoMetadata,
)
from mattebridge.clips.errors import (
    ClipFailedError,
    ClipScanError,
    DeviceError,
    ExtractionError,
    FrameMismatchError,
    FrameReadError,
    InvalidStateTransitionError,
    JobCancelledError,
    ModelError,
    VRAMInsufficientError,
    WriteFailureError,
)
from mattebridge.clips.events import PipelineEvents
from mattebridge.clips.frames import (
    FrameMeta,
    InferenceResult,
    PostprocessedFrame,
    PreprocessedFrame,
)
from mattebridge.clips.loading import load, resolve_alpha
from mattebridge.clips.resolving import to_inference_config, to_pipeline_config
from mattebridge.clips.runner import (
    ClipRunner,
    MultiDeviceRunner,
    MultiGPURunner,
    PipelineRunner,
    resolve_devices,
)
from mattebridge.clips.scanning import scan
from mattebridge.clips.stages import (
    load_model,
    postprocess_frame,
    preprocess_frame,
    run_inference,
    write_frame,
)
from mattebridge.clips.states import ClipState, ClipStatus, InOutRange, state_of
from mattebridge.clips.video_meta import load_video_metadata

__all__ = [
    "AlphaUpsampleMode",
    "BackendChoice",
    "Clip",
    "ClipFailedError",
    "ClipLayers",
    "ClipManifest",
    "ClipRunner",
    "ClipScanError",
    "ClipState",
    "ClipStatus",
    "DeviceError",
    "ExrType",
    "ExtractionError",
    "FgUpsampleMode",
    "FrameMeta",
    "FrameMismatchError",
    "FrameReadError",
    "ImageFormat",
    "ImageUpsampleMode",
    "InOutRange",
    "InferenceConfig",
    "InferenceResult",
    "InvalidStateTransitionError",
    "JobCancelledError",
    "ModelError",
    "MultiDeviceRunner",
    "MultiGPUConfig",
    "MultiGPURunner",
    "PipelineConfig",
    "PipelineEvents",
    "PipelineRunner",
    "PostprocessConfig",
    "PostprocessedFrame",
    "PreprocessConfig",
    "PreprocessedFrame",
    "RefinerMode",
    "ScanResult",
    "SkippedPath",
    "VRAMInsufficientError",
    "VideoMetadata",
    "WriteConfig",
    "WriteFailureError",
    "load",
    "load_model",
    "load_video_metadata",
    "postprocess_frame",
    "preprocess_frame",
    "resolve_alpha",
    "resolve_devices",
    "run_inference",
    "scan",
    "state_of",
    "to_inference_config",
    "to_pipeline_config",
    "write_frame",
]
