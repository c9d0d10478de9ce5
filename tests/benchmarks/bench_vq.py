"""The VQ codecs at 768×512 on the CPU: the entropy stage, each of its parts, and the tokenizer.

The parts are timed where they run, in the codec's own spans: their clock stands still outside. A part that a codec does
not have (there is no h-analysis in a decoder) is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from hvqbench.adapters.vq import VQCodec
from hvqbench.codec import Image
from hvqbench.timing import record
from hvqbench.vq.layout import Layout
from hvqbench.vq.models.base import IndexModel

ROUNDS = 10
PARTS = ("h-analysis", "z", "h-synthesis", "context", "pee", "coding")


class SpanClock:
    """Seconds spent inside spans of one name, since :attr:`seconds` was last set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds: dict[str, float] = {}

    def __call__(self) -> float:
        return self.seconds.get(self.name, 0.0)


def _timed_by(name: str) -> Any:
    clock = SpanClock(name)
    return pytest.param(clock, marks=pytest.mark.benchmark(timer=clock), id=name)


@dataclass(frozen=True)
class Indices:
    """An image's way through an index model: indices to payload, and back."""

    model: IndexModel
    layout: Layout
    embeddings: list[torch.Tensor]
    """1×D×h×w of each grid"""
    nearest: list[torch.Tensor]
    """h×w, the nearest codewords"""
    payload: bytes

    @torch.inference_mode()
    def encode(self) -> bytes:
        return self.model.code(self.layout, self.nearest, self.model.side(self.embeddings)).payload

    @torch.inference_mode()
    def decode(self) -> list[torch.Tensor]:
        return self.model.decode(self.layout, self.payload)


@pytest.fixture(scope="module")
def indices(vq_codec: VQCodec, photo: Image) -> Indices:
    features, tokenizer, model = vq_codec.features(photo), vq_codec.tokenizer, vq_codec.index_model
    with torch.inference_mode():
        maps = tokenizer.quantize(features)
        layout, embeddings = Layout.of(tokenizer, *photo.shape[:2]), tokenizer.embed(maps)
        nearest = [symbols[0] for symbols in maps]
        payload = model.code(layout, nearest, model.side(embeddings)).payload
    found = Indices(model, layout, embeddings, nearest, payload)
    assert all(torch.equal(*pair) for pair in zip(found.decode(), nearest, strict=True))
    return found


@pytest.fixture(params=["encode", "decode"])
def call(request: pytest.FixtureRequest, indices: Indices, vq_codec: VQCodec, benchmark: Any) -> Callable[[], object]:
    benchmark.group = f"{vq_codec.id}: indices, {request.param}"
    return getattr(indices, request.param)


def test_whole(call: Callable[[], object], benchmark: Any) -> None:
    benchmark.pedantic(call, rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.parametrize("clock", [_timed_by(name) for name in PARTS])
def test_part(call: Callable[[], object], clock: SpanClock, benchmark: Any) -> None:
    with record() as clock.seconds:
        call()  # warms up
        if not clock():
            pytest.skip(f"there is no {clock.name} here")
        benchmark.pedantic(call, rounds=ROUNDS)


def test_tokenizer_encode(vq_codec: VQCodec, photo: Image, benchmark: Any) -> None:
    @torch.inference_mode()
    def encode() -> list[torch.Tensor]:
        return vq_codec.tokenizer.quantize(vq_codec.features(photo))

    benchmark.group = f"{vq_codec.id}: pixels"
    benchmark.pedantic(encode, rounds=ROUNDS, warmup_rounds=1)


def test_tokenizer_decode(vq_codec: VQCodec, indices: Indices, benchmark: Any) -> None:
    @torch.inference_mode()
    def decode() -> torch.Tensor:
        return vq_codec.tokenizer.decode([symbols[None] for symbols in indices.nearest])

    benchmark.group = f"{vq_codec.id}: pixels"
    image = benchmark.pedantic(decode, rounds=ROUNDS, warmup_rounds=1)
    assert image.shape[-2:] == (512, 768)


@pytest.mark.parametrize("weight", [0.0, 1.6])
def test_codec_encode(vq_codec: VQCodec, photo: Image, weight: float, benchmark: Any) -> None:
    benchmark.group = f"{vq_codec.id}: files"
    benchmark.pedantic(vq_codec.encode, (photo, weight), rounds=ROUNDS, warmup_rounds=1)


def test_codec_decode(vq_codec: VQCodec, photo: Image, benchmark: Any) -> None:
    benchmark.group = f"{vq_codec.id}: files"
    image = benchmark.pedantic(vq_codec.decode, (vq_codec.encode(photo, 0).data,), rounds=ROUNDS, warmup_rounds=1)
    assert image.shape == photo.shape
