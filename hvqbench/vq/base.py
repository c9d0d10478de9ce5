"""What every tokenizer is, ours or another library's: a way into a latent, codebooks, and a way back to pixels.

Index models, rate control and training see this much of a tokenizer and no more, so whatever meets it gets all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hvqbench.vq.distance import embed, nearest

if TYPE_CHECKING:
    from hvqbench.vq.tokenizer import TokenizerConfig


class BaseTokenizer(nn.Module, ABC):
    """Encoder, S codebooks of K entries of D dimensions, decoder. Image sides are multiples of ``config.factor``."""

    config: TokenizerConfig
    codebooks: Tensor
    """S×K×D, a float32 buffer; the entries must lie within ±16, the range of :mod:`hvqbench.vq.integer`."""
    digest: str = ""
    """Sha256 that identifies the weights; index models are bound to it."""

    @property
    def reach(self) -> int | None:
        """How many positions around its own a latent vector or a patch of pixels depends on; None for all of them."""
        return None

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Image B×3×H×W in [-1, 1] to the continuous latent B×D×h×w, before quantization."""

    @abstractmethod
    def paint(self, embedding: Tensor) -> Tensor:
        """Embeddings B×D×h×w to the image B×3×H×W, about [-1, 1]; differentiable."""

    def decode(self, indices: Tensor) -> Tensor:
        """Indices B×S'×h×w, of the first S' stages, to the image B×3×H×W in [-1, 1]."""
        return self.paint(self.embed(indices)).clamp(-1, 1)

    def quantize(self, latent: Tensor) -> Tensor:
        """Latent B×D×h×w to the nearest indices B×S×h×w (int64), stage by stage."""
        batch, dim, height, width = latent.shape
        left, stages = latent.float().permute(0, 2, 3, 1).reshape(-1, dim), []
        for codebook in self.codebooks:
            stages.append(nearest(left, codebook))
            left = left - codebook[stages[-1]]
        return torch.stack([stage.view(batch, height, width) for stage in stages], 1)

    def embed(self, indices: Tensor) -> Tensor:
        """Indices B×S'×h×w, of the first S' stages, to the sum of their entries B×D×h×w."""
        return torch.stack(embed(indices, self.codebooks)).sum(0)
