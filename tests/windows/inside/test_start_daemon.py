"""The button *Start daemon* of the OpenFX plugin on Windows: CreateProcess, and what comes of it.

The program is an installed Python (`windows/installed.py`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.daemon_panel import STARTING, pressed
from fakes.ofx_host import GENERAL, OK, HostImage, Instance, OfxHost
from mattebridge.client import MatteClient
from mattebridge.daemon import control
from mattebridge.hosts.panel_line import line_of
from windows import digests, handles
from windows.installed import installed_python
from windows.patience import LIMIT_S
from windows.running import wait_for


@pytest.fixture
def host() -> Iterator[OfxHost]:
    with OfxHost(Path(os.environ["MATTEBRIDGE_TEST_PLUGIN"])) as loaded:
        yield loaded
    assert loaded.complaints == []


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed_python(tmp_path_factory.mktemp("installed"))


def node_for(host: OfxHost, folder: Path) -> Instance:
    plate, clean_plate = digests.frame(0)
    node = host.create(GENERAL, endpoint=str(folder), inputColor=0, timeout=LIMIT_S)
    return node.connect(Source=HostImage(plate), Background=HostImage(clean_plate))


def test_the_button_starts_a_daemon_that_renders(
    host: OfxHost, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "v 1"
    node = node_for(host, folder)
    assert "no daemon is running in" in pressed(node, "daemonStatus")
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", str(installed))
    try:
        first = pressed(node)
        assert first.startswith("daemon ") or first == STARTING
        wait_for(lambda: pressed(node, "daemonStatus").startswith("daemon "), "it does not start")
        with MatteClient.connect(str(folder)) as client:
            assert pressed(node, "daemonStatus") == line_of(client.status(LIMIT_S))
        status, output = node.render()
        assert (status, node.message) == (OK, None)
        assert output.pixels().any()
        assert pressed(node).startswith("daemon ")
    finally:
        control.stop(str(folder))


def test_a_program_that_fails_or_is_missing_is_said_in_words_and_leaves_no_handle(
    host: OfxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_for(host, tmp_path / "v1")
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", r"C:\nowhere\python.exe")
    assert pressed(node) == (
        r"cannot start the daemon with C:\nowhere\python.exe, which is no program: check"
        " MATTEBRIDGE_DAEMON_PYTHON"
    )
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", __file__)  # a file, and no program
    assert pressed(node).startswith(f"cannot start the daemon with {__file__}: ")
    # Without PYTHONPATH this Python knows no mattebridge: proof that the variable is taken away.
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", sys.executable)
    assert "No module named mattebridge" in pressed(node)
    before = handles.of()
    for _turn in range(3):
        assert "No module named mattebridge" in pressed(node)
    assert handles.of() <= before


def test_the_program_is_read_from_the_note(
    host: OfxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MATTEBRIDGE_DAEMON_PYTHON", raising=False)
    monkeypatch.setenv("APPDATA", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    node = node_for(host, tmp_path / "v1")
    assert pressed(node).startswith("no daemon can be started: ")
    (tmp_path / "mattebridge").mkdir()
    text = json.dumps({"python": sys.executable})
    (tmp_path / "mattebridge" / "daemon.json").write_text(text)
    assert "No module named mattebridge" in pressed(node)
