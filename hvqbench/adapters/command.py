"""Any encoder and decoder that are programs: their command lines stand in the ``codec.toml``.

::

    [options]
    encode = "vvencapp -i {input} -s {width}x{height} -q {point} -o {output}"
    decode = "vvdecapp -b {input} -o {output}"
    input = "yuv"

A command line is split once, as a shell would, and each ``{name}`` is replaced within its argument: no shell ever sees
it, and no name with a blank can come apart. Pictures and coded files pass through a temporary folder, so times include
starting the program and reading and writing files.

The coded file is the bitstream as it is, if the decoder needs nothing else. Where it does (the size of a ``yuv``
picture or of a padded one, or the point), :mod:`hvqbench.adapters.sized` puts a header of a few bytes before it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from hvqbench.adapters.process import run_program
from hvqbench.adapters.sized import read_sized, size_header
from hvqbench.adapters.yuv import YuvFormat
from hvqbench.codec import Bitstream, Codec, CodecSpec, Image, Stream
from hvqbench.errors import BitstreamError, HvqbenchError, UnavailableError, closest
from hvqbench.scratch import scratch_folder
from hvqbench.settings import read_settings

MAGIC = b"\xc5"
PICTURES: Mapping[str, str] = {"png": ".png", "ppm": ".ppm", "yuv": ".yuv"}
NAMES = ("input", "output", "point", "value", "width", "height", "home", "folder", "device")
"""What may stand in braces in a command line."""


@dataclass(frozen=True)
class CommandOptions:
    """The table ``[options]``; ``docs/codecs.md`` explains each."""

    encode: str
    decode: str
    input: Literal["png", "ppm", "yuv"]
    suffix: str = ".bin"
    home: str = ""
    workdir: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    version_command: str = ""
    timeout_s: float = 3600.0
    size_multiple: int = 1
    yuv: YuvFormat | None = None
    point_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.input == "yuv" and self.yuv is None:
            raise HvqbenchError("input = 'yuv' needs a table [options.yuv]; docs/codecs.md lists its keys")


class CommandCodec(Codec):
    """A codec behind two command lines; ``docs/codecs.md`` lists the options, ``codecs/vtm`` is an example.

    Its fingerprint covers the command lines, ``files``, and the programs: what ``version_command`` prints, or else the
    content of the programs themselves.
    """

    version: ClassVar[str] = "1"

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__(spec)
        o = self._options = read_settings(CommandOptions, spec.options, f"{spec.folder / 'codec.toml'}: [options]")
        self._yuv = o.yuv if o.input == "yuv" else None
        self._multiple = int(np.lcm(o.size_multiple, self._yuv.multiple if self._yuv else 1))
        self._commands = {name: self._split(name) for name in ("encode", "decode", "version_command")}
        decoder = self._commands["decode"]
        self._point_in_header = any("{point}" in argument or "{value}" in argument for argument in decoder)
        sized = any("{width}" in argument or "{height}" in argument for argument in decoder)
        self._has_header = bool(self._yuv or self._multiple > 1 or self._point_in_header or sized)
        self._device = "cpu"

    def unavailable(self) -> str | None:
        reason = self.missing()
        if reason is None:
            try:
                assert self.build  # raises if version_command misses something
            except HvqbenchError as error:
                return str(error).removeprefix(f"{self.id}: ")
        return reason

    def missing(self) -> str | None:
        """As of :class:`Codec`: ``version_command`` is not run."""
        try:
            if any("{home}" in argument for command in self._commands.values() for argument in command):
                self._home()
            for name in ("encode", "decode"):
                self._program(name)
            for path in self.files():
                if not path.is_file():
                    raise self._lacks(f"there is no {path}")
        except HvqbenchError as error:
            return str(error).removeprefix(f"{self.id}: ")
        if self.spec.needs.gpu and not shutil.which("nvidia-smi"):
            return "it needs an NVIDIA GPU and there is none here: run it on a machine that has one"
        return None

    def prepare(self, device: str = "cpu") -> None:
        self._device = device

    def files(self) -> list[Path]:
        return [self.spec.folder / self._fill(name, {}) for name in self._options.files]

    def encode(self, image: Image, point: float) -> Bitstream:
        low, high = self.point_range
        text = f"{point:g}"
        if not low <= point <= high:
            raise HvqbenchError(f"{self.id}: {self.spec.point_name} {text} is not in {low:g} to {high:g}; correct it")
        value = self._value(text)
        height, width = image.shape[:2]
        padding = ((0, -height % self._multiple), (0, -width % self._multiple), (0, 0))
        padded = np.pad(image, padding, mode="edge") if self._multiple > 1 else image
        with scratch_folder() as scratch:
            picture = scratch / f"picture{PICTURES[self._options.input]}"
            coded = scratch / f"coded{self._options.suffix}"
            self._write_picture(picture, padded)
            self._run("encode", self._names(picture, coded, text, value, padded.shape[1], padded.shape[0]), scratch)
            data = coded.read_bytes() if coded.is_file() else b""
        if not data:
            raise HvqbenchError(f"{self.id}: the encoder wrote no file for {width}x{height} pixels; check 'encode'")
        if not self._has_header:
            return Bitstream(data, {"payload": Stream(len(data))})
        before = bytes([len(text)]) + text.encode() if self._point_in_header else b""
        header = size_header(MAGIC, width, height, before + data, self._key)
        whole = header + before + data
        return Bitstream(whole, {"header": Stream(len(whole) - len(data)), "payload": Stream(len(data))})

    def decode(self, data: bytes) -> Image:
        width = height = 0
        text = value = ""
        if self._has_header:
            width, height, data = read_sized(data, MAGIC, self._key, self.id)
            if self._point_in_header:
                text, data = data[1 : 1 + data[0]].decode(), data[1 + data[0] :]
                value = self._value(text)
        coded_width, coded_height = (-(-side // self._multiple) * self._multiple for side in (width, height))
        with scratch_folder() as scratch:
            coded = scratch / f"coded{self._options.suffix}"
            picture = scratch / f"picture{PICTURES[self._options.input]}"
            coded.write_bytes(data)
            self._run("decode", self._names(coded, picture, text, value, coded_width, coded_height), scratch)
            image = self._read_picture(picture, coded_width, coded_height)
        return image[:height, :width].copy() if self._has_header else image

    @cached_property
    def fingerprint(self) -> str:
        """As of :class:`Codec`, with the programs behind the command lines."""
        return hashlib.sha256(f"{super().fingerprint} {self.build}".encode()).hexdigest()

    @cached_property
    def build(self) -> str:
        """What ``version_command`` prints, or else the sha256 of the encoder's and the decoder's program.

        Raises
        ------
        UnavailableError
            There is no such program, or ``version_command`` fails: then something that it asks for is missing.
        """
        if not self._commands["version_command"]:
            programs = dict.fromkeys(self._program(name) for name in ("encode", "decode"))
            return " ".join(hashlib.sha256(Path(program).read_bytes()).hexdigest() for program in programs)
        with scratch_folder() as scratch:
            status, said = self._start("version_command", {}, scratch)
        if status or not said:
            raise self._lacks(f"version_command failed ({status}): {_end(said)}")
        return said

    # Command lines

    def _split(self, name: str) -> list[str]:
        try:
            line = getattr(self._options, name)
            arguments = shlex.split(line)
        except ValueError as error:
            raise HvqbenchError(f"{self.id}: {name} cannot be split: {error}; correct it in codec.toml") from None
        for used in re.findall(r"\{(\w+)\}", line):
            if used not in NAMES:
                known = ", ".join(NAMES)
                raise HvqbenchError(f"{self.id}: {name} has {{{used}}}: {closest(used, NAMES)}there are {known}")
            if used == "home" and not self._options.home:
                raise HvqbenchError(f"{self.id}: {name} has {{home}}: set the option 'home' to a variable's name")
        if not arguments and name != "version_command":
            raise HvqbenchError(f"{self.id}: {name} is empty; write a command line")
        return arguments

    def _names(
        self, source: Path, target: Path, point: str, value: str, width: int, height: int
    ) -> dict[str, str | Path]:
        size = {"width": str(width), "height": str(height)}
        return {"input": source, "output": target, "point": point, "value": value, "device": self._device, **size}

    def _fill(self, argument: str, names: Mapping[str, str | Path]) -> str:
        """Replace every ``{name}``; braces around anything else stay as they are."""

        def replacement(match: re.Match[str]) -> str:
            name = match[1]
            if name == "home":
                return str(self._home())
            return str(self.spec.folder if name == "folder" else names.get(name, match[0]))

        return re.sub(r"\{(\w+)\}", replacement, argument)

    def _home(self) -> Path:
        variable = self._options.home
        folder = os.environ.get(variable, "")
        if not folder:
            raise self._lacks(f"the environment variable {variable} names no folder")
        if not Path(folder).is_dir():
            raise self._lacks(f"{variable} names {folder}, which is not a folder")
        return Path(folder).resolve()

    def _program(self, name: str) -> str:
        """Where the program of a command line is: in ``home``, its ``bin`` or its ``.venv``, or else on ``PATH``."""
        program = self._fill(self._commands[name][0], {})
        places = os.environ.get("PATH", os.defpath).split(os.pathsep)
        if os.environ.get(self._options.home):
            home = self._home()
            places = [str(home), str(home / "bin"), str(home / ".venv" / "bin"), *places]
        found = shutil.which(program, path=os.pathsep.join(places))
        if not found:
            where = f"in {self._options.home} or on PATH" if self._options.home else "on PATH"
            raise self._lacks(f"there is no program {program!r} {where}")
        return found

    def _lacks(self, reason: str) -> UnavailableError:
        remedy = self.spec.needs.install or "install it, or correct codec.toml"
        return UnavailableError(f"{self.id}: {reason}: {remedy}")

    def _run(self, name: str, names: Mapping[str, str | Path], scratch: Path) -> None:
        status, said = self._start(name, names, scratch)
        if status:
            failed = f"{self.id}: {Path(self._commands[name][0]).name} failed ({status}): {_end(said)}"
            if name == "decode":
                raise BitstreamError(f"{failed}; encode the image again")
            raise HvqbenchError(f"{failed}; check 'encode' in codec.toml")

    def _start(self, name: str, names: Mapping[str, str | Path], scratch: Path) -> tuple[int, str]:
        """Exit status of a command line, and the end of all that it printed."""
        arguments = [self._program(name), *(self._fill(a, names) for a in self._commands[name][1:])]
        workdir = self._fill(self._options.workdir, names) or scratch
        limit = self._options.timeout_s
        try:
            return run_program(arguments, workdir, scratch / "log.txt", limit)
        except OSError as error:
            raise self._lacks(f"cannot run {arguments[0]}: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise HvqbenchError(
                f"{self.id}: {name} took more than {limit:g} s; raise timeout_s in codec.toml"
            ) from None

    # Pictures

    @property
    def _key(self) -> str:
        """What a decoder must know; part of the header's checksum."""
        told = {"yuv": None, "values": {}, "size_multiple": 1, **self.spec.options}
        return repr([told[name] for name in ("decode", "input", "yuv", "values", "size_multiple")])

    def _value(self, text: str) -> str:
        values = self._options.values
        if values and text not in values:
            raise HvqbenchError(f"{self.id}: no value for {self.spec.point_name} {text}; there are {', '.join(values)}")
        return str(values.get(text, text))

    def _write_picture(self, path: Path, image: Image) -> None:
        if self._yuv:
            path.write_bytes(self._yuv.write(image))
            return
        from PIL import Image as pil

        pil.fromarray(image).save(path)

    def _read_picture(self, path: Path, width: int, height: int) -> Image:
        if not path.is_file():
            raise BitstreamError(f"{self.id}: the decoder wrote no picture; check 'decode', or encode the image again")
        if self._yuv:
            try:
                return self._yuv.read(path.read_bytes(), width, height)
            except ValueError as error:
                raise BitstreamError(f"{self.id}: the decoder's picture: {error}; check 'decode' and 'yuv'") from None
        from hvqbench.image import read_image

        image = read_image(path)
        if self._has_header and image.shape[:2] != (height, width):
            found = f"{image.shape[1]}x{image.shape[0]}"
            raise BitstreamError(f"{self.id}: the decoder's picture has {found} pixels, not the {width}x{height} coded")
        return image


def _end(said: str) -> str:
    """The last three lines of what a program printed, as one."""
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-400:] or "it said nothing"
