"""Downsample, code, upsample: what practitioners try first where a classic codec has too few bits for every pixel.

The image is made smaller by ``factor`` on each side, coded as :mod:`hvqbench.adapters.ffmpeg` does it, and made as
large again by the decoder, both with the same kernel of Pillow (whose 8-bit resampling is in integers, so it is the
same everywhere). Only the original size is in the header; the smaller one is its quotient, rounded up.
"""

from __future__ import annotations

from typing import ClassVar

from hvqbench.adapters.ffmpeg import OPTIONS, FFmpegCodec
from hvqbench.codec import CodecSpec, Image
from hvqbench.errors import HvqbenchError

KERNELS = ("lanczos", "bicubic", "bilinear")
LARGEST_FACTOR = 16


class DownsampledCodec(FFmpegCodec):
    """An ffmpeg codec on a smaller picture: the options of :class:`FFmpegCodec`, and ``factor`` and ``kernel``."""

    version: ClassVar[str] = "1"
    libraries: ClassVar[tuple[str, ...]] = ("imageio-ffmpeg", "pillow")
    options: ClassVar[frozenset[str]] = OPTIONS | {"factor", "kernel"}

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__(spec)
        factor, kernel = self._options["factor"], self._options["kernel"]
        if type(factor) is not int or not 2 <= factor <= LARGEST_FACTOR:
            raise HvqbenchError(f"{spec.id}: factor = {factor!r}; set it to an integer from 2 to {LARGEST_FACTOR}")
        if kernel not in KERNELS:
            raise HvqbenchError(f"{spec.id}: kernel = {kernel!r}; set it to one of {', '.join(KERNELS)}")

    def _small(self, side: int) -> int:
        return -(-side // self._options["factor"])

    def _coded_size(self, height: int, width: int) -> tuple[int, int]:
        return super()._coded_size(self._small(height), self._small(width))

    def _coded(self, image: Image) -> Image:
        height, width = image.shape[:2]
        return super()._coded(self._resize(image, self._small(height), self._small(width)))

    def _restore(self, picture: Image, height: int, width: int) -> Image:
        small = super()._restore(picture, self._small(height), self._small(width))
        return self._resize(small, height, width)

    def _resize(self, image: Image, height: int, width: int) -> Image:
        import numpy as np
        from PIL import Image as pillow

        kernel = pillow.Resampling[self._options["kernel"].upper()]
        return np.array(pillow.fromarray(image).resize((width, height), kernel))

    @property
    def _key(self) -> str:
        return f"{super()._key} {self._options['factor']} {self._options['kernel']}"
