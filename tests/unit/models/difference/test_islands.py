"""Parts of the set that remain in a matte far from the subject."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mattebridge.models.difference import working_size
from mattebridge.models.difference.islands import islands_of

SIZE = (540, 960)
SPECKS = 0.0002  # of this frame: 104 pixels


def shot() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Alpha with a subject at the left, plate and clean plate with sharp detail."""
    field = np.random.default_rng(4).random((*SIZE, 3)).astype(np.float32)
    clean = cv2.GaussianBlur(field, (0, 0), 2)
    alpha = np.zeros(SIZE, np.float32)
    alpha[100:500, 50:350] = 1
    plate = clean.copy()
    plate[alpha > 0] = (0.9, 0.1, 0.1)
    return alpha, plate, clean


def with_island(side: int, left: int = 800) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    alpha, plate, clean = shot()
    here = (slice(250, 250 + side), slice(left, left + side))
    alpha[here] = 0.8
    plate[here] = (0.1, 0.2, 0.9)
    return alpha, plate, clean


def found(alpha: np.ndarray, plate: np.ndarray, clean: np.ndarray, specks: float) -> Any:
    images = map(torch.from_numpy, (alpha, plate, clean))
    return islands_of(*images, specks, working_size.shrunk(alpha))


def emptied(alpha: np.ndarray, plate: np.ndarray, clean: np.ndarray, specks: float = SPECKS):
    mask = found(alpha, plate, clean, specks)
    return np.zeros(SIZE, bool) if mask is None else mask.numpy()


def test_a_speck_far_from_the_subject_is_emptied() -> None:
    mask = emptied(*with_island(8))
    assert mask[250:258, 800:808].all()
    assert not mask[:, :700].any()


@pytest.mark.parametrize("left", [352, 360])
def test_a_speck_near_the_subject_stays(left: int) -> None:
    assert not emptied(*with_island(8, left)).any()


def test_a_larger_part_of_another_colour_stays() -> None:
    assert not emptied(*with_island(24)).any()


def test_a_larger_part_that_is_the_set_shifted_is_emptied() -> None:
    alpha, plate, clean = with_island(24)
    plate[250:274, 800:824] = clean[253:277, 796:820]
    assert emptied(alpha, plate, clean)[250:274, 800:824].all()


def test_what_is_larger_than_a_few_specks_stays_whatever_it_shows() -> None:
    alpha, plate, clean = with_island(40)
    plate[250:290, 800:840] = clean[253:293, 796:836]
    assert not emptied(alpha, plate, clean).any()


def test_without_specks_there_are_no_islands() -> None:
    assert not emptied(*with_island(8), specks=0).any()


def test_an_empty_matte_and_a_lone_speck_are_left() -> None:
    alpha, plate, clean = with_island(8)
    assert not emptied(np.zeros_like(alpha), plate, clean).any()
    alpha[:, :700] = 0
    assert not emptied(alpha, plate, clean).any()


def test_a_frame_above_working_size_loses_the_same_island() -> None:
    alpha, plate, clean = with_island(8)
    big = [
        cv2.resize(p, (1920, 1080), interpolation=cv2.INTER_LINEAR) for p in (alpha, plate, clean)
    ]
    mask = found(*big, SPECKS)
    assert mask is not None
    assert mask[500:516, 1600:1616].all()
    assert not mask[:, :1400].any()
