"""Range coding of indices under integer-valued weights, in no more bytes than the interval needs.

constriction's coder works on 32-bit words: its output ends on a whole word, on average 2.3 bytes later than it must.
Any number in the coder's final interval decodes to the same symbols, so what is sent is the shortest byte string that
falls into it when zero bytes follow: less than one byte above the coded information.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

STATE_BYTES = 8
"""constriction's RangeEncoder holds its interval in 64 bits, below the words that are out already."""
SMALLEST_SHARE = 2.0**-24
"""No symbol gets less than one part in 2^24 of the coder's range."""


def code_length(weights: Tensor, symbols: Tensor) -> float:
    """Ideal bits of *symbols* (n) under the *weights* (n×K, or 1×K for all of them)."""
    chosen = weights[0, symbols] if len(weights) == 1 else weights.gather(1, symbols[:, None])[:, 0]
    return float(-(chosen / weights.sum(1)).clamp_min_(SMALLEST_SHARE).log2().sum())


class RangeEncoder:
    """Appends symbols. The same :meth:`put` calls, in the same order, as the :meth:`RangeDecoder.get` calls to come."""

    def __init__(self) -> None:
        import constriction

        self._coder = constriction.stream.queue.RangeEncoder()

    def put(self, symbols: Tensor, weights: Tensor) -> None:
        """Code *symbols* (n, int64), each under its own row of *weights* (n×K, float64), or all under one (1×K)."""
        model, parameters = _categorical(weights)
        self._coder.encode(symbols.numpy().astype(np.int32), model, *parameters)

    def finish(self) -> bytes:
        """The bytes of all symbols so far; more can follow, and belong to another, longer string."""
        words = self._coder.get_compressed()
        position, (lower, width) = self._coder.pos()
        size = 4 * position + STATE_BYTES
        inside = int.from_bytes(words.astype(">u4").tobytes().ljust(size, b"\0"))
        # The coder keeps the interval's lower end modulo 2^64; a point inside says what stands above, carries included.
        lower = inside - (inside - lower) % 2 ** (8 * STATE_BYTES)
        shortest, spared = lower, 0
        for spare in range(1, STATE_BYTES + 1):
            rounded_up = -(-lower >> 8 * spare) << 8 * spare
            if rounded_up >= lower + width:
                break
            shortest, spared = rounded_up, spare
        return (shortest >> 8 * spared).to_bytes(size - spared)


class RangeDecoder:
    """Reads what :class:`RangeEncoder` wrote."""

    def __init__(self, payload: bytes) -> None:
        import constriction

        # finish() drops zero bytes of the interval's last 8, never more.
        restored = payload + bytes(STATE_BYTES + -len(payload) % 4)
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(restored, ">u4").astype(np.uint32))

    def get(self, weights: Tensor, count: int) -> Tensor:
        """The next *count* symbols (int64), under the weights that coded them."""
        model, parameters = _categorical(weights)
        symbols = self._coder.decode(model, *(parameters or (count,)))
        return torch.from_numpy(symbols.astype(np.int64))


def _categorical(weights: Tensor) -> tuple[Any, tuple[Any, ...]]:
    """constriction's 24-bit model of one row, or its family and the rows; both sum float64 in order, hence exactly."""
    import constriction

    model = constriction.stream.model.Categorical
    if len(weights) == 1:
        return model(weights[0].numpy(), perfect=False), ()
    return model(perfect=False), (weights.numpy(),)
