"""Arenas that are registered with the driver of a GPU, so that it copies them by itself.

From ordinary (pageable) memory a driver copies through a buffer of its own, piece by piece, while
the caller waits. Memory that was registered stays at its place, and the device reads and writes it
at the full rate, beside its other work. Registering takes milliseconds: it is done once for each
arena, when the first frame comes in it.

The rules that must not be broken: memory is unregistered before it is unmapped, and only when no
copy of it can still run; and a copy from registered memory has ended only when the device has been
waited for, so whoever must know that an arena was read looks at it again after that.

A registration that fails (a limit of locked memory, a driver without the right) costs speed alone:
work goes on with pageable copies, and `figures` says why.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from mattebridge.errors import one_line

MAX_REASON = 200


class RegisteredMemory:
    """The memory of one worker that the driver of its device knows; of none off CUDA and ROCm."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._sizes: dict[int, int] = {}  # by address
        self._pageable: dict[int, int] = {}
        self._reason = ""

    def add(self, address: int, size_bytes: int) -> bool:
        """Register memory unless that was done or tried before; whether it is registered."""
        if self._device.type != "cuda":
            return False
        if address not in self._sizes and address not in self._pageable:
            error = self._register(address, size_bytes)
            known = self._pageable if error else self._sizes
            known[address] = size_bytes
            self._reason = error or self._reason
        return address in self._sizes

    def remove(self, address: int) -> None:
        """Forget memory that is about to be unmapped; waits for the copies of all memory."""
        self._pageable.pop(address, None)
        if self._sizes.pop(address, None) is not None:
            torch.cuda.synchronize(self._device)
            _check(_driver().cudaHostUnregister(address))

    def figures(self) -> dict[str, Any]:
        """`registered_bytes`, and where some is not `pageable_bytes` and why; empty off CUDA."""
        if self._device.type != "cuda":
            return {}
        figures: dict[str, Any] = {"registered_bytes": sum(self._sizes.values())}
        if self._pageable:
            figures["pageable_bytes"] = sum(self._pageable.values())
            figures["pageable_because"] = self._reason
        return figures

    def _register(self, address: int, size_bytes: int) -> str:
        """An empty text, or why the driver refused."""
        try:
            with torch.cuda.device(self._device):
                _check(_driver().cudaHostRegister(address, size_bytes, 0))
        except RuntimeError as error:
            self._clear_error()
            return one_line(str(error), MAX_REASON)
        return ""

    def _clear_error(self) -> None:
        """Let a small operation fail in place of the next frame: the driver keeps its last error.

        torch reports that error with the next launch, and takes it back by doing so.
        """
        with suppress(RuntimeError):
            torch.zeros(1, device=self._device).add_(1)


def _driver() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _check(code: Any) -> None:
    """Raise what a call to the driver returned, unless it is success (0)."""
    if int(code):
        raise RuntimeError(f"{_driver().cudaGetErrorString(code)} (error {int(code)})")
