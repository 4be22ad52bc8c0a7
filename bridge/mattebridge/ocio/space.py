"""A colour space as what the engine computes: a curve from code values to light, and a matrix.

    code values --curve--> light in the space's own primaries --matrix--> Rec. 709 light

What a model sees as white is 1 in that Rec. 709 light: of PQ and HLG it is their reference white
(`reference_white`), of every other space what the config has at 1.

The curve and the matrix are measured: OpenColorIO converts some thousand colours, the three
primaries and a range of greys, and the space is taken for curve and matrix only where these give
all those colours, too. That holds for scene-linear spaces, camera logs (`log_curve`), gammas and PQ
(`table`), and with one more factor for HLG (`system_gain`). Others (a 3-D table, ADX, ACEScc) are a
chain of such steps and cubes (`chain`), which is measured as well. A space for which none of this
holds is `whole`: OpenColorIO converts its pixels itself, in main memory, and the reply says so.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Optional

import numpy as np

from mattebridge import color
from mattebridge.color import FloatImage, Pixels
from mattebridge.ocio import chain, hlg_curve, log_curve, reference_white, system_gain, table
from mattebridge.ocio.chain import Chain, Mix, NoChain
from mattebridge.ocio.config import Config
from mattebridge.ocio.hlg_curve import HlgCurve
from mattebridge.ocio.log_curve import LogCurve
from mattebridge.ocio.system_gain import SystemGain

# The part of its largest channel by which a colour may be off for the space to count as measured.
TOLERANCE = 5e-5
_SAME_MATRIX = 2e-6
# A display's white is 1; light of more than this at code value 1 is a scene's.
_SCENE_WHITE = 1.5
_COLOURS = 4096
# Light that a space is asked to hold.
_LEAST_LIGHT, _MOST_LIGHT = -0.5, 64.0

_log = logging.getLogger(__name__)


class Curve(str, Enum):
    """How code values become light."""

    NONE = "none"
    SRGB = "srgb"
    LOG = "log"
    TABLE = "table"
    CHAIN = "chain"
    WHOLE = "whole"


@dataclass(frozen=True, eq=False)
class ColorSpace:
    """One colour space; two are the same where they are the same object.

    matrix: from light in its primaries to Rec. 709 light, 3 x 3 float64; None where they are those
    of Rec. 709. log: of a `LOG`. decode, encode: tables (`table`) of a `TABLE`, to and from light
    that `gain`, where there is one, makes into the light of the space. hlg: the same two in closed
    form, where they are those of HLG. chain: of a `CHAIN`, whose
    light is Rec. 709 light, as that of a `WHOLE` is. white: the light that is white.
    scene: its light is a scene's, in which mixing is done, not a display's. config: of
    all but `linear` and `srgb`. reason: why a `WHOLE` is one.
    """

    name: str
    curve: Curve
    scene: bool
    matrix: Optional[Pixels] = field(default=None, repr=False)
    decode: Optional[FloatImage] = field(default=None, repr=False)
    encode: Optional[FloatImage] = field(default=None, repr=False)
    log: Optional[LogCurve] = field(default=None, repr=False)
    gain: Optional[SystemGain] = field(default=None, repr=False)
    hlg: Optional[HlgCurve] = field(default=None, repr=False)
    chain: Optional[Chain] = field(default=None, repr=False)
    white: float = 1.0
    reason: str = ""
    config: Optional[Config] = field(default=None, repr=False)

    @cached_property
    def to_rec709(self) -> Optional[Mix]:
        """From light in its primaries to Rec. 709 light, whose white is 1; None for no change."""
        if self.matrix is None and self.white == 1:
            return None
        return Mix.of((np.eye(3) if self.matrix is None else self.matrix) / self.white)

    @cached_property
    def of_rec709(self) -> Optional[Mix]:
        """From Rec. 709 light, whose white is 1, to light in its primaries."""
        return None if self.to_rec709 is None else Mix.of(np.linalg.inv(self.to_rec709.matrix))

    @property
    def codes_are_bounded(self) -> bool:
        """Whether no light has a code value that is near what float32 can hold."""
        if self.chain is not None:
            return bool(self.chain.to_code) and not isinstance(self.chain.to_code[-1], Mix)
        return self.curve in (Curve.LOG, Curve.TABLE)

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
        self._known_results: dict[tuple[str, float], ColorSpace] = {}

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
            name = self.settled(name)
            found = self._known.get(name)
            if found is None:
                whole = self.config.find(name)
                found = self._known.get(whole) or measured(self.config, whole)
                self._known[name] = self._known[whole] = found
            return found

    def of_results(self, name: str, plate: ColorSpace) -> ColorSpace:
        """The space of the results of a plate in another space.

        As OpenColorIO converts it, light stays the same amount of light, whatever white is in
        either space. `srgb` alone has white where the other one has it: it is made for displays.
        """
        found = self.of(name)
        if SRGB in (found, plate) or found.white == plate.white:
            return found
        with self._lock:
            key = (found.name, plate.white)
            if key not in self._known_results:
                self._known_results[key] = replace(found, white=plate.white)
            return self._known_results[key]

    def settled(self, name: str) -> str:
        """The name itself; `linear` or `srgb` for these in other letters, such as sRGB, where the
        config has no space of that name."""
        ours = name.strip().lower()
        is_ours = ours in (LINEAR.name, SRGB.name) and name != ours
        return ours if is_ours and not self.config.knows(name) else name

    def is_known(self, name: str) -> bool:
        """Whether a request may name this space."""
        return self.settled(name) in self._known or self.config.knows(name)

    def converted(
        self, pixels: Pixels, space: str, wanted: str, *, white: Optional[float] = None
    ) -> Pixels:
        """Colours of one space in another, by name; in the same one the array itself.

        pixels: (..., 3), integers as fractions of their maximum. The result is float32. white: the
        light that is white where `srgb`, which has it at 1, is one of the two; by default that of
        the other one. Light of results has that of their plate (`of_results`).
        """
        if space == wanted:
            return pixels
        ours = (LINEAR.name, SRGB.name)
        if SRGB.name not in (space, wanted):
            white = 1.0
        elif white is None:
            white = self.of(wanted if space == SRGB.name else space).white
        if {space, wanted} <= {*ours} and white == 1:
            return color.converted(pixels, space, wanted)
        if space == SRGB.name:
            values = color.srgb_decode(pixels) * np.float32(white)
        else:
            values = color.to_float(pixels)
        if space not in ours:
            config, name = self.config, self.config.find(space)
            if wanted not in ours:
                return config.convert(values, name, config.find(wanted))
            values = config.light_of(values, name)
        elif wanted not in ours:
            return self.config.of_light(values, self.config.find(wanted))
        return color.srgb_encode(values / np.float32(white)) if wanted == SRGB.name else values


def measured(config: Config, name: str) -> ColorSpace:
    """A space of a config, by its own name, as curve and matrix, or as a chain."""
    seen = _Seen.of(config, name)
    matrix = np.ascontiguousarray((seen.primaries - seen.black).T)
    if _are_equal(seen.found, seen.colours @ matrix.T):
        return ColorSpace(name, Curve.NONE, True, _unless_identity(matrix), config=config)
    return (
        _with_log(config, name, seen)
        or _with_table(config, name, seen)
        or _with_chain(config, name, seen)
    )


@dataclass(frozen=True)
class _Seen:
    """What OpenColorIO makes of some code values: Rec. 709 light, float64.

    black, white: (3,). primaries: (3, 3), by channel. colours, found: (N, 3), what was sent and
    what came back. logs, gains, whites: for the probes of `log_curve`, `system_gain` and
    `reference_white`.
    """

    black: Pixels
    white: Pixels
    primaries: Pixels
    colours: Pixels
    found: Pixels
    logs: Pixels
    gains: Pixels
    whites: Pixels

    @classmethod
    def of(cls, config: Config, name: str) -> _Seen:
        colours, greys = _colours(), _greys(log_curve.PROBES)
        parts: list[Pixels] = [np.zeros((1, 3)), np.ones((1, 3)), np.eye(3), colours, greys]
        parts += [system_gain.PROBES, _greys(reference_white.PROBES)]
        sent = np.concatenate(parts).astype(np.float32)
        light = config.light_of(sent, name, exact=True).astype(np.float64)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        black, white, primaries, found, logs, gains, whites = np.split(light, ends)
        return cls(black[0], white[0], primaries, colours, found, logs, gains, whites)

    @property
    def reference_white(self) -> float:
        """The light that is white."""
        return reference_white.found(_neutral(self.whites))

    @property
    def span(self) -> float:
        """The light from code value 0 to 1, of neutral colours."""
        return float(np.median(self.white) - np.median(self.black))

    @property
    def matrix(self) -> Pixels:
        """From light that a curve gives, where each channel has that curve."""
        return np.ascontiguousarray((self.primaries - self.black).T) / (self.span or 1.0)


def _with_log(config: Config, name: str, seen: _Seen) -> Optional[ColorSpace]:
    """A space by the closed form of its curve; None where that does not describe it."""
    curve = log_curve.fitted(_neutral(seen.logs))
    if curve is None or not _are_equal(seen.found, curve.decoded(seen.colours) @ seen.matrix.T):
        return None
    # A config may have another way back than the inverse.
    light = curve.decoded(log_curve.PROBES)
    codes = _neutral(config.of_light(_greys(light), name, exact=True))
    if np.abs(codes - log_curve.PROBES).max() > TOLERANCE:
        return None
    matrix, is_scene = _unless_identity(seen.matrix), seen.span > _SCENE_WHITE
    return ColorSpace(name, Curve.LOG, is_scene, matrix, log=curve, config=config)


def _with_table(config: Config, name: str, seen: _Seen) -> Optional[ColorSpace]:
    """A space by the curve of its greys, and HLG's gain; None where these do not describe it."""
    shown = _neutral(config.light_of(_greys(table.nodes()), name, exact=True))
    candidates: list[tuple[Optional[SystemGain], Pixels]] = [(None, seen.matrix)]
    with_gain = system_gain.found(seen.primaries, seen.gains)
    if with_gain is not None:
        candidates.append(with_gain)
    for gain, matrix in candidates:
        decode = table.usable(shown if gain is None else gain.scene(table.usable(shown)))
        light = table.through(decode, seen.colours).astype(np.float64)
        light = light if gain is None else gain.shown(light)
        if _are_equal(seen.found, light @ matrix.T):
            encode = _encoding(config, name, decode, gain)
            return ColorSpace(
                name,
                Curve.TABLE,
                seen.span > _SCENE_WHITE,
                _unless_identity(matrix),
                decode,
                encode,
                gain=gain,
                hlg=hlg_curve.fitted(decode, encode),
                white=seen.reference_white,
                config=config,
            )
    return None


