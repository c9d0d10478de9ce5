"""Rate control at encode time: which index to send, and how many stages, given distortion + L * bits.

Given what was sent before, the positions of a step are independent, so the best index is exact and parallel (no
trellis)::

    k* = argmin_k ||r - e_k||^2 + L * bits_k

with r the latent, less what the stages before sent. Of 1, 2, … stages the number with the least distortion + L * bits
in all is sent. What goes before the indices (z) is made for the nearest ones, then for those that were chosen, and so
on as long as that is cheaper. The decoder does not know L; sweeping it gives the rate-distortion curve of one
checkpoint (entropy-constrained VQ, Chou, Lookabaugh, Gray 1989).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hvqbench.timing import span
from hvqbench.vq.distance import embed, squared_distances
from hvqbench.vq.index_models import Coded, IndexModel, Step

BLOCK = 2**19
"""Prices held at a time: 2 MB, which a cache holds."""


@dataclass(frozen=True)
class Choice:
    """Indices S'×h×w (int64), how they are coded, and what that costs: squared distance + L * bits."""

    indices: Tensor
    coded: Coded
    cost: float


def cheapest(model: IndexModel, side: Any, latent: Tensor, codebooks: Tensor, weight: float, stages: range) -> Choice:
    """What *model* should send, and how many *stages* of it.

    Parameters
    ----------
    side
        What ``model.side`` gave.
    latent, codebooks
        1×D×h×w and S×K×D, float32, on the CPU.
    weight
        L, squared latent distance per bit, above 0. (At 0 the nearest indices of all stages are best: no search.)
    stages
        Numbers of stages to choose among, ascending.
    """
    choose = _Cheapest(latent, codebooks, weight)
    height, width = latent.shape[-2:]
    choices = []
    for stage, coded in enumerate(model.encode(side, (height, width), stages[-1], choose), 1):
        if stage not in stages:
            continue
        cost = float(choose.left.double().square().sum()) + weight * 8 * len(coded.payload)
        choices.append(Choice(choose.indices[:stage].view(stage, height, width), coded, cost))
    return min(choices, key=lambda choice: choice.cost)


def refined(model: IndexModel, side: Any, latent: Tensor, codebooks: Tensor, weight: float, stages: range) -> Choice:
    """:func:`cheapest`, and again under the side information that belongs to its own choice, as long as that pays."""
    best = cheapest(model, side, latent, codebooks, weight, stages)
    while side is not None:
        renewed = model.side(torch.stack(embed(best.indices[None], codebooks)).sum(0))
        if torch.equal(renewed, side):
            break
        side, choice = renewed, cheapest(model, renewed, latent, codebooks, weight, stages)
        if choice.cost >= best.cost:
            break
        best = choice
    return best


class _Cheapest:
    """Chooses the indices (S×N) of a latent 1×D×h×w step by step."""

    def __init__(self, latent: Tensor, codebooks: Tensor, weight: float) -> None:
        self.left = latent[0].flatten(1).T.clone()
        """What no index stands for yet (N×D)."""
        self.indices = torch.zeros(len(codebooks), len(self.left), dtype=torch.int64)
        self.codebooks, self.weight = codebooks, weight

    def __call__(self, step: Step) -> Tensor:
        with span("rdo"):
            rows, codebook = self.left[step.positions], self.codebooks[step.stage]
            size = max(1, BLOCK // len(codebook))
            parts = zip(rows.split(size), step.bits().expand(len(rows), -1).split(size), strict=True)
            prices = (squared_distances(part, codebook).add_(bits, alpha=self.weight) for part, bits in parts)
            symbols = torch.cat([price.argmin(1) for price in prices])
            self.left[step.positions] = rows - codebook[symbols]
            self.indices[step.stage, step.positions] = symbols
        return symbols
