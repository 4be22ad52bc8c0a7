"""What the classical keyer makes of the composites, judged once for all tests of this folder."""

from __future__ import annotations

import pytest

from mattebridge.models.registry import Registry
from quality.judging import Result, judged_set


@pytest.fixture(scope="session")
def keyer_results() -> list[Result]:
    return judged_set(Registry().make("difference"))
