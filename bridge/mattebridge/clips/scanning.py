"""Find the clips of a path: a folder of clips, one clip folder, or one video.

    shot_010/  Input/      pictures, or exactly one video      (or Input.mov beside it)
               AlphaHint/  the same: a rough matte             (or AlphaHint.mov)
               CleanPlate/ the same: without the subject       (or CleanPlate.exr, CleanPlate.mov)
    take.mov               a clip by itself; its results go to take/Output/

Names of folders count in any case. Only names are read, no picture is opened, and nothing is
created or moved, unless `reorganise` asks for it. What could be meant in two ways is skipped with
its reason, never guessed.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from mattebridge.clips.contracts import Clip, ScanResult, SkippedPath
from mattebridge.clips.errors import ClipScanError, ReorganiseError, ScanPermissionError
from mattebridge.clips.events import PipelineEvents, Teller
from mattebridge.image_io import EXTENSIONS
from mattebridge.image_io.sequences import natural_key
from mattebridge.image_io.video_read import is_video
from mattebridge.wire import oslayer

log = logging.getLogger(__name__)

# Folders beside clips that hold none.
NO_CLIPS = ("output", "ignoredclips")
OF_A_CLIP = "Input/ with pictures or one video"


class _Skip(Exception):
    """A clip folder leaves open what is meant; the text is the reason."""


def scan(
    path: str | Path, reorganise: bool = False, events: PipelineEvents | None = None
) -> ScanResult:
    """The clips of a folder of clips, a clip folder or a video.

    reorganise: a loose video take.mov is moved to take/Input/take.mov; a folder that is there
    already is left alone, and the video skipped. events: `on_clip_found`, `on_clip_skipped`.
    Raises `ClipScanError` for a path that does not exist or is of another type, the same as a
    `PermissionError` where the folder cannot be read, `ReorganiseError` where a move failed.
    """
    found = _scanned(Path(path))
    loose = [clip for clip in found.clips if _is_loose(clip)]
    if reorganise:
        found = _reorganised(found)
    elif loose:
        log.warning(
            "%s stays where it is, a clip by itself; reorganise (--reorganise) moves it to %s",
            loose[0].input_path.name if len(loose) == 1 else f"each of {len(loose)} loose videos",
            "NAME/Input/",
        )
    with Teller(events) as tell:
        for clip in found.clips:
            tell("on_clip_found", clip.name, clip.root)
        for skipped in found.skipped:
            tell("on_clip_skipped", skipped.reason, skipped.path)
    return found


def _scanned(path: Path) -> ScanResult:
    path = oslayer.current().reachable(path)
    if path.is_dir():
        entries = _top_entries(path)
        return _of_one(path) if _named(entries, "input") else _of_many(entries)
    if not path.exists():
        raise ClipScanError(f"{path} does not exist; give a folder of clips, a clip or a video")
    if not is_video(path):
        raise ClipScanError(f"{path} is no folder and no video; give the folder of the clip")
    return ScanResult((_loose_video(path),))


def _top_entries(folder: Path) -> list[Path]:
    try:
        return _entries(folder)
    except OSError as failure:
        raise ScanPermissionError(f"{folder} cannot be read ({failure.strerror})") from failure


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, in natural order, without hidden entries."""
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.name))


def _of_one(root: Path) -> ScanResult:
    found = _clip_or_reason(root)
    return ScanResult((found,)) if isinstance(found, Clip) else ScanResult((), (found,))


def _of_many(entries: Sequence[Path]) -> ScanResult:
    found: dict[Path, Clip | SkippedPath] = {}
    by_folder: dict[Path, Clip] = {}
    # Links last: of a clip and a link to it, the clip is the one.
    for path in sorted(entries, key=Path.is_symlink):
        if path.is_dir() and (path.name.startswith("_") or path.name.lower() in NO_CLIPS):
            continue
        one = _clip_or_reason(path)
        if isinstance(one, Clip):
            one = _unless_known(one, path, by_folder)
        if isinstance(one, Clip):
            by_folder[_real(one.root)] = one
        found[path] = one
    for clip in by_folder.values():
        if _is_loose(clip):
            _leave_out_results(found, clip)
    in_order = [found[path] for path in entries if path in found]
    return ScanResult(
        tuple(one for one in in_order if isinstance(one, Clip)),
        tuple(one for one in in_order if isinstance(one, SkippedPath)),
    )


def _leave_out_results(found: dict[Path, Clip | SkippedPath], clip: Clip) -> None:
    """Say nothing of the folder beside a loose video that holds its results."""
    for path, one in list(found.items()):
        if isinstance(one, SkippedPath) and not one.is_clip and path.absolute() == clip.root:
            del found[path]


def _unless_known(clip: Clip, path: Path, clips: dict[Path, Clip]) -> Clip | SkippedPath:
    """The clip, unless another one has its folder: by a link, or as a video of the same name."""
    other = clips.get(_real(clip.root))
    if other is None:
        return clip
    if _real(clip.input_path) == _real(other.input_path):
        return SkippedPath(path, f"is the same clip as {other.name}")
    where = f"{other.input_path.name} already has its results in {other.root.name}/"
    return SkippedPath(path, f"{where}; rename one of the two", is_clip=True)


