"""JPEG and WebP through Pillow, in this process and on one thread.

Everything that shapes the bytes is named in ``codec.toml``: Pillow ignores an option that it does not know and fills in
one that is left out, and neither may happen silently here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from io import BytesIO
from typing import ClassVar

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError, features

from hvqbench.codec import Bitstream, Codec, CodecSpec, Image, Stream
from hvqbench.errors import BitstreamError, HvqbenchError

OPTIONS: Mapping[str, frozenset[str]] = {
    "JPEG": frozenset({"subsampling", "optimize", "progressive"}),
    "WEBP": frozenset({"lossless", "method"}),
}
"""Pillow's format name: the save options that a ``codec.toml`` must state, no more and no fewer."""

LIBRARIES: Mapping[str, str] = {"JPEG": "libjpeg_turbo", "WEBP": "webp"}
"""Pillow's format name: the library behind it, as :mod:`PIL.features` calls it."""


class PillowCodec(Codec):
    """JPEG (libjpeg-turbo) or lossy WebP (libwebp), both 4:2:0 unless ``codec.toml`` says otherwise.

    An operating point is Pillow's ``quality``, an integer from 0 to 100.
    """

    version: ClassVar[str] = "1"
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)
    point_range = (0.0, 100.0)

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__(spec)
        options = dict(spec.options)
        self._format = options.pop("format", None)
        if self._format not in OPTIONS:
            raise HvqbenchError(f"{spec.id}: option 'format' is {self._format!r}; set it to one of {sorted(OPTIONS)}")
        differing = sorted(options.keys() ^ OPTIONS[self._format])
        if differing:
            known = sorted(OPTIONS[self._format])
            raise HvqbenchError(f"{spec.id}: option {differing[0]!r} is unknown or missing; state exactly {known}")
        self._options = options

    def unavailable(self) -> str | None:
        if self._library_version is None:
            return f"this Pillow was built without {LIBRARIES[self._format]}: install Pillow's own wheel"
        return None

    def encode(self, image: Image, point: float) -> Bitstream:
        if point != int(point) or not 0 <= point <= 100:
            raise HvqbenchError(
                f"{self.id}: quality {point:g} is no integer from 0 to 100; correct the operating point"
            )
        buffer = BytesIO()
        try:
            PillowImage.fromarray(image).save(buffer, self._format, quality=int(point), **self._options)
        except (OSError, ValueError) as error:
            height, width = image.shape[:2]
            reason = f"{self._format} cannot hold an image of {width}x{height}: {error}"
            raise HvqbenchError(f"{self.id}: {reason}; crop it or leave this codec out") from None
        data = buffer.getvalue()
        return Bitstream(data, {"payload": Stream(len(data))})

    def decode(self, data: bytes) -> Image:
        # Checked here and not left to Pillow, whose LOAD_TRUNCATED_IMAGES is a global that any library may set.
        if not _IS_COMPLETE[self._format](data):
            raise BitstreamError(f"{self.id}: no whole {self._format} file ({len(data)} bytes); encode the image again")
        try:
            with PillowImage.open(BytesIO(data), formats=[self._format]) as image:
                return np.array(image.convert("RGB"))
        except UnidentifiedImageError:
            raise BitstreamError(f"{self.id}: {self._format} header is damaged; encode the image again") from None
        except (OSError, ValueError, SyntaxError, EOFError, PillowImage.DecompressionBombError) as error:
            raise BitstreamError(
                f"{self.id}: {self._format} data is damaged: {error}; encode the image again"
            ) from None

    @cached_property
    def fingerprint(self) -> str:
        """As of :class:`Codec`, with the version of the library behind Pillow: a system's may be any."""
        library = f"{LIBRARIES[self._format]} {self._library_version}"
        return hashlib.sha256(f"{super().fingerprint} {library}".encode()).hexdigest()

    @property
    def _library_version(self) -> str | None:
        # Without libjpeg-turbo a Pillow may still have another libjpeg, whose bytes are others.
        return features.version(LIBRARIES[self._format]) if features.check(LIBRARIES[self._format]) else None


def _is_complete_jpeg(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9")


def _is_complete_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and int.from_bytes(data[4:8], "little") + 8 == len(data)


_IS_COMPLETE: Mapping[str, Callable[[bytes], bool]] = {"JPEG": _is_complete_jpeg, "WEBP": _is_complete_webp}
