"""Rate control of granularities: which cells are split, and which symbols are sent, given distortion + L * bits.

All is coded once as if every cell were split, which prices every index that there could be; the cheapest quadtree is
pruned from that (:mod:`hvqbench.vq.router`). Its own side information and masks then price everything again, and once
more the cheapest tree is made, kept if it costs less. Costs are code lengths of the very weights that code. Symbols are
chosen as everywhere (:mod:`hvqbench.vq.choose`), their distances in the scale of the splits' distortion. At last each z
that costs more than it saves is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from hvqbench.errors import HvqbenchError
from hvqbench.timing import span
from hvqbench.vq.choose import Cheapest, Choice, Source
from hvqbench.vq.granular import SPLIT, GranularTokenizer, doubled, presence
from hvqbench.vq.judging import Judge, Measure
from hvqbench.vq.layout import ABSENT, Layout
from hvqbench.vq.measuring import Coding, measured
from hvqbench.vq.models.base import IndexModel
from hvqbench.vq.models.granular import pooled
from hvqbench.vq.models.granular_coding import GranularModel, flag_of
from hvqbench.vq.router import Costs, Tree, cheapest_depth, cheapest_tree, patch_entropy, shares_of, tree_by_ratio
from hvqbench.vq.steering import Steering
from hvqbench.vq.walk import given

Router = Literal["rd", "entropy"]
"""``rd``: the cheapest tree. ``entropy``: as many splits as that has, but where the image's entropy is highest."""
PASSES = 2
SYMBOL_SHARE = 0.1
"""Of L, by which symbols are chosen. A symbol that is cheap is a dull one: texture goes long before squared distance
says so, while a cell that is not split has the symbol that fits it best."""


