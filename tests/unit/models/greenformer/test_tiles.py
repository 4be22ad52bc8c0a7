"""The refiner in tiles gives the pixels of the whole frame, at every size and both ways."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fakes.seeded_keyer import seeded_state
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.greenformer.refiner import Refiner
from mattebridge.models.greenformer.tiles import (
    Moments,
    refined_by_layers,
    refined_by_prefix,
    refined_whole,
    tiles_of,
)

CORE = 32
WAYS = [refined_by_layers, refined_by_prefix]
# Of the largest value; measured 2e-6. Norms of the tiles' own, or blended edges: 3e-2 and more.
BAR = 1e-5


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    made = Refiner()
    state = {k.removeprefix("refiner."): v for k, v in seeded_state().items()}
    made.load_state_dict({name: state[name] for name in made.state_dict()})
    return made.requires_grad_(False)


def picture(height: int, width: int) -> Tensor:
    """A flat screen with a noisy subject: tiles of very different statistics."""
    generator = torch.Generator().manual_seed(5)
    seen = torch.full((1, 7, height, width), 0.2)
    seen[:, 1] = 0.8
    top, left = height // 3, width // 4
    subject = seen[:, :, top:, left : left + width // 2]
    subject += torch.randn(subject.shape, generator=generator)
    return seen


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("height", "width"), [(70, 50), (CORE - 9, CORE - 20), (CORE + 1, CORE), (CORE, 2 * CORE - 1)]
)
@torch.inference_mode()
def test_tiles_give_the_pixels_of_the_whole_frame(refiner, way, height, width) -> None:
    seen = picture(height, width)
    plain = refiner(seen[:, :3], seen[:, 3:])
    tiled = way(refiner, seen, no_checkpoint, CORE)
    assert (tiled - plain).abs().max() <= BAR * plain.abs().max()
    whole = refined_whole(refiner, seen, no_checkpoint)
    assert (tiled - whole).abs().max() <= BAR * plain.abs().max()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("way", WAYS)
@torch.inference_mode()
def test_every_convolution_is_given_the_layout_of_the_picture(refiner, way, layout) -> None:
    """On the CPU the layout decides how quick a convolution is, and how much it copies."""
    seen, last = picture(70, 50).contiguous(memory_format=layout), layout == torch.channels_last
    strides: list[int] = []
    hooks = [
        layer.conv.register_forward_pre_hook(lambda _, given: strides.append(given[0].stride(1)))
        for layer in refiner.layers()
    ]
    way(refiner, seen, no_checkpoint, CORE)
    for hook in hooks:
        hook.remove()
    assert strides
    assert all((stride == 1) == last for stride in strides)


@torch.inference_mode()
def test_a_far_pixel_changes_the_other_end_of_the_frame_in_tiles_as_well(refiner) -> None:
    """By way of the norms: 80 pixels are more than the convolutions see."""
    seen = picture(CORE, 100)
    changed = seen.clone()
    changed[:, :, 5, 5] += 40
    plain, *tiled = (
        (way(changed) - way(seen))[..., 85:]
        for way in (
            lambda x: refiner(x[:, :3], x[:, 3:]),
            *(lambda x, way=way: way(refiner, x, no_checkpoint, CORE) for way in WAYS),
        )
    )
    assert plain.abs().max() > 1e-3
    for difference in tiled:
        # Each of two runs rounds by 2e-6 of values of about 1.
        assert (difference - plain).abs().max() <= 2e-5


def test_cores_cover_every_pixel_once_and_halos_stop_at_the_edge() -> None:
    frame = torch.zeros(1, 1, 100, 130)
    for tile in tiles_of(frame, CORE, 31):
        frame[(slice(None), slice(None), *tile.core)] += 1
        rows, columns = tile.whole
        assert rows.start >= 0
        assert rows.stop <= 100
        assert columns.stop <= 130
        inner = frame[(slice(None), slice(None), *tile.whole)]
        assert inner[(slice(None), slice(None), *tile.inner)].shape == (
            frame[(slice(None), slice(None), *tile.core)].shape
        )
    assert torch.equal(frame, torch.ones_like(frame))


def test_moments_of_parts_are_those_of_the_whole() -> None:
    values = torch.randn(1, 64, 40, 30, generator=torch.Generator().manual_seed(1)) + 3
    moments = Moments(values.device)
    for part in values.split(13, dim=2):
        moments.add(part)
    groups = values.double().view(8, -1)
    assert torch.allclose(moments.mean, groups.mean(dim=1), rtol=1e-6)
    assert torch.allclose(moments.squares / moments.count, groups.var(dim=1, correction=0))
