"""One walk over a layout, and the only loop over its steps that there is.

An index model is a generator of steps that is sent what was named at each::

    symbols = yield Step(grid, positions, weights)

A step holds positions of one grid whose probabilities the decoder can know by then. Somebody names their symbols: at
the encoder whoever chooses them (:mod:`hvqbench.vq.choose`), at the decoder the range coder, in an inspection the map
that is looked at. All of them go through :func:`drive`, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from hvqbench.vq.layout import Grid


@dataclass(frozen=True)
class Step:
    """Positions of one grid that are coded together.

    Parameters
    ----------
    positions
        n row-major positions (int64) of the grid.
    weights
        Proportional to the probability of every codeword, integer multiples of a power of two that add up exactly: n×K
        (float64), or 1×K where they are the same at all positions.
    """

    grid: Grid
    positions: Tensor
    weights: Tensor

    def bits(self) -> Tensor:
        """Cost of every codeword in bits, n×K or 1×K (float32)."""
        return self.weights.sum(1, keepdim=True).log2().float() - self.weights.float().log2_()


Walk = Generator[Step, Tensor, None]
"""An index model on its way through a stream; it is sent the symbols (n, int64) of each step."""
Name = Callable[[Step], Tensor]
"""Names the symbols (n, int64) of a step."""


def drive(walk: Walk, name: Name) -> Iterator[tuple[Step, Tensor]]:
    """Every step of *walk* and the symbols that *name* gives it."""
    step = next(walk, None)
    while step is not None:
        symbols = name(step)
        yield step, symbols
        try:
            step = walk.send(symbols)
        except StopIteration:
            return


def given(sent: Mapping[str, Tensor]) -> Name:
    """Names the symbols of maps that are known, flat and by grid name."""
    return lambda step: sent[step.grid.name][step.positions]


def collect(steps: Iterable[tuple[Step, Tensor]]) -> dict[str, Tensor]:
    """The symbols of all steps as flat maps by grid name; positions without one are absent."""
    sent: dict[str, Tensor] = {}
    for step, symbols in steps:
        if step.grid.name not in sent:
            sent[step.grid.name] = step.grid.empty()
        sent[step.grid.name][step.positions] = symbols
    return sent
