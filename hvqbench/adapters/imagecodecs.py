"""JPEG XL, JPEG XR, high-throughput JPEG 2000 and AVIF through ``imagecodecs``, in this process.

Everything that shapes the bytes is named in ``codec.toml``. Four things are done with care:

* **AVIF** is coded with 10 bits, from pixels with 10 bits. Given 8, libavif leaves the colour conversion to libyuv,
  which truncates (Kodak kodim03 comes back 0.25 levels too dark, see :mod:`hvqbench.adapters.pillow`); with 10 the
  mean error is below 0.001 levels at quality 99 (4:4:4, 55.4 dB).
* **HTJ2K** is coded by OpenJPH and decoded by OpenJPEG: ``htj2k_decode`` of imagecodecs 2026.3.6 lets values beyond 0
  and 255 wrap around, so that a better stream is a worse picture (kodim03 at 2.1 bpp: 31.8 dB instead of 45.9).
* **JPEG XR** cannot hold images narrower than 32 pixels, and jxrlib decodes damaged files. So an image is padded to 32
  by repeating its edge, and its size and a checksum travel in a counted header (:mod:`hvqbench.adapters.sized`).
* **Levels** for which a library silently changes to lossless coding are no operating points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from hvqbench.adapters.pillow import is_codestream
from hvqbench.adapters.sized import read_sized, size_header
from hvqbench.codec import Bitstream, Codec, CodecSpec, Image, Stream
from hvqbench.errors import BitstreamError, HvqbenchError, UnavailableError

MAGIC = b"\xf6"
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """What differs between the formats."""

    module: str
    """The name of its functions in imagecodecs: ``<module>_encode``, ``<module>_version``."""
    options: frozenset[str]
    """The options that a ``codec.toml`` must state, no more and no fewer."""
    point_name: str
    points: tuple[float, float]
    """The least and the greatest operating point."""
    whole_points: bool
    """Whether operating points are integers."""
    encode: Callable[[Image, float, Options], bytes]
    decode: Callable[[bytes, Options], Image]
    is_whole: Callable[[bytes], bool]
    """Whether bytes can be a file of this format."""
    least_side: int = 0
    """If not 0, images are padded to it, and a header of our own goes before the file."""


class ImagecodecsCodec(Codec):
    """JPEG XL, JPEG XR, HTJ2K or AVIF; what an operating point is depends on the format, see :data:`FORMATS`."""

    version: ClassVar[str] = "1"
    libraries: ClassVar[tuple[str, ...]] = ("imagecodecs",)

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__(spec)
        options = dict(spec.options)
        name = options.pop("format", None)
        if name not in FORMATS:
            raise HvqbenchError(f"{spec.id}: option 'format' is {name!r}; set it to one of {sorted(FORMATS)}")
        self._name, self._format, self._options = name, FORMATS[name], options
        differing = sorted(options.keys() ^ self._format.options)
        if differing:
            known = sorted(self._format.options)
            raise HvqbenchError(f"{spec.id}: option {differing[0]!r} is unknown or missing; state exactly {known}")

    @property
    def point_range(self) -> tuple[float, float]:
        return self._format.points

    def unavailable(self) -> str | None:
        try:
            built = self._library_version is not None
        except ImportError as error:
            return f"cannot import imagecodecs: {error}; pip install imagecodecs"
        return None if built else f"this imagecodecs was built without {self._name}: install its own wheel"

    def prepare(self, device: str = "cpu") -> None:
        reason = self.unavailable()  # which imports imagecodecs, and so keeps that out of the first time measured
        if reason:
            raise UnavailableError(f"{self.id}: {reason}")

    def encode(self, image: Image, point: float) -> Bitstream:
        low, high = self._format.points
        if not low <= point <= high or (self._format.whole_points and point != int(point)):
            kind = "not an integer" if self._format.whole_points else "not"
            reason = f"{self._format.point_name} {point:g} is {kind} from {low:g} to {high:g}"
            raise HvqbenchError(f"{self.id}: {reason}; correct the operating point")
        height, width = image.shape[:2]
        beyond = [(0, max(0, self._format.least_side - side)) for side in (height, width)]
        try:
            data = self._format.encode(np.pad(image, (*beyond, (0, 0)), mode="edge"), point, self._options)
        except (RuntimeError, ValueError) as error:
            reason = f"{self._name} cannot hold an image of {width}x{height}: {_one_line(error)}"
            raise HvqbenchError(f"{self.id}: {reason}; crop it or leave this codec out") from None
        payload = {"payload": Stream(len(data))}
        if not self._format.least_side:
            return Bitstream(data, payload)
        header = size_header(MAGIC, width, height, data, self._name)
        return Bitstream(header + data, {"header": Stream(len(header)), **payload})

    def decode(self, data: bytes) -> Image:
        width: int | None = None
        height: int | None = None
        if self._format.least_side:
            width, height, data = read_sized(data, MAGIC, self._name, self.id)
        if not self._format.is_whole(data):
            raise BitstreamError(f"{self.id}: no whole {self._name} file ({len(data)} bytes); encode the image again")
        try:
            image = self._format.decode(data, self._options)
        except BitstreamError as error:
            raise BitstreamError(f"{self.id}: {error}") from None
        except (RuntimeError, ValueError, MemoryError) as error:
            reason = f"{self._name} data is damaged: {_one_line(error)}"
            raise BitstreamError(f"{self.id}: {reason}; encode the image again") from None
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            reason = f"{self._name} file holds {image.dtype} of shape {image.shape}, and no 8-bit RGB"
            raise BitstreamError(f"{self.id}: {reason}; give it a file that it made")
        return np.ascontiguousarray(image[:height, :width])

    @cached_property
    def fingerprint(self) -> str:
        """As of :class:`Codec`, with the version of the library behind imagecodecs."""
        try:
            library = self._library_version
        except ImportError:
            library = None
        return hashlib.sha256(f"{super().fingerprint} {library}".encode()).hexdigest()

    @cached_property
    def _library_version(self) -> str | None:
        import imagecodecs

        codec = getattr(imagecodecs, self._format.module.upper())
        version: str = getattr(imagecodecs, f"{self._format.module}_version")() if codec.available else ""
        return version or None


def _encode_jpegxl(image: Image, distance: float, options: Options) -> bytes:
    import imagecodecs

    # Without the container it is the bare codestream, which decoders read as well.
    data = imagecodecs.jpegxl_encode(
        image, distance=distance, effort=options["effort"], numthreads=options["threads"], usecontainer=False
    )
    return bytes(data)


def _decode_jpegxl(data: bytes, options: Options) -> Image:
    import imagecodecs

    return imagecodecs.jpegxl_decode(data, numthreads=options["threads"])


def _encode_jpegxr(image: Image, quality: float, options: Options) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpegxr_encode(image, level=quality / 100))


def _decode_jpegxr(data: bytes, options: Options) -> Image:
    import imagecodecs

    return imagecodecs.jpegxr_decode(data)


def _encode_htj2k(image: Image, step: float, options: Options) -> bytes:
    import imagecodecs

    data = imagecodecs.htj2k_encode(
        image, level=step, rgb=True, reversible=False, resolutions=options["decompositions"], tlm=False
    )
    return bytes(data)


def _decode_htj2k(data: bytes, options: Options) -> Image:
    import imagecodecs

    return imagecodecs.jpeg2k_decode(data, numthreads=1)  # OpenJPEG: see above


def _encode_avif(image: Image, quality: float, options: Options) -> bytes:
    import imagecodecs

    data = imagecodecs.avif_encode(
        np.rint(image * (1023 / 255)).astype(np.uint16),
        level=int(quality),
        codec=options["encoder"],
        speed=options["speed"],
        pixelformat="yuv" + options["chroma"].replace(":", ""),
        bitspersample=10,
        numthreads=options["threads"],
    )
    return bytes(data)


def _decode_avif(data: bytes, options: Options) -> Image:
    import imagecodecs

    image = imagecodecs.avif_decode(data, numthreads=options["threads"])
    if image.dtype != np.uint16:
        raise BitstreamError(f"AVIF file holds {image.dtype}, and not 10 bits; give it a file that it made")
    return np.clip(np.rint(image * (255 / 1023)), 0, 255).astype(np.uint8)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


FORMATS: Mapping[str, Format] = {
    # libjxl's Butteraugli distance; at 0 it would be lossless.
    "JPEGXL": Format(
        "jpegxl",
        frozenset({"effort", "threads"}),
        "distance",
        (0.01, 25),
        False,
        _encode_jpegxl,
        _decode_jpegxl,
        lambda data: data.startswith(b"\xff\x0a"),
    ),
    # jxrlib's quality in percent, through the tables of its own JxrEncApp; at 0 and 100 it would be lossless.
    "JPEGXR": Format(
        "jpegxr",
        frozenset(),
        "quality",
        (1, 99),
        False,
        _encode_jpegxr,
        _decode_jpegxr,
        lambda data: data.startswith(b"II\xbc\x01"),
        least_side=32,
    ),
    # OpenJPH's quantization step, of a nominal range of 1.
    "HTJ2K": Format(
        "htj2k",
        frozenset({"decompositions"}),
        "step",
        (0.0001, 1),
        False,
        _encode_htj2k,
        _decode_htj2k,
        lambda data: is_codestream(data, b"\xff\x50"),
    ),
    # libavif's quality; at 100 it would be lossless.
    "AVIF": Format(
        "avif",
        frozenset({"encoder", "speed", "chroma", "threads"}),
        "quality",
        (0, 99),
        True,
        _encode_avif,
        _decode_avif,
        lambda data: data[4:12] == b"ftypavif",
    ),
}
"""The formats, by the name that a ``codec.toml`` gives them."""
