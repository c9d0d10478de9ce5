"""What every tokenizer is, ours or anybody's: a way into features, a codebook for each grid, and a way back to pixels.

Index models, rate control and training see this much of a tokenizer and no more, so whatever meets it gets all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.vq.distance import nearest
from hvqbench.vq.layout import ABSENT, GridSpec

Features = Any
"""What targets are made of: a latent B×D×h×w, or tuples, lists and dictionaries of such of several resolutions."""


class BaseTokenizer(nn.Module, ABC):
    """Encoder, one codebook for each grid, decoder. Image sides are multiples of ``factor``.

    Attributes
    ----------
    grids
        In coding order, from coarse to fine; a residual quantizer has several of one factor.
    codebooks
        K×D for each grid (float32); a stack S×K×D will do where they are of one shape. Entries must lie within ±16, the
        range of :mod:`hvqbench.vq.exact`.
    factor
        Image sides are padded to multiples of it: that of the coarsest grid.
    digest
        Sha256 that identifies the weights; index models are bound to it.
    """

    grids: tuple[GridSpec, ...]
    codebooks: Sequence[Tensor] | Tensor
    factor: int
    digest: str = ""
    continuous: bool = True
    """Whether features lie between the codewords, so that another than the nearest can be chosen for its bits."""

    painting: tuple[str, ...] = ()
    """How the names of those tensors begin on which no index depends: they may learn on under finished index models."""

    @property
    def prefixes(self) -> Sequence[int]:
        """How many of the first grids may be sent, ascending, all of them last."""
        return range(1, len(self.grids) + 1)

    @property
    def reach(self) -> int | None:
        """How many positions of the coarsest grid around its own anything depends on; None for all of them."""
        return None

    @abstractmethod
    def encode(self, image: Tensor) -> Features:
        """Image B×3×H×W in [-1, 1] to what :meth:`target` takes, before quantization."""

    def target(self, features: Features, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        """What grid number ``len(embeddings)`` quantizes (B×D×h×w), given the entries of the grids before it.

        Of a latent what those have left, as a residual quantizer has it; a pyramid has a network here. *present* is as
        in :meth:`paint`.
        """
        left: Tensor = features.float()
        for entries in embeddings:
            left = left - entries
        return left

    def distortion(self, features: Features, embeddings: Sequence[Tensor]) -> float:
        """What the grids sent, with those entries, lack: squared distance in the scale of the codebooks.

        With it the encoder chooses how many grids to send. By default the squared length of what they have left of a
        latent; for grids of several resolutions that of each grid's own rest, be it sent or not.
        """
        if len({spec.factor for spec in self.grids}) == 1:
            return float(self.target(features, embeddings).double().square().sum())
        total, known = 0.0, list(embeddings)
        for level in range(len(self.grids)):
            target = self.target(features, known[:level])
            if level == len(known):
                known.append(torch.zeros_like(target))
            total += float((target - known[level]).double().square().sum())
        return total

    @abstractmethod
    def paint(self, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        """Embeddings, B×D×h×w of each grid, to the image B×3×H×W, about [-1, 1]; differentiable.

        Fewer embeddings than grids are those of the first. *present* says for each where a grid has symbols (bool
        B×1×h×w); None, or none at all, for everywhere. Elsewhere the embedding is 0.
        """

    def decode(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps B×h×w (int64) of the first grids, absent positions -1, to the image B×3×H×W in [-1, 1]."""
        present = [None if (symbols != ABSENT).all() else (symbols != ABSENT)[:, None] for symbols in maps]
        return self.paint(self.embed(maps), present).clamp(-1, 1)

    def quantize(self, features: Features) -> list[Tensor]:
        """The nearest codewords, grid after grid: maps B×h×w (int64)."""
        maps: list[Tensor] = []
        embeddings: list[Tensor] = []
        for codebook in self.codebooks:
            target = self.target(features, embeddings)
            batch, dim, height, width = target.shape
            rows = target.float().permute(0, 2, 3, 1).reshape(-1, dim)
            maps.append(nearest(rows, codebook).view(batch, height, width))
            embeddings.append(entries(maps[-1], codebook))
        return maps

    def embed(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The entries B×D×h×w of maps B×h×w (int64) of the first grids; 0 where a position is absent."""
        return [entries(symbols, codebook) for symbols, codebook in zip(maps, self.codebooks, strict=False)]


def entries(symbols: Tensor, codebook: Tensor) -> Tensor:
    """The entries B×D×h×w of a map B×h×w (int64); 0 where a position is absent."""
    chosen = functional.embedding(symbols.clamp_min(0), codebook).permute(0, 3, 1, 2)
    absent = symbols == ABSENT
    return chosen.masked_fill(absent[:, None], 0) if absent.any() else chosen


def grid_specs(factors: Sequence[int]) -> tuple[GridSpec, ...]:
    """Grids by their factors in coding order; those of one factor are the stages of a residual quantizer.

    >>> [spec.name for spec in grid_specs([32, 16, 16])]
    ['f32', 'f16 stage 1', 'f16 stage 2']
    >>> [spec.name for spec in grid_specs([16, 16])]
    ['stage 1', 'stage 2']
    """
    specs = []
    for number, factor in enumerate(factors):
        words = [f"f{factor}"] if len(set(factors)) > 1 or len(factors) == 1 else []
        if factors.count(factor) > 1:
            words.append(f"stage {list(factors[: number + 1]).count(factor)}")
        specs.append(GridSpec(" ".join(words), factor))
    return tuple(specs)
