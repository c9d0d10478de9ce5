"""The file around a VQ codec's payload: 13 bytes for an ordinary image.

=======  =====  ======================================================================
offset   bytes
=======  =====  ======================================================================
0        2      magic ``VQ``
2        1      format version (high 4 bits), stages flag (bit 3), index mode (low 3 bits)
3        3      model fingerprint: tokenizer and index model
6        2-6    width, then height, LEB128 (7 bits a byte): 2 bytes each up to 16383
…        0-1    number of stages, where the stages flag is set; 1 where it is not
…        0-1    version 4: number of slices that the payload holds
…        0-4    version 4: seed of what completes the others, where bit 2 of byte 2 is set
…        n      payload
-3       3      checksum: complement of the CRC-24 (OpenPGP, RFC 9580) of all before it
=======  =====  ======================================================================

Version 4 is version 3 with slices that are not sent, of which only the codec's own index model (mode 0) knows: bit 2,
of the mode in version 3, then says whether there is a seed. A file whose slices are all sent is of version 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from hvqbench.errors import BitstreamError

MAGIC = b"VQ"
VERSION, SLICES_VERSION = 3, 4
FINGERPRINT_BYTES = 3
CHECKSUM_BYTES = 3
MAXIMUM_SIDE = 2**21 - 1
MAXIMUM_PIXELS = 2**28
"""What a header may claim: a few bytes must not make a decoder ask for all memory."""
STAGES_FLAG, SEED_FLAG, MODES = 8, 4, 8
SEED_BYTES = 4


@dataclass(frozen=True)
class Container:
    """A parsed file: image size in pixels, index mode (0 to 7), payload, and the stages (1 to 255) that it is of.

    Of those the payload holds the first *slices* (1 to 255) alone, if that is not None. The decoder completes the
    others by what the index model expects: its likeliest symbols, or those that *seed* (32 bits) draws.
    """

    width: int
    height: int
    mode: int
    payload: bytes
    stages: int = 1
    slices: int | None = None
    seed: int | None = None


def pack(content: Container, fingerprint: bytes) -> bytes:
    """The whole file for *content*, bound to the model with that 3-byte *fingerprint*."""
    if max(content.width, content.height) > MAXIMUM_SIDE:
        raise BitstreamError(f"image side above {MAXIMUM_SIDE} pixels: tile the image")
    if content.width * content.height > MAXIMUM_PIXELS:
        raise BitstreamError(f"image of more than {MAXIMUM_PIXELS} pixels: tile the image")
    kind, fields = VERSION << 4 | content.mode, b""
    if content.stages > 1:
        kind, fields = kind | STAGES_FLAG, bytes([content.stages])
    if content.slices is not None:
        kind, fields = kind + (SLICES_VERSION - VERSION << 4), fields + bytes([content.slices])
        if content.seed is not None:
            kind, fields = kind | SEED_FLAG, fields + content.seed.to_bytes(SEED_BYTES)
    head = MAGIC + bytes([kind]) + fingerprint
    body = head + _leb128(content.width) + _leb128(content.height) + fields + content.payload
    return body + _checksum(body)


def unpack(data: bytes, fingerprint: bytes, codec: str) -> Container:
    """Parse and verify a file that must come from the model with *fingerprint*; *codec* names it in errors."""
    if not data:
        raise BitstreamError(f"{codec}: the stream is empty; the file was not written completely, encode it again")
    if data[:2] != MAGIC:
        raise BitstreamError(
            f"{codec}: not a VQ stream (it starts with {data[:4].hex()}); decode it with its own codec"
        )
    if len(data) < 2 + 1 + FINGERPRINT_BYTES + 2 + CHECKSUM_BYTES:
        raise BitstreamError(f"{codec}: the stream ends within its header; it is truncated, copy or encode it again")
    version, mode = data[2] >> 4, data[2] % MODES
    if version not in (VERSION, SLICES_VERSION):
        raise BitstreamError(
            f"{codec}: stream format {version}, but this hvqbench reads {VERSION} and {SLICES_VERSION}; "
            "use the matching one"
        )
    if _checksum(data[:-CHECKSUM_BYTES]) != data[-CHECKSUM_BYTES:]:
        raise BitstreamError(f"{codec}: checksum mismatch, the stream is truncated or altered; copy or encode it again")
    found = data[3 : 3 + FINGERPRINT_BYTES]
    if found != fingerprint:
        raise BitstreamError(
            f"{codec}: the stream was made by model {found.hex()}, but this is {fingerprint.hex()}; "
            "decode it with the codec and weights that made it"
        )
    body = memoryview(data)[3 + FINGERPRINT_BYTES : -CHECKSUM_BYTES]
    width, body = _read_leb128(body, codec)
    height, body = _read_leb128(body, codec)
    if min(width, height) == 0:
        raise BitstreamError(
            f"{codec}: the header says {width}x{height} pixels; the stream is damaged, encode it again"
        )
    if width * height > MAXIMUM_PIXELS:
        raise BitstreamError(
            f"{codec}: the header says {width}x{height} pixels, above {MAXIMUM_PIXELS}; it is damaged, encode it again"
        )
    stages = 1
    if data[2] & STAGES_FLAG:
        stages, body = (body[0] if body else 0), body[1:]
        if stages < 2:
            raise BitstreamError(f"{codec}: the header says {stages} stages; the stream is damaged, encode it again")
    slices = seed = None
    if version == SLICES_VERSION:
        slices, body = (body[0] if body else 0), body[1:]
        if mode & SEED_FLAG:
            seed, body = int.from_bytes(body[:SEED_BYTES]), body[SEED_BYTES:]
            mode ^= SEED_FLAG
        if slices < 1 or mode:
            raise BitstreamError(
                f"{codec}: the header says {slices} slices in index mode {mode}; the stream is damaged, encode it again"
            )
    return Container(width, height, mode, bytes(body), stages, slices, seed)


def _checksum(body: bytes) -> bytes:
    """Of the CRC itself, zero bytes could be appended and taken away unnoticed: its remainder stays zero."""
    return (crc24(body) ^ 0xFFFFFF).to_bytes(CHECKSUM_BYTES)


def crc24(data: bytes) -> int:
    """CRC-24 of RFC 9580 (initial value 0xB704CE, polynomial 0x1864CFB).

    >>> hex(crc24(b"123456789"))
    '0x21cf02'
    """
    crc = 0xB704CE
    for byte in data:
        crc = (crc << 8 & 0xFFFFFF) ^ _TABLE[crc >> 16 ^ byte]
    return crc


def _crc24_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 16
        for _ in range(8):
            crc = crc << 1 ^ (0x1864CFB if crc & 0x800000 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _crc24_table()


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_leb128(data: memoryview, codec: str) -> tuple[int, memoryview]:
    value = 0
    for position, byte in enumerate(data[:3]):
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, data[position + 1 :]
    raise BitstreamError(f"{codec}: the header holds no valid image size; the stream is damaged, encode it again")
