"""The router of granularities: the cheapest of all quadtrees, shares that are met, entropies."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from hvqbench.errors import HvqbenchError
from hvqbench.vq.granular import doubled
from hvqbench.vq.router import (
    Costs,
    Tree,
    cheapest_depth,
    cheapest_tree,
    patch_entropy,
    shares_of,
    tree_by_ratio,
    tree_cost,
)


def random_costs(size: tuple[int, int], seed: int, z: float = 3.0) -> Costs:
    """Of three levels, whose coarsest has *size*."""
    rng = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=rng, dtype=torch.float64)

    sizes = [(size[0] * scale, size[1] * scale) for scale in (1, 2, 4)]
    distortion = [scale * drawn(*sizes[-1]) for scale in (3.0, 2.0, 1.0)]
    zs = [z * drawn(-(-h // 4), -(-w // 4)) for h, w in sizes]
    return Costs(distortion, [drawn(*s) for s in sizes], [drawn(*s, 2) for s in sizes[:-1]], zs)


def all_trees(size: tuple[int, int]) -> list[Tree]:
    """Every quadtree of three levels: each cell is whole, or its four children are whole or split."""
    trees = []
    for coarse in product([False, True], repeat=size[0] * size[1]):
        first = torch.tensor(coarse).view(size)
        places = doubled(first).nonzero()
        for fine in product([False, True], repeat=len(places)):
            second = torch.zeros(2 * size[0], 2 * size[1], dtype=torch.bool)
            second[places[:, 0], places[:, 1]] = torch.tensor(fine, dtype=torch.bool)
            trees.append([first, second])
    return trees


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_no_quadtree_is_cheaper(weight: float) -> None:
    size = (2, 1)
    trees = all_trees(size)
    assert len(trees) == 17**2
    for seed in range(2):
        costs = random_costs(size, seed)
        found = cheapest_tree(costs, weight)
        best = min(tree_cost(costs, tree, weight) for tree in trees)
        assert tree_cost(costs, found, weight) == pytest.approx(best)


def test_a_z_that_one_split_cannot_pay_is_paid_by_several() -> None:
    """z of the next grid is shared by 2×2 cells: dear for one of them, cheap for four."""
    costs = random_costs((2, 2), 0, z=0.0)
    for part, value in zip(costs.distortion, (4.0, 1.0, 1.0), strict=True):
        part.fill_(value)
    gain = 16 * 3.0
    alone = Costs(
        costs.distortion, costs.bits, costs.mask_bits, [costs.z_bits[0], torch.tensor([[2 * gain]]), *costs.z_bits[2:]]
    )
    assert cheapest_tree(alone, 1.0)[0].all()
    quiet = [part.clone() for part in costs.distortion]
    quiet[0][:, 4:] = quiet[0][4:, :4] = 1.0  # three of the cells gain nothing
    only_one = Costs(quiet, costs.bits, costs.mask_bits, alone.z_bits)
    assert not cheapest_tree(only_one, 1.0)[0].any()
    assert int(cheapest_tree(Costs(quiet, costs.bits, costs.mask_bits, costs.z_bits), 1.0)[0].sum()) == 1


def test_a_mask_that_hardly_splits_is_not_sent() -> None:
    costs = random_costs((2, 2), 0, z=0.0)
    costs.distortion[1].fill_(1.0)
    costs.distortion[2].fill_(1.0)
    costs.distortion[2][0, 0] = 1.0 - 7.0  # one cell of the second mask gains more than its own bits
    for part in (*costs.bits, *costs.mask_bits):
        part.fill_(1.0)
    assert int(cheapest_tree(costs, 1.0)[1].sum()) == 1
    assert int(cheapest_depth(costs, 1.0)[1].sum()) == 0  # but not those of all others
    costs.distortion[2][0, 0] = -99.0
    assert int(cheapest_depth(costs, 1.0)[1].sum()) == 1


def test_a_mask_has_nothing_below_a_whole_cell() -> None:
    for seed in range(5):
        first, second = cheapest_tree(random_costs((3, 5), seed), 0.7)
        assert not (second & ~doubled(first)).any()


@pytest.mark.parametrize("shares", [(0.3, 0.5, 0.2), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.1, 0.4, 0.5)])
def test_each_granularity_covers_its_share(shares: tuple[float, ...]) -> None:
    rng = torch.Generator().manual_seed(1)
    scores = [torch.rand(8, 12, generator=rng), torch.rand(16, 24, generator=rng)]
    tree = tree_by_ratio(scores, shares)
    assert shares_of(tree) == pytest.approx(shares, abs=0.5 / 96)
    split = scores[0][tree[0]]
    if len(split) and not tree[0].all():
        assert split.min() >= scores[0][~tree[0]].max()


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.6, -0.1), (0.5, 0.2, 0.2)])
def test_shares_that_are_none_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(HvqbenchError, match="3 granularities from coarse to fine that add up to 1"):
        tree_by_ratio([torch.rand(2, 2), torch.rand(4, 4)], shares)


def test_entropy_is_of_the_grey_values_of_a_patch() -> None:
    image = torch.zeros(1, 3, 32, 64)
    centre = torch.linspace(0, 1, 32)
    image[..., :16, :32] = 2 * centre[10] - 1  # one value
    image[..., :16, 32:] = (2 * centre[torch.arange(32) % 2 * 10 + 10] - 1).expand(3, 16, 32)  # two of them
    found = patch_entropy(image, 16)
    assert found.shape == (2, 4)
    # The window of the histogram reaches a little into the bins beside: 0.068 nats more.
    assert found[0, 0] == pytest.approx(0.068, abs=2e-3)
    assert found[0, 2] == pytest.approx(0.068 + 0.6931, abs=2e-3)
