"""Still images through an intra coder of ffmpeg: VVC (libvvenc) in the ffmpeg that ``imageio-ffmpeg`` carries.

Pixels and bytes go through pipes, so there is no shell and no temporary file. Two things are done with care:

* **Colour.** swscale's default conversion truncates: R'G'B' -> Y'CbCr 4:2:0 -> R'G'B' comes back 1.9 levels too dark
  (Kodak kodim03, 40.5 dB). With the flags below the mean error is 0.001 levels (48.2 dB), 4:4:4 comes back
  exactly, and ``bitexact`` makes it independent of the processor. Matrix and range are said on both sides.
* **Size.** Subsampled chroma needs even sides and libvvenc at least 16 pixels, so the image is padded by repeating
  its edge, and the original size travels in a small header. Padding and header are counted like any other byte.

The file is ``magic (1 byte) | width | height (LEB128 each) | CRC-32 (4 bytes) | coded picture``: a Kodak image's header
has 9 bytes.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import zlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from hvqbench.codec import Bitstream, Codec, CodecSpec, Image, Stream
from hvqbench.errors import BitstreamError, HvqbenchError, UnavailableError

MAGIC = b"\xf5"
SWSCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
OPTIONS = frozenset(
    {"encoder", "decoder", "format", "pixel_format", "matrix", "range", "threads", "timeout_s"}
    | {"size_multiple", "size_minimum", "point_option", "point_range", "encoder_options"}
)
"""The options that a ``codec.toml`` must state; ``encoder_options`` is a table handed to the encoder as it is."""


class FFmpegCodec(Codec):
    """One picture through one of ffmpeg's encoders and decoders; ``codecs/vvenc/codec.toml`` shows every option.

    An operating point is the encoder's ``point_option`` (the QP of ``libvvenc``, an integer from 0 to 63).
    """

    version: ClassVar[str] = "1"
    libraries: ClassVar[tuple[str, ...]] = ("imageio-ffmpeg",)

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__(spec)
        differing = sorted(spec.options.keys() ^ OPTIONS)
        if differing:
            raise HvqbenchError(
                f"{spec.id}: option {differing[0]!r} is unknown or missing; state exactly {sorted(OPTIONS)}"
            )
        self._options: dict[str, Any] = dict(spec.options)

    def unavailable(self) -> str | None:
        try:
            for kind in ("encoder", "decoder"):
                name = self._options[kind]
                listed = self._ffmpeg(["-hide_banner", f"-{kind}s"], b"").stdout.decode(errors="replace")
                if not re.search(rf"^ \S+ {re.escape(name)} ", listed, re.MULTILINE):
                    remedy = "point IMAGEIO_FFMPEG_EXE at one that has it, or install the wheel of imageio-ffmpeg>=0.6"
                    return f"this ffmpeg was built without the {kind} {name}: {remedy}"
        except HvqbenchError as error:
            return str(error)
        return None

    def encode(self, image: Image, point: float) -> Bitstream:
        lowest, highest = self._options["point_range"]
        if point != int(point) or not lowest <= point <= highest:
            name = self._options["point_option"]
            reason = f"{name} {point:g} is no integer from {lowest} to {highest}"
            raise HvqbenchError(f"{self.id}: {reason}; correct the operating point")
        height, width = image.shape[:2]
        payload = self._encode_picture(self._pad(image), int(point), "error").stdout
        if not payload:
            raise HvqbenchError(f"{self.id}: ffmpeg coded nothing for an image of {width}x{height}; leave it out")
        size = _leb128(width) + _leb128(height)
        header = MAGIC + size + self._checksum(size + payload)
        return Bitstream(header + payload, {"header": Stream(len(header)), "payload": Stream(len(payload))})

    def decode(self, data: bytes) -> Image:
        width, height, payload = self._parse(data)
        padded_width, padded_height = self._padded(width), self._padded(height)
        o = self._options
        arguments = [
            *("-c:v", o["decoder"], "-threads", str(o["threads"]), "-f", o["format"], "-i", "pipe:0"),
            *("-vf", f"scale=in_color_matrix={o['matrix']}:in_range={o['range']}:out_range=full:flags={SWSCALE_FLAGS}"),
            *("-frames:v", "1", "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"),
        ]
        try:
            pixels = self._ffmpeg(["-v", "error", *arguments], payload).stdout
        except UnavailableError:
            raise
        except HvqbenchError as error:
            raise BitstreamError(f"{error}; the stream is damaged, encode the image again") from None
        if len(pixels) != 3 * padded_width * padded_height:
            raise BitstreamError(f"{self.id}: the coded picture is not the {width}x{height} that the header says")
        return np.frombuffer(pixels, np.uint8).reshape(padded_height, padded_width, 3)[:height, :width].copy()

    @cached_property
    def fingerprint(self) -> str:
        """As of :class:`Codec`, with the versions of ffmpeg and of the library behind its encoder."""
        return hashlib.sha256(f"{super().fingerprint} {self.build}".encode()).hexdigest()

    @cached_property
    def build(self) -> str:
        """Versions of ffmpeg and of the encoder's library, like ``"ffmpeg n9.0.2, libvvenc 1.15.0"``."""
        try:
            shown = self._ffmpeg(["-version"], b"").stdout.decode(errors="replace")
            smallest = np.zeros((self._options["size_minimum"],) * 2 + (3,), np.uint8)
            # An encoder's library tells its version only when it is opened.
            log = self._encode_picture(smallest, self._options["point_range"][1], "verbose").stderr.decode(
                errors="replace"
            )
        except HvqbenchError:
            return "unavailable"
        ffmpeg = re.search(r"ffmpeg version (\S+)", shown)
        library = re.search(r"(\w+) version:? (\S+)", log)
        found = [f"ffmpeg {ffmpeg[1]}" if ffmpeg else "", f"{library[1]} {library[2]}" if library else ""]
        return ", ".join(filter(None, found))

    def _encode_picture(self, image: Image, point: int, loglevel: str) -> subprocess.CompletedProcess[bytes]:
        o = self._options
        height, width = image.shape[:2]
        arguments = [
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}", "-i", "pipe:0"),
            *(
                "-vf",
                f"scale=in_range=full:out_color_matrix={o['matrix']}:out_range={o['range']}:flags={SWSCALE_FLAGS}",
            ),
            *("-frames:v", "1", "-pix_fmt", o["pixel_format"], "-c:v", o["encoder"], "-threads", str(o["threads"])),
            *(f"-{o['point_option']}", str(point)),
            *(part for key, value in o["encoder_options"].items() for part in (f"-{key}", str(value))),
            *("-f", o["format"], "pipe:1"),
        ]
        return self._ffmpeg(["-hide_banner", "-v", loglevel, *arguments], np.ascontiguousarray(image).tobytes())

    def _ffmpeg(self, arguments: Sequence[str], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        """Run ffmpeg, or raise one line with the last thing that it said."""
        import imageio_ffmpeg

        try:
            executable = imageio_ffmpeg.get_ffmpeg_exe()
        except RuntimeError:
            remedy = "reinstall imageio-ffmpeg from its wheel, or point IMAGEIO_FFMPEG_EXE at an ffmpeg"
            raise UnavailableError(f"{self.id}: no ffmpeg was found: {remedy}") from None
        timeout = self._options["timeout_s"]
        try:
            done = subprocess.run(
                [executable, *arguments], input=stdin, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise HvqbenchError(
                f"{self.id}: ffmpeg took more than {timeout} s; raise timeout_s in codec.toml"
            ) from None
        except OSError as error:
            raise UnavailableError(
                f"{self.id}: cannot run {executable}: {error.strerror}; check IMAGEIO_FFMPEG_EXE"
            ) from None
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise HvqbenchError(
                f"{self.id}: ffmpeg failed ({done.returncode}): {said[-1] if said else 'it said nothing'}"
            )
        return done

    def _padded(self, side: int) -> int:
        multiple = self._options["size_multiple"]
        return -(-max(side, self._options["size_minimum"]) // multiple) * multiple

    def _pad(self, image: Image) -> Image:
        height, width = image.shape[:2]
        return np.pad(
            image, ((0, self._padded(height) - height), (0, self._padded(width) - width), (0, 0)), mode="edge"
        )

    def _checksum(self, data: bytes) -> bytes:
        # Seeded with what the decoder must know, so that a stream of another ffmpeg codec does not pass either.
        decoding = [self._options[key] for key in ("format", "pixel_format", "matrix", "range")]
        return zlib.crc32(data, zlib.crc32(repr(decoding).encode())).to_bytes(4, "little")

    def _parse(self, data: bytes) -> tuple[int, int, bytes]:
        if not data.startswith(MAGIC):
            raise BitstreamError(f"{self.id}: no stream of this codec ({len(data)} bytes); give it a file that it made")
        try:
            width, start = _read_leb128(data, len(MAGIC))
            height, end = _read_leb128(data, start)
        except IndexError:
            raise BitstreamError(f"{self.id}: the stream ends in its header; encode the image again") from None
        size, checksum, payload = data[len(MAGIC) : end], data[end : end + 4], data[end + 4 :]
        if checksum != self._checksum(size + payload) or not width or not height:
            raise BitstreamError(f"{self.id}: checksum mismatch, truncated or altered stream; encode the image again")
        return width, height, payload


def _leb128(value: int) -> bytes:
    """Little-endian base 128: seven bits a byte, the high bit set on all but the last."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _read_leb128(data: bytes, start: int) -> tuple[int, int]:
    """The value that begins at *start*, and where the next one does; IndexError if the data ends before."""
    value = 0
    for shift in range(0, 32, 7):
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise IndexError
