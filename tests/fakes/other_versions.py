"""Programs for `python -c`: a daemon of another version, real in everything but what is named."""

from __future__ import annotations

_RUN = "from mattebridge.daemon.__main__ import main; sys.exit(main())"
# The range of protocol versions.
ANOTHER_PROTOCOL = (
    "import sys; from mattebridge.wire import protocol;"
    "protocol.PROTOCOL_MIN, protocol.PROTOCOL_MAX = 7, 9;" + _RUN
)
# A key of requests that came later.
OLDER_KEYS = (
    "import sys; from mattebridge.wire import protocol; check = protocol.validate_request\n"
    "def older(message):\n"
    "    if 'user' in message: raise protocol.MessageError('unknown key: user', field='user')\n"
    "    return check(message)\n"
    "protocol.validate_request = older\n" + _RUN
)
# The number of the release, and a parameter that came later.
OLDER_RELEASE = (
    "import sys; from mattebridge import version; version.__version__ = '0.0.9'\n"
    "from mattebridge.wire import protocol; check = protocol.validate_request\n"
    "def older(message):\n"
    "    if 'nonfinite' in message.get('params', {}):\n"
    "        raise protocol.MessageError('params has no key: nonfinite', field='nonfinite')\n"
    "    return check(message)\n"
    "protocol.validate_request = older\n" + _RUN
)
