"""Index models: p(index | what the decoder already has), and the bytes that follow from it.

=============  ===============================================  ==========================
name           probability of an index                          coder
=============  ===============================================  ==========================
``fixed``      1 / K                                            ⌈log2 K⌉ bits each
``huffman``    training-set frequency                           Huffman (constriction)
``static``     training-set frequency                           range coder (constriction)
``hyperprior`` Gaussian at the anchors, given z (HyperVQ)       range coder (constriction)
=============  ===============================================  ==========================

An index map (S×h×w) is coded in steps: some positions of one stage whose probabilities the decoder can know by then. At
each step somebody names the indices: at the encoder whoever chooses them (:mod:`hvqbench.vq.rdo`), at the decoder the
range coder. Choosing, coding and decoding are one walk over the same steps, so they cannot disagree. It goes stage by
stage: a payload's first stages decode without the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvqbench.errors import BitstreamError, HvqbenchError
from hvqbench.timing import span
from hvqbench.vq.range_coder import RangeDecoder, RangeEncoder, code_length
from hvqbench.vq.weights import load_weights

Size = tuple[int, int]
"""Height and width of an index map."""


@dataclass(frozen=True)
class Step:
    """Positions of one stage that are coded together.

    Parameters
    ----------
    positions
        n row-major positions (int64) of the index map.
    weights
        Proportional to the probability of every codeword, integer multiples of a power of two that add up exactly: n×K
        (float64), or 1×K where they are the same at all positions.
    """

    stage: int
    positions: Tensor
    weights: Tensor

    def bits(self) -> Tensor:
        """Cost of every codeword in bits, n×K or 1×K (float32)."""
        return self.weights.sum(1, keepdim=True).log2().float() - self.weights.float().log2_()


Choose = Callable[[Step], Tensor]
"""Names the indices (n, int64) of a step."""


@dataclass(frozen=True)
class Coded:
    """A payload and the ideal code length in bits of each stream in it, in coding order."""

    payload: bytes
    ideal_bits: Mapping[str, float]


class IndexModel(ABC):
    """Codes index maps of up to *stages* stages, all indices below *codewords*."""

    def __init__(self, stages: int, codewords: int) -> None:
        self.stages, self.codewords = stages, codewords

    def side(self, latent: Tensor) -> Any:
        """What is sent before the indices, from the latent 1×D×h×w; None for a model without side information."""
        return None

    @abstractmethod
    def encode(self, side: Any, size: Size, stages: int, choose: Choose) -> Iterator[Coded]:
        """After each of *stages* stages, the payload of *side* and all stages so far."""

    @abstractmethod
    def decode(self, payload: bytes, size: Size, stages: int) -> Tensor:
        """The indices (*stages*×h×w, int64) of a payload that holds at least so many stages."""


class _SameEverywhere(IndexModel):
    """A model whose weights (S×K) are the same at all positions: one step a stage."""

    weights: Tensor

    def steps(self, size: Size, stages: int) -> Iterator[Step]:
        positions = torch.arange(size[0] * size[1])
        for stage in range(stages):
            yield Step(stage, positions, self.weights[stage : stage + 1])


class FixedLength(_SameEverywhere):
    """Every index in ⌈log2 K⌉ bits, most significant first."""

    def __init__(self, stages: int, codewords: int) -> None:
        super().__init__(stages, codewords)
        self.weights = torch.ones(stages, codewords, dtype=torch.float64)
        self.shifts = torch.arange(max(1, (codewords - 1).bit_length())).flip(0)

    def encode(self, side: Any, size: Size, stages: int, choose: Choose) -> Iterator[Coded]:
        bits = []
        for step in self.steps(size, stages):
            symbols = choose(step)
            with span("coding"):
                bits.append((symbols[:, None] >> self.shifts & 1).flatten())
                yield _packed(torch.cat(bits), float(sum(map(len, bits))))

    def decode(self, payload: bytes, size: Size, stages: int) -> Tensor:
        import numpy as np

        count, width = size[0] * size[1], len(self.shifts)
        with span("coding"):
            if len(payload) * 8 < stages * count * width:
                raise BitstreamError(f"{len(payload)} bytes hold no {stages}x{size[1]}x{size[0]} indices")
            bits = np.unpackbits(np.frombuffer(payload, np.uint8), count=stages * count * width)
            digits = torch.from_numpy(bits).view(stages, count, width).long()
            indices = (digits << self.shifts).sum(2)
        if int(indices.max()) >= self.codewords:
            raise BitstreamError(f"index {int(indices.max())} is outside the codebook of {self.codewords}")
        return indices.view(stages, *size)


class _Frequencies(_SameEverywhere):
    """A model that knows nothing but the frequency of each codeword in the training set."""

    def __init__(self, path: Path, stages: int, codewords: int) -> None:
        super().__init__(stages, codewords)
        tensors, _ = load_weights(path)
        if "counts" not in tensors or tensors["counts"].shape != (stages, codewords):
            raise HvqbenchError(
                f"{path} holds no counts of {stages}x{codewords} codewords; train the index model again"
            )
        # Each count is raised by one, so that every codeword can be sent. Integers in float64: the Huffman tree's shape
        # must not hang on how a probability was rounded.
        self.weights = self.counts = tensors["counts"].double() + 1


class Huffman(_Frequencies):
    """Huffman coding with training-set frequencies, as in Control-GIC; ideal bits are the entropy code's."""

    def __init__(self, path: Path, stages: int, codewords: int) -> None:
        from constriction import symbol as coder

        super().__init__(path, stages, codewords)
        rows = [row.numpy() for row in self.counts]
        self.encoder_trees = [coder.huffman.EncoderHuffmanTree(row) for row in rows]
        self.decoder_trees = [coder.huffman.DecoderHuffmanTree(row) for row in rows]
        lengths = torch.tensor([[_length(tree, k) for k in range(codewords)] for tree in self.encoder_trees])
        # A code word of n bits costs as much as a probability of 2^-n; a Huffman code's add up to 1.
        self.weights = torch.exp2((lengths.max() - lengths).double())

    def encode(self, side: Any, size: Size, stages: int, choose: Choose) -> Iterator[Coded]:
        import constriction
        import numpy as np

        encoder, ideal = constriction.symbol.QueueEncoder(), 0.0
        for step in self.steps(size, stages):
            symbols = choose(step)
            with span("coding"):
                for symbol in symbols.tolist():
                    encoder.encode_symbol(symbol, self.encoder_trees[step.stage])
                words, length = encoder.get_compressed()
                ideal += code_length(self.counts[step.stage : step.stage + 1], symbols)
                yield Coded(words.astype("<u4").tobytes()[: -(-length // 8)], {"indices": ideal})

    def decode(self, payload: bytes, size: Size, stages: int) -> Tensor:
        import constriction
        import numpy as np

        words = np.frombuffer(payload + bytes(-len(payload) % 4), "<u4").astype(np.uint32)
        with span("coding"):
            decoder = constriction.symbol.QueueDecoder(words)
            trees = self.decoder_trees[:stages]
            symbols = [decoder.decode_symbol(tree) for tree in trees for _ in range(size[0] * size[1])]
        return torch.tensor(symbols).view(stages, *size)
