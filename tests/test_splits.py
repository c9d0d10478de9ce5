"""Masks under their context model: exact in integers, and far below a bit where they have structure."""

from __future__ import annotations

import torch
from torch import Tensor

from hvqbench.vq.exact import ANCHOR_BITS
from hvqbench.vq.layout import Grid
from hvqbench.vq.models.splits import (
    DENSITIES,
    ExactSplits,
    SplitConfig,
    SplitNetwork,
    density,
    interlaced,
    odds_weights,
)
from hvqbench.vq.range_coder import code_length
from hvqbench.vq.walk import drive

SIDE = 16


def half_planes(count: int, seed: int) -> Tensor:
    """Masks that are split on one side of a line (bool N×h×w)."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(count, 1, 1, generator=generator)
    shift = torch.rand(count, 1, 1, generator=generator) - 0.5
    place = torch.linspace(-1, 1, SIDE)
    return angle.cos() * place[None, :, None] + angle.sin() * place[None, None] > shift


def coded(network: SplitNetwork, mask: Tensor, exists: Tensor, given: Tensor) -> tuple[float, Tensor, Tensor]:
    """Bits, density included, those of each cell, and the map that the walk returns."""
    model, grid = ExactSplits(network, 2**ANCHOR_BITS), Grid("split", SIDE, SIDE, 2, 1, "split")
    returned: list[Tensor] = []

    def walk():  # type: ignore[no-untyped-def]
        returned.append((yield from model.walk(grid, exists, (given * 2**ANCHOR_BITS).round())))

    total, each = 0.0, torch.zeros(SIDE * SIDE)
    symbol = density((mask & exists)[None], exists[None])
    names = lambda step: symbol if step.grid.side else mask.flatten().long()[step.positions]  # noqa: E731
    for step, symbols in drive(walk(), names):
        total += code_length(step.weights, symbols)
        if not step.grid.side:
            each[step.positions] = step.bits().gather(1, symbols[:, None])[:, 0]
    return total, each.view(SIDE, SIDE), returned[0]


def test_structured_masks_cost_less_than_a_third_of_raw_bits() -> None:
    torch.manual_seed(0)
    network = SplitNetwork(SplitConfig(given=1, width=12))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    exists, given = torch.ones(16, SIDE, SIDE, dtype=torch.bool), torch.zeros(16, 1, SIDE, SIDE)
    for step in range(120):
        loss = network.bits(half_planes(16, step).long(), exists, given).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fresh = half_planes(8, 1000)
    bits = [coded(network, mask, exists[0], given[0].double())[0] for mask in fresh]
    assert sum(bits) < fresh.numel() / 3
    # Where there is no structure the model has nothing to say, and little to lose.
    noise = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < 0.5
    assert coded(network, noise, exists[0], given[0].double())[0] > 0.9 * SIDE**2


def test_integers_say_what_the_floating_point_network_does() -> None:
    torch.manual_seed(1)
    network = SplitNetwork(SplitConfig(given=3, width=8))
    torch.nn.init.normal_(network.out.weight, std=2)
    mask, exists = (torch.rand(2, SIDE, SIDE) < 0.4).unbind()
    exists = exists | (torch.rand(SIDE, SIDE) < 0.5)
    given = torch.randn(3, SIDE, SIDE).clamp(-0.9, 0.9)
    with torch.no_grad():
        floating = network.bits((mask & exists).long()[None], exists[None], given[None])[0]
    assert not floating[~exists].any()
    bits, each, returned = coded(network, mask & exists, exists, given.double())
    assert abs(bits - 4.0875 - float(each.sum())) < 1e-2
    assert (each - floating).abs().max() < 0.1  # weights run straight between powers of two
    assert torch.equal(returned, mask & exists)


def test_passes_cover_every_cell_once() -> None:
    for size in ((1, 1), (1, 4), (5, 3)):
        assert torch.equal(torch.stack(interlaced(size)).sum(0), torch.ones(size, dtype=torch.int64))


def test_density_tells_none_and_all_apart_from_nearly() -> None:
    exists = torch.ones(4, 10, 10, dtype=torch.bool)
    exists[3] = False
    split = torch.zeros_like(exists)
    split[1, 0, 0] = True
    split[2] = True
    assert density(split, exists).tolist() == [0, 1, DENSITIES - 1, 0]
    split[2, 0, 0] = False
    assert density(split, exists)[2] == DENSITIES - 2


def test_no_symbol_is_impossible() -> None:
    weights = odds_weights(torch.tensor([-1e9, 0.0, 1e9], dtype=torch.float64))
    assert weights[1, 0] == weights[1, 1]
    assert weights.min() >= 2**12
    assert weights[0, 0] / weights[0, 1] == weights[2, 1] / weights[2, 0] == 2**13