class Routing:
    """The rate control of one image at any L; what does not depend on L is computed once.

    Parameters
    ----------
    source
        Its tokenizer is the granular view of a pyramid.
    nearest
        Maps h×w of all grids where all is split.
    image
        1×3×H×W in [-1, 1], padded to the tokenizer's factor; *size* is its height and width before.
    """

    def __init__(
        self,
        model: IndexModel,
        source: Source,
        nearest: Sequence[Tensor],
        image: Tensor,
        size: tuple[int, ...],
        *,
        router: Router = "rd",
        measure: Measure = "latent",
        steering: Steering | None = None,
        tile: int | None = None,
    ) -> None:
        if not (isinstance(model, GranularModel) and isinstance(source.tokenizer, GranularTokenizer)):
            raise HvqbenchError("option router needs index_model = 'granular'; correct codec.toml")
        self.model, self.source, self.nearest, self.image, self.router = model, source, nearest, image, router
        self.steering = steering or Steering()
        embeddings = source.embed(list(nearest))
        self.full_side = model.side([part.cpu() for part in embeddings])
        self.judge = Judge(source.tokenizer, embeddings[::2], image, measure, tile)
        finest = source.tokenizer.inner.grids[-1].factor
        self.importance = self.steering.pooled(size[0], size[1], finest, source.tokenizer.factor)

    @cached_property
    def entropies(self) -> list[Tensor]:
        """Of the image, for each level that can be split."""
        factors = [spec.factor for spec in self.source.tokenizer.grids[1::2]]
        return [patch_entropy(self.image, factor).cpu() for factor in factors]

    def choose(self, weight: float, most: int, passes: int | None = None, deep: bool = False) -> Choice:
        """What to send at L = *weight*, in at most *most* grids and masks; in so many *passes*, by default two.

        *deep* keeps to all of them where fewer would cost a little less: there the rate jumps by a whole mask.
        """
        layout = self.source.layout.first(most)
        with span("routing"):
            split = {g.name: torch.full((g.height * g.width,), SPLIT) for g in layout.grids[1::2]}
            coding = self._coded(layout, split, self.full_side, weight)
            errors = self._errors(layout, coding)
            tree = self._tree(self._costs(layout, errors, coding, {}), weight, deep)
            best = self._choice(layout, tree, coding, weight)
            for _ in range((passes or PASSES) - 1):
                coding = self._coded(layout, split, self._merged(best), weight)
                tree = self._tree(self._costs(layout, errors, coding, best.coding.odds), weight, deep)
                if all(torch.equal(*pair) for pair in zip(tree, best.tree, strict=True)):
                    break
                best = min(best, self._choice(layout, tree, coding, weight), key=lambda routed: routed.cost)
            return self._final(best, weight)

    def coded_by(self, model: IndexModel, choice: Choice, weight: float) -> Choice:
        """What was chosen, coded by another *model*, which sends nothing of its own."""
        coded = model.code(self.source.layout.first(len(choice.maps)), choice.maps, {})
        saved = len(choice.coded.payload) - len(coded.payload)
        return Choice(choice.maps, coded, choice.cost - weight * 8 * saved)

    def _tree(self, costs: Costs, weight: float, deep: bool) -> Tree:
        levels = len(costs.bits)
        shares = self.steering.shares
        if levels == 1:
            return []
        if shares is None:
            tree = cheapest_tree(costs, weight) if deep else cheapest_depth(costs, weight)
            if self.router == "rd":
                return tree
            shares = tuple(shares_of(tree))
        scores = self.entropies[: levels - 1] if self.router == "entropy" else _gains(costs)
        if len(shares) > levels:  # grids that are not sent cover nothing
            shares = (*shares[: levels - 1], sum(shares[levels - 1 :]))
        return tree_by_ratio(scores, shares)

    def _weights(self, layout: Layout, weight: float) -> dict[str, Tensor]:
        """L at each position of each grid, in the scale of its codebook."""
        found = {}
        for grid in layout.grids[::2]:
            scale = torch.full(grid.size, self.model.sensitivity[grid.level // 2])
            if self.importance is not None:
                scale = scale * _mean(self.importance, grid.size).float()
            found[grid.name] = SYMBOL_SHARE * weight / scale.flatten().clamp_min(1e-9)
        return found

    def _coded(self, layout: Layout, masks: Mapping[str, Tensor], side: Mapping[str, Tensor], weight: float) -> Coding:
        """The cheapest symbols for those *masks* and *side*, and what they cost."""
        choose = Cheapest(self.source, {**side, **masks}, self._weights(layout, weight))
        return measured(self.model, layout, choose)

    def _errors(self, layout: Layout, coding: Coding) -> list[Tensor]:
        """The distortion of each granularity, everywhere, by a coding of all that is split."""
        maps = [coding.sent[grid.name].view(grid.size) for grid in layout.grids]
        embeddings = self.source.embed(maps)[::2]
        return [self._weighed(self.judge.error(embeddings[: level + 1])) for level in range(len(embeddings))]

    def _costs(self, layout: Layout, errors: Sequence[Tensor], coding: Coding, masks: Mapping[int, Tensor]) -> Costs:
        """What parts of a quadtree cost by a *coding* of all that is split; *masks* by level as far as they were coded.

        Elsewhere a cell counts with the mean over those that were, or with one bit.
        """
        odds = []
        for grid in layout.grids[1::2]:
            known = masks.get(grid.level, torch.full((*grid.size, 2), math.nan))
            there = ~known.isnan().any(2)
            mean = known[there].mean(0) if there.any() else torch.ones(2)
            odds.append(torch.where(there[..., None], known, mean))
        levels = [grid.level for grid in layout.grids[::2]]
        bits, zs = ([part[level] for level in levels] for part in (coding.bits, coding.z_bits))
        return Costs(errors, bits, odds, zs)

    def _weighed(self, error: Tensor) -> Tensor:
        return error if self.importance is None else error * self.importance

    def _merged(self, routed: _Routed) -> dict[str, Tensor]:
        """Side information with every z: a tree's where it sends one, elsewhere that of the image that is all split."""
        merged = dict(self.full_side)
        for part, exists in zip(self.model.grids, _exist(routed.tree, self.source.layout.grids[0].size), strict=False):
            if part.name in routed.side:
                sent = pooled(exists[None])[0].flatten().repeat(len(part.z_weights))
                merged[part.name] = torch.where(sent, routed.side[part.name], self.full_side[part.name])
        return merged

    def _choice(self, layout: Layout, tree: Tree, coding: Coding, weight: float) -> _Routed:
        """The symbols of a tree, chosen under the side information of those that were chosen with all split."""
        count = 1 + 2 * next((n for n, mask in enumerate(tree) if not mask.any()), len(tree))
        layout = layout.first(min(count, len(layout)))
        masks = {grid.name: mask.long().flatten() for grid, mask in zip(layout.grids[1::2], tree, strict=False)}
        exist = _exist(tree, layout.grids[0].size)
        names = [grid.name for grid in layout.grids[::2]]
        before = {
            name: coding.sent[name].masked_fill(~there.flatten(), ABSENT)
            for name, there in zip(names, exist, strict=False)
        }
        side = self._side(layout, {**before, **masks}, exist)
        found = self._coded(layout, masks, side, weight)
        side = self._side(layout, found.sent, exist)
        maps = [found.sent[grid.name].view(grid.size) for grid in layout.grids]
        embeddings = self.source.embed(maps)
        error = self._weighed(self.judge.error(embeddings[::2], presence(embeddings)))
        cost = float(error.sum()) + weight * found.total
        return _Routed(layout, tree, maps, side, found, float(error.sum()), cost)

    def _side(self, layout: Layout, sent: Mapping[str, Tensor], exist: Sequence[Tensor]) -> dict[str, Tensor]:
        """Of maps (flat, by name), absent positions and all: what the model sends before them."""
        maps = []
        for grid in layout.grids:
            symbols, there = sent[grid.name].view(grid.size), exist[grid.level // 2]
            maps.append(symbols.masked_fill(~there, ABSENT))
        return dict(self.model.side([part.cpu() for part in self.source.embed(maps)]))

    def _final(self, best: _Routed, weight: float) -> Choice:
        """The bytes of a choice; each z that does not pay is dropped."""
        layout, side = best.layout, dict(best.side)
        known = {grid.name: symbols.flatten() for grid, symbols in zip(layout.grids, best.maps, strict=True)}
        with_z = measured(self.model, layout, given({**side, **known}))
        flags = {flag_of(part.name): torch.zeros(1, dtype=torch.int64) for part in self.model.grids}
        without = measured(self.model, layout, given({**side, **flags, **known}))
        for level in with_z.bits:
            gain = float(without.bits[level].sum() - with_z.bits[level].sum() - with_z.z_bits[level].sum())
            if gain <= 0:
                side |= {(name := flag_of(self.model.grids[level // 2].name)): flags[name]}
        coded = self.model.code(layout, best.maps, side)
        return Choice(best.maps, coded, best.distortion + weight * 8 * len(coded.payload))


@dataclass(frozen=True)
class _Routed:
    """A tree with its symbols."""

    layout: Layout
    tree: Tree
    maps: list[Tensor]
    side: Mapping[str, Tensor]
    coding: Coding
    distortion: float
    cost: float


def _exist(tree: Tree, size: tuple[int, int]) -> list[Tensor]:
    """Where each level of a tree exists, bool."""
    return [torch.ones(size, dtype=torch.bool), *(doubled(mask) for mask in tree)]


def _gains(costs: Costs) -> list[Tensor]:
    """For each level that can be split, by how much distortion falls for each bit of what lies below."""
    gains = []
    for level, (above, below) in enumerate(pairwise(costs.distortion)):
        size, bits = costs.bits[level].shape, costs.bits[level + 1]
        gains.append(_mean(above - below, size) / _mean(bits, size).clamp_min(1e-3))
    return gains


def _mean(values: Tensor, size: Sequence[int]) -> Tensor:
    """Of h×w, means over what lies in each of *size* cells."""
    return functional.avg_pool2d(values.double()[None, None], values.shape[0] // size[0])[0, 0]
