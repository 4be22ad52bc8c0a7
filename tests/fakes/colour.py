"""The colour spaces of the built-in config, measured once for all tests of a process."""

from functools import lru_cache

from mattebridge.ocio import where
from mattebridge.ocio.config import Config
from mattebridge.ocio.space import Spaces


@lru_cache(maxsize=1)
def studio_spaces() -> Spaces:
    return Spaces(Config(where.BUILT_IN))
