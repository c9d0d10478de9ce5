"""Granularities as an index model: grid, mask, grid, mask, …, every mask and every z in front of what it speaks of.

Before the z of each grid one bit says whether it is sent: for a few positions it costs more than it tells. Without
it a hyperprior goes by z = 0 and what it knows of coarser grids; one that knows nothing codes under the frequencies
of the training set.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Self, cast

import torch
from torch import Tensor

from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.exact import ANCHOR_BITS
from hvqbench.vq.granular import presence
from hvqbench.vq.layout import Grid, Layout
from hvqbench.vq.models.base import IndexModel, check_tokenizer
from hvqbench.vq.models.granular import GranularPrior, Known, pooled
from hvqbench.vq.models.hyperprior_coding import ExactHyperprior
from hvqbench.vq.models.splits import ExactSplits, SplitNetwork, density_side
from hvqbench.vq.walk import Step, Walk


class GranularModel(IndexModel):
    """The hyperpriors and masks' networks of a file, in integers.

    Parameters
    ----------
    prior, frequencies
        The networks, and z's frequencies for each grid.
    tokenizer
        The granular view of a pyramid.
    """

    def __init__(self, prior: GranularPrior, frequencies: Sequence[Tensor], tokenizer: BaseTokenizer) -> None:
        self.sensitivity = prior.sensitivity.tolist()
        self.grids: list[ExactHyperprior] = []
        self.masks: list[ExactSplits] = []
        self.counts = [row.double()[None] + 1 for row in prior.counts()]
        largest = float(2**ANCHOR_BITS)
        names = [spec.name for spec in tokenizer.grids[::2]]
        self.mask_names = [spec.name for spec in tokenizer.grids[1::2]]
        for number, (part, rows, name) in enumerate(zip(prior, frequencies, names, strict=True)):
            book = tokenizer.codebooks[2 * number]
            self.grids.append(ExactHyperprior(part, rows, [book], f"z of {name}", largest))
            largest = max(largest, self.grids[-1].largest)
            if number < len(prior.splits):
                self.masks.append(ExactSplits(cast(SplitNetwork, prior.splits[number]), largest))

    @classmethod
    def load(cls, weights: Path | None, tokenizer: BaseTokenizer) -> Self:
        assert weights is not None
        prior, frequencies, trained_for = GranularPrior.load(weights)
        check_tokenizer(weights, trained_for, tokenizer)
        return cls(prior, frequencies, tokenizer)

    def side(self, embeddings: Sequence[Tensor]) -> Mapping[str, Tensor]:
        """Every z, all of them sent, and the masks' densities."""
        found: dict[str, Tensor] = {}
        for number, (part, exists) in enumerate(zip(self.grids, presence(embeddings), strict=False)):
            if 2 * number < len(embeddings):
                found |= {flag_of(part.name): torch.ones(1, dtype=torch.int64)}
                found |= part.side(embeddings[2 * number])
            if 2 * number + 1 < len(embeddings):
                mask = embeddings[2 * number + 1][:, 0] > 0.5
                some = torch.ones_like(mask) if exists is None else exists[:, 0].bool()
                found |= density_side(self.mask_names[number], mask, some)
        return found

    def walk(self, layout: Layout) -> Walk:
        known: Known | None = None
        for grid in layout.grids:
            known = known or Known.nothing(torch.zeros(1, *grid.size, dtype=torch.float64))
            exists, number = known.exists[0], grid.level // 2
            if grid.level % 2:
                split = yield from self.masks[number].walk(grid, exists, known.embeddings[0].double())
                known = known.with_mask(split[None])
                continue
            part = self.grids[number]
            sent = torch.zeros(part.dim, grid.height * grid.width, dtype=torch.float64)
            if exists.any():
                sent = yield from self._grid(part, grid, known, exists.flatten(), self.counts[number])
            known = known.with_grid(sent.view(1, -1, *grid.size))

    def _grid(
        self, part: ExactHyperprior, grid: Grid, known: Known, exists: Tensor, counts: Tensor
    ) -> Generator[Step, Tensor, Tensor]:
        """One grid; returns its embedding (D×h·w, on the anchors' grid)."""
        flag = Grid(flag_of(part.name), 1, 1, 2, grid.level, "z", side=True)
        with_z = bool((yield Step(flag, torch.zeros(1, dtype=torch.int64), torch.ones(1, 2, dtype=torch.float64))))
        conditional = bool(part.model.config.given)
        if not with_z and not conditional:
            positions = exists.nonzero()[:, 0]
            symbols = yield Step(grid, positions, counts)
            sent = torch.zeros(part.dim, len(exists), dtype=torch.float64)
            sent[:, positions] = part.pees[0].anchors[symbols].T
            return sent
        z_sent = pooled(exists.view(1, *grid.size))[0]
        given = None
        if conditional:
            # Embeddings are on the anchors' grid already, and so are flags.
            given = torch.cat([known.embeddings, known.present * 2**ANCHOR_BITS], 1)[0].flatten(1)
        return (yield from part.walk([grid], given, exists, z_sent if with_z else torch.zeros_like(z_sent)))


def flag_of(z: str) -> str:
    """The name of the bit that says whether a z of that name is sent."""
    return f"{z} is sent"
