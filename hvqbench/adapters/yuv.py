"""R'G'B' to planar Y'CbCr and back, as reference software of video standards reads and writes it.

Every conversion rounds to the nearest integer: truncating, as much code does, darkens the picture by half a level each
way. Equations and ranges are those of ITU-T H.273. Chroma of 4:2:0 lies in the middle of its four pixels: the mean of
the four on the way in, linear interpolation on the way out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hvqbench.codec import Image
from hvqbench.errors import HvqbenchError

KR_KB: Mapping[str, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
"""Weights of red and blue in luma, by matrix."""

Plane = NDArray[np.float64]


@dataclass(frozen=True)
class YuvFormat:
    """The layout of a ``.yuv`` file: planes Y, Cb, Cr of one picture, 16-bit little-endian above 8 bits.

    >>> YuvFormat("4:4:4", 8, "bt709", "full").write(np.full((1, 1, 3), 255, np.uint8))
    b'\\xff\\x80\\x80'
    """

    chroma: Literal["4:4:4", "4:2:0"]
    bit_depth: int
    matrix: Literal["bt601", "bt709", "bt2020"]
    range: Literal["full", "limited"]

    def __post_init__(self) -> None:
        if not 8 <= self.bit_depth <= 16:
            raise HvqbenchError(f"yuv: bit_depth = {self.bit_depth}: set it to a number from 8 to 16")

    @property
    def multiple(self) -> int:
        """What the sides of a picture must be a multiple of."""
        return 2 if self.chroma == "4:2:0" else 1

    def write(self, image: Image) -> bytes:
        """The file of *image* (uint8, H×W×3, sides a multiple of :attr:`multiple`)."""
        kr, kb = KR_KB[self.matrix]
        red, green, blue = np.moveaxis(image / 255.0, 2, 0)
        luma = kr * red + (1 - kr - kb) * green + kb * blue
        chroma = [(blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)]
        if self.chroma == "4:2:0":
            chroma = [_halve(plane) for plane in chroma]
        scale, offset, chroma_scale, centre = self._levels()
        planes = [luma * scale + offset, *(plane * chroma_scale + centre for plane in chroma)]
        whole = [np.clip(np.rint(plane), 0, 2**self.bit_depth - 1).astype(self._dtype) for plane in planes]
        return b"".join(plane.tobytes() for plane in whole)

    def read(self, data: bytes, width: int, height: int) -> Image:
        """The picture (uint8, H×W×3) of a file; ValueError if it has not *width* × *height* pixels."""
        shape = (height // self.multiple, width // self.multiple)
        values = np.frombuffer(data, self._dtype).astype(np.float64)
        if values.size != width * height + 2 * shape[0] * shape[1]:
            raise ValueError(f"{len(data)} bytes are no {width}x{height} picture")
        y, cb, cr = np.split(values, [width * height, width * height + shape[0] * shape[1]])
        scale, offset, chroma_scale, centre = self._levels()
        luma = (y.reshape(height, width) - offset) / scale
        blue_part, red_part = ((plane.reshape(shape) - centre) / chroma_scale for plane in (cb, cr))
        if self.chroma == "4:2:0":
            blue_part, red_part = _double(blue_part), _double(red_part)
        kr, kb = KR_KB[self.matrix]
        red = luma + (2 - 2 * kr) * red_part
        blue = luma + (2 - 2 * kb) * blue_part
        green = (luma - kr * red - kb * blue) / (1 - kr - kb)
        return np.clip(np.rint(255 * np.stack([red, green, blue], 2)), 0, 255).astype(np.uint8)

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype("<u2" if self.bit_depth > 8 else np.uint8)

    def _levels(self) -> tuple[float, float, float, float]:
        """Scale and offset of luma, scale and centre of chroma (H.273, equations 24 to 29)."""
        unit = 2.0 ** (self.bit_depth - 8)
        if self.range == "full":
            return 256 * unit - 1, 0, 256 * unit - 1, 128 * unit
        return 219 * unit, 16 * unit, 224 * unit, 128 * unit


def _halve(plane: Plane) -> Plane:
    height, width = plane.shape
    mean: Plane = plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    return mean


def _double(plane: Plane) -> Plane:
    for axis in (0, 1):
        before, after = (np.concatenate(parts, axis) for parts in _neighbours(plane, axis))
        pairs = np.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], axis + 1)
        shape = list(plane.shape)
        shape[axis] *= 2
        plane = pairs.reshape(shape)
    return plane


def _neighbours(plane: Plane, axis: int) -> tuple[list[Plane], list[Plane]]:
    """The plane moved on by one and back by one, its edges repeated, each in two parts."""
    first, rest = np.split(plane, [1], axis)
    most, last = np.split(plane, [-1], axis)
    return [first, most], [rest, last]
