"""The transformer: order of slices, causality, integers that hang on nothing, bytes there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.vq.base import BaseTokenizer, Features
from hvqbench.vq.exact_attention import EXACT_SINGLE, ExactLinear, attend, key_weights, silu_table
from hvqbench.vq.layout import ABSENT, GridSpec, Layout, Where, by_name
from hvqbench.vq.models import index_model_class, transformer_coding
from hvqbench.vq.models.slices import Mask, split, unit, window_slices
from hvqbench.vq.models.transformer import Transformer, TransformerConfig
from hvqbench.vq.models.transformer_coding import TransformerModel
from hvqbench.vq.models.transformer_exact import ExactTransformer
from hvqbench.vq.prefix import Complete, likeliest, sampled
from hvqbench.vq.walk import Step, drive, given

HEIGHT, WIDTH = 80, 150  # windows of 64 pixels, and at both edges smaller ones


class Pyramid(BaseTokenizer):
    """Random codebooks under three grids; what matters here is their shape."""

    factor = 32
    grids = tuple(GridSpec(f"f{factor}", factor) for factor in (32, 16, 8))
    digest = "toy"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.codebooks = [torch.randn(size, 3, generator=generator) for size in (32, 16, 16)]

    def encode(self, image: Tensor) -> Features:
        raise NotImplementedError

    def paint(self, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        raise NotImplementedError


class Stages(Pyramid):
    """Three stages of one size."""

    factor = 16
    grids = tuple(GridSpec(f"stage {stage}", 16) for stage in (1, 2, 3))


class Router(Pyramid):
    """A mask says at which of two granularities each square of 32 pixels is coded."""

    grids = (GridSpec("mask", 32), GridSpec("f32", 32, Where("mask", (0,))), GridSpec("f16", 16, Where("mask", (1,))))

    def __init__(self) -> None:
        super().__init__()
        self.codebooks = [torch.zeros(3, 0), *self.codebooks[:2]]


def network(tokenizer: BaseTokenizer, mask: Mask = "block", **shape: object) -> Transformer:
    """An untrained one that has a lot to say."""
    torch.manual_seed(0)
    values = {"width": 32, "layers": 2, "heads": 2, "hidden": 64, "window": 64} | shape
    model = Transformer(TransformerConfig.of(tokenizer, mask=mask, **values))  # type: ignore[arg-type]
    model.start([torch.arange(len(book)) for book in tokenizer.codebooks], list(tokenizer.codebooks))
    with torch.no_grad():
        for head in model.head:
            head.weight.normal_(std=0.3)  # type: ignore[union-attr, operator]
        for block in model.blocks:
            block.scale.copy_(torch.tensor([3.0, 20.0]))  # type: ignore[union-attr, operator]
    return model.eval()


def coded(tokenizer: BaseTokenizer, exact: bool | None = None, **shape: object) -> TransformerModel:
    return TransformerModel(ExactTransformer(network(tokenizer, **shape), list(tokenizer.codebooks), exact))  # type: ignore[arg-type]


def maps_of(layout: Layout, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sent: dict[str, Tensor] = {}
    for grid in layout.grids:
        exists = layout.positions(grid, sent)
        sent[grid.name] = grid.empty()
        sent[grid.name][exists] = torch.randint(0, grid.codewords, (len(exists),), generator=generator)
    return layout.maps(sent)


def steps_of(model: TransformerModel, layout: Layout, maps: list[Tensor], at_once: bool) -> list[tuple[Tensor, Tensor]]:
    known = by_name(layout, maps)
    walk = model._walk(layout, known) if at_once else model.walk(layout)
    return [(step.positions, step.weights) for step, _ in drive(walk, given(known))]


def equal(left: list[tuple[Tensor, Tensor]], right: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = zip(left, right, strict=True)
    return all(torch.equal(a, b) and torch.equal(v, w) for (a, v), (b, w) in pairs)


def test_slices_tile_a_window_and_pair_within_a_unit() -> None:
    slices = window_slices(((4, 4), (8, 8)), (4, 8))
    assert [part.number for part in slices] == list(range(12))
    assert slices[1].positions.tolist() == [1, 3, 9, 11]
    assert slices[1].before.tolist() == [0, 2, 8, 10]  # type: ignore[union-attr]
    assert slices[2].before.tolist() == [1, 3, 9, 11]  # type: ignore[union-attr]
    assert slices[4].before is None
    assert slices[8].positions.tolist() == [8, 12, 24, 28, 40, 44, 56, 60]  # second row of a 2×4 unit
    assert (slices[0].stop, slices[1].start, slices[-1].stop) == (1, 1, 1 + 12 + 64)
    with pytest.raises(HvqbenchError, match="12 slices"):
        unit(12)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 3), (5, 2), (7, 9)])
def test_at_an_edge_every_position_has_one_slice_and_asks_with_an_earlier_one(size: tuple[int, int]) -> None:
    slices = window_slices((size,), (16,))
    owner = torch.full((size[0] * size[1],), -1)
    for part in slices:
        assert (owner[part.positions] == -1).all()
        owner[part.positions] = part.number
        if part.before is not None:
            assert (owner[part.before] >= 0).all()  # so of a slice before
            assert (owner[part.before] < part.number).all()
            place = torch.stack([part.positions // size[1], part.positions % size[1]])
            source = torch.stack([part.before // size[1], part.before % size[1]])
            assert torch.equal(place // 4, source // 4)
    assert (owner >= 0).all()


def test_windows_cover_an_image_once() -> None:
    parts = split([(5, 9), (10, 18)], [4, 8], 200)
    assert sorted({part.sizes[0] for part in parts}) == [(1, 1), (1, 4), (4, 1), (4, 4)]
    assert max(len(part) for part in parts) == 2  # 80 positions each
    for level, count in ((0, 45), (1, 180)):
        seen = torch.cat([part.positions[level].flatten() for part in parts])
        assert torch.equal(seen.sort().values, torch.arange(count))
    corner = next(part for part in parts if part.sizes[0] == (1, 1))
    assert corner.positions[1].tolist() == [[8 * 18 + 16, 8 * 18 + 17, 9 * 18 + 16, 9 * 18 + 17]]


@pytest.mark.parametrize("mask", ["strict", "block"])
def test_a_position_sees_what_its_mask_says_and_nothing_later(mask: Mask) -> None:
    tokenizer = Pyramid()
    model, layout = coded(tokenizer, mask=mask, window=128), Layout.of(tokenizer, 128, 128)
    maps, numbers = maps_of(layout), model.slice_numbers(layout)
    before = steps_of(model, layout, maps, at_once=False)
    assert len(before) == 28
    for level, position in ((0, 4), (1, 20), (2, 77)):
        changed = [part.clone() for part in maps]
        name, slices = layout.grids[level].name, window_slices(tuple(grid.size for grid in layout.grids), (4, 8, 16))
        changed[level].view(-1)[position] ^= 1
        own = int(numbers[name][position])
        after = steps_of(model, layout, changed, at_once=False)
        differ = [(v != w).any(1) for (_, v), (_, w) in zip(before, after, strict=True)]
        assert not any(part.any() for part in differ[: own + 1])
        following = slices[own + 1]
        assert following.before is not None
        paired = following.before == position
        assert differ[own + 1][paired].all()
        # What was published shows a slice one position of the slice before; ours shows all of them.
        assert bool(differ[own + 1][~paired].any()) == (mask == "block")
        assert differ[own + 2].any()


@pytest.mark.parametrize("mask", ["strict", "block"])
def test_float_network_and_integers_agree(mask: Mask) -> None:
    tokenizer = Pyramid()
    model, layout = network(tokenizer, mask, coarse="all"), Layout.of(tokenizer, HEIGHT, WIDTH)
    maps = maps_of(layout)
    with torch.no_grad():
        expected = model.bits([part[None] for part in maps], list(tokenizer.codebooks))
    exact = TransformerModel(ExactTransformer(model, list(tokenizer.codebooks)))
    found = exact.code(layout, maps, {}).ideal_bits
    for grid, bits in zip(layout.grids, expected["indices"], strict=True):
        assert found[grid.stream] == pytest.approx(float(bits.sum()), rel=0.015)
    assert sum(found.values()) > 1.1 * sum(part.numel() * np.log2(16) for part in maps)  # it believes in something


@pytest.mark.parametrize("tokenizer", [Pyramid(), Stages(), Router()], ids=["pyramid", "stages", "masks"])
@pytest.mark.parametrize("mask", ["strict", "block"])
def test_one_pass_and_slice_by_slice_give_the_same_integers(tokenizer: BaseTokenizer, mask: Mask) -> None:
    model, layout = coded(tokenizer, mask=mask), Layout.of(tokenizer, HEIGHT, WIDTH)
    maps = maps_of(layout)
    assert any(bool((part == ABSENT).any()) for part in maps) == isinstance(tokenizer, Router)
    steps = steps_of(model, layout, maps, at_once=True)
    assert equal(steps, steps_of(model, layout, maps, at_once=False))
    payload = model.code(layout, maps, {}).payload
    assert all(torch.equal(*pair) for pair in zip(model.decode(layout, payload), maps, strict=True))


def test_integers_hang_on_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on threads, on the type that products run on, on caches that are made again, on other windows beside one."""
    tokenizer = Pyramid()
    model, layout = coded(tokenizer, exact=True), Layout.of(tokenizer, HEIGHT, WIDTH)
    maps = maps_of(layout)
    steps = steps_of(model, layout, maps, at_once=False)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(2, threads))
        assert equal(steps, steps_of(model, layout, maps, at_once=False))
    finally:
        torch.set_num_threads(threads)
    assert equal(steps, steps_of(coded(tokenizer, exact=False), layout, maps, at_once=True))
    monkeypatch.setattr(transformer_coding, "KEPT", 0)
    assert equal(steps, steps_of(model, layout, maps, at_once=False))

    alone = Layout.of(tokenizer, 64, 64)
    window = [part[: grid.height, : grid.width] for part, grid in zip(maps, alone.grids, strict=True)]
    by_position: dict[tuple[int, int, int], Tensor] = {}
    numbers = iter(drive(model.walk(layout), given(by_name(layout, maps))))
    for step, _ in numbers:
        for row, position in enumerate(step.positions.tolist()):
            key = (step.grid.level, *divmod(position, step.grid.width))
            by_position[key] = step.weights[min(row, len(step.weights) - 1)]
    for step, _ in drive(model.walk(alone), given(by_name(alone, window))):
        for row, position in enumerate(step.positions.tolist()):
            key = (step.grid.level, *divmod(position, step.grid.width))
            assert torch.equal(by_position[key], step.weights[min(row, len(step.weights) - 1)])


