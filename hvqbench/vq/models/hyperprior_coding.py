"""HyperVQ as an index model: z in front, then every index under the integer PEE, in one range coder.

Stage by stage, and within a stage in one pass, or with context in two: the positions with even row + column first, then
the others, which see them. A pass is coded in blocks of positions that bound memory and leave no trace in the bytes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.timing import span
from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.exact import (
    ACTIVATION_BITS,
    ACTIVATION_MAX,
    ANCHOR_BITS,
    IntegerContext,
    IntegerConvolution,
    IntegerNetwork,
    IntegerPEE,
    parameter_bits,
)
from hvqbench.vq.layout import Grid, Layout
from hvqbench.vq.models.base import IndexModel, check_tokenizer
from hvqbench.vq.models.hyperprior import Z_LIMIT, Context, Hyperprior, first_pass
from hvqbench.vq.models.pyramid import Hyperpriors, runs, upsampled
from hvqbench.vq.walk import Step, Walk

T = TypeVar("T")

BLOCK = 2**19
"""Weights held at a time: 4 MB, which a cache holds."""


class ExactHyperprior:
    """A hyperprior's walk over grids of one size, in integers.

    Parameters
    ----------
    model, frequencies
        The networks and z's frequencies (C×(2·Z_LIMIT+1)).
    codebooks
        K×D of each grid.
    name
        Of z's grid.
    largest
        Bounds what is given before the walk, on the anchors' grid.
    """

    def __init__(
        self, model: Hyperprior, frequencies: Tensor, codebooks: Sequence[Tensor], name: str = "z", largest: float = 0
    ) -> None:
        config, bias = model.config, model.bias.detach()
        self.model, self.name, self.dim = model, name, config.dim
        self.synthesis = IntegerNetwork(cast(Any, model.synthesis), Z_LIMIT)
        grids = parameter_bits(config.dim) * config.stages
        self.head = IntegerConvolution(model.head, ACTIVATION_BITS, ACTIVATION_MAX, grids)
        self.pees = [IntegerPEE(codebook.cpu(), row) for codebook, row in zip(codebooks, bias, strict=True)]
        own = sum(float(pee.anchors.abs().max()) for pee in self.pees)  # of what all stages add up to
        self.contexts = []
        if config.context or config.given:
            self.contexts = [_exact(cast(Context, context), max(own, largest)) for context in model.context]
        self.z_weights = frequencies.double()
        self.block = max(1, BLOCK // config.codewords)
        self.largest = max(own, largest)

    @torch.inference_mode()
    def side(self, embedding: Tensor) -> dict[str, Tensor]:
        """z of the embedding 1×D×h×w, as symbols."""
        with span("h-analysis"):
            z = self.model.analyse(embedding).round()[0]
        return {self.name: z.flatten().long() + Z_LIMIT}

    def parameters(self, z: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """z (C×h×w) to features (W×h·w) and to mu and log 1/sigma^2 of every stage (S·2D×h·w), row by row."""
        x = self.synthesis(z.double())
        height, width = size
        features, parameters = (out[:, :height, :width].flatten(1) for out in (x, self.head(x)))
        return features, parameters

    def walk(
        self,
        grids: Sequence[Grid],
        given: Tensor | None = None,
        present: Tensor | None = None,
        z_sent: Tensor | None = None,
    ) -> Generator[Step, Tensor, Tensor]:
        """z, then *grids*; returns the embedding that was sent (D×h·w, on the anchors' grid).

        Parameters
        ----------
        given
            What is known before (C×h·w, on the anchors' grid), if the model's configuration says so.
        present
            Where *grids* have positions (bool h·w); None for everywhere.
        z_sent
            Where z has (bool ⌈h/4⌉×⌈w/4⌉); it is 0 elsewhere. None for everywhere.
        """
        size = grids[0].size
        z = yield from self._z(grids[0], z_sent)
        with span("h-synthesis"):
            features, base = self.parameters(z, size)
        passes, dim, config = self._passes(size), self.dim, self.model.config
        if present is not None:
            passes = [kept for positions in passes if len(kept := positions[present[positions]])]
        # Embedding known at each position, from all stages so far, below it this stage's mask, and what is given.
        known = torch.zeros(dim + 1 + config.given, size[0] * size[1], dtype=torch.float64)
        if given is not None:
            known[dim + 1 :] = given
        for stage, (grid, pee) in enumerate(zip(grids, self.pees, strict=False)):
            known[dim] = 0
            before = known[:dim].clone()
            for number, positions in enumerate(passes):
                parameters = base[2 * dim * stage : 2 * dim * (stage + 1), positions]
                # In the very first pass nothing is known but what is given.
                if self.contexts and (config.given or stage or number):
                    with span("context"):
                        parameters = parameters + self.contexts[stage](features, known.view(-1, *size), positions)
                mean = (parameters[:dim] - before[:, positions]).T
                blocks = (part.split(self.block) for part in (positions, mean, parameters[dim:].T))
                for block, *parts in zip(*blocks, strict=True):
                    with span("pee"):
                        weights = pee.weights(*parts)
                    symbols = yield Step(grid, block, weights)
                    known[:dim, block] += pee.anchors[symbols].T
                known[dim, positions] = 2**ANCHOR_BITS
        return known[:dim]

    def _z(self, first: Grid, sent: Tensor | None) -> Generator[Step, Tensor, Tensor]:
        """z (C×⌈h/4⌉×⌈w/4⌉), channel by channel."""
        height, width = (-(-side // 4) for side in first.size)
        count, channels = height * width, len(self.z_weights)
        grid = Grid(self.name, channels * height, width, 2 * Z_LIMIT + 1, first.level, "z", side=True)
        z = torch.full((channels, count), Z_LIMIT)
        positions = torch.arange(count) if sent is None else sent.flatten().nonzero()[:, 0]
        for channel, weights in enumerate(self.z_weights):
            if len(positions):
                z[channel, positions] = yield Step(grid, channel * count + positions, weights[None])
        return z.view(channels, height, width) - Z_LIMIT

    def _passes(self, size: tuple[int, int]) -> list[Tensor]:
        """The positions (int64) of each pass; a map of one position has no second."""
        if not self.model.config.context:
            return [torch.arange(size[0] * size[1])]
        first = first_pass(size).flatten()
        return [positions for positions in (first.nonzero()[:, 0], (~first).nonzero()[:, 0]) if len(positions)]


class HyperpriorModel(IndexModel):
    """The hyperpriors of a file, one for each run of grids of one size, from coarse to fine."""

    def __init__(self, parts: Sequence[ExactHyperprior]) -> None:
        self.parts = parts

    @classmethod
    def load(cls, weights: Path | None, tokenizer: BaseTokenizer) -> Self:
        assert weights is not None
        model, frequencies, trained_for = Hyperpriors.load(weights)
        check_tokenizer(weights, trained_for, tokenizer)
        if "free" in (heads := {config.head for config in model.configs}):
            raise HvqbenchError(f"{weights} has a {heads.pop()} head, which cannot code; train it with head = 'anchor'")
        levels = runs([spec.factor for spec in tokenizer.grids])
        if [len(part) for part in levels] != [config.stages for config in model.configs]:
            raise HvqbenchError(f"{weights} is for grids of other sizes than those of its tokenizer; train it again")
        parts: list[ExactHyperprior] = []
        for own, part, rows in zip(levels, model, frequencies, strict=True):
            name = "z" if len(levels) == 1 else f"z {len(parts) + 1}"
            largest = max((coarser.largest for coarser in parts), default=0)
            parts.append(ExactHyperprior(part, rows, [tokenizer.codebooks[level] for level in own], name, largest))
        return cls(parts)

    def side(self, embeddings: Sequence[Tensor]) -> Mapping[str, Tensor]:
        sides: dict[str, Tensor] = {}
        for part, own in self._split(embeddings):
            sides |= part.side(torch.stack(list(own)).sum(0))
        return sides

    def walk(self, layout: Layout) -> Walk:
        known: Tensor | None = None
        for part, grids in self._split(layout.grids):
            size = grids[0].size
            given = None if known is None else upsampled(known, size)
            seen = given.flatten(1) if given is not None and part.model.config.given else None
            sent = yield from part.walk(grids, seen)
            known = sent.view(-1, *size) if given is None else torch.cat([given, sent.view(-1, *size)])

    def _split(self, values: Sequence[T]) -> Iterator[tuple[ExactHyperprior, Sequence[T]]]:
        """Values of the first grids, by part."""
        first = 0
        for part in self.parts:
            if own := values[first : first + len(part.pees)]:
                yield part, own
            first += len(part.pees)


def _exact(context: Context, largest: float) -> IntegerContext:
    return IntegerContext(context.known, context.features, context.hidden, context.out, largest)
