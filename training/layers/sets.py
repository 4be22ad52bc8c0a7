"""Sets (backgrounds): rooms, streets, clutter, walls, nature, and green or blue screens."""

from __future__ import annotations

import math
from typing import Any, Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from training.layers.fields import (
    Picture,
    Rng,
    blurred,
    chance,
    fractal,
    from_bytes,
    log_uniform,
    palette,
    surface,
    through_colours,
    to_bytes,
)
from training.layers.strands import grow, paint

_SCREEN_SHARE = 0.12
_GREEN = np.array([0.22, 0.68, 0.27], np.float32)
_BLUE = np.array([0.13, 0.28, 0.75], np.float32)


def draw_set(rng: Rng, side: int) -> tuple[Picture, bool]:
    """The picture (side, side, 3) float32 and whether it is a screen."""
    if chance(rng, _SCREEN_SHARE):
        return _finished(rng, _screen(rng, side), 0.25), True
    picture = _SETS[int(rng.integers(len(_SETS)))](rng, side)
    if chance(rng, 0.15):
        picture = _split(rng, picture, _SETS[int(rng.integers(len(_SETS)))](rng, side))
    return _finished(rng, picture, 0.5), False


def _finished(rng: Rng, picture: Picture, light: float) -> Picture:
    """The set with uneven light, changed contrast and the blur of its focus."""
    side = len(picture)
    if chance(rng, 0.6):
        field = fractal(rng, side, side, coarsest=2, roughness=0.35)[..., None]
        picture = picture * (1 + rng.uniform(0.1, 1.0) * light * (field - 0.5) * 2)
    if chance(rng, 0.3):
        middle = picture.mean()
        picture = middle + (picture - middle) * rng.uniform(0.4, 1.6)
    focus = log_uniform(rng, 0.8, 9) if chance(rng, 0.42) else rng.uniform(0.3, 0.7)
    return np.clip(blurred(np.ascontiguousarray(picture, np.float32), focus), 0, 1)


def _split(rng: Rng, first: Picture, second: Picture) -> Picture:
    """Two sets side by side along a straight edge."""
    side = len(first)
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    away = x * math.cos(angle) + y * math.sin(angle)
    edge = np.clip(away - rng.uniform(away.min(), away.max()) * 0.6, 0, 1)[..., None]
    return first * (1 - edge) + second * edge


# --- screens --------------------------------------------------------------------------------------


def flat_screen(rng: Rng, side: int) -> Picture:
    """A green or blue screen, evenly lit, with nothing on it."""
    base = _GREEN if chance(rng, 0.55) else _BLUE
    colour = np.clip(base * rng.uniform(0.6, 1.15) * rng.normal(1, 0.08, 3), 0.02, 0.97)
    light = fractal(rng, side, side, coarsest=2, roughness=0.2)[..., None] - 0.5
    picture = colour * (1 + rng.choice([0.0, 0.04, 0.15]) * light)
    return np.clip(picture, 0, 1).astype(np.float32)


def _screen(rng: Rng, side: int) -> Picture:
    """A lit screen with hot spot, folds, seams, markers, and perhaps the studio beside it."""
    base = _GREEN if chance(rng, 0.6) else _BLUE
    colour = np.clip(base * rng.uniform(0.5, 1.2) * rng.normal(1, 0.06, 3), 0.02, 0.97)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    spot = np.exp(
        -((x - rng.uniform(0, 1)) ** 2 + (y - rng.uniform(0, 1)) ** 2) / rng.uniform(0.15, 1.5)
    )
    light = 1 - rng.uniform(0, 0.55) * (1 - spot)
    folds = fractal(rng, side, side, coarsest=log_uniform(rng, 3, 14), roughness=0.4)
    light = light * (1 + rng.choice([0.02, 0.1, 0.3]) * (folds - 0.5))
    picture = to_bytes((colour * light[..., None]).astype(np.float32))
    if chance(rng, 0.35):
        _markers(rng, picture, colour)
    if chance(rng, 0.25):
        level = int(side * rng.uniform(0.7, 0.95))
        picture[level:] = to_bytes(
            (colour * rng.uniform(0.5, 0.9) * light[level:, :, None]).astype(np.float32)
        )
    result = from_bytes(picture)
    if chance(rng, 0.25):
        result = _split(rng, result, _room(rng, side))
    return result


