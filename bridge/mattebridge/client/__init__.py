"""What a host imports: connect to the daemon, matte a frame.

connection.py   MatteClient: the public methods; filling arenas and sending
exchange.py     the requests that are out: replies, retries, a daemon that is replaced
in_flight.py    one such request            images.py    the arrays that a caller gives
session.py      one lease of the daemon     matte.py     one finished frame
autostart.py    starting a daemon
"""

from mattebridge.client.connection import MatteClient, MatteHandle
from mattebridge.client.matte import Matte
from mattebridge.wire.params import DEFAULT_OUTPUTS

__all__ = ["DEFAULT_OUTPUTS", "Matte", "MatteClient", "MatteHandle"]
