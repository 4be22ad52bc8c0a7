"""Whether resolve/ fits the host: the interpreters that Fusion runs, and an empty installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakes.interpreters import SUPPORTED, packages, run
from fakes.places import ROOT

RESOLVE = ROOT / "resolve"


def test_under_a_python_too_old_the_menu_entry_says_so_in_one_line() -> None:
    launcher = str(RESOLVE / "menu_entry.py")
    code = (
        "import contextlib, io, json\nwords = io.StringIO()\n"
        "with contextlib.redirect_stdout(words):\n"
        f"    exec(open({launcher!r}).read(), {{'__name__': '__main__'}})\n"
        "print(json.dumps(words.getvalue()))"
    )
    said = run("3.7", code)
    assert said == "mattebridge: needs Python 3.9 or newer; choose one in Fusion's preferences\n"


EMPTY = """
import contextlib, io, json, sys, threading, types
sys.executable = "/nonexistent/fuscript"
for name in ("torch", "cv2", "OpenImageIO"):
    sys.modules[name] = None
sys.path.insert(0, {tests!r})
sys.modules["numpy"] = types.ModuleType("numpy")   # only the fake asks for it
from fakes.fusion_host import Comp
del sys.modules["numpy"]
comp = Comp(1, 2)
comp.ActiveTool = comp.make("Loader", "Plate")
before = comp.snapshot()
words = io.StringIO()
with contextlib.redirect_stdout(words):
    text = open({launcher!r}).read().replace("@FOLDER@", {resolve!r}).replace("@ACTION@", "main")
    exec(text, dict(__name__="__main__", comp=comp))
print(json.dumps([words.getvalue(), comp.snapshot() == before, threading.active_count()]))
"""


@pytest.mark.parametrize("version", SUPPORTED)
def test_with_no_package_at_all_the_script_loads_and_names_what_is_missing(version: str) -> None:
    code = EMPTY.format(
        tests=str(ROOT / "tests"), launcher=str(RESOLVE / "menu_entry.py"), resolve=str(RESOLVE)
    )
    words, unchanged, threads = run(version, code)
    assert words.startswith(f"mattebridge: mattebridge cannot be loaded here (Python {version}): ")
    assert "run `mattebridge install resolve`" in words
    assert words.count("\n") == 1
    assert (unchanged, threads) == (True, 1)


WHOLE = """
import json, sys, threading
sys.executable = "/nonexistent/fuscript"
for name in ("torch", "cv2", "OpenImageIO"):
    sys.modules[name] = None
from pathlib import Path
from fakes.fusion_host import Comp
from fakes.host_shot import make_shot
import mattebridge_fusion
folder = Path({folder!r})
shot = make_shot(folder, (1, 2))
for frame in (1, 2):
    (folder / f"clean.{{frame:04d}}.exr").write_bytes(Path(shot.clean_plate).read_bytes())
comp = Comp(1, 2, saved=str(folder / "shot.comp"))
comp.ActiveTool = comp.make("Loader", "Plate", Clip=shot.plate.replace("%V", "main") % 1)
comp.make("Loader", "CleanPlate", Clip=str(folder / "clean.0001.exr"))
comp.answer = lambda asked: dict(asked, model="difference")
status = mattebridge_fusion.main(None, comp, None)
alpha = comp.FindTool("MatteBridge")._picture(2).channels["rgba.alpha"]
left = [path.name for path in folder.glob("mattebridge-*")]
print(json.dumps([status, float(alpha.mean()), threading.active_count(), left]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", SUPPORTED)
def test_a_range_is_matted_under_every_interpreter(
    version: str, tmp_path: Path, shared_daemon: Any
) -> None:
    paths = [ROOT / "bridge", ROOT / "tests", RESOLVE, packages(version)]
    status, mean, threads, left = run(
        version, WHOLE.format(folder=str(tmp_path)), *paths,
        MATTEBRIDGE_RUNTIME_DIR=str(shared_daemon.folder), MATTEBRIDGE_SCRATCH=str(tmp_path),
    )  # fmt: skip
    assert (status, threads, left) == (0, 1, [])
    assert 0.05 < mean < 0.5