def _markers(rng: Rng, picture: Any, colour: NDArray[np.float32]) -> None:
    pitch, size = int(rng.integers(60, 220)), int(rng.integers(3, 14))
    tone = (np.clip(colour * rng.choice([0.4, 1.6]) + rng.normal(0, 0.03), 0, 1) * 255).tolist()
    for y in range(int(rng.integers(pitch)), len(picture), pitch):
        for x in range(int(rng.integers(pitch)), len(picture), pitch):
            cv2.line(picture, (x - size, y), (x + size, y), tone, max(1, size // 4), cv2.LINE_AA)
            cv2.line(picture, (x, y - size), (x, y + size), tone, max(1, size // 4), cv2.LINE_AA)


# --- sets -----------------------------------------------------------------------------------------


def _wall(rng: Rng, side: int) -> Picture:
    """A nearly uniform wall: plaster, paper, a studio sweep."""
    colour = palette(rng, 2)
    field = fractal(rng, side, side, coarsest=2, roughness=rng.uniform(0.2, 0.5))
    picture = through_colours(field, np.stack([colour[0], colour[0] * 0.75 + colour[1] * 0.25]))
    grain = fractal(rng, side, side, coarsest=30, roughness=0.9)[..., None] - 0.5
    return picture * (1 + rng.uniform(0, 0.12) * grain)


def _clouded(rng: Rng, side: int) -> Picture:
    """Fractal noise in a few colours."""
    field = fractal(
        rng, side, side, coarsest=log_uniform(rng, 2, 12), roughness=rng.uniform(0.4, 0.8)
    )
    return through_colours(field, palette(rng, int(rng.integers(2, 6))))


def _covered(rng: Rng, side: int) -> Picture:
    """One surface over the whole frame: cloth, boards, print, letters."""
    return surface(rng, side, side, palette(rng, 1)[0])


def _leaves(rng: Rng, side: int) -> Picture:
    """Shapes over shapes, small ones more often: the statistics of most pictures (dead leaves)."""
    picture = to_bytes(_clouded(rng, side))
    sources = [to_bytes(surface(rng, side, side, colour)) for colour in palette(rng, 4)]
    smallest, round_share = log_uniform(rng, 5, 30), rng.random()
    for _ in range(int(rng.integers(100, 500))):
        radius = min(smallest / math.sqrt(rng.uniform(0.0008, 1)), side * 0.3)
        _drop_shape(rng, picture, sources[int(rng.integers(4))], radius, round_share)
    return from_bytes(picture)


def _drop_shape(rng: Rng, picture: Any, source: Any, radius: float, round_share: float) -> None:
    """One shape, filled with a shaded piece of the source."""
    side = len(picture)
    reach = int(radius * 1.5) + 1
    x, y = (int(v) for v in rng.uniform(0, side, 2))
    x0, y0, x1, y1 = (
        max(0, x - reach),
        max(0, y - reach),
        min(side, x + reach),
        min(side, y + reach),
    )
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    middle, angle = (x - x0, y - y0), float(rng.uniform(0, 180))
    axes = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.3, 1.3))))
    if rng.random() < round_share:
        cv2.ellipse(mask, middle, axes, angle, 0, 360, 255, -1, cv2.LINE_AA)
    else:
        corners = cv2.boxPoints(
            (middle, (axes[0] * 2.0, axes[1] * 2.0), angle if chance(rng, 0.4) else 0.0)
        )
        cv2.fillConvexPoly(mask, corners.astype(np.int32), 255, cv2.LINE_AA)
    ramp = np.linspace(rng.uniform(0.6, 1.1), rng.uniform(0.6, 1.1), x1 - x0, dtype=np.float32)[
        None, :, None
    ]
    view = picture[y0:y1, x0:x1]
    part = mask[..., None] * np.float32(1 / 255)
    fill = np.clip(source[y0:y1, x0:x1] * (ramp * rng.uniform(0.6, 1.3)), 0, 255)
    view[:] = (view * (1 - part) + fill * part).astype(np.uint8)


