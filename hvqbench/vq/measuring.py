"""What one walk of granularities costs, symbol by symbol."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hvqbench.vq.layout import Layout
from hvqbench.vq.models.granular_coding import GranularModel
from hvqbench.vq.walk import Name, drive


@dataclass(frozen=True)
class Coding:
    """What a walk over one image cost.

    Parameters
    ----------
    sent
        The symbols of all grids, flat and by name.
    bits
        Of each symbol of the tokenizer's grids (h×w, 0 where it is absent), by level.
    odds
        Of each mask, h×w×2: what its symbols cost at each position, by level.
    z_bits
        Of each z (⌈h/4⌉×⌈w/4⌉), by the level of its grid.
    total
        Of all, in bits.
    """

    sent: Mapping[str, Tensor]
    bits: Mapping[int, Tensor]
    odds: Mapping[int, Tensor]
    z_bits: Mapping[int, Tensor]
    total: float


def measured(model: GranularModel, layout: Layout, name: Name) -> Coding:
    """Drive the model over *layout* and keep what everything costs."""
    sent: dict[str, Tensor] = {}
    costs: dict[str, Tensor] = {}
    odds = {grid.level: torch.full((grid.height * grid.width, 2), math.nan) for grid in layout.grids if grid.level % 2}
    total = 0.0
    for step, symbols in drive(model.walk(layout), name):
        grid = step.grid
        if grid.name not in sent:
            sent[grid.name] = grid.empty()
            costs[grid.name] = torch.zeros(grid.height * grid.width, dtype=torch.float64)
        sent[grid.name][step.positions] = symbols
        weights = step.weights.expand(len(symbols), -1)
        bits = weights.sum(1).log2() - weights.gather(1, symbols[:, None])[:, 0].log2()
        costs[grid.name][step.positions] = bits
        total += float(bits.sum())
        if grid.level % 2 and not grid.side:
            odds[grid.level][step.positions] = step.bits().expand(len(symbols), -1)
    zs: dict[int, Tensor] = {}
    for grid, part in zip(layout.grids[::2], model.grids, strict=False):
        rows, columns = (-(-side // 4) for side in grid.size)
        z = costs.get(part.name, torch.zeros(len(part.z_weights) * rows * columns, dtype=torch.float64))
        zs[grid.level] = z.view(-1, rows, columns).sum(0)
    empty = {grid.name: torch.zeros(grid.height * grid.width, dtype=torch.float64) for grid in layout.grids}
    own = {**empty, **costs}
    for grid in layout.grids:
        sent.setdefault(grid.name, grid.empty())
    return Coding(
        sent,
        {grid.level: own[grid.name].view(grid.size) for grid in layout.grids[::2]},
        {grid.level: odds[grid.level].view(*grid.size, 2) for grid in layout.grids[1::2]},
        zs,
        total,
    )
