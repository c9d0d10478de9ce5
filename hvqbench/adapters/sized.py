"""A small header for coded pictures that do not say their own size: raw video, and pictures that were padded.

``magic (1 byte) | width | height (LEB128 each) | CRC-32 (4 bytes) | payload``: a Kodak image's header has 9 bytes,
which are counted like any other. The checksum also covers a *key*, what a decoder must know, so that the stream of
another codec does not pass.
"""

from __future__ import annotations

import zlib

from hvqbench.errors import BitstreamError


def size_header(magic: bytes, width: int, height: int, payload: bytes, key: str) -> bytes:
    """The header to put before *payload*."""
    size = leb128(width) + leb128(height)
    return magic + size + _checksum(size + payload, key)


def read_sized(data: bytes, magic: bytes, key: str, codec: str) -> tuple[int, int, bytes]:
    """Width, height and payload.

    Raises
    ------
    BitstreamError
        *data* is truncated, altered, or was made with another magic or key; *codec* is named in it.
    """
    if not data.startswith(magic):
        raise BitstreamError(f"{codec}: no stream of this codec ({len(data)} bytes); give it a file that it made")
    try:
        width, start = read_leb128(data, len(magic))
        height, end = read_leb128(data, start)
    except IndexError:
        raise BitstreamError(f"{codec}: the stream ends in its header; encode the image again") from None
    size, checksum, payload = data[len(magic) : end], data[end : end + 4], data[end + 4 :]
    if checksum != _checksum(size + payload, key) or not width or not height:
        raise BitstreamError(f"{codec}: checksum mismatch, truncated or altered stream; encode the image again")
    return width, height, payload


def _checksum(data: bytes, key: str) -> bytes:
    return zlib.crc32(data, zlib.crc32(key.encode())).to_bytes(4, "little")


def leb128(value: int) -> bytes:
    """Little-endian base 128: seven bits a byte, the high bit set on all but the last."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def read_leb128(data: bytes, start: int) -> tuple[int, int]:
    """The value that begins at *start*, and where the next one does; IndexError if the data ends before."""
    value = 0
    for shift in range(0, 32, 7):
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise IndexError
