"""What a mask costs: the probability that a cell of a quadtree is split, given what is decoded around it.

A binary context model. Cells are coded in four interlaced passes (rows and columns of one parity each), so that all
cells of a pass are coded at once and all but the first see decided neighbours on several sides. A small network looks
at them, at the embeddings of the grids before the mask, and at which cells exist at all. How dense the mask is goes
before it in one symbol: the same image is split here and there at one rate and nearly everywhere at another.

In floating point for training, in integers for coding (:class:`ExactSplits`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.vq.exact import (
    ACTIVATION_BITS,
    ACTIVATION_MAX,
    ANCHOR_BITS,
    EXPONENT_BITS,
    IntegerConvolution,
    power_of_two,
)
from hvqbench.vq.granular import SPLIT
from hvqbench.vq.layout import Grid
from hvqbench.vq.walk import Step

DENSITIES = 17
"""Symbols for the share of cells that are split: 0 for none, 16 for all, sixteenths between."""
PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Parity of rows and columns of each pass."""
ODDS_LIMIT = 13.0
"""No cell is surer than 2^13 to 1."""


@dataclass(frozen=True)
class SplitConfig:
    """Shape of a mask's network: *given* channels are the embeddings of the grids before the mask."""

    given: int = 16
    width: int = 32


class SplitNetwork(nn.Module):
    """Log2 odds that a cell is split."""

    def __init__(self, config: SplitConfig) -> None:
        super().__init__()
        self.config = config
        self.seen = nn.Conv2d(config.given + 4, config.width, 5, padding=2)
        self.hidden = nn.Conv2d(config.width, config.width, 1)
        self.out = nn.Conv2d(config.width, 1, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, seen: Tensor) -> Tensor:
        """What is seen (:func:`seen_by`), B×C×h×w, to B×h×w."""
        x = functional.relu(self.hidden(functional.relu(self.seen(seen))))
        return self.out(x)[:, 0].float().clamp(-ODDS_LIMIT, ODDS_LIMIT)

    def bits(self, mask: Tensor, exists: Tensor, given: Tensor) -> Tensor:
        """Code length (B×h×w) of *mask* (B×h×w, int64), 0 where it does not exist (bool B×h×w).

        *given* is B×C×h×w, the embeddings before the mask at its size.
        """
        split = mask == SPLIT
        dense = density(split & exists, exists).to(given) / (DENSITIES - 1)
        bits = torch.zeros_like(given[:, 0])
        decided = torch.zeros_like(exists)
        for own in interlaced((mask.shape[-2], mask.shape[-1]), mask.device):
            odds = self(seen_by(split, decided, exists, dense, given))
            costs = functional.softplus(odds * torch.log(torch.tensor(2.0)) * torch.where(split, -1, 1))
            bits = torch.where(own & exists, costs / torch.log(torch.tensor(2.0)), bits)
            decided = decided | (own & exists)
        return bits


def seen_by(split: Tensor, decided: Tensor, exists: Tensor, dense: Tensor, given: Tensor) -> Tensor:
    """What the network sees: B×(4+C)×h×w, from bool maps B×h×w, the density (B, 0 to 1) and *given* (B×C×h×w).

    Of decided cells whether they are split, that they are decided, that they exist, the density, the embeddings.
    """
    flags = torch.stack([split & decided, decided, exists], 1).to(given)
    return torch.cat([flags, dense[:, None, None, None].expand_as(given[:, :1]), given], 1)


def density(split: Tensor, exists: Tensor) -> Tensor:
    """The symbol (B, int64) for the share of cells B×h×w that are split of those that exist."""
    count, of = split.sum((1, 2)), exists.sum((1, 2))
    inner = (count * (DENSITIES - 1) + of // 2) // of.clamp_min(1)
    inner = inner.clamp(1, DENSITIES - 2)
    return torch.where(count == 0, 0, torch.where(count == of, DENSITIES - 1, inner))


def interlaced(size: tuple[int, int], device: torch.device | str = "cpu") -> list[Tensor]:
    """Bool h×w for each pass."""
    rows, columns = (torch.arange(side, device=device) % 2 for side in size)
    return [(rows[:, None] == row) & (columns == column) for row, column in PASSES]


class ExactSplits:
    """A mask's walk, in integers.

    Parameters
    ----------
    network
        In floating point.
    largest
        Bounds what is given, on the anchors' grid.
    """

    def __init__(self, network: SplitNetwork, largest: float) -> None:
        self.given = network.config.given
        self.seen = IntegerConvolution(network.seen, ANCHOR_BITS, max(largest, 2**ANCHOR_BITS), ACTIVATION_BITS)
        self.hidden = IntegerConvolution(network.hidden, ACTIVATION_BITS, ACTIVATION_MAX, ACTIVATION_BITS)
        self.out = IntegerConvolution(network.out, ACTIVATION_BITS, ACTIVATION_MAX, EXPONENT_BITS)

    def walk(self, grid: Grid, exists: Tensor, given: Tensor) -> Generator[Step, Tensor, Tensor]:
        """The density, then the mask; returns it (bool h×w), nowhere split where it does not *exist* (bool h×w).

        *given* is C×h×w (float64, on the anchors' grid).
        """
        symbol = yield Step(density_grid(grid), torch.zeros(1, dtype=torch.int64), _uniform())
        dense = torch.full(grid.size, float(symbol) * 2**ANCHOR_BITS / (DENSITIES - 1), dtype=torch.float64)
        split = torch.zeros(grid.size, dtype=torch.bool)
        decided = torch.zeros_like(split)
        one = 2.0**ANCHOR_BITS
        for own in interlaced(grid.size):
            positions = (own & exists).flatten().nonzero()[:, 0]
            if not len(positions):
                continue
            flags = torch.stack([split & decided, decided, exists]).double() * one
            seen = self.seen.columns(torch.cat([flags, dense[None], given]))[:, positions]
            x = self.hidden.product(self.seen.product(seen).clamp_(0, ACTIVATION_MAX)).clamp_(0, ACTIVATION_MAX)
            symbols = yield Step(grid, positions, odds_weights(self.out.product(x)[0]))
            split.view(-1)[positions] = symbols == SPLIT
            decided.view(-1)[positions] = True
        return split


def odds_weights(odds: Tensor) -> Tensor:
    """Weights (n×2) of :data:`WHOLE` and :data:`SPLIT` under log2 odds n on 2^-10."""
    limit = ODDS_LIMIT * 2**EXPONENT_BITS
    odds = odds.clamp(-limit, limit)
    return power_of_two(torch.stack([torch.zeros_like(odds), odds], 1))


def density_grid(mask: Grid) -> Grid:
    """One position, in front of *mask* and in its stream."""
    return Grid(f"density of {mask.name}", 1, 1, DENSITIES, mask.level, mask.stream, side=True)


def density_side(grid_name: str, mask: Tensor, exists: Tensor) -> Mapping[str, Tensor]:
    """The symbol that goes before the mask of that name, bool 1×h×w both, as an index model's side information."""
    return {f"density of {grid_name}": density(mask & exists, exists)}


def _uniform() -> Tensor:
    return torch.ones(1, DENSITIES, dtype=torch.float64)
