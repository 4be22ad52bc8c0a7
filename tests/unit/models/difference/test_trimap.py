"""The band of unknown pixels, at working size."""

from __future__ import annotations

import numpy as np

from mattebridge.color import FloatImage
from mattebridge.models.difference.evidence import gather
from mattebridge.models.difference.trimap import Trimap, make_trimaps, new_edges


def square(blur_px: int = 0) -> FloatImage:
    """Alpha of a square; its edge is so many pixels wide, and one more."""
    ramp = np.clip((np.arange(160) - 40) / (blur_px + 1) + 0.5, 0, 1)
    across = np.minimum(ramp, ramp[::-1])
    return np.float32(across * across[:, None])


def trimap_of(alpha: FloatImage, scale: float) -> Trimap:
    """Of a bright subject before a dark set, as it is in a frame of 1 / scale the size."""
    clean_plate = np.full((160, 160, 3), 0.2, np.float32)
    plate = clean_plate + alpha[..., None] * np.float32(0.6)
    evidence = gather(plate, clean_plate, None, edge_tolerance=0.3, deepest_shadow=0.5)
    edges = new_edges(plate, clean_plate, evidence.light)
    (made,) = make_trimaps(
        plate, clean_plate, evidence, edges, None, None,
        fill=1.0, bands=(1.0,), speck_share=0.0002, scale=scale,
    )  # fmt: skip
    return made


def test_the_sure_subject_comes_nearer_to_an_edge_in_a_larger_frame() -> None:
    usual, larger, largest = (trimap_of(square(), scale) for scale in (1.0, 0.5, 0.25))
    for narrow, wide in ((larger, usual), (largest, larger)):
        assert (narrow.subject | ~wide.subject).all()
        assert narrow.subject.sum() > 1.02 * wide.subject.sum()
    assert np.array_equal(usual.empty, largest.empty)


def test_a_wide_edge_is_unknown_at_every_size() -> None:
    alpha = square(12)
    for scale in (1.0, 0.25):
        sure = trimap_of(alpha, scale).subject
        assert sure.sum() > 600
        assert alpha[sure].min() == 1
