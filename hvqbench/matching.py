"""Like for like: every codec at the setting where it has the same rate, or the same quality, on the same image.

    matches = match(["jpeg", "hypervq"], Target.parse("bpp=0.1"), "kodak", Path("match"))

Pictures side by side are compared one image at a time, so the setting is found for each image
(:mod:`hvqbench.rate_control`). What is shown is what another process decoded from the bytes that were written.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.bench.pictures import Pictures
from hvqbench.bench.plan import Entry, check_device, find_codec
from hvqbench.bench.progress import progress as show_progress
from hvqbench.bench.worker import describe
from hvqbench.catalog import select_codecs
from hvqbench.codec import Image
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_write, image_file_name
from hvqbench.image import write_image
from hvqbench.rate_control import Target, Trial
from hvqbench.shown import csv_cell

if TYPE_CHECKING:
    from hvqbench.data import ImageFile

TABLE, RECORDS = "matches.csv", "matches.json"


@dataclass(frozen=True)
class Match:
    """One codec on one image.

    Parameters
    ----------
    image
        Its name in the data set; empty for a codec that cannot run here.
    status
        ``ok``; ``missed``, for a rate that the codec jumps over: the nearest stream is there, and ``reason`` says how
        far off it is; ``failed``, with the reason, for a target out of reach, or an error; ``unavailable``.
    encoder
        Which variant of :class:`~hvqbench.codec.ImageEncoder` made the stream; empty for the codec's own choice.
    value
        What was to be met: bits per pixel, or the metric, of the written picture.
    stream, picture
        Files, relative to the folder of the table; the original lies beside as ``original.png``.
    """

    codec: str
    image: str
    target: str
    status: str
    reason: str = ""
    point_name: str = ""
    point: float | None = None
    encoder: str = ""
    bytes: int | None = None
    bpp: float | None = None
    value: float | None = None
    psnr: float | None = None
    encodes: int = 0
    stream: str = ""
    picture: str = ""


def match(
    codecs: Sequence[str],
    target: Target,
    dataset: str | Path,
    out: Path,
    *,
    images: Sequence[str] = (),
    limit: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> list[Match]:
    """Find each codec's setting for each image; write streams, pictures and a table to the folder *out*.

    Parameters
    ----------
    codecs
        Ids, tags or paths of ``codec.toml`` files. One that cannot run or cannot reach the target says so in its rows.
    dataset
        An id, a folder of images, or an image.
    images
        Names of images in it; by default all.
    limit
        Only the first so many of these.
    progress
        Whether to show it, on stderr.

    Raises
    ------
    HvqbenchError
        An unknown codec, data set, image, metric or device; *out* cannot be written.
    """
    from hvqbench.data import load_dataset

    entries = [find_codec(name) for name in select_codecs(codecs)]
    if len({entry.spec.id for entry in entries}) < len(entries):
        raise HvqbenchError(f"two of {', '.join(codecs)} have one name, and so one file: rename a folder")
    data = load_dataset(dataset)
    chosen = (data.named(images) or data.images)[:limit]
    check_device(device)
    out.mkdir(parents=True, exist_ok=True)
    matches = []
    with show_progress(len(entries) * len(chosen), progress) as advance:
        for found in _matches(entries, chosen, target, out, device):
            matches.append(found)
            advance(f"{found.codec} {found.image}", found.status == "failed")
    atomic_write(out / TABLE, _csv(matches).encode())
    atomic_write(out / RECORDS, (json.dumps([_finite(m) for m in matches], indent=2) + "\n").encode())
    return matches


def _matches(
    entries: Sequence[Entry], images: Sequence[ImageFile], target: Target, out: Path, device: str
) -> Iterator[Match]:
    wanted = f"{target.quantity}={target.value:g}"
    with Pictures(device) as pictures:
        for entry in entries:
            if (reason := entry.unavailable()) or entry.codec is None:
                yield Match(entry.spec.id, "", wanted, "unavailable", reason or entry.broken)
                continue
            for file in images:
                try:
                    yield _match_one(entry, file, target, out, pictures)
                except OSError:  # the disk's
                    raise
                except Exception as error:  # an adapter's own, of any kind
                    yield Match(entry.spec.id, file.name, wanted, "failed", describe(error))


def _match_one(entry: Entry, file: ImageFile, target: Target, out: Path, pictures: Pictures) -> Match:
    image, codec = file.read(), entry.spec
    made = pictures.make(entry, image, target)
    found, data = made.found, made.stream.data
    assert found is not None
    folder = out / image_file_name(file.name)
    folder.mkdir(exist_ok=True)
    write_image(folder / "original.png", image)
    write_image(folder / f"{codec.id}.png", made.decoded.image)
    atomic_write(folder / f"{codec.id}.bin", data)
    return Match(
        codec=codec.id,
        image=file.name,
        target=f"{target.quantity}={target.value:g}",
        status="ok" if found.reached else "missed",
        reason="" if found.reached else _miss(found.trial, target),
        point_name=codec.point_name,
        point=made.point,
        encoder=found.encoder,
        bytes=len(data),
        bpp=found.trial.bpp,
        value=found.trial.value,
        psnr=_psnr(image, made.decoded.image),
        encodes=found.encodes,
        stream=(folder / f"{codec.id}.bin").relative_to(out).as_posix(),
        picture=(folder / f"{codec.id}.png").relative_to(out).as_posix(),
    )


def _miss(trial: Trial, target: Target) -> str:
    miss = 100 * (trial.value / target.value - 1)
    return f"{abs(miss):.1f} % {'above' if miss > 0 else 'below'}, no nearer rate was seen"


def _psnr(original: Image, decoded: Image) -> float:
    from hvqbench.metrics import load_metric

    return load_metric("psnr")(original, decoded)


def _csv(matches: Sequence[Match]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Match)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in asdict(match).items()} for match in matches)
    return text.getvalue()


def _finite(match: Match) -> dict[str, object]:
    """For JSON, which knows no infinity: the PSNR of equal images is null there."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(match).items()}


