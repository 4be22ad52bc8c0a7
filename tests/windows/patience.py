"""Waiting for a daemon under Wine, where every start and every first import takes long."""

from __future__ import annotations

import time

from mattebridge.client import MatteClient
from mattebridge.errors import ConnectionFailed

LIMIT_S = 300.0  # only a hang takes longer


def connect(folder: object) -> MatteClient:
    """A connection to the daemon of a folder that has been started."""
    until = time.monotonic() + LIMIT_S
    while True:
        try:
            return MatteClient.connect(str(folder))
        except ConnectionFailed:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
