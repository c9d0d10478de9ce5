"""JPEG, JPEG 2000 and WebP through Pillow, in this process and on one thread.

Everything that shapes the bytes is named in ``codec.toml``: Pillow ignores an option that it does not know and fills in
one that is left out, and neither may happen silently here.

AVIF is not among them: the libavif in Pillow hands 8-bit colour conversion to libyuv, which truncates (mean error -0.25
levels on Kodak kodim03 at quality 100, 4:4:4, and 49.8 dB where rounding allows 52.9).
:mod:`hvqbench.adapters.imagecodecs` has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any, ClassVar

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError, features

from hvqbench.codec import Bitstream, Codec, CodecSpec, Image, Stream
from hvqbench.errors import BitstreamError, HvqbenchError


@dataclass(frozen=True)
class Format:
    """What differs between Pillow's formats."""

    library: str
    """The library behind it, as :mod:`PIL.features` calls it."""
    options: frozenset[str]
    """The save options that a ``codec.toml`` must state, no more and no fewer."""
    points: tuple[float, float]
    """The least and the greatest operating point."""
    saved_as: Callable[[float], Mapping[str, Any]]
    """An operating point as save options; ValueError if it is none."""
    is_whole: Callable[[bytes], bool]
    """Whether bytes are a file of this format, from its first byte to its last."""


class PillowCodec(Codec):
    """JPEG (libjpeg-turbo), JPEG 2000 (OpenJPEG) or lossy WebP (libwebp); ``codec.toml`` states chroma and effort.

    An operating point is Pillow's ``quality``, an integer from 0 to 100. That of JPEG 2000 is a compression ratio: 240
    are 0.1 bits per pixel of the 24 that an RGB pixel has, headers included.
    """

    version: ClassVar[str] = "1"
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__(spec)
        options = dict(spec.options)
        self._name = options.pop("format", None)
        if self._name not in FORMATS:
            raise HvqbenchError(f"{spec.id}: option 'format' is {self._name!r}; set it to one of {sorted(FORMATS)}")
        self._format = FORMATS[self._name]
        differing = sorted(options.keys() ^ self._format.options)
        if differing:
            known = sorted(self._format.options)
            raise HvqbenchError(f"{spec.id}: option {differing[0]!r} is unknown or missing; state exactly {known}")
        self._options = options

    @property
    def point_range(self) -> tuple[float, float]:
        return self._format.points

    def unavailable(self) -> str | None:
        if self._library_version is None:
            return f"this Pillow was built without {self._format.library}: install Pillow's own wheel"
        return None

    def encode(self, image: Image, point: float) -> Bitstream:
        try:
            point_options = self._format.saved_as(point)
        except ValueError as error:
            raise HvqbenchError(f"{self.id}: {error}; correct the operating point") from None
        buffer = BytesIO()
        try:
            PillowImage.fromarray(image).save(buffer, self._name, **point_options, **self._options)
        except (OSError, ValueError) as error:
            height, width = image.shape[:2]
            reason = f"{self._name} cannot hold an image of {width}x{height}: {error}"
            raise HvqbenchError(f"{self.id}: {reason}; crop it or leave this codec out") from None
        data = buffer.getvalue()
        return Bitstream(data, {"payload": Stream(len(data))})

    def decode(self, data: bytes) -> Image:
        # Checked here and not left to Pillow, whose LOAD_TRUNCATED_IMAGES is a global that any library may set.
        if not self._format.is_whole(data):
            raise BitstreamError(f"{self.id}: no whole {self._name} file ({len(data)} bytes); encode the image again")
        try:
            with PillowImage.open(BytesIO(data), formats=[self._name]) as image:
                return np.array(image.convert("RGB"))
        except UnidentifiedImageError:
            raise BitstreamError(f"{self.id}: {self._name} header is damaged; encode the image again") from None
        except (OSError, ValueError, SyntaxError, EOFError, PillowImage.DecompressionBombError) as error:
            raise BitstreamError(f"{self.id}: {self._name} data is damaged: {error}; encode the image again") from None

    @cached_property
    def fingerprint(self) -> str:
        """As of :class:`Codec`, with the version of the library behind Pillow: a system's may be any."""
        library = f"{self._format.library} {self._library_version}"
        return hashlib.sha256(f"{super().fingerprint} {library}".encode()).hexdigest()

    @property
    def _library_version(self) -> str | None:
        # Without libjpeg-turbo a Pillow may still have another libjpeg, whose bytes are others.
        library = self._format.library
        return features.version(library) if features.check(library) else None


def is_codestream(data: bytes, second_marker: bytes) -> bool:
    """Whether *data* is a whole JPEG 2000 codestream: SOC, SIZ, then *second_marker*, and EOC at the end.

    The second marker is COD (ff52) in Part 1, and CAP (ff50) in Part 15, high-throughput JPEG 2000.
    """
    if not (data.startswith(b"\xff\x4f\xff\x51") and data.endswith(b"\xff\xd9")):
        return False
    after_siz = 4 + int.from_bytes(data[4:6], "big")
    return data[after_siz : after_siz + 2] == second_marker


def _quality(point: float) -> Mapping[str, Any]:
    if point != int(point) or not 0 <= point <= 100:
        raise ValueError(f"quality {point:g} is not an integer from 0 to 100")
    return {"quality": int(point)}


def _ratio(point: float) -> Mapping[str, Any]:
    low, high = FORMATS["JPEG2000"].points
    if not low <= point <= high:
        raise ValueError(f"ratio {point:g} is not from {low:g} to {high:g}")
    return {"quality_mode": "rates", "quality_layers": [point]}


def _is_whole_jpeg(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9")


def _is_whole_jpeg2000(data: bytes) -> bool:
    return is_codestream(data, b"\xff\x52")


def _is_whole_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and int.from_bytes(data[4:8], "little") + 8 == len(data)


FORMATS: Mapping[str, Format] = {
    "JPEG": Format(
        "libjpeg_turbo", frozenset({"subsampling", "optimize", "progressive"}), (0, 100), _quality, _is_whole_jpeg
    ),
    "JPEG2000": Format(
        "jpg_2000",
        frozenset({"irreversible", "mct", "num_resolutions", "progression", "no_jp2", "comment"}),
        (1, 10000),
        _ratio,
        _is_whole_jpeg2000,
    ),
    "WEBP": Format("webp", frozenset({"lossless", "method"}), (0, 100), _quality, _is_whole_webp),
}
"""Pillow's formats, by the name that it gives them."""
