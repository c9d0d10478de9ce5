"""Training of granularities: trees of all densities, maps with absent positions, weights that code."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from hvqbench.training.granular import GranularTraining, train_granular
from hvqbench.training.quadtrees import Crops, draw_trees, flat_costs, pruned, weight_limits
from hvqbench.vq.bottleneck import BottleneckConfig
from hvqbench.vq.granular import GranularTokenizer, doubled
from hvqbench.vq.layout import ABSENT, Layout
from hvqbench.vq.models.granular_coding import GranularModel
from hvqbench.vq.painted import PainterTokenizer
from hvqbench.vq.router import cheapest_tree, shares_of


def crops(count: int) -> Crops:
    """Of 128 pixels, whose distortion is of one size below each cell, and of very different ones between them."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randint(0, 9, (count, side, side), generator=generator) for side in (4, 8, 16)]
    scale = doubled(doubled(torch.exp(3 * torch.randn(count, 4, 4, generator=generator))))
    return Crops(maps, [scale * factor for factor in (4.0, 2.0, 1.0)], torch.ones(3))


def test_the_page_names_every_key_and_its_default() -> None:
    page = (Path(__file__).parents[1] / "docs/hvq-cgic.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|([^|]*)\|", page.split("## How is it trained?")[1], re.MULTILINE)
    documented = {
        name: value
        for names, values in rows
        for name, value in zip(re.findall(r"`([a-z_]+)`", names), (values.strip() or "''").split(", "), strict=True)
    }
    fields = {field.name: field.default for field in dataclasses.fields(GranularTraining)}
    assert documented.keys() == fields.keys()
    for name, default in fields.items():
        if default not in ("", dataclasses.MISSING):
            assert tomllib.loads(f"key = {documented[name].strip('`')}")["key"] == default, name


def test_l_between_the_limits_splits_nearly_all_or_hardly_any() -> None:
    drawn = crops(8)
    low, high = weight_limits(drawn)
    for number in range(8):
        errors = [part[number] for part in drawn.errors]
        fine = [shares_of(cheapest_tree(flat_costs(errors), weight))[0] for weight in (low / 4, high * 4)]
        assert fine[0] < 0.2
        assert fine[1] > 0.9


def test_trees_are_of_all_densities() -> None:
    drawn = crops(200)
    trees, routed = draw_trees(drawn, weight_limits(drawn), np.random.default_rng(0))
    assert 0.6 < float(routed.float().mean()) < 0.8
    coarse = np.array([shares_of(tree)[0] for tree in trees])
    assert np.histogram(coarse, 4, (0, 1))[0].min() >= 10
    assert sum(bool(tree[1].all()) for tree in trees) >= 10
    maps = pruned(drawn, trees)
    for number, (first, second) in enumerate(trees):
        assert not (second & ~doubled(first)).any()
        assert torch.equal(maps[1][number], first.long())
        assert torch.equal(maps[2][number] != ABSENT, doubled(first))
        assert torch.equal(maps[3][number] != ABSENT, doubled(first))
        assert torch.equal(maps[4][number] != ABSENT, doubled(second))
        there = doubled(second)
        assert torch.equal(maps[4][number][there], drawn.maps[2][number][there])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    tokenizer = PainterTokenizer(BottleneckConfig((32, 16, 8), 24, 4, 16, 12, blocks_in=1, blocks_out=1))
    tokenizer.codebooks.normal_()
    tokenizer.save(tmp_path / "tokenizer/tokenizer.safetensors")
    lines = ['tokenizer = "tokenizer"', 'model = "granular"', "steps = 4", "batch = 3", "crop = 128", "crops = 8"]
    lines += ["width = 8", "z_channels = 2", "split_width = 8", "log_every = 2"]
    (tmp_path / "train.toml").write_text("\n".join(lines) + "\n")
    return tmp_path / "train.toml"


def test_training_makes_weights_that_code_and_goes_on_where_it_stopped(
    config: Path, photos: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    path = train_granular(config, photos, tmp_path / "out", cache=cache)
    tokenizer = GranularTokenizer(PainterTokenizer.load(tmp_path / "tokenizer/tokenizer.safetensors"))
    model = GranularModel.load(path, tokenizer)
    assert len(model.sensitivity) == 3
    assert min(model.sensitivity) > 0
    with torch.no_grad():
        maps = tokenizer.quantize(torch.randn(1, 32, 8, 8))
    layout, single = Layout.of(tokenizer, 64, 64), [part[0] for part in maps]
    coded = model.code(layout, single, model.side(tokenizer.embed(maps)))
    assert all(torch.equal(*pair) for pair in zip(model.decode(layout, coded.payload), single, strict=True))
    assert "L from nearly all split to hardly any" in (tmp_path / "out/README.md").read_text()
    rows = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert {"f32", "split_32", "f16", "split_16", "f8", "z", "saved_of_static_percent"} <= set(rows[-1])
    stamp = next(cache.iterdir()).stat().st_mtime_ns
    train_granular(config, photos, tmp_path / "out", cache=cache, steps=6)
    assert next(cache.iterdir()).stat().st_mtime_ns == stamp  # crops are encoded once
    steps = [json.loads(line)["step"] for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]
