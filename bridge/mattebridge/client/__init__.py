"""What a host imports: connect to the daemon, matte a frame.

from mattebridge.client import MatteClient
"""

from mattebridge.client.connection import MatteClient, MatteHandle
from mattebridge.client.matte import DEFAULT_OUTPUTS, Matte

__all__ = ["DEFAULT_OUTPUTS", "Matte", "MatteClient", "MatteHandle"]
