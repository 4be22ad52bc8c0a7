"""Composites with known alpha, drawn from code: the set that guards the quality of the mattes.

Every frame is a procedural subject (figure, plush animal, head of hair, plant, wicker ball,
tassels) over a procedural set (room, town, foliage, planks, lit screen), with what a shoot adds:

    clean     grain only
    shadow    a cast and a contact shadow, only in the plate
    drift     the clean plate has another exposure, gamma, white balance and a sub-pixel shift
    similar   the set's colours are pulled to the subject's: extreme on purpose, read apart
    noisy     four times the grain, every third frame through JPEG as well
    motion    straight motion blur of the subject, two frames in three with the shadow too

Both blends exist: `display` mixes encoded values (as most public test composites do), `linear`
mixes light (as a camera does). Everything is seeded by kind, number and blend; needs numpy and
OpenCV only. All images: float32 0..1, display-encoded sRGB RGB, top-down, 8-bit values; alpha
linear coverage; foreground straight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
KINDS = ("clean", "shadow", "drift", "similar", "noisy", "motion")
BLENDS = ("display", "linear")
GRAIN_SIGMA = 0.008


@dataclass(frozen=True)
class Composite:
    """One frame with its truth."""

    name: str
    kind: str
    blend: str
    plate: Image
    clean_plate: Image
    alpha: Image
    foreground: Image


def composite(kind: str, number: int, *, blend: str = "display", long_side: int = 640) -> Composite:
    """The `number`-th frame of a kind; the same arguments always give the same pixels."""
    rng = np.random.default_rng([KINDS.index(kind), number, BLENDS.index(blend), 20])
    height, width = _frame_size(rng, long_side)
    scale = long_side / 640
    make_set = _SETS[int(rng.integers(len(_SETS)))]
    clean = make_set(rng, height, width)
    premultiplied, alpha = _subject(rng, height, width)
    if kind == "similar":
        clean = _pull_colours(clean, premultiplied, alpha)
    if kind == "motion":
        premultiplied, alpha = _motion_blur(rng, premultiplied, alpha, scale)
    lit = clean
    if kind == "shadow" or (kind == "motion" and number % 3 != 0):
        lit = _cast_shadow(rng, clean, alpha, scale)
    foreground = premultiplied / np.maximum(alpha, 1e-3)[..., None]
    plate = _blend(foreground, lit, alpha[..., None], blend)
    if kind == "drift":
        clean = _drift(rng, clean, scale)
    sigma = 0.035 if kind == "noisy" else GRAIN_SIGMA
    plate, clean = _grain(rng, plate, sigma), _grain(rng, clean, sigma)
    if kind == "noisy" and number % 3 == 0:
        plate, clean = _jpeg(plate), _jpeg(clean)
    return Composite(
        name=f"{kind}_{number:02d}_{blend}",
        kind=kind,
        blend=blend,
        plate=_eight_bit(plate),
        clean_plate=_eight_bit(clean),
        alpha=alpha,
        foreground=np.clip(foreground, 0, 1).astype(np.float32),
    )


def composites(
    per_kind: int, *, kinds: tuple[str, ...] = KINDS, long_side: int = 640
) -> list[Composite]:
    """`per_kind` frames of each kind in each blend."""
    return [
        composite(kind, number, blend=blend, long_side=long_side)
        for kind in kinds
        for number in range(per_kind)
        for blend in BLENDS
    ]


def difference_key(plate: Image, clean_plate: Image) -> Image:
    """The plain key every engine has to beat: blurred largest difference through a smooth step."""
    difference = np.abs(
        cv2.GaussianBlur(plate, (0, 0), 0.7) - cv2.GaussianBlur(clean_plate, (0, 0), 0.7)
    )
    step = np.clip((difference.max(axis=2) - 0.04) / 0.12, 0, 1)
    return step * step * (3 - 2 * step)


def alpha_error(alpha: Image, truth: Image) -> float:
    """Mean absolute error of alpha over the frame, in thousandths (MAD e-3)."""
    return float(np.abs(alpha - truth).mean() * 1e3)


def soft_error(alpha: Image, truth: Image) -> float:
    """Mean absolute error where the true alpha is neither 0 nor 1 (the unknown region), in e-3."""
    soft = (truth > 0.01) & (truth < 0.99)
    return float(np.abs(alpha - truth)[soft].mean() * 1e3) if soft.any() else 0.0


def foreground_error(foreground: Image, composite: Composite) -> float:
    """Mean squared error of the straight foreground where the subject is, in e-3."""
    visible = composite.alpha > 0.02
    return float(np.square(foreground - composite.foreground)[visible].mean() * 1e3)


# --- what a shoot does to both pictures -----------------------------------------------------------


def _blend(foreground: Image, background: Image, alpha: Image, blend: str) -> Image:
    if blend == "display":
        return alpha * foreground + (1 - alpha) * background
    mixed = alpha * _decode(foreground) + (1 - alpha) * _decode(background)
    return _encode(mixed)


def _encode(x: Image) -> Image:
    x = np.maximum(x, 0)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055).astype(np.float32)


def _decode(x: Image) -> Image:
    x = np.maximum(x, 0)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _cast_shadow(rng: np.random.Generator, picture: Image, alpha: Image, scale: float) -> Image:
    height = alpha.shape[0]
    move_x = rng.uniform(20, 70) * rng.choice([-1, 1]) * scale
    move_y = rng.uniform(5, 40) * scale
    cast = np.float32([[1, 0.1, move_x - 0.05 * height], [0, 0.95, move_y + 0.05 * height]])
    contact = np.float32([[1, 0, 0], [0, 1, 4 * scale]])
    soft = _moved(alpha, cast, rng.uniform(8, 22) * scale) * rng.uniform(0.3, 0.5)
    near = _moved(alpha, contact, 5 * scale) * 0.25
    return picture * ((1 - soft) * (1 - near))[..., None]


def _moved(alpha: Image, matrix: Image, sigma: float) -> Image:
    size = alpha.shape[1], alpha.shape[0]
    return cv2.GaussianBlur(cv2.warpAffine(alpha, matrix, size), (0, 0), sigma)


def _drift(rng: np.random.Generator, picture: Image, scale: float) -> Image:
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.92, 1.08)
    balance = rng.uniform(0.93, 1.07) * (1 + 0.02 * rng.standard_normal(3))
    # float32: OpenCV 5.0 forgets the border mode when it warps float64.
    picture = (picture * balance).astype(np.float32)
    dx, dy = rng.uniform(-1.4, 1.4, 2) * scale
    matrix = np.float32([[1, 0.0008, dx], [-0.0008, 1, dy]])
    size = picture.shape[1], picture.shape[0]
    border = cv2.BORDER_REFLECT
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=border)
    return np.clip(moved, 0, 1).astype(np.float32)


def _pull_colours(picture: Image, premultiplied: Image, alpha: Image) -> Image:
    inside = alpha > 0.5
    subject = premultiplied[inside] / alpha[inside][:, None]
    normal = (picture - picture.mean((0, 1))) / (picture.std((0, 1)) + 1e-3)
    return np.clip(normal * subject.std(0) * 0.9 + subject.mean(0), 0, 1).astype(np.float32)


def _motion_blur(
    rng: np.random.Generator, premultiplied: Image, alpha: Image, scale: float
) -> tuple[Image, Image]:
    length = rng.uniform(17, 26) * scale
    angle = rng.uniform(0, math.pi)
    side = int(length) // 2 * 2 + 3
    kernel = np.zeros((side, side), np.uint8)
    centre = np.array([side // 2, side // 2])
    half = length / 2 * np.array([math.cos(angle), math.sin(angle)])
    ends = [tuple(int(v) for v in np.round((centre + s * half) * 16)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
    weights = kernel.astype(np.float32) / kernel.sum()
    border = cv2.BORDER_REPLICATE
    return (
        cv2.filter2D(premultiplied, -1, weights, borderType=border),
        np.clip(cv2.filter2D(alpha, -1, weights, borderType=border), 0, 1),
    )


def _grain(rng: np.random.Generator, picture: Image, sigma: float) -> Image:
    level = 0.4 + 0.9 * np.sqrt(np.clip(picture, 0, 1))
    return picture + sigma * level * rng.standard_normal(picture.shape, dtype=np.float32)


def _jpeg(picture: Image) -> Image:
    coded = cv2.imencode(".jpg", _to_bytes(picture), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR).astype(np.float32) / 255


def _to_bytes(picture: Image) -> NDArray[np.uint8]:
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _eight_bit(picture: Image) -> Image:
    return _to_bytes(picture).astype(np.float32) / np.float32(255)


# --- sets -----------------------------------------------------------------------------------------


def _frame_size(rng: np.random.Generator, long_side: int) -> tuple[int, int]:
    short = int(long_side * rng.uniform(0.62, 0.86))
    return (long_side, short) if rng.random() < 0.3 else (short, long_side)


def _noise(rng: np.random.Generator, height: int, width: int, slope: float) -> Image:
    """Random field with a 1/f^slope amplitude spectrum, scaled to 0..1."""
    fy = np.fft.fftfreq(height)[:, None] * height
    fx = np.fft.rfftfreq(width)[None] * width
    amplitude = 1 / np.maximum(np.hypot(fx, fy), 1) ** slope
    phases = np.exp(2j * np.pi * rng.random(amplitude.shape))
    field = np.fft.irfft2(amplitude * phases, s=(height, width))
    low, high = np.percentile(field, [1, 99])
    return np.clip((field - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)


def _palette(rng: np.random.Generator, count: int) -> Image:
    """Colours as surfaces have them: mostly muted, a few saturated, light and dark ones."""
    value = rng.uniform(0.08, 0.92, (count, 1))
    tint = rng.standard_normal((count, 3)) * rng.choice(
        [0.05, 0.12, 0.3], (count, 1), p=[0.4, 0.4, 0.2]
    )
    return np.clip(value * (1 + tint), 0.02, 0.97).astype(np.float32)


def _texture(rng: np.random.Generator, height: int, width: int, contrast: float = 1.0) -> Image:
    """Fractal noise through two to four colours of one palette."""
    colours = _palette(rng, int(rng.integers(2, 5)))
    colours = colours.mean(0) + (colours - colours.mean(0)) * contrast
    field = _noise(rng, height, width, rng.uniform(0.9, 1.7)) * (len(colours) - 1)
    index = np.minimum(field.astype(int), len(colours) - 2)
    part = (field - index)[..., None]
    return np.clip(colours[index] * (1 - part) + colours[index + 1] * part, 0, 1).astype(np.float32)


def _uneven_light(rng: np.random.Generator, picture: Image, strength: float = 0.35) -> Image:
    field = _noise(rng, picture.shape[0], picture.shape[1], 2.4)
    return np.clip(picture * (1 + strength * (field - 0.5))[..., None], 0, 1).astype(np.float32)


def _soften(rng: np.random.Generator, picture: Image) -> Image:
    """Sharp, slightly soft or defocused."""
    sigma = (
        rng.choice([0.5, 0.8, 1.2, 3.0], p=[0.35, 0.3, 0.2, 0.15]) * max(picture.shape[:2]) / 640
    )
    return cv2.GaussianBlur(picture, (0, 0), float(sigma))


def _room(rng: np.random.Generator, height: int, width: int) -> Image:
    """Wall and floor with boxes, frames and lamps."""
    picture = _texture(rng, height, width, 0.25)
    horizon = int(height * rng.uniform(0.5, 0.85))
    picture[horizon:] = _texture(rng, height, width, 0.5)[horizon:]
    for _ in range(int(rng.integers(12, 40))):
        size = np.exp(rng.uniform(np.log(0.03), np.log(0.3), 2)) * (height, width)
        y, x = (int(v) for v in rng.uniform(-0.1, 1.0, 2) * (height, width))
        box = picture[max(y, 0) : max(y + int(size[0]), 0), max(x, 0) : max(x + int(size[1]), 0)]
        if box.shape[0] < 4 or box.shape[1] < 4:
            continue
        shade = np.linspace(1, rng.uniform(0.6, 1.1), box.shape[1], dtype=np.float32)[None, :, None]
        fill = _texture(rng, box.shape[0], box.shape[1], rng.choice([0.1, 0.5, 1.0]))
        box[:] = fill * shade
        if rng.random() < 0.4:
            box[:2], box[-2:], box[:, :2], box[:, -2:] = (box.mean((0, 1)) * 0.5,) * 4
    for _ in range(int(rng.integers(0, 4))):
        centre = tuple(int(v) for v in rng.uniform(0, 1, 2) * (width, horizon))
        cv2.circle(picture, centre, int(width * rng.uniform(0.005, 0.03)), (1.0, 0.97, 0.9), -1)
    return _soften(rng, _uneven_light(rng, picture))


def _town(rng: np.random.Generator, height: int, width: int) -> Image:
    """Sky with clouds over rows of houses with windows."""
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = np.float32([0.35, 0.55, 0.85]) * (1 - down) + np.float32([0.85, 0.88, 0.92]) * down
    cloud = _noise(rng, height, width, 1.6)[..., None] ** 2 * rng.uniform(0.2, 0.8)
    picture = (sky * (1 - cloud) + cloud * 0.95).astype(np.float32)
    base = int(height * rng.uniform(0.25, 0.5))
    for row in range(3):
        x = -int(rng.integers(0, 60))
        while x < width:
            w, top = (
                int(width * rng.uniform(0.08, 0.25)),
                base + int(height * rng.uniform(-0.1, 0.15)),
            )
            house = picture[max(top, 0) :, max(x, 0) : x + w]
            if house.shape[1] > 6 and house.shape[0] > 6:
                house[:] = _texture(rng, house.shape[0], house.shape[1], 0.4)
                _windows(rng, house)
            x += w
        base += int(height * rng.uniform(0.12, 0.25)) * (row + 1)
    return _soften(rng, _uneven_light(rng, picture, 0.2))


def _windows(rng: np.random.Generator, house: Image) -> None:
    pitch, size = int(rng.integers(14, 34)), float(rng.uniform(0.3, 0.6))
    colour = _palette(rng, 1)[0]
    for y in range(pitch // 2, house.shape[0] - pitch, pitch):
        for x in range(pitch // 3, house.shape[1] - pitch // 2, pitch):
            house[y : y + int(pitch * size), x : x + int(pitch * size * 0.8)] = colour


def _foliage(rng: np.random.Generator, height: int, width: int) -> Image:
    """Hundreds of overlapping leaves of related colours."""
    picture = _to_bytes(_texture(rng, height, width))
    colours = _palette(rng, 5) * 255
    for _ in range(int(rng.integers(300, 1500))):
        centre = tuple(int(v) for v in rng.uniform(0, 1, 2) * (width, height))
        axes = tuple(int(v) for v in np.exp(rng.uniform(np.log(3), np.log(45), 2)) * width / 640)
        colour = colours[int(rng.integers(5))] * rng.uniform(0.6, 1.25)
        angle = float(rng.uniform(0, 360))
        cv2.ellipse(picture, centre, axes, angle, 0, 360, colour.tolist(), -1, cv2.LINE_AA)
    grain = 0.75 + 0.5 * _noise(rng, height, width, 1.0)[..., None]
    return _soften(rng, _uneven_light(rng, np.clip(picture / np.float32(255) * grain, 0, 1)))


def _planks(rng: np.random.Generator, height: int, width: int) -> Image:
    """Boards or bricks, each of its own shade and grain."""
    grain = _texture(rng, height, width, 0.6)
    pitch_y, pitch_x = int(rng.integers(14, 70)), int(rng.integers(40, 400))
    shades = rng.uniform(0.7, 1.3, (height // pitch_y + 1, width // pitch_x + 2))
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    row = y // pitch_y
    column = (x + (row % 2) * pitch_x // 2) // pitch_x
    joint = (y % pitch_y < 2) | ((x + (row % 2) * pitch_x // 2) % pitch_x < 2)
    shade = np.where(joint, rng.uniform(0.3, 0.9), shades[row, column]).astype(np.float32)
    return _soften(rng, _uneven_light(rng, np.clip(grain * shade[..., None], 0, 1)))


def _screen(rng: np.random.Generator, height: int, width: int) -> Image:
    """A green, blue or grey screen, unevenly lit."""
    colours = np.float32([[0.15, 0.6, 0.25], [0.12, 0.25, 0.7], [0.5, 0.5, 0.5]])
    flat = np.ones((height, width, 3), np.float32) * colours[int(rng.integers(3))]
    return _uneven_light(
        rng, flat * (0.97 + 0.03 * _noise(rng, height, width, 1.2)[..., None]), 0.7
    )


_SETS: tuple[Callable[[np.random.Generator, int, int], Image], ...] = (
    _room,
    _room,
    _town,
    _town,
    _foliage,
    _planks,
    _screen,
)


# --- subjects, drawn at twice the size ------------------------------------------------------------


class _Canvas:
    """Colour and coverage that shapes and strands are drawn into, at twice the frame's size."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng = rng
        self.size = np.array([width * 2, height * 2])
        self.unit = float(max(self.size)) / 1000
        self.colour = np.zeros((height * 2, width * 2, 3), np.uint8)
        self.cover = np.zeros((height * 2, width * 2), np.uint8)

    def shape(self, mask: NDArray[np.uint8], colour: Image, contrast: float = 0.4) -> None:
        """A rounded, lit, textured body over what is there."""
        inside = mask > 0
        if not inside.any():
            return
        box = cv2.boundingRect(mask)
        view = np.s_[box[1] : box[1] + box[3], box[0] : box[0] + box[2]]
        near = mask[view]
        depth = cv2.distanceTransform(cv2.copyMakeBorder(near, *(1,) * 4, 0), cv2.DIST_L2, 3)
        depth = depth[1:-1, 1:-1]
        bulge = np.sqrt(cv2.GaussianBlur(depth, (0, 0), 6 * self.unit) + 1)
        slope = cv2.Sobel(bulge, cv2.CV_32F, 1, 0) * math.cos(self.light) + cv2.Sobel(
            bulge, cv2.CV_32F, 0, 1
        ) * math.sin(self.light)
        lit = np.clip(0.85 + 0.25 * slope * self.unit, 0.35, 1.3)[..., None]
        weave = _texture(self.rng, box[3], box[2], 0.7) - 0.5
        body = np.clip((colour + contrast * weave * (0.2 + colour)) * lit, 0, 1)
        soft = (near.astype(np.float32) / 255)[..., None]
        self.colour[view] = np.where(soft > 0, _to_bytes(body), self.colour[view])
        self.cover[view] = np.maximum(self.cover[view], near)

    @property
    def light(self) -> float:
        return 0.6

    def strands(
        self,
        roots: NDArray[Any],
        directions: NDArray[Any],
        lengths: NDArray[Any],
        colours: Image,
        *,
        curl: float,
        thickness: tuple[int, int],
        opacity: tuple[float, float] = (0.55, 1.0),
    ) -> None:
        """Curved lines from `roots`, each of its own shade, width and opacity."""
        rng, steps = self.rng, np.linspace(0, 1, 9)
        angle = np.arctan2(directions[:, 1], directions[:, 0])
        bend = rng.normal(0, curl, len(roots))
        wave = rng.normal(0, curl * 0.6, len(roots))
        turn = angle[:, None] + bend[:, None] * steps + wave[:, None] * np.sin(steps * 6)
        ahead = np.stack([np.cos(turn), np.sin(turn)], -1) * lengths[:, None, None] / len(steps)
        points = np.round((roots[:, None] + np.cumsum(ahead, 1)) * 8).astype(np.int32)
        for line in points:
            colour = colours[int(rng.integers(len(colours)))] * rng.uniform(0.6, 1.25)
            width = int(rng.integers(thickness[0], thickness[1] + 1))
            cover = int(255 * rng.uniform(*opacity))
            tone = np.clip(colour * 255, 0, 255).tolist()
            cv2.polylines(self.colour, [line], False, tone, width, cv2.LINE_AA, 3)
            drawn = np.zeros(1, np.uint8)  # coverage may only grow: draw into a copy of the box
            low = np.maximum(line.min(0) // 8 - width - 2, 0)
            high = np.minimum(line.max(0) // 8 + width + 3, self.size)
            if (high <= low).any():
                continue
            view = self.cover[low[1] : high[1], low[0] : high[0]]
            drawn = np.zeros_like(view)
            moved = (line - low * 8).astype(np.int32)
            cv2.polylines(drawn, [moved], False, cover, width, cv2.LINE_AA, 3)
            np.maximum(view, drawn, out=view)

    def outline(self, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Random points of the outline inside the frame, and the outward normals there."""
        soft = cv2.GaussianBlur(self.cover, (0, 0), 6 * self.unit).astype(np.float32)
        gx, gy = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
        edge = cv2.morphologyEx(self.cover, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 60
        ys, xs = np.nonzero(edge)
        pick = self.rng.integers(len(ys), size=count)
        normal = -np.stack([gx[ys[pick], xs[pick]], gy[ys[pick], xs[pick]]], -1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
        return np.stack([xs[pick], ys[pick]], -1).astype(np.float64), normal

    def empty_mask(self) -> NDArray[np.uint8]:
        return np.zeros_like(self.cover)


def _subject(rng: np.random.Generator, height: int, width: int) -> tuple[Image, Image]:
    """Premultiplied colour and alpha at frame size; the subject may be cut by the frame."""
    canvas = _Canvas(rng, height, width)
    draw = _SUBJECTS[int(rng.integers(len(_SUBJECTS)))]
    draw(canvas)
    if rng.random() < 0.12:
        _veil(canvas)
    alpha = canvas.cover.astype(np.float32) / 255
    premultiplied = canvas.colour.astype(np.float32) / 255 * alpha[..., None]
    sigma = (
        float(rng.choice([0.6, 1.0, 3.0, 6.0], p=[0.5, 0.3, 0.15, 0.05])) * max(height, width) / 640
    )
    size = (width, height)
    alpha = cv2.resize(cv2.GaussianBlur(alpha, (0, 0), sigma), size, interpolation=cv2.INTER_AREA)
    premultiplied = cv2.resize(
        cv2.GaussianBlur(premultiplied, (0, 0), sigma), size, interpolation=cv2.INTER_AREA
    )
    alpha[alpha < 1 / 512] = 0
    alpha[alpha > 1 - 1 / 512] = 1
    return premultiplied * (alpha > 0)[..., None], alpha


def _place(canvas: _Canvas) -> tuple[NDArray[Any], float]:
    """Where the subject stands (x, y of its middle) and its size in pixels of the canvas."""
    size = float(max(canvas.size)) * math.exp(canvas.rng.uniform(math.log(0.35), math.log(1.0)))
    x = canvas.size[0] * canvas.rng.uniform(0.25, 0.75)
    y = canvas.size[1] - size * canvas.rng.uniform(0.3, 0.52)
    return np.array([x, y]), size


def _by(right: float, down: float) -> NDArray[Any]:
    """A step on the canvas."""
    return np.array([right, down])


def _capsule(mask: NDArray[np.uint8], start: Any, end: Any, wide: float, narrow: float) -> None:
    length = float(np.hypot(*(np.asarray(end) - np.asarray(start))))
    for part in np.linspace(0, 1, 2 + int(2 * length / max(min(wide, narrow), 1))):
        centre = np.asarray(start) * (1 - part) + np.asarray(end) * part
        radius = max(1, int(wide * (1 - part) + narrow * part))
        cv2.circle(mask, tuple(int(v) for v in centre), radius, 255, -1, cv2.LINE_AA)


def _figure(canvas: _Canvas) -> None:
    """A standing person: trousers, shirt, skin, hair; arms leave gaps."""
    rng = canvas.rng
    middle, size = _place(canvas)
    size *= 1.25
    trousers, shirt, hair = _palette(rng, 3)
    skin = np.float32([0.85, 0.65, 0.53]) * rng.uniform(0.35, 1.05)
    hip, neck = middle + _by(0, size * 0.1), middle - _by(0, size * 0.22)
    for side in (-1, 1):
        mask = canvas.empty_mask()
        knee = hip + _by(side * size * rng.uniform(0.05, 0.12), size * 0.25)
        _capsule(mask, hip + _by(side * size * 0.05, 0), knee, size * 0.065, size * 0.05)
        _capsule(mask, knee, knee + _by(side * size * 0.02, size * 0.3), size * 0.05, size * 0.035)
        canvas.shape(mask, trousers)
    mask = canvas.empty_mask()
    _capsule(mask, neck + _by(0, size * 0.06), hip, size * 0.115, size * 0.1)
    canvas.shape(mask, shirt, 0.7)
    for side in (-1, 1):
        shoulder = neck + _by(side * size * 0.11, size * 0.05)
        elbow = shoulder + _by(side * size * rng.uniform(0.04, 0.2), size * rng.uniform(0.05, 0.18))
        hand = elbow + _by(size * rng.uniform(-0.15, 0.15), size * rng.uniform(-0.15, 0.17))
        mask = canvas.empty_mask()
        _capsule(mask, shoulder, elbow, size * 0.045, size * 0.035)
        _capsule(mask, elbow, hand, size * 0.035, size * 0.025)
        canvas.shape(mask, shirt, 0.7)
        mask = canvas.empty_mask()
        cv2.circle(mask, tuple(int(v) for v in hand), int(size * 0.033), 255, -1, cv2.LINE_AA)
        canvas.shape(mask, skin, 0.1)
    head = neck - _by(0, size * 0.08)
    _hair(canvas, head, size * 0.075, hair, skin)


def _hair(canvas: _Canvas, head: Any, radius: float, hair: Image, skin: Image) -> None:
    rng = canvas.rng
    count = int(rng.integers(150, 700))
    angle = rng.uniform(math.pi * 0.85, math.pi * 2.15, count)
    spread = np.stack([np.cos(angle), np.sin(angle)], -1)
    roots = head + spread * radius * rng.uniform(0.5, 1.0, (count, 1))
    fall = spread * rng.uniform(0.3, 1.0, (count, 1)) + _by(0, rng.uniform(-0.2, 1.2))
    lengths = radius * rng.uniform(0.3, rng.uniform(0.8, 3.0), count)
    shades = np.clip(hair * np.float32([[0.6], [0.9], [1.3]]), 0, 1)
    mask = canvas.empty_mask()
    _capsule(
        mask, head - _by(0, radius * 0.15), head + _by(0, radius * 0.3), radius * 1.05, radius * 0.9
    )
    canvas.shape(mask, hair)
    canvas.strands(roots, fall, lengths, shades, curl=0.5, thickness=(1, 2))
    mask = canvas.empty_mask()
    _capsule(
        mask, head + _by(0, radius * 0.2), head + _by(0, radius * 0.75), radius * 0.75, radius * 0.5
    )
    canvas.shape(mask, skin, 0.1)


def _portrait(canvas: _Canvas) -> None:
    """A large head of long hair, cut by the lower edge of the frame."""
    rng = canvas.rng
    radius = float(max(canvas.size)) * rng.uniform(0.12, 0.26)
    head = canvas.size * (rng.uniform(0.35, 0.65), 1.0) - _by(0, radius * rng.uniform(0.5, 1.5))
    shirt, hair = _palette(rng, 2)
    mask = canvas.empty_mask()
    _capsule(
        mask, head + _by(-radius, radius * 2.2), head + _by(radius, radius * 2.2), radius, radius
    )
    canvas.shape(mask, shirt, 0.6)
    _hair(canvas, head, radius, hair, np.float32([0.8, 0.6, 0.5]) * rng.uniform(0.4, 1.1))


def _plush(canvas: _Canvas) -> None:
    """A furry animal of a few round parts."""
    rng = canvas.rng
    middle, size = _place(canvas)
    colours = _palette(rng, 3)
    for index in range(int(rng.integers(3, 8))):
        mask = canvas.empty_mask()
        centre = middle + rng.normal(0, 0.16, 2) * size
        axes = tuple(int(v) for v in size * rng.uniform(0.1, 0.3, 2))
        turn = float(rng.uniform(0, 180))
        cv2.ellipse(mask, tuple(int(v) for v in centre), axes, turn, 0, 360, 255, -1, cv2.LINE_AA)
        canvas.shape(mask, colours[index % 3], 0.5)
    count = int(rng.integers(600, 2500))
    ys, xs = np.nonzero(cv2.erode(canvas.cover, np.ones((9, 9), np.uint8)) > 200)
    if len(ys) > 10:  # fur on the body, in the body's own colour
        pick = rng.integers(len(ys), size=count)
        tones = canvas.colour[ys[pick], xs[pick]].astype(np.float32) / 255
        roots = np.stack([xs[pick], ys[pick]], -1).astype(float)
        for part in np.array_split(np.arange(count), 12):
            lengths = size * rng.uniform(0.02, 0.06, len(part))
            flow = rng.normal(0, 1, (len(part), 2)) * 0.4 + _by(0.3, 1)
            canvas.strands(roots[part], flow, lengths, tones[part][:3], curl=0.4, thickness=(1, 3))
    roots, normals = canvas.outline(count)
    lengths = size * rng.uniform(0.01, rng.uniform(0.03, 0.08), count)
    flow = normals + rng.normal(0, 0.35, normals.shape)
    canvas.strands(roots, flow, lengths, colours, curl=0.4, thickness=(1, 2))


def _plant(canvas: _Canvas) -> None:
    """Stems, leaves and thin blades from the lower edge."""
    rng = canvas.rng
    colours = _palette(rng, 4)
    foot = canvas.size * (rng.uniform(0.3, 0.7), 1.0)
    reach = float(max(canvas.size)) * rng.uniform(0.35, 0.75)
    for _ in range(int(rng.integers(8, 30))):
        angle = rng.normal(-math.pi / 2, 0.5)
        tip = foot + np.array([math.cos(angle), math.sin(angle)]) * reach * rng.uniform(0.4, 1)
        mask = canvas.empty_mask()
        _capsule(mask, foot, tip, reach * 0.008, reach * 0.004)
        leaf = tuple(int(v) for v in tip)
        axes = (int(reach * rng.uniform(0.05, 0.16)), int(reach * rng.uniform(0.015, 0.05)))
        cv2.ellipse(mask, leaf, axes, math.degrees(angle), 0, 360, 255, -1, cv2.LINE_AA)
        canvas.shape(mask, colours[int(rng.integers(4))], 0.5)
    count = int(rng.integers(60, 250))
    roots = np.repeat(foot[None], count, 0) + rng.normal(0, reach * 0.05, (count, 2))
    up = np.stack([rng.normal(0, 0.6, count), -np.ones(count)], -1)
    lengths = reach * rng.uniform(0.2, 0.9, count)
    canvas.strands(roots, up, lengths, colours, curl=0.5, thickness=(1, 4))


def _wicker(canvas: _Canvas) -> None:
    """A ball of thick bent rods with holes that show the set."""
    rng = canvas.rng
    middle, size = _place(canvas)
    colours = np.clip(_palette(rng, 1) * np.float32([[0.5], [0.8], [1.0], [1.3]]), 0, 1)
    for _ in range(int(rng.integers(25, 90))):
        a, b = rng.uniform(0.05, 0.5, 2) * size
        turn = rng.uniform(0, math.pi)
        t = np.linspace(rng.uniform(0, 6), rng.uniform(6, 12), 60)
        x, y = a * np.cos(t), b * np.sin(t)
        line = np.stack(
            [x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)], -1
        )
        points = np.round((middle + line) * 8).astype(np.int32)
        width = max(2, int(size * rng.uniform(0.008, 0.03)))
        tone = colours[int(rng.integers(4))] * 255
        for part, light in ((1.0, 0.6), (0.6, 0.9), (0.25, 1.25)):
            shade = np.clip(tone * light, 0, 255).tolist()
            thick = max(1, int(width * part))
            cv2.polylines(canvas.colour, [points], False, shade, thick, cv2.LINE_AA, 3)
        cv2.polylines(canvas.cover, [points], False, 255, width, cv2.LINE_AA, 3)


def _tassels(canvas: _Canvas) -> None:
    """Cloth with hanging yarn from the upper edge."""
    rng = canvas.rng
    left = canvas.size[0] * rng.uniform(-0.1, 0.4)
    wide = canvas.size[0] * rng.uniform(0.3, 0.8)
    drop = canvas.size[1] * rng.uniform(0.15, 0.4)
    colours = _palette(rng, 6)
    mask = canvas.empty_mask()
    cv2.rectangle(mask, (int(left), -5), (int(left + wide), int(drop)), 255, -1)
    canvas.shape(mask, colours[0], 0.9)
    count = int(rng.integers(60, 260))
    roots = np.stack([rng.uniform(left, left + wide, count), rng.uniform(0.3, 1, count) * drop], -1)
    down = np.stack([rng.normal(0, 0.12, count), np.ones(count)], -1)
    lengths = canvas.size[1] * rng.uniform(0.2, 0.6, count)
    canvas.strands(roots, down, lengths, colours, curl=0.25, thickness=(4, 12), opacity=(0.98, 1.0))


def _veil(canvas: _Canvas) -> None:
    """A translucent cloth beside and over the subject."""
    rng = canvas.rng
    mask = canvas.empty_mask()
    centre = tuple(int(v) for v in rng.uniform(0.2, 0.8, 2) * canvas.size)
    axes = tuple(int(v) for v in rng.uniform(0.08, 0.25, 2) * max(canvas.size))
    cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(mask, (0, 0), 8 * canvas.unit).astype(np.float32) / 255
    opacity = soft * rng.uniform(0.25, 0.7)
    under = canvas.cover.astype(np.float32) / 255
    total = opacity + under * (1 - opacity)
    share = (opacity / np.maximum(total, 1e-3))[..., None]
    tone = _palette(rng, 1)[0] * 255
    canvas.colour = np.round(canvas.colour * (1 - share) + tone * share).astype(np.uint8)
    canvas.cover = np.round(total * 255).astype(np.uint8)


_SUBJECTS: tuple[Callable[[_Canvas], None], ...] = (
    _figure,
    _figure,
    _portrait,
    _plush,
    _plush,
    _plant,
    _wicker,
    _tassels,
)