def _clip_or_reason(path: Path) -> Clip | SkippedPath:
    if not path.is_dir():
        if is_video(path):
            return _loose_video(path)
        return SkippedPath(path, "is no clip folder and no video")
    try:
        entries = _entries(path)
        plate, no_plate = _asset(entries, "input", stills=False)
        hint, no_hint = _asset(entries, "alphahint", stills=False)
        clean, no_clean = _asset(entries, "cleanplate", stills=True)
    except OSError as failure:
        return SkippedPath(path, f"cannot be read ({failure.strerror})", is_clip=True)
    if plate is None and not no_plate:
        return SkippedPath(path, f"has no {OF_A_CLIP}")
    reasons = "; ".join(filter(None, (no_plate, no_hint, no_clean)))
    if plate is None or reasons:
        return SkippedPath(path, reasons, is_clip=True)
    # Of a link its own name: two links may lead to folders of one name.
    root = Path(os.path.abspath(path))
    return Clip(root.name, root, plate, hint, clean, tuple(_notes(entries)))


def _real(path: Path) -> Path:
    """Where a path leads: one folder or video may be there under two names."""
    return oslayer.current().real_path(path)


def _loose_video(path: Path) -> Clip:
    path = path.absolute()
    return Clip(path.stem, path.with_suffix(""), path)


def _is_loose(clip: Clip) -> bool:
    return clip.root == clip.input_path.with_suffix("")


def _reorganised(found: ScanResult) -> ScanResult:
    """The same clips, each loose video in a folder of its own."""
    clips, skipped = [], list(found.skipped)
    for clip in found.clips:
        if _is_loose(clip) and clip.root.exists():
            why = f"{clip.root.name}/ is there already; rename one of the two"
            skipped.append(SkippedPath(clip.input_path, why, is_clip=True))
        else:
            clips.append(_moved(clip) if _is_loose(clip) else clip)
    return ScanResult(tuple(clips), tuple(skipped))


def _moved(clip: Clip) -> Clip:
    """A rename within one folder: the video is whole at one of the two places at any time."""
    target = clip.root / "Input" / clip.input_path.name
    try:
        target.parent.mkdir(parents=True)
        clip.input_path.rename(target)
    except OSError as failure:
        for made in (target.parent, clip.root):
            with contextlib.suppress(OSError):
                made.rmdir()  # else the next scan would take them for another clip
        raise ReorganiseError(
            f"{clip.input_path} cannot be moved to {target} ({failure.strerror}); scan without"
            " reorganise, or make the folder writable"
        ) from failure
    return clip.model_copy(update={"input_path": target})


def _named(entries: Sequence[Path], stem: str) -> list[Path]:
    """Folders of a name, and videos and pictures of it: Input/, INPUT/, Input.mov."""
    return [
        path
        for path in entries
        if (path.name if path.is_dir() else path.stem).lower() == stem
        and (path.is_dir() or is_video(path) or path.suffix.lower() in EXTENSIONS)
    ]


def _asset(entries: Sequence[Path], stem: str, *, stills: bool) -> tuple[Path | None, str]:
    """What a clip has under a name, or None and, where it is not simply missing, the reason.

    stills: a picture of that name counts as well.
    """
    found = [p for p in _named(entries, stem) if stills or p.is_dir() or is_video(p)]
    try:
        filled = [asset for asset in map(_content, found) if asset is not None]
    except _Skip as reason:
        return None, str(reason)
    if len(filled) > 1:
        return None, f"has {' and '.join(path.name for path in found)}; keep one of them"
    if not filled:
        empty = f"{found[0].name}/ holds no pictures and no video" if found else ""
        return None, empty if stem == "input" else ""
    return filled[0].absolute(), ""


def _content(path: Path) -> Path | None:
    """A file itself; of a folder its one video, or the folder where it has pictures."""
    if not path.is_dir():
        return path
    files = [each for each in _entries(path) if each.is_file()]
    videos = [each for each in files if is_video(each)]
    pictures = sum(each.suffix.lower() in EXTENSIONS for each in files)
    if videos and pictures:
        counts = f"{len(videos)} {'video' if len(videos) == 1 else 'videos'} and {pictures}"
        raise _Skip(f"{path.name}/ holds {counts} {'picture' if pictures == 1 else 'pictures'}")
    if len(videos) > 1:
        raise _Skip(f"{path.name}/ holds {len(videos)} videos; keep exactly one")
    if videos:
        return videos[0]
    return path if pictures else None


def _notes(entries: Sequence[Path]) -> list[str]:
    notes = [f"{path.name}/ is not read" for path in _named(entries, "videomamamaskhint")]
    for stem, folder in (("input", "Input/"), ("alphahint", "AlphaHint/")):
        stills = [p for p in _named(entries, stem) if not p.is_dir() and not is_video(p)]
        notes += [f"{path.name} is not read: put it into {folder}" for path in stills]
    return notes