def _room(rng: Rng, side: int) -> Picture:
    """Wall and floor in perspective, with furniture, shelves, pictures, a window, lamps."""
    colours = palette(rng, 5)
    horizon = int(side * rng.uniform(0.5, 0.9))
    picture = to_bytes(surface(rng, side, side, colours[0]) * rng.uniform(0.7, 1.1))
    picture[horizon:] = _floor(rng, side, colours[1])[horizon:]
    if chance(rng, 0.5):
        _window(rng, picture, horizon)
    for _ in range(int(rng.integers(3, 14))):
        _cupboard(rng, picture, horizon, colours)
    for _ in range(int(rng.integers(0, 7))):
        _framed(rng, picture, horizon)
    if chance(rng, 0.4):
        _lamp(rng, picture, horizon)
    return from_bytes(picture)


def _floor(rng: Rng, side: int, colour: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A surface lying flat, seen from above at a slant."""
    flat = to_bytes(surface(rng, side, side, colour))
    narrow = side * rng.uniform(0.1, 0.4)
    source = np.float32([[narrow, 0], [side - narrow, 0], [side, side], [0, side]])
    target = np.float32(
        [[0, side * 0.45], [side, side * 0.45], [side * 1.4, side], [-side * 0.4, side]]
    )
    matrix = cv2.getPerspectiveTransform(source, target)
    return cv2.warpPerspective(flat, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)


def _cupboard(rng: Rng, picture: Any, horizon: int, colours: NDArray[np.float32]) -> None:
    """A box against the wall, perhaps with shelves and what stands on them."""
    side = len(picture)
    wide, high = int(side * log_uniform(rng, 0.05, 0.4)), int(side * log_uniform(rng, 0.05, 0.5))
    x = int(rng.uniform(-0.1, 1.0) * side)
    bottom = min(side, int(horizon + side * rng.uniform(-0.25, 0.3)))
    box = picture[max(0, bottom - high) : bottom, max(0, x) : max(0, x + wide)]
    if min(box.shape[:2]) < 6:
        return
    colour = np.clip(colours[int(rng.integers(len(colours)))] * rng.uniform(0.5, 1.4), 0, 1)
    shade = np.linspace(rng.uniform(0.6, 1), rng.uniform(0.6, 1.1), box.shape[1])[None, :, None]
    box[:] = to_bytes((surface(rng, box.shape[0], box.shape[1], colour) * shade).astype(np.float32))
    if chance(rng, 0.5):
        pitch = int(rng.integers(14, 60))
        for top in range(4, box.shape[0] - pitch, pitch):
            _row_of_books(rng, box[top : top + pitch - 4, 3:-3])
    edge = (box.mean((0, 1)) * rng.uniform(0.3, 0.8)).astype(np.uint8)
    box[:2], box[-2:], box[:, :2], box[:, -2:] = (edge,) * 4


def _row_of_books(rng: Rng, shelf: Any) -> None:
    """Narrow upright boxes of many colours and heights."""
    x, tones = 0, (palette(rng, 8) * 255).astype(np.uint8)
    shelf[:] = shelf // 3
    while x < shelf.shape[1]:
        wide = int(rng.integers(2, max(3, shelf.shape[0] // 3)))
        top = int(shelf.shape[0] * rng.uniform(0, 0.4))
        shelf[top:, x : x + wide - 1] = tones[int(rng.integers(8))]
        x += wide if chance(rng, 0.9) else wide * 3


def _framed(rng: Rng, picture: Any, horizon: int) -> None:
    """A picture or poster on the wall."""
    side = len(picture)
    wide, high = (int(side * rng.uniform(0.06, 0.25)) for _ in range(2))
    x, y = int(rng.uniform(0, 0.9) * side), int(rng.uniform(0, 0.7) * horizon)
    box = picture[y : y + high, x : x + wide]
    if min(box.shape[:2]) < 10:
        return
    inner = _clouded(rng, max(box.shape[:2]))[: box.shape[0], : box.shape[1]]
    frame = int(rng.integers(1, 7))
    box[:] = to_bytes(palette(rng, 1)[0])
    box[frame:-frame, frame:-frame] = to_bytes(inner)[frame:-frame, frame:-frame]


def _window(rng: Rng, picture: Any, horizon: int) -> None:
    """Daylight behind bars, brighter than the room."""
    side = len(picture)
    x, y = int(rng.uniform(0, 0.7) * side), int(rng.uniform(0.02, 0.3) * horizon)
    box = picture[
        y : y + int(side * rng.uniform(0.2, 0.5)), x : x + int(side * rng.uniform(0.15, 0.5))
    ]
    view = _street(rng, side)[: box.shape[0], : box.shape[1]]
    box[:] = to_bytes(view * rng.uniform(1.0, 1.9))
    pitch, tone = int(rng.integers(30, 120)), to_bytes(palette(rng, 1)[0])
    for at in range(0, box.shape[1], pitch):
        box[:, at : at + 4] = tone
    for at in range(0, box.shape[0], pitch):
        box[at : at + 4] = tone


def _lamp(rng: Rng, picture: Any, horizon: int) -> None:
    side = len(picture)
    for _ in range(int(rng.integers(1, 6))):
        at = tuple(int(v) for v in rng.uniform(0, 1, 2) * (side, horizon))
        glow = np.zeros((side, side), np.uint8)
        cv2.circle(glow, at, int(side * rng.uniform(0.004, 0.04)), 255, -1, cv2.LINE_AA)
        near = blurred(from_bytes(glow), side * 0.06) * rng.uniform(2, 8) + from_bytes(glow)
        warm = np.float32([255, 245, 220]) * np.minimum(near, 1)[..., None]
        picture[:] = np.clip(picture + warm, 0, 255).astype(np.uint8)


def _street(rng: Rng, side: int) -> Picture:
    """Sky, hills or houses with windows, trees, a road."""
    down = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    high, low = palette(rng, 2) * 0.35 + np.float32([[0.3, 0.45, 0.62], [0.55, 0.6, 0.62]])
    cloud = fractal(rng, side, side, coarsest=3, roughness=0.55)[..., None] ** 2 * rng.uniform(
        0, 1.2
    )
    sky = high * (1 - down) + low * down
    picture = to_bytes(sky + (0.97 - sky) * np.clip(cloud, 0, 1))
    level = side * rng.uniform(0.2, 0.5)
    for _ in range(int(rng.integers(1, 4))):
        if chance(rng, 0.6):
            _houses(rng, picture, level)
        else:
            _hills(rng, picture, level)
        level += side * rng.uniform(0.06, 0.2)
    for _ in range(int(rng.integers(0, 6))):
        _tree(rng, picture, level)
    ground = int(min(level + side * 0.12, side - 2))
    picture[ground:] = _floor(rng, side, palette(rng, 1)[0])[ground:]
    return from_bytes(picture)


def _houses(rng: Rng, picture: Any, level: float) -> None:
    side, x = len(picture), -20
    while x < side:
        wide = int(side * rng.uniform(0.06, 0.25))
        top = max(0, int(level + side * rng.uniform(-0.2, 0.1)))
        house = picture[top:, max(0, x) : max(0, x + wide)]
        if min(house.shape[:2]) > 6:
            house[:] = to_bytes(surface(rng, *house.shape[:2], palette(rng, 1)[0]))
            _windows(rng, house)
        x += wide


def _windows(rng: Rng, house: Any) -> None:
    pitch, wide = int(rng.integers(10, 40)), rng.uniform(0.3, 0.7)
    tones = palette(rng, 3) * 255
    for y in range(pitch // 2, house.shape[0] - pitch // 2, pitch):
        for x in range(pitch // 3, house.shape[1] - pitch // 2, pitch):
            house[y : y + int(pitch * wide * 1.2), x : x + int(pitch * wide)] = tones[
                int(rng.integers(3))
            ]


def _hills(rng: Rng, picture: Any, level: float) -> None:
    side = len(picture)
    rough = fractal(rng, 8, side, coarsest=3, roughness=rng.uniform(0.3, 0.6))[4]
    edge = level + (rough - 0.5) * side * rng.uniform(0.1, 0.5)
    below = np.arange(side)[:, None] > edge[None]
    cover = to_bytes(surface(rng, side, side, palette(rng, 1)[0] * 0.8))
    np.copyto(picture, cover, where=below[..., None])


def _tree(rng: Rng, picture: Any, level: float) -> None:
    """A crown of noise on a trunk."""
    side = len(picture)
    x, y = rng.uniform(0, side), level - side * rng.uniform(0, 0.25)
    size = side * rng.uniform(0.06, 0.25)
    trunk = (palette(rng, 1)[0] * 100).tolist()
    cv2.line(
        picture,
        (int(x), int(y)),
        (int(x), int(level + 40)),
        trunk,
        max(2, int(size / 12)),
        cv2.LINE_AA,
    )
    yy, xx = np.mgrid[0:side, 0:side].astype(np.float32)
    away = np.hypot(xx - x, (yy - y) * rng.uniform(0.8, 1.3)) / size
    field = fractal(rng, side, side, coarsest=25, roughness=0.75)
    crown = np.clip((1.35 - away - field) * 8, 0, 1)[..., None]
    green = np.clip(
        np.float32([0.22, 0.38, 0.14]) * rng.uniform(0.5, 1.6) * rng.normal(1, 0.2, 3), 0, 1
    )
    picture[:] = (picture * (1 - crown) + green * 255 * (0.4 + field[..., None]) * crown).clip(
        0, 255
    )


def _bricks(rng: Rng, side: int) -> Picture:
    """Bricks, tiles or boards, each of its own shade."""
    high, wide = int(log_uniform(rng, 8, 90)), int(log_uniform(rng, 16, 260))
    shades = rng.normal(1, rng.uniform(0.04, 0.25), (side // high + 2, side // wide + 3, 1))
    tint = 1 + 0.1 * rng.standard_normal((side // high + 2, side // wide + 3, 3))
    y, x = np.arange(side)[:, None], np.arange(side)[None]
    row = y // high
    shift = (row % 2) * (wide // 2) * int(chance(rng, 0.7))
    column = (x + shift) // wide
    gap = int(rng.integers(1, 5))
    joint = (y % high < gap) | ((x + shift) % wide < gap)
    picture = surface(rng, side, side, palette(rng, 1)[0]) * (shades * tint)[row, column]
    picture = np.where(joint[..., None], picture.mean() * rng.uniform(0.3, 1.5), picture)
    return np.clip(picture, 0, 1).astype(np.float32)


def _meadow(rng: Rng, side: int) -> Picture:
    """Grass, straw, carpet, gravel: thousands of small strokes."""
    picture = _clouded(rng, side)
    count = int(rng.integers(1500, 5000))
    roots = rng.uniform(0, side, (count, 2))
    angles = -math.pi / 2 + rng.normal(0, rng.choice([0.3, 2.0]), count)
    lengths = side * log_uniform(rng, 0.01, 0.12) * rng.uniform(0.3, 1, count)
    strands = grow(rng, roots, angles, lengths, curl=0.6, steps=6)
    tones = picture[roots[:, 1].astype(int), roots[:, 0].astype(int)] * rng.uniform(
        0.5, 1.5, (count, 1)
    )
    colour, cover = paint(rng, side, strands, tones, thickness_px=rng.uniform(0.5, 3), spread=0.2)
    return picture * (1 - cover[..., None]) + colour * cover[..., None]


def _lights(rng: Rng, side: int) -> Picture:
    """Lights far out of focus in front of something dark."""
    picture = to_bytes(_clouded(rng, side) * rng.uniform(0.2, 0.6))
    radius = int(log_uniform(rng, 5, 45))
    for _ in range(int(rng.integers(10, 70))):
        disc = np.zeros_like(picture)
        at = tuple(int(v) for v in rng.uniform(0, side, 2))
        cv2.circle(
            disc,
            at,
            int(radius * rng.uniform(0.7, 1.1)),
            (palette(rng, 1)[0] * 160).tolist(),
            -1,
            16,
        )
        cv2.add(picture, disc, picture)
    return from_bytes(picture)


_SETS: tuple[Callable[[Rng, int], Picture], ...] = (
    _wall,
    _clouded,
    _covered,
    _leaves,
    _leaves,
    _leaves,
    _room,
    _room,
    _room,
    _room,
    _room,
    _street,
    _street,
    _street,
    _street,
    _bricks,
    _meadow,
    _lights,
)
