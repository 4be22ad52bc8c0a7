"""Parameters of which the default run takes the first ones, and `make test` all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(values: Iterable[Any], *, quick: int = 1, several: bool = False) -> list[Any]:
    """For `parametrize`: the values, all but the first `quick` of them marked slow.

    several: each value is a tuple for several names.
    """
    given = [value if several else (value,) for value in values]
    marks = [() if place < quick else (pytest.mark.slow,) for place in range(len(given))]
    return [pytest.param(*value, marks=mark) for value, mark in zip(given, marks)]
