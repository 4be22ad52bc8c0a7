"""A whole clip through a daemon: the manifest and the configuration as a job of `shot/`.

    manifest, config --job_for--> MatteJob --run_job--> files, events --> report, or an error

The shared daemon of the user mattes clips with a model that it knows by name. Where a configuration
names a checkpoint file or devices, the run has a daemon of its own, which ends with it; the file is
registered under its digest first.

Rule: a run that returns has every frame on disk, checked there. One that could not make a frame
makes the others, and then raises.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from mattebridge.client import MatteClient
from mattebridge.clips.checking import checked, record_of_check
from mattebridge.clips.checkpoints import registered
from mattebridge.clips.configs import (
    AUTO,
    InferenceConfig,
    MultiGPUConfig,
    PipelineConfig,
    PreprocessConfig,
    WriteConfig,
)
from mattebridge.clips.contracts import ClipManifest
from mattebridge.clips.errors import (
    ArgumentError,
    ClipFailedError,
    DeviceError,
    WriteFailureError,
)
from mattebridge.clips.events import Teller
from mattebridge.clips.job import job_of, job_of_pictures
from mattebridge.clips.loading import clip_of
from mattebridge.clips.needs import check_inputs
from mattebridge.clips.requests import clean_up_of, makes_hints, settings_of, written_of
from mattebridge.clips.telling import PREPROCESS, Narrator, ToldClient
from mattebridge.daemon import private
from mattebridge.errors import FrameWriteError, ModelError, UsageError
from mattebridge.image_io.frame_ranges import frame_ranges
from mattebridge.models.greenformer.card import FAMILY
from mattebridge.models.registry import Registry
from mattebridge.ocio.space import Spaces
from mattebridge.shot.job import MatteJob
from mattebridge.shot.planes import FramePlanes
from mattebridge.shot.ports import Client
from mattebridge.shot.run import run_job
from mattebridge.shot.summary import Summary
from mattebridge.shot.tasks import frame_task
from mattebridge.wire.protocol import MAX_SLOTS

Config = PipelineConfig | MultiGPUConfig
ALL = "all"


class ClipRunner:
    """Runs the whole pipeline for one clip: `ClipRunner(manifest, config).run()`.

    instance: the daemon to use, as of `MatteClient.connect`; by default the user's own.
    """

    def __init__(
        self,
        manifest: ClipManifest,
        config: PipelineConfig | None = None,
        *,
        instance: str | None = None,
    ) -> None:
        self._manifest = manifest
        self._config: Config = config or PipelineConfig()
        self._instance = instance
        self._devices: Sequence[str] = ()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop the run: it raises `JobCancelledError`, and leaves no partial file."""
        self._cancelled.set()

    def run(self) -> Summary:
        """Matte the clip; gives how each frame ended, and returns when all are on disk.

        Blocks until then; a `ClipRunner` runs once. Raises `ArgumentError` (a `ValueError`) for a
        clip that needs a hint, and before the first frame what is wrong with the job
        (`OutputExistsError`, `InputsError`, `ModelError`, `DeviceError`, `DaemonError`). A frame
        that fails does not stop the others: then `ClipFailedError` is raised at the end, with the
        report. A failed write (an `OSError` too), a lost daemon and a cancel end the run at once.
        """
        _refuse_empty_range(self._manifest)
        with Teller(self._config.events) as tell:
            if self._config.inference is None:
                return _checked(self._manifest, tell, self._cancelled)
            return self._run(tell, self._config.inference)

    def _run(self, tell: Teller, inference: InferenceConfig) -> Summary:
        _refuse_without_hint(self._manifest, self._config.preprocess, inference)
        by_number = {number: i for i, number in enumerate(self._manifest.frame_numbers)}
        narrator = Narrator(tell, by_number, self._devices)
        job = job_for(self._manifest, self._config)
        job = replace(job, in_flight=max(job.in_flight, min(len(self._devices) + 1, MAX_SLOTS)))
        with _daemon_for(inference, self._devices, self._instance, job.in_flight) as connect:
            summary = run_job(
                job,
                lambda: cast("Client", ToldClient(connect(), narrator)),
                progress=narrator,
                cancelled=self._cancelled,
                check=check_inputs,
            )
        return _all_good(self._manifest, summary)


class MultiDeviceRunner(ClipRunner):
    """Runs the pipeline for one clip on several devices, whose workers share one queue.

    Files are written as frames are done, each under its own name: the order on disk is that of
    their numbers. The daemon of the run has one worker process for each device.
    """

    def __init__(self, manifest: ClipManifest, config: MultiGPUConfig) -> None:
        super().__init__(manifest)
        self._config = config
        self._devices = config.devices


PipelineRunner = ClipRunner
"""The name that scripts for CorridorKey's pipeline use."""
MultiGPURunner = MultiDeviceRunner
"""The name that scripts for CorridorKey's pipeline use; any devices, not only GPUs."""


def resolve_devices(devices: str) -> list[str]:
    """The devices that a word means: auto, all, cuda, cuda:0, rocm:0, mps, cpu; or several of them.

    auto: the first GPU, else the CPU; all: every GPU, else the CPU. Imports torch for these two.
    """
    found: list[str] = []
    for word in filter(None, (part.strip().lower() for part in devices.split(","))):
        word = word.replace("rocm", "cuda")
        if word not in (AUTO, ALL):
            found.append(word)
            continue
        import torch

        gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        gpus += ["mps"] if torch.backends.mps.is_available() else []
        found += (gpus if word == ALL else gpus[:1]) or ["cpu"]
    if not found:
        raise ArgumentError(f"devices '{devices}' name none; give auto, all, cuda:0 or cpu")
    return list(dict.fromkeys(found))


