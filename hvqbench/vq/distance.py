"""Distances between latents and codebook entries."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(latent: Tensor, codebook: Tensor) -> Tensor:
    """Squared Euclidean distance up to a term that is equal for all entries: N×D, K×D -> N×K."""
    return torch.addmm(codebook.square().sum(1), latent, codebook.T, alpha=-2)


def nearest(latent: Tensor, codebook: Tensor, chunk: int = 4096) -> Tensor:
    """Index of the nearest codebook entry: N×D, K×D -> N (int64), *chunk* latents at a time."""
    return torch.cat([squared_distances(part, codebook).argmin(1) for part in latent.split(chunk)])
