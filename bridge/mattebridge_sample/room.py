"""The set of the sample shot: a loft with a brick wall, evening sun and a view into the depth.

What is built here, once for all frames:

    solids and walls -> what each pixel sees (twice the size) -> reflectance and relief
    sun | window sky | lamps | bounced light, each kept apart, per pixel
    radiance = reflectance / pi * (sum of the four) + gloss + what shines itself -> lens

The four kinds of light are kept apart because the subject blocks each of them separately: the sun
gives the hard shadow on the bricks, the sky a soft one, the bounced light the darkening where
a hand touches the wood (`shadow.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from mattebridge_sample.arrays import Array, vec
from mattebridge_sample.furniture import solids
from mattebridge_sample.grid import Coarse, coarse_grid, smooth
from mattebridge_sample.lights import (
    AMBIENT,
    LAMP,
    LAMP_AT,
    SKY,
    SUN,
    TO_SUN,
    bounced_light,
    lamp_light,
    open_sky,
    outside,
    sun_through_window,
    toward_sun,
    window_light,
)
from mattebridge_sample.optics import Camera, defocus, shrink
from mattebridge_sample.shapes import Solid, in_shade
from mattebridge_sample.surfaces import Surface, dress
from mattebridge_sample.view import View, look
from mattebridge_sample.walls import LEFT, shell


@dataclass(frozen=True)
class Light:
    """Irradiance (H, W, 3) at each pixel of the empty set, by where it comes from."""

    sun: Array
    sky: Array
    lamp: Array
    bounce: Array


@dataclass(frozen=True)
class Room:
    """The set as the camera sees it without the subject; arrays have `margin` pixels all around."""

    margin: int
    image: Array  # (H, W, 3) scene-linear, defocused, no grain
    position: Array  # (H, W, 3) world
    normal: Array  # (H, W, 3)
    blur_px: Array  # (H, W)
    light: Light
    fixed_share: Array  # (H, W) part of the radiance that no shadow takes away


def build(camera: Camera, seed: int, margin: int) -> tuple[Room, Coarse]:
    """The set, lit and through the lens, and the sparse grid for the subject's soft shadows."""
    rng = np.random.default_rng([seed, 1])
    things = solids()
    casters = [
        thing for thing in things if thing.casts and thing.surface not in ("twig", "stem", "brass")
    ]
    factor = 2
    view = look(camera, things, margin, factor)
    smooth_normal = view.normal.copy()
    surface = dress(view, things, seed)
    grid = coarse_grid(view.position, smooth_normal, view.shape, 4 * factor)
    tint = _tints(view, surface, things)
    sky = window_light(grid.position, grid.normal, casters, rng, 9)
    lamp = lamp_light(grid.position, grid.normal, casters, rng, 4)
    bounce = bounced_light(
        grid.position, grid.normal, casters, _caster_tints(tint, things, casters), rng, 20
    )
    soft = np.concatenate([sky[:, None], lamp[:, None], bounce], 1)
    soft = grid.spread(smooth(soft, grid.position, grid.normal, grid.shape))
    tilt = 1 + 0.9 * ((view.normal - smooth_normal) * _main_light(view.position)).sum(0)
    tilt = np.clip(tilt, 0.3, 1.9).astype(np.float32)
    sun = _sun_light(view, casters, rng) * np.maximum(toward_sun(view.normal), 0)
    parts = {
        "sun": sun[:, None] * SUN,
        "sky": (soft[:, 0] * tilt)[:, None] * SKY,
        "lamp": soft[:, 1:2] * LAMP,
        "bounce": soft[:, 2:] + AMBIENT,
    }
    fixed = _gloss(view, surface, rng) + surface.shine
    lit = surface.colour / np.pi * sum(parts.values())
    return _assemble(camera, view, smooth_normal, parts, lit, fixed, margin, factor)


def _sun_light(view: View, casters: list[Solid], rng: np.random.Generator) -> Array:
    """Sun reaching each pixel (N,), 0..1, furniture in the way included, cosine excluded."""
    share = sun_through_window(view.position)
    share *= (toward_sun(view.normal)) > 0
    lit = np.flatnonzero(share > 0.004)
    origin = view.position[:, lit] + 0.002 * view.normal[:, lit]
    clear = np.zeros(len(lit), np.float32)
    for _ in range(2):
        toward = TO_SUN[:, None] + rng.uniform(-0.01, 0.01, (3, len(lit))).astype(np.float32)
        clear += ~in_shade(casters, origin, toward, 0.02)
    share[lit] *= clear / 2
    return share


