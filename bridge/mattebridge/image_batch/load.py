"""Many pictures into one buffer: `load_image_batch` and its twin for event loops.

    sources --headers, concurrently--> sizes agree? types? --> one buffer (N, H, W, C)
                                                                  ^ row i
            --one job a picture: read (image_io), scale, convert--/
            --> where a GPU is asked for: one copy of the whole buffer on its stream

Every picture is read by `image_io.read_frame`, so that a batch holds the same pixels as a single
read gives, and a damaged file is a failure, never a half grey picture. The rule that must not be
broken: no thread writes into the buffer once the call has ended, however it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import os
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TypeVar, Union

import numpy as np

from mattebridge.color import Pixels
from mattebridge.errors import (
    ArgumentError,
    FrameError,
    FrameReadError,
    InputsError,
    NonFiniteError,
)
from mattebridge.image_batch.batch import BatchFailure, CudaImageBatch, ImageBatch, ImageInfo
from mattebridge.image_batch.bounded_jobs import BoundedJobs, Job
from mattebridge.image_batch.device import DeviceConfig, check_device, on_device, torch_for
from mattebridge.image_batch.pixel_formats import (
    FILTERS,
    FITS,
    FORMATS,
    PixelFormat,
    loses_precision,
    native_format,
    put,
    scaled_size,
)
from mattebridge.image_io import MAX_SIDE_PX, Frame, FrameHeader, read_frame, read_header
from mattebridge.image_io.memory_file import memory_file
from mattebridge.wire import oslayer

if TYPE_CHECKING:
    from typing import ParamSpec

    Arguments = ParamSpec("Arguments")

Source = Union[str, Path, bytes]
Result = TypeVar("Result")

# Decoding is bound by cores; more threads than this only hold more pictures in memory.
MAX_THREADS = 16
# glibc adapts to freed blocks of less than 32 MiB (DEFAULT_MMAP_THRESHOLD_MAX).
LARGEST_KEPT = 31 << 20
# A message names this many failures; all are in its details.
NAMED_FAILURES = 8


class _Default(str):
    """Tells a `pix_fmt` that was left out from the same one given: only that may lose precision."""


DEFAULT_PIX_FMT = _Default("rgb24")


# --- the two calls --------------------------------------------------------------------------------


def load_image_batch(
    sources: Sequence[Source],
    *,
    width: Optional[int] = None,
    height: Optional[int] = None,
    pix_fmt: Optional[str] = DEFAULT_PIX_FMT,
    filter: str = "area",
    fit: str = "stretch",
    out: Optional[Pixels] = None,
    device_config: Optional[DeviceConfig] = None,
    executor: Optional[Executor] = None,
    strict: bool = True,
    max_bytes: Optional[int] = None,
) -> Union[ImageBatch, CudaImageBatch]:
    """Read pictures, all at once, into one buffer.

    sources: files by path, or their contents as bytes, mixed; the type is recognised by content. A
    source that occurs twice is decoded once.
    width, height: both, one (the other keeps the aspect), or none (all must have one size).
    fit: "stretch", "pad" (whole picture, black transparent borders) or "crop" (from the middle).
    filter: "area" averages what a pixel covers; "nearest", "bilinear", "cubic" and "lanczos" take
    samples; "draft" is "area" from JPEGs decoded at the half, quarter or eighth that is no smaller:
    half the time, and off by some code values at hard colour edges.
    pix_fmt: one of `pixel_formats.FORMATS`; None keeps what the files hold, which must agree. Left
    out it is rgb24, and samples finer than 8 bits are refused; given, they are converted.
    out: an array (N, H, W, C) of the format's type that is filled instead of a new one.
    device_config: copy the batch to that GPU. executor: threads to use instead of a pool for this
    call. max_bytes: bound of the buffer and the pictures that are being decoded: a picture is read
    when it fits beside the others, and a larger buffer is refused. By default half of the memory.
    strict: any failure is an error that names all that failed; else they are listed in `failures`.

    Raises `ArgumentError` (a `ValueError`), `InputsError` for sizes or types that do not agree,
    `FrameReadError` with `details["failures"]` where pictures could not be read.
    """
    load = _Load(
        sources, width, height, pix_fmt, filter, fit, out, device_config, strict, max_bytes
    )
    with contextlib.ExitStack() as stack:
        if executor is None:
            count = min(MAX_THREADS, os.cpu_count() or 1, len(load.distinct))
            pool = ThreadPoolExecutor(count, thread_name_prefix="image")
            executor = stack.enter_context(pool)
        for step in load.steps:
            _run(load, BoundedJobs(step(), executor.submit, limit_bytes=load.spare_bytes))
    return load.result()


def _run(load: _Load, jobs: BoundedJobs) -> None:
    jobs.start()
    try:
        jobs.ended.result()
    except _OneFailed:
        raise load.failed() from None
    except BaseException:
        jobs.stop()
        wait([jobs.ended])
        raise


def _called_like(
    model: Callable[Arguments, Result],
) -> Callable[
    [Callable[..., Coroutine[Any, Any, Result]]], Callable[Arguments, Coroutine[Any, Any, Result]]
]:
    """Gives a twin of a function its arguments, for type checkers and for `help`."""

    def marked(
        twin: Callable[..., Coroutine[Any, Any, Result]],
    ) -> Callable[Arguments, Coroutine[Any, Any, Result]]:
        twin.__signature__ = inspect.signature(model)  # type: ignore[attr-defined]
        return twin

    return marked


@_called_like(load_image_batch)
async def async_load_image_batch(
    sources: Sequence[Source], *, executor: Optional[Executor] = None, **arguments: Any
) -> Union[ImageBatch, CudaImageBatch]:
    """`load_image_batch` on the running event loop, which is never blocked.

    Pictures are read by `executor`, or by the loop's own. Cancelling the await drops what is
    queued and returns once the pictures that were being read no longer use the buffer.
    """
    inspect.signature(load_image_batch).bind(sources, **arguments)  # or TypeError
    load = _Load(sources, **arguments)
    loop = asyncio.get_running_loop()

    def submit(call: Callable[[], None]) -> Any:
        return loop.run_in_executor(executor, call)

    for step in load.steps:
        jobs = BoundedJobs(
            step(), submit, hop=loop.call_soon_threadsafe, limit_bytes=load.spare_bytes
        )
        await _await(load, jobs)
    return load.result()


async def _await(load: _Load, jobs: BoundedJobs) -> None:
    jobs.start()
    ended = asyncio.wrap_future(jobs.ended)
    try:
        await asyncio.shield(ended)
    except _OneFailed:
        raise load.failed() from None
    except asyncio.CancelledError:
        jobs.stop()
        while not ended.done():
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await asyncio.shield(ended)
        ended.exception()
        raise


# --- what they share ------------------------------------------------------------------------------


class _OneFailed(Exception):
    """A picture failed and the call is strict: the others need not be read."""


@dataclass
class _Load:
    """The state of one call. Each step gives jobs for threads, so that no event loop is blocked."""

    sources: Sequence[Source]
    width: Optional[int] = None
    height: Optional[int] = None
    pix_fmt: Optional[str] = DEFAULT_PIX_FMT
    filter: str = "area"
    fit: str = "stretch"
    out: Optional[Pixels] = None
    device_config: Optional[DeviceConfig] = None
    strict: bool = True
    max_bytes: Optional[int] = None
    # What remains of the bound for pictures that are being read, without the buffer.
    spare_bytes: Optional[int] = field(default=None, init=False)
    # Indices in `sources` by source; headers, results, causes and rows by index.
    distinct: dict[Union[str, bytes], list[int]] = field(default_factory=dict, init=False)
    headers: dict[int, FrameHeader] = field(default_factory=dict, init=False)
    infos: dict[int, ImageInfo] = field(default_factory=dict, init=False)
    causes: dict[int, str] = field(default_factory=dict, init=False)
    rows: dict[int, int] = field(default_factory=dict, init=False)
    form: PixelFormat = field(default=FORMATS["rgb24"], init=False)
    buffer: Pixels = field(default_factory=lambda: np.empty(0, np.uint8), init=False)
    tensor: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.sources = list(self.sources)
        self._check_arguments()
        for index, source in enumerate(self.sources):
            key = source if isinstance(source, bytes) else os.path.abspath(source)
            self.distinct.setdefault(key, []).append(index)

    def _check_arguments(self) -> None:
        if not self.sources:
            raise ArgumentError("no sources; give at least one path or the bytes of a file")
        for index, source in enumerate(self.sources):
            if not isinstance(source, (str, os.PathLike, bytes)):
                kind = type(source).__name__
                raise ArgumentError(f"source {index} is a {kind}; give a path or bytes")
        for name, value, known in (
            ("pix_fmt", self.pix_fmt, [*FORMATS, None]),
            ("filter", self.filter, list(FILTERS)),
            ("fit", self.fit, list(FITS)),
        ):
            if value not in known:
                names = ", ".join(str(each) for each in known)
                raise ArgumentError(f"{name} '{value}' is unknown; it is one of {names}")
        for name, side in (("width", self.width), ("height", self.height)):
            if side is not None and not 0 < side <= MAX_SIDE_PX:
                raise ArgumentError(f"{name} must be from 1 to {MAX_SIDE_PX} pixels; got {side}")

    @property
    def steps(self) -> tuple[Callable[[], list[Job]], ...]:
        """In order; the jobs of one have ended before the next is called."""
        return (self._look, self._settle, self._decode, self._finish)

    # -- headers ----------------------------------------------------------------------------------

    def _look(self) -> list[Job]:
        """Read the header of every source, and check the device."""
        jobs = [Job(partial(self._look_at, *item)) for item in self.distinct.items()]
        if self.device_config is not None:
            jobs.insert(0, Job(partial(check_device, self.device_config)))
        return jobs

    def _look_at(self, key: Union[str, bytes], indices: Sequence[int]) -> None:
        try:
            with _as_file(key) as path:
                header = read_header(path)
        except FrameReadError as error:
            self.causes.update(dict.fromkeys(indices, _cause(error)))
        else:
            self.headers.update(dict.fromkeys(indices, header))

    # -- format, size, buffer ---------------------------------------------------------------------

    def _settle(self) -> list[Job]:
        return [Job(self._settle_here)]

    def _settle_here(self) -> None:
        if self.causes and (self.strict or not self.headers):
            raise self.failed()
        self.headers = dict(sorted(self.headers.items()))
        self.rows = {index: row for row, index in enumerate(self.headers)}
        self.form = self._chosen_format()
        width, height = self._chosen_size()
        self._make_buffer(height, width)
        _keep_freed_memory(max(header.size_bytes for header in self.headers.values()))

    def _chosen_format(self) -> PixelFormat:
        kinds = {index: (len(h.channels), h.dtype) for index, h in self.headers.items()}
        if self.pix_fmt is None:
            self._agree(kinds, "types", lambda kind: native_format(*kind).name, "give pix_fmt")
            return native_format(*next(iter(kinds.values())))
        form = FORMATS[self.pix_fmt]
        finer = [index for index, (_, dtype) in kinds.items() if loses_precision(dtype, form)]
        if finer and isinstance(self.pix_fmt, _Default):
            channels, dtype = kinds[finer[0]]
            raise InputsError(
                f"source {finer[0]} ({self._name(finer[0])}) holds {dtype}, finer than rgb24:"
                f" give pix_fmt='{native_format(channels, dtype).name}' to keep it, or 'rgb24'"
            )
        return form

    def _chosen_size(self) -> tuple[int, int]:
        sizes = {
            index: scaled_size((header.width, header.height), self.width, self.height)
            for index, header in self.headers.items()
        }
        self._agree(sizes, "sizes", lambda size: f"{size[0]}x{size[1]}", "give width and height")
        return next(iter(sizes.values()))

    def _agree(
        self, found: Mapping[int, Any], what: str, show: Callable[[Any], str], advice: str
    ) -> None:
        first = next(iter(found))
        others = [index for index, value in found.items() if value != found[first]]
        if not others:
            return
        named = [f"{i} ({self._name(i)}) {show(found[i])}" for i in others[:NAMED_FAILURES]]
        more = f" and {len(others) - len(named)} more" if len(others) > len(named) else ""
        raise InputsError(
            f"the images have different {what}: {first} ({self._name(first)})"
            f" {show(found[first])}, but {', '.join(named)}{more}; {advice}"
        )

    def _make_buffer(self, height: int, width: int) -> None:
        count = len(self.sources) if self.out is not None else len(self.headers)
        shape = (count, height, width, self.form.count)
        size = count * height * width * self.form.pixel_bytes
        limit = self.max_bytes if self.max_bytes is not None else _half_of_memory()
        if size > limit:
            raise ArgumentError(
                f"{count} images of {width}x{height} in {self.form.name} are {size} bytes, over the"
                f" bound of {limit}; load fewer at once or raise max_bytes"
            )
        self.spare_bytes = limit - size
        if self.out is not None:
            self.buffer = _checked_out(self.out, shape, self.form)
        elif self.device_config is not None and self.device_config.pinned:
            torch = torch_for("device_config")
            kind = getattr(torch, self.form.dtype)
            self.buffer = torch.empty(shape, dtype=kind, pin_memory=True).numpy()
        else:
            self.buffer = np.empty(shape, self.form.dtype)

    # -- pixels -----------------------------------------------------------------------------------

    def _decode(self) -> list[Job]:
        """A job for every distinct picture that has a header."""
        return [
            Job(partial(self._fill, key, indices), self.headers[indices[0]].size_bytes)
            for key, indices in self.distinct.items()
            if indices[0] in self.headers
        ]

    def _fill(self, key: Union[str, bytes], indices: Sequence[int]) -> None:
        header, row = self.headers[indices[0]], self.buffer[self.rows[indices[0]]]
        try:
            with _as_file(key) as path:
                frame = read_frame(path, at_least=self._enough(header))
            _check_unchanged(frame, header)
            how = {"alpha": frame.alpha, "resample": self.filter, "fit": self.fit}
            put(frame.pixels, row, self.form, **how)
        except (FrameReadError, NonFiniteError) as error:
            self.causes.update(dict.fromkeys(indices, _cause(error)))
            if self.strict:
                raise _OneFailed from error
            return
        for index in indices[1:]:
            self.buffer[self.rows[index]] = row
        info = ImageInfo(
            width=header.width,
            height=header.height,
            channels=header.channels,
            dtype=header.dtype,
            colorspace=frame.colorspace,
            alpha=frame.alpha,
        )
        self.infos.update(dict.fromkeys(indices, info))

    def _enough(self, header: FrameHeader) -> Optional[tuple[int, int]]:
        """The smallest size of the whole picture that fills the row; None for full size."""
        if self.filter != "draft" or (self.width is None and self.height is None):
            return None
        height, width = self.buffer.shape[1:3]
        if self.fit == "stretch":
            return width, height
        across, down = width / header.width, height / header.height
        scale = min(across, down) if self.fit == "pad" else max(across, down)
        return math.ceil(header.width * scale), math.ceil(header.height * scale)

    # -- the end ----------------------------------------------------------------------------------

    def _finish(self) -> list[Job]:
        return [Job(self._finish_here)]

    def _finish_here(self) -> None:
        """Close the gaps where pictures failed, and copy to the device."""
        if not self.infos:
            raise self.failed()
        self.infos = dict(sorted(self.infos.items()))
        for row, index in enumerate(self.infos):
            if self.rows[index] != row:
                self.buffer[row] = self.buffer[self.rows[index]]
        self.buffer = self.buffer[: len(self.infos)]
        if self.device_config is not None:
            self.tensor = on_device(self.buffer, self.device_config)

    def result(self) -> Union[ImageBatch, CudaImageBatch]:
        """The batch; to be called in the caller's thread."""
        shared: dict[str, Any] = {
            "pix_fmt": self.form.name,
            "indices": tuple(self.infos),
            "images": tuple(self.infos.values()),
            "failures": self._listed(),
        }
        if self.tensor is None:
            return ImageBatch(self.buffer, **shared)
        # Its memory must not be reused before the work of this thread on it has ended.
        current = torch_for("device_config").cuda.current_stream(self.tensor.device)
        self.tensor.record_stream(current)
        return CudaImageBatch(self.tensor, **shared)

    def failed(self) -> FrameReadError:
        """The error that names every picture that failed."""
        failures = self._listed()
        named = "; ".join(f"{f.index} ({f.source}): {f.cause}" for f in failures[:NAMED_FAILURES])
        left = len(failures) - NAMED_FAILURES
        more = f"; and {left} more" if left > 0 else ""
        noun = "image" if len(failures) == 1 else "images"
        return FrameReadError(
            f"{len(failures)} {noun} of {len(self.sources)} could not be read: {named}{more}",
            failures=failures,
        )

    def _listed(self) -> tuple[BatchFailure, ...]:
        return tuple(
            BatchFailure(index, self._name(index), cause)
            for index, cause in sorted(self.causes.items())
        )

    def _name(self, index: int) -> str:
        source = self.sources[index]
        return f"{len(source)} bytes" if isinstance(source, bytes) else os.fspath(source)


