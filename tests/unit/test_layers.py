"""The house stands: imports point down, and a host loads no more than it must."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "bridge" / "mattebridge"

# CONTRIBUTING's table. A module may import from its own level and from those below.
LEVELS = {
    0: ("errors", "color", "oslayer", "version"),
    1: ("params", "protocol"),
    2: ("slots", "transport"),
    3: ("session", "autostart", "client", "hosts"),
    4: (
        "whole_files", "image_io", "sequences", "models", "alignment", "metrics", "clean_plate",
    ),
    5: ("engine_in", "engine_out", "engine"),
    6: (
        "daemon", "outputs", "ledger", "progress", "job", "batch", "sample", "contact_sheet",
        "demo", "status_text", "install", "clean_plate_command", "models_command",
    ),
    7: ("cli", "__main__"),
}  # fmt: skip
LEVEL_OF = {name: level for level, names in LEVELS.items() for name in names}
FORBIDDEN_IN_HOSTS = ("torch", "cv2", "OpenImageIO", "fileseq", "safetensors")


def _modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


HOST_HALF = [path for path in _modules() if LEVEL_OF.get(_room(path), 9) <= 3]


def _imported(path: Path) -> set[str]:
    """Rooms of ours that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mattebridge"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {parts[1] for parts in names if parts[0] == "mattebridge" and len(parts) > 1}
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert _room(path) in LEVEL_OF, "give the new module its level here and in CONTRIBUTING.md"
    level = LEVEL_OF[_room(path)]
    for name in _imported(path):
        assert LEVEL_OF[name] <= level, f"{path.name} (level {level}) imports {name}"


@pytest.mark.parametrize("path", HOST_HALF, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_half_that_hosts_load_names_nothing_heavy(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        assert not {module.split(".")[0] for module in modules} & set(FORBIDDEN_IN_HOSTS)


BLOCKED = f"""
import sys
for name in {FORBIDDEN_IN_HOSTS!r}:
    sys.modules[name] = None
import mattebridge.client
assert "multiprocessing" not in sys.modules
"""


def test_the_client_imports_with_everything_heavy_blocked() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", BLOCKED], check=True)


LIGHT = """
import sys
import mattebridge.daemon.front
heavy = {"torch", "cv2", "numpy", "OpenImageIO"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_front_loads_neither_numpy_nor_torch() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", LIGHT], check=True)


def test_nuke_stays_an_import_error() -> None:
    asked = [sys.executable, "-c", "import nuke"]
    answer = subprocess.run(asked, capture_output=True, check=False, cwd="/")
    assert b"ModuleNotFoundError" in answer.stderr
    assert not (PACKAGE.parents[1] / "nuke" / "__init__.py").exists()
