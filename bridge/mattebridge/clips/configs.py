"""The configurations of the clip pipeline: one frozen dataclass a stage, with the documented names.

Here is the only place of their defaults. What a value means for a request to the daemon is in
`requests.py`; the command line's `--import-config` makes the same of a `corridorkey.toml`.

Values are checked when a configuration is made: `ArgumentError`, a `ValueError` too, names the
field, what was given and what is allowed. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from mattebridge.clips.contracts import Contract
from mattebridge.clips.events import PipelineEvents
from mattebridge.errors import ArgumentError
from mattebridge.shot.outputs import EXR_CODECS, LOSSY_CODECS
from mattebridge.wire.params import CLEAN_UP_OF_CLIPS, DEFAULTS, PARAMS

SIZE_MULTIPLE, LARGEST_SIZE = 32, 4096
AUTO = "auto"
# The value of `hint_source` that makes no hint.
SENT = "sent"
PRECISIONS = (AUTO, "float32", "float16", "bfloat16")
HINT_SOURCES = (SENT, AUTO, "difference", "twoplate", "screen")


class _Choice(str, Enum):
    """One of a few words; equal to the word itself."""

    def __str__(self) -> str:
        return str(self.value)


class ImageUpsampleMode(_Choice):
    """How a plate smaller than the network's square is enlarged."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


class FgUpsampleMode(_Choice):
    """How the foreground is enlarged to a plate larger than the square."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS4 = "lanczos4"


class AlphaUpsampleMode(_Choice):
    """How alpha is enlarged to a plate larger than the square."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS4 = "lanczos4"


class RefinerMode(_Choice):
    """How the refiner works: the whole frame at once, or in tiles with the same pixels."""

    AUTO = "auto"
    FULL_FRAME = "full_frame"
    TILED = "tiled"


class BackendChoice(_Choice):
    """What computes the network; `mlx` is not available here and is refused when it is used."""

    AUTO = "auto"
    TORCH = "torch"
    MLX = "mlx"


class ImageFormat(_Choice):
    """PNG: sRGB-encoded, straight alpha; 8 bit, `processed` 16. EXR: scene-linear light."""

    PNG = "png"
    EXR = "exr"


class ExrType(_Choice):
    """The sample type of EXRs."""

    HALF = "half"
    FLOAT = "float"


class _Config(Contract):
    """What the configurations have in common: their fields are checked and converted."""

    def _choose(self, name: str, kind: type[_Choice]) -> None:
        value = getattr(self, name)
        allowed = [str(each) for each in kind]
        if str(value) not in allowed:
            raise self._wrong(name, f"one of {', '.join(allowed)}")
        object.__setattr__(self, name, kind(str(value)))

    def _check_size(self, name: str) -> None:
        size = getattr(self, name)
        whole = isinstance(size, int) and not isinstance(size, bool)
        if not whole or size % SIZE_MULTIPLE or not 0 <= size <= LARGEST_SIZE:
            raise self._wrong(
                name,
                f"512, 1024, 1536, 2048, another multiple of {SIZE_MULTIPLE} up to {LARGEST_SIZE},"
                " or 0: by the device's free memory",
            )

    def _check_word(self, name: str, allowed: Sequence[str]) -> None:
        if getattr(self, name) not in allowed:
            raise self._wrong(name, f"one of {', '.join(allowed)}")

    def _check_number(self, name: str, lowest: float, highest: float) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(name, f"a number from {lowest:g} to {highest:g}")
        if not lowest <= value <= highest:
            raise self._wrong(name, f"a number from {lowest:g} to {highest:g}")

    def _wrong(self, name: str, allowed: str) -> ArgumentError:
        given = repr(getattr(self, name))[:80]
        return ArgumentError(
            f"{type(self).__name__}: {name} must be {allowed}; got {given}", field=name
        )


