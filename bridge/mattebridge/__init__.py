"""mattebridge: alpha, straight foreground and premultiplied RGBA from a plate and a clean plate.

Hosts import `mattebridge.client`, which needs numpy, pyzmq and msgpack. Everything else belongs
to the daemon and the command line (`pip install mattebridge[daemon]`). Nothing is imported here,
so that a host pays only for what it uses.
"""

from mattebridge.version import __version__

__all__ = ["__version__"]
