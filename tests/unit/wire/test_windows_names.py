"""Names of which Windows makes something else."""

from __future__ import annotations

from typing import Any

import pytest

from mattebridge.wire.windows_names import fault_of


@pytest.mark.parametrize(
    "path",
    [
        r"C:\shots\a 1\plate.1001.exr",
        "shots/a/plate.####.exr",
        r"..\mattes\.",
        r"\\server\share\shots\matte.exr",
        r"\\?\C:\shots\matte.exr",
        r"\\?\UNC\server\share\matte.exr",
        r"Z:/Élodie/console.exr",
        r"D:\auxiliary\com10\lpt.exr",
        r"D:\.hidden\matte",
        "",
    ],
)
def test_names_that_windows_takes_as_they_are(path: str) -> None:
    assert fault_of(path) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("C:plate.exr", r"such as C:\plate.exr"),
        ("c:", "current folder of that drive"),
        (r"D:\out\nul", "device"),
        (r"D:\out\AUX.exr", "device"),
        (r"D:\con\alpha.exr", "device"),
        (r"\\server\share\Com1.0001.exr", "device"),
        (r"\\?\C:\LPT\lpt9 .exr", "device"),
        ("COM\u00b2.exr", "device"),
        ("NUL:", "device"),
        ("D:/out /alpha.exr", "drops the dot or space"),
        ("D:/out./alpha.exr", "drops the dot or space"),
        (r"D:\out\plate:1.exr", "hidden stream"),
        (r"D:\out\what?.exr", "allows no '?'"),
        ("D:/out/a\tb.exr", r"allows no '\t'"),
        (r"\\?\C:\a\b|c", "allows no '|'"),
    ],
)
def test_names_that_windows_takes_for_something_else(path: str, why: str) -> None:
    fault: Any = fault_of(path)
    assert why in fault
