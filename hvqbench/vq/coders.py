"""What turns the symbols of a walk into bytes and back: fixed length, Huffman codes, or a range coder.

A coder makes a writer and a reader. Both see the same steps in the same order; a reader names the symbols of a step by
reading them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvqbench.codec import Stream
from hvqbench.timing import span
from hvqbench.vq.prefix import IsSent
from hvqbench.vq.range_coder import STATE_BYTES, RangeDecoder, RangeEncoder, code_length
from hvqbench.vq.walk import Name, Step, Walk, drive

SLACK_BITS = 8 * STATE_BYTES + 8
"""A range coded payload may be that much shorter than its information: zero bytes at its end are left out."""


class Writer(ABC):
    """Appends the symbols of steps."""

    @abstractmethod
    def put(self, step: Step, symbols: Tensor) -> float:
        """Append *symbols* (n, int64); their ideal code length in bits."""

    @abstractmethod
    def payload(self) -> bytes:
        """The bytes of all symbols so far; more can follow, and belong to another, longer string."""


class Reader(ABC):
    """Reads what a :class:`Writer` of the same coder wrote."""

    @abstractmethod
    def get(self, step: Step) -> Tensor:
        """The symbols (n, int64) of the next step.

        Raises ValueError or AssertionError (constriction's) for a payload that cannot hold them.
        """


class Coder(ABC):
    """A way to write symbols."""

    @abstractmethod
    def writer(self) -> Writer: ...

    @abstractmethod
    def reader(self, payload: bytes) -> Reader: ...


@dataclass(frozen=True)
class Coded:
    """A payload and the ideal code length in bits of each stream in it, in coding order."""

    payload: bytes
    ideal_bits: Mapping[str, float]

    def ledger(self, size: int) -> dict[str, Stream]:
        """A file of *size* bytes by stream; of those in one payload all but the last are charged their ideal."""
        streams, left = {"header": Stream(size - len(self.payload))}, len(self.payload)
        *first, last = self.ideal_bits.items()
        for name, bits in first:
            share = min(left, round(bits / 8))
            streams[name] = Stream(share, bits)
            left -= share
        return streams | {last[0]: Stream(left, last[1])}


def encode(coder: Coder, walk: Walk, name: Name, sent: IsSent = lambda _: True) -> Iterator[Coded]:
    """After each level of *walk*, the payload of all so far; *name* says what is sent, if the step is *sent* at all."""
    writer, level = coder.writer(), 0
    bits: dict[str, float] = {}
    for step, symbols in drive(walk, name):
        if step.grid.level > level:
            yield Coded(writer.payload(), dict(bits))
            level = step.grid.level
        with span(_part(step)):
            bits[step.grid.stream] = bits.get(step.grid.stream, 0.0) + (
                writer.put(step, symbols) if sent(step) else 0.0
            )
    with span("coding"):
        payload = writer.payload()
    yield Coded(payload, bits)


def decoder(coder: Coder, payload: bytes) -> Name:
    """Names the symbols of steps by reading them from *payload*."""
    reader = coder.reader(payload)

    def get(step: Step) -> Tensor:
        with span(_part(step)):
            return reader.get(step)

    return get


def _part(step: Step) -> str:
    return "z" if step.grid.side else "coding"


class FixedLength(Coder):
    """Every symbol in ⌈log2 K⌉ bits, most significant first; zero bits up to a whole byte."""

    def writer(self) -> Writer:
        return _BitWriter()

    def reader(self, payload: bytes) -> Reader:
        return _BitReader(payload)


class _BitWriter(Writer):
    def __init__(self) -> None:
        self.bits: list[Tensor] = []

    def put(self, step: Step, symbols: Tensor) -> float:
        self.bits.append((symbols[:, None] >> _shifts(step) & 1).flatten().to(torch.uint8))
        return float(len(self.bits[-1]))

    def payload(self) -> bytes:
        return np.packbits(torch.cat(self.bits).numpy()).tobytes()


class _BitReader(Reader):
    def __init__(self, payload: bytes) -> None:
        self.payload, self.position = np.frombuffer(payload, np.uint8), 0

    def get(self, step: Step) -> Tensor:
        count, shifts, codewords = len(step.positions), _shifts(step), step.weights.shape[1]
        start, self.position = self.position, self.position + count * len(shifts)
        if len(self.payload) * 8 < self.position:
            raise ValueError(f"{len(self.payload)} bytes hold no {step.grid.width}x{step.grid.height} indices")
        first = start // 8
        bits = np.unpackbits(self.payload[first : -(-self.position // 8)])[start - 8 * first :]
        digits = torch.from_numpy(bits[: count * len(shifts)]).view(count, len(shifts)).long()
        symbols = (digits << shifts).sum(1)
        if count and int(symbols.max()) >= codewords:
            raise ValueError(f"index {int(symbols.max())} is outside the codebook of {codewords}")
        return symbols


def _shifts(step: Step) -> Tensor:
    return torch.arange(max(1, (step.weights.shape[1] - 1).bit_length())).flip(0)


class Huffman(Coder):
    """Huffman codes of known *counts*, one row (K, float64) for each level; ideal bits are the entropy code's."""

    def __init__(self, counts: Sequence[Tensor]) -> None:
        from constriction import symbol

        self.counts = counts
        rows = [row.numpy() for row in counts]
        self.encoder_trees = [symbol.huffman.EncoderHuffmanTree(row) for row in rows]
        self.decoder_trees = [symbol.huffman.DecoderHuffmanTree(row) for row in rows]

    def lengths(self, level: int) -> Tensor:
        """Bits of each code word (K, int64)."""
        tree = self.encoder_trees[level]
        return torch.tensor([_length(tree, symbol) for symbol in range(len(self.counts[level]))])

    def writer(self) -> Writer:
        return _HuffmanWriter(self)

    def reader(self, payload: bytes) -> Reader:
        return _HuffmanReader(self, payload)


class _HuffmanWriter(Writer):
    def __init__(self, coder: Huffman) -> None:
        import constriction

        self.coder, self.queue = coder, constriction.symbol.QueueEncoder()

    def put(self, step: Step, symbols: Tensor) -> float:
        tree = self.coder.encoder_trees[step.grid.level]
        for symbol in symbols.tolist():
            self.queue.encode_symbol(symbol, tree)
        return code_length(self.coder.counts[step.grid.level][None], symbols)

    def payload(self) -> bytes:
        words, length = self.queue.get_compressed()
        return words.astype("<u4").tobytes()[: -(-length // 8)]


class _HuffmanReader(Reader):
    def __init__(self, coder: Huffman, payload: bytes) -> None:
        import constriction

        words = np.frombuffer(payload + bytes(-len(payload) % 4), "<u4").astype(np.uint32)
        self.coder, self.queue, self.bits = coder, constriction.symbol.QueueDecoder(words), 8 * len(payload)

    def get(self, step: Step) -> Tensor:
        tree, count = self.coder.decoder_trees[step.grid.level], len(step.positions)
        if count > self.bits:  # no code word is shorter than a bit
            raise ValueError(f"{self.bits // 8} bytes hold no {step.grid.width}x{step.grid.height} indices")
        return torch.tensor([self.queue.decode_symbol(tree) for _ in range(count)], dtype=torch.int64)


def _length(tree: Any, symbol: int) -> int:
    import constriction

    encoder = constriction.symbol.QueueEncoder()
    encoder.encode_symbol(symbol, tree)
    return encoder.get_compressed()[1]


class Range(Coder):
    """A range coder under the weights of each step."""

    def writer(self) -> Writer:
        return _RangeWriter()

    def reader(self, payload: bytes) -> Reader:
        return _RangeReader(payload)


class _RangeWriter(Writer):
    def __init__(self) -> None:
        self.encoder = RangeEncoder()

    def put(self, step: Step, symbols: Tensor) -> float:
        self.encoder.put(symbols, step.weights)
        return code_length(step.weights, symbols)

    def payload(self) -> bytes:
        return self.encoder.finish()


class _RangeReader(Reader):
    """Refuses a payload that is too short for what was read under shared weights, before more is asked of it.

    A range decoder reads zeros behind the end for ever, and a header of a few bytes can claim millions of positions.
    The bits of a step with weights of its own at each position are not counted: that costs time, and what memory and
    time go into is decided by those before (z, or a mask).
    """

    def __init__(self, payload: bytes) -> None:
        self.decoder = RangeDecoder(payload)
        self.size, self.left = len(payload), 1.01 * 8 * len(payload) + SLACK_BITS

    def get(self, step: Step) -> Tensor:
        shared, count = len(step.weights) == 1, len(step.positions)
        if shared and count * _fewest_bits(step.weights) > self.left:
            raise ValueError(
                f"{self.size} bytes hold no {step.grid.width}x{step.grid.height} symbols of {step.grid.name}"
            )
        symbols = self.decoder.get(step.weights, count)
        if shared:
            self.left -= code_length(step.weights, symbols)
        if self.left < 0:
            raise ValueError(f"{self.size} bytes end within {step.grid.name}")
        return symbols


def _fewest_bits(weights: Tensor) -> float:
    """Of a symbol under one row of weights (1×K)."""
    return float(-(weights.max() / weights.sum()).log2())
