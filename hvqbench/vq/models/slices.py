"""The order of a transformer's tokens: windows of an image, and in each window slices that are coded one after another.

A grid of n slices is tiled with the smallest near-square unit of n positions (2×2, 2×4, 4×4, …) whose positions belong
to slices 0 … n - 1, row by row (RDVQ, arXiv 2604.10546). Slices of the coarsest grid come first. At the image's right
and lower edge a window just has fewer positions; no padding is coded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError

Size = tuple[int, int]
Mask = Literal["strict", "block"]
"""Which keys a slice attends to. A key holds what its slice asked with, the content of the slice before: ``strict``
(published) lets slice s see slices < s - 1 and its own paired token, ``block`` all of slices < s."""


@dataclass(frozen=True, eq=False)
class Slice:
    """Positions of one grid in a window that are coded together.

    Parameters
    ----------
    level
        The grid's number.
    number
        Among all slices of a window of full size; small windows lack some.
    positions
        n row-major positions (int64) of the window's part of the grid, ascending.
    before
        For each of them the position of the same unit in the slice before; None at a grid's first slice.
    start, stop
        The keys of its positions. All positions of the very first slice know nothing and are one key, number 0.
    """

    level: int
    number: int
    positions: Tensor
    before: Tensor | None
    start: int
    stop: int


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept may be asked for where gradients are wanted
def window_slices(sizes: tuple[Size, ...], counts: tuple[int, ...]) -> tuple[Slice, ...]:
    """The slices, none of them empty, of a window with those *sizes* (h, w), one for each grid, of *counts* slices."""
    slices: list[Slice] = []
    number = key = 0
    for level, ((height, width), count) in enumerate(zip(sizes, counts, strict=True)):
        _, columns = unit(count)
        own = slice_numbers((height, width), count)
        for slice_number in range(count):
            positions = (own == slice_number).nonzero()[:, 0]
            if not len(positions):
                continue
            before = None
            if slice_number:
                y, x = positions // width, positions % width
                # The position to the left, or at the unit's left side the last that exists in the row above.
                last = (x - x % columns + columns - 1).clamp_max(width - 1)
                before = torch.where(x % columns > 0, positions - 1, (y - 1) * width + last)
            stop = key + (len(positions) if slices else 1)
            slices.append(Slice(level, number + slice_number, positions, before, key, stop))
            key = stop
        number += count
    return tuple(slices)


def slice_numbers(size: Size, count: int) -> Tensor:
    """For each position (h·w, int64) of one grid's part of a window the number of its slice, of *count*."""
    (height, width), (rows, columns) = size, unit(count)
    numbers = (torch.arange(height) % rows)[:, None] * columns + torch.arange(width) % columns
    return numbers.flatten()


def unit(count: int) -> Size:
    """Rows and columns of the unit of *count* slices, a power of two.

    >>> unit(4), unit(8), unit(16)
    ((2, 2), (2, 4), (4, 4))
    """
    if count < 1 or count & (count - 1):
        raise HvqbenchError(f"{count} slices fill no unit: give a power of two")
    power = count.bit_length() - 1
    return 2 ** (power // 2), 2 ** (power - power // 2)


def visible(slices: Sequence[Slice], mask: Mask) -> Tensor:
    """N×N, True where a query (row) of a window sees a key."""
    number = torch.cat([torch.full((own.stop - own.start,), i) for i, own in enumerate(slices)])
    seen = number[:, None] > number if mask == "strict" else number[:, None] >= number
    seen[0, 0] = True
    return seen


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of one size that are coded together.

    Parameters
    ----------
    sizes
        Their height and width in each grid.
    positions
        For each grid B×h·w row-major positions (int64) of the whole grid.
    """

    sizes: tuple[Size, ...]
    positions: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.positions[0])

    def content(self, level: int, symbols: Tensor) -> Tensor:
        """What a flat map (…×h·w of the whole grid) holds in each window, …×B×h·w."""
        return symbols[..., self.positions[level]]


def split(sizes: Sequence[Size], sides: Sequence[int], most: int) -> list[Windows]:
    """An image's windows, those of one size together, row by row, at most *most* positions (at least a window) a part.

    *sizes* (h, w) and the windows' *sides* are those of each grid, from coarse to fine.
    """
    (height, width), side = sizes[0], sides[0]
    corners: dict[Size, list[Size]] = {}
    for top in range(0, height, side):
        for left in range(0, width, side):
            corners.setdefault((min(side, height - top), min(side, width - left)), []).append((top, left))
    parts = []
    for (rows, columns), places in corners.items():
        scales = [own // side for own in sides]
        own_sizes = tuple((rows * scale, columns * scale) for scale in scales)
        count = max(1, most // sum(h * w for h, w in own_sizes))
        for first in range(0, len(places), count):
            tops, lefts = torch.tensor(places[first : first + count]).unbind(1)
            positions = []
            for scale, (_, whole), (h, w) in zip(scales, sizes, own_sizes, strict=True):
                inside = (torch.arange(h)[:, None] * whole + torch.arange(w)).flatten()
                positions.append((tops * scale * whole + lefts * scale)[:, None] + inside)
            parts.append(Windows(own_sizes, tuple(positions)))
    return parts
