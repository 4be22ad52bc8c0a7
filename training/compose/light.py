"""Similar colours of subject and set, spill, and shadows and light that only the plate has."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.compose.blur import blur, smooth_field, wide_blur
from training.compose.dice import Dice

# Shares of shots in which subject and set get similar colours, in three ways: 29 % in all.
_CAMOUFLAGED, _SUBJECT_PULLED, _SET_PULLED = 0.11, 0.09, 0.09


def graded(dice: Dice, pictures: Tensor) -> Tensor:
    """Another exposure, white balance and gamma for half of them: more colours per layer."""
    on = dice.chance(0.5)
    gain = 1 + on * (dice.normal(0.12) + dice.normal(0.05, of=3))
    gamma = torch.exp(on * dice.normal(0.25))
    return (pictures.clamp_min(1e-4) ** gamma * gain).clamp(0, 1)


def alike(
    dice: Dice, foreground: Tensor, alpha: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Foreground and set (both views of it), in some shots made similar in colour.

    Three ways: the subject is painted with pieces of the set, or gets the set's mean and deviation,
    or the set gets the subject's.
    """
    roll = dice.rng.random(dice.count)
    camouflaged = np.nonzero(roll < _CAMOUFLAGED)[0]
    pulled = np.nonzero((roll >= _CAMOUFLAGED) & (roll < _CAMOUFLAGED + _SUBJECT_PULLED))[0]
    rest = 1 - _SET_PULLED
    set_pulled = np.nonzero(roll >= rest)[0]
    if len(camouflaged):
        at = torch.from_numpy(camouflaged).to(dice.device)
        foreground = foreground.index_copy(
            0, at, _painted(dice.sub(len(at)), foreground[at], first[at])
        )
    if len(pulled):
        at = torch.from_numpy(pulled).to(dice.device)
        ones = torch.ones_like(alpha[at])
        moved = _restated(
            foreground[at], alpha[at], first[at], ones, dice.sub(len(at)).uniform(0.4, 1)
        )
        foreground = foreground.index_copy(0, at, moved)
    if len(set_pulled):
        at = torch.from_numpy(set_pulled).to(dice.device)
        ones, much = torch.ones_like(alpha[at]), dice.sub(len(at)).uniform(0.6, 1)
        # The same change for both views: the clean plate must still match the plate.
        change = _statistics(first[at], ones), _statistics(foreground[at], alpha[at])
        first = first.index_copy(0, at, _moved(first[at], *change, much))
        second = second.index_copy(0, at, _moved(second[at], *change, much))
    return foreground, first, second


