"""Which screen a picture shows: green or blue, its hue, and whether it is one at all.

    pixels of a clear screen colour --> their commonest hue --> its areas at the frame's edge

A screen is one hue over a good share of the frame, joined to the frame's edge, without texture. A
lawn, a painted door or a dress is less than that: too small, not at the edge, or not smooth. Hue is
the ratio of the two other channels to the screen's, which light that falls off does not change.
Everything is display-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import cv2
import numpy as np

from mattebridge.color import largest_channel
from mattebridge.errors import ModelError

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

CHANNELS = {"green": 1, "blue": 2}
# Long side of the picture that is looked at.
LOOK_SIDE = 320
# A pixel may be screen where its channel is above both others by this, and by this share of itself.
LEAST_EXCESS, LEAST_SATURATION = 0.08, 0.2
# Cells of the hue histogram, its blur, and how far from the commonest hue is still the screen.
HUES, HUE_BLUR, HUE_REACH = 40, 1.2, 0.14
# A screen found by itself covers this share of the frame and of its edge; one that was named, less.
LEAST_AREA, LEAST_EDGE, LEAST_NAMED = 0.15, 0.2, 0.002
# Median detail (colour length, encoded) over the screen's level: a lawn has more, grain less.
MOST_TEXTURE = 0.04
# Of what a plate shows in front of a clean plate (it differs by this, after this blur), so much is
# in front of the screen, unless it is a set with a coloured wall.
CHANGED, CHANGED_BLUR_PX, LEAST_BEFORE = 0.1, 1.2, 0.5
# A clean plate is that of a screen and no set's where the screen covers this share of it, with this
# texture at most.
ALONE_AREA, ALONE_TEXTURE = 0.97, 0.02


@dataclass(frozen=True)
class Screen:
    """A screen: its channel (1 green, 2 blue), and the ratios of the two others to it."""

    channel: int
    hue: tuple[float, float]

    @property
    def name(self) -> str:
        return "green" if self.channel == CHANNELS["green"] else "blue"

    @property
    def others(self) -> tuple[int, int]:
        first, second = (channel for channel in range(3) if channel != self.channel)
        return first, second

    def excess(self, picture: FloatImage) -> FloatImage:
        """(H, W): the screen's channel above the mean of the others."""
        first, second = self.others
        mean = (picture[..., first] + picture[..., second]) * np.float32(0.5)
        return picture[..., self.channel] - mean

    def clear(self, picture: FloatImage) -> Mask:
        """(H, W): where the screen's channel is clearly above both others."""
        own = picture[..., self.channel]
        first, second = self.others
        above = own - np.maximum(picture[..., first], picture[..., second])
        return (above > LEAST_EXCESS) & (above > LEAST_SATURATION * own)

    def hue_distance(self, picture: FloatImage) -> FloatImage:
        """(H, W): how far each pixel's ratios are from those of the screen."""
        own = np.maximum(picture[..., self.channel], np.float32(1e-3))
        first, second = (picture[..., other] / own for other in self.others)
        return np.hypot(first - np.float32(self.hue[0]), second - np.float32(self.hue[1]))


def find_screen(picture: FloatImage, wanted: str, colour: str) -> Screen:
    """The screen in a plate or clean plate (H, W, 3), display-encoded.

    wanted: auto, green or blue. colour: `#rrggbb`, or empty. Raises `ModelError` for a picture
    without such a screen, and for a colour that is not one of a screen or not of the one wanted.
    """
    if colour:
        return _picked(colour, wanted)
    best = _around(_small(picture), tuple(CHANNELS) if wanted == "auto" else (wanted,))
    if wanted != "auto":
        if best is None or best.area < LEAST_NAMED:
            raise refusal(
                f"setting 'screen' is {wanted}, and there is no {wanted} screen in this plate",
                "use 'auto', or a model that takes a clean plate",
            )
        return best.screen
    if best is None or best.area < LEAST_AREA or best.edge < LEAST_EDGE:
        share = 0.0 if best is None else best.area
        raise refusal(
            "no green or blue screen was found in this plate (the largest area of one such colour"
            f" at the frame's edge is {share:.0%} of the frame)"
        )
    if best.texture > MOST_TEXTURE:
        raise refusal(
            f"no green or blue screen was found in this plate ({best.area:.0%} of the frame is"
            f" {best.screen.name}, but has the texture of a set, not of a screen)"
        )
    return best.screen


def refuse_set(plate: FloatImage, clean_plate: FloatImage, screen: Screen) -> None:
    """Raise `ModelError` for a clean plate of a set, one wall of which was found as the screen.

    What the plate shows in front of it stands elsewhere, too. Both (H, W, 3), display-encoded.
    """
    small, empty = _small(plate), _small(clean_plate)
    apart = np.abs(cv2.GaussianBlur(small - empty, (0, 0), CHANGED_BLUR_PX))
    changed = largest_channel(apart) > CHANGED
    wall = screen.clear(empty) & (screen.hue_distance(empty) < HUE_REACH)
    if changed.any() and wall[changed].mean() < LEAST_BEFORE:
        raise refusal(
            f"no green or blue screen was found in this clean plate ({wall.mean():.0%} of the frame"
            f" is {screen.name}, but only {wall[changed].mean():.0%} of the subject is in front of"
            " that: it is a set)"
        )


