"""The one format of published curves: CSV, one point of one metric a row, with where it comes from.

::

    codec,dataset,metric,bpp,value,source,commit,protocol
    vtm,kodak,psnr,0.0482449,26.1448,InterDigitalInc/CompressAI results/image/kodak/vtm.json,869a9f5,file

Every cell is checked when it is read, since a curve with a slip in it looks like a better codec.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import get_args

from hvqbench.csv_rows import CsvRow, csv_rows, read_text
from hvqbench.errors import HvqbenchError
from hvqbench.metrics.published import curve_metric
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
        Id of a metric that hvqbench computes, or of :data:`~hvqbench.metrics.published.PUBLISHED_METRICS`.
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
    return parse_points(read_text(path), str(path))


def parse_points(text: str, where: str) -> tuple[PublishedPoint, ...]:
    """The points of a CSV file's *text*; errors name *where* it is from, and are those of :func:`read_points`."""
    header, rows = csv_rows(text, where)
    if header != COLUMNS:
        raise HvqbenchError(f"{where}: row 1: the header must be {','.join(COLUMNS)}; docs/curves.md explains it")
    points: list[PublishedPoint] = []
    seen: dict[tuple[str, str, str, float], int] = {}
    for row in rows:
        point = _parse(row)
        place = (point.codec, point.dataset, point.metric, point.bpp)
        if place in seen:
            what = f"{point.codec} on {point.dataset} has {point.metric} at {point.bpp:g} bpp"
            raise HvqbenchError(f"{row.where}: {what} in row {seen[place]} as well; keep one of them")
        seen[place] = row.line
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


def _parse(row: CsvRow) -> PublishedPoint:
    codec, dataset, metric = parse_id(row, "codec"), parse_id(row, "dataset"), row["metric"]
    try:
        curve_metric(metric)
    except HvqbenchError as error:
        raise HvqbenchError(f"{row.where}: {error}") from None
    rate, value = parse_rate(row), parse_value(row, "value", metric)
    return PublishedPoint(codec, dataset, metric, rate, value, *parse_origin(row))


def parse_id(row: CsvRow, column: str) -> str:
    """A cell as an id."""
    if not _ID.fullmatch(row[column]):
        raise HvqbenchError(f"{row.where}: {column} {row[column]!r} is not an id: use letters, digits and . _ - + @")
    return row[column]


def parse_rate(row: CsvRow) -> float:
    """Bits per pixel."""
    rate = row.number("bpp")
    if rate <= 0:
        raise HvqbenchError(f"{row.where}: bpp {row['bpp']} is not above 0: give bits per pixel of the original")
    return rate


def parse_value(row: CsvRow, column: str, metric: str) -> float:
    """A cell as a value of the known *metric*, within its range."""
    value = row.number(column)
    lowest, highest = curve_metric(metric).range
    if not lowest <= value <= highest:
        remedy = "name it ms-ssim-db if it is in dB" if metric == "ms-ssim" else "correct it, or name another metric"
        goes = f"{metric} goes from {lowest:g} to {highest:g}, {row[column]} does not"
        raise HvqbenchError(f"{row.where}: {goes}: {remedy}")
    return value


def parse_origin(row: CsvRow) -> tuple[str, str, str]:
    """Source, commit and protocol: where a number is from, and what its bits are."""
    source, commit, protocol = row["source"], row["commit"], row["protocol"]
    if not source:
        raise HvqbenchError(f"{row.where}: no source: say which file, paper or table has this number")
    if not _COMMIT.fullmatch(commit):
        raise HvqbenchError(
            f"{row.where}: commit {commit!r} is no 7 to 40 hexadecimal digits: correct it or leave it empty"
        )
    if protocol.partition(":")[0] not in RATES:
        begin = f"must begin with one of {', '.join(RATES)}, then a colon"
        raise HvqbenchError(f"{row.where}: protocol {protocol!r} {begin}")
    return source, commit, protocol
