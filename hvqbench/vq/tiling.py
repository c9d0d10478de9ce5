"""Windows of a latent, so that a tokenizer's networks see a large image piece by piece.

Memory then follows the tile, not the image. Each window is seen with what surrounds it as far as the networks reach
(:attr:`hvqbench.vq.base.BaseTokenizer.reach`), and only what it would be in the whole image is kept: no seams, and no
difference but that of the last digits of floating point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    from hvqbench.codec import Image
    from hvqbench.vq.base import BaseTokenizer


@dataclass(frozen=True)
class Window:
    """Rows and columns in positions: ``kept`` of the whole, ``seen`` around it, and of that ``inner``, what is kept."""

    kept: tuple[slice, slice]
    seen: tuple[slice, slice]
    inner: tuple[slice, slice]


def windows(tokenizer: BaseTokenizer, size: tuple[int, int], tile: Any = None) -> Iterator[Window]:
    """Windows of *tile* pixels a side that cover *size*, height and width in positions; without *tile* all in one."""
    factor, reach = tokenizer.config.factor, tokenizer.reach
    if tile is None:
        tile, reach = factor * max(size), 0
    if reach is None:
        raise HvqbenchError("option tile: this tokenizer must see an image whole; remove tile from codec.toml")
    if not isinstance(tile, int) or tile < factor:
        raise HvqbenchError(f"option tile = {tile!r} is no number of pixels from {factor} on; correct codec.toml")
    for row in _spans(size[0], tile // factor, reach):
        for column in _spans(size[1], tile // factor, reach):
            yield Window(*zip(row, column, strict=True))


def padded(image: Image, factor: int) -> Image:
    """An image (height x width x 3) up to multiples of *factor* a side, its edges replicated."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % factor), (0, -width % factor), (0, 0)), mode="edge")


def scaled(part: tuple[slice, slice], factor: int) -> tuple[slice, slice]:
    """Positions as pixels, *factor* a side."""
    rows, columns = part
    return slice(rows.start * factor, rows.stop * factor), slice(columns.start * factor, columns.stop * factor)


def _spans(length: int, tile: int, reach: int) -> Iterator[tuple[slice, slice, slice]]:
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        first, last = max(0, start - reach), min(length, stop + reach)
        yield slice(start, stop), slice(first, last), slice(start - first, stop - first)
