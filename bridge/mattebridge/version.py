"""The release of this package; the wire has its own version in protocol.py.

Within one version of the wire, a client and a daemon of different releases work together. Where one
of them lacks what the other asks for, `other_release` says which is older and what to do.
"""

import re

__version__ = "0.1.0"


def other_release(daemon: str) -> str:
    """What to do about a daemon of another release than this package; empty for the same one."""
    theirs, ours = _numbers(daemon), _numbers(__version__)
    if not theirs or daemon == __version__:
        return ""
    if theirs > ours:
        return (
            f"the daemon is mattebridge {daemon}, newer than {__version__} here: run `mattebridge"
            " install` for this host again and restart it"
        )
    return (
        f"the daemon is mattebridge {daemon}, older than {__version__} here: end it with"
        " `mattebridge stop`, and start the new one"
    )


def _numbers(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]
