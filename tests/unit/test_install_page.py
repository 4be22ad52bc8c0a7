"""The first part of docs/hosts.md, which is followed by people who have never opened a terminal:
its commands are those of the command line, and its messages those that the hosts show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fakes.places import ROOT
from mattebridge import cli
from mattebridge.version import __version__

PAGE = (ROOT / "docs" / "hosts.md").read_text("utf-8").split("\n# ")[0]
SECTIONS = {part.split("\n")[0]: part for part in PAGE.split("\n### ")[1:]}
LINE = re.compile(r"^ {7}(.*)$", re.MULTILINE)
# What stands in a message for a name, a number, a path, a state or an input.
FILLED_IN = re.compile(r"…|\d+\.\d+\.\d+|\bready\b|\bstarting\b|\ba clean plate\b")
SOURCES = ("bridge/mattebridge", "nuke", "resolve", "plugin_shim/src")


def commands(system: str) -> list[list[str]]:
    """The lines to be typed on a system, as words."""
    text = SECTIONS[system].replace("\\", "/")  # shlex would take it for an escape
    return [shlex.split(line) for line in LINE.findall(text)]


def of_mattebridge(system: str) -> list[list[str]]:
    """The arguments of the lines that run mattebridge."""
    found = []
    for words in commands(system):
        program, *arguments = words[words[0] == "sudo" :]
        if Path(program).name == "mattebridge":
            found.append(arguments)
    return found


@pytest.mark.parametrize("system", ["Linux", "Windows"])
def test_every_line_is_a_command_that_there_is(system: str) -> None:
    for arguments in of_mattebridge(system):
        cli.build_parser().parse_args(arguments)
    assert [words[:2] for words in of_mattebridge(system) if words[0] == "install"] == [
        ["install", host] for host in ("service", "nuke", "resolve", "fusion", "ofx")
    ]


@pytest.mark.parametrize(
    ("system", "folder"),
    [("Linux", "$HOME/mattebridge/bin/"), ("macOS", "$HOME/mattebridge/bin/"),
     ("Windows", "%USERPROFILE%/mattebridge/Scripts/")],
)  # fmt: skip
def test_programs_are_where_a_virtual_environment_of_the_system_has_them(
    system: str, folder: str
) -> None:
    made, *others = commands(system)
    assert made[1:3] == ["-m", "venv"]
    assert folder.startswith(f"{made[3]}/")
    for words in others:
        assert words[words[0] == "sudo"].startswith(folder), words


@pytest.mark.parametrize("system", ["Linux", "macOS", "Windows"])
def test_the_file_is_that_of_this_release_with_what_the_daemon_needs(system: str) -> None:
    (words,) = [words for words in commands(system) if "pip" in words]
    name = words[-1].rpartition("/")[2]
    assert name.startswith(f"mattebridge-{__version__}-py3-none-")
    assert name.endswith(".whl[daemon]")


def joined_sources() -> str:
    """All sources with the texts that are broken over lines in one piece."""
    text = ""
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".cpp", ".h", ".lua"):
                text += path.read_text("utf-8")
    return re.sub(r'"\s*\n\s*f?"', "", text)


def test_every_message_of_the_table_is_one_that_a_host_shows() -> None:
    sources = joined_sources()
    rows = SECTIONS["What the first message means"].split("\n")
    messages = [
        message
        for row in rows
        if row.startswith("| *")
        for message in re.findall(r"\*([^*]+)\*", row.split("|")[1])
    ]
    assert len(messages) > 8
    for message in messages:
        for piece in FILLED_IN.split(message):
            words = piece.strip(" ,:'")
            assert words in sources, (message, words)
