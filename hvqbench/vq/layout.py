"""What a stream holds, known from the image's size alone: named grids of symbols, each with its side and codebook.

A tokenizer lists its grids (:class:`GridSpec`) in the order in which they are coded. Those of a residual quantizer are
of one size, those of a pyramid go from coarse to fine. A mask is a grid like any other, in front of those it speaks of:
its symbols say which of their positions exist, so that a layout is known before any mask is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hvqbench.vq.base import BaseTokenizer

ABSENT = -1
"""In a map of symbols: no symbol is sent at this position."""
INDICES = "indices"
"""The stream of a tokenizer whose grids are all of one size."""


@dataclass(frozen=True)
class Where:
    """Positions of a grid exist where the map *mask*, of a coarser or equal grid before it, holds one of *symbols*."""

    mask: str
    symbols: tuple[int, ...]


@dataclass(frozen=True)
class GridSpec:
    """A grid of a tokenizer: one position stands for *factor* pixels a side; all positions exist without *where*."""

    name: str
    factor: int
    where: Where | None = None


@dataclass(frozen=True)
class Grid:
    """A map of symbols for one image.

    Parameters
    ----------
    name
        Its own among all grids of a stream.
    height, width
        In positions.
    codewords
        Symbols are 0 … codewords - 1.
    level
        The number of the tokenizer's grid that it is, or before which it is sent for an index model's sake. A stream's
        first levels decode without the rest.
    stream
        Its line in the ledger.
    side
        Whether it is side information of an index model, like z, and no grid of the tokenizer.
    """

    name: str
    height: int
    width: int
    codewords: int
    level: int
    stream: str
    where: Where | None = None
    side: bool = False

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def empty(self) -> Tensor:
        """A map without a symbol: ``height * width`` times :data:`ABSENT`."""
        return torch.full((self.height * self.width,), ABSENT)


@dataclass(frozen=True)
class Layout:
    """A tokenizer's grids of one image, in coding order."""

    grids: tuple[Grid, ...]

    @classmethod
    def of(cls, tokenizer: BaseTokenizer, height: int, width: int) -> Layout:
        """For an image of *height* x *width* pixels, which is padded to multiples of ``tokenizer.factor``."""
        rows, columns = (-(-side // tokenizer.factor) for side in (height, width))
        one_size = len({spec.factor for spec in tokenizer.grids}) == 1
        grids = []
        for level, (spec, codebook) in enumerate(zip(tokenizer.grids, tokenizer.codebooks, strict=True)):
            scale, stream = tokenizer.factor // spec.factor, INDICES if one_size else spec.name
            size = (rows * scale, columns * scale)
            grids.append(Grid(spec.name, *size, len(codebook), level, stream, spec.where))
        return cls(tuple(grids))

    def first(self, count: int) -> Layout:
        """The first *count* grids alone."""
        return replace(self, grids=self.grids[:count])

    def __len__(self) -> int:
        return len(self.grids)

    def positions(self, grid: Grid, sent: Mapping[str, Tensor]) -> Tensor:
        """The positions of *grid* that exist, row by row (int64), given the maps *sent* before it (h·w each)."""
        if grid.where is None:
            return torch.arange(grid.height * grid.width)
        mask = next(other for other in self.grids if other.name == grid.where.mask)
        chosen = torch.isin(sent[mask.name], torch.tensor(grid.where.symbols)).view(mask.size)
        scale = grid.height // mask.height
        return chosen.repeat_interleave(scale, 0).repeat_interleave(scale, 1).flatten().nonzero()[:, 0]

    def maps(self, sent: Mapping[str, Tensor]) -> list[Tensor]:
        """Of symbols by grid name (h·w each), those of the tokenizer's grids as maps h×w."""
        return [sent[grid.name].view(grid.size) for grid in self.grids]


def by_name(layout: Layout, maps: Sequence[Tensor]) -> dict[str, Tensor]:
    """Maps h×w of a layout's first grids, flat and by name: what :meth:`Layout.maps` undoes."""
    return {grid.name: symbols.flatten() for grid, symbols in zip(layout.grids, maps, strict=False)}
