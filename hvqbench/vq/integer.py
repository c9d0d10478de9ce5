"""The path from z to the coder's frequencies, in integers only.

Encoder and decoder must build the same frequencies on every machine, thread count and device, or the range decoder
loses its way without noticing. Floating-point networks cannot promise that: the order of a sum changes its last digit
(Ballé, Johnston, Minnen, ICLR 2019). So everything here is integer-valued: it is held in float64 because BLAS
multiplies that fast, and every partial sum stays below 2^53, hence exact in any order of summation.

Grids (a value v on grid 2^-g is held as the integer v·2^g):

=====================  ========================  ==========================
z                      1                         |z| <= 31
activations            2^-10, 16 bits            after each ReLU
mu                     2^-8                      |mu| <= 16
log 1/sigma^2          2^-6                      in [-6, 5]
1/sigma^2              2^-12                     by table
anchors e_k            2^-8                      |e| <= 16
logits, b_k            2^-29                     sums below 2^53
weights for the coder  exp by table on 2^-10     0 … 2^26
=====================  ========================  ==========================

The coder (constriction) turns those integer weights into 24-bit frequencies, every one at least 1.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.errors import HvqbenchError
from hvqbench.vq.hyperprior import LOG_PRECISION_LIMITS, MEAN_LIMIT, Hyperprior

ACTIVATION_BITS, ACTIVATION_MAX = 10, 2**16 - 1
WEIGHT_MAX = 2**15 - 1
MEAN_BITS = ANCHOR_BITS = 8
LOG_PRECISION_BITS, PRECISION_BITS = 6, 12
ANCHOR_LIMIT = 16
LOGIT_BITS = PRECISION_BITS + 2 * ANCHOR_BITS + 1
EXP_BITS, EXP_ONE_BITS = 10, 26
EXACT = 2**53


class IntegerSynthesis(nn.Module):
    """H-synthesis on integers: z (C×h×w) to mu (N×D on 2^-8) and log 1/sigma^2 (N×D on 2^-6), row by row."""

    def __init__(self, synthesis: nn.Sequential, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.layers: list[tuple[str, tuple]] = []
        scale = 0  # z is on grid 1
        convolutions = [layer for layer in synthesis if isinstance(layer, nn.Conv2d)]
        for layer in synthesis:
            if isinstance(layer, nn.Conv2d):
                outputs = [MEAN_BITS] * dim + [LOG_PRECISION_BITS] * dim if layer is convolutions[-1] else []
                self.layers.append(("conv", _integer_convolution(layer, scale, outputs)))
                scale = ACTIVATION_BITS
            elif isinstance(layer, nn.PixelShuffle):
                self.layers.append(("shuffle", (layer.upscale_factor,)))
            elif not isinstance(layer, nn.ReLU):
                raise TypeError(f"{type(layer).__name__} has no exact integer form")

    def forward(self, z: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        x = z.double()[None]
        last = len(self.layers) - 1
        for number, (kind, values) in enumerate(self.layers):
            if kind == "shuffle":
                x = functional.pixel_shuffle(x, *values)
                continue
            x = _convolve(x, *values)
            # ReLU may move in front of a pixel shuffle: the shuffle only reorders.
            if number != last:
                x = x.clamp(0, ACTIVATION_MAX)
        x = x[0, :, : size[0], : size[1]].flatten(1).T
        mean_limit = MEAN_LIMIT * 2**MEAN_BITS
        low, high = (limit * 2**LOG_PRECISION_BITS for limit in LOG_PRECISION_LIMITS)
        return x[:, : self.dim].clamp(-mean_limit, mean_limit), x[:, self.dim :].clamp(low, high)


class IntegerPEE:
    """Anchor probabilities as integer weights; see :mod:`hvqbench.vq.pee` for the formula.

    Parameters
    ----------
    codebook, bias
        K×D anchors and K offsets b_k, floating point; rounded to their grids here.
    """

    def __init__(self, codebook: Tensor, bias: Tensor) -> None:
        if codebook.abs().max() > ANCHOR_LIMIT:
            raise HvqbenchError(
                f"codebook entries exceed ±{ANCHOR_LIMIT}: rescale the tokenizer's latent before export"
            )
        anchors = (codebook.double() * 2**ANCHOR_BITS).round()
        self.anchors_twice = 2 * anchors.T
        self.anchors_squared = anchors.square().T
        self.bias = (bias.double() * 2**LOGIT_BITS).round()
        self.precision = _precision_table()
        self.exp = _exp_table()
        largest = float(self.precision.max())
        worst = largest * float((anchors.square() + 2 * MEAN_LIMIT * 2**MEAN_BITS * anchors.abs()).sum(1).max())
        if worst + float(self.bias.abs().max()) >= EXACT:
            raise HvqbenchError("codebook too wide for exact logits: rescale the tokenizer's latent before export")

    def weights(self, mean: Tensor, log_precision: Tensor) -> NDArray[np.float64]:
        """Integer weights (N×K, integer-valued float64, 0 … 2^26) proportional to p(k)."""
        low = int(LOG_PRECISION_LIMITS[0] * 2**LOG_PRECISION_BITS)
        precision = self.precision[(log_precision - low).long()]
        logits = (precision * mean) @ self.anchors_twice
        logits -= precision @ self.anchors_squared
        logits += self.bias
        steps = (logits.amax(1, keepdim=True) - logits).mul_(2.0 ** (EXP_BITS - LOGIT_BITS)).floor_()
        return self.exp[steps.clamp_(max=len(self.exp) - 1).int().numpy()]


def _integer_convolution(
    layer: nn.Conv2d, input_bits: int, output_bits: list[int]
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Integer weight matrix, bias, per-channel power of two to divide by, and kernel size."""
    assert layer.bias is not None
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    largest = max(float(weight.abs().max()), 1e-9)
    weight_bits = int(np.floor(np.log2(WEIGHT_MAX / largest)))
    matrix = (weight * 2.0**weight_bits).round().flatten(1)
    offset = (bias * 2.0 ** (weight_bits + input_bits)).round()
    input_max = ACTIVATION_MAX if input_bits else 2**6
    if float(matrix.abs().sum(1).max()) * input_max + float(offset.abs().max()) >= EXACT:
        raise HvqbenchError("a hyperprior layer is too wide for exact sums: train it with fewer or smaller weights")
    shifts = [weight_bits + input_bits - bits for bits in output_bits or [ACTIVATION_BITS] * len(bias)]
    return matrix, offset[:, None], 2.0 ** -torch.tensor(shifts, dtype=torch.float64)[:, None], layer.kernel_size[0]


