"""Jobs for tests, with render parameters given beside the other fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mattebridge.shot.job import DEFAULT_PARAMS, MatteJob
from mattebridge.wire.params import NAMES


def matte_job(**given: Any) -> MatteJob:
    """`matte_job(plate=..., output=..., foreground="unmix")`."""
    params = {name: given.pop(name) for name in NAMES if name in given}
    return MatteJob(**given, params=replace(DEFAULT_PARAMS, **params))
