"""The keyer for green and blue screens: a plate is enough. No weights.

    find --> field --> key --> weights --> alpha --> foreground
    which    screen    what is   of the     (full     (full size,
    screen   alone     certain   region     size)     without spill)

1. `find`: green or blue, and its hue; a plate without a screen is refused.
2. `field`: the screen over the whole frame, under the subject as well; a clean plate helps.
3. `key`: an image-based key with equal weights shows what is certainly screen and subject.
4. `weights`: from the certain subject nearby, the keys in which its colours are alike.
5. Here: these keys, at full size on a plate freed from grain.
6. `spill`: the foreground, unmixed with the known screen, without the screen's light.

Steps 1 to 4 are at working size (long side at most 960). Deterministic, and the same for any number
of threads. Values above `BRIGHTEST` count as that; the foreground keeps the plate's own values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Optional

import cv2
import numpy as np
import torch

from mattebridge.checkpoint import Checkpoint
from mattebridge.color import largest_channel, srgb_decode, srgb_encode
from mattebridge.models.base import MattingModel, ModelCard, ModelInput, ModelOutput
from mattebridge.models.difference.evidence import disc
from mattebridge.models.difference.mixture import BRIGHTEST
from mattebridge.models.difference.noise import pixel_noise
from mattebridge.models.difference.working_size import enlarged, shrunk
from mattebridge.models.screen.field import Field, blurred, filled, make_field
from mattebridge.models.screen.find import Screen, find_screen, refuse_set
from mattebridge.models.screen.grain import RADIUS_PX, without_grain
from mattebridge.models.screen.key import make_key
from mattebridge.models.screen.spill import limited, nearby_colour, own_excess, without_screen
from mattebridge.models.screen.weights import at_least, find_weights, grain_of_alpha, keyed

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

# Grain: what differs by less than so many noises is averaged, over this radius.
CALM_NOISES, CALM_PX, CALM_SIDE = 5.0, 2.0, 5
# Detail of a clean plate is that of the screen from so many noises on, and whole from twice that.
CLEAN_NOISES = 3.0
# Where only the screen is seen, alpha is 0 below so many noises.
BLACK_NOISES = 3.0
# The plate shows what is behind where the mean of 3x3 pixels differs by less than so many noises of
# one, beyond a shift of so many pixels; clearly something else from twice that. More where there is
# no screen behind, and the clean plate's own grain is in the difference.
SAME_NOISES, SAME_UNKEYED, SLIP_PX = 0.7, 2.0, 0.3
# Deep inside, alpha from the first on, grows to opaque at the second.
DEEP_LEVELS = (0.2, 0.7)
# Where an alpha hint is this much, it shows subject; farther outside than this share of the long
# side there is none.
HINT_INSIDE, HINT_REACH = 0.9, 0.05
# Encoded; a larger value has no meaning, and decoding it would exceed float32.
LARGEST = 1e6
# Rows at a time.
STRIP = 64


class ScreenModel(MattingModel):
    """See the module; the card has the settings and their ranges.

    alpha_hint, if given: where it is 1, likeness to the screen counts little; farther than a
    twentieth of the frame outside it there is no subject. A hint that shows no subject is not used.
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground of one frame. See `MattingModel.matte`.

        Raises `ModelError` for a picture without a green or blue screen.
        """
        checkpoint("screen")
        frame = _Frame(given)
        alpha, foreground = np.empty(given.plate.shape[:2], np.float32), frame.foreground()
        for start in range(0, len(alpha), STRIP):
            checkpoint("alpha", start, len(alpha))
            rows = slice(start, start + STRIP)
            alpha[rows] = frame.solve(rows, foreground[rows])
        alpha = _as_hint(alpha, *(float(given.settings[name]) for name in ("erode", "soften")))
        return ModelOutput(alpha, foreground, notes={"screen": frame.screen.name})


class _Frame:
    """One frame: what was found at working size, and its results strip by strip."""

    def __init__(self, given: ModelInput) -> None:
        self.given = given
        settings = given.settings
        plate: FloatImage = np.minimum(given.plate, np.float32(BRIGHTEST))
        clean = _whole(given.clean_plate, given.outside)
        shown = plate if clean is None else clean
        self.screen = find_screen(shown, str(settings["screen"]), str(settings["colour"]))
        if clean is not None and settings["screen"] == "auto" and not settings["colour"]:
            refuse_set(plate, clean, self.screen)
        self.small = shrunk(plate)
        self.field = make_field(self.small, None if clean is None else shrunk(clean), self.screen)
        key = make_key(self.small, self.field, self.screen)
        hint = None
        if given.alpha_hint is not None:
            hint = _Hint.of(shrunk(given.alpha_hint), given.part_of)
        self.key = key if hint is None else replace(key, deep=key.deep | hint.inside)
        self.far = None if hint is None else enlarged(hint.far.astype(np.float32), plate.shape)
        light, field = self.mixing(self.small), self.mixing(self.field.picture)
        self.weights = find_weights(_below_white(light, field), field, self.key, self.screen)
        self._to_full_size(plate, clean)

    def _to_full_size(self, plate: FloatImage, clean: Optional[FloatImage]) -> None:
        shape = plate.shape
        self.behind = _full_field(self.field, clean, shape)
        self.empty = enlarged(self.key.empty.astype(np.float32), shape)
        certain = self.empty > 0.999
        self.noise = noise = pixel_noise(*map(torch.from_numpy, (plate, self.behind, certain)))
        self.other = _otherwise(plate, self.behind, noise, self.screen)
        self.calm = cv2.bilateralFilter(plate, CALM_SIDE, CALM_NOISES * noise, CALM_PX)
        self.full = self.weights.enlarged(shape)
        self.deep = enlarged(self.key.deep.astype(np.float32), shape)
        self.grain = _grain(self.calm, self.behind, certain, self.screen)
        self.own = self._own_nearby()
        self.nearby = enlarged(self.own, shape)
        self.allowed = enlarged(own_excess(self.small, self.key, self.screen), shape)

    def foreground(self) -> FloatImage:
        """The colour of the subject nearby, (H, W, 3) display-encoded: what is beside it."""
        return enlarged(self.encoded(self.own), self.given.plate.shape).copy()

    def _own_nearby(self) -> FloatImage:
        """The colour of the subject nearby without spill, at a quarter of working size."""
        light, field = self.mixing(self.small), self.mixing(self.field.picture)
        _, spill = keyed(light, field, self.weights, self.screen)
        colour = nearby_colour(light, self.key.sure)
        lit = shrunk_to(field * (spill * self.despill)[..., None], colour.shape)
        return np.maximum(colour - lit, np.float32(0))

    def solve(self, rows: slice, foreground: FloatImage) -> FloatImage:
        """Alpha (h, W) of some rows; their foreground (h, W, 3) is written into."""
        wide = slice(max(0, rows.start - RADIUS_PX), rows.stop + RADIUS_PX)
        inside = slice(rows.start - wide.start, rows.stop - wide.start)
        behind, calm = self.mixing(self.behind[wide]), self.mixing(self.calm[wide])
        raw, spill = keyed(calm, behind, self.full.of(wide), self.screen)
        raw = np.maximum(raw, at_least(calm, behind, self.screen))
        self._take_grain(raw, calm, behind, wide)
        behind, spill = behind[inside], spill[inside]
        alpha = self._levels(raw[inside], rows)
        covered = alpha > 0
        plate: FloatImage = np.minimum(self.given.plate[rows][covered], np.float32(LARGEST))
        colour = without_screen(
            self.mixing(plate),
            behind[covered],
            alpha[covered],
            spill[covered] * self.despill,
            self.nearby[rows][covered],
        )
        allowed = self.allowed[rows][covered]
        foreground[covered] = limited(
            self.encoded(colour), allowed, float(self.despill), self.screen
        )
        return alpha

    def _take_grain(
        self, raw: FloatImage, calm: FloatImage, behind: FloatImage, rows: slice
    ) -> None:
        """Take the grain from alpha (h, W) in place, between the outer columns where it counts."""
        counts = np.flatnonzero(((self.empty[rows] < 1) & (self.deep[rows] < 1)).any(axis=0))
        if not len(counts):
            return
        columns = slice(max(0, counts[0] - RADIUS_PX), counts[-1] + 1 + RADIUS_PX)
        part = (slice(None), columns)
        variance = grain_of_alpha(
            calm[part],
            behind[part],
            self.full.of((rows, columns)),
            self.screen,
            self.noise,
            in_light=self.given.scene_linear,
        )
        raw[part] = without_grain(raw[part], variance)

    def _levels(self, raw: FloatImage, rows: slice) -> FloatImage:
        """Alpha (h, W) 0..1 from that of the key: clean ends, an opaque inside, the hint."""
        black, white = (float(self.given.settings[name]) for name in ("black", "white"))
        alpha = _between(raw, black, white)
        if self.grain > black:
            alpha += self.empty[rows] * (_between(raw, self.grain, white) - alpha)
        alpha += self.deep[rows] * (np.maximum(_between(raw, *DEEP_LEVELS), alpha) - alpha)
        alpha *= self.other[rows]
        return alpha if self.far is None else alpha * (1 - self.far[rows])

    @property
    def despill(self) -> np.float32:
        return np.float32(self.given.settings["despill"])

    def mixing(self, encoded: FloatImage) -> FloatImage:
        """Display-encoded colours in the light in which the request mixes them."""
        return srgb_decode(encoded) if self.given.scene_linear else encoded

    def encoded(self, light: FloatImage) -> FloatImage:
        return srgb_encode(light) if self.given.scene_linear else light


@dataclass(frozen=True)
class _Hint:
    """Where an alpha hint shows subject, and where it is far outside of it: (h, w) each."""

    inside: Mask
    far: Mask

    @classmethod
    def of(cls, hint: FloatImage, part_of: float) -> Optional[_Hint]:
        """None for a hint that shows no subject. part_of: see `ModelInput`."""
        if not (hint >= 0.5).any():
            return None
        away = cv2.distanceTransform((hint < 0.1).astype(np.uint8), cv2.DIST_L2, 5)
        reach = HINT_REACH * part_of * max(hint.shape)
        return cls(inside=hint >= HINT_INSIDE, far=away > reach)


def _below_white(light: FloatImage, field: FloatImage) -> FloatImage:
    """A plate (h, w, 3) cut at white, or at the brightest of the screen.

    A highlight of 20 outweighs all the subject's other colours, in a sum of squares.
    """
    return np.minimum(light, max(np.float32(1), field.max()))


def _whole(clean_plate: Optional[FloatImage], outside: Optional[Mask]) -> Optional[FloatImage]:
    """The clean plate, spread to where it does not cover the plate, and cut."""
    if clean_plate is None:
        return None
    cut: FloatImage = np.minimum(clean_plate, np.float32(BRIGHTEST))
    if outside is None or not outside.any():
        return cut
    return filled(cut, (~outside).astype(np.float32))


def _full_field(
    field: Field, clean_plate: Optional[FloatImage], shape: tuple[int, ...]
) -> FloatImage:
    """The field at full size, with the detail of a clean plate."""
    if clean_plate is None:
        return enlarged(field.picture, shape)
    smooth = enlarged(field.picture - field.rest, shape)
    detail = clean_plate - smooth
    calm = cv2.blur(detail, (3, 3))
    rows, columns = (slice(None, None, max(1, side // 256)) for side in shape[:2])
    grain = CLEAN_NOISES * float(np.median(np.abs(calm[rows, columns]))) / 0.6745 + 1e-6
    seen = np.clip(largest_channel(np.abs(calm)) / np.float32(grain) - 1, 0, 1)
    detail *= seen[..., None]
    return np.maximum(smooth + detail + enlarged(field.rest, shape), np.float32(0))


def _otherwise(plate: FloatImage, behind: FloatImage, noise: float, screen: Screen) -> FloatImage:
    """(H, W): 0 where a plate shows what is behind, within its noise; 1 where it clearly does not.

    Marks on the screen, and what stands beside it, have no key: there the clean plate alone tells.
    """
    limit = np.where(screen.clear(behind), np.float32(SAME_NOISES), np.float32(SAME_UNKEYED))
    limit *= np.float32(noise)
    apart = largest_channel(np.abs(cv2.blur(plate - behind, (3, 3))))
    slope = cv2.morphologyEx(largest_channel(behind), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    apart -= slope * np.float32(SLIP_PX / 2)
    return np.clip(apart / limit - 1, 0, 1, out=apart)


def _grain(calm: FloatImage, behind: FloatImage, empty: Mask, screen: Screen) -> float:
    """The alpha that grain alone gives now and then where there is only screen."""
    found, level = screen.excess(calm)[empty][::7], screen.excess(behind)[empty][::7]
    if len(found) < 100:
        return 0.0
    usual = float(np.median(np.abs(found - level))) / 0.6745
    return BLACK_NOISES * usual / max(float(np.median(level)), 1e-3)


def _as_hint(alpha: FloatImage, erode: float, soften: float) -> FloatImage:
    """Alpha made smaller and blurred, both in pixels of a frame of 960: a network that is given a
    hint finds the edge itself, and is misled by one that has more than the subject."""
    unit = max(alpha.shape) / 960
    radius = round(erode * unit)
    if radius:
        alpha = cv2.erode(alpha, disc(radius))
    if soften > 0:
        alpha = blurred(alpha, soften * unit)
    return alpha


def _between(values: FloatImage, low: float, high: float) -> FloatImage:
    # Both may be one value: then it is a threshold.
    return np.clip((values - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)


def shrunk_to(picture: FloatImage, shape: tuple[int, ...]) -> FloatImage:
    """A picture at a smaller size `shape`."""
    return cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