def screen_alone(clean_plate: FloatImage) -> Optional[Screen]:
    """The screen of a clean plate (H, W, 3), display-encoded, that shows hardly anything else.

    None for one of a set. A picture that was made small for the look gives the same.
    """
    best = _around(_small(clean_plate), tuple(CHANNELS))
    if best is None or best.area < ALONE_AREA or best.texture > ALONE_TEXTURE:
        return None
    return best.screen


NAME_IT = (
    "use a model that takes a clean plate, or name the screen with the setting 'screen' or 'colour'"
    " if there is one"
)


def refusal(what: str, remedy: str = NAME_IT) -> ModelError:
    """The error for a plate whose screen was not found: what was found, and what to do."""
    return ModelError(
        f"{what} - {remedy}",
        reason="no_screen",
        field="params.settings.screen",
    )


def _picked(colour: str, wanted: str) -> Screen:
    """The screen of a picked colour."""
    text = colour.removeprefix("#")
    try:
        values = [int(text[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    except ValueError:
        values = []
    if len(text) != 6 or not values:
        raise ModelError(
            f"setting 'colour' of model 'screen' must be #rrggbb; got {colour!r:.20}",
            reason="setting",
            field="params.settings.colour",
        )
    channel = int(np.argmax(values))
    others = sorted(set(range(3)) - {channel})
    if channel not in CHANNELS.values() or values[channel] - max(values[i] for i in others) < 0.05:
        raise ModelError(
            f"setting 'colour' of model 'screen' must be a green or a blue; got {colour}"
            " - pick the colour from the screen",
            reason="setting",
            field="params.settings.colour",
        )
    screen = Screen(
        channel, (values[others[0]] / values[channel], values[others[1]] / values[channel])
    )
    if wanted not in ("auto", screen.name):
        raise ModelError(
            f"setting 'screen' of model 'screen' is {wanted}, and 'colour' is {colour}, a"
            f" {screen.name} - leave out one of them",
            reason="setting",
            field="params.settings.colour",
        )
    return screen


@dataclass(frozen=True)
class _Found:
    """A hue of one channel: share of the frame and of its edge, and texture over level."""

    screen: Screen
    area: float
    edge: float
    texture: float

    @classmethod
    def of(cls, picture: FloatImage, channel: int) -> Optional[_Found]:
        anything = Screen(channel, (0, 0))
        clear = anything.clear(picture)
        if not clear.any():
            return None
        screen = Screen(channel, _commonest_hue(picture[clear], anything))
        near = clear & (screen.hue_distance(picture) < HUE_REACH)
        joined, edge = _joined_to_edge(near)
        texture = _texture(picture, joined, channel)
        return cls(screen, float(joined.mean()), edge, texture)


def _around(small: FloatImage, names: tuple[str, ...]) -> Optional[_Found]:
    """That of these colours which covers most of a small picture's edge; None where it has none.

    A subject of the other colour may be larger than the screen, but the screen is around it.
    """
    found = [one for name in names if (one := _Found.of(small, CHANNELS[name])) is not None]
    return max(found, key=lambda one: (one.edge, one.area), default=None)


def look_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width at which a picture of this shape is looked at."""
    height, width = shape[:2]
    scale = min(1.0, LOOK_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _small(picture: FloatImage) -> FloatImage:
    height, width = look_size(picture.shape)
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.minimum(small, np.float32(4))


def _commonest_hue(pixels: FloatImage, screen: Screen) -> tuple[float, float]:
    own = pixels[:, screen.channel]
    first, second = (pixels[:, other] / own for other in screen.others)
    counts = np.histogram2d(first, second, bins=HUES, range=[[0, 1], [0, 1]])[0]
    counts = cv2.GaussianBlur(counts, (0, 0), HUE_BLUR, borderType=cv2.BORDER_CONSTANT)
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    near = np.hypot(first - (row + 0.5) / HUES, second - (column + 0.5) / HUES) < 2 / HUES
    if not near.any():
        return (float(row) + 0.5) / HUES, (float(column) + 0.5) / HUES
    return float(np.median(first[near])), float(np.median(second[near]))


def _joined_to_edge(near: Mask) -> tuple[Mask, float]:
    """The part of a mask that touches the frame's edge, and the share of the edge it covers."""
    edge = np.zeros_like(near)
    edge[0] = edge[-1] = edge[:, 0] = edge[:, -1] = True
    _count, labels = cv2.connectedComponents(near.astype(np.uint8))
    joined = near & np.isin(labels, np.unique(labels[edge & near]))
    return joined, float((joined & edge).sum() / edge.sum())


def _texture(picture: FloatImage, joined: Mask, channel: int) -> float:
    inside = cv2.erode(joined.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    inside = inside if inside.any() else joined
    if not inside.any():
        return np.inf
    fine = cv2.GaussianBlur(picture, (0, 0), 1.0) - cv2.GaussianBlur(picture, (0, 0), 4.0)
    detail = np.abs(fine[inside]).sum(axis=1)
    return float(np.median(detail) / max(np.median(picture[inside][:, channel]), 1e-3))