def _with_chain(config: Config, name: str, seen: _Seen) -> ColorSpace:
    """A space by OpenColorIO's list of operations; `whole`, with the reason, where that fails."""
    is_scene, white = seen.span > _SCENE_WHITE, seen.reference_white
    try:
        found = chain.read(config.where, name, *config.light)
        off = _most_off(config, name, seen, found)
        if off > TOLERANCE:
            raise NoChain(f"its operations are off by {off:.0e} of OpenColorIO's own result")
    except NoChain as error:
        _log.warning("'%s' is converted by OpenColorIO in main memory: %s", name, error)
        reason = str(error)
        return ColorSpace(name, Curve.WHOLE, is_scene, white=white, reason=reason, config=config)
    return ColorSpace(name, Curve.CHAIN, is_scene, chain=found, white=white, config=config)


def _most_off(config: Config, name: str, seen: _Seen, found: Chain) -> float:
    """The largest difference to OpenColorIO, of code values and of light; see `TOLERANCE`."""
    light = chain.through(found.to_light, seen.colours)
    largest = np.abs(seen.found).max(axis=1, keepdims=True) + 1e-2
    asked = np.random.default_rng(64).uniform(_LEAST_LIGHT, _MOST_LIGHT, (_COLOURS, 3))
    asked[::2] *= 0.02
    # OpenColorIO's exact inverse of a cube takes minutes for a picture: no program uses that.
    expected = config.of_light(asked.astype(np.float32), name, exact=not found.has_cube)
    codes = chain.through(found.to_code, asked)
    if not (np.isfinite(light).all() and np.isfinite(codes).all()):
        return float("inf")
    of_codes = np.abs(codes - expected) / np.maximum(1, np.abs(expected))
    return float(max((np.abs(light - seen.found) / largest).max(), of_codes.max()))


def _encoding(
    config: Config, name: str, decode: FloatImage, gain: Optional[SystemGain]
) -> FloatImage:
    light = table.nodes() if gain is None else table.usable(gain.shown(table.nodes()))
    codes = _neutral(config.of_light(_greys(light), name, exact=True))
    return table.inverse(decode, table.usable(codes))


def _greys(values: Pixels) -> FloatImage:
    return np.repeat(values[:, None], 3, 1).astype(np.float32)


def _neutral(colours: Pixels) -> Pixels:
    """The one value of neutral colours: the middle one of three that differ by rounding."""
    return np.sort(colours, axis=1)[:, 1]


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
