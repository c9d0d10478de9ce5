"""A tokenizer's grids in training: codebooks that move, straight-through entries, and grids that are left out.

The gradient passes straight through the quantizer (VQ-VAE, arXiv 1711.00937): of a residual level the sum of the
entries counts as its first target plus a constant. Codebooks begin one after the other, each by k-means over the
targets of the steps before; until then a level passes its target on unquantised, and a later residual stage adds
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hvqbench.training.quantizer import CodebookTrainer
from hvqbench.vq.distance import nearest
from hvqbench.vq.painted import Descent, PainterTokenizer

COLLECTED_PER_CODEWORD = 8


@dataclass(frozen=True)
class Quantized:
    """The painter's latent made of the entries, and the commitment.

    And the indices B×h×w of each grid that is ready, and what the first grid of each level quantised (B×D×h×w).
    """

    latent: Tensor
    commitment: Tensor
    indices: list[Tensor]
    targets: list[Tensor]


class Grids:
    """The codebooks of *tokenizer* in training."""

    def __init__(self, tokenizer: PainterTokenizer, memory: float) -> None:
        """Moving averages remember *memory* vectors for each codeword, however many a step brings."""
        self.tokenizer = tokenizer
        self.memory = memory * tokenizer.config.codewords
        self.codebooks = [CodebookTrainer(codebook, decay=0.99) for codebook in tokenizer.codebooks]
        self.ready = [False] * len(self.codebooks)
        self.collected: list[list[Tensor]] = [[] for _ in self.codebooks]

    def quantize(
        self, latent: Tensor, present: Sequence[Tensor | None], revive: bool = False, learn: bool = True
    ) -> Quantized:
        """Quantise the painter's latent B×32×h×w; *present* is which positions of each grid are sent (B×1×h×w)."""
        walk = Descent(self.tokenizer.bottleneck, latent)
        commitments, number = [], 0
        indices: list[Tensor] = []
        targets: list[Tensor] = []
        for _, stages in self.tokenizer.config.levels:
            first = walk.target().float()
            targets.append(first)
            total = torch.zeros_like(first)
            for stage in range(stages):
                left, mask = first.detach() - total, present[number]
                entries = self._entries(number, left, mask, revive, learn, indices)
                shown = entries if mask is None else entries * mask.to(entries)
                total = total + shown
                # Straight through once for the level.
                walk.send(first + (entries - first).detach() if stage == 0 else entries, mask)
                number += 1
            some = present[number - stages]
            error = (first - total).square().mean(1, keepdim=True)
            weight = torch.ones_like(error) if some is None else some.to(error)
            commitments.append((error * weight).sum() / weight.sum().clamp_min(1))
        return Quantized(walk.finish(), torch.stack(commitments).mean(), indices, targets)

    @torch.no_grad()
    def _entries(
        self, number: int, left: Tensor, mask: Tensor | None, revive: bool, learn: bool, indices: list[Tensor]
    ) -> Tensor:
        flat = left.permute(0, 2, 3, 1).flatten(0, 2)
        sent = flat if mask is None else flat[mask.permute(0, 2, 3, 1).flatten().bool()]
        trainer = self.codebooks[number]
        if not self.ready[number]:
            if learn:
                self._collect(number, sent)
            first_of_level = (
                number == 0 or self.tokenizer.config.grids[number - 1] != self.tokenizer.config.grids[number]
            )
            return left if first_of_level else torch.zeros_like(left)
        chosen = nearest(flat, trainer.codebook)
        indices.append(chosen.view(-1, *left.shape[2:]))
        entries = trainer.codebook[chosen].view(len(left), *left.shape[2:], -1).permute(0, 3, 1, 2)
        if learn and len(sent):
            trainer.decay = math.exp(-len(sent) / self.memory)
            trainer.update(sent, chosen if mask is None else nearest(sent, trainer.codebook))
            if revive:
                trainer.revive(sent)
        return entries

    def _collect(self, number: int, latents: Tensor) -> None:
        kept = self.collected[number]
        kept.append(latents.float().clone())
        while sum(map(len, kept[1:])) > COLLECTED_PER_CODEWORD * self.tokenizer.config.codewords:
            del kept[0]

    def start(self, number: int) -> None:
        """The codebook of grid *number* by k-means over the collected targets."""
        if not self.ready[number]:
            kept = self.collected[number]
            self.codebooks[number].start(torch.cat(kept), per_batch=sum(map(len, kept)) / len(kept))
            self.ready[number], self.collected[number] = True, []

    def used(self) -> list[float]:
        """Of each grid, the share of the codewords that are used at least a twentieth as often as the mean."""
        return [float((t.counts / t.counts.mean().clamp_min(1e-9) > 0.05).float().mean()) for t in self.codebooks]

    def state(self) -> dict[str, Any]:
        return {"ready": self.ready, "collected": self.collected, "codebooks": [t.state() for t in self.codebooks]}

    def restore(self, state: dict[str, Any]) -> None:
        self.ready, self.collected = state["ready"], state["collected"]
        for trainer, values in zip(self.codebooks, state["codebooks"], strict=True):
            trainer.restore(values)


def draw_present(grids: Sequence[int], batch: int, side: int, whole: float) -> list[Tensor]:
    """Which positions of each grid are sent, B×1×h×w bool, for crops of *side* pixels.

    An image keeps all grids with probability *whole*. Of the others, half keep a random number of the first grids. Half
    are split at random: a cell has the positions of a finer grid only where its parent is there, at a density of the
    image's own (of residual stages all positions or none).
    """
    masks: list[Tensor] = []
    kind = torch.rand(batch)
    kept = torch.where(kind < whole, len(grids), torch.randint(1, len(grids) + 1, (batch,)))
    split = kind > (1 + whole) / 2
    for number, factor in enumerate(grids):
        cells = side // factor
        shown = (number < kept)[:, None, None, None].expand(batch, 1, cells, cells)
        if number:
            scale = grids[number - 1] // factor
            parent = masks[-1]
            if scale > 1:
                density = torch.rand(batch, 1, 1, 1)
                drawn = (
                    (parent & (torch.rand(parent.shape) < density))
                    .repeat_interleave(scale, 2)
                    .repeat_interleave(scale, 3)
                )
                shown = torch.where(split[:, None, None, None], drawn, shown)
        elif number == 0:
            shown = torch.ones_like(shown)
        masks.append(shown)
    return masks


def smooth_l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean smooth L1 of two latents."""
    return functional.smooth_l1_loss(output.float(), target.float(), beta=0.5)
