"""The rooms of the house: imports point downward, no file is in a circle, hosts load little."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from fakes.places import BRIDGE, ROOT

# The folders and loose files of the package from the ground up. A file imports from its own folder
# and from those before it. A new folder is put into its place here (see CONTRIBUTING.md).
ORDER = (
    "version",
    "errors",
    "color",
    "checkpoint",
    "wire",
    "whole_files",
    "interpreter",
    "client",
    "hosts",  # hosts stop here
    "ocio",
    "image_io",
    "image_batch",
    "models",
    "clean_plate",
    "engine",
    "daemon",
    "shot",
    "clips",
    "report",
    "evaluate",
    "mattebridge_sample",
    "commands",
    "cli",
    "__main__",
)
HOST_HALF = ORDER[: ORDER.index("hosts") + 1]
HOST_HALF_MAY_IMPORT = {"numpy", "zmq", "msgpack"}
MOST_LOOSE_FILES = 10

Imports = Mapping[str, set[str]]


def _files(folder: Path, package: str) -> dict[str, Path]:
    """The modules of a package by name; a folder's `__init__.py` has the folder's name."""
    found = {}
    for path in sorted((folder / package).rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imported(tree: ast.AST) -> Iterator[str]:
    """Every module or name that a file imports: in functions and for types alone, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _arrows(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Which of the files each file imports."""
    arrows = {}
    for module, path in files.items():
        arrows[module] = set()
        for name in _imported(ast.parse(path.read_text("utf-8"))):
            # A name of a module is an import of the module.
            target = name if name in files else name.rpartition(".")[0]
            if target in files and target != module:
                arrows[module].add(target)
    return arrows


def _circles(arrows: Imports) -> list[list[str]]:
    """The groups of files that import one another, straight or by way of others (Tarjan 1972)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        path.append(module)
        for other in sorted(arrows[module]):
            if other not in numbers:
                visit(other)
            if other in path:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == numbers[module]:
            group = path[path.index(module) :]
            del path[path.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in arrows:
        if module not in numbers:
            visit(module)
    return found


def _room(module: str) -> str:
    """The folder or loose file of the package that a module belongs to."""
    package, *rest = module.split(".")
    if package != "mattebridge":
        return package
    return rest[0] if rest else "version"


def _upward(arrows: Imports, order: Iterable[str]) -> list[str]:
    """The imports that lead from a room to one above it."""
    place = {room: number for number, room in enumerate(order)}
    return [
        f"{module} imports {other}"
        for module, others in arrows.items()
        for other in sorted(others)
        if place[_room(other)] > place[_room(module)]
    ]


@pytest.fixture(scope="module")
def package() -> dict[str, Path]:
    return _files(BRIDGE, "mattebridge") | _files(BRIDGE, "mattebridge_sample")


def test_every_file_has_a_room(package: Mapping[str, Path]) -> None:
    assert {_room(module) for module in package} <= set(ORDER)


def test_imports_between_folders_point_downward_only(package: Mapping[str, Path]) -> None:
    assert not _upward(_arrows(package), ORDER)


def test_no_two_files_import_each_other(package: Mapping[str, Path]) -> None:
    assert not _circles(_arrows(package))


def test_no_two_files_of_the_training_import_each_other() -> None:
    assert not _circles(_arrows(_files(ROOT, "training")))


def test_these_tests_see_an_upward_import_and_a_circle(tmp_path: Path) -> None:
    """Also those of types alone, of functions, and over three files."""
    texts = {
        "wire/__init__.py": "",
        "wire/low.py": "def f():\n    from mattebridge.engine import high\n",
        "wire/types.py": "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from mattebridge.engine.high import High\n",
        "engine/__init__.py": "",
        "engine/high.py": "from mattebridge.engine.other import Other\n",
        "engine/other.py": "import mattebridge.engine.third\n",
        "engine/third.py": "def f():\n    from mattebridge.engine import high\n",
        "engine/alone.py": "from mattebridge.wire import low\n",
    }
    for name, text in texts.items():
        path = tmp_path / "mattebridge" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    arrows = _arrows(_files(tmp_path, "mattebridge"))
    assert _upward(arrows, ORDER) == [
        "mattebridge.wire.low imports mattebridge.engine.high",
        "mattebridge.wire.types imports mattebridge.engine.high",
    ]
    names = ("high", "other", "third")
    assert _circles(arrows) == [[f"mattebridge.engine.{name}" for name in names]]


def test_few_files_stand_beside_the_folders() -> None:
    loose = sorted(path.name for path in (BRIDGE / "mattebridge").glob("*.py"))
    assert len(loose) <= MOST_LOOSE_FILES, loose


def test_the_host_half_imports_numpy_pyzmq_and_msgpack_at_most(
    package: Mapping[str, Path],
) -> None:
    foreign = {}
    for module, path in package.items():
        if _room(module) in HOST_HALF:
            tops = {name.split(".")[0] for name in _imported(ast.parse(path.read_text("utf-8")))}
            found = tops - {"mattebridge"} - sys.stdlib_module_names - HOST_HALF_MAY_IMPORT
            if found:
                foreign[module] = found
    assert not foreign


def test_importing_the_client_loads_none_of_the_daemons_half() -> None:
    code = "import sys, mattebridge.client; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert "mattebridge.client.session" in loaded
    assert not loaded & {"torch", "cv2", "OpenImageIO", "scipy", "fileseq"}
    assert {_room(name) for name in loaded if name.split(".")[0] == "mattebridge"} <= set(HOST_HALF)
