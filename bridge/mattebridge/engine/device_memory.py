"""How much memory a device has and how much is in use, and how unused memory is given back.

torch keeps memory that was freed for its own later use: to other programs, and to a library beside
torch, it is as good as taken. `give_back` returns it.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Optional

from mattebridge.wire import oslayer


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on a GPU: of all programs (total, free), and of this process (used, kept by torch)."""

    total_bytes: int
    free_bytes: int
    used_bytes: int
    kept_bytes: int


def device_memory(device: str) -> Optional[DeviceMemory]:
    """The memory of a CUDA or ROCm device; None for other devices, whose memory is the machine's.

    Imports torch for a GPU only.
    """
    if not device.startswith("cuda"):
        return None
    import torch

    free, total = torch.cuda.mem_get_info(device)
    used, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    return DeviceMemory(total, free, used, max(0, reserved - used))


def free_bytes(device: str) -> Optional[int]:
    """What a frame could still have on this device; None where that is not known."""
    on_device = device_memory(device)
    if on_device is not None:
        return on_device.free_bytes + on_device.kept_bytes
    layer = oslayer.find()
    return None if layer is None else layer.available_memory_bytes()


def give_back(device: str) -> None:
    """Return what is no longer used to the device, or to the machine."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
    else:
        layer = oslayer.find()
        if layer is not None:
            layer.release_memory()