def _gloss(view: View, s: Surface, rng: np.random.Generator) -> Array:
    """Mirror-like part (N, 3): windows, lamp and walls seen in floor, glaze and varnish."""
    result = np.zeros_like(s.colour)
    shiny = np.flatnonzero(s.gloss > 0.004)
    p, n, d = view.position[:, shiny], view.normal[:, shiny], view.direction[:, shiny]
    cosine = np.clip(-(n * d).sum(0), 0, 1)
    base = s.gloss[shiny]
    fresnel = base + (1 - base) * (1 - cosine) ** 5 * np.minimum(1, base * 14)
    total = np.zeros((len(shiny), 3), np.float32)
    rough = s.rough[shiny]
    count = 2
    for _ in range(count):
        facet = n + rough * 0.55 * rng.normal(0, 0.5, n.shape).astype(np.float32)
        facet /= np.sqrt((facet * facet).sum(0))
        mirror = d - 2 * (d * facet).sum(0) * facet
        t, kind, normal = shell(p + 0.003 * n, mirror)
        at = p + t * mirror
        light = AMBIENT + (open_sky(at, normal)[:, None] * SKY) * 0.7
        light = light + (sun_through_window(at) * np.maximum(toward_sun(normal), 0))[:, None] * SUN
        wall = vec([0.30, 0.27, 0.22]) * light / np.pi
        through = kind == -7
        wall[through] = outside(mirror[:, through])
        total += wall
    # The sun's and the lamp's own highlight.
    for toward, power in (
        (np.repeat(TO_SUN[:, None], len(shiny), 1), SUN),
        (LAMP_AT[:, None] - p, LAMP),
    ):
        square = (toward * toward).sum(0)
        toward = toward / np.sqrt(square)
        half = toward - d
        half /= np.sqrt((half * half).sum(0))
        exponent = 2 / np.maximum(rough, 0.08) ** 2
        lobe = np.maximum((half * n).sum(0), 0) ** exponent * (exponent + 2) / 8
        share = sun_through_window(p) if power is SUN else 1 / square
        total += count * (lobe * share * np.maximum((toward * n).sum(0), 0))[:, None] * power
    result[shiny] = np.minimum(fresnel[:, None] * total / count, 30)
    return result


def _main_light(p: Array) -> Array:
    """Unit directions (3, N) to the middle of the seen window: where relief catches the sky."""
    away = vec([[LEFT], [1.8], [3.2]]) - p
    return np.asarray(away / np.sqrt((away * away).sum(0)), np.float32)


def _tints(view: View, s: Surface, things: list[Solid]) -> Array:
    """Mean colour of every thing and wall, by code + 8; what is out of sight gets a grey."""
    tint = np.full((len(things) + 8, 3), 0.25, np.float32)
    count = np.bincount(view.thing + 8, minlength=len(tint))
    for channel in range(3):
        total = np.bincount(view.thing + 8, weights=s.colour[:, channel], minlength=len(tint))
        tint[count > 50, channel] = (total / np.maximum(count, 1))[count > 50]
    return tint


def _caster_tints(tint: Array, things: list[Solid], casters: list[Solid]) -> Array:
    order = [things.index(thing) for thing in casters]
    return np.concatenate([tint[:8], tint[8:][order]])


def _assemble(
    camera: Camera,
    view: View,
    smooth_normal: Array,
    parts: dict[str, Array],
    lit: Array,
    fixed: Array,
    margin: int,
    factor: int,
) -> tuple[Room, Coarse]:
    def frame(values: Array) -> Array:
        return shrink(np.ascontiguousarray(values.reshape(*view.shape, -1)), factor)

    sharp, own = frame(lit + fixed), frame(fixed)
    position = np.ascontiguousarray(view.position.T.reshape(*view.shape, 3)[::factor, ::factor])
    normal = np.ascontiguousarray(smooth_normal.T.reshape(*view.shape, 3)[::factor, ::factor])
    depth = camera.project(position)[2]
    blur = vec(cv2.GaussianBlur(camera.blur_radius(depth), (0, 0), 0.8))
    light = Light(*(frame(parts[name]) for name in ("sun", "sky", "lamp", "bounce")))
    share = own.sum(-1) / np.maximum(sharp.sum(-1), 1e-6)
    room = Room(margin, defocus(sharp, blur), position, normal, blur, light, share)
    flat_p = np.ascontiguousarray(position.reshape(-1, 3).T)
    flat_n = np.ascontiguousarray(normal.reshape(-1, 3).T)
    return room, coarse_grid(flat_p, flat_n, position.shape[:2], 4)


@lru_cache(maxsize=4)
def probe(at: tuple[float, float, float], seed: int) -> Array:
    """Bounced light (6, 3) at a place, on surfaces facing +x -x +y -y +z -z."""
    things = solids()
    casters = [thing for thing in things if thing.casts]
    tint = np.full((len(casters) + 8, 3), 0.22, np.float32)
    for code, colour in (
        (-3, (0.24, 0.13, 0.09)),
        (-1, (0.16, 0.09, 0.05)),
        (-5, (0.56, 0.53, 0.48)),
    ):
        tint[code + 8] = colour
    facing = vec([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]).T
    count = 24
    n = np.repeat(facing, count, 1)
    p = np.repeat(vec(at)[:, None], n.shape[1], 1)
    rng = np.random.default_rng([seed, 2])
    light = bounced_light(p, n, casters, tint, rng, 32)
    return np.asarray(light.reshape(6, count, 3).mean(1) + AMBIENT, np.float32)
