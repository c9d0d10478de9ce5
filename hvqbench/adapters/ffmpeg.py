"""Still images through an intra coder of the ffmpeg that ``imageio-ffmpeg`` carries: VVC, HEVC and AV1.

Pixels and bytes go through pipes, so there is no shell and no temporary file. Two things are done with care:

* **Colour.** swscale's default conversion truncates: R'G'B' -> Y'CbCr 4:2:0 -> R'G'B' comes back 1.9 levels too dark
  (Kodak kodim03, 40.5 dB). With the flags below and **limited range** the mean error is 0.008 levels (48.6 dB with 10
  bits), 4:4:4 with 10 bits comes back exactly, and ``bitexact`` makes it independent of the processor. Full range it
  truncates even so (8 bits, 4:4:4: 0.33 levels too dark, 49.1 dB instead of 52.9), and is refused here. Matrix and
  range are said on both sides.
* **Size.** Subsampled chroma needs even sides and each encoder a least size, so the image is padded by repeating
  its edge, and the original size travels in a small header (:mod:`hvqbench.adapters.sized`; 9 bytes for a Kodak image).
  Padding and header are counted like any other byte.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hvqbench.adapters.process import program
from hvqbench.adapters.sized import read_sized, size_header
from hvqbench.codec import Bitstream, Codec, CodecSpec, Image, Stream
from hvqbench.errors import BitstreamError, HvqbenchError, UnavailableError

MAGIC = b"\xf5"
SWSCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
OPTIONS = frozenset(
    {"encoder", "decoder", "format", "pixel_format", "matrix", "range", "threads", "timeout_s"}
    | {"size_multiple", "size_minimum", "point_option", "point_range", "encoder_options"}
)
"""The options that a ``codec.toml`` must state; ``encoder_options`` is a table handed to the encoder as it is."""


class Spoken(NamedTuple):
    """What a program wrote."""

    stdout: bytes
    stderr: bytes


class FFmpegCodec(Codec):
    """One picture through one of ffmpeg's encoders and decoders; ``codecs/vvenc/codec.toml`` shows every option.

    An operating point is the encoder's ``point_option``, an integer: the QP of ``libvvenc`` and ``libx265``, say.
    """

    version: ClassVar[str] = "1"
    libraries: ClassVar[tuple[str, ...]] = ("imageio-ffmpeg",)
    options: ClassVar[frozenset[str]] = OPTIONS

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__(spec)
        differing = sorted(spec.options.keys() ^ self.options)
        if differing:
            raise HvqbenchError(
                f"{spec.id}: option {differing[0]!r} is unknown or missing; state exactly {sorted(self.options)}"
            )
        self._options: dict[str, Any] = dict(spec.options)
        if self._options["range"] != "limited":
            reason = f"swscale truncates when it converts to range {self._options['range']!r}"
            raise HvqbenchError(f"{spec.id}: {reason}; set it to 'limited'")

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
            reason = f"{name} {point:g} is not an integer from {lowest} to {highest}"
            raise HvqbenchError(f"{self.id}: {reason}; correct the operating point")
        height, width = image.shape[:2]
        payload = self._encode_picture(self._coded(image), int(point), "error").stdout
        if not payload:
            raise HvqbenchError(f"{self.id}: ffmpeg coded nothing for an image of {width}x{height}; leave it out")
        header = size_header(MAGIC, width, height, payload, self._key)
        return Bitstream(header + payload, {"header": Stream(len(header)), "payload": Stream(len(payload))})

    def decode(self, data: bytes) -> Image:
        width, height, payload = read_sized(data, MAGIC, self._key, self.id)
        padded_height, padded_width = self._coded_size(height, width)
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
        return self._restore(np.frombuffer(pixels, np.uint8).reshape(padded_height, padded_width, 3), height, width)

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
        library = re.search(r"(?:version:? |Encoder Lib v|\] v)(\d\S*)", log)
        found = [f"ffmpeg {ffmpeg[1]}" if ffmpeg else "", f"{self._options['encoder']} {library[1]}" if library else ""]
        return ", ".join(filter(None, found))

    def _encode_picture(self, image: Image, point: int, loglevel: str) -> Spoken:
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

    def _ffmpeg(self, arguments: Sequence[str], stdin: bytes) -> Spoken:
        """Run ffmpeg, or raise one line with the last thing that it said."""
        import imageio_ffmpeg

        try:
            executable = imageio_ffmpeg.get_ffmpeg_exe()
        except RuntimeError:
            remedy = "reinstall imageio-ffmpeg from its wheel, or point IMAGEIO_FFMPEG_EXE at an ffmpeg"
            raise UnavailableError(f"{self.id}: no ffmpeg was found: {remedy}") from None
        timeout = self._options["timeout_s"]
        try:
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            with program([executable, *arguments], **pipes) as process:
                said, complained = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            raise HvqbenchError(
                f"{self.id}: ffmpeg took more than {timeout} s; raise timeout_s in codec.toml"
            ) from None
        except OSError as error:
            raise UnavailableError(
                f"{self.id}: cannot run {executable}: {error.strerror}; check IMAGEIO_FFMPEG_EXE"
            ) from None
        if process.returncode != 0:
            lines = complained.decode(errors="replace").strip().splitlines()
            raise HvqbenchError(
                f"{self.id}: ffmpeg failed ({process.returncode}): {lines[-1] if lines else 'it said nothing'}"
            )
        return Spoken(said, complained)

    def _padded(self, side: int) -> int:
        multiple = self._options["size_multiple"]
        return -(-max(side, self._options["size_minimum"]) // multiple) * multiple

    def _coded_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the picture that is coded for an image of that size."""
        return self._padded(height), self._padded(width)

    def _coded(self, image: Image) -> Image:
        """The picture that is coded for *image*: padded."""
        height, width = image.shape[:2]
        return np.pad(
            image, ((0, self._padded(height) - height), (0, self._padded(width) - width), (0, 0)), mode="edge"
        )

    def _restore(self, picture: Image, height: int, width: int) -> Image:
        """The image of that size from the coded *picture*: cropped."""
        return picture[:height, :width].copy()

    @property
    def _key(self) -> str:
        """What the decoder must know, so that a stream of another ffmpeg codec does not pass."""
        return repr([self._options[key] for key in ("format", "pixel_format", "matrix", "range")])
