"""Granularities: absent positions cost nothing, streams are exact, masks and z pay, the router spends where it says."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_pyramid import Pyramid

from hvqbench.errors import HvqbenchError
from hvqbench.vq.choose import Source
from hvqbench.vq.granular import SPLIT, GranularTokenizer, doubled, presence
from hvqbench.vq.layout import ABSENT, GridSpec, Layout, by_name
from hvqbench.vq.measuring import measured
from hvqbench.vq.models.granular import GranularPrior
from hvqbench.vq.models.granular_coding import GranularModel, flag_of
from hvqbench.vq.models.static import Fixed
from hvqbench.vq.router import existing, shares_of
from hvqbench.vq.routing import Routing
from hvqbench.vq.steering import Steering, read_shares
from hvqbench.vq.walk import given
from hvqbench.vq.weights import load_weights, save_weights

HEIGHT, WIDTH = 150, 250
GOLDEN = Path(__file__).parent / "streams" / "granular"
"""A small model, codebooks, payloads and what they decode to. Made anew, only when the format changes on purpose, by
``python tests/test_granular.py``."""


@pytest.fixture(scope="module")
def image() -> Tensor:
    from skimage.data import astronaut

    pixels = torch.from_numpy(astronaut()[: 5 * 32, : 8 * 32]).permute(2, 0, 1)[None]
    return pixels.float() / 127.5 - 1


@pytest.fixture(scope="module")
def tokenizer() -> GranularTokenizer:
    return GranularTokenizer(Pyramid())


def prior_of(tokenizer: GranularTokenizer, conditional: bool = True) -> GranularPrior:
    torch.manual_seed(0)
    prior = GranularPrior.of(tokenizer, conditional, split_width=8, width=8, z_channels=2)
    books = [book.cpu() for book in tokenizer.inner.codebooks]
    prior.start([torch.arange(len(book)) for book in books], books)
    prior.sensitivity.copy_(torch.tensor([1.0, 0.3, 0.1]))
    with torch.no_grad():
        networks: Any = prior
        for part in networks.priors:
            part.head.weight.normal_(std=0.2)
            part.analysis[-1].weight.mul_(20)
            for own in part.context if part.config.given else ():
                own.out.weight.normal_(std=0.2)
        for split in networks.splits:
            split.out.weight.normal_(std=0.5)
    return prior


def model_of(tokenizer: GranularTokenizer, path: Path, conditional: bool = True) -> tuple[GranularModel, GranularPrior]:
    """Coded as it is stored."""
    prior_of(tokenizer, conditional).save(path / "granular.safetensors", tokenizer.digest)
    model = GranularModel.load(path / "granular.safetensors", tokenizer)
    return model, GranularPrior.load(path / "granular.safetensors")[0]


def random_maps(tokenizer: GranularTokenizer, image: Tensor, density: Sequence[float], seed: int = 1) -> list[Tensor]:
    """The nearest symbols of a random quadtree."""
    generator = torch.Generator().manual_seed(seed)
    maps = [part[0] for part in tokenizer.quantize(tokenizer.encode(image))]
    drawn = [torch.rand(m.shape, generator=generator) < d for m, d in zip(maps[1::2], density, strict=True)]
    first, second = existing(drawn)
    there = [torch.ones_like(first), first.new_ones(first.shape), doubled(first), doubled(first), doubled(second)]
    maps[1], maps[3] = first.long(), second.long()
    return [part.masked_fill(~exists, ABSENT) for part, exists in zip(maps, there, strict=True)]


def same(maps: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(maps) == len(others) and all(torch.equal(*pair) for pair in zip(maps, others, strict=True))


def batched(maps: Sequence[Tensor]) -> list[Tensor]:
    return [part[None] for part in maps]


def test_a_view_of_a_pyramid(tokenizer: GranularTokenizer, image: Tensor) -> None:
    layout = Layout.of(tokenizer, HEIGHT, WIDTH)
    assert [grid.name for grid in layout.grids] == ["f32", "split 32", "f16", "split 16", "f8"]
    assert [grid.size for grid in layout.grids] == [(5, 8), (5, 8), (10, 16), (10, 16), (20, 32)]
    assert [grid.where and grid.where.mask for grid in layout.grids] == [None, None, "split 32", "split 32", "split 16"]
    assert tokenizer.prefixes == (1, 3, 5)
    maps = tokenizer.quantize(tokenizer.encode(image))
    assert all((part == SPLIT).all() for part in maps[1::2])
    assert same(maps[::2], tokenizer.inner.quantize(tokenizer.encode(image)))
    assert torch.equal(tokenizer.decode(maps), tokenizer.inner.decode(maps[::2]))


def test_what_is_absent_is_painted_as_absent_and_targets_know(
    tokenizer: GranularTokenizer, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    maps = random_maps(tokenizer, image, (0.5, 0.5))
    embeddings = tokenizer.embed(batched(maps))
    inner = tokenizer.inner
    paint, target = inner.paint, inner.target

    def painted(parts: Sequence[Tensor], present: Any) -> Tensor:
        seen.append(present)
        return paint(parts)

    def targeted(features: Any, parts: Sequence[Tensor], present: Any) -> Tensor:
        seen.append(present)
        return target(features, parts)

    monkeypatch.setattr(inner, "paint", painted)
    monkeypatch.setattr(inner, "target", targeted)
    tokenizer.decode(batched(maps))
    tokenizer.target(tokenizer.encode(image), embeddings[:4])
    assert len(seen) == 2
    for present in [*seen, presence(embeddings)]:
        assert present[0] is None
        assert torch.equal(present[1][0, 0], maps[2] != ABSENT)
        assert torch.equal(present[2][0, 0], maps[4] != ABSENT)


def test_only_pyramids_have_granularities() -> None:
    flat = Pyramid()
    flat.grids = (GridSpec("a", 16), GridSpec("b", 16), GridSpec("c", 8))
    with pytest.raises(HvqbenchError, match=r"\[16, 16, 8\] has no granularities: name a pyramid"):
        GranularTokenizer(flat)


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("density", [(0.5, 0.5), (0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.1, 0.9)])
def test_round_trip_with_absent_positions(
    tokenizer: GranularTokenizer, image: Tensor, tmp_path: Path, conditional: bool, density: tuple[float, float]
) -> None:
    """Exact, in the bits that the float networks say, and any prefix decodes."""
    model, floating = model_of(tokenizer, tmp_path, conditional)
    layout, maps = Layout.of(tokenizer, HEIGHT, WIDTH), random_maps(tokenizer, image, density)
    side = model.side(tokenizer.embed(batched(maps)))
    coded = model.code(layout, maps, side)
    assert same(model.decode(layout, coded.payload), maps)
    for count in (1, 3):
        assert same(model.decode(layout.first(count), coded.payload), maps[:count])
        prefix = model.code(layout.first(count), maps[:count], side)
        assert same(model.decode(layout.first(count), prefix.payload), maps[:count])
    with torch.no_grad():
        bits = floating.bits(batched(maps), tokenizer.codebooks)
    flags = sum(bool((part != ABSENT).any()) for part in maps[::2])
    assert coded.ideal_bits["z"] == pytest.approx(float(bits["z"]) + flags, rel=0.01)
    for grid, costs in zip(layout.grids, bits["indices"], strict=True):
        # Before a mask its density goes, log2(17) bits; odds of two are rougher than those of a whole codebook.
        expected, near = float(costs.sum()) + (4.0875 if grid.level % 2 else 0), 0.06 if grid.level % 2 else 0.02
        assert coded.ideal_bits.get(grid.name, 0.0) == pytest.approx(expected, rel=near, abs=0.05)


def test_absent_positions_and_their_z_cost_nothing(tokenizer: GranularTokenizer, image: Tensor, tmp_path: Path) -> None:
    model, _ = model_of(tokenizer, tmp_path)
    layout, maps = Layout.of(tokenizer, HEIGHT, WIDTH), random_maps(tokenizer, image, (0.3, 0.3))
    coding = measured(model, layout, given({**model.side(tokenizer.embed(batched(maps))), **by_name(layout, maps)}))
    for level in (0, 2, 4):
        exists = maps[level] != ABSENT
        assert (coding.bits[level][exists] > 0).all()
        assert not coding.bits[level][~exists].any()
        blocks = torch.nn.functional.max_pool2d(exists[None].float(), 4, ceil_mode=True)[0] > 0
        assert not coding.z_bits[level][~blocks].any()
        assert coding.z_bits[level][blocks].all()


@pytest.mark.parametrize("conditional", [True, False])
def test_a_z_that_is_dropped(tokenizer: GranularTokenizer, image: Tensor, tmp_path: Path, conditional: bool) -> None:
    model, _ = model_of(tokenizer, tmp_path, conditional)
    layout, maps = Layout.of(tokenizer, HEIGHT, WIDTH), random_maps(tokenizer, image, (0.5, 0.5))
    flags = {flag_of(part.name): torch.zeros(1, dtype=torch.int64) for part in model.grids}
    coded = model.code(layout, maps, {**model.side(tokenizer.embed(batched(maps))), **flags})
    assert coded.ideal_bits["z"] == 3
    assert same(model.decode(layout, coded.payload), maps)
    static = torch.arange(32).double() + 1  # the first grid knows nothing then but frequencies
    expected = -(static / static.sum()).log2()[maps[0]].sum()
    assert coded.ideal_bits["f32"] == pytest.approx(float(expected), rel=1e-4)


def routing(
    tokenizer: GranularTokenizer,
    model: GranularModel,
    image: Tensor,
    router: str = "rd",
    steering: Steering | None = None,
) -> Routing:
    features = tokenizer.encode(image)
    nearest = [part[0] for part in tokenizer.quantize(features)]
    source = Source(tokenizer, Layout.of(tokenizer, HEIGHT, WIDTH), features)
    size = (HEIGHT, WIDTH)
    return Routing(model, source, nearest, image, size, router=router, measure="painted", steering=steering)  # type: ignore[arg-type]


def tree(maps: Sequence[Tensor]) -> list[Tensor]:
    """The masks of a choice, and of what it does not send none."""
    masks = [part == SPLIT for part in maps[1::2]]
    if not masks:
        masks = [torch.zeros_like(maps[0], dtype=torch.bool)]
    return masks if len(masks) == 2 else [*masks, torch.zeros_like(doubled(masks[0]))]


def test_l_goes_from_all_split_to_none(tokenizer: GranularTokenizer, image: Tensor, tmp_path: Path) -> None:
    model, _ = model_of(tokenizer, tmp_path)
    rate = routing(tokenizer, model, image)
    choices = [rate.choose(weight, 5) for weight in (1e-5, 1e-3, 1e-2, 10.0)]
    sizes = [len(choice.coded.payload) for choice in choices]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[-1]
    assert len(choices[0].maps) == 5
    assert len(choices[-1].maps) == 1  # nothing is split, so no mask is sent
    for choice in choices:
        layout = rate.source.layout.first(len(choice.maps))
        assert same(model.decode(layout, choice.coded.payload), choice.maps)
    assert len(rate.choose(1e-5, 1).maps) == 1
    assert len(rate.choose(1e-5, 3).maps) == 3


def test_no_other_split_of_a_cell_is_cheaper_by_much(
    tokenizer: GranularTokenizer, image: Tensor, tmp_path: Path
) -> None:
    """What the router believes comes true: true files of the trees around its own cost no less."""
    model, _ = model_of(tokenizer, tmp_path)
    rate, weight = routing(tokenizer, model, image), 3e-2
    chosen = rate.choose(weight, 5)
    first, second = tree(chosen.maps)
    assert 0 < first.sum() < first.numel()
    scores = [torch.rand(m.shape, generator=torch.Generator().manual_seed(0)) for m in (first, second)]
    shares = tuple(shares_of([first, second]))
    random = routing(tokenizer, model, image, steering=Steering(shares))
    random.router = "entropy"
    random.entropies = scores
    assert random.choose(weight, 5).cost > chosen.cost
    for everywhere in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)):
        assert routing(tokenizer, model, image, steering=Steering(everywhere)).choose(weight, 5).cost > chosen.cost


@pytest.mark.parametrize("router", ["rd", "entropy"])
def test_shares_are_those_that_were_asked_for(
    tokenizer: GranularTokenizer, image: Tensor, tmp_path: Path, router: str
) -> None:
    model, _ = model_of(tokenizer, tmp_path)
    asked = read_shares("coarse=0.5, medium=0.25, fine=0.25")
    for weight in (0.0, 1e-3):
        maps = routing(tokenizer, model, image, router, Steering(asked)).choose(weight, 5).maps
        assert shares_of(tree(maps)) == pytest.approx(asked, abs=0.02)
    two = routing(tokenizer, model, image, router, Steering(asked)).choose(0.0, 3).maps
    assert shares_of(tree(two)) == pytest.approx((0.5, 0.5, 0), abs=0.02)


def test_the_entropy_router_splits_as_often_as_the_other_but_by_entropy(
    tokenizer: GranularTokenizer, image: Tensor, tmp_path: Path
) -> None:
    model, _ = model_of(tokenizer, tmp_path)
    rate = routing(tokenizer, model, image, "entropy")
    first, _ = tree(rate.choose(3e-2, 5).maps)
    entropies = rate.entropies[0]
    assert 0 < first.sum() < first.numel()
    assert entropies[first].min() >= entropies[~first].max()


def test_a_region_of_interest_gets_the_bits(tokenizer: GranularTokenizer, image: Tensor, tmp_path: Path) -> None:
    model, _ = model_of(tokenizer, tmp_path)
    weights = torch.ones(HEIGHT, WIDTH)
    weights[:96, :128] = 8.0
    plain = routing(tokenizer, model, image).choose(1.6e-2, 5)
    # At another L, such that the file is no longer than the plain one.
    steered = routing(tokenizer, model, image, steering=Steering(importance=weights)).choose(3.5e-2, 5)
    assert len(steered.coded.payload) <= len(plain.coded.payload)
    apart = [(tokenizer.decode(batched(choice.maps)) - image).abs().mean(1)[0] for choice in (plain, steered)]
    inside, outside = zip(*((e[:96, :128].mean(), e[96:].mean()) for e in apart), strict=True)
    assert inside[1] < 0.95 * inside[0]
    assert outside[1] > outside[0]
    with pytest.raises(HvqbenchError, match="has 9x7 pixels, the image 250x150"):
        routing(tokenizer, model, image, steering=Steering(importance=torch.ones(7, 9)))


def test_a_z_that_does_not_pay_is_not_sent(tokenizer: GranularTokenizer, image: Tensor, tmp_path: Path) -> None:
    """Of this untrained model none does: the file is as short as without."""
    model, _ = model_of(tokenizer, tmp_path)
    chosen = routing(tokenizer, model, image).choose(2e-3, 5)
    layout = Layout.of(tokenizer, HEIGHT, WIDTH).first(len(chosen.maps))
    side = model.side(tokenizer.embed(batched(chosen.maps)))
    on = model.code(layout, chosen.maps, side)
    off = {flag_of(part.name): torch.zeros(1, dtype=torch.int64) for part in model.grids}
    assert len(chosen.coded.payload) <= len(on.payload)
    assert len(chosen.coded.payload) <= len(model.code(layout, chosen.maps, {**side, **off}).payload)


def test_at_fixed_length_masks_are_raw(tokenizer: GranularTokenizer, image: Tensor) -> None:
    layout, maps = Layout.of(tokenizer, HEIGHT, WIDTH), random_maps(tokenizer, image, (0.5, 0.5))
    coded = Fixed.load(None, tokenizer).code(layout, maps, {})
    assert coded.ideal_bits["split 32"] == 40
    assert coded.ideal_bits["split 16"] == 4 * int(maps[1].sum())
    assert same(Fixed.load(None, tokenizer).decode(layout, coded.payload), maps)


@pytest.mark.parametrize("name", ["conditional", "independent"])
def test_golden_payloads(name: str) -> None:
    """What this version's ancestors wrote still decodes to the same symbols, and is written again in the same bytes."""
    books, _ = load_weights(GOLDEN / "codebooks.safetensors")
    tokenizer = GranularTokenizer(Pyramid())
    tokenizer.inner.codebooks = [books[str(number)] for number in range(3)]
    model = GranularModel.load(GOLDEN / f"{name}.safetensors", tokenizer)
    layout = Layout.of(tokenizer, HEIGHT, WIDTH)
    for entry in json.loads((GOLDEN / "record.json").read_text())[name]:
        payload = base64.b64decode(entry["payload"])
        sent = model.read(layout, payload)
        assert [part.tolist() for part in layout.maps(sent)] == entry["maps"]
        *_, again = model.encode(layout, given(sent))
        assert again.payload == payload


