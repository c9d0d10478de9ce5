"""The transformer in integers: the same on every machine, thread count, batch and order of summation.

The primitives, and why they are exact, are those of :mod:`hvqbench.vq.exact_attention`.

=====================  ========================  ================================================
residual stream        2^-12                     |x| <= 1024
behind a norm          2^-8                      length <= 2^8·√d, exactly known
q, k                   length 2^11 to 2^12       after an integer root, turned by 12-bit cosines
a key's weight         see ``attend``            2^x, a parabola between powers of two
v                      a power of two a channel  |v| <= 448
attention's output     2^-4 of v's grid
gate, up               2^-8                      |x| <= 16, SiLU by table; their product 2^-16
logits                 2^-10                     in bits
=====================  ========================  ================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from hvqbench.errors import HvqbenchError
from hvqbench.vq.exact import ANCHOR_BITS, ANCHOR_LIMIT, EXPONENT_BITS, power_of_two
from hvqbench.vq.exact_attention import (
    EXACT_SINGLE,
    GATE_BITS,
    GATE_MAX,
    INVERSE_BITS,
    MANTISSA_BITS,
    MEAN_BITS,
    NORM_BITS,
    VALUE_MAX,
    ExactLinear,
    attend,
    inverse_length,
    norm_length,
    normalised,
    powers,
    row_lengths,
    silu_table,
    single_products_are_exact,
)
from hvqbench.vq.models.slices import Size, Slice
from hvqbench.vq.models.transformer import (
    LOG2_E,
    ROTATION_BITS,
    SCALE_LIMITS,
    Block,
    Transformer,
    contents,
    enlarged,
)

STREAM_BITS, STREAM_MAX = 12, 2**22
KEY_BITS = 11
VALUE_BITS = 6
"""A channel of v spreads over about 2^5.5 units; at most 448 are kept."""
SCORES = 2**18
"""Held at a time: 1 MB, which a cache holds."""


class ExactBlock:
    """One :class:`hvqbench.vq.models.transformer.Block`; *single* is float32 where that is exact."""

    def __init__(self, block: Block, single: torch.dtype) -> None:
        width, inner = block.out.weight.shape[0], block.down.weight.shape[1]
        self.heads, self.single = block.heads, single
        size = width // block.heads
        before, between = (norm.weight.detach().double() for norm in (block.attention_norm, block.norm))
        q_k, v = (block.qkv.weight.detach().double() * before).split([2 * width, width])
        length = norm_length(width)
        self.q_k = ExactLinear(q_k, (NORM_BITS, None), length, single, size, EXACT_SINGLE)
        fine, lengths = row_lengths(v)
        value_bits = VALUE_BITS + fine - lengths.clamp_min(1).frexp().exponent
        self.v = ExactLinear(v, (NORM_BITS, value_bits), length, single, 1, EXACT_SINGLE)
        out = block.out.weight.detach().double() * powers(-value_bits)
        self.out = ExactLinear(out, (MEAN_BITS, STREAM_BITS), (VALUE_MAX + 1) * 2**MEAN_BITS * width**0.5)
        gate_up = block.gate_up.weight.detach().double() * between
        self.gate_up = ExactLinear(gate_up, (NORM_BITS, GATE_BITS), length, single, 1, EXACT_SINGLE)
        self.down = ExactLinear(block.down.weight, (2 * GATE_BITS, STREAM_BITS), GATE_MAX**2 * inner**0.5)
        # q carries a head's scale, and a power of two that makes scores what attend() takes.
        scale = block.scale.detach().double().clamp(*SCALE_LIMITS)
        own = KEY_BITS + 1 - scale.frexp().exponent
        self.lengths = torch.stack([(scale * powers(own)).round(), torch.full_like(scale, 2**KEY_BITS)])
        self.powers = powers(MANTISSA_BITS - KEY_BITS - own)[:, None, None].to(single)

    def __call__(self, x: Tensor, cache: Cache, rotation: Tensor, slices: Sequence[Slice], strict: bool) -> Tensor:
        """x B×N×d (overwritten), the queries of *slices*, which follow those of *cache*."""
        y = normalised(x).to(self.single)
        q, k = self._directions(self.q_k(y), rotation)
        v = self.v(y).clamp_(-VALUE_MAX, VALUE_MAX).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        first = slices[0].start
        cache.keys[:, :, first : slices[-1].stop] = k
        cache.values[:, :, first : slices[-1].stop] = v
        seen = torch.empty(x.shape, dtype=torch.float64)
        for own in slices:
            known = max(1, own.start if strict else own.stop)
            keys, values = cache.keys[:, :, :known], cache.values[:, :, :known]
            queries = q[:, :, own.start - first : own.stop - first]
            size = max(1, SCORES // (self.heads * queries.shape[2] * known))
            blocks = zip(queries.split(size), keys.split(size), values.split(size), strict=True)
            parts = [attend(*block) for block in blocks]
            seen[:, own.start - first : own.stop - first] = torch.cat(parts).transpose(1, 2).flatten(2)
        x.add_(self.out(seen)).clamp_(-STREAM_MAX, STREAM_MAX)
        gate, up = self.gate_up(normalised(x).to(self.single)).clamp_(-GATE_MAX, GATE_MAX).chunk(2, -1)
        # A third of the time of silu_table()[…].
        gated = silu_table().index_select(0, gate.add_(GATE_MAX).int().flatten()).view(up.shape).mul_(up)
        return x.add_(self.down(gated.double())).clamp_(-STREAM_MAX, STREAM_MAX)

    def _directions(self, q_k: Tensor, rotation: Tensor) -> Tensor:
        """q and k, 2×B×heads×N×d/heads, of their lengths, turned; q times its head's power of two."""
        q_k = q_k.double().unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        inverse = inverse_length(q_k, self.lengths[:, None, :, None, None])
        first, second = q_k.chunk(2, -1)
        cosine, sine = rotation
        turned = torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)
        turned = turned.mul_(inverse).mul_(math.ldexp(1, -INVERSE_BITS - ROTATION_BITS)).round_().to(self.single)
        turned[0] *= self.powers
        return turned


