"""Index models: p(index | what the decoder already has), and the bytes that follow from it.

=============  ===============================================  ==========================
name           probability of an index                          coder
=============  ===============================================  ==========================
``fixed``      1 / K                                            ⌈log2 K⌉ bits each
``huffman``    training-set frequency                           Huffman (constriction)
``static``     training-set frequency                           range coder (constriction)
``hyperprior`` Gaussian at the anchors, given z (HyperVQ)       range coder (constriction)
=============  ===============================================  ==========================

Encoding takes two steps, so that the choice of indices can see what they cost: :meth:`IndexModel.side` derives what is
sent first (z, or nothing), :meth:`IndexModel.bits` prices every codeword at every position.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvqbench.errors import BitstreamError, HvqbenchError
from hvqbench.vq.hyperprior import Z_LIMIT, Hyperprior
from hvqbench.vq.integer import integer_hyperprior
from hvqbench.vq.weights import load_weights

CHUNK = 4096
"""Positions priced at a time: bounds memory on large images."""
Indices = NDArray[np.int32]
Size = tuple[int, int]


@dataclass(frozen=True)
class Coded:
    """A payload and the ideal code length in bits of each stream in it, in coding order."""

    payload: bytes
    ideal_bits: Mapping[str, float]


class IndexModel(ABC):
    """Codes a map of indices (h×w, int32, below K)."""

    files: tuple[Path, ...] = ()
    """Weights that the model was read from."""

    def side(self, latent: Tensor) -> Any:
        """What is sent before the indices, from the latent 1×D×h×w; None for a model without side information."""
        return None

    @abstractmethod
    def bits(self, side: Any, size: Size) -> Iterator[NDArray[np.float64]]:
        """Cost in bits of every codeword, in chunks of at most CHUNK positions (n×K, or 1×K if equal everywhere)."""

    @abstractmethod
    def encode(self, indices: Indices, side: Any) -> Coded:
        """The payload for *indices* and *side*."""

    @abstractmethod
    def decode(self, payload: bytes, size: Size) -> Indices:
        """The indices of a payload, given the size (h, w) of the index map."""


class FixedLength(IndexModel):
    """Every index in ⌈log2 K⌉ bits, most significant first."""

    def __init__(self, codewords: int) -> None:
        self.codewords = codewords
        self.width = max(1, (codewords - 1).bit_length())

    def bits(self, side: Any, size: Size) -> Iterator[NDArray[np.float64]]:
        for count in _chunks(size):
            yield np.full((count, 1), float(self.width))

    def encode(self, indices: Indices, side: Any = None) -> Coded:
        flat = indices.reshape(-1, 1)
        digits = (flat >> np.arange(self.width - 1, -1, -1)) & 1
        return Coded(np.packbits(digits.astype(np.uint8)).tobytes(), {"indices": float(digits.size)})

    def decode(self, payload: bytes, size: Size) -> Indices:
        count = size[0] * size[1]
        if len(payload) != -(-count * self.width // 8):
            raise BitstreamError(
                f"payload of {len(payload)} bytes does not fit {size[1]}x{size[0]} indices; encode it again"
            )
        digits = np.unpackbits(np.frombuffer(payload, np.uint8), count=count * self.width).reshape(count, -1)
        indices = digits.astype(np.int32) @ (1 << np.arange(self.width - 1, -1, -1, dtype=np.int32))
        return _checked(indices, self.codewords).reshape(size)


class _Frequencies(IndexModel):
    """A model that knows nothing but the frequency of each codeword in the training set."""

    def __init__(self, path: Path, codewords: int) -> None:
        tensors, _ = load_weights(path)
        if "counts" not in tensors or tensors["counts"].shape != (codewords,):
            raise HvqbenchError(f"{path} holds no counts of {codewords} codewords; train the index model again")
        self.files = (path,)
        # Each count is raised by one, so that every codeword can be sent. Integers in float64: the Huffman tree's shape
        # must not hang on how a probability was rounded.
        self.weights = tensors["counts"].double().numpy() + 1
        self.costs = -np.log2(self.weights / self.weights.sum())

    def bits(self, side: Any, size: Size) -> Iterator[NDArray[np.float64]]:
        for count in _chunks(size):
            yield np.broadcast_to(self.costs, (count, len(self.costs)))

    def ideal(self, indices: Indices) -> dict[str, float]:
        return {"indices": float(-np.log2(self.weights / self.weights.sum())[indices].sum())}


class Static(_Frequencies):
    """Range coding with training-set frequencies: what Huffman approaches."""

    def __init__(self, path: Path, codewords: int) -> None:
        super().__init__(path, codewords)
        self.model = _categorical(self.weights)

    def encode(self, indices: Indices, side: Any = None) -> Coded:
        import constriction

        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(indices.ravel(), self.model)
        return Coded(_to_bytes(encoder.get_compressed()), self.ideal(indices))

    def decode(self, payload: bytes, size: Size) -> Indices:
        return _range_decoder(payload).decode(self.model, size[0] * size[1]).reshape(size)


class Huffman(_Frequencies):
    """Huffman coding with training-set frequencies, as in Control-GIC; ideal bits are the entropy code's."""

    def __init__(self, path: Path, codewords: int) -> None:
        from constriction import symbol as coder

        super().__init__(path, codewords)
        self.encoder_tree = coder.huffman.EncoderHuffmanTree(self.weights)
        self.decoder_tree = coder.huffman.DecoderHuffmanTree(self.weights)
        for symbol in range(codewords):
            encoder = coder.QueueEncoder()
            encoder.encode_symbol(symbol, self.encoder_tree)
            self.costs[symbol] = encoder.get_compressed()[1]

    def encode(self, indices: Indices, side: Any = None) -> Coded:
        import constriction

        encoder = constriction.symbol.QueueEncoder()
        for symbol in indices.ravel().tolist():
            encoder.encode_symbol(symbol, self.encoder_tree)
        words, length = encoder.get_compressed()
        return Coded(_to_bytes(words)[: -(-length // 8)], self.ideal(indices))

    def decode(self, payload: bytes, size: Size) -> Indices:
        import constriction

        decoder = constriction.symbol.QueueDecoder(_to_words(payload))
        symbols = [decoder.decode_symbol(self.decoder_tree) for _ in range(size[0] * size[1])]
        return np.array(symbols, dtype=np.int32).reshape(size)


class HyperpriorModel(IndexModel):
    """HyperVQ: z in front, then every index under the integer PEE, in one range coder."""

    def __init__(self, path: Path, codebook: Tensor, tokenizer: str) -> None:
        model, frequencies, made_for = Hyperprior.load(path)
        if made_for != tokenizer:
            raise HvqbenchError(
                f"{path} was trained for tokenizer {made_for[:12]}, not {tokenizer[:12]}; train it again"
            )
        self.files = (path,)
        self.model = model
        self.synthesis, self.pee = integer_hyperprior(model, codebook)
        self.z_weights = frequencies.double().numpy()
        self.z_models = [_categorical(row) for row in self.z_weights]

    @torch.inference_mode()
    def side(self, latent: Tensor) -> Tensor:
        """z of the latent 1×D×h×w: integers C×⌈h/4⌉×⌈w/4⌉."""
        return self.model.analyse(latent.float().cpu()).round()[0]

    def weights(self, z: Tensor, size: Size) -> Iterator[NDArray[np.float64]]:
        """The coder's integer weights of all codewords, chunk by chunk (n×K)."""
        mean, log_precision = self.synthesis(z, size)
        for start in range(0, len(mean), CHUNK):
            yield self.pee.weights(mean[start : start + CHUNK], log_precision[start : start + CHUNK])

    def bits(self, side: Tensor, size: Size) -> Iterator[NDArray[np.float64]]:
        for weights in self.weights(side, size):
            total = weights.sum(1, keepdims=True)
            # The coder gives no codeword less than one part in 2^24.
            yield -np.log2(np.maximum(weights / total, 2.0**-24))

    def encode(self, indices: Indices, side: Tensor) -> Coded:
        import constriction

        encoder = constriction.stream.queue.RangeEncoder()
        z = side.numpy().astype(np.int32).reshape(len(self.z_models), -1) + Z_LIMIT
        z_bits = 0.0
        for symbols, model, weights in zip(z, self.z_models, self.z_weights, strict=True):
            encoder.encode(np.ascontiguousarray(symbols), model)
            z_bits -= np.log2(weights[symbols] / weights.sum()).sum()
        flat, index_bits, start = indices.ravel(), 0.0, 0
        for weights in self.weights(side, indices.shape):
            symbols = flat[start : start + len(weights)]
            encoder.encode(symbols, _categorical(), weights)
            chosen = weights[np.arange(len(symbols)), symbols] / weights.sum(1)
            index_bits -= np.log2(np.maximum(chosen, 2.0**-24)).sum()
            start += len(symbols)
        return Coded(_to_bytes(encoder.get_compressed()), {"z": float(z_bits), "indices": float(index_bits)})

    def decode(self, payload: bytes, size: Size) -> Indices:
        decoder = _range_decoder(payload)
        z_size = (-(-size[0] // 4), -(-size[1] // 4))
        rows = [decoder.decode(model, z_size[0] * z_size[1]) for model in self.z_models]
        z = torch.from_numpy(np.stack(rows).reshape(-1, *z_size) - Z_LIMIT)
        parts = [decoder.decode(_categorical(), weights) for weights in self.weights(z, size)]
        return np.concatenate(parts).astype(np.int32).reshape(size)


def _categorical(weights: NDArray[np.float64] | None = None) -> Any:
    """constriction's 24-bit categorical model; every frequency at least 1. Exact for integer-valued float64 weights."""
    import constriction

    model = constriction.stream.model.Categorical
    return model(perfect=False) if weights is None else model(weights, perfect=False)


def _range_decoder(payload: bytes) -> Any:
    import constriction

    if len(payload) % 4:
        raise BitstreamError(f"payload of {len(payload)} bytes is not whole 32-bit words; encode the image again")
    return constriction.stream.queue.RangeDecoder(_to_words(payload))


def _to_bytes(words: NDArray[np.uint32]) -> bytes:
    return words.astype("<u4").tobytes()


def _to_words(payload: bytes) -> NDArray[np.uint32]:
    return np.frombuffer(payload + bytes(-len(payload) % 4), "<u4").astype(np.uint32)


def _chunks(size: Size) -> Iterator[int]:
    total = size[0] * size[1]
    for start in range(0, total, CHUNK):
        yield min(CHUNK, total - start)


def _checked(indices: Indices, codewords: int) -> Indices:
    if indices.size and int(indices.max()) >= codewords:
        raise BitstreamError(
            f"index {int(indices.max())} is outside the codebook of {codewords}; encode the image again"
        )
    return indices