def _painted(dice: Dice, foreground: Tensor, background: Tensor) -> Tensor:
    size = background.shape[-1]
    shift = tuple(int(v) for v in dice.rng.integers(-size // 3, size // 3, 2))
    piece = blur(torch.roll(background, shift, (2, 3)), dice.log_uniform(0.3, 5))
    much = dice.uniform(0.4, 0.92)
    return foreground * (1 - much) + piece * much


def _statistics(pictures: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = weight.sum((2, 3), keepdim=True) + 1e-3
    mean = (pictures * weight).sum((2, 3), keepdim=True) / total
    variance = ((pictures - mean).square() * weight).sum((2, 3), keepdim=True) / total
    return mean, variance.clamp_min(1e-5).sqrt()


def _moved(
    pictures: Tensor, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], much: Tensor
) -> Tensor:
    target = (pictures - old[0]) / old[1].clamp_min(0.02) * new[1] * 0.9 + new[0]
    return (pictures * (1 - much) + target * much).clamp(0, 1)


def _restated(
    pictures: Tensor, weight: Tensor, other: Tensor, other_weight: Tensor, much: Tensor
) -> Tensor:
    return _moved(pictures, _statistics(pictures, weight), _statistics(other, other_weight), much)


def spilled(
    dice: Dice, foreground: Tensor, alpha: Tensor, background: Tensor, is_screen: Tensor
) -> Tensor:
    """Light from the set on the subject's rim, more of it in front of a screen."""
    screen = is_screen.reshape(-1, 1, 1, 1)
    on = dice.chance(0.2) * (1 - screen) + dice.chance(0.75) * screen
    much = on * (dice.uniform(0, 0.2) * (1 - screen) + dice.uniform(0.03, 0.45) * screen)
    glow = wide_blur(background, dice.uniform(15, 50))
    rim = 0.25 + 0.75 * (1 - wide_blur(alpha, dice.uniform(6, 25))).clamp(0, 1)
    return (foreground + much * rim * glow * (1.1 - foreground)).clamp(0, 1)


def lit_set(dice: Dice, background: Tensor, alpha: Tensor) -> Tensor:
    """The set as the plate has it: with the subject's shadows, sometimes with a change of light."""
    dark = torch.ones_like(alpha)
    on = dice.chance(0.5)
    for share in (1.0, 0.35):
        dark = dark * (1 - on * dice.chance(share) * _cast(dice, alpha))
    dark = dark * (1 - on * dice.chance(0.6) * _contact(dice, alpha))
    tint = 1 + dice.normal(0.06, of=3) * (1 - dark)
    bounce = 1 + dice.chance(0.07) * dice.uniform(0.05, 0.25) * wide_blur(
        alpha, dice.uniform(15, 50)
    )
    other = 1 + dice.chance(0.12) * _other_light(dice, background.shape[-1])
    return (background * dark * tint * bounce * other).clamp(0, 1)


def _cast(dice: Dice, alpha: Tensor) -> Tensor:
    """Strength 0..1 of a cast shadow: alpha shifted, sheared, and blurred by distance."""
    size = alpha.shape[-1]
    # Half the size is enough, also for sharp shadows.
    small = functional.avg_pool2d(alpha, 2)
    theta = dice.tensor(np.tile(np.eye(2, 3), (dice.count, 1, 1)))
    theta[:, 0, 0] = dice.uniform(0.75, 1.25).flatten()
    theta[:, 1, 1] = dice.log_uniform(0.8, 2.2).flatten()
    theta[:, 0, 1] = dice.normal(0.35).flatten()
    reach = dice.uniform(0.0, 0.3).flatten()
    theta[:, 0, 2] = dice.normal(1.0).flatten() * reach
    theta[:, 1, 2] = -dice.normal(0.6).flatten().abs() * reach + dice.normal(0.05).flatten()
    grid = functional.affine_grid(theta, (dice.count, 1, size // 2, size // 2), align_corners=False)
    moved = functional.grid_sample(small, grid, align_corners=False)
    scale = size / 512
    near = blur(moved, dice.log_uniform(0.7, 8) * scale / 2)
    far = wide_blur(moved, dice.log_uniform(8, 40) * scale / 2)
    part = torch.linspace(1, 0, size // 2, device=alpha.device).reshape(1, 1, -1, 1)
    part = (part * dice.uniform(0.2, 2.5) + dice.uniform(-0.5, 0.6)).clamp(0, 1)
    soft = near * (1 - part) + far * part
    soft = functional.interpolate(soft, size=(size, size), mode="bilinear", align_corners=False)
    return soft * dice.uniform(0.06, 0.7)


def _contact(dice: Dice, alpha: Tensor) -> Tensor:
    """Strength 0..1 of a contact shadow, around the subject."""
    size = alpha.shape[-1]
    down = int(dice.rng.integers(0, max(2, size // 40)))
    moved = torch.roll(alpha, down, 2)
    return wide_blur(moved, dice.log_uniform(3, 30) * size / 512, 2) * dice.uniform(0.08, 0.5)


def _other_light(dice: Dice, size: int) -> Tensor:
    """A smooth change of light between plate and clean plate without a visible cause."""
    field = torch.sigmoid(2 * smooth_field(dice, size, int(dice.rng.integers(2, 6))))
    return field * dice.uniform(-0.35, 0.2)


def lamps(dice: Dice, background: Tensor) -> Tensor:
    """The light of a set with lamps over that of the encoded picture of it, which is cut at white:
    1 where it is dark, several times as much where it is nearly white, (N, 1, H, W)."""
    bright = background.amax(1, keepdim=True)
    start = dice.uniform(0.55, 0.9)
    part = ((bright - start) / (1 - start)).clamp(0, 1)
    return 1 + dice.log_uniform(1.0, 19.0) * part.square()


def blended(foreground: Tensor, background: Tensor, alpha: Tensor, linear: Tensor) -> Tensor:
    """The two mixed by alpha as encoded values, or as light where `linear` (N, 1, 1, 1) is 1."""
    encoded = foreground * alpha + background * (1 - alpha)
    at = torch.nonzero(linear.flatten() > 0.5).flatten()
    if len(at) == 0:
        return encoded
    light = decoded(foreground[at]) * alpha[at] + decoded(background[at]) * (1 - alpha[at])
    return encoded.index_copy(0, at, encode(light))


def decoded(x: Tensor) -> Tensor:
    """sRGB to linear light."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def encode(x: Tensor) -> Tensor:
    """Linear light to sRGB."""
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp_min(1e-8) ** (1 / 2.4) - 0.055)
