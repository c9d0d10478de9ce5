"""The walk serves any grid and any index model: masks, absent positions, pyramids, prefixes, a toy of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
import toy_pyramid
from torch import Tensor

from hvqbench.adapters.vq import VQCodec
from hvqbench.catalog import load_codec
from hvqbench.vq.base import BaseTokenizer, Features
from hvqbench.vq.choose import Source, refined
from hvqbench.vq.features import Assembly, mapped, part_of
from hvqbench.vq.layout import ABSENT, GridSpec, Layout, Where, by_name
from hvqbench.vq.models.base import IndexModel
from hvqbench.vq.models.hyperprior_coding import HyperpriorModel
from hvqbench.vq.models.pyramid import Hyperpriors, upsampled
from hvqbench.vq.models.static import Fixed, Huffman, Static, load_counts, save_counts
from hvqbench.vq.prefix import completion
from hvqbench.vq.tiling import scaled, windows
from hvqbench.vq.walk import Step, Walk, drive, given

HEIGHT, WIDTH = 70, 130


class Neighbour(IndexModel):
    """A toy autoregressive model: every index is expected to be its left neighbour's, with the price of a few bits."""

    needs_weights = False

    @classmethod
    def load(cls, weights: Path | None, tokenizer: BaseTokenizer) -> Self:
        return cls()

    def walk(self, layout: Layout) -> Walk:
        sent: dict[str, Tensor] = {}
        for grid in layout.grids:
            sent[grid.name], left = grid.empty(), ABSENT
            for position in layout.positions(grid, sent).split(1):
                weights = torch.ones(1, grid.codewords, dtype=torch.float64)
                if left != ABSENT:
                    weights[0, left] = grid.codewords
                symbols = yield Step(grid, position, weights)
                sent[grid.name][position], left = symbols, int(symbols)


