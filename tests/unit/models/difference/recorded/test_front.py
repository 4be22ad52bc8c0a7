"""Evidence, trimap and palette as a GPU makes them: those of the forms in main memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fakes.mostly_slow import mostly_slow
from mattebridge.models.difference import evidence, mixture, trimap
from mattebridge.models.difference.recorded import evidence as there
from mattebridge.models.difference.recorded import trimap as trimap_there
from mattebridge.models.difference.recorded.linear import Filters
from mattebridge.models.difference.recorded.palette import NO_SUCH, make_palette, palette_size
from mattebridge_sample.composites import composite
from mattebridge_sample.composites.shoot import KINDS

# Rounding, and how many pixels of a frame it may take across a threshold. Measured: none to three.
APART, MOST_CHANGED = 1e-3, 1e-4
SETTINGS = {"edge_tolerance": 0.5, "deepest_shadow": 0.6}
OF_TRIMAP = {"fill": 1.0, "speck_share": 0.0005, "part_of": 1.0}


def planes(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def assert_same(found: object, wanted: object, most: float = MOST_CHANGED) -> None:
    away = np.abs(np.asarray(found, np.float32) - np.asarray(wanted, np.float32))
    assert (away > APART).mean() <= most


@pytest.mark.parametrize("with_more", [False, True])
@pytest.mark.parametrize("kind", mostly_slow(KINDS))
def test_the_steps_at_working_size_are_those_of_main_memory(kind: str, with_more: bool) -> None:
    frame = composite(kind, 3, long_side=320)
    plate, clean = frame.plate, frame.clean_plate
    hint = outside = None
    if with_more:
        hint = (frame.alpha > 0.5).astype(np.float32)
        outside = np.zeros(hint.shape, bool)
        outside[:, :17] = True
    wanted = evidence.gather(plate, clean, outside, **SETTINGS, same_noises=2.5)
    edges = trimap.new_edges(plate, clean, wanted.light)
    (matte,) = trimap.make_trimaps(
        plate, clean, wanted, edges, hint, outside, bands=(1.0,), **OF_TRIMAP
    )
    filters = Filters(plate.shape[:2], torch.device("cpu"))
    pictures = planes(plate), planes(clean)
    more = [None if image is None else torch.from_numpy(image) for image in (hint, outside)]
    found = there.gather(*pictures, more[1], filters, **SETTINGS, same_noises=torch.tensor(2.5))
    for name in ("distance", "light", "kept", "shadow", "through", "same", "low", "high"):
        assert_same(getattr(found, name), getattr(wanted, name))
    # Elsewhere it is not asked for.
    seen = wanted.through
    assert_same(found.covered_by.numpy() * seen, wanted.covered_by * seen)
    edges_there = trimap_there.new_edges(*pictures, found.light, filters)
    for one, other in zip(edges_there, edges):
        assert_same(one, other)
    made = trimap_there.make_trimap(
        *pictures, found, edges_there, more[0], more[1], filters, band=1.0, rounds=8, **OF_TRIMAP
    )
    assert made.settled
    assert matte.unknown.mean() > 0.02
    for name in ("subject", "empty", "unknown", "likelihood", "depth"):
        assert_same(getattr(made, name), getattr(matte, name))
    assert_same_palette(plate, matte.depth > 1, filters)


def assert_same_palette(plate: np.ndarray, subject: np.ndarray, filters: Filters) -> None:
    wanted = mixture.make_palette(plate, subject)
    of_palette = Filters(palette_size(plate.shape[:2]), torch.device("cpu"))
    (found,) = make_palette(planes(plate), torch.from_numpy(subject), filters, of_palette)
    assert_same(found[:3], wanted.mean.transpose(2, 0, 1))
    most = mixture.COLOURS
    colours, shares = found[3:].split([3 * most, most])
    colours = colours.unflatten(0, (most, 3))
    there = (shares != NO_SUCH).flatten(1).all(1)
    assert there.sum() == len(wanted.colours)
    # In whatever order: across an axis either half may come first.
    left = set(np.flatnonzero(there.numpy()).tolist())
    for colour, share in zip(wanted.colours, wanted.shares):
        image = torch.from_numpy(colour.transpose(2, 0, 1))
        best = min(left, key=lambda index: float((colours[index] - image).abs().mean()))
        left.remove(best)
        assert_same(colours[best], image, 0.01)
        assert_same(shares[best], share, 0.01)


def test_a_subject_of_few_colours_has_a_smaller_palette() -> None:
    plate = np.zeros((96, 128, 3), np.float32)
    plate[:, :60], plate[:, 60:] = (0.8, 0.1, 0.1), (0.1, 0.7, 0.2)
    plate[:8] = 0.5
    subject = np.zeros((96, 128), bool)
    subject[16:80, 16:112] = True
    filters = Filters((96, 128), torch.device("cpu"))
    assert 1 < len(mixture.make_palette(plate, subject).colours) < mixture.COLOURS
    assert_same_palette(plate, subject, filters)


def test_a_subject_of_a_few_pixels_has_no_colour_of_its_own_in_the_palette() -> None:
    plate = np.random.default_rng(2).random((96, 128, 3), np.float32)
    subject = np.zeros((96, 128), bool)
    subject[40:52, 60:72] = True
    assert not mixture.make_palette(plate, subject).colours
    assert_same_palette(plate, subject, Filters((96, 128), torch.device("cpu")))
