"""What an index model is: p(symbol | what the decoder already has), as a walk, and the coder of what it names.

To add one, write a subclass of :class:`IndexModel` in a module of this folder (or anywhere) and name it in a
``codec.toml``. :meth:`IndexModel.walk` is all that it must say; encoding, decoding, rate control and inspection follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.vq import coders
from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.coders import Coded, Coder
from hvqbench.vq.layout import Layout, by_name
from hvqbench.vq.prefix import Complete, IsSent, completed, likeliest
from hvqbench.vq.walk import Name, Walk, collect, drive, given


class IndexModel(ABC):
    """Codes the maps of one tokenizer, or those of its first grids."""

    coder: Coder = coders.Range()
    needs_weights: ClassVar[bool] = True
    """Whether it reads a file."""

    @classmethod
    @abstractmethod
    def load(cls, weights: Path | None, tokenizer: BaseTokenizer) -> Self:
        """The model of the file *weights* (None where none is named), which was made for *tokenizer*."""

    @abstractmethod
    def walk(self, layout: Layout) -> Walk:
        """Every position of *layout*, grid by grid, each where the decoder can know its probabilities.

        The walk over a layout's first grids is the beginning of the walk over all of them.
        """

    def side(self, embeddings: Sequence[Tensor]) -> Mapping[str, Tensor]:
        """Symbols of the model's own grids (flat, int64, by name) for what is sent, B×D×h×w with B = 1 of each grid.

        A model that sends nothing of its own has none.
        """
        return {}

    def slices(self, layout: Layout) -> int:
        """How many parts *layout* is coded in, one after the other, of which any first ones decode: its grids."""
        return len(layout)

    def sent(self, layout: Layout, slices: int | None) -> IsSent:
        """Whether a step belongs to the first *slices* of *layout*; None for all of them."""
        return lambda step: slices is None or step.grid.level < slices

    def ahead(self, layout: Layout, maps: Sequence[Tensor], slices: int | None = None) -> Mapping[str, Tensor]:
        """How the bits of what follows change with the entry of each position of *maps*, to first order.

        D×h·w for each grid by name, in bits per unit; none where a model does not know, or nothing hangs on indices.
        """
        return {}

    def encode(self, layout: Layout, name: Name, slices: int | None = None) -> Iterator[Coded]:
        """After each grid of *layout*, the payload of all so far; *name* says what is sent.

        Of the first *slices* alone, by default of all; what *name* says of the others is what the decoder will find.
        """
        return coders.encode(self.coder, self.walk(layout), name, self.sent(layout, slices))

    def code(self, layout: Layout, maps: Sequence[Tensor], side: Mapping[str, Tensor]) -> Coded:
        """The payload of given *maps* (h×w, one for each grid of *layout*) and of *side*."""
        *_, coded = self.encode(layout, given({**side, **by_name(layout, maps)}))
        return coded

    def read(
        self, layout: Layout, payload: bytes, slices: int | None = None, complete: Complete = likeliest
    ) -> dict[str, Tensor]:
        """The symbols (flat, int64, by name) of all grids, the model's own among them.

        *payload* holds the first *slices* of *layout*, all by default; *complete* names the others. Raises ValueError
        or AssertionError (constriction's) for a payload that cannot be one.
        """
        name = completed(coders.decoder(self.coder, payload), self.sent(layout, slices), complete)
        nothing = {grid.name: grid.empty() for grid in layout.grids}  # of a grid that is absent everywhere
        return nothing | collect(drive(self.walk(layout), name))

    def decode(self, layout: Layout, payload: bytes) -> list[Tensor]:
        """The maps (h×w, int64) of the grids of *layout*, which *payload* holds at least."""
        return layout.maps(self.read(layout, payload))


def check_tokenizer(path: Path, trained_for: str, tokenizer: BaseTokenizer) -> None:
    """Raise unless the weights of *path* are those of *tokenizer*."""
    if trained_for != tokenizer.digest:
        raise HvqbenchError(
            f"{path} was trained for tokenizer {trained_for[:12]}, not {tokenizer.digest[:12]}; train it again"
        )
