"""The Nuke node and the Fusion script under each Python that a host embeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakes import host_tour
from fakes.interpreters import SUPPORTED, packages, run
from fakes.places import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("version", SUPPORTED)
def test_what_must_hold_holds_under_every_interpreter(
    version: str, tmp_path: Path, shared_daemon: Any
) -> None:
    code = (
        f"from fakes.host_tour import main; main({str(tmp_path)!r}, {str(shared_daemon.folder)!r})"
    )
    paths = [ROOT / "bridge", ROOT / "tests", ROOT / "resolve", packages(version)]
    done = run(version, code, *paths, MATTEBRIDGE_SCRATCH=str(tmp_path))
    assert done == [stop.__name__ for stop in host_tour.STOPS]
