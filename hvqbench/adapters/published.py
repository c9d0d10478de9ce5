"""A codec that cannot be run through its bytes: its authors' code decodes nothing that comes from a file.

It stands in the catalog with what it needs and how its published numbers came about, and its curve, where there is one,
in ``reports/curves``.
"""

from __future__ import annotations

from hvqbench.codec import Bitstream, Codec, Image
from hvqbench.errors import UnavailableError


class PublishedCodec(Codec):
    """Never available; ``needs.install`` says why, and what would have to be written."""

    def unavailable(self) -> str:
        return self.spec.needs.install or "no decoder that starts from a file is known; compare with a published curve"

    def encode(self, image: Image, point: float) -> Bitstream:
        raise UnavailableError(f"{self.id}: {self.unavailable()}")

    def decode(self, data: bytes) -> Image:
        raise UnavailableError(f"{self.id}: {self.unavailable()}")