def test_products_are_exact_up_to_their_bound() -> None:
    """The worst input there is, along a row of weights, in float32 as in 64-bit integers."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 192, generator=generator).double() * torch.logspace(-3, 2, 40)[:, None]
    length = 2.0**11.8
    layer = ExactLinear(weight, (0, None), length, torch.float32, 1, EXACT_SINGLE)
    matrix = layer.matrix.T.double()
    worst = (matrix / matrix.square().sum(1, keepdim=True).sqrt() * (length - 14)).round()
    assert float(worst.square().sum(1).sqrt().max()) <= length
    found, expected = layer(worst.float()), worst.long() @ matrix.long().T
    assert torch.equal(found.long(), expected)
    assert float(expected.max()) > 2**22  # the room is used
    torch.testing.assert_close(
        matrix / matrix.abs().amax(1, keepdim=True), weight / weight.abs().amax(1, keepdim=True), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("keys", [1, 64, 1344, 8191])
def test_weights_of_keys_are_integers_with_exact_sums(keys: int) -> None:
    generator = torch.Generator().manual_seed(keys)
    scores = torch.rand(8, keys, generator=generator) * 40 - 20
    scores[0] = 3  # all alike: the largest sum
    weights = key_weights((scores * 2**12).round() * 2**11)
    assert torch.equal(weights, weights.round())
    assert float(weights.double().sum(1).max()) < EXACT_SINGLE
    expected = torch.exp2((scores - scores.amax(1, keepdim=True)).double())
    found = weights / weights.amax(1, keepdim=True)
    likely = expected > 0.5
    assert (found[likely] / expected[likely] - 1).abs().max() < 0.006  # twice 0.3 %


def test_key_weights_are_the_integers_that_streams_were_made_with() -> None:
    steps = torch.arange(2**15).view(-1, 1024)  # 2^-14 bit each: every fraction twice
    steps[:, 0] = 0
    exponent, fraction = (-steps >> 14) + 24 - (1024).bit_length(), -steps & 2**14 - 1
    mantissa = (fraction << 9) + (11 * fraction * (fraction - 2**14) >> 10) + 2**23
    expected = (mantissa.double() * torch.exp2((exponent - 23).double())).round()
    assert torch.equal(key_weights(-512.0 * steps).double(), expected)


@pytest.mark.parametrize("keys", [1, 2, 63, 1344, 8191])
def test_attention_is_a_mean_of_values(keys: int) -> None:
    generator = torch.Generator().manual_seed(keys)
    scores = torch.randn(1, 1, 4, keys, generator=generator).double() * 4  # in bits
    values = torch.randint(-448, 449, (1, 1, keys, 6), generator=generator)
    # As queries the scores themselves, as keys the axes.
    queries = (scores * 2**12).round().mul(2.0**11).float()
    found = attend(queries, torch.eye(keys)[None, None], values.float())
    expected = torch.softmax(scores * np.log(2), -1) @ values.double() * 16
    assert (found - expected).abs().max() < 0.05 * 448 * 16
    assert (found - expected).abs().mean() < 0.01 * 448 * 16


def test_silu_table() -> None:
    x = torch.arange(-4096, 4097).double() / 256
    assert (silu_table() / 256 - torch.nn.functional.silu(x)).abs().max() <= 0.5 / 256 + 1e-9


@pytest.mark.parametrize("size", [(16, 16), (33, 70), (130, 40)])
def test_bytes_there_and_back(size: tuple[int, int], tmp_path: Path) -> None:
    tokenizer, path = Stages(), tmp_path / "transformer.safetensors"
    network(tokenizer, slices=(16, 4, 1)).save(path, tokenizer.digest)
    model = index_model_class("transformer").load(path, tokenizer)
    layout = Layout.of(tokenizer, *size)
    maps = maps_of(layout)
    whole = model.code(layout, maps, {})
    assert 8 * len(whole.payload) <= sum(whole.ideal_bits.values()) + 8
    *prefixes, last = model.encode(layout, given(by_name(layout, maps)))
    assert last.payload == whole.payload
    for count, prefix in enumerate(prefixes, 1):
        first = layout.first(count)
        assert prefix.payload == model.code(first, maps[:count], {}).payload
        assert all(torch.equal(*pair) for pair in zip(model.decode(first, prefix.payload), maps, strict=False))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"window": 1024}, "21505 positions a window"),
        ({"window": 16}, "holds no position of 32"),
        ({"width": 36}, "no multiple of 4 x 8 heads"),
        ({"width": 512}, "too large for exact sums"),
        ({"slices": (4, 8)}, "not for 3 grids"),
        ({"factors": (32, 16, 5)}, "powers of two apart"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(shape: dict[str, object], message: str) -> None:
    config = TransformerConfig.of(Pyramid())
    with pytest.raises(HvqbenchError, match=message):
        replace(config, **shape) if "factors" in shape else TransformerConfig.of(Pyramid(), **shape)  # type: ignore[arg-type]


def test_weights_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    network(Pyramid()).save(tmp_path / "t.safetensors", "another")
    with pytest.raises(HvqbenchError, match="was trained for tokenizer another"):
        TransformerModel.load(tmp_path / "t.safetensors", Pyramid())


def test_a_damaged_payload_is_refused_or_another_picture() -> None:
    tokenizer = Pyramid()
    model, layout = coded(tokenizer, layers=1), Layout.of(tokenizer, 64, 160)
    payload, rng, outcomes = model.code(layout, maps_of(layout), {}).payload, np.random.default_rng(0), set()
    for trial in range(40):
        bad = bytearray(payload[: rng.integers(0, len(payload))] if trial % 2 else payload)
        for _ in range(trial % 5):
            if bad:
                bad[rng.integers(0, len(bad))] ^= 1 << int(rng.integers(0, 8))
        try:
            maps = model.decode(layout, bytes(bad))
        except (ValueError, AssertionError):
            outcomes.add("refused")
            continue
        outcomes.add("picture")
        pairs = zip(maps, layout.grids, strict=True)
        assert all(int(part.min()) >= 0 and int(part.max()) < grid.codewords for part, grid in pairs)
    assert "picture" in outcomes


def test_a_header_that_claims_too_much_is_refused_at_once() -> None:
    tokenizer = Pyramid()
    model, layout = coded(tokenizer), Layout.of(tokenizer, 8192, 8192)
    with pytest.raises(ValueError, match="hold no 256x256 symbols of f32"):
        model.decode(layout, bytes(40))


def test_slices_that_were_not_sent_are_completed_alike_everywhere() -> None:
    tokenizer = Pyramid()
    model, layout = coded(tokenizer), Layout.of(tokenizer, HEIGHT, WIDTH)
    maps, numbers = maps_of(layout), model.slice_numbers(layout)
    total = sum(model.config.slices)

    def prefix_of(count: int) -> bytes:
        *_, coded = model.encode(layout, given(by_name(layout, maps)), count)
        return coded.payload

    def read(payload: bytes, count: int, complete: Complete) -> list[Tensor]:
        return layout.maps(model.read(layout, payload, count, complete))

    assert model.slices(layout) == total
    assert prefix_of(total) == model.code(layout, maps, {}).payload
    assert not prefix_of(0).strip(b"\0")
    for count in (3, 7, 20):
        payload = prefix_of(count)
        found = {seed: read(payload, count, sampled(seed)) for seed in (1, 2)}
        found[0] = read(payload, count, likeliest)
        again = read(payload, count, sampled(1))
        assert all(torch.equal(*pair) for pair in zip(found[1], again, strict=True))
        for grid, part, *others in zip(layout.grids, maps, *found.values(), strict=True):
            sent = (numbers[grid.name] < count).view(grid.size)
            assert all(torch.equal(other[sent], part[sent]) for other in others)
        assert any(not torch.equal(*pair) for pair in zip(found[1], found[2], strict=True))


def test_sampling_follows_the_weights_and_does_not_hang_on_steps() -> None:
    grid = Layout.of(Pyramid(), 1024, 1024).grids[2]
    weights = torch.tensor([[1.0, 2.0, 5.0]], dtype=torch.float64)
    draw, positions = sampled(7), torch.arange(128 * 128)
    whole = draw(Step(grid, positions, weights))
    shares = torch.bincount(whole) / len(whole)
    assert torch.allclose(shares, weights[0].float() / 8, atol=0.02)
    parts = [sampled(7)(Step(grid, part, weights)) for part in positions.split(1000)]
    assert torch.equal(torch.cat(parts), whole)
    assert whole[:12].tolist() == PINNED


PINNED = [1, 2, 2, 2, 1, 2, 1, 1, 1, 2, 2, 1]
"""The first draws of seed 7: a change here changes pictures."""
