"""Granularities: a pyramid tokenizer whose finer grids exist only where masks say so.

A quadtree over the image (Control-GIC, arXiv 2406.00758; HVQ-CGIC, arXiv 2512.07192 v1): each position of the coarsest
grid is split into the four of the next, or not, and so on down. Between two grids lies a mask of the coarser one's
size, whose symbols are :data:`WHOLE` and :data:`SPLIT`::

    f32, split 32, f16 where split, split 16 where split, f8 where split again

A mask goes behind the grid that it speaks of, so that what is decoded of the coarser grid can say where it is split.
Its two "codewords" are the numbers 0 and 1, so that its embedding *is* the map of what is split, and what is painted or
quantized follows from embeddings alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.vq.base import BaseTokenizer, Features
from hvqbench.vq.layout import GridSpec, Where

WHOLE, SPLIT = 0, 1
"""Symbols of a mask."""


class GranularTokenizer(BaseTokenizer):
    """The granular view of *inner*, a tokenizer with one grid for each of several factors, each half the one before."""

    mask: Tensor

    def __init__(self, inner: BaseTokenizer) -> None:
        super().__init__()
        factors = [spec.factor for spec in inner.grids]
        if len(factors) < 2 or any(coarse != 2 * fine for coarse, fine in pairwise(factors)):
            raise HvqbenchError(
                f"a tokenizer with grids of factors {factors} has no granularities: name a pyramid, like 32, 16, 8"
            )
        self.inner, self.factor = inner, inner.factor
        self.register_buffer("mask", torch.tensor([[float(WHOLE)], [float(SPLIT)]]), persistent=False)
        grids: list[GridSpec] = []
        where: Where | None = None
        for spec in inner.grids:
            grids.append(GridSpec(spec.name, spec.factor, where))
            if spec is not inner.grids[-1]:
                grids.append(GridSpec(f"split {spec.factor}", spec.factor, where))
                where = Where(grids[-1].name, (SPLIT,))
        self.grids = tuple(grids)
        self.digest = f"{inner.digest} in granularities"

    @property
    def codebooks(self) -> list[Tensor]:  # type: ignore[override]
        """Of the inner tokenizer's grids, and between two of them the masks' 2x1."""
        books: list[Tensor] = []
        for codebook in self.inner.codebooks:
            books += [codebook, self.mask]
        return books[:-1]

    @property
    def continuous(self) -> bool:  # type: ignore[override]
        return self.inner.continuous

    @property
    def prefixes(self) -> tuple[int, ...]:
        """A mask without the grid behind it tells nothing."""
        return tuple(range(1, len(self.grids) + 1, 2))

    @property
    def reach(self) -> int | None:
        return self.inner.reach

    def encode(self, image: Tensor) -> Features:
        return self.inner.encode(image)

    def target(self, features: Features, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        """As of the inner tokenizer, which is told what is absent; of a mask, that all is split."""
        if len(embeddings) % 2:
            return torch.full_like(embeddings[-1][:, :1], SPLIT)
        return self.inner.target(features, embeddings[::2], presence(embeddings))

    def quantize(self, features: Features) -> list[Tensor]:
        """The nearest codewords where all is split."""
        maps: list[Tensor] = []
        for symbols in self.inner.quantize(features):
            maps += [symbols, torch.full_like(symbols, SPLIT)]
        return maps[:-1]

    def distortion(self, features: Features, embeddings: Sequence[Tensor]) -> float:
        """Mask by mask as of the inner tokenizer; what is absent counts with all of its target."""
        return self.inner.distortion(features, embeddings[::2])

    def paint(self, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        """Of the grids; the masks among *embeddings* say what is present."""
        return self.inner.paint(embeddings[::2], presence(embeddings))


def presence(embeddings: Sequence[Tensor]) -> list[Tensor | None]:
    """Which positions of each grid exist (bool B×1×h×w, None for all), by the masks between them."""
    return [None, *(doubled(mask > 0.5) for mask in embeddings[1::2])]


def doubled(mask: Tensor) -> Tensor:
    """…×h×w to …×2h×2w: each position of a mask as the four that lie in it."""
    return mask.repeat_interleave(2, -2).repeat_interleave(2, -1)
