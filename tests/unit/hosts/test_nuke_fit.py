"""Whether nuke/ fits the host: the stubs, the interpreters it embeds, and an empty installation."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from fakes import nuke_host
from fakes.interpreters import SUPPORTED, run
from fakes.nuke_host import NukeHost
from fakes.places import ROOT
from fakes.systems import linux_alone

# Newer than the stubs (Nuke 13.2), or a pattern of theirs that says nothing.
STUBS_DO_NOT_KNOW: set[str] = set()


# -------------------------------------------------------------------------------------- the stubs


def _stubs() -> Path:
    spec = importlib.util.find_spec("mypy")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parents[1] / "nuke-stubs"
    if not folder.is_dir():
        pytest.skip("types-nuke is not installed")
    return folder


def _stub_names() -> tuple[dict[str, set[str]], dict[str, Optional[set[str]]]]:
    """Names of each class's methods (inherited too), and the parameters of each function."""
    classes: dict[str, set[str]] = {}
    functions: dict[str, Optional[set[str]]] = {}
    for path in _stubs().glob("*.pyi"):
        for item in ast.parse(path.read_text()).body:
            if isinstance(item, ast.ClassDef):
                own = {f.name for f in item.body if isinstance(f, ast.FunctionDef)}
                for base in item.bases:
                    own |= classes.get(getattr(base, "id", ""), set())
                classes[item.name] = own
            elif isinstance(item, ast.FunctionDef):
                named = {a.arg for a in (*item.args.args, *item.args.kwonlyargs)}
                known = functions.get(item.name, set())
                free = item.args.vararg is not None or known is None
                functions[item.name] = None if free else named | (known or set())
            elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                functions.setdefault(item.target.id, None)
    return classes, functions


@linux_alone("it reads source against stubs, and nothing of the system")
def test_every_name_of_the_fake_stands_in_the_stubs_of_nuke() -> None:
    classes, functions = _stub_names()
    unknown = []
    for name, value in vars(NukeHost(gui=True).module).items():
        if name.startswith("__"):
            continue
        if inspect.isclass(value):
            methods = {m for m in dir(value) if not m.startswith("_")} - {"percent", "asked"}
            unknown += [f"{name}.{m}" for m in methods - classes.get(name, set())]
            unknown += [] if name in classes else [name]
        elif name not in functions:
            unknown.append(name)
        elif callable(value) and functions[name] is not None:
            given = set(inspect.signature(value).parameters)
            unknown += [f"{name}({p})" for p in given - (functions[name] or set())]
    assert set(unknown) == STUBS_DO_NOT_KNOW


@linux_alone("it reads source against stubs, and nothing of the system")
def test_every_call_of_the_node_is_one_that_the_stubs_know() -> None:
    classes, functions = _stub_names()
    tree = ast.parse((ROOT / "nuke" / "mattebridge_nuke.py").read_text())
    used = {
        item.attr
        for item in ast.walk(tree)
        if isinstance(item, ast.Attribute)
        and isinstance(item.value, ast.Name)
        and item.value.id == "nuke"
    }
    assert used - set(functions) - set(classes) == set()


def test_the_fake_refuses_what_nuke_refuses() -> None:
    host = NukeHost()
    node = host.module.nodes.Read(file="a.exr")
    with pytest.raises(NameError):
        node["fiel"]
    with pytest.raises(RuntimeError, match="Unknown command"):
        host.module.nodes.Reed()
    with pytest.raises(TypeError):
        node["on_error"].setValue("shrug")
    with pytest.raises(RuntimeError, match="not executable"):
        host.module.execute(node, 1, 1)
    with pytest.raises(AssertionError, match="would hang"):
        host.module.executeInMainThreadWithResult(print)
    host.module.delete(node)
    with pytest.raises(ValueError, match="not attached"):
        node.name()


# ------------------------------------------------------------------------------- the interpreters


def test_nuke_is_no_module_here() -> None:
    assert not (ROOT / "nuke" / "__init__.py").exists()
    # In an interpreter of its own: `python -m pytest` puts the repository on its path.
    code = "import importlib.util as u; import mattebridge; print(u.find_spec('nuke'))"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/",
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'bridge'}{os.pathsep}{ROOT / 'tests'}"},
    )  # fmt: skip
    assert said.stdout == "None\n"


