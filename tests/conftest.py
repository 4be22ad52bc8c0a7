"""Fixtures for all bands: real daemons in folders of their own, ended by pid, nothing left over."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fakes import one_thread, untimed  # noqa: F401
from fakes.base_line import KILL_TURNS
from fakes.daemon_process import DaemonProcess, StartDaemon
from fakes.places import ROOT, TESTS
from mattebridge.wire.oslayer import TEST_VARIABLE


def _make_importable(name: str) -> None:
    """A package beside `bridge/`, without the repository's root on sys.path: there lies `nuke/`."""
    folder = ROOT / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


# Tests start Python thousands of times: what it compiled is kept even where the environment says
# otherwise, as that of many containers does. Without it every start compiles the package again, and
# every run the tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_make_importable("training")
_make_importable("benchmarks")

# What takes longest, first: the processes of `pytest -n 4 --dist loadfile` take whole files in this
# order, and a long one at the end would leave the other processes without work.
LONGEST = (
    "e2e/test_ofx_release.py",  # six minutes where nothing is built yet, as the next one
    "e2e/test_under_wine.py",
    "e2e/test_ofx_sanitizers.py",
    "quality/test_twoplate_quality.py",
    "faults/test_soak.py",
    "faults/test_posix_layer.py",
    "e2e/test_farm.py",
    "e2e/test_matte_command.py",
    "unit/clips/test_runner.py",
    "unit/sample/test_sample.py",
    "unit/test_bench_gpu.py",
    "unit/engine/test_space.py",
    "unit/models/greenformer/test_model.py",
    "faults/test_process_death.py",
    "quality/test_sample_shot.py",
    "unit/models/difference/test_difference.py",
    "faults/test_wire.py",
    "e2e/test_checkpoints.py",
    "unit/models/background_matting/test_model.py",
    "unit/models/background_matting/test_fast.py",
    "faults/test_fuzz.py",
    "faults/test_start_and_environment.py",
    "e2e/test_devices.py",
    "e2e/test_client.py",
    "e2e/test_clip_pipeline.py",
    "e2e/test_clips_command.py",
    "unit/models/background_matting/test_gpu.py",
    "quality/test_difference_quality.py",
    "e2e/test_ofx_life.py",
    "faults/test_real_systems.py",
    "faults/test_slots_and_geometry.py",
    "faults/test_worker_and_models.py",
    "unit/training/test_run.py",
    "unit/training/test_composer.py",
    "unit/shot/test_run.py",
    "e2e/test_daemon.py",
    "unit/models/background_matting/test_networks.py",
    "unit/models/twoplate/test_twoplate.py",
    "unit/models/weights/test_installed.py",
    "unit/models/greenformer/test_network.py",
    "unit/models/greenformer/test_tiles.py",
    "unit/clean_plate/test_estimate.py",
    "e2e/test_hint_keyer.py",
    "e2e/test_large_frames.py",
)

# No test may meet the user's own daemon, configuration or models. The layer of a system stays:
# test_posix_layer.py runs other tests under it.
for variable in [name for name in os.environ if name.startswith("MATTEBRIDGE_")]:
    if variable != TEST_VARIABLE:
        del os.environ[variable]
# Most tests ask how frames travel, not how good a matte is: they get the model that needs no torch
# to load, hundreds of times. Those of the shipped default take this away again.
os.environ["MATTEBRIDGE_DEFAULT_MODEL"] = "difference"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under `pytest -n`, the longest files first; a plain `pytest` keeps its order."""
    if not hasattr(config, "workerinput"):
        return
    rank = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what lasts as long as the run.

    The tests and their modules are hundreds of thousands of objects. A full collection, which tests
    and the engine ask for, looked at all of them each time.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Bindings look for leaks at the end."""
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def _a_home_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    saved = {name: os.environ.get(name) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    os.environ.update(XDG_CONFIG_HOME=str(home / "config"), XDG_DATA_HOME=str(home / "data"))
    yield
    for name, value in saved.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def slow_run(pytestconfig: pytest.Config) -> bool:
    """Whether slow tests run as well: a loop that has two lengths then has the long one only."""
    return pytestconfig.option.markexpr != "not slow"


@pytest.fixture(scope="session")
def kill_turns(slow_run: bool) -> int:
    """Turns of a loop in which something is killed."""
    return KILL_TURNS if slow_run else 2


@pytest.fixture(scope="session")
def shared_daemon() -> Iterator[DaemonProcess]:
    """One daemon for the tests that only render; whoever breaks it needs one of their own."""
    with DaemonProcess() as daemon:
        daemon.wait_ready()
        yield daemon


@pytest.fixture
def start_daemon() -> Iterator[StartDaemon]:
    """A function that starts a daemon: `start_daemon(hooks="model=sleep:1", MATTEBRIDGE_X="1")`."""
    started: list[DaemonProcess] = []

    def start(**options: Any) -> DaemonProcess:
        daemon = DaemonProcess(**options)
        started.append(daemon)
        daemon.start()
        return daemon

    yield start
    for daemon in started:
        daemon.end()
