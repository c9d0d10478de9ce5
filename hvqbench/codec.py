"""The contract: what a codec is, and what it hands over.

Three methods, and only bytes cross from the encoder to the decoder::

    codec.prepare("cpu")                  # untimed: load weights, warm up
    stream = codec.encode(image, point)   # uint8 H×W×3 -> Bitstream
    image = codec.decode(stream.data)     # needs nothing but the bytes and the codec

To add a codec, subclass :class:`Codec` and name the class in a ``codec.toml`` (see ``docs/codecs.md``).
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial, wraps
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hvqbench.errors import HvqbenchError
from hvqbench.protocol import Needs, Protocol
from hvqbench.sources import local_sources, module_sources

Image = NDArray[np.uint8]
"""8-bit sRGB pixels, H×W×3."""


@dataclass(frozen=True)
class Stream:
    """One named part of a bitstream: its coded size in bytes, and its ideal code length in bits where that is known."""

    bytes: int
    ideal_bits: float | None = None


@dataclass(frozen=True)
class Bitstream:
    """What an encoder returns.

    Parameters
    ----------
    data
        The whole file: headers, side information and padding included. Rate is ``8 * len(data) / (width * height)``.
    ledger
        Stream name to :class:`Stream`; the coded bytes add up to ``len(data)``, which is checked here.
    digest
        What the encoder says :meth:`Codec.digest` must be after decoding, if it knows without decoding itself.
    """

    data: bytes
    ledger: Mapping[str, Stream]
    digest: str | None = None

    def __post_init__(self) -> None:
        total = sum(stream.bytes for stream in self.ledger.values())
        if total != len(self.data):
            raise ValueError(f"the ledger adds up to {total} bytes but the bitstream has {len(self.data)}")

    @property
    def ideal_bits(self) -> float | None:
        """Ideal code length of the entropy coded streams in bits; None where no stream knows its own."""
        known = [s.ideal_bits for s in self.ledger.values() if s.ideal_bits is not None]
        return sum(known) if known else None


@dataclass(frozen=True)
class ImageEncoder:
    """One image, to be encoded at any number of points, which share what work they can.

    Parameters
    ----------
    own
        The bitstream at a point, as :meth:`Codec.encode` makes it.
    variants
        Other ways to a bitstream that the same decoder reads, by name: they reach rates that *own* jumps over.
    """

    own: Callable[[float], Bitstream]
    variants: Mapping[str, Callable[[float], Bitstream]] = field(default_factory=dict)

    def encode(self, point: float, variant: str = "") -> Bitstream:
        """The bitstream at *point*, made by one of :attr:`variants` or, without a name, by the codec's own choice."""
        return self.variants[variant](point) if variant else self.own(point)


@dataclass(frozen=True)
class CodecSpec:
    """A parsed ``codec.toml``: a codec's identity, ladder of operating points and options, as data."""

    id: str
    adapter: str
    summary: str
    points: tuple[float, ...]
    point_name: str
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    reference: str = ""
    protocol: Protocol = field(default_factory=Protocol)
    needs: Needs = field(default_factory=Needs)


