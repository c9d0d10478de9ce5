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

from hvqbench.codec import Stream
from hvqbench.errors import HvqbenchError
from hvqbench.timing import span
from hvqbench.vq.base import BaseTokenizer
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

    def ledger(self, size: int) -> dict[str, Stream]:
        """A file of *size* bytes by stream; of those in one range coder all but the last are charged their ideal."""
        streams, left = {"header": Stream(size - len(self.payload))}, len(self.payload)
        *first, last = self.ideal_bits.items()
        for name, bits in first:
            share = min(left, round(bits / 8))
            streams[name] = Stream(share, bits)
            left -= share
        return streams | {last[0]: Stream(left, last[1])}


class IndexModel(ABC):
    """Codes the index maps of one tokenizer, or their first stages."""

    def side(self, embedding: Tensor) -> Any:
        """What is sent before indices that stand for *embedding* (1×D×h×w); None for a model that sends nothing."""
        return None

    @abstractmethod
    def encode(self, side: Any, size: Size, stages: int, choose: Choose) -> Iterator[Coded]:
        """After each of *stages* stages, the payload of *side* and all stages so far."""

    def code(self, indices: Tensor, side: Any = None) -> Coded:
        """The payload of *side* and given indices S×h×w."""
        flat = indices.flatten(1)
        size = (indices.shape[1], indices.shape[2])
        *_, coded = self.encode(side, size, len(indices), lambda step: flat[step.stage, step.positions])
        return coded

    @abstractmethod
    def decode(self, payload: bytes, size: Size, stages: int) -> Tensor:
        """The indices (*stages*×h×w, int64) of a payload that holds at least so many stages.

        Raises ValueError or AssertionError (constriction's) for a payload that cannot be one.
        """


def _whole_maps(weights: Tensor, size: Size, stages: int) -> Iterator[Step]:
    """One step a stage, for a model whose weights (S×K) are the same at all positions."""
    positions = torch.arange(size[0] * size[1])
    for stage in range(stages):
        yield Step(stage, positions, weights[stage : stage + 1])


class FixedLength(IndexModel):
    """Every index in ⌈log2 K⌉ bits, most significant first."""

    def __init__(self, tokenizer: BaseTokenizer) -> None:
        self.codewords = tokenizer.config.codewords
        self.weights = torch.ones(tokenizer.config.stages, self.codewords, dtype=torch.float64)
        self.shifts = torch.arange(max(1, (self.codewords - 1).bit_length())).flip(0)

    def encode(self, side: Any, size: Size, stages: int, choose: Choose) -> Iterator[Coded]:
        import numpy as np

        bits: list[Tensor] = []
        for step in _whole_maps(self.weights, size, stages):
            symbols = choose(step)
            with span("coding"):
                bits.append((symbols[:, None] >> self.shifts & 1).flatten())
                sent = torch.cat(bits).numpy().astype(np.uint8)
            yield Coded(np.packbits(sent).tobytes(), {"indices": float(len(sent))})

    def decode(self, payload: bytes, size: Size, stages: int) -> Tensor:
        import numpy as np

        count, width = size[0] * size[1], len(self.shifts)
        with span("coding"):
            if len(payload) * 8 < stages * count * width:
                raise ValueError(f"{len(payload)} bytes hold no {stages}x{size[1]}x{size[0]} indices")
            bits = np.unpackbits(np.frombuffer(payload, np.uint8), count=stages * count * width)
            digits = torch.from_numpy(bits).view(stages, count, width).long()
            indices = (digits << self.shifts).sum(2)
        if int(indices.max()) >= self.codewords:
            raise ValueError(f"index {int(indices.max())} is outside the codebook of {self.codewords}")
        return indices.view(stages, *size)


