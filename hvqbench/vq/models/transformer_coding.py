"""The transformer as an index model: grid by grid, and in each grid slice by slice, with keys and values kept.

The very first slice, of all windows, is one step with one row of weights; so a stream that is too short for it is
refused before anything is spent on it. Then :data:`PART` bounds how many windows go through a grid together: it decides
the order of the steps, and with it the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.timing import span
from hvqbench.vq import coders
from hvqbench.vq.base import BaseTokenizer, entries
from hvqbench.vq.coders import Coded
from hvqbench.vq.layout import Grid, Layout, by_name
from hvqbench.vq.models.base import IndexModel, check_tokenizer
from hvqbench.vq.models.slices import Slice, Windows, slice_numbers, split, window_slices
from hvqbench.vq.models.transformer import Transformer
from hvqbench.vq.models.transformer_exact import ExactTransformer, State
from hvqbench.vq.prefix import IsSent
from hvqbench.vq.walk import Step, Walk, given

PART = 2**15
"""Positions, over all grids, of the windows that are coded together: part of the format."""
KEPT = 2**16
"""Positions up to which keys and values stay from grid to grid (6 kB each, for the small model); else made again."""
ROWS = 2**11
"""Positions that go through the network together where all are known: few enough for caches, and without a trace."""
AHEAD = 2**13
"""Positions of windows whose gradients are found together: bounds memory."""
BLOCK = 2**19
"""Weights held at a time: 4 MB, which a cache holds."""


class TransformerModel(IndexModel):
    """A walk under an :class:`ExactTransformer`."""

    def __init__(self, exact: ExactTransformer) -> None:
        self.exact, self.config = exact, exact.config

    @classmethod
    def load(cls, weights: Path | None, tokenizer: BaseTokenizer) -> Self:
        assert weights is not None
        with torch.inference_mode(False):  # ahead() wants gradients
            model, trained_for = Transformer.load(weights)
        check_tokenizer(weights, trained_for, tokenizer)
        config = model.config
        if config.factors != tuple(spec.factor for spec in tokenizer.grids):
            raise HvqbenchError(f"{weights} is for grids of other sizes than those of its tokenizer; train it again")
        return cls(ExactTransformer(model, list(tokenizer.codebooks)))

    def walk(self, layout: Layout) -> Walk:
        return self._walk(layout)

    def code(self, layout: Layout, maps: Sequence[Tensor], side: Mapping[str, Tensor]) -> Coded:
        # Where nothing is chosen on the way, all slices of a grid take one pass.
        known = by_name(layout, maps)
        *_, coded = coders.encode(self.coder, self._walk(layout, known), given(known))
        return coded

    def slices(self, layout: Layout) -> int:
        return sum(self.config.slices[: len(layout)])

    def sent(self, layout: Layout, slices: int | None) -> IsSent:
        # Windows do not see each other, so that no slice that is sent depends on one that is not.
        if slices is None:
            return lambda _: True
        numbers = self.slice_numbers(layout)
        return lambda step: int(numbers[step.grid.name][step.positions[0]]) < slices

    def ahead(self, layout: Layout, maps: Sequence[Tensor], slices: int | None = None) -> Mapping[str, Tensor]:
        """The gradient of the float network: the encoder alone needs it, so it may differ between machines."""
        levels, books = len(maps), self.exact.codebooks[: len(maps)]
        numbers = self.slice_numbers(layout)
        with span("ahead"), torch.inference_mode(False), torch.enable_grad():
            whole = [part.flatten().clone() for part in maps]
            sent = [
                part if slices is None else part.where(numbers[grid.name] < slices, -1)
                for part, grid in zip(whole, layout.grids, strict=True)
            ]
            found = [torch.zeros(book.shape[1], len(part)) for part, book in zip(whole, books, strict=True)]
            for windows in split([grid.size for grid in layout.grids], self.config.sides[:levels], AHEAD):
                symbols = [windows.content(level, part) for level, part in enumerate(sent)]
                context = [
                    entries(windows.content(level, part).unflatten(-1, size), book).requires_grad_()
                    for level, (part, size, book) in enumerate(zip(whole, windows.sizes, books, strict=True))
                ]
                maps_of = [part.unflatten(-1, size) for part, size in zip(symbols, windows.sizes, strict=True)]
                bits = self.exact.model.bits(maps_of, books, context=context)["indices"]
                gradients = torch.autograd.grad(torch.cat(bits).sum(), context, materialize_grads=True)
                for level, gradient in enumerate(gradients):
                    found[level][:, windows.positions[level]] = gradient.flatten(2).transpose(0, 1)
        return {grid.name: part for grid, part in zip(layout.grids, found, strict=True)}

    def slice_numbers(self, layout: Layout) -> dict[str, Tensor]:
        """For each position of each grid (flat, int64, by name) the number of its slice, among those of all grids."""
        numbers, before = {}, 0
        for grid, side, count in zip(layout.grids, self.config.sides, self.config.slices, strict=False):
            window = slice_numbers((min(side, grid.height), min(side, grid.width)), count)
            window = window.view(min(side, grid.height), -1)
            rows, columns = torch.arange(grid.height) % side, torch.arange(grid.width) % side
            numbers[grid.name] = window[rows][:, columns].flatten() + before
            before += count
        return numbers

    def _walk(self, layout: Layout, known: Mapping[str, Tensor] | None = None) -> Walk:
        """The walk; with *known* maps (flat, by name), which must then be what is named, in one pass a grid."""
        sizes, levels = [grid.size for grid in layout.grids], len(layout)
        windows = split(sizes, self.config.sides[:levels], PART)
        parts = [_Part(self.exact, part, self.config.slices[:levels]) for part in windows]
        kept = sum(part.windows.positions[level].numel() for part in parts for level in range(levels)) <= KEPT
        sent: dict[str, Tensor] = {}
        for grid in layout.grids:
            existing = layout.positions(grid, sent)
            exists = torch.zeros(grid.height * grid.width, dtype=torch.bool)
            exists[existing] = True
            sent[grid.name] = grid.empty()
            if not grid.level:
                yield from self._first(grid, parts, exists, sent[grid.name])
            for part in parts:
                steps = part.hidden(grid.level, layout, sent, known)
                for positions, hidden in steps:
                    chosen = exists[positions]
                    yield from self._steps(grid, positions[chosen], hidden[chosen], sent[grid.name])
                if not kept:
                    part.state = None

    def _first(self, grid: Grid, parts: Sequence[_Part], exists: Tensor, sent: Tensor) -> Walk:
        """The very first slice of all windows, which knows nothing: one step under one row of weights."""
        positions = torch.cat([part.windows.positions[0][:, part.slices[0].positions].flatten() for part in parts])
        if len(positions := positions[exists[positions]]):
            sizes = ((1, 1),)
            state = self.exact.state(1, sizes)
            hidden = self.exact.advance(state, window_slices(sizes, self.config.slices[:1]), [sent[None, :1]])
            sent[positions] = yield Step(grid, positions, self.exact.weights(0, hidden[0]))

    def _steps(self, grid: Grid, positions: Tensor, hidden: Tensor, sent: Tensor) -> Walk:
        """The positions (n) of a slice under their hidden vectors (n×d), in blocks."""
        size = max(1, BLOCK // grid.codewords)
        for block, rows in zip(positions.split(size), hidden.split(size), strict=True):
            if len(block):
                with span("weights"):
                    weights = self.exact.weights(grid.level, rows)
                sent[block] = yield Step(grid, block, weights)


class _Part:
    """Windows of one size on their way through a stream."""

    def __init__(self, exact: ExactTransformer, windows: Windows, counts: tuple[int, ...]) -> None:
        self.exact, self.windows = exact, windows
        self.slices = window_slices(windows.sizes, counts)
        self.state: State | None = None

    def hidden(
        self, level: int, layout: Layout, sent: Mapping[str, Tensor], known: Mapping[str, Tensor] | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each slice of a grid but the very first, positions (n) and hidden vectors (n×d), window by window.

        *sent* is read when a slice's turn comes, *known* for all of them in one pass.
        """
        if self.state is None:
            self.state = self.exact.state(len(self.windows), self.windows.sizes)
            self._advance([own for own in self.slices if own.level < level or not own.start], layout, sent)
        slices = [own for own in self.slices if own.level == level and own.start]
        for together in self._passes(slices, at_once=known is not None):
            hidden = self._advance(together, layout, sent if known is None else known)
            for own in together:
                first = together[0].start
                positions = self.windows.positions[level][:, own.positions].flatten()
                yield positions, hidden[:, own.start - first : own.stop - first].flatten(0, 1)

    def _passes(self, slices: Sequence[Slice], at_once: bool) -> list[list[Slice]]:
        """Slices that go through the network together: alone, or in groups."""
        passes: list[list[Slice]] = []
        for own in slices:
            last = passes[-1] if passes and at_once else None
            if last and len(self.windows) * (own.stop - last[0].start) <= ROWS:
                last.append(own)
            else:
                passes.append([own])
        return passes

    def _advance(self, slices: Sequence[Slice], layout: Layout, maps: Mapping[str, Tensor]) -> Tensor:
        assert self.state is not None
        with span("transformer"):
            held = [maps[grid.name] for grid in layout.grids if grid.name in maps]
            contents = [self.windows.content(level, symbols) for level, symbols in enumerate(held)]
            return self.exact.advance(self.state, slices, contents)
