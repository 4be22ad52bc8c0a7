"""The plugin's own tests again, with builds that watch memory, leaks and races.

The sanitizers' libraries are preloaded into a pytest of its own; the interpreter and its libraries
are not built for them, so what they report counts where a frame of the plugin is in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import ofx_build

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
OURS = re.compile(r"plugin_shim|MatteBridge\.ofx")
FILES = {
    "address": ["pixels", "life", "hostile", "describe", "start_daemon"],
    "thread": ["life"],
}
# Under TSan everything takes ten times as long, and these look at the process or the clock.
CHOICE = {"address": "not forked", "thread": "threads or instance or abort or parked or lost"}
RUN_S = 1500

LEAKY = """
#include <cstdlib>
#include <thread>
static int shared;
static void *volatile kept;
extern "C" __attribute__((visibility("default"))) void misbehave() {
  for (int times = 0; times < 100; ++times) kept = std::malloc(4711);
  kept = nullptr;
  std::thread other([] { ++shared; });
  ++shared;
  other.join();
}
"""


def preload(sanitizer: str) -> str:
    """The libraries to load before everything else; skips where there are none."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: sanitizer builds need it")
    found = []
    for name in (f"lib{sanitizer[0]}san.so", "libstdc++.so"):
        path = subprocess.run(
            ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        if not os.path.isabs(path):
            pytest.skip(f"g++ has no {name}")
        found.append(path)
    return " ".join(found)


def watched(sanitizer: str, logs: Path, *command: str) -> tuple[int, str, list[str]]:
    """Run Python under a sanitizer: exit status, words, and each report that was written."""
    libraries = preload(sanitizer)
    options = f"log_path={logs / 'report'}:exitcode=0:detect_leaks=1:malloc_context_size=40"
    environment = {
        **os.environ,
        "LD_PRELOAD": libraries,
        "ASAN_OPTIONS": options,
        "TSAN_OPTIONS": options,
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OFX_TEST_SANITIZER": sanitizer,
        "OMP_NUM_THREADS": "1",
        "PYTHONMALLOC": "malloc",
    }
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, timeout=RUN_S
    )
    reports: list[str] = []
    for path in logs.glob("report*"):
        text = path.read_text("utf-8", "replace")
        reports += re.split(r"\n\n(?=Direct leak|Indirect leak)|={18}\n", text)
    return done.returncode, done.stdout[-3000:] + done.stderr[-3000:], reports


@pytest.mark.timeout(RUN_S + 60)
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_the_plugins_tests_pass_without_a_report_of_ours(sanitizer: str, tmp_path: Path) -> None:
    files = [str(HERE / f"test_ofx_{name}.py") for name in FILES[sanitizer]]
    status, words, reports = watched(
        sanitizer, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300",
        "-k", CHOICE[sanitizer], *files,
    )  # fmt: skip
    ours = [report for report in reports if OURS.search(report)]
    assert not ours, ours[0][:4000]
    assert status == 0, words


@pytest.mark.parametrize(
    ("sanitizer", "word"), [("address", "Direct leak of 4"), ("thread", "data race")]
)
def test_the_watch_sees_what_it_is_there_for(sanitizer: str, word: str, tmp_path: Path) -> None:
    preload(sanitizer)
    (tmp_path / "plugin_shim").mkdir()
    source, binary = tmp_path / "plugin_shim" / "leaky.cpp", tmp_path / "MatteBridge.ofx"
    source.write_text(LEAKY)
    ofx_build._run(["g++", "-g", "-fPIC", "-shared", f"-fsanitize={sanitizer}",
                    str(source), "-o", str(binary)])  # fmt: skip
    status, words, reports = watched(
        sanitizer, tmp_path, "-c", f"import ctypes; ctypes.CDLL({str(binary)!r}).misbehave()"
    )
    assert status == 0, words
    assert [report for report in reports if OURS.search(report) and word in report], words
