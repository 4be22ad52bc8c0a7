"""What a scan gives: clips, and the paths that are none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Clip:
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
class SkippedPath:
    """A path that is no clip, and why. is_clip: it was meant to be one and has to be put right."""

    path: Path
    reason: str
    is_clip: bool = False


@dataclass(frozen=True)
class ScanResult:
    """The clips of a path in natural order (v2 before v10), and what was skipped."""

    clips: tuple[Clip, ...] = ()
    skipped: tuple[SkippedPath, ...] = ()
