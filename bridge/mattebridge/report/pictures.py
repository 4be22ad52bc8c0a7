"""The pictures of one frame for a page: plate, comp, alpha and error, small, as JPEG.

Light is sRGB-encoded and clipped at white. A comp that is not on disk is made here, over a checker.
Where the model gives no error, it is what the matte leaves unexplained: the difference between the
plate and the foreground over the clean plate.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Optional

import cv2
import numpy as np

from mattebridge import color
from mattebridge.color import Pixels
from mattebridge.errors import MattebridgeError
from mattebridge.image_io import Encoding, Frame, encode_frame
from mattebridge.image_io.sequences import Source
from mattebridge.image_io.sources import Pictures
from mattebridge.ocio.space import Spaces
from mattebridge.report.drawing import as_bytes, checker, display
from mattebridge.report.records import Entry

VIEWS = ("plate", "comp", "alpha", "error")
LARGE_PX = 960
THUMB_PX = 256
LARGE_QUALITY = "82"
THUMB_QUALITY = "76"
READERS = 3
# The large views of one frame may take this share of the bytes that are left for a page.
LARGE_SHARE = 0.5
# The errors of a good matte are a few hundredths: they are shown brighter by this factor.
ERROR_GAIN = 4.0
_SPACES = Spaces()


@dataclass
class FramePictures:
    """JPEGs by view, their size, and what else was found.

    size: width and height of the large views. missing: what could not be shown, and why. error,
    area: means of the error and of alpha. error_kind: where the error comes from.
    """

    frame: int
    large: dict[str, bytes] = field(default_factory=dict)
    thumbs: dict[str, bytes] = field(default_factory=dict)
    size: tuple[int, int] = (16, 9)
    missing: list[str] = field(default_factory=list)
    error: Optional[float] = None
    error_kind: str = ""
    area: Optional[float] = None


class _Light(NamedTuple):
    """A picture as linear light at the size shown; alpha is None where it has none."""

    rgb: Pixels
    alpha: Optional[Pixels]


def picture_frame(
    entry: Entry, reader: Pictures, *, colorspace: str = "", large_px: int = LARGE_PX
) -> FramePictures:
    """All views that the files of a frame allow; a file that cannot be read is named as missing.

    colorspace: of the plate and clean plate, where the job set one; else each file's own.
    """
    made = FramePictures(entry.frame)
    views = _Views(entry, reader, colorspace, large_px, made)
    for view, draw_view in (
        ("plate", views.plate),
        ("comp", views.comp),
        ("alpha", views.alpha),
        ("error", views.error),
    ):
        shown = draw_view()
        if shown is not None:
            made.size = (shown.shape[1], shown.shape[0])
            made.large[view] = _jpeg(shown, LARGE_QUALITY)
            made.thumbs[view] = _jpeg(_narrow(shown, THUMB_PX), THUMB_QUALITY)
    return made


class _Views:
    """The views of one frame; each of its files is read once. A view is None without its files."""

    def __init__(
        self, entry: Entry, reader: Pictures, space: str, width: int, made: FramePictures
    ) -> None:
        self._entry = entry
        self._reader = reader
        self._space = space
        self._width = width
        self._made = made
        self._read: dict[Source, Optional[_Light]] = {}

    def plate(self) -> Optional[Pixels]:
        plate = self._input("plate")
        if plate is None:
            if "plate" not in self._entry.inputs:
                self._made.missing.append("it was not recorded where the plate is")
            return None
        return display(plate.rgb)

    def comp(self) -> Optional[Pixels]:
        ready = self._output("comp")
        if ready is not None:
            return display(ready.rgb)
        subject = self._subject()
        if subject is None or subject.alpha is None:
            return None
        return display(subject.rgb + (1 - subject.alpha) * checker(*subject.rgb.shape[:2]))

    def alpha(self) -> Optional[Pixels]:
        coverage = self._coverage()
        if coverage is None:
            return None
        self._made.area = float(coverage.mean())
        return as_bytes(np.repeat(coverage, 3, axis=2))

    def error(self) -> Optional[Pixels]:
        given = self._output("error")
        if given is not None:
            values = given.alpha if given.alpha is not None else given.rgb[..., :1]
            self._made.error_kind = "the model's own estimate"
        else:
            unexplained = self._unexplained()
            if unexplained is None:
                return None
            values = unexplained
            self._made.error_kind = "what the matte over the clean plate leaves unexplained"
        self._made.error = float(values.mean())
        heat = cv2.applyColorMap(as_bytes(values[..., 0] * ERROR_GAIN), cv2.COLORMAP_INFERNO)
        return np.asarray(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB))

    # -- what they are made of ---------------------------------------------------------------

    def _coverage(self) -> Optional[Pixels]:
        for name in ("alpha", "premultiplied", "layers"):
            found = self._output(name)
            if found is not None and found.alpha is not None:
                return found.alpha
        return None

    def _subject(self) -> Optional[_Light]:
        """The subject's own light, premultiplied."""
        for name in ("premultiplied", "layers"):
            found = self._output(name)
            if found is not None and found.alpha is not None:
                return found
        alpha, colours = self._coverage(), self._output("foreground") or self._input("plate")
        if alpha is None or colours is None or colours.rgb.shape[:2] != alpha.shape[:2]:
            return None
        return _Light(colours.rgb * alpha, alpha)

    def _unexplained(self) -> Optional[Pixels]:
        plate, clean, subject = self._input("plate"), self._input("clean_plate"), self._subject()
        if plate is None or clean is None or subject is None or subject.alpha is None:
            return None
        if not plate.rgb.shape == clean.rgb.shape == subject.rgb.shape:
            return None
        back = subject.rgb + (1 - subject.alpha) * clean.rgb
        seen = (color.srgb_encode(np.clip(light, 0, 1)) for light in (back, plate.rgb))
        difference = np.abs(next(seen) - next(seen))
        return np.asarray(difference.max(axis=2, keepdims=True))

    def _input(self, role: str) -> Optional[_Light]:
        source = self._entry.inputs.get(role)
        if source is None or role in self._entry.black:
            return None
        return self._once(source, self._space, opaque=True)

    def _output(self, name: str) -> Optional[_Light]:
        source = self._entry.outputs.get(name)
        return None if source is None else self._once(source, "", opaque=False)

    def _once(self, source: Source, space: str, *, opaque: bool) -> Optional[_Light]:
        if source not in self._read:
            self._read[source] = self._open(source, space, opaque)
        return self._read[source]

    def _open(self, source: Source, space: str, opaque: bool) -> Optional[_Light]:
        try:
            return _light(self._reader.frame(source), space, self._width, opaque)
        except MattebridgeError as error:
            self._made.missing.append(error.message)
            return None


