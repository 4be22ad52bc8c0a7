"""The Windows half, run by a Windows Python under Wine. `make test-windows` builds what it needs.

Wine is not Windows: what this proves is said in README, and what it cannot prove.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fakes.places import BRIDGE, ROOT, TESTS

PLACE = ROOT / "build" / "wine"
INSIDE = TESTS / "windows" / "inside"
# Tests of every system that need nothing which this Python lacks.
SHARED = (
    "unit/wire/test_protocol.py",
    "unit/client/test_images.py",
    "unit/test_errors.py",
    "unit/test_color.py",
)
LIMIT_S = 600  # it takes one to three minutes on two busy cores

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(LIMIT_S + 30),
    pytest.mark.skipif(
        not (PLACE / "ready").exists(),
        reason="there is no Windows to test in: `make test-windows` builds one, and needs Wine",
    ),
]


def _prefix() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_prefix", TESTS / "windows/make_prefix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(*arguments: object, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    """One run of the Windows Python; everything of this prefix has ended when it returns."""
    prefix = _prefix()
    environment = prefix.environment(PLACE, BRIDGE, TESTS)
    try:
        return subprocess.run(
            [*prefix.python(PLACE), *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
            check=False,
        )
    finally:
        subprocess.run(["wineserver", "-k"], env=environment, timeout=60, check=False)


def test_the_client_imports_on_windows_and_says_that_there_is_no_daemon_yet() -> None:
    code = (
        "import mattebridge.client as c\n"
        "try: c.MatteClient.connect()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = _run("-c", code)
    assert done.returncode == 0, done.stdout
    assert "UnsafeRuntimeError mattebridge does not run on win32 yet" in done.stdout


@pytest.mark.parametrize("tests", [(INSIDE,), tuple(TESTS / name for name in SHARED)],
                         ids=["windows", "every system"])  # fmt: skip
def test_the_tests_of_windows_pass_there(tests: tuple[Path, ...]) -> None:
    done = _run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "--noconftest",
        "-c", f"Z:{TESTS / 'windows' / 'pytest.ini'}", "--rootdir", f"Z:{TESTS}",
        *(f"Z:{path}" for path in tests),
    )  # fmt: skip
    print(done.stdout, file=sys.stderr)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "skipped" not in done.stdout
