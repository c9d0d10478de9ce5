"""The file around a model's entropy coded strings: 16 bytes for a Kodak image of two strings.

=======  ===========================================================================
bytes
=======  ===========================================================================
1        magic
2-6      width, then height (LEB128: 7 bits a byte)
4        CRC-32 of all the others but the magic
1        operating point
3        fingerprint of the model: architecture, weights and entropy coding tables
1        number of strings
1-4      length of each string but the last (LEB128)
n        the strings
=======  ===========================================================================

What a model calls the shape of its latent follows from width and height, and is not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hvqbench.adapters.sized import leb128, read_leb128, read_sized, size_header
from hvqbench.codec import Stream
from hvqbench.errors import BitstreamError

MAGIC = b"\xf6"
FINGERPRINT_BYTES = 3


@dataclass(frozen=True)
class Content:
    """A parsed file: image size in pixels, operating point (0 to 255), model and strings."""

    width: int
    height: int
    point: int
    fingerprint: bytes
    strings: Sequence[bytes]


def pack(content: Content) -> bytes:
    """The whole file."""
    lengths = b"".join(leb128(len(string)) for string in content.strings[:-1])
    head = bytes([content.point]) + content.fingerprint + bytes([len(content.strings)]) + lengths
    payload = head + b"".join(content.strings)
    return size_header(MAGIC, content.width, content.height, payload, "") + payload


def unpack(data: bytes, codec: str) -> Content:
    """Parse and verify a file; :class:`~hvqbench.errors.BitstreamError` names *codec*."""
    width, height, payload = read_sized(data, MAGIC, "", codec)
    try:
        point, count = payload[0], payload[1 + FINGERPRINT_BYTES]
        fingerprint, at = payload[1 : 1 + FINGERPRINT_BYTES], 2 + FINGERPRINT_BYTES
        lengths = []
        for _ in range(count - 1):
            length, at = read_leb128(payload, at)
            lengths.append(length)
    except IndexError:
        raise BitstreamError(f"{codec}: the stream ends in its header; encode the image again") from None
    strings = []
    for length in [*lengths, len(payload) - at - sum(lengths)]:
        strings.append(payload[at : at + length])
        at += length
    return Content(width, height, point, fingerprint, strings)


def ledger(data: bytes, strings: Sequence[bytes]) -> dict[str, Stream]:
    """Header, z and y: of several strings the last is the hyperprior's, of one there is no hyperprior."""
    *latents, last = [len(string) for string in strings]
    sizes = {"z": last, "y": sum(latents)} if latents else {"y": last}
    return {name: Stream(size) for name, size in {"header": len(data) - sum(sizes.values()), **sizes}.items()}
