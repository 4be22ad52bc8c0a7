"""The part of the client that a shot uses, so that tests can stand in for it."""

from __future__ import annotations

from typing import Any, Optional, Protocol


class Handle(Protocol):
    """A frame in flight, as `MatteClient.submit` gives it."""

    def result(self, timeout_s: Optional[float] = None) -> Any: ...

    def cancel(self) -> None: ...


class Client(Protocol):
    """What a job needs of `MatteClient`."""

    def submit(self, plate: Any, clean_plate: Any = None, **options: Any) -> Handle: ...

    def models(self) -> list[dict[str, Any]]: ...

    def status(self, timeout_s: float = ...) -> dict[str, Any]: ...

    def hold_clean_plate(self, name: str, pixels: Any) -> Any: ...

    def drop_clean_plate(self, name: str) -> Any: ...

    def close(self) -> None: ...