class Codec(ABC):
    """Base class of all adapters.

    Constructing one is cheap and never fails for want of weights or binaries: those are looked for in
    :meth:`unavailable` and :meth:`prepare`.
    """

    version: ClassVar[str] = "1"
    """Version of the adapter: raise it whenever its bytes or pixels change."""

    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions whose version can change the bytes or the pixels."""

    def __init__(self, spec: CodecSpec) -> None:
        self.spec = spec

    def __init_subclass__(cls, **options: Any) -> None:
        """Every adapter's methods get what the contract says, or nothing: pixels in [0, 1] would be coded as black."""
        super().__init_subclass__(**options)
        for name, check in (("encode", check_image), ("encoder", check_image), ("decode", _check_bytes)):
            if name in cls.__dict__:
                setattr(cls, name, _checking(cls.__dict__[name], check))

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def points(self) -> tuple[float, ...]:
        """The ladder of operating points, in the codec's own unit (``spec.point_name``)."""
        return self.spec.points

    @property
    def point_range(self) -> tuple[float, float]:
        """The least and the greatest point there is: the option ``point_range``, or else the ends of the ladder.

        An infinite greatest point declares a weight, as L is: any number from the least on, evenly along a logarithm.
        """
        low, high = self.spec.options.get("point_range") or (min(self.points), max(self.points))
        return float(low), float(high)

    @property
    def declared_range(self) -> tuple[float, float] | None:
        """:attr:`point_range` where the codec declares it; None where that is only the ends of its ladder."""
        declares = self.spec.options.get("point_range") or type(self).point_range is not Codec.point_range
        return self.point_range if declares else None

    @property
    def has_weight(self) -> bool:
        """Whether the points are weights of the rate, with no greatest one."""
        return bool(self.points) and math.isinf(self.point_range[1])

    def unavailable(self) -> str | None:
        """Why the codec cannot run here and what to do, in one line; None if it can run."""
        return None

    def missing(self) -> str | None:
        """As :meth:`unavailable`, of what can be seen without running a program of others: what a listing asks."""
        return self.unavailable()

    def prepare(self, device: str = "cpu") -> None:  # noqa: B027 - an adapter without weights has nothing to do
        """Load weights and warm up. Untimed. Idempotent."""

    def fetch(self, trust_repo: bool = False) -> None:  # noqa: B027 - most adapters fetch nothing
        """Download what the codec needs and does not find here; *trust_repo* says that the user trusts code of others.

        Raises :class:`~hvqbench.errors.UnavailableError` if it cannot be had.
        """

    @abstractmethod
    def encode(self, image: Image, point: float) -> Bitstream:
        """Compress *image* (uint8, H×W×3, any size from 1×1) at operating point *point*."""

    def encoder(self, image: Image) -> ImageEncoder:
        """:meth:`encode` of one *image* at many points; override it where points can share work, or have variants."""
        return ImageEncoder(partial(self.encode, check_image(image)))

    @abstractmethod
    def decode(self, data: bytes) -> Image:
        """Reconstruct the image (uint8, H×W×3, original size) from nothing but *data*.

        Raises :class:`~hvqbench.errors.BitstreamError` if *data* is truncated, altered or not from this codec.
        """

    def digest(self, data: bytes, image: Image) -> str:
        """Sha256 of what *data* determines exactly; *image* is what :meth:`decode` returned for it.

        The pixels by default, and nothing but the bytes themselves of a codec that declares itself stochastic. A codec
        with a floating-point synthesis network hashes what lies before that network.
        """
        return hashlib.sha256(data).hexdigest() if self.spec.protocol.stochastic else image_digest(image)

    def files(self) -> list[Path]:
        """The files (weights, above all) whose content can change the bytes or the pixels."""
        return []

    @property
    def ingredients(self) -> dict[str, Any]:
        """All that can change this codec's numbers: adapter, its version, options, weights, libraries."""
        # A user edits an adapter, or what it imports, and forgets its version: there the source itself counts.
        if self.spec.adapter:
            module = type(self).__module__
            foreign = [] if module.startswith("hvqbench.") else module_sources(module)
            adapter: Any = f"{module}:{type(self).__qualname__}"
            adapter = [adapter, *map(_sha256, foreign)] if foreign else adapter
        else:
            sources = [_sha256(path) for path in local_sources(self.spec.folder / "adapter.py")]
            adapter = sources if len(sources) > 1 else sources[0]
        return {
            "adapter": adapter,
            "version": self.version,
            "options": dict(self.spec.options),
            "libraries": {name: metadata.version(name) for name in self.libraries},
            "files": [_sha256(path) for path in self.files()],
        }

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 over :attr:`ingredients`."""
        return hashlib.sha256(json.dumps(self.ingredients, sort_keys=True, default=str).encode()).hexdigest()


def check_image(image: Any) -> Image:
    """*image* itself if it is what this package calls an image: uint8, H×W×3, at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise HvqbenchError(
            f"an image must be a uint8 array H×W×3, not {found}: convert it, scaled to 0..255 and rounded"
        )
    if image.size == 0:
        raise HvqbenchError(f"an image must have at least one pixel, but its shape is {image.shape}")
    return image


def _check_bytes(data: Any) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise HvqbenchError(f"a bitstream must be bytes, not {type(data).__name__}: read the file, or take stream.data")
    return data if isinstance(data, bytes) else bytes(data)


def _checking(method: Callable[..., Any], check: Callable[[Any], Any]) -> Callable[..., Any]:
    """*method* of a codec, whose first argument passes *check*."""

    @wraps(method)
    def checked(self: Codec, first: Any, *others: Any, **named: Any) -> Any:
        return method(self, check(first), *others, **named)

    return checked


def _sha256(path: Path) -> str:
    with path.open("rb") as file:  # weights may be larger than memory
        return hashlib.file_digest(file, "sha256").hexdigest()


def image_digest(image: Image) -> str:
    """Sha256 of an image's shape and pixels, independent of the file format it came in."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