def as_table(matches: Sequence[Match], target: Target) -> str:
    """The table that ``hvqbench match`` prints; for more than one image, each codec's means over those it has."""
    from tabulate import tabulate

    done = [match for match in matches if match.bytes is not None]
    quality = [] if target.quantity in ("bpp", "psnr") else [target.quantity]
    head = ["codec", "image", "point", "bytes", "bpp", *quality, "psnr", "status"]

    def line(match: Match) -> list[str]:
        if match.bytes is None:
            return [match.codec, match.image, *["-"] * (len(head) - 3), match.status]
        point = f"{match.point_name} {match.point:g}" + (f", {match.encoder}" if match.encoder else "")
        values = [f"{match.bpp:.4f}", *([f"{match.value:.4f}"] if quality else []), f"{match.psnr:.2f}"]
        return [match.codec, match.image, point, f"{match.bytes}", *values, match.status]

    lines = [line(match) for match in matches]
    for codec in dict.fromkeys(match.codec for match in done):
        own = [match for match in done if match.codec == codec]
        asked = sum(match.codec == codec for match in matches)
        if asked > 1:
            kinds = ("bytes", "bpp", *(["value"] if quality else []), "psnr")
            means = {kind: sum(getattr(match, kind) for match in own) / len(own) for kind in kinds}
            digits = {"bytes": 0, "psnr": 2}
            values = [f"{mean:.{digits.get(kind, 4)}f}" for kind, mean in means.items()]
            missed = sum(match.status == "missed" for match in own)
            notes = [*([f"{missed} missed"] if missed else []), *([f"of {asked}"] if len(own) < asked else [])]
            lines.append([codec, f"mean of {len(own)}", "", *values, ", ".join(notes)])
    align = ["left", "left", "left", *["right"] * (len(head) - 4), "left"]
    table = tabulate(lines, head, tablefmt="simple", disable_numparse=True, colalign=align)
    reasons: dict[str, list[str]] = {}
    for match in matches:
        if match.reason:
            reasons.setdefault(f"{match.codec} {match.status}: {match.reason}", []).append(match.image)
    return "\n".join([table, *([""] if reasons else []), *map(_told, reasons, reasons.values())])


def _told(reason: str, images: list[str]) -> str:
    """A reason once, with where it holds."""
    return reason + (f" ({images[0]}{f' and {len(images) - 1} more' if images[1:] else ''})" if images[0] else "")
