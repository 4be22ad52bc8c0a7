"""The Windows half, run by a Windows Python under Wine. `make test-windows` builds what it needs.

Wine is not Windows: what this proves is said in README, and what it cannot prove.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fakes import ofx_build
from fakes.places import BRIDGE, ROOT, TESTS
from windows import digests, jobs
from windows.running import Daemon

PLACE = ROOT / "build" / "wine"
INSIDE = TESTS / "windows" / "inside"
# An engine of numpy alone: torch loads for minutes under Wine.
WITHOUT_TORCH = TESTS / "windows" / "without_torch"
FRAMES = 3
# Tests of every system that need nothing which this Python lacks.
SHARED = (
    "unit/wire/test_protocol.py",
    "unit/client/test_images.py",
    "unit/test_errors.py",
    "unit/test_color.py",
)
LIMIT_S = 1200  # each takes one to six minutes on two busy cores

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * LIMIT_S),  # another test may be building the plugin
    pytest.mark.skipif(
        not (PLACE / "ready").exists(),
        reason="there is no Windows to test in: `make test-windows` builds one, and needs Wine",
    ),
]


PLUGIN_TARGET = "x86_64-windows-gnu"


def _prefix() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_prefix", TESTS / "windows/make_prefix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(
    *arguments: object, folders: tuple[Path, ...], variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """One run of the Windows Python; everything of this prefix has ended when it returns."""
    prefix = _prefix()
    environment = {**prefix.environment(PLACE, *folders, BRIDGE, TESTS), **variables}
    try:
        return subprocess.run(
            [*prefix.python(PLACE), *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",  # what is no letter of the console's code page
            timeout=LIMIT_S,
            check=False,
        )
    finally:
        subprocess.run(["wineserver", "-k"], env=environment, timeout=60, check=False)


def _run_tests(*tests: Path, folders: tuple[Path, ...] = (), **variables: str) -> None:
    done = _run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "--noconftest",
        "-c", f"Z:{TESTS / 'windows' / 'pytest.ini'}", "--rootdir", f"Z:{TESTS}",
        *(f"Z:{path}" for path in tests),
        folders=folders, variables=variables,
    )  # fmt: skip
    print(done.stdout, file=sys.stderr)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "skipped" not in done.stdout


@pytest.mark.parametrize(
    "tests",
    [
        tuple(INSIDE / f"test_{name}.py" for name in ("layer", "files", "paths")),
        tuple(TESTS / name for name in SHARED),
    ],
    ids=["windows", "every system"],
)
def test_the_tests_of_windows_pass_there(tests: tuple[Path, ...]) -> None:
    _run_tests(*tests)


def test_a_daemon_and_its_clients_exchange_frames_there() -> None:
    """The worker's engine is one of numpy alone; the frames have the bytes that it gives here."""
    expected = ",".join(digests.expected(number) for number in range(FRAMES))
    _run_tests(
        INSIDE / "test_daemon.py", folders=(WITHOUT_TORCH,), MATTEBRIDGE_TEST_DIGESTS=expected
    )


def test_matte_and_clips_write_there_the_pictures_that_they_write_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EXR, PNG and video, of the same shot: equal names, and equal samples in every picture."""
    shot, here, there = (tmp_path / name for name in ("Été shot", "here", "there"))
    jobs.write_shot(shot)
    with monkeypatch.context() as environment:
        environment.setenv("PYTHONPATH", str(WITHOUT_TORCH))
        daemon = Daemon(tmp_path / "run" / "v1")
        for command in jobs.commands(shot, here).values():
            running = ["--instance", str(daemon.folder), "--no-spawn", "--progress", "plain"]
            done = subprocess.run(
                [sys.executable, "-m", "mattebridge", *command, *running],
                stdin=subprocess.DEVNULL,
                timeout=LIMIT_S,
                check=False,
            )
            assert done.returncode == 0
        daemon.kill()
    _run_tests(
        INSIDE / "test_commands.py",
        folders=(WITHOUT_TORCH,),
        MATTEBRIDGE_TEST_SHOT=f"Z:{shot}",
        MATTEBRIDGE_TEST_RESULTS=f"Z:{there}",
    )
    expected, found = jobs.pictures(here), jobs.pictures(there)
    assert len(expected) == len(jobs.FRAMES) * (3 + 2 + 2 + 2)
    assert found.keys() == expected.keys()
    for name, pixels in expected.items():
        assert found[name].dtype == pixels.dtype, name
        assert np.array_equal(found[name], pixels), name


def _plugin() -> Path:
    """The plugin for Windows, built by the compiler that `make plugin` brings."""
    with ofx_build.building_a_release():
        done = subprocess.run(
            ["make", "plugin", f"PLUGIN_TARGET={PLUGIN_TARGET}"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    (binary,) = (ROOT / "build" / "plugin" / PLUGIN_TARGET).glob("*.bundle/Contents/Win64/*.ofx")
    return binary


def test_the_plugin_renders_frames_in_a_host_there() -> None:
    """As the daemon's; the host is the one that tests the plugin on Linux."""
    expected = ",".join(digests.expected(number) for number in range(FRAMES))
    _run_tests(
        INSIDE / "test_plugin.py",
        folders=(WITHOUT_TORCH,),
        MATTEBRIDGE_TEST_DIGESTS=expected,
        MATTEBRIDGE_TEST_PLUGIN=f"Z:{_plugin()}",
    )


def test_the_plugins_button_starts_a_daemon_there() -> None:
    _run_tests(
        INSIDE / "test_start_daemon.py",
        folders=(WITHOUT_TORCH,),
        MATTEBRIDGE_TEST_PLUGIN=f"Z:{_plugin()}",
    )


def test_the_service_is_a_daemon_at_logon_there() -> None:
    _run_tests(INSIDE / "test_service.py", folders=(WITHOUT_TORCH,))
