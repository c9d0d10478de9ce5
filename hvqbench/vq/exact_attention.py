"""Integer primitives of transformers: linear layers, norms, attention and SiLU, without a rounding that could differ.

Everything is integer-valued. Matrix products run on float32 where every partial sum is an integer below 2^24, and on
float64 (2^53) where it is not; that is asserted from the weights, by Cauchy and Schwarz: what enters such a product
comes from a norm, so its length is known. A row of weights is rounded to as many bits as that leaves (about ten).
Where a library's float32 products are not exact (TF32, bfloat16) float64 gives the same integers. Other than products
there are only sums, powers of two, roundings, and quotients and roots that are cut off to integers.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import cache

import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.vq.exact import EXACT

EXACT_SINGLE = 2**24
WEIGHT_BITS = 15
NORM_BITS = 8
GATE_BITS = 8
RANGE = 16
"""What enters SwiGLU is clamped to ±16."""
GATE_MAX = RANGE << GATE_BITS
VALUE_MAX = 448
SHARE_BITS = 15
"""A query's weights add up to at most 2^15, and half a unit for each key."""
MOST_KEYS = 2**13
MEAN_BITS = 4
"""Attention's output is on 2^-4 of the values' grid."""
MANTISSA_BITS, EXPONENT_OF_ONE = 23, 127
ROOT_BITS, INVERSE_BITS = 6, 28


class ExactLinear:
    """W·x for integers x, rounded half to even onto the outputs' grids.

    Parameters
    ----------
    weight
        O×I.
    bits
        Of the input's grid, and of the outputs' (one for all or O); None leaves each output on a grid of its own.
    length
        The input's largest Euclidean length, on its grid.
    dtype
        float32 where sums must stay below 2^24, float64 where they must stay below 2^53.
    group
        That many rows share a grid of weights.
    """

    def __init__(
        self,
        weight: Tensor,
        bits: tuple[int, int | Tensor | None],
        length: float,
        dtype: torch.dtype = torch.float64,
        group: int = 1,
        limit: float = EXACT,
    ) -> None:
        weight = weight.detach().double()
        fine, lengths = row_lengths(weight, group)
        room = limit / (1.02 * length * (lengths + weight.shape[1] ** 0.5))
        own = (fine + (room.frexp().exponent - 1).clamp_max(0))[:, None]
        matrix = (weight * powers(own)).round_()
        if float(matrix.square().sum(1).max().sqrt()) * length >= limit:
            raise HvqbenchError("a layer of the transformer is too wide for exact sums: train a narrower one")
        if bits[1] is not None:
            outputs = bits[1].view(-1, 1) if isinstance(bits[1], Tensor) else bits[1]
            matrix *= powers(outputs - bits[0] - own)
        self.matrix = matrix.T.to(dtype).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        return (x @ self.matrix).round_()


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Means of *values* (B×H×m×D) for each of the *queries* (B×H×n×D), as integers on 2^-4 of their grid (float64).

    The weights of :func:`key_weights` are divided by a power of two, such that their sum leaves room for values in a
    product, and rounded again.
    """
    weights = key_weights((queries @ keys.transpose(-1, -2)).float())
    total = weights.sum(-1, keepdim=True)
    lost = (total.frexp().exponent - SHARE_BITS).clamp_min_(0)
    weights.mul_(powers(-lost).float()).round_()
    inverse = torch.div(torch.tensor(2.0**40, dtype=torch.float64), total.double()).floor_()
    means = (weights.to(values.dtype) @ values).double()
    return means.mul_(inverse).mul_(powers(lost + MEAN_BITS - 40)).round_()


def key_weights(scores: Tensor) -> Tensor:
    """Integers (float32) about proportional to 2^score (…×m, float32, overwritten), whose sums stay below 2^24.

    A score is a number of bits, on a scale where 2^23 is one of them: added to a float's exponent it makes the number
    (1 + f)·2^i for a score i + f. A parabola brings the mantissa within 0.4 % of 2^f.
    """
    power = 24 - scores.shape[-1].bit_length()  # of the largest weight
    top = scores.amax(-1, keepdim=True) - float((EXPONENT_OF_ONE + power) << MANTISSA_BITS)
    bits = scores.sub_(top).to(torch.int32)
    # 2^f = 1 + f - 11/32·f·(1 - f), by f = centred + 1/2: then f·(1 - f) is 1/4 - centred², one addcmul. Below 2^30.
    centred = bits.bitwise_right_shift(MANTISSA_BITS - 14).bitwise_and_(2**14 - 1).sub_(2**13)
    lowest = bits.new_tensor(-11 * 2**26)
    bits += torch.addcmul(lowest, centred, centred, value=11).bitwise_right_shift_(10)
    return bits.view(torch.float32).round_()


def normalised(x: Tensor) -> Tensor:
    """x (…×d) at a root mean square of 1, on 2^-8: each row over its integer root."""
    return x.mul(inverse_length(x, 2.0**NORM_BITS * x.shape[-1] ** 0.5)).mul_(math.ldexp(1, -INVERSE_BITS)).round_()


def inverse_length(x: Tensor, length: float | Tensor) -> Tensor:
    """The integer factor, on 2^-28, that brings the rows (…×d, integers) to *length*."""
    root = x.mul(x).sum(-1, keepdim=True).add_(1).mul_(4.0**ROOT_BITS).sqrt_().floor_()
    scaled = torch.as_tensor(length, dtype=torch.float64) * 2.0 ** (ROOT_BITS + INVERSE_BITS)
    return torch.div(scaled, root).floor_()


def norm_length(width: int) -> float:
    """No row behind :func:`normalised` is longer: one unit for each element is for roundings."""
    return (2**NORM_BITS + 1) * width**0.5


def row_lengths(weight: Tensor, group: int = 1) -> tuple[Tensor, Tensor]:
    """Of a matrix (O×I) for each *group* of rows the grid 2^-g on which all elements are below 2^15, and the rows'
    largest length on it (both O).

    Of such integers the sum of squares is exact, so that grids which hang on them are the same everywhere.
    """
    largest = weight.abs().amax(1).view(-1, group).amax(1).repeat_interleave(group)
    fine = WEIGHT_BITS - largest.clamp_min(1e-9).frexp().exponent
    squares = (weight * powers(fine)[:, None]).round_().square().sum(1)
    return fine, squares.view(-1, group).amax(1).repeat_interleave(group).sqrt()


def powers(exponents: Tensor) -> Tensor:
    """2^x (float64) for integers x; pow's last digit differs between libraries, even here."""
    mantissa_bits, exponent_of_one = 52, 1023
    return (exponents.long() + exponent_of_one).bitwise_left_shift_(mantissa_bits).view(torch.float64)


@cache
def silu_table() -> Tensor:
    """SiLU on 2^-8 (float32) of every number on 2^-8 from -16 to 16, by decimal arithmetic: C libraries differ."""
    with localcontext() as context:
        context.prec = 20
        step = (-Decimal(1) / 2**GATE_BITS).exp()
        values, power = [], (Decimal(GATE_MAX) / 2**GATE_BITS).exp()
        for x in range(-GATE_MAX, GATE_MAX + 1):
            values.append(int((x / (1 + power)).to_integral_value()))
            power *= step
    return torch.tensor(values, dtype=torch.float32)


@cache
def single_products_are_exact() -> bool:
    """Whether this machine's float32 matrix products keep 24 bits, as those of TF32 or bfloat16 do not."""
    ones = torch.ones(64, 64)
    odd = torch.full((64, 64), 2.0**17 + 1)
    return bool((odd @ ones == 64 * (2.0**17 + 1)).all())
