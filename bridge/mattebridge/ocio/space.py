"""A colour space as what the engine computes: a curve from code values to light, and a matrix.

    code values --curve--> light in the space's own primaries --matrix--> Rec. 709 light

The curve and the matrix are measured: OpenColorIO converts the nodes of a table, the three
primaries and some thousand colours, and the space is taken for curve and matrix only where these
give all those colours, too. That holds for scene-linear spaces, camera logs, gammas and PQ. A space
for which it does not (a 3-D table, HLG's luminance-dependent gain) has no curve and is `whole`:
OpenColorIO converts its pixels itself, in main memory.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

import numpy as np

from mattebridge import color
from mattebridge.color import FloatImage, Pixels
from mattebridge.ocio import table
from mattebridge.ocio.config import Config

# The part of its largest channel by which a colour may be off for the space to count as measured.
TOLERANCE = 5e-5
_SAME_MATRIX = 2e-6
# A display's white is 1; light of more than this at code value 1 is a scene's.
_SCENE_WHITE = 1.5
_COLOURS = 4096


class Curve(str, Enum):
    """How code values become light."""

    NONE = "none"
    SRGB = "srgb"
    TABLE = "table"
    WHOLE = "whole"


@dataclass(frozen=True, eq=False)
class ColorSpace:
    """One colour space; two are the same where they are the same object.

    matrix: from light in its primaries to Rec. 709 light, 3 x 3 float64; None where they are those
    of Rec. 709. decode, encode: tables (`table`) of a `TABLE`. scene: its light is a scene's, in
    which mixing is done, not a display's. config: of all but `linear` and `srgb`.
    """

    name: str
    curve: Curve
    scene: bool
    matrix: Optional[Pixels] = field(default=None, repr=False)
    decode: Optional[FloatImage] = field(default=None, repr=False)
    encode: Optional[FloatImage] = field(default=None, repr=False)
    config: Optional[Config] = field(default=None, repr=False)

    @property
    def is_built_in(self) -> bool:
        """Whether this is `linear` or `srgb`."""
        return self.config is None


LINEAR = ColorSpace("linear", Curve.NONE, scene=True)
SRGB = ColorSpace("srgb", Curve.SRGB, scene=False)


class Spaces:
    """The spaces by name, each measured once; the config is loaded when the first one is named.

    For any number of threads.
    """

    def __init__(self, config: Optional[Config] = None) -> None:
        self._config = config
        self._lock = threading.RLock()
        self._known = {space.name: space for space in (LINEAR, SRGB)}

    @property
    def config(self) -> Config:
        """Raises `ColorError` where it cannot be loaded."""
        with self._lock:
            if self._config is None:
                self._config = Config.load()
            return self._config

    def of(self, name: str) -> ColorSpace:
        """The space of a name, role or alias; `linear` and `srgb` are our own in every config.

        Raises `ColorError` for a name that the config does not have.
        """
        with self._lock:
            found = self._known.get(name)
            if found is None:
                whole = self.config.find(name)
                found = self._known.get(whole) or measured(self.config, whole)
                self._known[name] = self._known[whole] = found
            return found

    def is_known(self, name: str) -> bool:
        """Whether a request may name this space."""
        return name in self._known or self.config.knows(name)

    def converted(self, pixels: Pixels, space: str, wanted: str) -> Pixels:
        """Colours of one space in another, by name; in the same one the array itself.

        pixels: (..., 3), integers as fractions of their maximum. The result is float32.
        """
        if space == wanted:
            return pixels
        if {space, wanted} <= {LINEAR.name, SRGB.name}:
            return color.converted(pixels, space, wanted)
        light = color.srgb_decode(pixels) if space == SRGB.name else color.to_float(pixels)
        found = self.config.convert(light, self._in_config(space), self._in_config(wanted))
        return color.srgb_encode(found) if wanted == SRGB.name else found

    def _in_config(self, name: str) -> str:
        """A space by the config's name; of `linear` and `srgb` the light."""
        ours = name in (LINEAR.name, SRGB.name)
        return self.config.rec709_light if ours else self.config.find(name)


def measured(config: Config, name: str) -> ColorSpace:
    """A space of a config, by its own name, as curve and matrix."""
    colours = _colours()
    sent = np.concatenate([np.zeros((1, 3)), np.eye(3), colours]).astype(np.float32)
    seen = config.convert(sent, name, config.rec709_light, exact=True).astype(np.float64)
    black, primaries, found = seen[0], seen[1:4], seen[4:]
    matrix = np.ascontiguousarray((primaries - black).T)
    if _are_equal(found, colours @ matrix.T):
        return ColorSpace(name, Curve.NONE, True, _unless_identity(matrix), config=config)
    return _with_curve(config, name, matrix, colours, found)


def _with_curve(
    config: Config, name: str, matrix: Pixels, colours: Pixels, found: Pixels
) -> ColorSpace:
    """A space by the curve of its greys; `WHOLE` where that and the matrix do not describe it."""
    places, light = table.nodes(), config.rec709_light
    greys = np.repeat(places[:, None], 3, 1)
    decode = table.usable(np.median(config.convert(greys, name, light, exact=True), axis=1))
    span = float(table.through(decode, np.ones(1, np.float32))[0] - decode[0])
    scene = span > _SCENE_WHITE
    matrix = matrix / (span or 1.0)
    if not _are_equal(found, table.through(decode, colours).astype(np.float64) @ matrix.T):
        return ColorSpace(name, Curve.WHOLE, scene, config=config)
    back = config.convert(greys, light, name, exact=True)
    encode = table.inverse(decode, table.usable(np.median(back, axis=1)))
    return ColorSpace(name, Curve.TABLE, scene, _unless_identity(matrix), decode, encode, config)


def _colours() -> Pixels:
    """Colours all over a space, some of them outside 0..1."""
    random = np.random.default_rng(709)
    values = random.uniform(-0.1, 1.1, (_COLOURS, 3))
    return values.astype(np.float32)


def _are_equal(one: Pixels, other: Pixels) -> bool:
    largest = np.abs(one).max(axis=1, keepdims=True)
    return bool((np.abs(one - other) <= TOLERANCE * (largest + 1e-2)).all())


def _unless_identity(matrix: Pixels) -> Optional[Pixels]:
    return None if np.abs(matrix - np.eye(3)).max() < _SAME_MATRIX else matrix