def _light(frame: Frame, space: str, width: int, opaque: bool) -> _Light:
    """Linear light, premultiplied, no wider than `width`, pixels square."""
    pixels = color.to_float(frame.pixels)
    shape = (pixels.shape[1] * frame.pixel_aspect, pixels.shape[0])
    if pixels.shape[2] == 1:
        matte = _fitted(pixels, shape, width)
        return _Light(np.repeat(matte, 3, axis=2), matte)
    colours = np.ascontiguousarray(pixels[..., :3])
    if _multiplied_in_display(frame):
        colours = color.unpremultiply(colours, pixels[..., 3:])
        frame = replace(frame, alpha="straight")
    named = space or frame.colorspace
    # What does not say what it is, is shown as if it were for a display.
    colours = color.to_float(
        _SPACES.converted(colours, "srgb" if named == "unknown" else named, "linear")
    )
    if pixels.shape[2] == 3 or opaque:
        return _Light(_fitted(colours, shape, width), None)
    alpha = np.ascontiguousarray(pixels[..., 3:])
    if frame.alpha == "straight":
        colours = color.premultiply(colours, alpha)
    return _Light(_fitted(colours, shape, width), _fitted(alpha, shape, width))


def _multiplied_in_display(frame: Frame) -> bool:
    """Whether its colours were encoded before they were multiplied by alpha."""
    if frame.alpha != "premultiplied" or frame.colorspace != "srgb":
        return False
    settings = json.loads(frame.metadata.get("mattebridge:settings") or "{}")
    return bool(settings.get("premultiply") == "display")


def _fitted(image: Pixels, shape: tuple[float, float], width: int) -> Pixels:
    """An image of `shape` (width, height) averaged to at most `width`, clipped to 0..1 first."""
    wide = max(1, min(width, round(shape[0])))
    high = max(1, round(shape[1] * wide / shape[0]))
    light = np.nan_to_num(np.asarray(image, np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    shown = np.clip(light, 0, 1)
    if (wide, high) != (image.shape[1], image.shape[0]):
        method = cv2.INTER_AREA if wide <= image.shape[1] else cv2.INTER_LINEAR
        shown = np.asarray(cv2.resize(shown, (wide, high), interpolation=method))
    return shown.reshape(high, wide, image.shape[2])


def _narrow(shown: Pixels, width: int) -> Pixels:
    if shown.shape[1] <= width:
        return shown
    size = (width, max(1, round(shown.shape[0] * width / shown.shape[1])))
    return np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA))


def _jpeg(codes: Pixels, quality: str) -> bytes:
    return encode_frame(
        Path("page.jpg"), codes, Encoding(colorspace="srgb", alpha="opaque", compression=quality)
    )


def draw(
    entries: Sequence[Entry], picture: Callable[[Entry], FramePictures]
) -> dict[int, FramePictures]:
    """Pictures of these frames, several at once."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="picture") as pool:
        return {made.frame: made for made in pool.map(picture, entries)}


def fitting(
    drawn: Mapping[int, FramePictures], order: Iterable[int], *, limit_bytes: int, large: int
) -> dict[int, FramePictures]:
    """The pictures of the frames of `order`, most wanted first, that fit into `limit_bytes`.

    They are counted as base64. The first `large` keep their large views, unless one of them takes
    more than its share of what is left.
    """
    kept: dict[int, FramePictures] = {}
    left = limit_bytes
    for rank, frame in enumerate(order):
        made = drawn[frame]
        size = _base64_bytes(made.large)
        if rank >= large or size > LARGE_SHARE * left:
            made, size = replace(made, large={}), 0
        size += _base64_bytes(made.thumbs)
        if size > left:
            break
        left -= size
        kept[frame] = made
    return kept


def _base64_bytes(views: Mapping[str, bytes]) -> int:
    return sum(4 * ((len(data) + 2) // 3) for data in views.values())
