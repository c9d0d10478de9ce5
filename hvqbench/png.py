"""The picture in a PNG file, apart from what else the file holds.

A PNG file is a list of chunks, each with a CRC. Four kinds make the picture, and one more its transparency; if one of
these is damaged, so is the picture. All others only describe it: comments, a profile, EXIF. A damaged one of those is
left out, as browsers and libpng do, instead of the picture.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
LARGEST_PROFILE = 2**24
"""Bytes of an ICC profile, unpacked; the largest that are in use, of printers, have 4 million."""

SRGB_GAMMA = 45455
SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
CLOSE = 1000
"""Programs write sRGB's gamma and primaries rounded in different ways; a difference of 0.01 is nobody's intention."""
SRGB_CODE_POINTS = {(1, 13, 0, 1), (1, 1, 0, 1)}
"""Of cICP: BT.709's primaries, and sRGB's transfer function or the one of BT.709, which everybody shows as sRGB."""


@dataclass(frozen=True)
class PNG:
    """A PNG file taken apart.

    Parameters
    ----------
    picture
        The file with nothing in it but the chunks that make the picture.
    profile
        The ICC profile; empty if there is none, or none that can be unpacked.
    exif
        The EXIF block; empty if there is none or its chunk is damaged.
    notes
        What the file says of its colours that :mod:`hvqbench.image` does not apply, as ``chunk (content)``.
    """

    picture: bytes
    profile: bytes
    exif: bytes
    notes: tuple[str, ...]


def read_png(content: bytes) -> PNG:
    """Take the PNG file *content* apart.

    Raises
    ------
    ValueError
        It ends too soon, a chunk of the picture is damaged, or there is one that a reader must know and nobody does.
    """
    picture = [SIGNATURE]
    other: dict[bytes, bytes] = {}
    for kind, data, whole, intact in _chunks(content):
        critical = not kind[0] & 0x20
        if kind in PICTURE:
            if not intact:
                raise ValueError(f"its chunk {kind.decode()} is damaged")
            picture.append(whole)
        elif critical:
            raise ValueError(f"its chunk {kind!r} is none of PNG's")
        elif intact:
            other.setdefault(kind, data)
        elif kind == b"iCCP":
            other[b"iCCP"] = b""
    profile = _profile(other[b"iCCP"]) if b"iCCP" in other else b""
    return PNG(b"".join(picture), profile, other.get(b"eXIf", b""), tuple(_notes(other, profile)))


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Kind, data, the whole chunk, and whether its CRC is right."""
    place = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if place + 12 > len(content):
            raise ValueError("it ends too soon")
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if end > len(content):
            raise ValueError("it ends too soon")
        whole = content[place:end]
        crc = int.from_bytes(whole[-4:], "big")
        yield kind, whole[8:-4], whole, zlib.crc32(whole[4:-4]) == crc
        place = end


def _profile(data: bytes) -> bytes:
    name, _, rest = data.partition(b"\0")
    if not name or rest[:1] != b"\0":  # the method of compression: there is one
        return b""
    unpack = zlib.decompressobj()
    try:
        profile = unpack.decompress(rest[1:], LARGEST_PROFILE)
    except zlib.error:
        return b""
    return profile if unpack.eof else b""


def _notes(other: dict[bytes, bytes], profile: bytes) -> Iterator[str]:
    """By the precedence of PNG's third edition: cICP, iCCP, sRGB, gAMA and cHRM."""
    code_points = tuple(other.get(b"cICP", b""))
    if code_points and code_points not in SRGB_CODE_POINTS:
        primaries, transfer = (*code_points, 0, 0)[:2]
        yield f"cICP (primaries {primaries}, transfer {transfer})"
    if b"iCCP" in other and not profile:
        yield "iCCP (damaged)"
    if code_points or profile or b"sRGB" in other:
        return
    gamma = other.get(b"gAMA", b"")
    if len(gamma) == 4 and abs((value := int.from_bytes(gamma, "big")) - SRGB_GAMMA) > CLOSE:
        yield f"gAMA ({value / 100000:g})"
    white_and_primaries = other.get(b"cHRM", b"")
    if len(white_and_primaries) == 32:
        values = struct.unpack(">8I", white_and_primaries)
        if any(abs(a - b) > CLOSE for a, b in zip(values, SRGB_CHROMATICITIES, strict=True)):
            yield "cHRM (other primaries than sRGB's)"
