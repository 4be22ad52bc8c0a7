"""The effects of camera and file format on plate and clean plate."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.compose.blur import blur
from training.compose.codec import jpeg, video
from training.compose.dice import Dice


def drifted(dice: Dice, clean: Tensor) -> Tensor:
    """The clean plate with another exposure, white balance and gamma in 60 % of the shots."""
    on = dice.chance(0.6)
    gamma = torch.exp(on * dice.normal(0.06))
    gain = 1 + on * (dice.normal(0.02, of=3) + dice.normal(0.05))
    return clean.clamp_min(1e-4) ** gamma * gain + on * dice.normal(0.008)


def unequally_sharp(dice: Dice, plate: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """One of the two slightly blurred, as by refocusing or by the alignment's resampling."""
    at = dice.some(0.22)
    if at is None:
        return plate, clean
    part = dice.sub(len(at))
    sigma, which = part.uniform(0.35, 1.1), part.chance(0.3)
    plate = plate.index_copy(0, at, torch.lerp(plate[at], blur(plate[at], sigma), which))
    clean = clean.index_copy(0, at, torch.lerp(clean[at], blur(clean[at], sigma), 1 - which))
    return plate, clean


def grainy(dice: Dice, plate: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Sensor grain by ISO: stronger in bright areas, partly clumped, partly the same in RGB."""
    iso = dice.rng.random(dice.count)
    low, high = np.where(iso < 0.75, 0.0015, 0.012), np.where(iso < 0.75, 0.014, 0.045)
    sigma = dice.tensor(np.exp(dice.rng.uniform(np.log(low), np.log(high))))[:, None, None, None]
    sigma = sigma * dice.chance(0.88)
    grey, clump, size = dice.uniform(0, 0.8), dice.uniform(0, 0.9), dice.uniform(0.6, 1.3)
    tint = 1 + dice.tensor(dice.rng.uniform(-0.3, 0.5, (dice.count, 3)))[:, :, None, None]
    share = dice.tensor(
        np.where(dice.rng.random(dice.count) < 0.7, 1.0, dice.rng.uniform(0.05, 1.2, dice.count))
    )
    strengths = (sigma, sigma * share[:, None, None, None])
    return tuple(  # type: ignore[return-value]
        picture + strength * tint * _by_light(picture) * _grain(dice, picture, grey, clump, size)
        for picture, strength in zip((plate, clean), strengths)
    )


def regrained(dice: Dice, plate: Tensor) -> Tensor:
    """The plate of another frame of the shot: with more grain, rounded to 8 bits up to white."""
    noisy = plate + dice.log_uniform(0.004, 0.016) * _by_light(plate) * _grain(
        dice, plate, dice.uniform(0, 0.8), dice.uniform(0, 0.5), dice.uniform(0.6, 1.0)
    )
    return torch.where(plate > 1, noisy, torch.round(noisy.clamp(0, 1) * 255) / 255)


def _by_light(picture: Tensor) -> Tensor:
    """Strength of grain by the brightness of the picture."""
    return 0.4 + 0.9 * picture.clamp(0, 1).sqrt()


def _grain(dice: Dice, picture: Tensor, grey: Tensor, clump: Tensor, size: Tensor) -> Tensor:
    """Grain of unit standard deviation."""
    noise = dice.noise(tuple(picture.shape))
    noise = noise * (1 - grey.square()).sqrt() + noise[:, :1] * grey
    # A Gaussian of sigma s keeps 1 / (2 s sqrt(pi)) of the deviation of white noise.
    soft = blur(noise, size) * (2 * size * 1.7725)
    return noise * (1 - clump.square()).sqrt() + soft * clump


def grade_of(dice: Dice, plate: Tensor, clean: Tensor) -> Tensor:
    """The exponent of a grade in 12 % of the shots, else 1; no pair gets too dark to be useful.

    Not in more: in a graded plate alpha mixes neither encoded values nor light, and training on
    many of them makes the network worse with both.
    """
    exponent = torch.exp(dice.chance(0.12) * dice.normal(0.3))
    level = torch.maximum(plate.mean((1, 2, 3)), clean.mean((1, 2, 3)))[:, None, None, None]
    # mean ** exponent is about the new mean: keep it above .09.
    highest = -2.4 / level.clamp(1e-3, 0.9).log()
    return torch.minimum(exponent, highest)


def toned(exponent: Tensor, *pictures: Tensor) -> tuple[Tensor, ...]:
    """Every picture of a shot with the same grade."""
    return tuple(picture.clamp(1e-4, 1) ** exponent for picture in pictures)


def coded(dice: Dice, plate: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded to 8 bits or fewer, JPEG or a video codec; not always the same for the two."""
    levels = np.where(
        dice.rng.random(dice.count) < 0.06, dice.rng.uniform(40, 140, dice.count), 255
    )
    steps = dice.tensor(levels)[:, None, None, None]
    plate, clean = (torch.round(p.clamp(0, 1) * steps) / steps for p in (plate, clean))
    for probability, codec in ((0.28, jpeg), (0.14, video)):
        at = dice.some(probability)
        if at is None:
            continue
        part = dice.sub(len(at))
        quality = part.rng.uniform(0, 1, len(at))
        other = np.where(part.rng.random(len(at)) < 0.7, quality, part.rng.uniform(0, 1, len(at)))
        plate = plate.index_copy(0, at, codec(part, plate[at], quality))
        clean = clean.index_copy(0, at, codec(part, clean[at], other))
    # Some footage is float and is not rounded to 8 bits.
    eight = dice.chance(0.85)
    return tuple(  # type: ignore[return-value]
        torch.lerp(p, torch.round(p * 255) / 255, eight).clamp(0, 1) for p in (plate, clean)
    )
