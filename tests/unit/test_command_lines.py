"""Every line of a page's code that runs `mattebridge` is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from fakes.places import ROOT
from mattebridge import cli

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^(?:\$ )?mattebridge (.+)$", re.MULTILINE)


def lines() -> Iterator[tuple[str, str]]:
    """The page and what follows `mattebridge`, of each line. The grammar of a command, with its
    optional parts in brackets, is no line to type."""
    for page in PAGES:
        for block in BLOCK.findall(page.read_text("utf-8")):
            for line in LINE.findall(block.replace("\\\n", " ")):
                if "[" not in line:
                    yield page.name, line


def typed(line: str) -> list[list[str]]:
    """The words of a line without its comment; of several actions (`list | show NAME`), each."""
    # Not `comments=True`, for which the first # of ####.exr begins one.
    command, *words = shlex.split(re.sub(r"\s# .*", "", line))
    actions: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            actions.append([])
        else:
            actions[-1].append(word)
    return [[command, *action] for action in actions]


@pytest.mark.parametrize(("page", "line"), [pytest.param(*one, id=one[1][:60]) for one in lines()])
def test_a_line_of_a_page_is_one_that_can_be_typed(page: str, line: str) -> None:
    for words in typed(line):
        try:
            options = cli.build_parser().parse_args(words)
        except SystemExit as end:
            raise AssertionError(f"{page}: mattebridge {line}") from end
        assert callable(options.run), page


def test_the_pages_have_lines_of_every_kind() -> None:
    commands = {line.split()[0] for _, line in lines()}
    assert {"matte", "hint", "clean-plate", "clips", "models", "plates", "report"} <= commands
