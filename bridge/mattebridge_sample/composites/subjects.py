"""Subjects for composites, drawn at twice the size: figure, hair, plush, plant, wicker, tassels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge_sample.composites.sets import palette, texture
from mattebridge_sample.composites.shoot import Image, Rng, to_bytes


def draw_subject(rng: Rng, height: int, width: int) -> tuple[Image, Image]:
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


class _Canvas:
    """Colour and coverage that shapes and strands are drawn into, at twice the frame's size."""

    def __init__(self, rng: Rng, height: int, width: int) -> None:
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
        weave = texture(self.rng, box[3], box[2], 0.7) - 0.5
        body = np.clip((colour + contrast * weave * (0.2 + colour)) * lit, 0, 1)
        soft = (near.astype(np.float32) / 255)[..., None]
        self.colour[view] = np.where(soft > 0, to_bytes(body), self.colour[view])
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
    trousers, shirt, hair = palette(rng, 3)
    skin = np.array([0.85, 0.65, 0.53], np.float32) * rng.uniform(0.35, 1.05)
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
    shades = np.clip(hair * np.array([[0.6], [0.9], [1.3]], np.float32), 0, 1)
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
    shirt, hair = palette(rng, 2)
    mask = canvas.empty_mask()
    _capsule(
        mask, head + _by(-radius, radius * 2.2), head + _by(radius, radius * 2.2), radius, radius
    )
    canvas.shape(mask, shirt, 0.6)
    _hair(canvas, head, radius, hair, np.array([0.8, 0.6, 0.5], np.float32) * rng.uniform(0.4, 1.1))


def _plush(canvas: _Canvas) -> None:
    """A furry animal of a few round parts."""
    rng = canvas.rng
    middle, size = _place(canvas)
    colours = palette(rng, 3)
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
        tones = canvas.colour[ys[pick], xs[pick]].astype(np.float32) / np.float32(255)
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
    colours = palette(rng, 4)
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
    colours = np.clip(palette(rng, 1) * np.array([[0.5], [0.8], [1.0], [1.3]], np.float32), 0, 1)
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
    colours = palette(rng, 6)
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
    tone = palette(rng, 1)[0] * 255
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
