"""Integer primitives of index models: everything between what is sent and the coder's frequencies, without rounding.

Encoder and decoder must build the same frequencies on every machine, thread count and device, or the range decoder
loses its way without noticing. Floating-point networks cannot promise that: the order of a sum changes its last digit
(Ballé, Johnston, Minnen, ICLR 2019). So everything here is integer-valued: it is held in float64 because BLAS
multiplies that fast, and every partial sum stays below 2^53, hence exact in any order of summation.

Grids (a value v on grid 2^-g is held as the integer v·2^g):

=====================  ========================  =================
z                      1                         |z| <= 31
activations            2^-10, 16 bits            after each ReLU
mu                     2^-8                      |mu| <= 16
log 1/sigma^2          2^-6                      in [-6, 5]
log2(e)/sigma^2        2^-12                     by table
anchors e_k            2^-8                      |e| <= 16
logits, b_k (bits)     2^-29                     sums below 2^53
weights for the coder  2^-10                     1 … 2^26
=====================  ========================  =================

Logits are in bits, so that a weight 2^x needs no table: x on grid 2^-10, shifted into the exponent and the mantissa of
a float64, *is* the number (1 + f)·2^n with n = floor(x) and f = x - n. Between powers of two that runs on a straight
line, at most 6.2 % above 2^x, which costs less than 0.0005 bits an index.

The coder (constriction) turns those weights into 24-bit frequencies, every one at least 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.errors import HvqbenchError
from hvqbench.vq.pee import LOG_PRECISION_LIMITS, MEAN_LIMIT

ACTIVATION_BITS, ACTIVATION_MAX = 10, 2**16 - 1
WEIGHT_MAX = 2**15 - 1
MEAN_BITS = ANCHOR_BITS = 8
LOG_PRECISION_BITS, PRECISION_BITS = 6, 12
ANCHOR_LIMIT = 16
LOGIT_BITS = PRECISION_BITS + 2 * ANCHOR_BITS + 1
EXPONENT_BITS, LARGEST_EXPONENT = 10, 26
LOG2_E = 1.4426950408889634
EXACT = 2**53


class IntegerConvolution:
    """A convolution ("same" padding) on integers: the sums are exact, then rounded half up to their grids.

    Parameters
    ----------
    input_bits, input_max
        The input's grid 2^-input_bits, and its largest magnitude on that grid.
    output_bits
        The grid of each output channel, or one for all.
    """

    def __init__(self, layer: nn.Conv2d, input_bits: int, input_max: float, output_bits: Sequence[int] | int) -> None:
        assert layer.bias is not None
        weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
        largest = max(float(weight.abs().max()), 1e-9)
        # frexp and ldexp, not log2 and pow: powers of two must be exact with every C library.
        weight_bits = math.frexp(WEIGHT_MAX / largest)[1] - 1
        self.kernel = layer.kernel_size[0]
        self.matrix = (weight * math.ldexp(1, weight_bits)).round().flatten(1)
        self.offset = (bias * math.ldexp(1, weight_bits + input_bits)).round()[:, None]
        if float(self.matrix.abs().sum(1).max()) * input_max + float(self.offset.abs().max()) >= EXACT:
            raise HvqbenchError("a hyperprior layer is too wide for exact sums: train it with fewer or smaller weights")
        grids = [output_bits] * len(bias) if isinstance(output_bits, int) else output_bits
        factors = [math.ldexp(1, bits - weight_bits - input_bits) for bits in grids]
        self.factor = torch.tensor(factors, dtype=torch.float64)[:, None]

    def __call__(self, x: Tensor) -> Tensor:
        """C×h×w to O×h×w."""
        return self.product(self.columns(x)).view(-1, *x.shape[1:])

    def columns(self, x: Tensor) -> Tensor:
        """C×h×w to what each position sees, (C·kernel²)×h·w."""
        if self.kernel == 1:
            return x.flatten(1)
        return functional.unfold(x[None], self.kernel, padding=self.kernel // 2)[0]

    def product(self, columns: Tensor) -> Tensor:
        """Columns of any positions, (C·kernel²)×n, to O×n."""
        return self.matrix.matmul(columns).add_(self.offset).mul_(self.factor).add_(0.5).floor_()


class IntegerNetwork:
    """Convolutions, ReLUs and pixel shuffles in a row, of integers up to *input_max* to activations on their grid."""

    def __init__(self, layers: nn.Sequential, input_max: float) -> None:
        self.layers: list[IntegerConvolution | int] = []
        bits, largest = 0, input_max
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                self.layers.append(IntegerConvolution(layer, bits, largest, ACTIVATION_BITS))
                bits, largest = ACTIVATION_BITS, ACTIVATION_MAX
            elif isinstance(layer, nn.PixelShuffle):
                self.layers.append(layer.upscale_factor)
            elif not isinstance(layer, nn.ReLU):
                raise TypeError(f"{type(layer).__name__} has no exact integer form")

    def __call__(self, x: Tensor) -> Tensor:
        """C×h×w (float64) to O×h'×w'."""
        for layer in self.layers:
            # ReLU may move in front of a pixel shuffle: the shuffle only reorders.
            x = functional.pixel_shuffle(x, layer) if isinstance(layer, int) else layer(x).clamp_(0, ACTIVATION_MAX)
        return x


class IntegerContext:
    """Update of (mu, log 1/sigma^2) from the embeddings known around each position, in integers.

    Parameters
    ----------
    known, features, hidden, out
        The convolutions of :class:`hvqbench.vq.models.hyperprior.Context`: of what is known, of the features of
        H-synthesis, of their sum after its ReLU, and to the update.
    largest
        Bounds the known embeddings on their grid.
    """

    def __init__(
        self, known: nn.Conv2d, features: nn.Conv2d, hidden: nn.Conv2d, out: nn.Conv2d, largest: float
    ) -> None:
        activations, bits = (ACTIVATION_BITS, ACTIVATION_MAX), ACTIVATION_BITS
        self.known = IntegerConvolution(known, ANCHOR_BITS, max(largest, 2**ANCHOR_BITS), bits)
        self.features = IntegerConvolution(features, *activations, bits)
        self.hidden = IntegerConvolution(hidden, *activations, bits)
        self.out = IntegerConvolution(out, *activations, parameter_bits(out.out_channels // 2))

    def __call__(self, features: Tensor, known: Tensor, positions: Tensor) -> Tensor:
        """The update (2D×n) of the parameters at *positions* (n).

        *features* is W×h·w; *known* is C×h×w, embeddings and their mask, both on the anchors' grid.
        """
        seen = self.known.product(self.known.columns(known)[:, positions])
        x = seen.add_(self.features.product(features[:, positions])).clamp_(0, ACTIVATION_MAX)
        return self.out.product(self.hidden.product(x).clamp_(0, ACTIVATION_MAX))


class IntegerPEE:
    """Anchor probabilities as weights for the coder; see :mod:`hvqbench.vq.pee` for the formula.

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
        self.anchors = (codebook.double() * 2**ANCHOR_BITS).round()
        self.offsets = (bias.double() * (LOG2_E * 2**LOGIT_BITS)).round()
        largest, reach = float(_precision_table().max()), 2 * MEAN_LIMIT * 2**MEAN_BITS
        worst = largest * float((self.anchors.square() + reach * self.anchors.abs()).sum(1).max())
        if worst + float(self.offsets.abs().max()) >= EXACT:
            raise HvqbenchError("codebook too wide for exact logits: rescale the tokenizer's latent before export")
        # One product gives the logits on the exponent's grid: (precision * mean, precision, 1) times this matrix.
        rows = [2 * self.anchors.T, -self.anchors.square().T, self.offsets[None]]
        self.matrix = torch.cat(rows).mul_(math.ldexp(1, EXPONENT_BITS - LOGIT_BITS))

    def weights(self, mean: Tensor, log_precision: Tensor) -> Tensor:
        """Weights (N×K, float64, 1 to 2^26) proportional to p(k).

        *mean* and *log_precision* are N×D, on their grids; both are clamped to their limits here.
        """
        low, high = (int(limit * 2**LOG_PRECISION_BITS) for limit in LOG_PRECISION_LIMITS)
        limit = MEAN_LIMIT * 2**MEAN_BITS
        precision = _precision_table()[log_precision.clamp(low, high).sub_(low).long()]
        factors = [precision * mean.clamp(-limit, limit), precision, torch.ones_like(precision[:, :1])]
        return power_of_two(torch.cat(factors, 1) @ self.matrix)


