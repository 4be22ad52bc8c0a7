"""The rooms of the house: imports point downward, and a host loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mattebridge

PACKAGE = Path(mattebridge.__file__).parent

# By module, or by folder for everything in it. A new module is put into its room here.
LEVELS = {
    "version": 0,
    "errors": 0,
    "color": 0,
    "oslayer": 0,
    "params": 1,
    "protocol": 1,
    "slots": 2,
    "transport": 2,
    "session": 3,
    "autostart": 3,
    "client": 3,
    "hosts": 3,
    "whole_files": 4,
    "samples": 4,
    "image_io": 4,
    "pixel_formats": 4,
    "bounded_jobs": 4,
    "image_batch": 4,
    "sequences": 4,
    "video_in": 4,
    "video_out": 4,
    "pictures": 4,
    "timecodes": 4,
    "models": 4,
    "alignment": 4,
    "clean_plate": 4,
    "engine_in": 5,
    "engine_out": 5,
    "engine": 5,
    "metrics": 6,
    "evaluation": 6,
    "evaluation_sheet": 6,
    "contact_sheet": 6,
    "progress": 6,
    "ledger": 6,
    "outputs": 6,
    "video_outputs": 6,
    "job": 6,
    "batch": 6,
    "sample": 6,
    "demo": 6,
    "daemon": 6,
    "status_text": 7,
    "shared_options": 7,
    "install": 7,
    "models_command": 7,
    "plates_command": 7,
    "evaluation_command": 7,
    "report_shot": 7,
    "report_pictures": 7,
    "report_page": 7,
    "report_command": 7,
    "clean_plate_command": 7,
    "farm_command": 7,
    "cli": 7,
    "__main__": 7,
}
HOST_HALF = 3
HOST_HALF_MAY_IMPORT = {"numpy", "zmq", "msgpack"}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if name != "__init__":
            yield name.removesuffix(".__init__"), ast.parse(path.read_text("utf-8"))


def _level(module: str) -> int:
    room = module.split(".")[0]
    assert room in LEVELS, f"{module} has no room yet: put it into LEVELS (see CONTRIBUTING.md)"
    return LEVELS[room]


def _imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported when code runs, inside functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from _imports(other)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from _imports(node)


def test_imports_point_downward_only() -> None:
    upward = []
    for module, tree in _modules():
        for imported in _imports(tree):
            parts = imported.split(".")
            if parts[0] != "mattebridge" or len(parts) == 1:
                continue
            if _level(parts[1]) > _level(module):
                upward.append(f"{module} imports {imported}")
    assert not upward


def test_the_host_half_imports_numpy_pyzmq_and_msgpack_at_most() -> None:
    foreign = {}
    for module, tree in _modules():
        if _level(module) > HOST_HALF:
            continue
        tops = {imported.split(".")[0] for imported in _imports(tree)} - {"mattebridge"}
        found = tops - sys.stdlib_module_names - HOST_HALF_MAY_IMPORT
        if found:
            foreign[module] = found
    assert not foreign


def test_importing_the_client_loads_none_of_the_daemons_half() -> None:
    code = "import sys, mattebridge.client; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert "mattebridge.session" in loaded
    assert not loaded & {"torch", "cv2", "OpenImageIO", "scipy", "subprocess.run"}
    ours = {name.split(".")[1] for name in loaded if name.startswith("mattebridge.")}
    assert max(_level(name) for name in ours) == HOST_HALF
