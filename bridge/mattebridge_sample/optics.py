"""The camera of the sample shot: projection, defocus and sensor grain.

World space is in metres: x to the right, y up, z into the scene; the camera stands at
`Camera.eye` and looks along z, pitched down a little. Pixel (0, 0) is the centre of the top left
pixel of the frame; frames may be rendered with a margin around them (overscan), so that a drifting
clean plate has real pixels at its edges. All light is scene-linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mattebridge_sample.arrays import Array, turned, vec


@dataclass(frozen=True)
class Camera:
    """A pinhole with a lens in front of it; `width` and `height` are the frame in pixels."""

    width: int
    height: int
    eye: tuple[float, float, float] = (0.0, 1.52, 0.0)
    pitch_down: float = 0.085  # radians
    half_height: float = 0.296  # tangent of half the vertical field of view
    focus_m: float = 2.0
    # Wider than a real lens of this length has: it gives the background of a longer one.
    aperture_m: float = 0.030

    @property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return self.height / 2 / self.half_height

    @property
    def axes(self) -> Array:
        """Rows: the camera's right, up and forward in world space."""
        c, s = np.cos(self.pitch_down), np.sin(self.pitch_down)
        return np.array([[1, 0, 0], [0, c, s], [0, -s, c]], np.float32)

    def project(self, points: Array) -> tuple[Array, Array, Array]:
        """Column, row (pixels) and depth (metres) of world points (..., 3)."""
        x, y, z = np.moveaxis(turned(points - vec(self.eye), self.axes), -1, 0)
        scale = self.focal_px / np.maximum(z, 0.05)
        return self.width / 2 - 0.5 + x * scale, self.height / 2 - 0.5 - y * scale, z

    def rays(self, columns: Array, rows: Array) -> Array:
        """World directions (..., 3) through pixel positions, of depth 1 along the optical axis."""
        x = (columns - (self.width / 2 - 0.5)) / self.focal_px
        y = ((self.height / 2 - 0.5) - rows) / self.focal_px
        local = np.stack([x, y, np.ones_like(x)], -1).astype(np.float32)
        return turned(local, self.axes.T)

    def blur_radius(self, depth: Array | float) -> Array:
        """Radius in pixels of the disc into which the lens spreads a point at this depth."""
        away = np.abs(1 - self.focus_m / np.maximum(depth, 0.05))
        return np.asarray(0.5 * self.focal_px * self.aperture_m / self.focus_m * away, np.float32)


def disc_blur(image: Array, radius: float) -> Array:
    """`image` (H, W[, C]) spread by an anti-aliased disc of `radius` pixels, edges replicated."""
    if radius < 0.35:
        return image
    reach = int(np.ceil(radius + 0.5))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    blurred = cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)
    return vec(blurred)


def defocus(image: Array, radius: Array) -> Array:
    """A sharp image (H, W, 3) as the lens sees it, `radius` (H, W) pixels of blur at each pixel.

    A stack of disc blurs is made, and each pixel reads the stack at its own radius. Only pixels
    which are themselves about that much out of focus take part in a level, so that a sharp edge in
    front does not bleed into the blur behind it.
    """
    levels = np.concatenate([[0.0], np.geomspace(0.6, max(float(radius.max()), 0.7), 9)])
    position = np.interp(radius, levels, np.arange(len(levels))).astype(np.float32)
    result = np.zeros_like(image)
    for index, level in enumerate(levels):
        share = np.clip(1 - np.abs(position - index), 0, 1)
        if not share.any():
            continue
        weight = np.clip((radius - 0.45 * level) / (0.15 * level + 1e-3), 0, 1) + np.float32(1e-4)
        spread = disc_blur(np.dstack([image * weight[..., None], weight]), float(level))
        result += share[..., None] * spread[..., :3] / spread[..., 3:]
    return result


def shrink(image: Array, factor: int) -> Array:
    """The mean of each `factor` x `factor` block."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    return vec(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def add_grain(image: Array, rng: np.random.Generator, strength: float = 1.0) -> Array:
    """A linear image with sensor noise: photon noise that grows with the light, and read noise.

    Blue has more of it than green, as on a sensor, and neighbouring pixels share a little, as
    after demosaicing.
    """
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.55) * np.float32(1.55)
    gain = np.array([1.1, 0.85, 1.5], np.float32)
    sigma = np.sqrt(np.float32(1.0e-4) * np.maximum(image, 0) * gain + np.float32(1.2e-6) * gain)
    return image + np.float32(strength) * sigma * noise
