"""Fixtures of the fault rows: an abused daemon, shared while it lives, and the base line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from fakes.base_line import AbusedDaemon, PoliteClient, StartAbused, measured
from fakes.raw_client import Raw, RawClient


class _Shared:
    """The daemon that all rows share, replaced when a row has left it damaged."""

    def __init__(self, *, light: bool) -> None:
        self._light = light
        self.daemon: AbusedDaemon | None = None
        self.polite: PoliteClient | None = None

    def get(self) -> tuple[AbusedDaemon, PoliteClient]:
        if self.daemon is None or self.polite is None:
            # Small quotas: what a row asks for in excess is never allocated on the test machine.
            self.daemon = AbusedDaemon(light=self._light, MATTEBRIDGE_SESSION_BYTES=str(1 << 30))
            try:
                self.daemon.start()
                self.daemon.wait_ready()
                self.polite = PoliteClient(self.daemon)
            except BaseException:
                self.drop()
                raise
        return self.daemon, self.polite

    def drop(self) -> None:
        if self.polite is not None:
            self.polite.client.close()
        if self.daemon is not None:
            self.daemon.end()
        self.daemon = self.polite = None


@pytest.fixture(scope="session")
def _both() -> Iterator[dict[bool, _Shared]]:
    both = {light: _Shared(light=light) for light in (False, True)}
    yield both
    for shared in both.values():
        shared.drop()


@pytest.fixture
def light() -> bool:
    """Whether workers have the light engine: a module whose rows ask for no matte says so."""
    return False


@pytest.fixture
def _shared(_both: dict[bool, _Shared], light: bool) -> _Shared:
    return _both[light]


@pytest.fixture
def daemon(_shared: _Shared) -> Iterator[AbusedDaemon]:
    """The shared daemon with the base line around the test and a polite client beside it."""
    daemon, polite = _shared.get()
    try:
        with measured(daemon, polite):
            yield daemon
    except BaseException:
        _shared.drop()
        raise


@pytest.fixture
def start_abused(light: bool) -> Iterator[StartAbused]:
    """A function that starts a daemon for rows that end or cripple it."""
    started: list[AbusedDaemon] = []

    def start(**environment: str) -> AbusedDaemon:
        daemon = AbusedDaemon(light=light, **environment)
        started.append(daemon)
        daemon.start()
        daemon.wait_ready()
        return daemon

    yield start
    for daemon in started:
        daemon.end()


@pytest.fixture
def raw() -> Iterator[Raw]:
    """A function that opens raw clients, closed after the test."""
    opened: list[RawClient] = []

    def connect(daemon: AbusedDaemon, **options: int) -> RawClient:
        client = RawClient(daemon.folder, **options)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        with contextlib.suppress(OSError):
            client.close()
