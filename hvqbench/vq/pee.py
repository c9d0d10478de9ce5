"""The probability estimation engine (PEE) in floating point, as training uses it.

A Gaussian in embedding space, predicted per position, is evaluated at the codebook entries e_k ("anchors") and
renormalised over the codebook (HyperVQ, arXiv 2512.07192)::

    logit_k = -1/2 sum_d (e_kd - mu_d)^2 / sigma_d^2 + b_k,    p = softmax(logit)

The term without k cancels in the softmax, which leaves two matrix products. With sigma -> infinity and b_k = log f_k
this is the ideal static code of the frequencies f_k. Coding uses the integer version in :mod:`hvqbench.vq.integer`.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional


def anchor_logits(mean: Tensor, log_precision: Tensor, codebook: Tensor, bias: Tensor) -> Tensor:
    """Unnormalised log-probabilities, N×K.

    Parameters
    ----------
    mean, log_precision
        N×D: mu and log(1 / sigma^2) of each position.
    codebook, bias
        K×D anchors and K learned offsets b_k.
    """
    precision = log_precision.exp()
    return bias - 0.5 * precision @ codebook.square().T + (precision * mean) @ codebook.T


def index_bits(logits: Tensor, indices: Tensor) -> Tensor:
    """Ideal code length of *indices* (N) under *logits* (N×K), in bits per position."""
    return functional.cross_entropy(logits.float(), indices, reduction="none") / math.log(2)


def straight_through_bits(
    latent: Tensor, indices: Tensor, mean: Tensor, log_precision: Tensor, codebook: Tensor, bias: Tensor
) -> Tensor:
    """Code length whose gradient reaches the encoder: the numerator is taken at y + sg(e_k - y).

    The value equals :func:`index_bits`; the gradient pulls each latent towards its predicted mean, weighted by the
    precision. The codebook gets none: its entries are fixed anchors.
    """
    codebook = codebook.detach()
    logits = anchor_logits(mean, log_precision, codebook, bias).float()
    precision = log_precision.exp()
    entry = latent + (codebook[indices] - latent).detach()
    chosen = bias[indices] - 0.5 * (precision * entry.square()).sum(1) + (precision * mean * entry).sum(1)
    return (logits.logsumexp(1) - chosen) / math.log(2)
