"""From a clip to its manifest: its frames found, matched by number and looked at.

    Clip --load--> ClipManifest --resolve_alpha(folder)--> the same with a hint

Only headers are read. Nothing is created, and a video is read as it is, frame by frame, when it is
needed, unless its pictures are asked for (`extract`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mattebridge.clips.contracts import Clip, ClipLayers, ClipManifest
from mattebridge.clips.errors import ArgumentError, FrameMismatchError
from mattebridge.clips.events import PipelineEvents, Teller
from mattebridge.clips.extraction import extracted
from mattebridge.clips.job import OUTPUT, files_of, meeting, space_of, with_hint_of_plate
from mattebridge.clips.sizes import refuse_other_sizes
from mattebridge.clips.video_meta import META_NAME
from mattebridge.errors import SequenceError
from mattebridge.image_io import FrameHeader
from mattebridge.image_io.matching import FrameInputs, match_frames
from mattebridge.image_io.sequences import VideoPicture
from mattebridge.image_io.sources import read_header
from mattebridge.ocio.space import Spaces

HEADER_THREADS = 8
HIGHEST_COMPRESSION = 9


def load(
    clip: Clip,
    events: PipelineEvents | None = None,
    png_compression: int = 1,
    *,
    input_space: str = "",
    extract: bool = False,
    layers: ClipLayers | None = None,
    plate_alpha: str = "opaque",
) -> ClipManifest:
    """Find and match the frames of a clip; `needs_alpha` where it has no hint.

    extract: write the pictures of its videos to Frames/ and AlphaFrames/ (extraction.py), unless
    they are there already. png_compression: of these, 0 to 9. events: of the extraction.
    input_space: the colour space of the plates, by
    a name of `mattebridge colors`, linear or srgb; "" for what each file says. layers: of its EXRs.
    plate_alpha: opaque, straight or premultiplied.
    Raises `FrameMismatchError` for a clip without frames, with missing ones, or whose hints do not
    fit, naming them; `InputsError` for a plate of another size; `ExtractionError` for a video that
    cannot be read, and `FrameReadError` for a picture; with `extract` what `extracted` raises.
    """
    if png_compression not in range(HIGHEST_COMPRESSION + 1):
        raise ArgumentError(f"png_compression must be 0 to 9; got {png_compression!r:.40}")
    layers = layers or ClipLayers()
    clip = with_hint_of_plate(clip, layers.alpha_hint)
    if extract:
        with Teller(events) as tell:
            clip = extracted(clip, tell, png_compression=png_compression)
        input_space = input_space or space_of(clip.input_path)
    frames = _matched(clip)
    first = _checked_headers(clip, frames, layers.plate)
    space = input_space or first.colorspace
    meta = clip.root / META_NAME
    return ClipManifest(
        clip_name=clip.name,
        clip_root=clip.root,
        frames_dir=clip.input_path,
        alpha_frames_dir=clip.alpha_path,
        output_dir=clip.root / OUTPUT,
        needs_alpha=clip.alpha_path is None,
        frame_count=len(frames),
        frame_range=(0, len(frames)),
        is_linear=space != "unknown" and Spaces().of(space).scene,
        video_meta_path=meta if meta.is_file() else None,
        png_compression=png_compression,
        clean_plate_dir=clip.clean_plate_path,
        frames=tuple(frames),
        width=first.width,
        height=first.height,
        dtype=first.dtype,
        input_space=input_space,
        layers=layers,
        plate_alpha=plate_alpha,
    )


def resolve_alpha(manifest: ClipManifest, alpha_frames_dir: str | Path) -> ClipManifest:
    """The manifest with a hint that was made meanwhile: a folder, a picture or a video.

    Raises `ArgumentError` (a `ValueError`) for a manifest that has a hint already and for a path
    that does not exist, `FrameMismatchError` naming the frames that have none.
    """
    path = Path(alpha_frames_dir).absolute()
    if not manifest.needs_alpha:
        raise ArgumentError(
            f"clip {manifest.clip_name} has a hint already, {manifest.alpha_frames_dir}: load the"
            " clip again without it to use another"
        )
    if not path.exists():
        raise ArgumentError(f"there is no {path} to take the hints of {manifest.clip_name} from")
    given = manifest.model_copy(update={"alpha_frames_dir": path, "needs_alpha": False})
    return given.model_copy(update={"frames": tuple(_matched(clip_of(given)))})


def clip_of(manifest: ClipManifest) -> Clip:
    """The clip that a manifest was loaded from, with the hint that it has now."""
    return Clip(
        manifest.clip_name,
        manifest.clip_root,
        manifest.frames_dir,
        manifest.alpha_frames_dir,
        manifest.clean_plate_dir,
    )


def _matched(clip: Clip) -> list[FrameInputs]:
    try:
        return match_frames(meeting(files_of(clip)))
    except SequenceError as refusal:
        raise FrameMismatchError(f"clip {clip.name}: {refusal.message}") from refusal


def _checked_headers(clip: Clip, frames: Sequence[FrameInputs], layer: str | None) -> FrameHeader:
    """The header of the first plate, once those of all others were found to be of its size."""
    if isinstance(frames[0].plate, VideoPicture):
        return read_header(frames[0].plate, layer=layer)
    with ThreadPoolExecutor(HEADER_THREADS, thread_name_prefix="headers") as pool:
        headers = list(pool.map(lambda entry: read_header(entry.plate, layer=layer), frames))
    refuse_other_sizes(zip((entry.frame for entry in frames), headers), clip.name)
    return headers[0]