@dataclass(frozen=True)
class PreprocessConfig(_Config):
    """How a plate becomes the network's input.

    img_size: the side of the network's square; 2048 is that of its training. device: auto, cpu,
    cuda, cuda:0, mps. image_upsample_mode, sharpen_strength: of plates smaller than the square;
    the defaults are what the network was trained with. half_precision: the network's encoder
    computes in float16; the input stays float32, because the refiner sees the plate in it.
    source_passthrough: the plate goes with the frame as `FrameMeta.source_image`.
    model: None for the plate + hint network of a checkpoint; else the model that the frame is for,
    by its name, as in `InferenceConfig.model`. hint_source: as in `InferenceConfig`.
    """

    img_size: int = 2048
    device: str = AUTO
    image_upsample_mode: ImageUpsampleMode = ImageUpsampleMode.BILINEAR
    half_precision: bool = False
    source_passthrough: bool = CLEAN_UP_OF_CLIPS["source_passthrough"]
    sharpen_strength: float = 0.0
    model: str | None = None
    hint_source: str = SENT

    def __post_init__(self) -> None:
        self._check_size("img_size")
        self._check_word("hint_source", HINT_SOURCES)
        self._choose("image_upsample_mode", ImageUpsampleMode)
        self._check_number("sharpen_strength", 0, 1)


@dataclass(frozen=True)
class InferenceConfig(_Config):
    """Which network, and how it computes.

    checkpoint_path: the file of the network; None for a `model` by its name (`mattebridge models`).
    device: as of `PreprocessConfig`. img_size: as of `PreprocessConfig`, which it must agree with
    in a runner. use_refiner, refiner_mode, refiner_scale: the refiner; at 0, and without it, the
    matte is coarse. mixed_precision: half precision where the device is quick at it, never on a
    CPU. model_precision: float32, float16, bfloat16, as text or as torch's dtype; auto: as
    mixed_precision says.
    screen: the colour of screen that the checkpoint was trained on, green or blue. hint_source:
    what a clip without a hint has it made by: auto (`difference` where there is a clean plate, else
    `screen`), difference, twoplate, screen; "sent" refuses such a clip. settings: of the model,
    over all others here and in `PreprocessConfig`.
    """

    checkpoint_path: Path | None = None
    device: str = AUTO
    img_size: int = 2048
    use_refiner: bool = True
    mixed_precision: bool = True
    model_precision: Any = "float32"
    refiner_mode: RefinerMode = RefinerMode.AUTO
    refiner_scale: float = 1.0
    backend: BackendChoice = BackendChoice.AUTO
    model: str = "default"
    screen: str = "green"
    hint_source: str = SENT
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_size("img_size")
        self._choose("refiner_mode", RefinerMode)
        self._choose("backend", BackendChoice)
        self._check_number("refiner_scale", 0, 5)
        if self.checkpoint_path is not None:
            object.__setattr__(self, "checkpoint_path", Path(self.checkpoint_path).expanduser())
        if self._named_precision not in PRECISIONS:
            raise self._wrong("model_precision", f"one of {', '.join(PRECISIONS)}")
        if self.screen not in ("green", "blue"):
            raise self._wrong("screen", "green or blue")
        self._check_word("hint_source", HINT_SOURCES)

    @property
    def _named_precision(self) -> str:
        return str(self.model_precision).removeprefix("torch.")

    @property
    def precision(self) -> str:
        """The one precision that both fields stand for: auto, float32, float16 or bfloat16."""
        named = self._named_precision
        if named in ("float16", "bfloat16"):
            return named
        return AUTO if self.mixed_precision else "float32"


_LENGTHS = (
    "despeckle_size",
    "despeckle_dilation",
    "despeckle_blur",
    "edge_erode_px",
    "edge_blur_px",
    "hint_sharpen_dilation",
    "hint_blur_px",
)


