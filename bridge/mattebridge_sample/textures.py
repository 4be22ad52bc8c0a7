"""Procedural surfaces of the sample shot: noise, brick, oak, cloth. All in linear reflectance."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from mattebridge_sample.arrays import Array, vec


@lru_cache(maxsize=64)
def noise_tile(seed: int, size: int = 512, falloff: float = 1.7, aspect: float = 1.0) -> Array:
    """Tileable 1/f noise (size, size), mean 0, deviation 1; `aspect` > 1 stretches it along x."""
    rng = np.random.default_rng(seed)
    fy = np.fft.fftfreq(size)[:, None] * size
    fx = np.fft.rfftfreq(size)[None, :] * size * aspect
    amplitude = np.maximum(np.hypot(fx, fy), 1.0) ** -falloff
    phase = rng.uniform(0, 2 * np.pi, amplitude.shape)
    amplitude[0, 0] = 0
    # Not the exponential of a complex array: its C function is missing in Wine 8.
    spectrum = amplitude * (np.cos(phase) + 1j * np.sin(phase))
    tile = np.fft.irfft2(spectrum, s=(size, size))
    scaled = vec(tile / tile.std())
    scaled.setflags(write=False)
    return scaled


def look_up(tile: Array, u: Array, v: Array) -> Array:
    """Values of a tile (H, W[, C]) at u, v, where 0..1 spans the tile and repeats; bilinear."""
    height, width = tile.shape[:2]
    shape = u.shape
    columns = np.asarray((u % 1.0) * width, np.float32).reshape(shape[0], -1)
    rows = np.asarray((v % 1.0) * height, np.float32).reshape(shape[0], -1)
    values = []
    step = 16384  # cv2.remap addresses with 16 bits
    for first in range(0, shape[0], step):
        part = slice(first, first + step)
        values.append(
            cv2.remap(tile, columns[part], rows[part], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        )
    return vec(np.concatenate(values).reshape(shape + tile.shape[2:]))


def smoothstep(low: float, high: float, x: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def cell_noise(a: Array, b: Array, salt: int) -> Array:
    """A fixed pseudo-random number 0..1 for each integer cell (a, b)."""
    x = (a.astype(np.int64) * 73856093) ^ (b.astype(np.int64) * 19349663) ^ (salt * 83492791)
    x = (x ^ (x >> 13)) * 1274126177
    x = x ^ (x >> 16)
    return ((x & 0xFFFF) / np.float32(65535)).astype(np.float32)


@lru_cache(maxsize=2)
def brick(width_m: float, height_m: float, per_metre: int, seed: int) -> tuple[Array, Array]:
    """An old brick wall as (colour (H, W, 3), height in metres (H, W)), row 0 at the bottom."""
    rows, columns = int(height_m * per_metre), int(width_m * per_metre)
    v, u = np.mgrid[0:rows, 0:columns].astype(np.float32) / per_metre
    rough, blotch = noise_tile(seed, 512, 1.15), noise_tile(seed + 1, 512, 1.8)
    wobble = look_up(noise_tile(seed + 2, 256, 1.6), u / 0.8, v / 0.8) * np.float32(0.0022)
    course, length, joint = 0.075, 0.225, 0.011
    row = np.floor((v + wobble) / course)
    shifted = u + wobble[::-1] + (row % 2) * length / 2
    column = np.floor(shifted / length)
    edge_v = course / 2 - np.abs((v + wobble) % course - course / 2)
    edge_u = length / 2 - np.abs(shifted % length - length / 2)
    # Old bricks have broken corners.
    corner = np.minimum(edge_u, edge_v) - 0.6 * np.maximum(0, 0.014 - edge_u - edge_v)
    grit = look_up(rough, u / 0.35, v / 0.35)
    stain = look_up(blotch, u / 2.6, v / 2.6)
    face = smoothstep(joint / 2 - 0.001, joint / 2 + 0.0035, corner + grit * np.float32(0.0006))
    tone = cell_noise(row, column, seed)
    kind = cell_noise(row, column, seed + 7)
    red, dark, pale = [0.275, 0.125, 0.085], [0.135, 0.078, 0.064], [0.37, 0.24, 0.165]
    colour = vec(red) * (0.65 + 0.7 * tone[..., None])
    colour = np.where(kind[..., None] < 0.17, vec(dark) * (0.7 + 0.8 * tone[..., None]), colour)
    colour = np.where(kind[..., None] > 0.86, vec(pale) * (0.7 + 0.5 * tone[..., None]), colour)
    colour = colour * np.exp(0.13 * grit + 0.10 * stain)[..., None]
    mortar = vec([0.33, 0.29, 0.245]) * np.exp(0.10 * grit + 0.14 * stain)[..., None]
    # Remains of whitewash in patches.
    wash = smoothstep(1.1, 1.9, stain + 0.45 * grit + 0.5 * (tone - 0.5)) * np.float32(0.55)
    colour = mortar + (colour - mortar) * face[..., None]
    colour = colour + (vec([0.52, 0.49, 0.44]) - colour) * wash[..., None]
    height = 0.008 * face + 0.0009 * grit + 0.004 * face * (tone - 0.5)
    return colour.astype(np.float32), height.astype(np.float32)


def oak(u: Array, v: Array, seed: int, plank_m: float = 0.16, length_m: float = 1.9) -> Array:
    """Oak boards at metres (u across, v along the grain): linear colour (..., 3)."""
    board = np.floor(u / plank_m)
    start = cell_noise(board, board, seed) * length_m
    piece = np.floor((v + start) / length_m)
    tone = cell_noise(board, piece, seed + 3)
    shift = cell_noise(board, piece, seed + 5)
    streak = look_up(noise_tile(seed, 512, 1.25, aspect=9.0), v / 1.5 + shift, u / 0.34 + 3 * shift)
    cloud = look_up(noise_tile(seed + 1, 256, 1.7), v / 2.5 + shift, u / 1.2)
    gap = np.minimum(u % plank_m, plank_m - u % plank_m)
    end = np.minimum((v + start) % length_m, length_m - (v + start) % length_m)
    seam = smoothstep(0.0006, 0.0028, np.minimum(gap, end))
    shade = np.exp(0.24 * streak + 0.12 * cloud) * (0.62 + 0.7 * tone) * (0.25 + 0.75 * seam)
    warm = vec([0.30, 0.165, 0.078])
    grey = vec([0.26, 0.175, 0.105])
    return np.asarray((warm + (grey - warm) * shift[..., None]) * shade[..., None], np.float32)


def mix(a: Array, b: Array, share: Array) -> Array:
    """Colours (..., 3) `a` where `share` is 0, `b` where it is 1."""
    return np.asarray(a + (b - a) * share[..., None], np.float32)
