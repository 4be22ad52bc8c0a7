"""Tests that run on one system alone, with the reason; test_under_wine.py runs the others."""

from __future__ import annotations

import sys

import pytest


def linux_alone(reason: str) -> pytest.MarkDecorator:
    """A mark for a test that says nothing about other systems, or cannot run there."""
    return pytest.mark.skipif(sys.platform == "win32", reason=f"Linux alone: {reason}")