class Huffman(IndexModel):
    """Huffman coding with training-set frequencies, as in Control-GIC; ideal bits are the entropy code's."""

    def __init__(self, path: Path, tokenizer: BaseTokenizer) -> None:
        from constriction import symbol

        self.counts = load_counts(path, tokenizer)
        rows = [row.numpy() for row in self.counts]
        self.encoder_trees = [symbol.huffman.EncoderHuffmanTree(row) for row in rows]
        self.decoder_trees = [symbol.huffman.DecoderHuffmanTree(row) for row in rows]
        lengths = torch.tensor(
            [[_length(tree, k) for k in range(len(row))] for tree, row in zip(self.encoder_trees, rows, strict=True)]
        )
        # A code word of n bits costs as much as a probability of 2^-n; a Huffman code's add up to 1.
        self.weights = torch.exp2((lengths.max() - lengths).double())

    def encode(self, side: Any, size: Size, stages: int, choose: Choose) -> Iterator[Coded]:
        import constriction

        encoder, ideal = constriction.symbol.QueueEncoder(), 0.0
        for step in _whole_maps(self.weights, size, stages):
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


class RangeCoded(IndexModel):
    """A model that weighs every codeword at every step, and a range coder for what is chosen."""

    @abstractmethod
    def walk(self, side: Any, size: Size, stages: int, code: Choose) -> Iterator[None]:
        """Call *code* at each step of *stages* stages, in coding order, and stop after each stage."""

    def put_side(self, encoder: RangeEncoder, side: Any) -> dict[str, float]:
        """Code *side*; its streams' ideal bits."""
        return {}

    def get_side(self, decoder: RangeDecoder, size: Size) -> Any:
        """What :meth:`put_side` coded."""
        return None

    def encode(self, side: Any, size: Size, stages: int, choose: Choose) -> Iterator[Coded]:
        encoder = RangeEncoder()
        bits = self.put_side(encoder, side) | {"indices": 0.0}

        def code(step: Step) -> Tensor:
            symbols = choose(step)
            with span("coding"):
                encoder.put(symbols, step.weights)
                bits["indices"] += code_length(step.weights, symbols)
            return symbols

        for _ in self.walk(side, size, stages, code):
            yield Coded(encoder.finish(), dict(bits))

    def decode(self, payload: bytes, size: Size, stages: int) -> Tensor:
        decoder = RangeDecoder(payload)
        side = self.get_side(decoder, size)
        indices = torch.empty(stages, size[0] * size[1], dtype=torch.int64)

        def code(step: Step) -> Tensor:
            with span("coding"):
                symbols = decoder.get(step.weights, len(step.positions))
            indices[step.stage, step.positions] = symbols
            return symbols

        for _ in self.walk(side, size, stages, code):
            pass
        return indices.view(stages, *size)


class Static(RangeCoded):
    """Range coding with training-set frequencies: what Huffman approaches."""

    def __init__(self, path: Path, tokenizer: BaseTokenizer) -> None:
        self.weights = load_counts(path, tokenizer)

    def walk(self, side: Any, size: Size, stages: int, code: Choose) -> Iterator[None]:
        for step in _whole_maps(self.weights, size, stages):
            code(step)
            yield


def load_counts(path: Path, tokenizer: BaseTokenizer) -> Tensor:
    """Training-set counts (S×K, float64) of each codeword, raised by one so that every codeword can be sent.

    Integers, not probabilities: a Huffman tree's shape must not hang on how one was rounded.
    """
    tensors, metadata = load_weights(path, "tokenizer")
    check_tokenizer(path, metadata["tokenizer"], tokenizer)
    if "counts" not in tensors or tensors["counts"].shape != tokenizer.codebooks.shape[:2]:
        shape = "x".join(map(str, tokenizer.codebooks.shape[:2]))
        raise HvqbenchError(f"{path} holds no counts of {shape} codewords; train the index model again")
    return tensors["counts"].double() + 1


def check_tokenizer(path: Path, trained_for: str, tokenizer: BaseTokenizer) -> None:
    """Raise unless the weights of *path* are those of *tokenizer*."""
    if trained_for != tokenizer.digest:
        raise HvqbenchError(
            f"{path} was trained for tokenizer {trained_for[:12]}, not {tokenizer.digest[:12]}; train it again"
        )


def _length(tree: Any, symbol: int) -> int:
    """Bits of a Huffman code word."""
    import constriction

    encoder = constriction.symbol.QueueEncoder()
    encoder.encode_symbol(symbol, tree)
    return encoder.get_compressed()[1]
