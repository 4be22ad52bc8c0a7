"""`make bench` can call every benchmark it names."""

from __future__ import annotations

import ast

from fakes.places import ROOT

FOLDER = ROOT / "benchmarks"


def tree(name: str) -> ast.Module:
    return ast.parse((FOLDER / name).read_text(encoding="utf-8"))


def names() -> list[str]:
    for node in tree("__main__.py").body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "NAMES":  # type: ignore[attr-defined]
            return list(ast.literal_eval(node.value))
    raise AssertionError("benchmarks/__main__.py names no benchmarks")


def test_every_benchmark_takes_its_arguments_as_a_list() -> None:
    for name in names():
        functions = [
            node for node in tree(f"bench_{name}.py").body if isinstance(node, ast.FunctionDef)
        ]
        (main,) = [node for node in functions if node.name == "main"]
        assert len(main.args.args) == 1, f"bench_{name}.main takes no list of arguments"
