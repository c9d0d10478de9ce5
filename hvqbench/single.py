"""One file: an image to a bitstream and back."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from hvqbench.codec import Codec
from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.files import atomic_write


def compress_file(source: Path, target: Path, codec: str, point: float | None = None, device: str = "cpu") -> str:
    """Compress the image *source* to the bitstream *target*, which appears whole or not at all.

    Parameters
    ----------
    point
        Operating point; the first of the codec's ladder if it is left out.

    Returns
    -------
    str
        What was done, in one line.
    """
    from hvqbench.image import read_image

    _check_paths(source, target)
    if point is not None and not math.isfinite(point):
        raise HvqbenchError(f"point {point:g} is no finite number; correct --point")
    ready = _prepared(codec, device)
    image = read_image(source)
    data = ready.encode(image, ready.points[0] if point is None else point).data
    _write(target, data)
    height, width = image.shape[:2]
    return f"{target}: {len(data)} bytes, {8 * len(data) / (width * height):.4f} bpp ({width}x{height}, {codec})"


def decompress_file(source: Path, target: Path, codec: str, device: str = "cpu") -> str:
    """Reconstruct the PNG file *target* from the bitstream *source*; *target* appears whole or not at all."""
    from hvqbench.image import write_image

    _check_paths(source, target)
    if target.suffix.lower() != ".png":
        raise HvqbenchError(f"cannot write {target}: images are written as PNG only; give it the suffix .png")
    try:
        data = source.read_bytes()
    except OSError as error:
        raise HvqbenchError(f"cannot read {source}: {error.strerror}; check the path and its permissions") from None
    image = _prepared(codec, device).decode(data)
    with tempfile.TemporaryDirectory(prefix="hvqbench-") as folder:
        whole = Path(folder) / "image.png"
        write_image(whole, image)
        _write(target, whole.read_bytes())
    height, width = image.shape[:2]
    return f"{target}: {width}x{height} pixels from {len(data)} bytes ({codec})"


def _check_paths(source: Path, target: Path) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise HvqbenchError(f"{target} is both input and output; name another output")
    if not target.parent.is_dir() or target.is_dir():
        reason = "it is a folder" if target.is_dir() else "its folder does not exist"
        raise HvqbenchError(f"cannot write {target}: {reason}; name a file in a folder that exists")


def _prepared(name: str, device: str) -> Codec:
    from hvqbench.bench.plan import check_device
    from hvqbench.catalog import load_codec

    codec = load_codec(name)
    if reason := codec.unavailable():
        raise UnavailableError(f"codec {codec.id} cannot run here: {reason}")
    check_device(device)
    codec.prepare(device)
    return codec


def _write(path: Path, data: bytes) -> None:
    try:
        atomic_write(path, data)
    except OSError as error:
        raise HvqbenchError(f"cannot write {path}: {error.strerror}; check the folder and its free space") from None
