"""What a shoot does to a plate and its clean plate: shadows, drift, grain, compression.

Both sets of composites are made with these functions, that of this package and the validation set
of the training, and in both the kinds are

    clean     grain only
    shadow    a cast and a contact shadow, only in the plate
    drift     the clean plate has another exposure, gamma, white balance and a sub-pixel shift
    similar   the set's colours are pulled to the subject's: extreme on purpose, averaged apart
    noisy     four times the grain, every third frame through JPEG as well
    motion    straight motion blur of the subject, two frames in three with the shadow too

each in two blends: `display` mixes encoded values (as most public test composites do), `linear`
mixes light (as a camera does). Images: float32 0..1, display-encoded sRGB RGB, top row first.

The curves are not those of `mattebridge.color`: the pixels of both sets are fixed to the bit.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Rng = np.random.Generator

KINDS = ("clean", "shadow", "drift", "similar", "noisy", "motion")
BLENDS = ("display", "linear")
GRAIN_SIGMA = 0.008
NOISY_SIGMA = 0.035


def has_shadow(kind: str, number: int) -> bool:
    """Whether the `number`-th frame of a kind has shadows in its plate."""
    return kind == "shadow" or (kind == "motion" and number % 3 != 0)


def shadows(rng: Rng, alpha: Image, scale: float) -> tuple[Image, Image]:
    """The strength, (H, W) 0..1, of the subject's cast shadow and of its contact shadow.

    scale: long side of the frame over 640 pixels.
    """
    height = alpha.shape[0]
    move_x = rng.uniform(20, 70) * rng.choice([-1, 1]) * scale
    move_y = rng.uniform(5, 40) * scale
    cast = [[1, 0.1, move_x - 0.05 * height], [0, 0.95, move_y + 0.05 * height]]
    contact = [[1, 0, 0], [0, 1, 4 * scale]]
    soft = _moved(alpha, cast, rng.uniform(8, 22) * scale) * rng.uniform(0.3, 0.5)
    near = _moved(alpha, contact, 5 * scale) * 0.25
    return soft, near


def _moved(alpha: Image, matrix: Any, sigma: float) -> Image:
    size = alpha.shape[1], alpha.shape[0]
    moved = cv2.warpAffine(alpha, np.array(matrix, np.float32), size)
    return np.asarray(cv2.GaussianBlur(moved, (0, 0), sigma), np.float32)


def shifted(rng: Rng, picture: Image, scale: float) -> Image:
    """A picture turned a little and shifted by up to 1.4 pixels of a frame of 640."""
    dx, dy = rng.uniform(-1.4, 1.4, 2) * scale
    matrix = np.array([[1, 0.0008, dx], [-0.0008, 1, dy]], np.float32)
    size = picture.shape[1], picture.shape[0]
    border = cv2.BORDER_REFLECT
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=border)
    return np.asarray(np.clip(moved, 0, 1), np.float32)


def pulled_colours(picture: Image, premultiplied: Image, alpha: Image) -> Image:
    """A set with the mean and deviation of the subject's colours."""
    inside = alpha > 0.5
    if not inside.any():
        return picture
    subject = premultiplied[inside] / alpha[inside][:, None]
    normal = (picture - picture.mean((0, 1))) / (picture.std((0, 1)) + 1e-3)
    return np.clip(normal * subject.std(0) * 0.9 + subject.mean(0), 0, 1).astype(np.float32)


def blended(foreground: Image, background: Image, alpha: Image, blend: str) -> Image:
    """A straight foreground over a background; alpha: (H, W, 1)."""
    if blend == "display":
        return alpha * foreground + (1 - alpha) * background
    return encode(alpha * decode(foreground) + (1 - alpha) * decode(background))


def encode(x: Image) -> Image:
    """Linear light, display-encoded; negative light is black."""
    x = np.maximum(x, 0)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055).astype(np.float32)


def decode(x: Image) -> Image:
    """Display-encoded values as linear light."""
    x = np.maximum(x, 0)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def grained(rng: Rng, picture: Image, sigma: float) -> Image:
    """A picture with grain, more of it where it is brighter."""
    level = 0.4 + 0.9 * np.sqrt(np.clip(picture, 0, 1))
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    return np.asarray(picture + sigma * level * noise, np.float32)


def through_jpeg(picture: Image) -> Image:
    """A picture as a JPEG of quality 80 gives it back."""
    coded = cv2.imencode(".jpg", to_bytes(picture), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.float32) / np.float32(255)


def to_bytes(picture: Image) -> NDArray[np.uint8]:
    """Code values of 8 bits."""
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def eight_bit(picture: Image) -> Image:
    """The picture with values that 8 bits can hold."""
    return to_bytes(picture).astype(np.float32) / np.float32(255)
