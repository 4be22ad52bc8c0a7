"""The plate + hint network against its table of parts, a second form of it, and its shortcuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fakes.generated_weights import plate_pair
from fakes.places import ROOT
from fakes.seeded_keyer import GRID, entries, seeded_state
from fakes.unrolled_hiera import unrolled_maps
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.greenformer.decoder import FoldedDecoders
from mattebridge.models.greenformer.encoder import interpolated_table
from mattebridge.models.greenformer.fast import OFF, WAYS, FastGreenformer
from mattebridge.models.greenformer.network import Greenformer, network_input
from mattebridge.models.greenformer.recognise import network_from

SIZE = 4 * GRID
GOLDEN = ROOT / "tests" / "golden" / "greenformer"


@pytest.fixture(scope="module")
def network() -> Greenformer:
    return network_from(seeded_state())


def input_of(size: int) -> Tensor:
    y, x = np.mgrid[0:size, 0:size] / size
    hint = (np.hypot((x - 0.45) / 0.2, (y - 0.55) / 0.3) < 1).astype(np.float32)
    return network_input(plate_pair(size, size)[0], torch.from_numpy(hint)[None, None])


@pytest.mark.parametrize(("size", "grid"), [(512, 128), (2048, 512)])
def test_keys_shapes_and_order_are_those_of_published_checkpoints(size: int, grid: int) -> None:
    with torch.device("meta"):
        ours = {name: tuple(v.shape) for name, v in Greenformer(grid).state_dict().items()}
    assert len(ours) == 367
    assert ours == entries(size // 4)
    assert list(ours) == list(entries(size // 4))


def test_the_number_of_parameters_is_the_published_one() -> None:
    with torch.device("meta"):
        counted = {
            grid: sum(p.numel() for p in Greenformer(grid).parameters()) for grid in (128, 512)
        }
    assert {grid: round(count / 1e6, 2) for grid, count in counted.items()} == {
        128: 72.18,
        512: 99.70,
    }


@torch.inference_mode()
def test_the_encoder_agrees_with_its_published_order_of_tokens(network: Greenformer) -> None:
    x = input_of(SIZE)
    for ours, wanted in zip(network.encoder(x), unrolled_maps(seeded_state(), x)):
        assert ours.shape == wanted.shape
        # Rounding: 1e-6 of the largest value; a wrong window or order: as large as the values.
        assert (ours - wanted).abs().max() <= 2e-5 * wanted.abs().max()


@torch.inference_mode()
def test_a_change_in_one_cell_reaches_no_other_before_block_6(network: Greenformer) -> None:
    """Cells of 32x32 pixels; the last three are shared by the convolution of the patches."""
    model, x = network.encoder.model, input_of(SIZE)
    changed = x.clone()
    changed[:, :, 4:28, 4:28] += 1
    first, second = (model.patch_embed(image) + model.table_for(SIZE) for image in (x, changed))
    for number, block in enumerate(model.blocks):
        first, second = block(first), block(second)
        cell = first.shape[1] // 2
        elsewhere = (first - second).abs()
        elsewhere[:, :cell, :cell] = 0
        if number == 5:
            assert float(elsewhere.max()) == 0
            assert not torch.equal(first, second)
        if number == 6:
            assert float(elsewhere.max()) > 0
            break


@torch.inference_mode()
def test_folded_decoders_agree_with_the_published_ones(network: Greenformer) -> None:
    maps = network.encoder(input_of(SIZE))
    plain = torch.cat([network.alpha_decoder(maps), network.fg_decoder(maps)], dim=1)
    folded = FoldedDecoders(network.alpha_decoder, network.fg_decoder)(maps)
    # Measured 8e-7 of the largest logit.
    assert (plain - folded).abs().max() <= 1e-5 * plain.abs().max()


@torch.inference_mode()
def test_the_result_is_that_of_the_network_which_agreed_with_the_published_one(
    network: Greenformer,
) -> None:
    """At 512 it was within 4e-6 of the published network's alpha and foreground."""
    with np.load(GOLDEN / "seed_17_at_64.npz") as golden:
        for found, name in zip(network(input_of(SIZE)), ("alpha", "foreground")):
            # Another order of the sums: measured 2e-6.
            assert np.abs(found[0].numpy() - golden[name]).max() <= 1e-4


@pytest.mark.parametrize("size", [SIZE, 96, 128])
@torch.inference_mode()
def test_one_set_of_weights_serves_every_size(network: Greenformer, size: int) -> None:
    x = input_of(size)
    made = FastGreenformer(network)(x, WAYS, 1.0, no_checkpoint)
    alpha, foreground = network(x)
    assert alpha.shape == (1, 1, size, size)
    fast = made.logits.sigmoid()
    # Measured 2e-6.
    assert (fast - torch.cat([alpha, foreground], dim=1)).abs().max() <= 5e-5
    assert float(alpha.std()) > 0.02


def test_a_position_table_is_kept_at_its_own_size_and_else_bicubic() -> None:
    table = torch.randn(1, 36, 112, generator=torch.Generator().manual_seed(3))
    assert torch.equal(interpolated_table(table, 6).reshape(1, 36, 112), table)
    image = table.view(1, 6, 6, 112).permute(0, 3, 1, 2)
    wanted = functional.interpolate(image, (9, 9), mode="bicubic", align_corners=False)
    assert torch.equal(interpolated_table(table, 9), wanted.permute(0, 2, 3, 1))


@torch.inference_mode()
def test_without_the_refiner_the_coarse_matte_is_returned(network: Greenformer) -> None:
    x = input_of(SIZE)
    fast = FastGreenformer(network)
    off, zero, whole = (
        fast(x, ways, scale, no_checkpoint) for ways, scale in (((), 1.0), (WAYS, 0.0), (WAYS, 1.0))
    )
    assert off.way == zero.way == OFF
    assert torch.equal(off.logits, zero.logits)
    alpha, foreground = network(x, refiner_scale=0)
    wanted = torch.cat([alpha, foreground], dim=1)
    assert (off.logits.sigmoid() - wanted).abs().max() <= 5e-5
    assert (off.logits - whole.logits).abs().max() > 0.05
    half = fast(x, WAYS, 0.5, no_checkpoint).logits
    assert torch.allclose(half, (off.logits + whole.logits) / 2, atol=1e-4)


@pytest.mark.slow
@torch.inference_mode()
def test_half_precision_is_the_encoders_alone_and_leaves_a_smooth_alpha(
    network: Greenformer,
) -> None:
    half = FastGreenformer(network, torch.bfloat16)
    x = input_of(128)
    ramp = torch.linspace(0, 1, 128).expand(1, 1, 128, 128)
    x[:, 3:] = ramp
    made = half(x, WAYS, 1.0, no_checkpoint).logits
    assert made.dtype == torch.float32
    # An alpha in bfloat16 itself has a few hundred levels.
    assert len(made[0, 0].sigmoid().unique()) > 4000
    assert {tensor.dtype for tensor in network.refiner.parameters()} == {torch.float32}
    assert {tensor.dtype for tensor in network.encoder.parameters()} == {torch.float32}
    full = FastGreenformer(network)(x, WAYS, 1.0, no_checkpoint).logits
    # Measured 0.007 on average: wrong layers give tenths.
    assert (made.sigmoid() - full.sigmoid()).abs().mean() < 0.03