def power_of_two(logits: Tensor) -> Tensor:
    """2^(26 + x - max x) for x (n×K, on 2^-10) down to 1, straight between powers of two; overwrites *logits*."""
    largest = LARGEST_EXPONENT << EXPONENT_BITS
    logits -= logits.amax(1, keepdim=True) - largest
    bits = logits.clamp_(min=0).long()
    mantissa_bits, exponent_of_one = 52, 1023
    bits += exponent_of_one << EXPONENT_BITS
    return bits.bitwise_left_shift_(mantissa_bits - EXPONENT_BITS).view(torch.float64)


def parameter_bits(dim: int) -> list[int]:
    """The grids of mu and log 1/sigma^2, *dim* each."""
    return [MEAN_BITS] * dim + [LOG_PRECISION_BITS] * dim


@cache
def _precision_table() -> Tensor:
    """log2(e)/sigma^2 on 2^-12 for every log 1/sigma^2 on 2^-6 from the lower to the upper limit.

    By decimal arithmetic, because the last digit of a C library's exp differs between platforms.
    """
    low, high = (int(limit * 2**LOG_PRECISION_BITS) for limit in LOG_PRECISION_LIMITS)
    with localcontext() as context:
        context.prec = 40
        scale = 2**PRECISION_BITS / Decimal(2).ln()
        values = [(Decimal(i) / 2**LOG_PRECISION_BITS).exp() * scale for i in range(low, high + 1)]
    return torch.tensor([int(value.to_integral_value()) for value in values], dtype=torch.float64)
