"""What the first two steps of the pipeline give: clips, paths that are none, manifests.

    scan --> ScanResult: Clip, SkippedPath          load --> ClipManifest, VideoMetadata

All are frozen; `model_copy(update={...})` gives a changed copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from mattebridge.image_io.matching import FrameInputs

T = TypeVar("T", bound="Contract")


class Contract:
    """What the frozen contracts have in common."""

    def model_copy(self: T, *, update: Mapping[str, Any] | None = None) -> T:
        """A copy with the fields of `update` changed; `TypeError` for a field that is not there."""
        return replace(self, **(update or {}))  # type: ignore[type-var]


@dataclass(frozen=True)
class Clip(Contract):
    """One clip: its name, its folder, and what is matted with what.

    input_path, alpha_path, clean_plate_path: a folder of pictures, a picture or a video; None for
    what the clip does not have. notes: what the artist has to know of how they were chosen.
    """

    name: str
    root: Path
    input_path: Path
    alpha_path: Path | None = None
    clean_plate_path: Path | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SkippedPath(Contract):
    """A path that is no clip, and why. is_clip: it was meant to be one and has to be put right."""

    path: Path
    reason: str
    is_clip: bool = False


@dataclass(frozen=True)
class ScanResult(Contract):
    """The clips of a path in natural order (v2 before v10), and what was skipped."""

    clips: tuple[Clip, ...] = ()
    skipped: tuple[SkippedPath, ...] = ()


@dataclass(frozen=True)
class ClipLayers(Contract):
    """Which layer or part of its EXRs each input of a clip is; None: the unnamed one, or the only
    one. A hint that has no files of its own is this layer of the plate's."""

    plate: str | None = None
    alpha_hint: str | None = None
    clean_plate: str | None = None


@dataclass(frozen=True)
class ClipManifest(Contract):
    """A clip whose frames were found and matched.

    frames_dir, alpha_frames_dir: a folder of pictures, a picture, or a video that is read as it is;
    no hint: None, and `needs_alpha`. output_dir: appears with the first frame that is written.
    frame_range: the frames to process as indices, half-open: index 5 of (5, 10) is the sixth
    picture. is_linear: the plates are scene-linear. video_meta_path: `video_meta.json`, where the
    clip has one. png_compression: of pictures that are extracted, 0 to 9.
    clean_plate_dir: of the clean plate, as frames_dir; None without one.
    frames: every frame in order, with its number, its files by role and the name of its results.
    width, height, dtype: of the plates. input_space: their colour space; "" for that of each file.
    layers: of their EXRs. plate_alpha: what the alpha of RGBA plates means: opaque (it is not
    used), straight or premultiplied.
    """

    clip_name: str
    clip_root: Path
    frames_dir: Path
    alpha_frames_dir: Path | None
    output_dir: Path
    needs_alpha: bool
    frame_count: int
    frame_range: tuple[int, int]
    is_linear: bool = False
    video_meta_path: Path | None = None
    png_compression: int = 1
    clean_plate_dir: Path | None = None
    frames: tuple[FrameInputs, ...] = field(default=(), repr=False)
    width: int = 0
    height: int = 0
    dtype: str = ""
    input_space: str = ""
    layers: ClipLayers = ClipLayers()
    plate_alpha: str = "opaque"

    @property
    def frame_numbers(self) -> tuple[int, ...]:
        """The numbers of all frames, those beyond `frame_range` included."""
        return tuple(entry.frame for entry in self.frames)


@dataclass(frozen=True)
class VideoMetadata(Contract):
    """What `video_meta.json` says of the video that a clip was extracted from.

    frame_count: 0 where the container does not say. The colours are names such as bt709, or None.
    extra: keys of the file that are not of these.
    """

    filename: str
    width: int
    height: int
    fps_num: int
    fps_den: int
    pix_fmt: str
    codec_name: str
    frame_count: int = 0
    duration_s: float | None = None
    has_audio: bool = False
    color_space: str | None = None
    color_transfer: str | None = None
    color_primaries: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fps(self) -> float:
        """Frames a second; 0 where the file does not say."""
        return float(Fraction(self.fps_num, self.fps_den)) if self.fps_den else 0.0

    @property
    def estimated_frame_count(self) -> int:
        """The container's count, else duration times rate; 0 where neither is known."""
        return self.frame_count or round((self.duration_s or 0.0) * self.fps)
