"""The release of this package; the wire has its own version in protocol.py."""

__version__ = "0.1.0"
