"""Rate control: every choice is the cheapest there is, and L = 0 means the nearest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from hvqbench.vq.distance import squared_distances
from hvqbench.vq.hyperprior_coder import HyperpriorModel
from hvqbench.vq.index_models import Choose, FixedLength, Huffman, IndexModel, RangeCoded, Size, Static, Step
from hvqbench.vq.rdo import Choice, cheapest, refined
from hvqbench.vq.tokenizer import Tokenizer

SIZE = (9, 14)


@pytest.fixture(params=["tiny", "rvq", "large"])
def folder(request: pytest.FixtureRequest, vq_catalog: Path) -> Path:
    return vq_catalog / "codecs/tokenizers" / request.param


@pytest.fixture
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder / "tokenizer.safetensors")


@pytest.fixture(params=["fixed", "huffman", "static", "hyperprior", "context"])
def model(request: pytest.FixtureRequest, folder: Path, tokenizer: Tokenizer) -> IndexModel:
    if request.param == "fixed":
        return FixedLength(tokenizer)
    if request.param in ("huffman", "static"):
        kind = Huffman if request.param == "huffman" else Static
        return kind(folder / "frequencies.safetensors", tokenizer)
    return HyperpriorModel(folder / f"{request.param}.safetensors", tokenizer)


@pytest.fixture
def latent(tokenizer: Tokenizer) -> torch.Tensor:
    spread = tokenizer.codebooks.square().mean((1, 2)).sum().sqrt()
    generator = torch.Generator().manual_seed(0)
    return spread * torch.randn(1, tokenizer.config.dim, *SIZE, generator=generator)


def choose(model: IndexModel, tokenizer: Tokenizer, latent: torch.Tensor, weight: float, stages: int = 3) -> Choice:
    stages = min(stages, tokenizer.config.stages)
    return cheapest(model, model.side(latent), latent, tokenizer.codebooks, weight, range(1, stages + 1))


def distance(tokenizer: Tokenizer, latent: torch.Tensor, indices: torch.Tensor) -> float:
    return float((latent - tokenizer.embed(indices[None])).square().sum())


@pytest.mark.parametrize("weight", [1e-9, 0.02, 0.3])
def test_the_walk_codes_what_it_chose_at_what_it_said(
    model: IndexModel, tokenizer: Tokenizer, latent: torch.Tensor, weight: float
) -> None:
    choice = choose(model, tokenizer, latent, weight)
    payload = choice.coded.payload
    assert torch.equal(model.decode(payload, SIZE, len(choice.indices)), choice.indices)
    assert model.code(choice.indices, model.side(latent)) == choice.coded
    cost = distance(tokenizer, latent, choice.indices) + weight * 8 * len(payload)
    assert choice.cost == pytest.approx(cost, rel=1e-5)


def test_z_is_made_anew_for_what_was_chosen_as_long_as_that_is_cheaper(
    model: IndexModel, tokenizer: Tokenizer, latent: torch.Tensor
) -> None:
    stages, weight = range(1, tokenizer.config.stages + 1), 0.05
    first = choose(model, tokenizer, latent, weight)
    last = refined(model, model.side(latent), latent, tokenizer.codebooks, weight, stages)
    assert last.cost <= first.cost
    side = model.side(tokenizer.embed(last.indices[None]))
    again = cheapest(model, side, latent, tokenizer.codebooks, weight, stages)
    assert side is None or again.cost >= last.cost
    assert torch.equal(model.decode(last.coded.payload, SIZE, len(last.indices)), last.indices)


def test_without_a_price_the_nearest_indices_of_all_stages(
    model: IndexModel, tokenizer: Tokenizer, latent: torch.Tensor
) -> None:
    assert torch.equal(choose(model, tokenizer, latent, 1e-9).indices, tokenizer.quantize(latent)[0])


def test_each_choice_is_the_cheapest_of_its_step(model: IndexModel, tokenizer: Tokenizer, latent: torch.Tensor) -> None:
    """Every step, priced again, given all that was sent before it."""
    if not isinstance(model, RangeCoded):
        return
    weight = 0.05
    sent = choose(model, tokenizer, latent, weight).indices.flatten(1)
    left, seen = latent[0].flatten(1).T.double(), torch.zeros_like(sent)

    def check(step: Step) -> torch.Tensor:
        bits = -(step.weights / step.weights.sum(1, keepdim=True)).log2()
        codebook = tokenizer.codebooks[step.stage].double()
        price = squared_distances(left[step.positions], codebook) + weight * bits
        symbols = sent[step.stage, step.positions]
        assert torch.allclose(price.gather(1, symbols[:, None])[:, 0], price.amin(1), atol=1e-4)
        left[step.positions] -= codebook[symbols]
        seen[step.stage, step.positions] += 1
        return symbols

    for _ in model.walk(model.side(latent), SIZE, len(sent), check):
        pass
    assert (seen == 1).all()


def test_a_bit_that_costs_more_buys_fewer_of_them(
    model: IndexModel, tokenizer: Tokenizer, latent: torch.Tensor
) -> None:
    """One knob from all stages to one, and from the nearest indices to the likeliest."""
    choices = [choose(model, tokenizer, latent, weight) for weight in (1e-9, 0.003, 0.01, 0.03, 0.1, 1, 100)]
    sizes = [len(choice.coded.payload) for choice in choices]
    # What is chosen first changes what later steps cost: not quite monotone with stages or context.
    assert all(later <= 1.03 * earlier for earlier, later in pairwise(sizes))
    assert sizes[-1] < sizes[0] or isinstance(model, FixedLength)
    assert len(choices[0].indices) == tokenizer.config.stages
    assert len(choices[-1].indices) == 1


def test_stages_stop_where_the_next_does_not_pay(vq_catalog: Path) -> None:
    """Fixed length: a stage costs the same whatever it says, so what it must bring is known."""
    tokenizer = Tokenizer.load(vq_catalog / "codecs/tokenizers/rvq/tokenizer.safetensors")
    latent = 0.3 * torch.randn(1, 5, *SIZE, generator=torch.Generator().manual_seed(1))
    model, nearest = FixedLength(tokenizer), tokenizer.quantize(latent)[0]
    rest = [distance(tokenizer, latent, nearest[:count]) for count in (1, 2, 3)]
    bits = [8 * len(model.code(nearest[:count]).payload) for count in (1, 2, 3)]
    second, third = ((rest[i] - rest[i + 1]) / (bits[i + 1] - bits[i]) for i in (0, 1))
    assert second > third > 0  # what a bit of these stages brings
    for weight, count in ((0.9 * third, 3), (1.1 * third, 2), (0.9 * second, 2), (1.1 * second, 1)):
        assert len(choose(model, tokenizer, latent, weight).indices) == count
    assert len(choose(model, tokenizer, latent, 1e-9, stages=2).indices) == 2


class _Recorded(RangeCoded):
    """Two steps; the second's weights depend on what the first chose."""

    def walk(self, side: object, size: Size, stages: int, code: Choose) -> Iterator[None]:
        first = code(Step(0, torch.tensor([0]), torch.tensor([[1.0, 3.0]], dtype=torch.float64)))
        second = torch.tensor([[1.0, 1.0 + 14.0 * float(first)]], dtype=torch.float64)
        code(Step(0, torch.tensor([1]), second))
        yield


def test_later_steps_see_earlier_choices() -> None:
    latent = torch.zeros(1, 1, 1, 2)
    codebooks = torch.tensor([[[-0.1], [0.1]]])
    choice = cheapest(_Recorded(), None, latent, codebooks, 1.0, range(1, 2))
    assert choice.indices.tolist() == [[[1, 1]]]
    assert choice.coded.ideal_bits["indices"] == pytest.approx(-torch.tensor([3 / 4, 15 / 16]).log2().sum().item())
    assert torch.equal(_Recorded().decode(choice.coded.payload, (1, 2), 1), choice.indices)
