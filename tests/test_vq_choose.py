"""Rate control: every choice is the cheapest there is, and L = 0 means the nearest."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest
import torch

from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.choose import Choice, Source, cheapest, refined
from hvqbench.vq.distance import squared_distances
from hvqbench.vq.layout import GridSpec, Layout
from hvqbench.vq.models import index_model_class
from hvqbench.vq.models.base import IndexModel
from hvqbench.vq.models.static import Fixed
from hvqbench.vq.tokenizer import Tokenizer
from hvqbench.vq.walk import Step, Walk, drive

SIZE = (9, 14)


@pytest.fixture(params=["tiny", "rvq", "large"])
def folder(request: pytest.FixtureRequest, vq_catalog: Path) -> Path:
    return vq_catalog / "codecs/tokenizers" / request.param


@pytest.fixture
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder / "tokenizer.safetensors")


@pytest.fixture(params=["fixed", "huffman", "static", "hyperprior", "context"])
def model(request: pytest.FixtureRequest, folder: Path, tokenizer: Tokenizer) -> IndexModel:
    name = request.param
    weights = (
        None
        if name == "fixed"
        else folder / f"{name if name in ('hyperprior', 'context') else 'frequencies'}.safetensors"
    )
    return index_model_class(name.replace("context", "hyperprior")).load(weights, tokenizer)


@pytest.fixture
def source(tokenizer: Tokenizer) -> Source:
    spread = tokenizer.codebooks.square().mean((1, 2)).sum().sqrt()
    return of(
        tokenizer, spread * torch.randn(1, tokenizer.config.dim, *SIZE, generator=torch.Generator().manual_seed(0))
    )


def of(tokenizer: BaseTokenizer, latent: torch.Tensor) -> Source:
    height, width = latent.shape[-2:]
    return Source(tokenizer, Layout.of(tokenizer, tokenizer.factor * height, tokenizer.factor * width), latent)


def choose(model: IndexModel, source: Source, weight: float, levels: int = 3) -> Choice:
    levels = min(levels, len(source.layout))
    return cheapest(model, source, model.side([source.features]), weight, range(1, levels + 1))


def distance(source: Source, maps: list[torch.Tensor]) -> float:
    return float((source.features - sum(source.embed(maps))).square().sum())


def same(maps: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return len(maps) == len(others) and all(torch.equal(*pair) for pair in zip(maps, others, strict=True))


@pytest.mark.parametrize("weight", [1e-9, 0.02, 0.3])
def test_the_walk_codes_what_it_chose_at_what_it_said(model: IndexModel, source: Source, weight: float) -> None:
    choice = choose(model, source, weight)
    payload, layout = choice.coded.payload, source.layout.first(len(choice.maps))
    assert same(model.decode(layout, payload), choice.maps)
    assert model.code(layout, choice.maps, model.side([source.features])) == choice.coded
    cost = distance(source, choice.maps) + weight * 8 * len(payload)
    assert choice.cost == pytest.approx(cost, rel=1e-5)


def test_z_is_made_anew_for_what_was_chosen_as_long_as_that_is_cheaper(model: IndexModel, source: Source) -> None:
    levels, weight = range(1, len(source.layout) + 1), 0.05
    first = choose(model, source, weight)
    last = refined(model, source, model.side([source.features]), weight, levels)
    assert last.cost <= first.cost
    side = model.side(source.embed(last.maps))
    again = cheapest(model, source, side, weight, levels)
    assert not side or again.cost >= last.cost
    assert same(model.decode(source.layout.first(len(last.maps)), last.coded.payload), last.maps)


def test_without_a_price_the_nearest_indices_of_all_stages(model: IndexModel, source: Source) -> None:
    nearest = [part[0] for part in source.tokenizer.quantize(source.features)]
    assert same(choose(model, source, 1e-9).maps, nearest)


def test_each_choice_is_the_cheapest_of_its_step(model: IndexModel, source: Source) -> None:
    """Every step, priced again, given all that was sent before it."""
    weight, side = 0.05, model.side([source.features])
    sent = choose(model, source, weight).maps
    left = source.features[0].flatten(1).T.double()
    seen = [torch.zeros(SIZE[0] * SIZE[1]) for _ in sent]

    def check(step: Step) -> torch.Tensor:
        if step.grid.side:
            return side[step.grid.name][step.positions]
        bits = -(step.weights / step.weights.sum(1, keepdim=True)).log2()
        codebook = source.tokenizer.codebooks[step.grid.level].double()
        price = squared_distances(left[step.positions], codebook) + weight * bits
        symbols = sent[step.grid.level].flatten()[step.positions]
        assert torch.allclose(price.gather(1, symbols[:, None])[:, 0], price.amin(1), atol=1e-4)
        left[step.positions] -= codebook[symbols]
        seen[step.grid.level][step.positions] += 1
        return symbols

    assert list(drive(model.walk(source.layout.first(len(sent))), check))
    assert all((part == 1).all() for part in seen)


def test_a_bit_that_costs_more_buys_fewer_of_them(model: IndexModel, source: Source) -> None:
    """One knob from all stages to one, and from the nearest indices to the likeliest."""
    choices = [choose(model, source, weight) for weight in (1e-9, 0.003, 0.01, 0.03, 0.1, 1, 100)]
    sizes = [len(choice.coded.payload) for choice in choices]
    # What is chosen first changes what later steps cost: not quite monotone with stages or context.
    assert all(later <= 1.03 * earlier for earlier, later in pairwise(sizes))
    assert sizes[-1] < sizes[0] or isinstance(model, Fixed)
    assert len(choices[0].maps) == len(source.layout)
    assert len(choices[-1].maps) == 1


def test_stages_stop_where_the_next_does_not_pay(vq_catalog: Path) -> None:
    """Fixed length: a stage costs the same whatever it says, so what it must bring is known."""
    tokenizer = Tokenizer.load(vq_catalog / "codecs/tokenizers/rvq/tokenizer.safetensors")
    source = of(tokenizer, 0.3 * torch.randn(1, 5, *SIZE, generator=torch.Generator().manual_seed(1)))
    model, nearest = Fixed.load(None, tokenizer), [part[0] for part in tokenizer.quantize(source.features)]
    rest = [distance(source, nearest[:count]) for count in (1, 2, 3)]
    bits = [8 * len(model.code(source.layout.first(n), nearest[:n], {}).payload) for n in (1, 2, 3)]
    second, third = ((rest[i] - rest[i + 1]) / (bits[i + 1] - bits[i]) for i in (0, 1))
    assert second > third > 0  # what a bit of these stages brings
    for weight, count in ((0.9 * third, 3), (1.1 * third, 2), (0.9 * second, 2), (1.1 * second, 1)):
        assert len(choose(model, source, weight).maps) == count
    assert len(choose(model, source, 1e-9, levels=2).maps) == 2


class _Line(BaseTokenizer):
    """Two codewords on a line."""

    factor, grids, codebooks = 1, (GridSpec("line", 1),), (torch.tensor([[-0.1], [0.1]]),)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def paint(self, embeddings: Any, present: Any = ()) -> torch.Tensor:
        raise NotImplementedError


class _Recorded(IndexModel):
    """Two steps; the second's weights depend on what the first chose."""

    @classmethod
    def load(cls, weights: Path | None, tokenizer: BaseTokenizer) -> Self:
        return cls()

    def walk(self, layout: Layout) -> Walk:
        grid = layout.grids[0]
        first = yield Step(grid, torch.tensor([0]), torch.tensor([[1.0, 3.0]], dtype=torch.float64))
        second = torch.tensor([[1.0, 1.0 + 14.0 * float(first)]], dtype=torch.float64)
        yield Step(grid, torch.tensor([1]), second)


def test_later_steps_see_earlier_choices() -> None:
    source = of(_Line(), torch.zeros(1, 1, 1, 2))
    choice = cheapest(_Recorded(), source, {}, 1.0, range(1, 2))
    assert [part.tolist() for part in choice.maps] == [[[1, 1]]]
    assert choice.coded.ideal_bits["indices"] == pytest.approx(-torch.tensor([3 / 4, 15 / 16]).log2().sum().item())
    assert same(_Recorded().decode(source.layout, choice.coded.payload), choice.maps)
