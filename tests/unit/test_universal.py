"""The joining of Mach-O files of two processors, and the look into them."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from types import ModuleType

import pytest

from fakes.places import ROOT
from mattebridge.commands.plugin_builds import _targets_of

INTEL, APPLE = 0x01000007, 0x0100000C


@pytest.fixture(scope="module")
def universal() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "universal", ROOT / "plugin_shim" / "universal.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def library(processor: int, subtype: int, length: int, exported: str) -> bytes:
    """A Mach-O library with a table of three symbols and no code."""
    names = b"\0" + exported.encode() + b"\0_system\0_hidden\0"
    at = 32 + 24
    symbols = b""
    for name, kind in ((exported, 0x0F), ("_system", 0x01), ("_hidden", 0x1F)):
        offset = names.index(name.encode())
        symbols += struct.pack("<IBBHQ", offset, kind, 1, 0, 0)
    table = struct.pack("<6I", 2, 24, at, 3, at + len(symbols), len(names))
    header = struct.pack("<8I", 0xFEEDFACF, processor, subtype, 6, 1, 24, 0, 0)
    return (header + table + symbols + names).ljust(length, b"\x90")


def test_two_libraries_become_one_for_both_processors(
    universal: ModuleType, tmp_path: Path
) -> None:
    parts = [
        library(APPLE, 0, 20_000, "_OfxGetPlugin"),
        library(INTEL, 3, 5_000, "_OfxGetPlugin"),
    ]
    paths = []
    for index, part in enumerate(parts):
        paths.append(tmp_path / str(index))
        paths[-1].write_bytes(part)
    universal.join(paths, tmp_path / "both.ofx")
    data = (tmp_path / "both.ofx").read_bytes()
    assert universal.split(data) == parts
    entries = [struct.unpack_from(">5I", data, 8 + 20 * index) for index in range(2)]
    assert [entry[:2] for entry in entries] == [(APPLE, 0), (INTEL, 3)]
    assert [(entry[2] % 16384, entry[4]) for entry in entries] == [(0, 14)] * 2
    assert _targets_of(tmp_path / "both.ofx") == [("macos", "aarch64"), ("macos", "x86_64")]


def test_the_symbols_of_a_library_are_those_that_others_see(universal: ModuleType) -> None:
    exported, undefined = universal.symbols(library(APPLE, 0, 5_000, "_OfxGetPlugin"))
    assert (exported, undefined) == ({"_OfxGetPlugin"}, {"_system"})
    with pytest.raises(ValueError, match="not a 64-bit Mach-O"):
        universal.symbols(b"\x7fELF" + bytes(100))
