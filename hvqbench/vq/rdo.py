"""Rate control at encode time: which index to send, given distortion + L * bits.

Given z the positions are independent, so the best index is exact and parallel (no trellis)::

    k* = argmin_k ||y - e_k||^2 + L * bits_k

The decoder does not know L; sweeping it gives the rate-distortion curve of one checkpoint (entropy-constrained VQ,
Chou, Lookabaugh, Gray 1989).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvqbench.vq.tokenizer import nearest, squared_distances


def choose_indices(
    latent: Tensor, codebook: Tensor, costs: Iterable[NDArray[np.float64]], weight: float
) -> NDArray[np.int32]:
    """Best index per position of a latent 1×D×h×w: int32 h×w.

    Parameters
    ----------
    costs
        Bits of every codeword, as chunks n×K (or n×1) that cover the positions row by row; not read when *weight* is 0.
    weight
        L, squared latent distance per bit, at least 0.
    """
    height, width = latent.shape[-2:]
    flat = latent[0].flatten(1).T.float()
    if weight == 0:
        return nearest(flat, codebook).view(height, width).int().cpu().numpy()
    parts, start = [], 0
    for bits in costs:
        rows = flat[start : start + len(bits)]
        price = squared_distances(rows, codebook) + weight * torch.from_numpy(np.array(bits)).to(rows)
        parts.append(price.argmin(1))
        start += len(bits)
    return torch.cat(parts).view(height, width).int().cpu().numpy()
