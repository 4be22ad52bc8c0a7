"""Files without contents, for tests of names."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def files(tmp_path):
    """Makes empty files: tests of names open none."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make
