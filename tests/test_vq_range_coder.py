"""The range coder's last bytes: short enough to be worth it, and always enough."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvqbench.vq.range_coder import STATE_BYTES, RangeDecoder, RangeEncoder, code_length


def drawn(weights: torch.Tensor, count: int, seed: int = 0) -> torch.Tensor:
    """Symbols as likely as the weights (N×K, or 1×K for *count* of them) say."""
    generator = torch.Generator().manual_seed(seed)
    if len(weights) == 1:
        return weights[0].multinomial(count, replacement=True, generator=generator)
    return weights.multinomial(1, generator=generator)[:, 0]


def put(*parts: tuple[torch.Tensor, torch.Tensor]) -> bytes:
    encoder = RangeEncoder()
    for symbols, weights in parts:
        encoder.put(symbols, weights)
    return encoder.finish()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(1, 2**30), min_size=2, max_size=40),
    st.lists(st.integers(0, 39), max_size=60),
)
def test_what_is_put_comes_out_of_at_most_a_byte_more_than_it_is(weights: list[int], symbols: list[int]) -> None:
    """Any symbols, likely or not: the coder's carries and its long runs of equal words among them."""
    row = torch.tensor([weights], dtype=torch.float64)
    message = torch.tensor([s % len(weights) for s in symbols], dtype=torch.int64)
    payload = put((message, row))
    assert torch.equal(RangeDecoder(payload).get(row, len(message)), message)
    # Above 24 bits a symbol the coder is cheaper than its ideal: no frequency is less than 1.
    assert len(payload) <= 1.001 * code_length(row, message) / 8 + 1


@pytest.mark.parametrize("skew", [0.0, 4.0, 24.0])
def test_a_row_for_each_symbol_and_the_tail_of_every_length(skew: float) -> None:
    generator = torch.Generator().manual_seed(3)
    spread = 0
    for count in range(1, 120):
        weights = torch.exp2(skew * torch.rand(count, 37, generator=generator, dtype=torch.float64)).round()
        symbols = drawn(weights, count, count)
        payload = put((symbols, weights))
        assert torch.equal(RangeDecoder(payload).get(weights, count), symbols)
        spread |= 1 << len(payload) % 4
    assert spread == 0b1111  # not whole words


def test_zero_bytes_that_are_no_tail_are_sent() -> None:
    """A long run of the first symbol is a long run of zero bytes; the symbol behind it must survive."""
    row = torch.tensor([[2.0**20, 1.0]], dtype=torch.float64)
    for run in (0, 10, 10**6, 10**7):
        message = torch.zeros(run + 1, dtype=torch.int64)
        message[-1] = 1
        payload = put((message, row))
        assert torch.equal(RangeDecoder(payload).get(row, run + 1), message)
    only_likely = torch.zeros(10**7, dtype=torch.int64)
    payload = put((only_likely, row))
    assert len(payload) <= code_length(row, only_likely) / 8 + 1
    assert torch.equal(RangeDecoder(payload).get(row, 10**7), only_likely)


def test_finishing_does_not_end_the_stream() -> None:
    """What follows later does not change what was read before: the first stages decode without the rest."""
    row = torch.arange(1, 20.0, dtype=torch.float64)[None]
    first, second = drawn(row, 100, 1), drawn(row, 100, 2)
    encoder = RangeEncoder()
    encoder.put(first, row)
    short = encoder.finish()
    encoder.put(second, row)
    whole = encoder.finish()
    assert short == put((first, row))
    decoder = RangeDecoder(whole)
    assert torch.equal(decoder.get(row, 100), first)
    assert torch.equal(decoder.get(row, 100), second)
    assert torch.equal(RangeDecoder(short).get(row, 100), first)
    assert whole[: len(short) - STATE_BYTES] == short[:-STATE_BYTES]


@pytest.mark.parametrize("bits", [2.0, 6.0, 14.0])
def test_16384_codewords_cost_what_they_should(bits: float) -> None:
    """At most 0.2 % above the ideal, from nearly certain to nearly uniform codewords."""
    generator = torch.Generator().manual_seed(5)
    scale = {2.0: 6.0, 6.0: 3.0, 14.0: 0.01}[bits]
    logits = scale * torch.randn(600, 16384, generator=generator, dtype=torch.float64)
    weights = torch.exp2(26 + (logits - logits.amax(1, keepdim=True)) * 1.44).floor().clamp_min(1)
    symbols = drawn(weights, 600)
    ideal = code_length(weights, symbols) / 8
    assert ideal * 8 / 600 == pytest.approx(bits, abs=2)
    payload = put((symbols, weights))
    assert len(payload) <= 1.002 * ideal + 1
    assert torch.equal(RangeDecoder(payload).get(weights, 600), symbols)
