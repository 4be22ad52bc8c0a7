"""Batches on a GPU: which device, and the copy to it. torch is imported only where it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mattebridge.color import Pixels
from mattebridge.errors import ArgumentError


@dataclass(frozen=True)
class DeviceConfig:
    """Where a batch is put: a CUDA device, the stream of the copy, and whether memory is pinned.

    stream: a `torch.cuda.Stream`; None is the device's current one.
    """

    device: str = "cuda:0"
    stream: Any = None
    pinned: bool = True


def torch_for(what: str) -> Any:
    """torch; `ArgumentError` where it is missing. what: needs it, for the message."""
    try:
        import torch
    except ImportError as missing:
        raise ArgumentError(f"{what} needs torch: pip install 'mattebridge[daemon]'") from missing
    return torch


def check_device(config: DeviceConfig) -> None:
    """Raise `ArgumentError` unless torch finds this CUDA device."""
    torch = torch_for("device_config")
    try:
        device = torch.device(config.device)
    except RuntimeError as unknown:
        raise ArgumentError(f"no device '{config.device}'; use cuda:0") from unknown
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type != "cuda" or (device.index or 0) >= count:
        raise ArgumentError(
            f"device_config asks for {config.device}, and torch finds {count} CUDA devices;"
            " leave it out for a batch in memory"
        )


def on_device(buffer: Pixels, config: DeviceConfig) -> Any:
    """The buffer as a tensor on the device, once the copy is done."""
    torch = torch_for("device_config")
    device = torch.device(config.device)
    stream = config.stream
    if stream is None:
        stream = torch.cuda.current_stream(device)
    with torch.cuda.stream(stream):
        tensor = torch.from_numpy(buffer).to(device, non_blocking=True)
    # Once this returns the buffer may be reused, and any stream may read the tensor.
    stream.synchronize()
    return tensor