class Pyramid(toy_pyramid.Pyramid):
    """With smaller codebooks, and features of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.codebooks = [torch.randn(size, 3, generator=generator) for size in (32, 16, 16)]

    def encode(self, image: Tensor) -> Features:
        return {"image": image, "means": super().encode(image)}

    def target(self, features: Features, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        return super().target(features["means"], embeddings)


class Router(Pyramid):
    """Each square of 32 pixels is painted at one of three granularities, which a mask says."""

    grids = (
        GridSpec("mask", 32),
        GridSpec("f32", 32, Where("mask", (0,))),
        GridSpec("f16", 16, Where("mask", (1,))),
        GridSpec("f8", 8, Where("mask", (2,))),
    )

    def __init__(self) -> None:
        super().__init__()
        self.codebooks = [torch.zeros(3, 0), *self.codebooks]

    def paint(self, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        size = [side * 32 for side in embeddings[0].shape[-2:]]
        return sum(upsampled(part, size) for part in embeddings[1:])  # type: ignore[return-value]

    def route(self, image: Tensor) -> list[Tensor]:
        """Mask by variance, and the nearest codewords where it says so."""
        spread = torch.nn.functional.avg_pool2d(image.square().mean(1), 32)
        mask = (spread > spread.median()).long() + (spread > spread.quantile(0.8)).long()
        maps = [mask]
        for level, spec in enumerate(self.grids[1:], 1):
            means = torch.nn.functional.avg_pool2d(image, spec.factor).permute(0, 2, 3, 1)
            nearest = torch.cdist(means, self.codebooks[level]).argmin(-1)
            maps.append(nearest.where(upsampled(mask, means.shape[1:3]) == level - 1, ABSENT))
        return maps


@pytest.fixture
def image() -> Tensor:
    from skimage.data import astronaut

    pixels = torch.from_numpy(astronaut()[:96, :160]).permute(2, 0, 1)[None]
    return pixels.float() / 127.5 - 1


def models(tokenizer: BaseTokenizer, folder: Path) -> list[IndexModel]:
    counts = [torch.arange(len(codebook)) + 1 for codebook in tokenizer.codebooks]
    path = folder / "frequencies.safetensors"
    save_counts(path, counts, tokenizer.digest)
    assert all(torch.equal(row, own + 1) for row, own in zip(load_counts(path, tokenizer), counts, strict=True))
    return [Fixed.load(None, tokenizer), Neighbour(), *(kind.load(path, tokenizer) for kind in (Huffman, Static))]


def hyperpriors(tokenizer: BaseTokenizer, path: Path, conditional: bool, context: bool) -> HyperpriorModel:
    torch.manual_seed(0)
    model = Hyperpriors.of(tokenizer, conditional, width=8, z_channels=2, context=context)
    model.start([torch.ones(len(book)) for book in tokenizer.codebooks], list(tokenizer.codebooks))
    with torch.no_grad():
        for part in model:
            part.head.weight.normal_(std=0.2)
            part.analysis[-1].weight.mul_(20)  # type: ignore[union-attr, operator]
            for own in part.context if part.config.context or part.config.given else ():
                own.out.weight.normal_(std=0.2)  # type: ignore[union-attr, operator]
    model.save(path, tokenizer.digest)
    return HyperpriorModel.load(path, tokenizer)


def same(maps: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(maps) == len(others) and all(torch.equal(*pair) for pair in zip(maps, others, strict=True))


def test_drive_names_every_step_once_and_ends() -> None:
    def walk() -> Walk:
        seen.append((yield first))
        seen.append((yield second))

    layout, seen = Layout.of(Pyramid(), HEIGHT, WIDTH), []
    first, second = (Step(grid, torch.tensor([0]), torch.ones(1, 4)) for grid in layout.grids[:2])
    named = list(drive(walk(), lambda step: torch.tensor([step.grid.level + 5])))
    assert [step for step, _ in named] == [first, second]
    assert seen == [torch.tensor([5]), torch.tensor([6])]
    assert list(drive((_ for _ in ()), given({}))) == []  # type: ignore[arg-type]


def test_layout_follows_from_the_size_alone() -> None:
    layout = Layout.of(Pyramid(), HEIGHT, WIDTH)
    assert [(grid.name, grid.size, grid.codewords) for grid in layout.grids] == [
        ("f32", (3, 5), 32),
        ("f16", (6, 10), 16),
        ("f8", (12, 20), 16),
    ]
    assert [grid.stream for grid in layout.grids] == ["f32", "f16", "f8"]


def test_a_pyramid_goes_through_every_index_model_and_its_first_grids_alone(image: Tensor, tmp_path: Path) -> None:
    tokenizer = Pyramid()
    layout, maps = Layout.of(tokenizer, 96, 160), [part[0] for part in tokenizer.quantize(tokenizer.encode(image))]
    for model in models(tokenizer, tmp_path):
        payloads = [coded.payload for coded in model.encode(layout, given(by_name(layout, maps)))]
        assert same(model.decode(layout, payloads[-1]), maps)
        assert same(model.decode(layout.first(2), payloads[-1]), maps[:2])
        assert same(model.decode(layout.first(2), payloads[1]), maps[:2])
        assert list(model.code(layout, maps, {}).ideal_bits) == ["f32", "f16", "f8"]


@pytest.mark.parametrize(("conditional", "context"), [(True, False), (True, True), (False, True), (False, False)])
def test_a_hyperprior_over_a_pyramid(image: Tensor, tmp_path: Path, conditional: bool, context: bool) -> None:
    """Exact, stage by stage as the float networks say, and any prefix decodes."""
    tokenizer = Pyramid()
    model = hyperpriors(tokenizer, tmp_path / "hyperprior.safetensors", conditional, context)
    maps = tokenizer.quantize(tokenizer.encode(image))
    layout, single = Layout.of(tokenizer, 96, 160), [part[0] for part in maps]
    coded = model.code(layout, single, model.side(tokenizer.embed(maps)))
    assert same(model.decode(layout, coded.payload), single)
    assert same(model.decode(layout.first(2), coded.payload), single[:2])
    assert list(coded.ideal_bits) == ["z", "f32", "f16", "f8"]
    floating = Hyperpriors.load(tmp_path / "hyperprior.safetensors")[0]
    with torch.no_grad():
        bits = floating.bits(maps, tokenizer.codebooks)
    assert coded.ideal_bits["z"] == pytest.approx(float(bits["z"]), rel=0.01)
    for name, costs in zip(names(layout), bits["indices"], strict=True):
        assert coded.ideal_bits[name] == pytest.approx(float(costs.sum()), rel=0.02)

    # What a coarser grid holds changes the bits of a finer one exactly if it is told of it.
    other = [maps[0].flip(-1), *maps[1:]]
    for part in floating:
        part.analysis[-1].weight.data.zero_()  # type: ignore[union-attr, operator]
    with torch.no_grad():
        before, after = (floating.bits(these, tokenizer.codebooks)["indices"][2] for these in (maps, other))
    assert torch.equal(before, after) != conditional


def test_rate_control_over_a_pyramid(image: Tensor, tmp_path: Path) -> None:
    tokenizer = Pyramid()
    model = hyperpriors(tokenizer, tmp_path / "hyperprior.safetensors", True, True)
    source = Source(tokenizer, Layout.of(tokenizer, 96, 160), tokenizer.encode(image))
    side = model.side(tokenizer.embed(tokenizer.quantize(source.features)))
    choices = [refined(model, source, side, weight, range(1, 4)) for weight in (1e-9, 0.01, 1.0)]
    assert same(choices[0].maps, [part[0] for part in tokenizer.quantize(source.features)])
    sizes = [len(choice.coded.payload) for choice in choices]
    assert sizes == sorted(sizes, reverse=True)
    for choice in choices:
        assert same(model.decode(source.layout.first(len(choice.maps)), choice.coded.payload), choice.maps)


def test_masks_say_which_positions_exist(image: Tensor, tmp_path: Path) -> None:
    tokenizer = Router()
    tokenizer.digest = "router"
    layout, maps = Layout.of(tokenizer, 96, 160), [part[0] for part in tokenizer.route(image)]
    assert all(len((maps[0] == symbol).nonzero()) for symbol in range(3))
    absent = [int((part == ABSENT).sum()) for part in maps]
    assert absent[0] == 0
    assert all(absent[1:])
    for model in models(tokenizer, tmp_path):
        coded = model.code(layout, maps, {})
        assert same(model.decode(layout, coded.payload), maps)
        assert list(coded.ideal_bits) == ["mask", "f32", "f16", "f8"]  # its own line in the ledger
    fixed = 2 * 15 + 5 * int((maps[1] >= 0).sum()) + 4 * int((maps[2] >= 0).sum()) + 4 * int((maps[3] >= 0).sum())
    assert len(models(tokenizer, tmp_path)[0].code(layout, maps, {}).payload) == -(-fixed // 8)

    picture = tokenizer.decode([part[None] for part in maps])
    coarse = (maps[0] == 0).nonzero()[0]
    square = picture[0, :, 32 * coarse[0] : 32 * coarse[0] + 32, 32 * coarse[1] : 32 * coarse[1] + 32]
    assert torch.equal(square, square[:, :1, :1].expand_as(square))


def test_what_was_not_sent_is_completed_by_the_model(image: Tensor, tmp_path: Path) -> None:
    tokenizer = Pyramid()
    layout, maps = Layout.of(tokenizer, 96, 160), [part[0] for part in tokenizer.quantize(tokenizer.encode(image))]
    *_, static = models(tokenizer, tmp_path)
    payload = static.code(layout.first(2), maps[:2], {}).payload

    def completed(seed: int | None) -> list[Tensor]:
        return layout.maps(static.read(layout, payload, 2, completion(seed)))

    assert same(completed(None)[:2], maps[:2])
    assert (completed(None)[2] == 15).all()  # the most frequent
    assert same(completed(7), completed(7))
    assert not same(completed(7), completed(8))
    drawn = torch.bincount(completed(7)[2].flatten(), minlength=16)
    assert abs(float((drawn * torch.arange(16)).sum() / drawn.sum()) - 10) < 1  # as frequent as 2, 3, … 17


def test_features_of_windows_are_those_of_the_whole(image: Tensor) -> None:
    tokenizer = Pyramid()
    assembly = Assembly((3, 5))
    for window in windows(tokenizer, (3, 5), 64):
        assembly.add(window, tokenizer.encode(image[..., *scaled(window.seen, 32)]))
    whole, found = tokenizer.encode(image), assembly.features()
    assert torch.allclose(found["image"], whole["image"])
    assert all(torch.allclose(*pair) for pair in zip(found["means"], whole["means"], strict=True))
    part = part_of(whole, (slice(1, 2), slice(2, 4)), 3)
    assert torch.equal(part["means"][2], whole["means"][2][..., 4:8, 8:16])
    with pytest.raises(TypeError, match="not str"):
        mapped("latent", lambda tensor: tensor)


def test_an_index_model_of_ones_own_is_one_class_and_one_line(load: Callable[[str], VQCodec], tmp_path: Path) -> None:
    """Encoding, decoding, rate control and fallbacks follow from its walk."""
    toml = Path(load("rvq-fixed").spec.folder / "codec.toml").read_text()
    tokenizer = Path(load("rvq-fixed").spec.folder / "../tokenizers/rvq").resolve()
    toml = toml.replace('"fixed"', f'"{__name__}:Neighbour"').replace("../tokenizers/rvq", str(tokenizer))
    (tmp_path / "codec.toml").write_text(toml)
    codec = load_codec(str(tmp_path))
    image = np.full((64, 96, 3), 120, np.uint8)
    for point in (0, 0.02):
        stream = codec.encode(image, point)
        assert codec.digest(stream.data, codec.decode(stream.data)) == stream.digest
        assert stream.data[2] & 7 == 0  # its own mode: on a flat image it is the shortest
    assert len(codec.encode(image, 0).data) < len(load("rvq-fixed").encode(image, 0).data)


def names(layout: Layout) -> list[str]:
    return [grid.name for grid in layout.grids]
