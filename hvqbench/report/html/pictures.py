"""Pictures that are small enough to travel in one file: what the room shows of originals and decodes.

A decode is re-encoded as AVIF, which the page says; its error map is computed before that, from the decoded pixels
themselves.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hvqbench.codec import Image, image_digest

if TYPE_CHECKING:
    from hvqbench.data import ImageFile

QUALITY = 75
"""Of AVIF 4:4:4, 0 to 100: its error is far below that of any codec here at the rates that are compared."""
VERSION = 1
"""Of what the cache holds: raised when pictures or maps are made in another way."""
SIDE = 1024
"""Pixels: of a larger picture the middle is shown, not a smaller version, which would hide what codecs do."""
MAP_BLOCK = 4
"""Pixels: a map has one value for a block of this side."""
MAP_SCALE = 64.0
"""The error, of 255, at the bright end of the map's colours; the same for all error maps, so that they compare."""
MAP_COLOURS = 32


class Blobs:
    """Pictures as base64 by a short key, up to *budget* characters in all."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.texts: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    @property
    def size(self) -> int:
        return sum(map(len, self.texts.values()))

    def add(self, files: Mapping[str, bytes]) -> dict[str, str] | None:
        """The keys of *files*, given by their hashes; None, and nothing added, if they do not all fit."""
        new = {sha: base64.b64encode(data).decode() for sha, data in files.items() if sha not in self._keys}
        if self.size + sum(map(len, new.values())) > self.budget:
            return None
        for sha, text in new.items():
            self._keys[sha] = f"p{len(self.texts)}"
            self.texts[self._keys[sha]] = text
        return {sha: self._keys[sha] for sha in files}


@dataclass(frozen=True)
class Original:
    """An image of the data set, and the part of it that the room shows."""

    file: ImageFile

    @cached_property
    def pixels(self) -> Image:
        return self.file.read()

    @cached_property
    def sha(self) -> str:
        return image_digest(self.pixels)

    def cut(self, image: Image) -> Image:
        """The middle of *image*, of at most :data:`SIDE` pixels a side."""
        height, width = image.shape[:2]
        top, left = max(height - SIDE, 0) // 2, max(width - SIDE, 0) // 2
        return image[top : top + SIDE, left : left + SIDE]


def picture(image: Image) -> bytes:
    """*image* as AVIF 4:4:4 of quality :data:`QUALITY`, or as lossless WebP where that is smaller."""
    import PIL.Image

    pixels, avif, webp = PIL.Image.fromarray(image), io.BytesIO(), io.BytesIO()
    pixels.save(avif, "AVIF", quality=QUALITY, subsampling="4:4:4", speed=8)
    if image.size < 1 << 16:  # small ones only: of a photograph it never is
        pixels.save(webp, "WEBP", lossless=True)
    return min((data for data in (avif.getvalue(), webp.getvalue()) if data), key=len)


def error_map(original: Image, decoded: Image) -> bytes:
    """The mean absolute error over RGB, in colours of 0 to :data:`MAP_SCALE`."""
    return map_picture(np.abs(original.astype(np.float32) - decoded.astype(np.float32)).mean(axis=2), MAP_SCALE)


def map_picture(values: NDArray[np.float32], lightest: float) -> bytes:
    """Means of H×W *values* over blocks of :data:`MAP_BLOCK` pixels, in colours of 0 to *lightest*."""
    import PIL.Image

    height, width = (-(-side // MAP_BLOCK) * MAP_BLOCK for side in values.shape)
    whole = np.pad(values, ((0, height - values.shape[0]), (0, width - values.shape[1])), mode="edge")
    blocks = whole.reshape(height // MAP_BLOCK, MAP_BLOCK, width // MAP_BLOCK, MAP_BLOCK).mean(axis=(1, 3))
    index = np.clip(blocks / lightest * (MAP_COLOURS - 1), 0, MAP_COLOURS - 1).round().astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(map_colours()[index]).save(file, "WEBP", lossless=True, method=4)
    return file.getvalue()


def map_colours() -> NDArray[np.uint8]:
    """The maps' colours from no difference to the greatest, shape (:data:`MAP_COLOURS`, 3): matplotlib's inferno."""
    import matplotlib as mpl

    colours = mpl.colormaps["inferno"](np.linspace(0, 1, MAP_COLOURS))[:, :3]
    return (colours * 255).round().astype(np.uint8)


def cached(name: str) -> Path:
    """Where a picture is kept by the hash of its pixels: to decode a data set again takes minutes."""
    from hvqbench.downloads import cache_folder

    return cache_folder() / "report-pictures" / f"{name}-{SIDE}-q{QUALITY}-v{VERSION}.bin"
