"""The plugin's panel of the daemon: its buttons, and the line that a click leaves there."""

from __future__ import annotations

from fakes.ofx_host import OK, Instance

NOT_LOOKED = "not looked for yet"
BUSY = "a daemon is busy: press Daemon status"
STARTING = "the daemon is being started: press Daemon status in a few seconds"


def found(node: Instance) -> str:
    """The line *Daemon found*."""
    return str(node.effect.params["daemonFound"].value)


def pressed(node: Instance, button: str = "startDaemon") -> str:
    """What the panel says after a click."""
    assert node.changed(button) == OK
    return found(node)
