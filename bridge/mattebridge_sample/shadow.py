"""The subject's shadows on the set: cast shadow, soft shadow, contact shadow."""

from __future__ import annotations

import cv2
import numpy as np

from mattebridge_sample import lights, walls
from mattebridge_sample.arrays import Array, vec
from mattebridge_sample.grid import Coarse
from mattebridge_sample.optics import Camera
from mattebridge_sample.room import Room
from mattebridge_sample.shade import Lighting, SunMap


def share_left(camera: Camera, set_: Room, grid: Coarse, light: Lighting) -> Array:
    """The share (H, W, 3) of the clean set's light that is left with the subject in it."""
    sun = _sun_left(set_, light.sun)
    sky, lamp, near = (grid.spread(values).reshape(sun.shape) for values in _soft_left(grid, light))
    parts = set_.light
    before = parts.sun + parts.sky + parts.lamp + parts.bounce
    after = (
        parts.sun * sun[..., None]
        + parts.sky * sky[..., None]
        + parts.lamp * lamp[..., None]
        + parts.bounce * near[..., None]
    )
    ratio = after / np.maximum(before, 1e-6)
    fixed = set_.fixed_share[..., None]
    ratio = fixed + (1 - fixed) * np.clip(ratio, 0, 1)
    # The shadow lies on the set and is as much out of focus.
    ratio = cv2.GaussianBlur(ratio, (0, 0), 0.7)
    blurred = cv2.GaussianBlur(ratio, (0, 0), max(float(camera.height) / 540 * 2.0, 0.5))
    soft = np.clip(set_.blur_px / (4.0 * camera.height / 540), 0, 1)[..., None]
    return np.asarray(ratio + (blurred - ratio) * soft, np.float32)


def _sun_left(set_: Room, sun: SunMap) -> Array:
    p = set_.position
    x, y, w = sun.texels(p)
    total = np.ones(w.shape, np.float32)
    height = cv2.GaussianBlur(sun.at * sun.solid, (0, 0), 4) / np.maximum(
        cv2.GaussianBlur(sun.solid, (0, 0), 4), 1e-3
    )
    above = cv2.remap(height, x, y, cv2.INTER_LINEAR, borderValue=0) - w
    gap = np.where(above > 0.015, above, 0)
    blurs = (0.004, 0.012, 0.030)
    maps = [cv2.GaussianBlur(sun.solid, (0, 0), max(b / sun.texel, 0.3)) for b in blurs]
    taken = [cv2.remap(m, x, y, cv2.INTER_LINEAR, borderValue=0) for m in maps]
    width = np.clip(0.009 * gap, blurs[0], blurs[2])
    first = np.interp(width, blurs, [0, 1, 2]).astype(np.float32)
    mixed = np.where(
        first < 1,
        taken[0] + (taken[1] - taken[0]) * first,
        taken[1] + (taken[2] - taken[1]) * (first - 1),
    )
    total -= mixed * np.clip((above - 0.010) / 0.02, 0, 1)
    return np.asarray(total, np.float32)


def _soft_left(grid: Coarse, light: Lighting) -> tuple[Array, Array, Array]:
    """Shares of sky, lamp and bounced light left at the sparse points (M,)."""
    p, n = grid.position, grid.normal
    middle = light.blobs[:, :3].mean(0)
    near = np.flatnonzero(((p - middle[:, None]) ** 2).sum(0) < 2.6**2)
    sky = np.ones(p.shape[1], np.float32)
    lamp, open_ = sky.copy(), sky.copy()
    q, m = np.ascontiguousarray(p[:, near]), np.ascontiguousarray(n[:, near])
    sky[near] = _windows_left(q, m, light.blobs)
    lamp[near] = 1 - _hidden(
        q, np.repeat(lights.LAMP_AT[:, None], q.shape[1], 1), light.blobs, 0.10
    )
    shut = np.zeros(q.shape[1], np.float32)
    for blob in light.blobs:
        away = blob[:3, None] - q
        square = (away * away).sum(0)
        cosine = np.maximum((away * m).sum(0) / np.sqrt(square), 0)
        shut += cosine * blob[3] ** 2 / np.maximum(square, blob[3] ** 2)
    open_[near] = np.exp(-1.1 * shut)
    # Close to the body little of the sky is left either: the contact shadow.
    sky[near] *= np.exp(-0.7 * shut)
    return sky, lamp, open_


def _windows_left(p: Array, n: Array, blobs: Array) -> Array:
    """Share of the windows' light that passes the body."""
    total, left = np.full(p.shape[1], 1e-5, np.float32), np.full(p.shape[1], 1e-5, np.float32)
    for (z0, z1, y0, y1), share in zip(walls.WINDOWS, lights.SKY_SHARE):
        for i in range(3):
            for j in range(3):
                target = vec(
                    [walls.LEFT, y0 + (y1 - y0) * (i + 0.5) / 3, z0 + (z1 - z0) * (j + 0.5) / 3]
                )
                away = target[:, None] - p
                square = (away * away).sum(0)
                cosine = np.maximum((away * n).sum(0), 0) * np.maximum(-away[0], 0)
                value = share * cosine / square**2 * (z1 - z0) * (y1 - y0)
                hidden = _hidden(p, np.repeat(target[:, None], p.shape[1], 1), blobs, 0.18)
                total += value
                left += value * (1 - hidden)
    return np.asarray(left / total, np.float32)


def _hidden(p: Array, target: Array, blobs: Array, size: float) -> Array:
    """Share of a source of radius `size` at `target` that the blobs hide from points (3, N)."""
    away = target - p
    length = np.sqrt((away * away).sum(0))
    away = away / length
    clear = np.ones(p.shape[1], np.float32)
    for x, y, z, radius in blobs:
        q = vec([[x], [y], [z]]) - p
        along = (q * away).sum(0)
        miss = np.sqrt(np.maximum((q * q).sum(0) - along * along, 0))
        cone = np.maximum(size * along / length, 1e-3)
        share = np.clip((radius + cone - miss) / (2 * np.minimum(cone, radius)), 0, 1) * np.minimum(
            1, (radius / cone) ** 2
        )
        share = np.where((along > 0.0) & (along < length), share, 0)
        # Blobs overlap: the darkest counts, not the sum.
        clear = np.minimum(clear, 1 - share)
    return 1 - clear
