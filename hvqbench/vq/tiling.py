"""Windows of an image, so that a tokenizer's networks see a large one piece by piece.

Memory then follows the tile, not the image. Each window is seen with what surrounds it as far as the networks reach
(:attr:`hvqbench.vq.base.BaseTokenizer.reach`), and only what it would be in the whole image is kept: no seams, and no
difference but that of the last digits of floating point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    from hvqbench.codec import Image
    from hvqbench.vq.base import BaseTokenizer

WHOLE = 2**23
"""An image of up to so many pixels is seen at once where no tile is asked for, and a larger one in tiles."""
DEFAULT_TILE = 1024
"""Side of those, in pixels."""


@dataclass(frozen=True)
class Window:
    """Rows and columns in positions: ``kept`` of the whole, ``seen`` around it, and of that ``inner``, what is kept."""

    kept: tuple[slice, slice]
    seen: tuple[slice, slice]
    inner: tuple[slice, slice]


def windows(tokenizer: BaseTokenizer, size: tuple[int, int], tile: int | None = None) -> Iterator[Window]:
    """Windows of *tile* pixels a side that cover *size*, height and width in positions of the coarsest grid.

    Without *tile* an image of up to :data:`WHOLE` pixels comes in one, and so does a larger one that the tokenizer must
    see whole.
    """
    factor, reach = tokenizer.factor, tokenizer.reach
    if tile is None and reach is not None and size[0] * size[1] * factor**2 > WHOLE:
        tile = max(factor, DEFAULT_TILE)
    if tile is None:
        tile, reach = factor * max(size), 0
    if reach is None:
        raise HvqbenchError("option tile: this tokenizer must see an image whole; remove tile from codec.toml")
    if tile < factor:
        raise HvqbenchError(f"option tile = {tile!r} is no number of pixels from {factor} on; correct codec.toml")
    for row in _spans(size[0], tile // factor, reach):
        for column in _spans(size[1], tile // factor, reach):
            yield Window(*zip(row, column, strict=True))


def padded(image: Image, factor: int) -> Image:
    """An image (height x width x 3) up to multiples of *factor* a side, its edges replicated."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % factor), (0, -width % factor), (0, 0)), mode="edge")


def scaled(part: tuple[slice, slice], factor: int) -> tuple[slice, slice]:
    """Positions as those of a finer grid, or as pixels, *factor* a side."""
    rows, columns = part
    return slice(rows.start * factor, rows.stop * factor), slice(columns.start * factor, columns.stop * factor)


def _spans(length: int, tile: int, reach: int) -> Iterator[tuple[slice, slice, slice]]:
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        first, last = max(0, start - reach), min(length, stop + reach)
        yield slice(start, stop), slice(first, last), slice(start - first, stop - first)
