"""A clip through the runner with a client in this process: events, failures, ranges, a stop."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from fakes.inprocess_client import InProcessClient
from mattebridge.clips import (
    ClipFailedError,
    ClipManifest,
    ClipRunner,
    DeviceError,
    InferenceConfig,
    JobCancelledError,
    MultiDeviceRunner,
    MultiGPUConfig,
    PipelineConfig,
    PipelineEvents,
    PostprocessConfig,
    PreprocessConfig,
    WriteConfig,
    load,
    runner,
    scan,
)
from mattebridge.errors import (
    FrameReadError,
    FrameWriteError,
    OutOfMemoryError,
    OutputExistsError,
    UsageError,
)
from mattebridge.image_io import write_frame
from mattebridge.shot import one_frame

NUMBERS = range(1001, 1007)
LONG = 700  # frames of a long clip
CARD = {"name": "difference", "family": "difference", "needs": ["plate", "clean_plate"]}
BY_NAME = InferenceConfig(model="difference")


@pytest.fixture
def manifest(tmp_path: Path) -> ClipManifest:
    rng = np.random.default_rng(3)
    root = tmp_path / "shot"
    for folder in ("Input", "CleanPlate"):
        (root / folder).mkdir(parents=True)
    for number in NUMBERS:
        plate = rng.integers(0, 255, (16, 32, 3), dtype=np.uint8)
        write_frame(root / f"Input/a.{number}.png", plate)
    write_frame(root / "CleanPlate/clean.png", np.full((16, 32, 3), 90, np.uint8))
    (clip,) = scan(root).clips
    return load(clip)


Uses = Callable[[InProcessClient], InProcessClient]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Uses:
    """Have the runner use a client."""

    def use(client: InProcessClient) -> InProcessClient:
        @contextmanager
        def daemon(*_: Any) -> Iterator[Callable[[], InProcessClient]]:
            yield lambda: client

        monkeypatch.setattr(runner, "_daemon_for", daemon)
        return client

    return use


class Told:
    """All events of a run, in the order in which they came."""

    def __init__(self) -> None:
        self.all: list[tuple[str, tuple[Any, ...], Any]] = []

    def events(self) -> PipelineEvents:
        names = PipelineEvents.__dataclass_fields__
        return PipelineEvents(**{name: self._hear(name) for name in names})

    def _hear(self, name: str) -> Callable[..., None]:
        return lambda *arguments, frame=None: self.all.append((name, arguments, frame))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for told, arguments, _ in self.all if told == name]


def names(manifest: ClipManifest) -> list[str]:
    return sorted(path.name for path in (manifest.output_dir / "alpha").iterdir())


def config(told: Told | None = None, **more: Any) -> PipelineConfig:
    return PipelineConfig(inference=BY_NAME, events=told.events() if told else None, **more)


def test_a_run_tells_every_step_of_each_frame_in_order(manifest: ClipManifest, use: Uses) -> None:
    told = Told()
    use(InProcessClient(card=CARD))
    report = ClipRunner(manifest, config(told)).run()
    assert [record.frame for record in report.records] == list(NUMBERS)
    assert names(manifest) == [f"a.{number}.exr" for number in NUMBERS]
    stages = ["preprocess", "inference", "postwrite"]
    assert told.of("on_stage_start") == [(stage, 6) for stage in stages]
    assert told.of("on_stage_done") == [(stage,) for stage in stages]
    assert told.of("on_frame_written") == [(i, 6) for i in range(6)]
    assert [frame for name, _, frame in told.all if name == "on_frame_written"] == list(NUMBERS)
    steps = ["on_preprocess_queued", "on_inference_start", "on_inference_queued"]
    for i in range(6):
        own = [n for n, a, _ in told.all if a[:1] == (i,) and n in (*steps, "on_frame_written")]
        assert own == [*steps, "on_frame_written"]
    depths = told.of("on_queue_depth")
    assert depths[-1] == (0, 0)
    assert max(at_daemon for at_daemon, _ in depths) <= 2


def test_a_range_has_its_own_total_and_its_own_files(manifest: ClipManifest, use: Uses) -> None:
    told = Told()
    use(InProcessClient(card=CARD))
    part = manifest.model_copy(update={"frame_range": (2, 4)})
    ClipRunner(part, config(told)).run()
    assert names(manifest) == ["a.1003.exr", "a.1004.exr"]
    assert told.of("on_frame_written") == [(2, 2), (3, 2)]
    for wrong in ((4, 4), (0, 7), (-1, 2)):
        empty = manifest.model_copy(update={"frame_range": wrong})
        for asked in (config(), PipelineConfig(inference=None)):
            with pytest.raises(ValueError, match="frame_range"):
                ClipRunner(empty, asked).run()


def test_a_failed_frame_stops_no_other_and_no_run_with_a_hole_returns(
    manifest: ClipManifest, use: Uses
) -> None:
    told = Told()
    use(InProcessClient(card=CARD, fail={1002: OutOfMemoryError("no room")}))
    (manifest.clip_root / "Input/a.1005.png").write_bytes(b"damaged")
    with pytest.raises(ClipFailedError, match="1002, 1005") as caught:
        ClipRunner(manifest, config(told)).run()
    assert caught.value.exit_status == 3
    assert caught.value.report.count("done") == 4
    assert [n[2:6] for n in names(manifest)] == ["1001", "1003", "1004", "1006"]
    failed = told.of("on_frame_error")
    assert [(stage, i) for stage, i, _ in failed] == [("inference", 1), ("preprocess", 4)]
    assert [type(error) for _, _, error in failed] == [OutOfMemoryError, FrameReadError]


def test_a_callback_that_raises_is_logged_once_and_touches_nothing(
    manifest: ClipManifest, use: Uses, caplog: pytest.LogCaptureFixture
) -> None:
    use(InProcessClient(card=CARD))

    def broken(*_: Any) -> None:
        raise RuntimeError("mine")

    events = PipelineEvents(on_frame_written=broken)
    assert ClipRunner(manifest, PipelineConfig(inference=BY_NAME, events=events)).run()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == [
        "the callback on_frame_written raised; the run goes on"
    ]


def test_a_cancelled_run_says_so(manifest: ClipManifest, use: Uses) -> None:
    use(InProcessClient(card=CARD, delay_s=0.01))
    ours = ClipRunner(manifest, config())
    ours.cancel()
    with pytest.raises(JobCancelledError):
        ours.run()
    assert not list(manifest.clip_root.rglob("*.tmp*"))


def test_results_that_exist_are_refused_kept_or_made_again(
    manifest: ClipManifest, use: Uses
) -> None:
    use(InProcessClient(card=CARD))
    ClipRunner(manifest, config()).run()
    with pytest.raises(OutputExistsError):
        ClipRunner(manifest, config()).run()
    (manifest.output_dir / "fg/a.1004.exr").unlink()
    report = ClipRunner(manifest, config(existing="verify")).run()
    assert (report.count("found"), report.count("done")) == (5, 1)
    assert ClipRunner(manifest, config(existing="overwrite")).run().count("done") == 6


def test_a_write_that_fails_ends_the_run_as_an_os_error(
    manifest: ClipManifest, use: Uses, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(InProcessClient(card=CARD))

    def full(*_: Any, **__: Any) -> int:
        raise FrameWriteError("no space left on the disk")

    monkeypatch.setattr(one_frame, "write_output", full)
    with pytest.raises(OSError, match="no space left") as caught:
        ClipRunner(manifest, config()).run()
    assert isinstance(caught.value, FrameWriteError)


def test_without_inference_every_frame_is_read_and_nothing_is_made(manifest: ClipManifest) -> None:
    told = Told()
    check = PipelineConfig(inference=None, events=told.events())
    assert ClipRunner(manifest, check).run().count("found") == 6
    assert told.of("on_preprocess_queued") == [(i,) for i in range(6)]
    (manifest.clip_root / "Input/a.1005.png").write_bytes(b"damaged")
    with pytest.raises(ClipFailedError, match=r"1005"):
        ClipRunner(manifest, check).run()
    assert not manifest.output_dir.exists()


def test_a_clip_without_a_hint_is_refused_where_the_network_needs_one(
    manifest: ClipManifest, tmp_path: Path
) -> None:
    needs = PipelineConfig(inference=InferenceConfig(checkpoint_path=tmp_path / "key.pth"))
    with pytest.raises(ValueError, match="resolve_alpha"):
        ClipRunner(manifest, needs).run()
    given = manifest.model_copy(update={"needs_alpha": False})
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        ClipRunner(given, needs).run()
    (tmp_path / "key.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(RuntimeError, match=r"key\.pth"):
        ClipRunner(given, needs).run()


def test_several_devices_have_stages_of_their_own(manifest: ClipManifest, use: Uses) -> None:
    told = Told()
    client = use(InProcessClient(card=CARD, delay_s=lambda frame: 0.05 * (frame % 2)))
    MultiDeviceRunner(
        manifest,
        MultiGPUConfig(
            devices=["cpu:0", "cpu:1"],
            inference=BY_NAME,
            events=told.events(),
            write=WriteConfig(manifest.clip_root / "mine", comp_enabled=False),
        ),
    ).run()
    assert client.most_in_flight <= 3
    assert ("inference[cpu:1]", 6) in told.of("on_stage_start")
    assert len(list((manifest.clip_root / "mine/processed").iterdir())) == 6
    assert not manifest.output_dir.exists()


def test_devices_and_a_checkpoint_have_a_daemon_of_their_own(
    manifest: ClipManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, str]] = []
    client = InProcessClient(card=CARD)

    @contextmanager
    def private_instance() -> Iterator[str]:
        yield "own"

    def connect(instance: Any = None, **how: Any) -> InProcessClient:
        started.append(("shared", str(instance))) if how.get("start") else None
        return client

    monkeypatch.setattr(runner.private, "private_instance", private_instance)
    monkeypatch.setattr(
        runner.private, "start", lambda instance, devices: started.append((instance, devices))
    )
    monkeypatch.setattr(runner.MatteClient, "connect", connect)
    monkeypatch.setattr(runner, "registered", lambda path, screen: "difference")
    again = {"existing": "overwrite"}
    ClipRunner(manifest, config(**again)).run()
    ClipRunner(manifest, config(**again), instance="studio").run()
    on_a_cpu = BY_NAME.model_copy(update={"device": "cpu"})
    ClipRunner(manifest, PipelineConfig(inference=on_a_cpu, **again)).run()
    given = manifest.model_copy(update={"needs_alpha": False})
    of_a_file = InferenceConfig(checkpoint_path=tmp_path / "key.pth")
    ClipRunner(given, PipelineConfig(inference=of_a_file, **again)).run()
    two = MultiGPUConfig(devices=["cuda:0", "cuda:1"], inference=BY_NAME, **again)
    MultiDeviceRunner(manifest, two).run()
    assert started == [
        ("shared", "None"),
        ("shared", "studio"),
        ("own", "cpu"),
        ("own", "auto"),
        ("own", "cuda:0,cuda:1"),
    ]

    def refuse(instance: str, devices: str) -> None:
        raise UsageError(f"--devices {devices} cannot be served")

    monkeypatch.setattr(runner.private, "start", refuse)
    with pytest.raises(DeviceError, match="cuda:0,cuda:1 cannot be served"):
        MultiDeviceRunner(manifest, two).run()


def test_every_field_of_a_configuration_is_in_the_job(manifest: ClipManifest) -> None:
    network = InferenceConfig(model="key", img_size=512, settings={"fit": "letterbox"})
    asked = PipelineConfig(
        preprocess=PreprocessConfig(img_size=512),
        inference=network,
        postprocess=PostprocessConfig(checkerboard_size=16, despill_strength=0.25),
        write=WriteConfig(manifest.clip_root / "mine", comp_enabled=False),
        input_queue_depth=4,
        existing="verify",
        deadline_s=7.0,
        timeout_s=9.0,
    )
    job = runner.job_for(manifest, asked)
    assert (job.model, job.background, job.in_flight) == ("key", "checker:16", 4)
    assert (job.existing, job.deadline_s, job.timeout_s) == ("verify", 7.0, 9.0)
    assert job.output == manifest.clip_root / "mine"
    assert job.outputs == ("alpha", "foreground", "premultiplied")
    assert job.params.despill_strength == 0.25
    # `key` is of no family that is known here: it has the settings that are given for it alone.
    assert job.params.settings == {"fit": "letterbox"}
    file = manifest.clip_root / "key.pth"
    of_a_file = network.model_copy(update={"checkpoint_path": file, "settings": {}})
    settings = runner._settings(
        asked.model_copy(update={"resolved_refiner_mode": "tiled"}), of_a_file
    )
    assert (settings["refiner"], settings["img_size"]) == ("tiled", 512)
    dump = asked.model_copy(update={"postprocess": PostprocessConfig(debug_dump=True)})
    with pytest.raises(ValueError, match="debug_dump is for postprocess_frame"):
        runner.job_for(manifest, dump)
    other = asked.model_copy(update={"preprocess": PreprocessConfig(model="screen")})
    with pytest.raises(ValueError, match="model 'screen' and InferenceConfig 'key'"):
        runner.job_for(manifest, other)


@pytest.mark.slow  # hundreds of frames are read, matted and written
@pytest.mark.timeout(1200)
def test_memory_is_flat_over_a_long_clip(tmp_path: Path, use: Uses) -> None:
    root = tmp_path / "long"
    for folder in ("Input", "CleanPlate"):
        (root / folder).mkdir(parents=True)
    # Its size counts, not what is in it: a ramp is packed in a fraction of the time of noise.
    ramp = np.linspace(0, 255, 384).astype(np.uint8)
    plate = np.broadcast_to(ramp[:, None], (216, 384, 3)).copy()
    write_frame(tmp_path / "plate.png", plate)
    for number in range(LONG):
        (root / f"Input/a.{number:05d}.png").symlink_to(tmp_path / "plate.png")
    write_frame(root / "CleanPlate/clean.png", np.full_like(plate, 90))
    use(InProcessClient(card=CARD))
    write = WriteConfig(
        tmp_path / "out", alpha_format="png", fg_enabled=False, processed_enabled=False
    )
    (clip,) = scan(root).clips
    report = ClipRunner(load(clip), config(write=write)).run()
    held = [record.memory for record in report.records]
    assert len(held) == LONG
    # The records, and what the allocator keeps. Plates that were kept would be 150 MiB, results
    # more.
    assert max(held[-100:]) - max(held[:100]) < 75 << 20
