"""A tokenizer of three resolutions that needs no training: what `test_granular` and `test_cgic` stand on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hvqbench.vq.base import BaseTokenizer, Features
from hvqbench.vq.layout import GridSpec
from hvqbench.vq.models.pyramid import upsampled


class Pyramid(BaseTokenizer):
    """Means over squares of 32, 16 and 8 pixels, each what the coarser ones left, under random codebooks."""

    factor = 32
    grids = tuple(GridSpec(f"f{factor}", factor) for factor in (32, 16, 8))
    reach = 0  # type: ignore[assignment]
    digest = "pyramid"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shapes = zip((32, 64, 64), (1.0, 0.3, 0.2), strict=True)
        self.codebooks = [spread * torch.randn(count, 3, generator=generator) for count, spread in shapes]

    def encode(self, image: Tensor) -> Features:
        return [torch.nn.functional.avg_pool2d(image, spec.factor) for spec in self.grids]

    def target(self, features: Features, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        target = features[len(embeddings)]
        return target - sum(upsampled(part, target.shape[-2:]) for part in embeddings) if embeddings else target

    def paint(self, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        size = [side * 32 for side in embeddings[0].shape[-2:]]
        return sum(upsampled(part, size) for part in embeddings)  # type: ignore[return-value]