@dataclass(frozen=True)
class PostprocessConfig(_Config):
    """What is done behind the network, in the order of docs/colour.md.

    The fields up to debug_dump are those of CorridorKey's pipeline, with its defaults; those of
    the same name in `mattebridge matte` mean the same. checkerboard_size: tiles of the comp's
    background, in pixels. debug_dump: `postprocess_frame` writes the network's own pictures.
    Beyond them: hint_blur_px, a soft edge of the hint's mask; despeckle_threshold, the alpha from
    which a region counts; despeckle_hysteresis, which keeps soft alpha that is connected to the
    subject; spill_method (average, double_limit, screen_only); screen, the spill's colour, None for
    that of the model.
    """

    fg_upsample_mode: FgUpsampleMode = FgUpsampleMode.LANCZOS4
    alpha_upsample_mode: AlphaUpsampleMode = AlphaUpsampleMode.LANCZOS4
    despill_strength: float = CLEAN_UP_OF_CLIPS["despill_strength"]
    auto_despeckle: bool = CLEAN_UP_OF_CLIPS["auto_despeckle"]
    despeckle_size: int = DEFAULTS["despeckle_size"]
    despeckle_dilation: int = DEFAULTS["despeckle_dilation"]
    despeckle_blur: int = DEFAULTS["despeckle_blur"]
    checkerboard_size: int = 128
    source_passthrough: bool = CLEAN_UP_OF_CLIPS["source_passthrough"]
    edge_erode_px: int = DEFAULTS["edge_erode_px"]
    edge_blur_px: int = DEFAULTS["edge_blur_px"]
    hint_sharpen: bool = CLEAN_UP_OF_CLIPS["hint_sharpen"]
    hint_sharpen_dilation: int = DEFAULTS["hint_sharpen_dilation"]
    debug_dump: bool = False
    hint_blur_px: int = DEFAULTS["hint_blur_px"]
    despeckle_threshold: float = DEFAULTS["despeckle_threshold"]
    despeckle_hysteresis: bool = DEFAULTS["despeckle_hysteresis"]
    spill_method: str = DEFAULTS["spill_method"]
    screen: str | None = DEFAULTS["screen"]

    def __post_init__(self) -> None:
        self._choose("fg_upsample_mode", FgUpsampleMode)
        self._choose("alpha_upsample_mode", AlphaUpsampleMode)
        self._check_number("checkerboard_size", 1, 99_999)
        rows = {row.name: row for row in PARAMS}
        for name in (*_LENGTHS, "despill_strength", "despeckle_threshold"):
            self._check_number(name, rows[name].lowest, rows[name].highest)
        for name in ("spill_method", "screen"):
            value = getattr(self, name)
            if value not in rows[name].choices and not (value is None and rows[name].unset):
                raise self._wrong(name, f"one of {', '.join(rows[name].choices)}")


@dataclass(frozen=True)
class WriteConfig(_Config):
    """What is written of a frame, below output_dir: alpha, fg, processed, comp.

    exr_compression: none, rle, zips, zip, piz, pxr24; dwaa and dwab are lossy and refused for
    alpha. exr_type: half, or float. comp is always PNG.
    """

    output_dir: Path
    alpha_enabled: bool = True
    alpha_format: ImageFormat = ImageFormat.EXR
    fg_enabled: bool = True
    fg_format: ImageFormat = ImageFormat.EXR
    processed_enabled: bool = True
    processed_format: ImageFormat = ImageFormat.EXR
    comp_enabled: bool = True
    comp_format: ImageFormat = ImageFormat.PNG
    exr_compression: str = "zip"
    exr_type: ExrType = ExrType.HALF

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_dir", Path(self.output_dir))
        for name in ("alpha_format", "fg_format", "processed_format", "comp_format"):
            self._choose(name, ImageFormat)
        self._choose("exr_type", ExrType)
        if self.comp_format is not ImageFormat.PNG:
            raise self._wrong("comp_format", "png")
        if self.exr_compression not in EXR_CODECS:
            raise self._wrong("exr_compression", f"one of {', '.join(EXR_CODECS)}")
        alpha_is_exr = self.alpha_enabled and self.alpha_format is ImageFormat.EXR
        if alpha_is_exr and self.exr_compression in LOSSY_CODECS:
            raise self._wrong("exr_compression", "lossless for alpha, or alpha_format png")
        enabled = (self.alpha_enabled, self.fg_enabled, self.processed_enabled, self.comp_enabled)
        if not any(enabled):
            raise ArgumentError("WriteConfig: all outputs are off; enable one of them")