def test_the_start_files_parse_and_report_on_nuke_13() -> None:
    code = (
        "import sys, types, json, io, contextlib; sys.modules['nuke'] = types.ModuleType('nuke')\n"
        "words = io.StringIO()\n"
        "with contextlib.redirect_stdout(words):\n"
        "    for name in ('init', 'menu'):\n"
        f"        exec(open({str(ROOT / 'nuke')!r} + '/' + name + '.py').read(), {{}})\n"
        "print(json.dumps(words.getvalue()))"
    )
    said = run("3.7", code, ROOT / "nuke").splitlines()
    assert said[0] == "mattebridge: not loaded: needs Nuke 14 or newer (Python 3.9)"
    assert len(said) == 2


EMPTY = """
import json, sys, threading
sys.executable = "/nonexistent/Nuke"
sys.path.insert(0, {tests!r})
for name in ("torch", "cv2", "OpenImageIO"):
    sys.modules[name] = None
import types; sys.modules["numpy"] = types.ModuleType("numpy")   # only the fake asks for it
from fakes.nuke_host import NukeHost
from pathlib import Path
del sys.modules["numpy"]
host = NukeHost(gui=True)
with host.running(Path({nuke!r})):
    import mattebridge_nuke
    node = mattebridge_nuke.create()
    node.setInput(0, host.module.nodes.Read())
    host.press(node, "matte_range")
    print(json.dumps([node["status"].value(), len(node.knobs()), threading.active_count()]))
"""


@pytest.mark.parametrize("version", SUPPORTED)
def test_with_no_package_at_all_the_node_opens_and_names_what_is_missing(version: str) -> None:
    code = EMPTY.format(tests=str(ROOT / "tests"), nuke=str(ROOT / "nuke"))
    words, knobs, threads = run(version, "import sys; sys.flags; " + code.strip())
    assert words.startswith(f"mattebridge cannot be loaded in this Nuke (Python {version}): ")
    assert "No module named" in words
    assert words.endswith("run `mattebridge install nuke`")
    assert (knobs > 25, threads) == (True, 1)


@linux_alone("it starts the interpreter without the packages that Wine has on its path")
def test_loading_the_node_starts_no_process_and_loads_nothing_heavy() -> None:
    code = (
        "import json, sys, subprocess, os\n"
        f"sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from fakes.nuke_host import NukeHost\nfrom pathlib import Path\n"
        "before = set(sys.modules)\n"
        "subprocess.Popen.__init__ = os.fork = None\n"
        f"host = NukeHost(gui=True)\nwith host.running(Path({str(ROOT / 'nuke')!r})):\n"
        "    import mattebridge_nuke; mattebridge_nuke.create()\n"
        "    new = set(sys.modules) - before\n"
        "heavy = ('mattebridge.', 'zmq', 'numpy', 'torch')\n"
        "print(json.dumps(sorted(m for m in new if m.startswith(heavy))))"
    )
    assert run(None, code) == []


def test_the_node_keeps_its_knob_names() -> None:
    """They stand in saved scripts: this list only ever grows."""
    host = NukeHost()
    with host.running(ROOT / "nuke"):
        import mattebridge_nuke

        names = [knob.name() for knob in mattebridge_nuke._knobs()]
    assert names == [
        "mattebridge", "status", "matte_frame", "matte_range", "cancel", "clear", "start_daemon",
        "open_status", "daemon_found", "first", "last", "increment", "set_input_range",
        "model", "route", "colorspace",
        "space", "choose_space", "foreground", "alignment", "match_exposure", "premultiply",
        "plate_alpha", "nonfinite",
        "precision", "hint_channel", "held_clean_plate", "overscan", "settings",
        "clean_up", "hint_sharpen", "hint_sharpen_dilation", "hint_blur_px", "source_passthrough",
        "edge_erode_px", "edge_blur_px", "auto_despeckle", "despeckle_size", "despeckle_dilation",
        "despeckle_blur", "despeckle_threshold", "despeckle_hysteresis", "despill_strength",
        "spill_method", "screen", "advanced",
        "store", "scratch", "timeout_s", "instance", "bridge_version", "node_uid", "matted_from",
    ]  # fmt: skip


def test_every_knob_has_a_tooltip_and_the_menu_makes_the_node() -> None:
    host = NukeHost(gui=True)
    with host.running(ROOT / "nuke"):
        import mattebridge_nuke

        for knob in mattebridge_nuke._knobs():
            assert knob.tooltip() or isinstance(knob, nuke_host.Tab_Knob), knob.name()
        exec(host.menu_entries["MatteBridge"], {})
        assert host.module.toNode("MatteBridge1") is not None
