"""The part of `MatteClient` that a shot uses: tests have a client of their own behind it."""

from __future__ import annotations

from typing import Any, Callable, Optional, Protocol

from mattebridge.client.matte import Matte


class Handle(Protocol):
    """A frame in flight, as `MatteClient.submit` returns it."""

    def result(self, timeout_s: Optional[float] = None) -> Matte: ...

    def cancel(self) -> None: ...


class Client(Protocol):
    """The methods of `MatteClient` that a job calls."""

    def submit(self, plate: Any, clean_plate: Any = None, **options: Any) -> Handle: ...

    def models(
        self, timeout_s: float = ..., *, cancelled: Callable[[], bool] = ...
    ) -> list[dict[str, Any]]: ...

    def status(self, timeout_s: float = ...) -> dict[str, Any]: ...

    def colors(self) -> dict[str, Any]: ...

    def hold_clean_plate(self, name: str, pixels: Any) -> Any: ...

    def drop_clean_plate(self, name: str) -> Any: ...

    def close(self) -> None: ...
