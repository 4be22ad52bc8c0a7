"""Stands in for `mattebridge.engine.registered_memory`: there is no GPU to register memory with."""

from __future__ import annotations


class RegisteredMemory:
    """Registers nothing."""

    def __init__(self, device: str) -> None:
        pass

    def add(self, address: int, size_bytes: int) -> bool:
        return False

    def remove(self, address: int) -> None:
        pass

    def figures(self) -> dict[str, int]:
        return {}
