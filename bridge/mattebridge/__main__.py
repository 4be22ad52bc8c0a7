"""`python -m mattebridge`: the command line."""

import sys

from mattebridge.cli import main

if __name__ == "__main__":
    sys.exit(main())