def _cause(error: FrameError) -> str:
    """Why, without the path, which the failure has as well, or the name of anonymous memory."""
    return re.sub(r'"/proc/self/fd/\d+"', "it", str(error.details.get("why", error.message)))


def _as_file(key: Union[str, bytes]) -> contextlib.AbstractContextManager[Path]:
    """A path by which a source can be read; bytes are in anonymous memory meanwhile."""
    return contextlib.nullcontext(Path(key)) if isinstance(key, str) else memory_file(key)


def _check_unchanged(frame: Frame, header: FrameHeader) -> None:
    """Raise where the file has changed since its header was read."""
    expected = (header.display_window, len(header.channels), header.dtype)
    if expected != (frame.display_window, frame.pixels.shape[2], frame.pixels.dtype.name):
        why = "its pixels do not match the header that was read before; is it being written?"
        raise FrameReadError(f"cannot read {header.path}: {why}", why=why)


def _checked_out(out: Pixels, shape: tuple[int, ...], form: PixelFormat) -> Pixels:
    wanted = f"a C-contiguous, writable {form.dtype} array of shape {shape}"
    if not isinstance(out, np.ndarray):
        raise ArgumentError(f"out is a {type(out).__name__}; give {wanted}")
    if out.shape != shape or out.dtype != np.dtype(form.dtype):
        raise ArgumentError(f"out is {out.dtype} {out.shape}; give {wanted}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ArgumentError(f"out is strided or read-only; give {wanted}")
    return out


def _keep_freed_memory(picture_bytes: int) -> None:
    """Make glibc reuse the memory of one picture for the next, in threads as well.

    By default it returns freed blocks of this size to the system, and every picture then costs
    thousands of page faults, a third of the time of an HD JPEG. Freeing one larger block raises the
    size from which it does so; the block is never touched and costs nothing. Without glibc this has
    no effect.
    """
    np.empty(min(4 * picture_bytes, LARGEST_KEPT), np.uint8)


def _half_of_memory() -> int:
    layer = oslayer.find()
    return 4 << 30 if layer is None else layer.total_memory_bytes() // 2
