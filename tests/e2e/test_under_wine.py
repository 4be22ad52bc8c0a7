"""The Windows half, run by a Windows Python under Wine. `make test-windows` builds what it needs.

Wine is not Windows: what this proves is said in README, and what it cannot prove.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import ofx_build
from fakes.places import BRIDGE, ROOT, TESTS
from windows import digests, jobs, make_prefix
from windows.running import Daemon

PLACE = ROOT / "build" / "wine"
INSIDE = TESTS / "windows" / "inside"
# An engine of numpy alone: torch, which no test needs there, is not laid.
WITHOUT_TORCH = TESTS / "windows" / "without_torch"
FRAMES = 3
# Unit tests of every system, whole folders, but for the files that say why they stay on Linux.
SHARED = ("unit/wire", "unit/client", "unit/hosts", "unit/shot", "unit/test_errors.py",
          "unit/test_color.py")  # fmt: skip
LINUX_ALONE = {
    "unit/wire/test_control_groups.py": "control groups are Linux's",
    "unit/wire/test_macos.py": "the layer of macOS imports what Windows lacks",
    "unit/wire/test_oslayer.py": "the other layers; test_layer.py asks that of Windows",
    "unit/wire/test_labels.py": "it reads source, for which it loads torch",
    "unit/client/test_last_replies.py": "its daemon speaks AF_UNIX and ZMTP",
    "unit/hosts/test_resolve_fit.py": "it runs other Pythons, which this Windows lacks",
}
# The reasons for which a single test may be skipped there.
MAY_SKIP = ("Linux alone: ", "there is no Python ")
SERVER, SHARE = "mattebridge-test", "shots"
LIMIT_S = 2400  # each takes one to six minutes on two busy cores; only a hang takes so long

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * LIMIT_S),  # another test may be building the plugin
    pytest.mark.skipif(
        not (PLACE / "ready").exists(),
        reason="there is no Windows to test in: `make test-windows` builds one, and needs Wine",
    ),
]


PLUGIN_TARGET = "x86_64-windows-gnu"


def _run(
    *arguments: object, folders: tuple[Path, ...], variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """One run of the Windows Python; everything of this prefix has ended when it returns."""
    environment = {**make_prefix.environment(PLACE, *folders, BRIDGE, TESTS), **variables}
    try:
        return subprocess.run(
            [*make_prefix.python(PLACE), *map(str, arguments)],
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
        "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:faulthandler",
        "-p", "fakes.untimed", "--noconftest",
        "-c", f"Z:{TESTS / 'windows' / 'pytest.ini'}", "--rootdir", f"Z:{TESTS}",
        *(f"Z:{path}" for path in tests),
        folders=folders, variables=variables,
    )  # fmt: skip
    print(done.stdout, file=sys.stderr)
    assert done.returncode == 0, done.stdout[-4000:]
    skips = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert all(any(reason in line for reason in MAY_SKIP) for line in skips), skips


def _shared() -> list[Path]:
    found = [
        path
        for name in SHARED
        for path in (
            [TESTS / name] if name.endswith(".py") else sorted((TESTS / name).glob("*.py"))
        )
    ]
    named = {TESTS / name for name in LINUX_ALONE}
    assert named <= set(found)
    return [path for path in found if path.name.startswith("test_") and path not in named]


def test_the_tests_of_windows_and_the_unit_tests_of_every_system_pass_there() -> None:
    """In one run: a Python takes long to start under Wine, and longer to load its packages."""
    inside = [INSIDE / f"test_{name}.py" for name in ("layer", "files", "paths")]
    _run_tests(*inside, *_shared())


def test_a_daemon_and_its_clients_exchange_frames_there() -> None:
    """The worker's engine is one of numpy alone; the frames have the bytes that it gives here."""
    expected = ",".join(digests.expected(number) for number in range(FRAMES))
    files = [INSIDE / f"test_{name}.py" for name in ("daemon", "abuse")]
    _run_tests(*files, folders=(WITHOUT_TORCH,), MATTEBRIDGE_TEST_DIGESTS=expected)


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
    with _places(tmp_path):
        _run_tests(
            INSIDE / "test_commands.py",
            folders=(WITHOUT_TORCH,),
            MATTEBRIDGE_TEST_SHOT=f"Z:{shot}",
            MATTEBRIDGE_TEST_RESULTS=f"Z:{there}",
            MATTEBRIDGE_TEST_DRIVE="X:\\",
            MATTEBRIDGE_TEST_SERVER=rf"\\{SERVER}\{SHARE}" + "\\",
        )
    expected = jobs.pictures(here)
    assert len(expected) == len(jobs.FRAMES) * (3 + 3 + 2 + 2 + 2 + 2)
    _same(jobs.pictures(there), expected)
    for place in ("drive", "server"):
        _same(jobs.pictures(tmp_path / place / "exr"), jobs.pictures(here / "exr"))


def _same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, pixels in expected.items():
        assert found[name].dtype == pixels.dtype, name
        assert np.array_equal(found[name], pixels), name


@contextlib.contextmanager
def _places(folder: Path) -> Iterator[None]:
    """A drive X: and a server's share, which Wine looks up in its prefix, for this folder."""
    devices = PLACE / "prefix" / "dosdevices"
    drive, share = devices / "x:", devices / "unc" / SERVER / SHARE
    share.parent.mkdir(parents=True, exist_ok=True)
    for link in (drive, share):
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
    try:
        yield
    finally:
        for link in (drive, share):
            link.unlink()


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