_STAGES: dict[str, type[_Config]] = {
    "preprocess": PreprocessConfig,
    "inference": InferenceConfig,
    "postprocess": PostprocessConfig,
    "write": WriteConfig,
}


@dataclass(frozen=True)
class PipelineConfig(_Config):
    """What a `ClipRunner` does with a clip.

    inference: None: every frame is read and checked, and nothing is computed. write: None: the
    defaults, below the manifest's output_dir. input_queue_depth: frames at the daemon at once, 1 to
    8. output_queue_depth: taken for scripts that set it; what waits to be written is bounded by
    memory. resolved_refiner_mode: stands in for `InferenceConfig.refiner_mode`. model: taken for
    scripts that set it, and must be None: the daemon holds the networks.
    existing: results that exist: error, verify (make what is missing or damaged) or overwrite.
    deadline_s, timeout_s: of one frame, in seconds.
    """

    preprocess: PreprocessConfig = PreprocessConfig()
    inference: InferenceConfig | None = field(default_factory=InferenceConfig)
    postprocess: PostprocessConfig = PostprocessConfig()
    write: WriteConfig | None = None
    input_queue_depth: int = 2
    output_queue_depth: int = 2
    resolved_refiner_mode: str | None = None
    events: PipelineEvents | None = None
    model: Any = None
    existing: str = "error"
    deadline_s: float | None = None
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        _check_runner(self)


@dataclass(frozen=True)
class MultiGPUConfig(_Config):
    """What a `MultiDeviceRunner` does with a clip: as `PipelineConfig`, on several devices.

    devices: at least one, such as ["cuda:0", "cuda:1"]; see `resolve_devices`.
    resolved_refiner_mode, existing, deadline_s and timeout_s: as of `PipelineConfig`.
    """

    devices: Sequence[str] = ()
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    preprocess: PreprocessConfig = PreprocessConfig()
    postprocess: PostprocessConfig = PostprocessConfig()
    write: WriteConfig | None = None
    input_queue_depth: int = 2
    output_queue_depth: int = 2
    events: PipelineEvents | None = None
    resolved_refiner_mode: str | None = None
    existing: str = "error"
    deadline_s: float | None = None
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        # A text is a sequence too, of letters.
        names = () if isinstance(self.devices, str) else tuple(self.devices)
        if not names or not all(isinstance(name, str) for name in names):
            raise self._wrong("devices", "a list of at least one device, such as ['cuda:0']")
        object.__setattr__(self, "devices", names)
        _check_runner(self)


def _check_runner(config: PipelineConfig | MultiGPUConfig) -> None:
    optional = {"write"} | ({"inference"} if isinstance(config, PipelineConfig) else set())
    for name, kind in _STAGES.items():
        given = getattr(config, name)
        if not isinstance(given, kind) and not (given is None and name in optional):
            raise config._wrong(name, kind.__name__ + (" or None" if name in optional else ""))
    config._check_number("input_queue_depth", 1, 1 << 16)
    config._check_number("output_queue_depth", 1, 1 << 16)
    if config.resolved_refiner_mode not in (None, "full_frame", "tiled"):
        raise config._wrong("resolved_refiner_mode", "full_frame, tiled or None")
    if config.existing not in ("error", "verify", "overwrite"):
        raise config._wrong("existing", "error, verify or overwrite")
    if getattr(config, "model", None) is not None:
        raise config._wrong("model", "None: the daemon loads and holds the network")
