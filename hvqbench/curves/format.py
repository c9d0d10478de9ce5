"""The one format of published curves: CSV, one point of one metric a row, with where it comes from.

::

    codec,dataset,metric,bpp,value,source,commit,protocol
    vtm,kodak,psnr,0.0482449,26.1448,InterDigitalInc/CompressAI results/image/kodak/vtm.json,869a9f5,file

Every cell is checked when it is read, since a curve with a slip in it looks like a better codec.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import get_args

from hvqbench.curves.metrics import curve_metric
from hvqbench.errors import HvqbenchError
from hvqbench.protocol import Rate

RATES = get_args(Rate)
"""What the bits of a point are: as in a codec's ``[protocol]``."""

_ID = re.compile(r"[\w.@+-]+")
_COMMIT = re.compile(r"([0-9a-f]{7,40})?")


@dataclass(frozen=True)
class PublishedPoint:
    """One point of one metric of a published curve.

    Parameters
    ----------
    codec
        An id. ``NAME@AUTHORS`` is codec NAME as AUTHORS measured it, who did not make it.
    dataset
        A data set's id. One that was resized or cropped before coding is another data set, with an id of its own.
    metric
        Id of a metric that hvqbench computes, or of :data:`~hvqbench.curves.metrics.PUBLISHED_METRICS`.
    bpp
        Bits per pixel, > 0: the data set's mean.
    value
        The metric's mean, in its unit and range.
    source
        Where the number stands: repository and file, or paper and table.
    commit
        Of the repository, 7 to 40 hexadecimal digits; empty if the source has none.
    protocol
        One of :data:`RATES`; after a colon, in words, what else a reader must know.
    """

    codec: str
    dataset: str
    metric: str
    bpp: float
    value: float
    source: str
    commit: str
    protocol: str


COLUMNS = tuple(field.name for field in fields(PublishedPoint))
"""The header, in its order."""


def read_points(path: Path) -> tuple[PublishedPoint, ...]:
    """The points of the CSV file *path*, in its order.

    Raises
    ------
    HvqbenchError
        If a cell is missing or wrong, a point is there twice, or the file holds none: one line with file and row.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise HvqbenchError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
    except UnicodeDecodeError:
        raise HvqbenchError(f"{path} is not UTF-8: save it as CSV in UTF-8") from None
    return parse_points(text, str(path))


def parse_points(text: str, where: str) -> tuple[PublishedPoint, ...]:
    """The points of a CSV file's *text*; errors name *where* it is from, and are those of :func:`read_points`."""
    rows = csv.reader(io.StringIO(text, newline=""))
    header = tuple(next(rows, ()))
    if header != COLUMNS:
        raise HvqbenchError(f"{where}: row 1: the header must be {','.join(COLUMNS)}; docs/curves.md explains it")
    points: list[PublishedPoint] = []
    seen: dict[tuple[str, str, str, float], int] = {}
    for cells in rows:
        row = f"{where}: row {rows.line_num}"
        if len(cells) != len(COLUMNS):
            raise HvqbenchError(f"{row}: {len(cells)} cells instead of {len(COLUMNS)}; quote a cell with a comma")
        point = _parse(cells, row)
        place = (point.codec, point.dataset, point.metric, point.bpp)
        if place in seen:
            what = f"{point.codec} on {point.dataset} has {point.metric} at {point.bpp:g} bpp"
            raise HvqbenchError(f"{row}: {what} in row {seen[place]} as well; keep one of them")
        seen[place] = rows.line_num
        points.append(point)
    if not points:
        raise HvqbenchError(f"{where} holds no point: add rows below the header, or remove the file")
    return tuple(points)


def format_points(points: Iterable[PublishedPoint]) -> str:
    """*points* as CSV that :func:`read_points` reads back as they were."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(point) for point in points)
    return out.getvalue()


def _parse(cells: list[str], where: str) -> PublishedPoint:
    codec, dataset, metric, bpp, value, source, commit, protocol = (cell.strip() for cell in cells)
    codec, dataset = parse_id(codec, "codec", where), parse_id(dataset, "dataset", where)
    try:
        curve_metric(metric)
    except HvqbenchError as error:
        raise HvqbenchError(f"{where}: {error}") from None
    rate, quality = parse_rate(bpp, where), parse_value(value, metric, where)
    check_origin(source, commit, protocol, where)
    return PublishedPoint(codec, dataset, metric, rate, quality, source, commit, protocol)


def parse_id(text: str, name: str, where: str) -> str:
    """*text* as an id; *name* is its column's."""
    if not _ID.fullmatch(text):
        raise HvqbenchError(f"{where}: {name} {text!r} is no id: use letters, digits and . _ - + @")
    return text


def parse_rate(text: str, where: str) -> float:
    """*text* as bits per pixel."""
    rate = parse_number(text, "bpp", where)
    if rate <= 0:
        raise HvqbenchError(f"{where}: bpp {text} is not above 0: give bits per pixel of the original")
    return rate


def parse_value(text: str, metric: str, where: str) -> float:
    """*text* as a value of the known *metric*, within its range."""
    value = parse_number(text, "value", where)
    lowest, highest = curve_metric(metric).range
    if not lowest <= value <= highest:
        remedy = "name it ms-ssim-db if it is in dB" if metric == "ms-ssim" else "correct it, or name another metric"
        raise HvqbenchError(f"{where}: {metric} goes from {lowest:g} to {highest:g}, {text} does not: {remedy}")
    return value


def check_origin(source: str, commit: str, protocol: str, where: str) -> None:
    """Raise unless it is said where a number is from and what its bits are."""
    if not source:
        raise HvqbenchError(f"{where}: no source: say which file, paper or table has this number")
    if not _COMMIT.fullmatch(commit):
        raise HvqbenchError(
            f"{where}: commit {commit!r} is no 7 to 40 hexadecimal digits: correct it or leave it empty"
        )
    if protocol.partition(":")[0] not in RATES:
        raise HvqbenchError(f"{where}: protocol {protocol!r} must begin with one of {', '.join(RATES)}, then a colon")


def parse_number(text: str, name: str, where: str) -> float:
    """*text* as a finite number; *name* is its column's."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise HvqbenchError(f"{where}: {name} {text!r} is no finite number; write it like 0.125, or drop the row")
    return number
