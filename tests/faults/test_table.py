"""docs/faults.md, the tests in this folder and errors.py say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from fakes.places import ROOT
from mattebridge import errors

HERE = Path(__file__).parent
PAGE = (ROOT / "docs" / "faults.md").read_text("utf-8")


def _tests() -> dict[str, str]:
    """Every test of a row, with its source."""
    found = {}
    for path in sorted(HERE.glob("test_*.py")):
        text = path.read_text("utf-8")
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and re.match(r"test_f\d", node.name):
                found[node.name] = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    return found


def _section(title: str) -> list[list[str]]:
    """The cells of the table in a section, without its head."""
    body = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


def _row_of(test: str) -> str:
    return f"F{int(test[6:8])}"


def test_every_row_lists_exactly_its_tests() -> None:
    written = {
        row: set(re.findall(r"`(test_\w+)`", cells)) for row, *_rest, cells in _section("Rows")
    }
    there: dict[str, set[str]] = {}
    for test in _tests():
        there.setdefault(_row_of(test), set()).add(test)
    assert written == there


def test_a_row_is_either_tested_or_said_not_to_be() -> None:
    tested = {row for row, *_rest in _section("Rows")}
    said = {row for row, *_rest in _section("Rows without a test here")}
    assert tested | {row.split(",")[0] for row in said} == {f"F{number}" for number in range(1, 51)}
    assert not tested & {row for row in said if "in part" not in row}


def test_every_code_has_a_row_and_every_row_a_code_that_is_there() -> None:
    written = {code.strip("`") for code, _where in _section("Where each code is provoked")}
    kinds = [
        kind for kind in errors._all_subclasses(errors.MattebridgeError) if "code" in vars(kind)
    ]
    assert written == {kind.code for kind in kinds}
    assert set(errors.WIRE_ERRORS) <= written


def test_each_code_is_really_provoked_where_the_page_says() -> None:
    names: dict[str, set[str]] = {}
    for kind in errors._all_subclasses(errors.MattebridgeError):
        names.setdefault(kind.code, set()).update({kind.code, kind.__name__})
    tests = _tests()
    for code, where in _section("Where each code is provoked"):
        words = names[code.strip("`")]
        for place in where.split(", "):
            if place.startswith("F"):
                sources = [source for test, source in tests.items() if _row_of(test) == place]
                assert sources, (code, place)
            else:
                sources = [(ROOT / place.strip("`")).read_text("utf-8")]
            text = "\n".join(sources)
            # A table of cases may stand outside the test; then the file holds the code.
            if not any(word in text for word in words):
                text = "\n".join(path.read_text("utf-8") for path in HERE.glob("test_*.py"))
                assert code.strip("`") in text, (code, place)


def test_files_that_the_page_names_exist() -> None:
    for name in re.findall(r"`((?:tests|docs)/[\w./]+\.\w+)`", PAGE):
        assert (ROOT / name).exists(), name
