"""Where the parts of the repository are, for tests that read or run them."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
# What PYTHONPATH must name for a process that imports the package.
BRIDGE = ROOT / "bridge"
PACKAGE = BRIDGE / "mattebridge"
GOLDEN_MESSAGES = TESTS / "golden" / "protocol"
