"""The compiled plugin, and the MatteBridge node in the Nuke of `fakes/nuke_host.py` with what must
be true afterwards."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from fakes import ofx_build
from fakes.daemon_process import DaemonProcess
from fakes.host_shot import HostShot
from fakes.nuke_comp import NUKE_FOLDER, Comp, all_nodes
from fakes.nuke_host import NukeHost
from fakes.ofx_host import NUKE, OfxHost


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of the plugin in a run waits for the compiler."""
    for item in items:
        if item.path.name.startswith("test_ofx_"):
            item.add_marker(pytest.mark.timeout(ofx_build.COMPILE_S + 100))


@pytest.fixture(scope="session")
def binary() -> Path:
    """The compiled plugin; a test skips where there is no compiler."""
    try:
        return ofx_build.plugin()
    except ofx_build.NoCompiler as missing:
        pytest.skip(str(missing))


@pytest.fixture
def host_name() -> str:
    """What the host of the plugin calls itself; a module may have another."""
    return NUKE


@pytest.fixture
def host(binary: Path, host_name: str) -> Iterator[OfxHost]:
    """The plugin in a host that has nothing to complain of afterwards."""
    with OfxHost(binary, name=host_name) as host:
        yield host
    assert host.complaints == []
    assert host.images_out == 0


@pytest.fixture
def instance(shared_daemon: DaemonProcess) -> str:
    return str(shared_daemon.folder)


@pytest.fixture
def host_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is a host: its own binary is no Python, and must not have been run at the end.

    The daemon's Python is configured, as `mattebridge install` does it.
    """
    binary, mark = tmp_path / "Host15.1", tmp_path / "host_binary_was_run"
    binary.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    binary.chmod(0o755)
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", sys.executable)
    monkeypatch.setattr(sys, "executable", str(binary))
    yield
    assert not mark.exists()


@pytest.fixture
def nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("MATTEBRIDGE_SCRATCH", str(tmp_path / "scratch"))
    threads = threading.active_count()
    yield
    assert list((tmp_path / "scratch").iterdir()) == []
    assert threading.active_count() <= threads
    assert "nuke" not in sys.modules


@pytest.fixture
def make_comp(
    tmp_path: Path, instance: str, nothing_is_left_behind: None
) -> Iterator[Callable[..., Comp]]:
    hosts: list[Any] = []

    def make(shot: HostShot, **options: Any) -> Comp:
        host = NukeHost(**options)
        running = host.running(NUKE_FOLDER)
        running.__enter__()
        hosts.append((host, running))
        return Comp(host, shot, instance, tmp_path / "store")

    yield make
    for host, running in hosts:
        host.settle()
        running.__exit__(None, None, None)
        assert host.undo_depth == 0
        assert host.open_bars() == 0
        assert not any(node._class == "Write" for node in all_nodes(host.root_node))
