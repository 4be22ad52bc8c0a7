"""Videos of a clip as folders of pictures, for those who ask for them.

    Input/take.mov  --> Frames/frame_000000.png ...        AlphaHint/h.mov --> AlphaFrames/...
                        video_meta.json                    8 bits as they are, more as 16-bit PNG

    .Frames.tmp/ --every picture, then .video.json--> Frames/

A video is decoded on the fly otherwise, and nothing is extracted unless that is asked for. The
originals are left alone. `.video.json` says of which video the pictures are (path, size, time,
stream) and how large each file is, so that pictures of a video that was replaced since are never
taken for those of the new one. It is written before the folder gets its name: a folder of that name
is whole. `.Frames.lock` is locked meanwhile, by which others see that it is being made.

Rule: only what is known to have been made here is replaced. A folder of another program, or one in
which a picture was changed, added or removed, is left as it is and the clip is refused.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mattebridge.clips.contracts import Clip
from mattebridge.clips.errors import (
    ExtractionError,
    PictureExtractionError,
    ReadOnlyClipError,
    WriteFailureError,
)
from mattebridge.clips.events import Teller
from mattebridge.clips.video_meta import META_NAME, metadata_of
from mattebridge.errors import Cancelled, FrameReadError, FrameWriteError
from mattebridge.image_io import Encoding, write_frame
from mattebridge.image_io.sequences import VideoPicture
from mattebridge.image_io.sources import Pictures
from mattebridge.image_io.video_read import VideoInfo, is_video, probe
from mattebridge.shot.ledger import identity
from mattebridge.version import __version__
from mattebridge.whole_files import replace_file, write_error
from mattebridge.wire import file_locks
from mattebridge.wire.file_locks import Lock

EXTRACT = "extract"
FRAME_NAME = "frame_{:06d}.png"
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
# Of which video the pictures of a folder are.
SOURCE_NAME = ".video.json"
# The level of the published pipeline; the encoder's own quickest way is both smaller and quicker.
USUAL_COMPRESSION = 1
WRITERS = 2
# Decoded pictures that wait to be encoded: at most this many are in memory.
AHEAD = 4


def extracted(
    clip: Clip,
    tell: Teller,
    *,
    png_compression: int = USUAL_COMPRESSION,
    deinterlace: bool = False,
    cancelled: threading.Event | None = None,
) -> Clip:
    """The clip with the pictures of its videos, which are extracted unless they are there already.

    Makes Frames/, AlphaFrames/ and video_meta.json in the clip's folder. Raises `ExtractionError`
    for a video that cannot be read and a folder that is not to be replaced, `WriteFailureError`
    (an `OSError`) where the pictures cannot be written, `Cancelled`; then nothing is left of them.
    Pictures that are there already are taken from a folder that is read-only, too.
    """
    work = _Work(clip, tell, png_compression, deinterlace, cancelled or threading.Event())
    changed: dict[str, Path] = {}
    try:
        if is_video(clip.input_path):
            changed["input_path"] = work.folder_of(clip.input_path, "Frames")
            _write_metadata(clip.root, probe(clip.input_path))
        if clip.alpha_path is not None and is_video(clip.alpha_path):
            changed["alpha_path"] = work.folder_of(clip.alpha_path, "AlphaFrames")
    except FrameWriteError as refusal:
        kind = ReadOnlyClipError if refusal.details.get("errno") in READ_ONLY else WriteFailureError
        raise kind(refusal.message, **refusal.details) from refusal
    return clip.model_copy(update=changed)


def source_of(folder: Path) -> Mapping[str, Any]:
    """Of which video the pictures of a folder are, as `.video.json` says; empty for any other."""
    try:
        found = json.loads((folder / SOURCE_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def as_extracted(clip: Clip) -> Clip:
    """The clip with the pictures of its videos as far as they were extracted; creates nothing."""
    pairs = {"input_path": (clip.input_path, "Frames")}
    if clip.alpha_path is not None:
        pairs["alpha_path"] = (clip.alpha_path, "AlphaFrames")
    there = {
        field: clip.root / name
        for field, (path, name) in pairs.items()
        if is_video(path) and source_of(clip.root / name).get("identity") == identity(path)
    }
    return clip.model_copy(update=there)


def is_extracting(root: Path) -> bool:
    """Whether the videos of a clip are being extracted at this moment."""
    return any(_is_locked(_lock_path(root, name)) for name in ("Frames", "AlphaFrames"))


@dataclass(frozen=True)
class _Work:
    """The extraction of one clip."""

    clip: Clip
    tell: Teller
    png_compression: int
    deinterlace: bool
    cancelled: threading.Event

    def folder_of(self, video: Path, name: str) -> Path:
        """The folder with the pictures of a video."""
        try:
            info = probe(video)
        except FrameReadError as refusal:
            raise ExtractionError(refusal.message, clip=self.clip.name) from refusal
        if info.colorspace == "unknown":
            why = info.unknown_because or "does not name its colour space"
            raise ExtractionError(
                f"{video} {why}, and PNG could not say it either: matte it without extracting",
                clip=self.clip.name,
            )
        folder = self.clip.root / name
        key = self._key(info)
        if _is_whole(folder, key):
            return folder
        with _locked(self.clip, name):
            self._make(folder, info, key)
        return folder

    def _key(self, info: VideoInfo) -> dict[str, Any]:
        return {
            "video": info.path.name,
            "identity": identity(info.path),
            "stream": info.stream,
            "frames": info.frames,
            "colorspace": info.colorspace,
            "deinterlace": self.deinterlace,
        }

    def _make(self, folder: Path, info: VideoInfo, key: Mapping[str, Any]) -> None:
        _refuse_foreign(self.clip, folder)
        temporary = folder.with_name(f".{folder.name}.tmp")
        try:
            with _translated(temporary):
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
            sizes = self._pictures_of(info, temporary)
            replace_file(temporary / SOURCE_NAME, json.dumps({**key, "files": sizes}).encode())
            with _translated(folder):
                _put_in_place(temporary, folder)
        except FrameReadError as refusal:
            raise PictureExtractionError(
                f"{refusal.message} (codec {info.codec})", clip=self.clip.name
            ) from refusal
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _pictures_of(self, info: VideoInfo, folder: Path) -> dict[str, int]:
        """Write all pictures, a few at once; their sizes in bytes by name."""
        self.tell("on_stage_start", EXTRACT, info.frames)
        pictures = Pictures(deinterlace=self.deinterlace)
        writing: deque[Future[int]] = deque()
        sizes: dict[str, int] = {}

        def finish_one() -> None:
            index = len(sizes)
            sizes[FRAME_NAME.format(index)] = writing.popleft().result()
            self.tell("on_extract_frame", index, info.frames, frame=index)

        with ThreadPoolExecutor(WRITERS, thread_name_prefix="extract") as pool:
            try:
                for index in range(info.frames):
                    if self.cancelled.is_set():
                        raise Cancelled("the extraction was cancelled, and nothing of it is left")
                    picture = pictures.frame(VideoPicture(info.path, index))
                    path = folder / FRAME_NAME.format(index)
                    writing.append(pool.submit(self._write, path, picture))
                    if len(writing) >= AHEAD:
                        finish_one()
                while writing:
                    finish_one()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                pictures.close()
        self.tell("on_stage_done", EXTRACT)
        return sizes

    def _write(self, path: Path, picture: Any) -> int:
        level = None if self.png_compression == USUAL_COMPRESSION else str(self.png_compression)
        encoding = Encoding(
            colorspace="srgb", alpha="straight", compression=level, metadata=picture.metadata
        )
        return write_frame(path, picture.pixels, encoding)


def _write_metadata(root: Path, info: VideoInfo) -> None:
    """`video_meta.json`: what the documented pipeline writes, and under `x_` what it does not."""
    known = asdict(metadata_of(info))
    extra = known.pop("extra")
    if not info.is_constant:
        extra["x_times_s"] = [info.seconds(index) for index in range(info.frames)]
    extra |= {"x_pixel_aspect": info.pixel_aspect, "x_written_by": f"mattebridge {__version__}"}
    path, data = root / META_NAME, json.dumps({**known, **extra}, indent=2).encode()
    if not (path.is_file() and path.read_bytes() == data):
        replace_file(path, data)


# --- folders that are there already ---------------------------------------------------------------


def _is_whole(folder: Path, key: Mapping[str, Any]) -> bool:
    """Whether a folder holds the pictures of exactly this video, as they were written."""
    source = source_of(folder)
    return {name: source.get(name) for name in key} == dict(key) and _is_untouched(folder, source)


def _is_untouched(folder: Path, source: Mapping[str, Any]) -> bool:
    """Whether the files of a folder are those that were written, and no others."""
    found = {path.name: path.stat().st_size for path in folder.iterdir()}
    found.pop(SOURCE_NAME, None)
    return bool(source) and found == source.get("files")


def _refuse_foreign(clip: Clip, folder: Path) -> None:
    """Raise `ExtractionError` for a folder that holds anything that was not extracted here."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not _is_untouched(folder, source_of(folder)):
        raise ExtractionError(
            f"{folder} exists, and its pictures are not those that mattebridge extracted from this"
            " video: move it elsewhere, or matte the clip without extracting",
            clip=clip.name,
        )


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Give the pictures their folder; one of an older video goes."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise write_error(path, failure) from failure


# --- who is at work -------------------------------------------------------------------------------


def _lock_path(root: Path, name: str) -> Path:
    return root / f".{name}.lock"


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return file_locks.take(descriptor) is Lock.HELD
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(clip: Clip, name: str) -> Iterator[None]:
    """Alone with a folder; raises `ExtractionError` where another process is at work in it."""
    path = _lock_path(clip.root, name)
    with _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if file_locks.take(descriptor) is Lock.HELD:
            raise ExtractionError(
                f"{clip.root / name} is being made by another process; wait until it is done",
                clip=clip.name,
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # on Windows this waits for the next run: the file is open
    finally:
        os.close(descriptor)