def _convolve(x: Tensor, matrix: Tensor, offset: Tensor, factor: Tensor, kernel: int) -> Tensor:
    """Convolution as one matrix product, then division by a power of two with round half up."""
    height, width = x.shape[-2:]
    columns = functional.unfold(x, kernel, padding=kernel // 2)[0] if kernel > 1 else x[0].flatten(1)
    out = matrix.matmul(columns).add_(offset).mul_(factor).add_(0.5).floor_()
    return out.view(1, -1, height, width)


@cache
def _precision_table() -> Tensor:
    """1/sigma^2 on 2^-12 for every log 1/sigma^2 on 2^-6 from the lower to the upper limit."""
    low, high = (int(limit * 2**LOG_PRECISION_BITS) for limit in LOG_PRECISION_LIMITS)
    values = [_exp(Decimal(i) / 2**LOG_PRECISION_BITS, PRECISION_BITS) for i in range(low, high + 1)]
    return torch.tensor(values, dtype=torch.float64)


@cache
def _exp_table() -> NDArray[np.float64]:
    """exp(-i / 2^10) on 2^-26 until it rounds to 0, from two short exact tables."""
    whole = np.array([_exp(Decimal(-i), 31) for i in range(20)], dtype=np.int64)
    part = np.array([_exp(Decimal(-i) / 2**EXP_BITS, 31) for i in range(2**EXP_BITS)], dtype=np.int64)
    table = (whole[:, None] * part).reshape(-1) + (1 << (61 - EXP_ONE_BITS)) >> (62 - EXP_ONE_BITS)
    return table[: int(np.argmin(table)) + 1].astype(np.float64)


def _exp(value: Decimal, bits: int) -> int:
    """exp(value)·2^bits, rounded; by decimal arithmetic, because libm's last digit differs between platforms."""
    with localcontext() as context:
        context.prec = 40
        return int((value.exp() * 2**bits).to_integral_value())


def integer_hyperprior(model: Hyperprior, codebook: Tensor) -> tuple[IntegerSynthesis, IntegerPEE]:
    """Both integer stages of a trained hyperprior, for coding."""
    return IntegerSynthesis(model.synthesis, model.config.dim), IntegerPEE(codebook, model.bias.detach())
