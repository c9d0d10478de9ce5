"""Rate control at encode time: which symbol to send, and how many grids, given distortion + L * bits.

Given what was sent before, the positions of a step are independent, so the best index is exact and parallel (no
trellis)::

    k* = argmin_k ||t - e_k||^2 + L * bits_k

with t what the grid quantizes (:meth:`hvqbench.vq.base.BaseTokenizer.target`): of a residual quantizer the latent, less
what the stages before sent. Of 1, 2, … grids the number with the least distortion + L * bits in all is sent. What goes
before the indices (z) is made for the nearest ones, then for those that were chosen, and so on as long as that is
cheaper. The decoder does not know L; sweeping it gives the rate-distortion curve of one checkpoint (entropy-constrained
VQ, Chou, Lookabaugh, Gray 1989).

A choice also changes what all that follows costs, which a model may know to first order
(:meth:`~hvqbench.vq.models.base.IndexModel.ahead`): further passes choose again with that, around the choice before.

Where only the first slices are sent (:mod:`hvqbench.vq.prefix`), what the decoder will make of the others is known here
too, and counts as distortion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hvqbench.timing import span
from hvqbench.vq.base import BaseTokenizer, Features
from hvqbench.vq.coders import Coded
from hvqbench.vq.distance import squared_distances
from hvqbench.vq.layout import Grid, Layout
from hvqbench.vq.models.base import IndexModel
from hvqbench.vq.prefix import Complete, completed, completion
from hvqbench.vq.walk import Step

BLOCK = 2**19
"""Prices held at a time: 2 MB, which a cache holds."""


@dataclass(frozen=True)
class Prefix:
    """Only the first *slices* of all grids are sent; the decoder completes the others (with *seed*, a sample)."""

    slices: int
    seed: int | None = None


@dataclass(frozen=True)
class Choice:
    """Maps (h×w, int64) of the grids that are sent, how they are coded, and what that costs: distortion + L * bits."""

    maps: list[Tensor]
    coded: Coded
    cost: float
    prefix: Prefix | None = None


@dataclass(frozen=True)
class Source:
    """What rate control needs of an image: its tokenizer, layout and features (on the tokenizer's device)."""

    tokenizer: BaseTokenizer
    layout: Layout
    features: Features

    def target(self, maps: list[Tensor]) -> Tensor:
        """What the next grid quantizes (N×D, float32, on the CPU), when *maps* (h×w) were sent before."""
        return self.tokenizer.target(self.features, self.embed(maps))[0].flatten(1).T.cpu()

    def distortion(self, maps: list[Tensor]) -> float:
        return self.tokenizer.distortion(self.features, self.embed(maps))

    def embed(self, maps: list[Tensor]) -> list[Tensor]:
        device = self.tokenizer.codebooks[0].device
        return self.tokenizer.embed([symbols[None].to(device) for symbols in maps])


def cheapest(
    model: IndexModel,
    source: Source,
    known: Mapping[str, Tensor],
    weight: float,
    levels: Sequence[int],
    prefix: Prefix | None = None,
    ahead: Mapping[str, Tensor] | None = None,
) -> Choice:
    """What *model* should send of *source*, and how many grids.

    Parameters
    ----------
    known
        Maps that are settled (flat, by grid name): the model's side information, a mask.
    weight
        L, squared latent distance per bit. (At 0 the nearest indices of all grids are best: no search.)
    levels
        Numbers of grids to choose among, ascending.
    prefix
        Which slices are sent; all by default.
    ahead
        What entries cost later on, as :meth:`~hvqbench.vq.models.base.IndexModel.ahead` gives it.
    """
    layout, slices = source.layout.first(levels[-1]), prefix.slices if prefix else None
    choose = Cheapest(source, known, weight, ahead or {})
    name = completed(choose, model.sent(layout, slices), choose.noting(completion(prefix.seed))) if prefix else choose
    choices = []
    for level, coded in enumerate(model.encode(layout, name, slices), 1):
        if level in levels:
            maps = choose.maps(level)
            choices.append(Choice(maps, coded, source.distortion(maps) + weight * 8 * len(coded.payload), prefix))
    return min(choices, key=lambda choice: choice.cost)


def refined(
    model: IndexModel,
    source: Source,
    side: Mapping[str, Tensor],
    weight: float,
    levels: Sequence[int],
    prefix: Prefix | None = None,
    passes: int = 0,
) -> Choice:
    """:func:`cheapest`, and again under the side information that belongs to its own choice, as long as that pays.

    Then as often as *passes* says with a view of what follows, of which each pass trusts half as much as the one
    before: it is a slope, and codewords are far apart. What does not pay is not kept.
    """
    best = cheapest(model, source, side, weight, levels, prefix)
    while side:
        renewed = model.side([part.cpu() for part in source.embed(best.maps)])
        if all(torch.equal(renewed[name], side[name]) for name in renewed):
            break
        side = {**side, **renewed}  # of grids that were not sent it stays as it was
        choice = cheapest(model, source, side, weight, levels, prefix)
        if choice.cost >= best.cost:
            break
        best = choice
    for number in range(1, passes + 1):
        count = len(best.maps)
        slopes = model.ahead(source.layout.first(count), best.maps, prefix.slices if prefix else None)
        if not slopes:
            break
        ahead = {name: slope * 0.5**number for name, slope in slopes.items()}
        choice = cheapest(model, source, side, weight, range(count, count + 1), prefix, ahead)
        best = min(best, choice, key=lambda choice: choice.cost)
    return best


class Cheapest:
    """Names the symbols of a walk, each the cheapest of its step; *weight* is L, or L at each position by grid name."""

    def __init__(
        self,
        source: Source,
        known: Mapping[str, Tensor],
        weight: float | Mapping[str, Tensor],
        ahead: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.source, self.known, self.weight, self.ahead = source, known, weight, ahead or {}
        self.codebooks = [codebook.cpu() for codebook in source.tokenizer.codebooks]
        self.sent: dict[str, Tensor] = {}
        self.target = torch.empty(0)

    def maps(self, levels: int) -> list[Tensor]:
        """What the first *levels* grids hold."""
        grids = self.source.layout.grids[:levels]
        return [self.sent.get(grid.name, grid.empty()).view(grid.size) for grid in grids]

    def __call__(self, step: Step) -> Tensor:
        if step.grid.side:
            return self.known[step.grid.name][step.positions]
        with span("rdo"):
            self._enter(step.grid)
            if step.grid.name in self.known:
                symbols = self.known[step.grid.name][step.positions]
            else:
                rows, codebook = self.target[step.positions], self.codebooks[step.grid.level]
                bits, weight = step.bits(), 1.0
                if isinstance(self.weight, Mapping):
                    bits = bits * self.weight[step.grid.name][step.positions, None]
                else:
                    weight = self.weight
                if step.grid.name in self.ahead:
                    # |t - e|² + L·g·e is |t - L·g/2 - e|², but for a term that all entries share.
                    rows = rows - (weight / 2) * self.ahead[step.grid.name][:, step.positions].T
                size = max(1, BLOCK // len(codebook))
                parts = zip(rows.split(size), bits.expand(len(rows), -1).split(size), strict=True)
                prices = (squared_distances(part, codebook).add_(own, alpha=weight) for part, own in parts)
                symbols = torch.cat([price.argmin(1) for price in prices])
            self.sent[step.grid.name][step.positions] = symbols
        return symbols

    def noting(self, complete: Complete) -> Complete:
        """*complete*, whose symbols are remembered."""

        def noted(step: Step) -> Tensor:
            symbols = complete(step)
            if not step.grid.side:
                self._enter(step.grid)
                self.sent[step.grid.name][step.positions] = symbols
            return symbols

        return noted

    def _enter(self, grid: Grid) -> None:
        if grid.name in self.sent:
            return
        self.sent[grid.name] = grid.empty()
        if grid.name not in self.known:
            self.target = self.source.target(self.maps(grid.level))
