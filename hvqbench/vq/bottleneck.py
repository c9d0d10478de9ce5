"""The bottleneck: what lies between the painter's latent and a tokenizer's indices.

Grids are coded from coarse to fine. Grids of one factor are the stages of a residual quantizer (SoundStream, arXiv
2107.03312); a finer factor is a level of its own, whose network sees what the coarser ones decoded and codes what they
left (top-down, as VQ-VAE-2, arXiv 1906.00446). So ``grids = (16,)`` is a single scale, ``(16, 16, 16, 16)`` a residual
quantizer and ``(32, 16, 8)`` a pyramid. Any grid may be absent, from some grid on or at some positions: its entries are
zero there, and a mask says so to the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from torch import Tensor, nn

from hvqbench.errors import HvqbenchError
from hvqbench.vq.blocks import ChannelNorm, ResidualBlock
from hvqbench.vq.painter import CHANNELS, FACTOR


@dataclass(frozen=True)
class BottleneckConfig:
    """Shape of a bottleneck.

    Parameters
    ----------
    grids
        Side in pixels of the patch that one position stands for (8, 16 or 32), one for each grid in coding order.
    codewords, dim
        K and D of each grid's codebook.
    width, fine_width
        Channels at factors from 16 on, and at 8.
    blocks_in, blocks_out
        Residual blocks of each level before its target, and after its entries.
    fine_blocks
        Blocks at factor 8 before the painter, where no grid is as fine.
    """

    grids: tuple[int, ...] = (16,)
    codewords: int = 1024
    dim: int = 16
    width: int = 256
    fine_width: int = 128
    blocks_in: int = 2
    blocks_out: int = 3
    fine_blocks: int = 2

    def __post_init__(self) -> None:
        if (
            not self.grids
            or any(f not in (8, 16, 32) for f in self.grids)
            or list(self.grids) != sorted(self.grids)[::-1]
        ):
            raise HvqbenchError(
                f"grids = {list(self.grids)} are no factors 8, 16 or 32 from coarse to fine; correct them"
            )
        levels = [factor for factor, _ in self.levels]
        if any(coarse != 2 * fine for coarse, fine in pairwise(levels)):
            raise HvqbenchError(f"grids = {list(self.grids)} leave out a factor between two others; add it")

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Factor and number of grids of each level, coarse to fine."""
        return tuple((factor, len(list(same))) for factor, same in groupby(self.grids))


class Bottleneck(nn.Module):
    """The networks of all levels; without codebooks."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.config = config
        levels = [factor for factor, _ in config.levels]
        self.down, self.enter = nn.ModuleDict(), nn.ModuleDict()
        self.merge, self.leave = nn.ModuleDict(), nn.ModuleDict()
        before, width = CHANNELS, 0
        for factor in reversed(levels):
            width = self._width(factor)
            shrink = 2 if before != CHANNELS else factor // FACTOR
            first: list[nn.Module] = [nn.PixelUnshuffle(shrink)] if shrink > 1 else []
            inner = before * shrink**2
            kernel = 3 if before == CHANNELS else 1
            first = [*first, nn.Conv2d(inner, width, kernel, padding=kernel // 2)]
            self.down[str(factor)] = nn.Sequential(*first, *_blocks(width, config.blocks_in))
            before = width
        for level, factor in enumerate(levels):
            width = self._width(factor)
            joint = [nn.Conv2d(2 * width, width, 1), ResidualBlock(width)] if level else []
            self.enter[str(factor)] = nn.Sequential(*joint, ChannelNorm(width), nn.Conv2d(width, config.dim, 1))
            self.merge[str(factor)] = nn.Conv2d(config.dim + 1, width, 3, padding=1)
            self.leave[str(factor)] = nn.Sequential(
                *_blocks(width, config.blocks_out), *self._towards(levels[level + 1 :], factor)
            )

    @property
    def reach(self) -> int:
        """How many pixels around its own a vector of the painter's latent depends on entries at."""
        config = self.config
        finest = config.levels[-1][0]
        levels = sum((1 + 2 * config.blocks_out) * factor for factor, _ in config.levels)
        return levels + (2 * config.fine_blocks * FACTOR if finest > FACTOR else 0) + FACTOR

    def _width(self, factor: int) -> int:
        return self.config.fine_width if factor == FACTOR else self.config.width

    def _towards(self, finer: Sequence[int], factor: int) -> list[nn.Module]:
        """From a level at *factor* to the next one, or from the last to the painter's latent."""
        layers: list[nn.Module] = []
        target = finer[0] if finer else FACTOR
        width = self._width(factor)
        if target != factor:
            scale = factor // target
            layers += [nn.Conv2d(width, scale**2 * self._width(target), 1), nn.PixelShuffle(scale)]
            width = self._width(target)
            if not finer:
                layers += _blocks(width, self.config.fine_blocks)
        if not finer:
            layers += [ChannelNorm(width), nn.Conv2d(width, CHANNELS, 3, padding=1)]
        return layers

    def features(self, latent: Tensor) -> dict[int, Tensor]:
        """The painter's latent B×32×h×w to each level's features."""
        features, x = {}, latent
        for factor, _ in reversed(self.config.levels):
            x = features[factor] = self.down[str(factor)](x)
        return features

    def target(self, factor: int, features: Tensor, state: Tensor | None) -> Tensor:
        """What the first grid of a level quantises, B×D×h×w, given the *state* that the coarser levels left for it."""
        joint = features if state is None else torch.cat([features, state], 1)
        return self.enter[str(factor)](joint)

    def advance(self, factor: int, entries: Tensor, mask: Tensor, state: Tensor | None) -> Tensor:
        """The state for the next level, or after the last the painter's latent.

        *entries* is the sum of a level's entries B×D×h×w, zero where they are absent, and *mask* B×1×h×w is 1 where
        they are not.
        """
        merged = self.merge[str(factor)](torch.cat([entries, mask], 1))
        return self.leave[str(factor)](merged if state is None else merged + state)


def _blocks(width: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(width) for _ in range(count)]
