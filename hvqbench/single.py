"""One file: an image to a bitstream and back."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from hvqbench.catalog import load_codec, load_spec
from hvqbench.codec import Codec, Image
from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.files import atomic_write
from hvqbench.rate_control import Found, Target, Trial, UnreachableError, find_point
from hvqbench.scratch import scratch_folder

PATIENCE_S = 2.0
"""A search that takes longer says where it is."""


def compress_file(
    source: Path,
    target: Path,
    codec: str,
    point: float | None = None,
    device: str = "cpu",
    *,
    weight: float | None = None,
    bpp: float | None = None,
    quality: str | None = None,
    granularity: str | None = None,
    roi: Path | None = None,
    roi_weight: float = 4.0,
) -> str:
    """Compress the image *source* to the bitstream *target*, which appears whole or not at all.

    Parameters
    ----------
    point
        Operating point; the first of the codec's ladder if neither it nor one of the following is given.
    weight
        The same for codecs whose point is L, and an error for others.
    bpp
        Bits per pixel, for which a point is searched (:mod:`hvqbench.rate_control`); where the codec cannot spend so
        many, its largest stream is written, and the line says so.
    quality
        Metric and value like ``lpips-alex=0.2``: the smallest stream at least that good is searched.
    granularity
        Of a codec with granularities, their shares of the image: ``coarse=0.3,medium=0.5,fine=0.2``.
    roi, roi_weight
        Of such a codec, a picture of the image's size, white where distortion counts *roi_weight* times.

    Returns
    -------
    str
        What was done, in one line.
    """
    from hvqbench.image import read_image

    _check_paths(source, target)
    wanted = _target(point, weight, bpp, quality)
    spec = load_spec(codec)
    if weight is not None and not load_codec(codec).has_weight:
        raise HvqbenchError(
            f"codec {spec.id} has no L, its point is {spec.point_name}: use --point instead of --lambda"
        )
    ready = _prepared(codec, device)
    if granularity is not None or roi is not None:
        _steer(ready, granularity, roi, roi_weight)
    image = read_image(source)
    height, width = image.shape[:2]
    value = search = ""
    if wanted is None:
        point = next((p for p in (point, weight) if p is not None), ready.points[0])
        data = ready.encode(image, point).data
    else:
        with _status(wanted) as watch:
            found, most = _search(ready, image, wanted, watch)
        point, data = found.trial.point, found.trial.stream.data
        value = "" if wanted.is_rate else f", {wanted.quantity} {found.trial.value:.4f}"
        search = f"{found.encoder and ' with '}{found.encoder}, found with {found.encodes} encodes"
        if most:
            search += f"; the most that it spends on this image, which is below {wanted.value:g} bpp"
        elif not found.reached:
            miss = 100 * (found.trial.bpp / wanted.value - 1)
            search += f"; {abs(miss):.1f} % {'above' if miss > 0 else 'below'} {wanted.value:g} bpp, no nearer one seen"
    _write(target, data)
    rate = f"{len(data)} bytes, {8 * len(data) / (width * height):.4f} bpp"
    return f"{target}: {rate}{value} ({width}x{height}, {codec}, {spec.point_name} {point:g}{search})"


def decompress_file(source: Path, target: Path, codec: str, device: str = "cpu", max_pixels: int | None = None) -> str:
    """Reconstruct the PNG file *target* from the bitstream *source*; *target* appears whole or not at all.

    A stream of a VQ codec that claims more than *max_pixels* is refused before anything is made of it.
    """
    from hvqbench.image import write_image

    _check_paths(source, target)
    if target.suffix.lower() != ".png":
        raise HvqbenchError(f"cannot write {target}: images are written as PNG only; give it the suffix .png")
    try:
        data = source.read_bytes()
    except OSError as error:
        raise HvqbenchError(f"cannot read {source}: {error.strerror}; check the path and its permissions") from None
    ready = _prepared(codec, device)
    if max_pixels is not None:
        if not hasattr(ready, "max_pixels"):
            raise HvqbenchError(f"codec {codec} knows no limit of pixels: leave out --max-pixels")
        ready.max_pixels = max_pixels
    image = ready.decode(data)
    with scratch_folder() as folder:
        whole = folder / "image.png"
        write_image(whole, image)
        _write(target, whole.read_bytes())
    height, width = image.shape[:2]
    return f"{target}: {width}x{height} pixels from {len(data)} bytes ({codec})"


def _steer(codec: Codec, granularity: str | None, roi: Path | None, roi_weight: float) -> None:
    """Ask for shares of granularities, or for a region of interest."""
    if not getattr(codec, "has_granularities", False):
        raise HvqbenchError(f"codec {codec.id} has no granularities: leave out --granularity and --roi")
    from hvqbench.vq.steering import Steering, read_region, read_shares

    shares = None if granularity is None else read_shares(granularity)
    codec.steering = Steering(shares, None if roi is None else read_region(roi, roi_weight))  # type: ignore[attr-defined]


def _target(point: float | None, weight: float | None, bpp: float | None, quality: str | None) -> Target | None:
    """What is to be searched; None for a point that is given."""
    options = {"--point": point, "--lambda": weight, "--bpp": bpp, "--quality": quality}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise HvqbenchError(f"{' and '.join(given)} each set the operating point: give one of them")
    for name, value in (("point", point), ("lambda", weight)):
        if value is not None and not math.isfinite(value):
            raise HvqbenchError(f"{name} {value:g} is not a finite number; correct --{name}")
    return Target.of_options(bpp, quality)


def _search(codec: Codec, image: Image, target: Target, watch: Callable[[Trial], None] | None) -> tuple[Found, bool]:
    """What was found, and whether it is all that the codec can spend: fewer bits than asked for are no failure."""
    try:
        return find_point(codec, image, target, watch), False
    except UnreachableError as error:
        if not target.is_rate or error.nearest.gap > 0:
            raise
        return Found(error.nearest, False, error.encodes), True


@contextmanager
def _status(target: Target) -> Iterator[Callable[[Trial], None] | None]:
    """A line about the search, in a terminal, if it takes long."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    begin = monotonic()
    status = Console(stderr=True).status("")

    def watch(trial: Trial) -> None:
        if monotonic() - begin > PATIENCE_S:
            now = f"point {trial.point:g} gives {trial.value:.4g} at {trial.bpp:.4f} bpp"
            status.update(f"looking for {target.quantity} {target.value:g}: {now}")
            status.start()

    try:
        yield watch
    finally:
        status.stop()


def _check_paths(source: Path, target: Path) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise HvqbenchError(f"{target} is both input and output; name another output")
    if not target.parent.is_dir() or (target.exists() and not target.is_file()):
        reason = "it is not a regular file" if target.exists() else "its folder does not exist"
        raise HvqbenchError(f"cannot write {target}: {reason}; name a file in a folder that exists")


def _prepared(name: str, device: str) -> Codec:
    from hvqbench.bench.plan import check_device

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