def job_for(manifest: ClipManifest, config: Config) -> MatteJob:
    """The job of a manifest with a configuration that has an `inference`."""
    inference = config.inference
    assert inference is not None
    write = config.write or WriteConfig(manifest.output_dir)
    written = written_of(write)
    if config.postprocess.debug_dump:
        raise ArgumentError("debug_dump is for postprocess_frame: a runner has no such pictures")
    if config.preprocess.model not in (None, inference.model):
        raise ArgumentError(
            f"PreprocessConfig has model '{config.preprocess.model}' and InferenceConfig"
            f" '{inference.model}': give both the same"
        )
    start, end = manifest.frame_range
    reading = job_of_pictures(manifest)
    common = replace(
        reading,
        output=write.output_dir,
        frames=frame_ranges(manifest.frame_numbers[start:end]),
        outputs=written.outputs,
        formats=written.formats,
        background=f"checker:{config.postprocess.checkerboard_size}",
        model=_model_of(inference),
        params=replace(
            reading.params,
            settings=_settings(config, inference),
            **clean_up_of(config.postprocess),
        ),
        existing=config.existing,
        deadline_s=config.deadline_s,
        timeout_s=config.timeout_s,
        in_flight=min(config.input_queue_depth, MAX_SLOTS),
    )
    job = job_of(clip_of(manifest), common, layout="stages")
    return replace(job, output=write.output_dir)


def _model_of(inference: InferenceConfig) -> str:
    if inference.checkpoint_path is None:
        return inference.model
    return registered(inference.checkpoint_path, inference.screen)


def _settings(config: Config, inference: InferenceConfig) -> dict[str, Any]:
    """Of the model: a named one of another family has only those that are given for it."""
    if not _is_hint_keyer(inference):
        return dict(inference.settings)
    resolved = config.resolved_refiner_mode
    return settings_of(config.preprocess, inference, config.postprocess, resolved=resolved)


def _is_hint_keyer(inference: InferenceConfig) -> bool:
    """Whether the network is that of CorridorKey's checkpoints."""
    if inference.checkpoint_path is not None:
        return True
    try:
        return Registry().card(inference.model).family == FAMILY
    except ModelError:
        return False  # the daemon says which models there are


def _refuse_empty_range(manifest: ClipManifest) -> None:
    start, end = manifest.frame_range
    if not 0 <= start < end <= manifest.frame_count:
        raise ArgumentError(
            f"clip {manifest.clip_name}: frame_range ({start}, {end}) holds no frame of"
            f" {manifest.frame_count}"
        )


def _refuse_without_hint(
    manifest: ClipManifest, preprocess: PreprocessConfig, inference: InferenceConfig
) -> None:
    if not manifest.needs_alpha or makes_hints(preprocess, inference):
        return
    if _is_hint_keyer(inference):
        raise ArgumentError(
            f"clip {manifest.clip_name} has no hint: call resolve_alpha with a folder of hints, or"
            " set InferenceConfig.hint_source to have one made"
        )


@contextlib.contextmanager
def _daemon_for(
    inference: InferenceConfig, devices: Sequence[str], instance: str | None, in_flight: int
) -> Iterator[Callable[[], MatteClient]]:
    """How to connect to the daemon of a run; one of its own is started when it is needed."""
    if not devices and inference.device != AUTO:
        devices = resolve_devices(inference.device)
    shared = not devices and inference.checkpoint_path is None
    if shared or instance is not None:
        yield lambda: MatteClient.connect(instance, start=True, in_flight=in_flight, name="clips")
        return
    with private.private_instance() as own:

        def connect() -> MatteClient:
            try:
                private.start(own, devices=",".join(devices) or AUTO)
            except UsageError as refusal:
                raise DeviceError(refusal.message, reason="device") from refusal
            return MatteClient.connect(own, in_flight=in_flight, name="clips")

        yield connect


def _all_good(manifest: ClipManifest, summary: Summary) -> Summary:
    if isinstance(summary.cause, FrameWriteError):
        raise WriteFailureError(summary.cause.message, **summary.cause.details) from summary.cause
    if summary.cause is not None:
        raise summary.cause
    if summary.exit_status:
        raise ClipFailedError(f"clip {manifest.clip_name}: {summary.first_failure}", report=summary)
    return summary


def _checked(manifest: ClipManifest, tell: Teller, cancelled: threading.Event) -> Summary:
    """Read every frame and check it; nothing is computed or written."""
    job, spaces = job_of_pictures(manifest), Spaces()
    planes = FramePlanes(job, spaces)
    indices = range(*manifest.frame_range)
    summary = Summary(total=len(indices), output=manifest.output_dir)
    tell("on_stage_start", PREPROCESS, len(indices))
    tasks = (frame_task(job, manifest.frames[i], spaces) for i in indices)
    for i, (task, error) in zip(indices, checked(tasks, planes, cancelled)):
        if error is None:
            tell("on_preprocess_queued", i, frame=task.frame)
        else:
            tell("on_frame_error", PREPROCESS, i, error, frame=task.frame)
        summary.records.append(record_of_check(task, error))
    planes.close()
    tell("on_stage_done", PREPROCESS)
    return _all_good(manifest, summary)
