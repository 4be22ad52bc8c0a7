"""The layer of macOS on Linux, for tests: `MATTEBRIDGE_TEST_OSLAYER=posix` chooses it."""

from __future__ import annotations

import socket

from mattebridge.wire.connection import Peer
from mattebridge.wire.linux_machine import LinuxMachine, peer_of
from mattebridge.wire.posix import PosixLayer


class PosixOnLinux(LinuxMachine, PosixLayer):
    """`PosixLayer` with what Linux says of machine and peer, and the paths of macOS."""

    def longest_address(self) -> int:
        """See `Users`: that of macOS."""
        return 103

    def peer_of(self, connection: socket.socket) -> Peer:
        """See `PosixLayer`."""
        return peer_of(connection)

    def prepare(self, connection: socket.socket) -> None:
        """See `PosixLayer`. Linux has a flag for this, which `send` uses."""
