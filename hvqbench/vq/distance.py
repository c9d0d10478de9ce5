"""Latents and codebook entries: distances, and the nearest."""

from __future__ import annotations

import torch
from torch import Tensor


def full(values: Tensor) -> Tensor:
    """*values* in float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def squared_distances(latent: Tensor, codebook: Tensor) -> Tensor:
    """Squared Euclidean distance up to a term that is equal for all entries: N×D, K×D -> N×K.

    In full precision under autocast too: in bfloat16 the nearest entry of every fifth latent is another.
    """
    with torch.autocast(latent.device.type, enabled=False):
        latent, codebook = full(latent), full(codebook)
        return torch.addmm(codebook.square().sum(1), latent, codebook.T, alpha=-2)


def nearest(latent: Tensor, codebook: Tensor, chunk: int = 4096) -> Tensor:
    """Index of the nearest codebook entry: N×D, K×D -> N (int64), *chunk* latents at a time."""
    return torch.cat([squared_distances(part, codebook).argmin(1) for part in latent.split(chunk)])


def coding_scale(entries: Tensor) -> float:
    """The power of two by which a codebook's largest entry comes to lie in [4, 8)."""
    return 2.0 ** (3 - int(entries.abs().max().frexp().exponent))
