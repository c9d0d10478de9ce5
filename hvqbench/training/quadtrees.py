"""What the index model of granularities trains on: cached crops, and quadtrees of all densities over them.

A crop is encoded once with all split. Its indices are kept, and how much worse each granularity is, place by place;
from that the router of :mod:`hvqbench.vq.router` makes a tree at any L in no time, so that masks look as they will.
Some trees are drawn at random instead, so that hyperpriors know what no router would ask, and some crops are whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvqbench.files import atomic_path
from hvqbench.training import processes
from hvqbench.training.photos import Photos
from hvqbench.vq.granular import GranularTokenizer, doubled
from hvqbench.vq.judging import Judge, Measure
from hvqbench.vq.layout import ABSENT
from hvqbench.vq.router import Costs, Tree, cheapest_tree, existing

INDEX_BITS, Z_BITS = 8.5, 3.0
"""What an index and a z count with before any model knows better."""
NOISE, REGION = 0.03, 4.0
"""Of the squared distance of entries, for their sensitivity; how much more a region of interest counts."""


@dataclass(frozen=True)
class Crops:
    """Indices (int16 N×h×w for each grid of the pyramid), the distortion of each granularity (float32 N×h×w, of cells
    of the finest grid), and what distortion a squared unit of each grid's codebook makes (one number for each)."""

    maps: list[Tensor]
    errors: list[Tensor]
    sensitivity: Tensor

    def part(self, chosen: Tensor) -> Crops:
        """Some of them."""
        return Crops([m[chosen].long() for m in self.maps], [e[chosen] for e in self.errors], self.sensitivity)


def cached(
    tokenizer: GranularTokenizer,
    data: Path,
    folder: Path,
    device: str,
    *,
    crops: int,
    crop: int,
    seed: int,
    measure: Measure,
) -> tuple[Crops, Path]:
    """*crops* random crops of *crop* pixels a side, and their file in *folder*."""
    file = folder / f"quadtrees-{tokenizer.digest[:12]}-{measure}-{crops}x{crop}-{seed}.pt"
    if processes.is_main() and not file.exists():
        found = _encoded(tokenizer, Photos(data, crop), device, crops, seed, measure)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            torch.save({"maps": found.maps, "errors": found.errors, "sensitivity": found.sensitivity}, temporary)
    processes.wait()
    return Crops(**torch.load(file, weights_only=True)), file


@torch.inference_mode()
def _encoded(
    tokenizer: GranularTokenizer, photos: Photos, device: str, crops: int, seed: int, measure: Measure
) -> Crops:
    from rich.progress import track

    rng = np.random.default_rng(seed)
    inner = tokenizer.inner
    maps: list[list[Tensor]] = [[] for _ in inner.grids]
    errors: list[list[Tensor]] = [[] for _ in inner.grids]
    sensitivities = []
    for number in track(range(crops), "crops", console=processes.console()):
        image = photos.batch(1, rng).to(device)
        features = inner.encode(image)
        indices = inner.quantize(features)
        embeddings = inner.embed(indices)
        judge = Judge(tokenizer, embeddings, image, measure)
        for level, symbols in enumerate(indices):
            maps[level].append(symbols.short().cpu())
            errors[level].append(judge.error(embeddings[: level + 1]).float()[None])
        if number < 8:
            sensitivities.append(_sensitivity(judge, embeddings, list(inner.codebooks)))
    return Crops([torch.cat(m) for m in maps], [torch.cat(e) for e in errors], torch.tensor(sensitivities).mean(0))


def _sensitivity(judge: Judge, embeddings: list[Tensor], codebooks: list[Tensor]) -> list[float]:
    """Distortion for a squared unit of each grid, by noise about as large as the way to the next entry."""
    before, found = float(judge.error(embeddings).sum()), []
    rng = torch.Generator().manual_seed(0)
    for level, codebook in enumerate(codebooks):
        spread = NOISE * codebook.var(0).sum() / codebook.shape[1]
        noise = torch.randn(embeddings[level].shape, generator=rng).to(codebook) * spread.sqrt()
        moved = [part + noise if n == level else part for n, part in enumerate(embeddings)]
        found.append((float(judge.error(moved).sum()) - before) / float(noise.square().sum()))
    return [max(value, 1e-6) for value in found]


def draw_trees(crops: Crops, limits: tuple[float, float], rng: np.random.Generator) -> tuple[list[Tree], Tensor]:
    """A tree for each crop, and which of them (bool) a router made.

    Of ten, seven are a router's at an L between *limits*, two of these with a region that matters more; two are drawn
    at random, at densities of their own, and one is split everywhere.
    """
    trees, routed = [], []
    for number in range(len(crops.maps[0])):
        kind = rng.random()
        errors = [part[number] for part in crops.errors]
        routed.append(kind < 0.7)
        if kind < 0.7:
            weight = float(np.exp(rng.uniform(*np.log(limits))))
            trees.append(cheapest_tree(flat_costs(_with_region(errors, rng) if kind < 0.2 else errors), weight))
        else:
            shapes = [part.shape[1:] for part in crops.maps[:-1]]
            densities = rng.random(len(shapes)) if kind < 0.9 else np.ones(len(shapes))
            drawn = [torch.from_numpy(rng.random(tuple(s)) < d) for s, d in zip(shapes, densities, strict=True)]
            trees.append(existing(drawn))
    return trees, torch.tensor(routed)


def flat_costs(errors: list[Tensor]) -> Costs:
    """Costs of a tree when every index costs the same, and so does every mask's symbol."""
    finest = errors[-1].shape
    count = len(errors)
    sizes = [(finest[0] >> (count - 1 - level), finest[1] >> (count - 1 - level)) for level in range(count)]
    zs = [torch.full((-(-height // 4), -(-width // 4)), Z_BITS) for height, width in sizes]
    masks = [torch.ones(*size, 2) for size in sizes[:-1]]
    return Costs(errors, [torch.full(size, INDEX_BITS) for size in sizes], masks, zs)


def weight_limits(crops: Crops) -> tuple[float, float]:
    """L between which quadtrees go from nearly all split to nearly all whole."""
    gains = []
    for above, below, symbols in zip(crops.errors, crops.errors[1:], crops.maps, strict=False):
        scale = above.shape[-1] // symbols.shape[-1]
        drop = torch.nn.functional.avg_pool2d((above - below)[:, None], scale) * scale**2
        gains.append(drop.flatten() / (4 * INDEX_BITS))
    every = torch.cat(gains).clamp_min(1e-9).log()
    low, high = every.quantile(0.03), every.quantile(0.995)
    return float(low.exp()), float(high.exp())


def pruned(crops: Crops, trees: list[Tree]) -> list[Tensor]:
    """Maps (B×h×w, int64) of all grids and masks in order, absent positions and all."""
    maps: list[Tensor] = []
    exists = torch.ones_like(crops.maps[0], dtype=torch.bool)
    for level, symbols in enumerate(crops.maps):
        maps.append(symbols.masked_fill(~exists, ABSENT))
        if level < len(trees[0]):
            split = torch.stack([tree[level] for tree in trees])
            maps.append(split.long().masked_fill(~exists, ABSENT))
            exists = doubled(split)
    return maps


def _with_region(errors: list[Tensor], rng: np.random.Generator) -> list[Tensor]:
    height, width = errors[0].shape
    top, left = rng.integers(height - height // 4), rng.integers(width - width // 4)
    bottom, right = rng.integers(top + 2, height + 1), rng.integers(left + 2, width + 1)
    weights = torch.ones(height, width)
    weights[top:bottom, left:right] = REGION
    return [part * weights for part in errors]
