"""The device that a frame is computed on, and the way of its planes there and back.

    arena --raw_of------------------> the plane on the device, byte for byte
    arena <--deliver-- targets_for <-- results, written by the device in the plane's own type

On the CPU both ends are the arena's own memory: the step that reads the raw plane is the only copy,
and results are written where the client reads them. On another device the bytes cross once in each
direction, as they are: samples are converted there, and where the rows of a plane have gaps between
them, the gaps cross with the rows. The gaps of an output become 0.

Rule: raw planes are shared memory that the host may write to at any time. They are converted into
private memory at once, and not looked at again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mattebridge.color import FloatImage, Pixels


def settle_arithmetic(device: torch.device) -> None:
    """Make a CUDA device compute float32 as such, and equal inputs give equal pixels.

    These settings belong to the process. They are made here alone, before the first model is
    loaded, so that a frame does not depend on what was loaded before it; a request that wants a
    coarser precision says so.
    """
    if device.type == "cuda":
        # By default float32 convolutions round their inputs to 10 bits (TF32), as products of
        # matrices may, and the quickest algorithm is chosen by time, which may be another one the
        # next time.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def raw_of(plane: Pixels, device: torch.device) -> Tensor:
    """A plane (H, W, C) on the device, in its own sample type; on the CPU the same memory."""
    if device.type == "cpu":
        return _shared(plane if _can_be_shared(plane) else np.ascontiguousarray(plane))
    if not _is_packed(plane):
        plane = np.ascontiguousarray(plane)
    sample = _shared(plane[:1, :1, :1])
    sent = _shared(_bytes_of(plane)).to(device, non_blocking=True)
    strides = [step // plane.itemsize for step in plane.strides]
    return sent.view(sample.dtype).as_strided(plane.shape, strides)


def targets_for(out: Mapping[str, Pixels], device: torch.device) -> dict[str, Tensor]:
    """Where the results of the planes of `out` are to be written on the device."""
    if device.type == "cpu":
        return {role: _shared(plane) for role, plane in out.items()}
    return {role: _target_for(plane, device) for role, plane in out.items()}


def _target_for(plane: Pixels, device: torch.device) -> Tensor:
    """Memory on the device for a result, laid out as its plane where that is packed."""
    dtype = _shared(plane[:1, :1, :1]).dtype
    if not _has_gaps(plane):
        return torch.empty(plane.shape, dtype=dtype, device=device)
    strides = [step // plane.itemsize for step in plane.strides]
    whole = torch.zeros(_bytes_of(plane).size // plane.itemsize, dtype=dtype, device=device)
    return whole.as_strided(plane.shape, strides)


def dtypes_of(out: Mapping[str, Pixels]) -> dict[str, torch.dtype]:
    """The sample type of each plane."""
    return {role: _shared(plane[:1, :1, :1]).dtype for role, plane in out.items()}


def deliver(targets: Mapping[str, Tensor], out: Mapping[str, Pixels]) -> None:
    """Copy what was written into `targets` to the planes of `out`, unless it was written there.

    Waits for all of them once: the planes are whole afterwards.
    """
    for device in start_copies(targets, out):
        torch.cuda.current_stream(device).synchronize()


def start_copies(targets: Mapping[str, Tensor], out: Mapping[str, Pixels]) -> set[torch.device]:
    """As `deliver`, but does not wait: the CUDA devices on whose current stream copies may run."""
    away = {role: target for role, target in targets.items() if not _is_in(target, out[role])}
    for role, target in away.items():
        plane, asynchronous = out[role], target.device.type == "cuda"
        if _has_gaps(plane) and _strides_of(target) == plane.strides:
            whole = target.as_strided((_bytes_of(plane).size // plane.itemsize,), (1,))
            source, kept = whole.view(torch.uint8), _shared(_bytes_of(plane, writeable=True))
        else:
            source, kept = target, _shared(plane)
        kept.copy_(source, non_blocking=asynchronous)
    return {target.device for target in away.values() if target.device.type == "cuda"}


def _is_in(target: Tensor, plane: Pixels) -> bool:
    return target.device.type == "cpu" and target.data_ptr() == _shared(plane).data_ptr()


def picture_on(pixels: FloatImage, device: torch.device) -> Tensor:
    """An array of this process on the device; on the CPU the same memory."""
    return _shared(np.ascontiguousarray(pixels)).to(device)


def array_from(image: Tensor) -> FloatImage:
    """An image of the device as a C-contiguous array; on the CPU the same memory."""
    array: FloatImage = image.cpu().contiguous().numpy()
    return array


def _shared(plane: Pixels) -> Tensor:
    with warnings.catch_warnings():
        # torch warns of read-only memory; inputs are never written to.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(plane)


def _can_be_shared(plane: Pixels) -> bool:
    """Whether torch can use the memory as it lies: no flipped axis, no sample between samples."""
    return all(step >= 0 and step % plane.itemsize == 0 for step in plane.strides)


def _is_packed(plane: Pixels) -> bool:
    """Whether the plane's rows are dense and lie one behind the other with little between them."""
    row_bytes = plane.shape[1] * plane.shape[2] * plane.itemsize
    dense = plane[:1].flags.c_contiguous and plane.strides[0] % plane.itemsize == 0
    return dense and row_bytes <= plane.strides[0] <= 2 * row_bytes


def _has_gaps(plane: Pixels) -> bool:
    """Whether something lies between the rows of a packed plane."""
    return _is_packed(plane) and not plane.flags.c_contiguous


def _strides_of(image: Tensor) -> tuple[int, ...]:
    """The steps of an image along its axes, in bytes."""
    return tuple(step * image.itemsize for step in image.stride())


def _bytes_of(
    plane: Pixels, *, writeable: bool = False
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The memory of a packed plane from its first to its last sample."""
    first = plane[:1].reshape(-1).view(np.uint8)
    length = plane.strides[0] * (plane.shape[0] - 1) + first.size
    return np.lib.stride_tricks.as_strided(first, (length,), (1,), writeable=writeable)
