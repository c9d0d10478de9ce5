"""Index models that weigh the codewords of a grid alike at all positions: fixed length, Huffman, static frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.vq import coders
from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.layout import ABSENT, Layout
from hvqbench.vq.models.base import IndexModel, check_tokenizer
from hvqbench.vq.walk import Step, Walk
from hvqbench.vq.weights import load_weights, save_weights


class Static(IndexModel):
    """Range coding with training-set frequencies: what Huffman approaches."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = weights
        """Of each grid, K (float64)."""

    @classmethod
    def load(cls, weights: Path | None, tokenizer: BaseTokenizer) -> Self:
        assert weights is not None
        return cls(load_counts(weights, tokenizer))

    def walk(self, layout: Layout) -> Walk:
        sent: dict[str, Tensor] = {}
        for grid in layout.grids:
            positions = layout.positions(grid, sent)
            sent[grid.name] = grid.empty()
            if len(positions):
                sent[grid.name][positions] = yield Step(grid, positions, self.weights[grid.level][None])


class Fixed(Static):
    """Every index in ⌈log2 K⌉ bits, most significant first."""

    coder = coders.FixedLength()
    needs_weights = False

    @classmethod
    def load(cls, weights: Path | None, tokenizer: BaseTokenizer) -> Self:
        return cls([torch.ones(len(codebook), dtype=torch.float64) for codebook in tokenizer.codebooks])


class Huffman(Static):
    """Huffman coding with training-set frequencies, as in Control-GIC; ideal bits are the entropy code's."""

    def __init__(self, counts: Sequence[Tensor]) -> None:
        self.coder = coder = coders.Huffman(counts)
        # A code word of n bits costs as much as a probability of 2^-n; a Huffman code's add up to 1.
        lengths = [coder.lengths(level) for level in range(len(counts))]
        longest = max(int(row.max()) for row in lengths)
        super().__init__([torch.exp2((longest - row).double()) for row in lengths])


def save_counts(path: Path, counts: Sequence[Tensor], tokenizer: str) -> None:
    """Write the counts (K, int64, of each grid) of a training set's codewords, for the tokenizer with that digest."""
    one_size = len({len(row) for row in counts}) == 1
    tensors = (
        {"counts": torch.stack(list(counts))} if one_size else {f"counts.{i}": row for i, row in enumerate(counts)}
    )
    save_weights(path, tensors, {"tokenizer": tokenizer})


def load_counts(path: Path, tokenizer: BaseTokenizer) -> list[Tensor]:
    """Training-set counts (K, float64) of each grid's codewords, raised by one so that every codeword can be sent.

    Integers, not probabilities: a Huffman tree's shape must not hang on how one was rounded.
    """
    tensors, metadata = load_weights(path, "tokenizer")
    check_tokenizer(path, metadata["tokenizer"], tokenizer)
    sizes = [len(codebook) for codebook in tokenizer.codebooks]
    apart = [tensors.get(f"counts.{i}", torch.empty(0)) for i in range(len(sizes))]
    counts = list(tensors["counts"]) if "counts" in tensors else apart
    if [len(row) for row in counts] != sizes:
        shape = " + ".join(map(str, sizes))
        raise HvqbenchError(f"{path} holds no counts of {shape} codewords; train the index model again")
    return [row.double() + 1 for row in counts]


def static_bits(counts: Sequence[Tensor], maps: Sequence[Tensor]) -> list[Tensor]:
    """Ideal bits of each index of *maps* under the relative frequencies of *counts* (K for each), raised by one.

    Nothing is sent where a map is :data:`~hvqbench.vq.layout.ABSENT`: 0 bits.
    """
    costs = []
    for row, symbols in zip(counts, maps, strict=False):
        shares = row.double() + 1
        bits = -(shares / shares.sum()).log2().float()
        costs.append(torch.where(symbols == ABSENT, 0.0, bits[symbols]))
    return costs
