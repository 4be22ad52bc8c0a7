"""The plugin for Linux on ARM, run under qemu against a daemon of this machine: `make arm` first.

qemu runs the plugin's instructions and passes its system calls on to this kernel, so that sealed
memory, sockets and credentials are the real ones. It is no ARM machine: what depends on its memory
order is not seen.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fakes import ofx_build
from fakes.daemon_process import StartDaemon
from fakes.ofx_scene import scene
from fakes.places import ROOT, TESTS

PLACE = ROOT / "build" / "arm"
TARGET = "aarch64-linux-gnu.2.17"
LIMIT_S = 1200
DEPTHS = ("float32", "float16", "uint16", "uint8")


def _make_root() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_root", TESTS / "arm" / "make_root.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ARM = _make_root()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(LIMIT_S),
    pytest.mark.skipif(bool(ARM.why_not(PLACE)), reason=ARM.why_not(PLACE) or "it can be run"),
]


def _said(python: list[str], plugin: Path, folder: Path, pictures: Path) -> list[str]:
    done = subprocess.run(
        [*python, str(TESTS / "arm" / "host.py"), str(plugin), str(folder), str(pictures)],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


def test_the_plugin_for_arm_gives_the_pixels_of_this_machines(
    start_daemon: StartDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        ["make", "plugin", f"PLUGIN_TARGET={TARGET}"],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (plugin,) = (ROOT / "build" / "plugin" / TARGET).glob("*.bundle/Contents/*/MatteBridge.ofx")
    pictures = tmp_path / "pictures.npz"
    np.savez(pictures, **{name: np.stack(scene(dtype=np.dtype(name))) for name in DEPTHS})
    folder = start_daemon(light=True).folder
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", "/bin/false")
    processor, *on_arm = _said(ARM.python(PLACE), plugin, folder, pictures)
    assert processor == "aarch64"
    here, *expected = _said([sys.executable], ofx_build.plugin(""), folder, pictures)
    assert here == platform.machine()
    assert on_arm == expected
    frames = [line.split() for line in on_arm[: 3 * len(DEPTHS)]]
    assert {tuple(frame[2:5]) for frame in frames} == {("0", "None", "True")}
    assert len({frame[5] for frame in frames}) == len(frames)
    assert on_arm[-3].startswith("daemon ready, ")
    assert on_arm[-2:] == ["the daemon did not start: exit status 1", "[] 0"]
