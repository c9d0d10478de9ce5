"""What a decoder makes of slices that were not sent: the likeliest symbols, or a sample that a seed repeats anywhere.

Weights are the same on every machine, and so are these random numbers: Philox (Salmon et al., SC 2011) counts its way
through a grid's positions, so that a draw depends on seed, grid and position, and not on the order or size of steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hvqbench.vq.layout import Grid
from hvqbench.vq.walk import Name, Step

Complete = Callable[[Step], Tensor]
"""Names the symbols (n, int64) of a step that was not sent."""
IsSent = Callable[[Step], bool]
"""Whether a step's symbols are sent."""


def likeliest(step: Step) -> Tensor:
    """The codewords of largest weight, of equals the first."""
    return step.weights.argmax(1).expand(len(step.positions))


def sampled(seed: int) -> Complete:
    """Draws from the weights; *seed* is from 0 to 2^32 - 1."""
    draws: dict[str, Tensor] = {}

    def complete(step: Step) -> Tensor:
        if step.grid.name not in draws:
            draws[step.grid.name] = _uniform(seed, step.grid)
        # Weights add up exactly, so these heights are the same in any order; a draw lies below the last of them.
        heights = step.weights.cumsum(1).expand(len(step.positions), -1)
        targets = draws[step.grid.name][step.positions, None] * heights[:, -1:]
        return torch.searchsorted(heights.contiguous(), targets, right=True)[:, 0].clamp_max(heights.shape[1] - 1)

    return complete


def _uniform(seed: int, grid: Grid) -> Tensor:
    """A number in [0, 1) for each position of *grid* (float64, multiples of 2^-53)."""
    words = np.random.Philox(key=[seed, grid.level + (int(grid.side) << 32)]).random_raw(grid.height * grid.width)
    return torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def completion(seed: int | None) -> Complete:
    """:func:`sampled` with that seed; :func:`likeliest` without one."""
    return likeliest if seed is None else sampled(seed)


def completed(name: Name, sent: IsSent, complete: Complete) -> Name:
    """*name* for the steps that are *sent*, and *complete* for all others."""
    return lambda step: name(step) if sent(step) else complete(step)