def write_golden() -> None:
    from skimage.data import astronaut

    picture = torch.from_numpy(astronaut()[: 5 * 32, : 8 * 32]).permute(2, 0, 1)[None].float() / 127.5 - 1
    tokenizer = GranularTokenizer(Pyramid())
    books = {str(number): book for number, book in enumerate(tokenizer.inner.codebooks)}
    save_weights(GOLDEN / "codebooks.safetensors", books, {})
    record: dict[str, list[object]] = {}
    layout = Layout.of(tokenizer, HEIGHT, WIDTH)
    for name in ("conditional", "independent"):
        prior_of(tokenizer, name == "conditional").save(GOLDEN / f"{name}.safetensors", tokenizer.digest)
        model = GranularModel.load(GOLDEN / f"{name}.safetensors", tokenizer)
        for density, dropped in (((0.5, 0.5), 0), ((0.0, 0.0), 2), ((0.2, 0.9), 4)):
            maps = random_maps(tokenizer, picture, density)
            flag = {flag_of(model.grids[dropped // 2].name): torch.zeros(1, dtype=torch.int64)}
            coded = model.code(layout, maps, {**model.side(tokenizer.embed(batched(maps))), **flag})
            entry = {"payload": base64.b64encode(coded.payload).decode(), "maps": [part.tolist() for part in maps]}
            record.setdefault(name, []).append(entry)
    (GOLDEN / "record.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    write_golden()
