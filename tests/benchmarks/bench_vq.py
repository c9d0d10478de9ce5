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
from hvqbench.vq.index_models import IndexModel

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
    embedding: torch.Tensor
    """1×D×h×w"""
    nearest: torch.Tensor
    """S×h×w, the nearest codewords"""
    payload: bytes

    @torch.inference_mode()
    def encode(self) -> bytes:
        return self.model.code(self.nearest, self.model.side(self.embedding)).payload

    @torch.inference_mode()
    def decode(self) -> torch.Tensor:
        stages, height, width = self.nearest.shape
        return self.model.decode(self.payload, (height, width), stages)


@pytest.fixture(scope="module")
def indices(vq_codec: VQCodec, photo: Image) -> Indices:
    latent = vq_codec.latent(photo)
    with torch.inference_mode():
        nearest = vq_codec.tokenizer.quantize(latent)[0]
        embedding = vq_codec.tokenizer.embed(nearest[None])
        model = vq_codec.index_model
        payload = model.code(nearest, model.side(embedding)).payload
    found = Indices(model, embedding, nearest, payload)
    assert torch.equal(found.decode(), nearest)
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
    def encode() -> torch.Tensor:
        return vq_codec.tokenizer.quantize(vq_codec.latent(photo))

    benchmark.group = f"{vq_codec.id}: pixels"
    benchmark.pedantic(encode, rounds=ROUNDS, warmup_rounds=1)


def test_tokenizer_decode(vq_codec: VQCodec, indices: Indices, benchmark: Any) -> None:
    @torch.inference_mode()
    def decode() -> torch.Tensor:
        return vq_codec.tokenizer.decode(indices.nearest[None])

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
