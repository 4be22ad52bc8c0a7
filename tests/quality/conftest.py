"""What the classical keyer makes of the composites, judged once for all tests of this folder."""

from __future__ import annotations

import fcntl
import os
import pickle

import pytest

from mattebridge.models.registry import Registry
from quality.judging import Result, judged_set


@pytest.fixture(scope="session")
def keyer_results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Judged by the process that comes first: the others of `pytest -n` wait for it and read."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return judged_set(Registry().make("difference"))
    path = tmp_path_factory.getbasetemp().parent / "keyer_results"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            results = judged_set(Registry().make("difference"))
            path.with_suffix(".new").write_bytes(pickle.dumps(results))
            path.with_suffix(".new").rename(path)
        return pickle.loads(path.read_bytes())
