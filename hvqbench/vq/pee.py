"""The probability estimation engine (PEE) in floating point, as training uses it.

A Gaussian in embedding space, predicted per position, is evaluated at the codebook entries e_k ("anchors") and
renormalised over the codebook (HyperVQ, arXiv 2512.07192)::

    logit_k = -1/2 sum_d (e_kd - mu_d)^2 / sigma_d^2 + b_k,    p = softmax(logit)

The term without k cancels in the softmax, which leaves two matrix products. With sigma -> infinity and b_k = log f_k
this is the ideal static code of the frequencies f_k. Coding uses the integer version in :mod:`hvqbench.vq.exact`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from hvqbench.vq.distance import full, squared_distances

LOG_PRECISION_LIMITS = (-6.0, 5.0)
MEAN_LIMIT = 16.0
RateMode = Literal["hard", "ste", "soft"]
"""How the gradient of a code length reaches the encoder, see :func:`code_length`."""


def anchor_logits(mean: Tensor, log_precision: Tensor, codebook: Tensor, bias: Tensor) -> Tensor:
    """Unnormalised log-probabilities, N×K.

    Parameters
    ----------
    mean, log_precision
        N×D: mu and log(1 / sigma^2) of each position.
    codebook, bias
        K×D anchors and K learned offsets b_k.
    """
    with torch.autocast(mean.device.type, enabled=False):  # bfloat16 would blur what tells near entries apart
        mean, precision, codebook = full(mean), full(log_precision).exp(), full(codebook)
        return bias - 0.5 * precision @ codebook.square().T + (precision * mean) @ codebook.T


def index_bits(logits: Tensor, indices: Tensor) -> Tensor:
    """Ideal code length of *indices* (N) under *logits* (N×K), in bits per position."""
    return functional.cross_entropy(logits.float(), indices, reduction="none") / math.log(2)


def code_length(
    mode: RateMode,
    latent: Tensor,
    indices: Tensor,
    mean: Tensor,
    log_precision: Tensor,
    codebook: Tensor,
    bias: Tensor,
    temperature: float = 0.1,
) -> Tensor:
    """Bits per position (N), with the gradient towards the latent (N×D) that *mode* asks for.

    ``hard``
        none: the encoder learns through z alone.
    ``ste``
        the value of ``hard``, but the numerator is taken at y + sg(e_k - y), so that the rate pulls each latent towards
        its predicted mean, weighted by the precision.
    ``soft``
        cross entropy of softmax(-||y - e_k||^2 / (temperature · s)) with the prediction, s being the codebook's mean
        variance per dimension (RDVQ's relaxation, arXiv 2604.10546, with the PEE in place of its transformer).

    The codebook gets no gradient in any mode: its entries are fixed anchors, and could otherwise collapse to save bits.
    """
    codebook = codebook.detach()
    logits = anchor_logits(mean, log_precision, codebook, bias).float()
    if mode == "hard":
        return index_bits(logits, indices)
    if mode == "soft":
        spread = codebook.var(0).mean()
        target = (-squared_distances(latent, codebook) / (temperature * spread)).softmax(1)
        return -(target * logits.log_softmax(1)).sum(1) / math.log(2)
    precision = log_precision.exp()
    entry = latent + (codebook[indices] - latent).detach()
    chosen = bias[indices] - 0.5 * (precision * entry.square()).sum(1) + (precision * mean * entry).sum(1)
    return (logits.logsumexp(1) - chosen) / math.log(2)
