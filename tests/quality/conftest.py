"""What the shipped models make of the composites, judged once for all tests of this folder."""

from __future__ import annotations

import fcntl
import os
import pickle

import pytest

from mattebridge.models.registry import Registry
from quality.judging import Result, judged_set

# By name, the errors of each frame.
Judged = dict[str, list[Result]]
MODELS = ("difference", "twoplate")


@pytest.fixture(scope="session")
def judged_models(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Judged by the process that comes first: the others of `pytest -n` wait for it and read."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _judged()
    path = tmp_path_factory.getbasetemp().parent / "judged_models"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            path.with_suffix(".new").write_bytes(pickle.dumps(_judged()))
            path.with_suffix(".new").rename(path)
        return pickle.loads(path.read_bytes())


def _judged() -> Judged:
    models = [Registry().make(name) for name in MODELS]
    for model in models:
        model.load("cpu")
    return dict(zip(MODELS, judged_set(models)))


@pytest.fixture(scope="session")
def keyer_results(judged_models: Judged) -> list[Result]:
    """Of the classical keyer."""
    return judged_models["difference"]


@pytest.fixture(scope="session")
def network_results(judged_models: Judged) -> list[Result]:
    """Of the shipped network."""
    return judged_models["twoplate"]