@dataclass(frozen=True)
class Cache:
    """Keys and values of a layer, B×heads×N×d/heads each."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class State:
    """What is known of B windows: each layer's keys and values."""

    sizes: tuple[Size, ...]
    caches: tuple[Cache, ...]


class ExactTransformer:
    """The integers of a :class:`Transformer`; what a symbol stands for comes from *codebooks* (K×D of each grid).

    *exact* says whether float32 products are exact; by default that is found out.
    """

    def __init__(self, model: Transformer, codebooks: Sequence[Tensor], exact: bool | None = None) -> None:
        self.model, self.config = model, model.config
        self.codebooks = [contents(book.cpu()) for book in codebooks]
        self.single = torch.float32 if (exact if exact is not None else single_products_are_exact()) else torch.float64
        self.blocks = [ExactBlock(block, self.single) for block in cast("list[Block]", list(model.blocks))]
        self.tables = [
            _table(cast(nn.Linear, e).weight, book) for e, book in zip(model.embed, self.codebooks, strict=True)
        ]
        self.slice = (model.slice.detach().double() * 2**STREAM_BITS).round()
        norm, length = model.norm.weight.detach().double(), norm_length(self.config.width)
        self.heads, self.offsets = [], []
        for head in cast("list[nn.Linear]", list(model.head)):
            weight = head.weight.detach().double() * norm * LOG2_E
            self.heads.append(ExactLinear(weight, (NORM_BITS, EXPONENT_BITS), length, self.single, 1, EXACT_SINGLE))
            self.offsets.append((head.bias.detach().double() * (LOG2_E * 2**EXPONENT_BITS)).round())

    def state(self, windows: int, sizes: tuple[Size, ...]) -> State:
        """Nothing known yet of that many *windows* of those *sizes* (h, w of each grid)."""
        keys, heads = 1 + sum(h * w for h, w in sizes), self.config.heads
        shape = (windows, heads, keys, self.config.width // heads)
        caches = [Cache(*(torch.empty(shape, dtype=self.single) for _ in range(2))) for _ in self.blocks]
        return State(sizes, tuple(caches))

    def advance(self, state: State, slices: Sequence[Slice], contents: Sequence[Tensor]) -> Tensor:
        """Hidden vectors (B×N×d, float64 integers) of *slices*, which follow those that *state* knows.

        *contents* are the symbols of each grid (B×h·w), not read but for slices before a slice; all of them at once or
        one after the other gives the same integers.
        """
        x = self._queries(state, slices, contents).clamp_(-STREAM_MAX, STREAM_MAX)
        rotation = (self.model.rotation(slices, state.sizes).double() * 2**ROTATION_BITS).round()
        for block, known in zip(self.blocks, state.caches, strict=True):
            x = block(x, known, rotation, slices, self.config.mask == "strict")
        return x

    def weights(self, level: int, rows: Tensor) -> Tensor:
        """Weights for the coder (n×K, float64) of one grid, by hidden vectors (n×d)."""
        logits = self.heads[level](normalised(rows).to(self.single))
        return power_of_two(logits.double().add_(self.offsets[level]))

    def _queries(self, state: State, slices: Sequence[Slice], contents: Sequence[Tensor]) -> Tensor:
        parts, coarse = [], {}
        for own in slices:
            level = own.level
            x = self.slice[own.number].expand(len(contents[0]), own.stop - own.start, -1)
            if own.before is not None:
                x = x + self.tables[level][contents[level][:, own.before]]
            if level and (own.before is None or self.config.coarse == "all"):
                if level not in coarse:
                    embedded = self.tables[level - 1][contents[level - 1]].transpose(1, 2)
                    coarse[level] = enlarged(embedded, state.sizes[level - 1], state.sizes[level]).round_()
                x = x + coarse[level][:, :, own.positions].transpose(1, 2)
            parts.append(x)
        return torch.cat(parts, 1)


def _table(weight: Tensor, codebook: Tensor) -> Tensor:
    """What each symbol adds to the residual stream (K+1×d, float64); the last row, of absent positions, is 0."""
    anchors = (codebook.double() * 2**ANCHOR_BITS).round()
    if anchors.abs().max() > ANCHOR_LIMIT * 2**ANCHOR_BITS:
        raise HvqbenchError(f"codebook entries exceed ±{ANCHOR_LIMIT}: rescale the tokenizer's latent before export")
    weight = weight.detach().double()
    fine, _ = row_lengths(weight)
    product = anchors @ (weight * powers(fine)[:, None]).round_().T
    table = product.mul_(powers(STREAM_BITS - ANCHOR_BITS - fine)).round_()
    return torch.cat([table, table.new_zeros(1, table.shape[1])])
