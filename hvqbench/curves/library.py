"""Finds published curves: every ``reports/curves/*.csv`` of the catalog, built-in and the user's own.

A curve is asked for by its codec's name, ``published:vtm`` where a measured codec could stand as well. A name belongs
to one file, so that no curve is put together from two sources.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hvqbench.analysis.curves import Curve
from hvqbench.catalog import content_folders
from hvqbench.curves.format import PublishedPoint, read_points
from hvqbench.errors import HvqbenchError, closest

PREFIX = "published:"
"""What sets the name of a published codec apart from a measured one's."""


def is_published(name: str) -> bool:
    """Whether *name* asks for a published curve.

    >>> is_published("published:vtm"), is_published("vtm")
    (True, False)
    """
    return name.startswith(PREFIX)


def published_points() -> tuple[PublishedPoint, ...]:
    """Every published point of the catalog.

    Raises
    ------
    HvqbenchError
        If a file is not in the format, or two files have a codec of one name.
    """
    points: list[PublishedPoint] = []
    home: dict[str, Path] = {}
    for folder in content_folders("reports"):
        for path in sorted((folder / "curves").glob("*.csv")):
            stat = path.stat()
            of_file = _read(path, stat.st_mtime_ns, stat.st_size)
            for codec in dict.fromkeys(point.codec for point in of_file):
                if home.setdefault(codec, path) != path:
                    both = f"{home[codec]} and {path}"
                    raise HvqbenchError(
                        f"two files have published curves of {codec!r}: {both}; rename it in one, like {codec}@authors"
                    )
            points += of_file
    return tuple(points)


def find_published(names: Iterable[str]) -> list[str]:
    """The published codecs that *names* stand for, with or without :data:`PREFIX`; ``*`` matches anything.

    >>> find_published(["hific", "published:m*illm"])
    ['hific', 'msillm']
    """
    known = list(dict.fromkeys(point.codec for point in published_points()))
    found: dict[str, None] = {}
    for name in (name.removeprefix(PREFIX) for name in names):
        matching = [codec for codec in known if fnmatchcase(codec, name)]
        if not matching:
            raise HvqbenchError(
                f"unknown published curve {name!r}: {closest(name, known)}`hvqbench curves ls` lists them all"
            )
        found |= dict.fromkeys(matching)
    return list(found)


def published_curve(name: str, metric: str, dataset: str) -> Curve:
    """The published curve of codec *name* (with or without :data:`PREFIX`) in *metric* on *dataset*.

    Raises
    ------
    HvqbenchError
        If there is none: with what there is of that codec.
    """
    codec = name.removeprefix(PREFIX)
    points = [p for p in published_points() if p.codec == codec]
    if not points:
        find_published([codec])
    chosen = sorted((p.bpp, p.value) for p in points if p.metric == metric and p.dataset == dataset)
    if not chosen:
        raise HvqbenchError(f"no published curve of {codec} in {metric} on {dataset}: there is {extent(points)}")
    return Curve(
        codec=codec,
        dataset=dataset,
        metric=metric,
        points=tuple(float(number) for number in range(len(chosen))),
        bpp=np.array([bpp for bpp, _ in chosen]),
        values=np.array([value for _, value in chosen]),
        images=(),
        published=True,
    )


def has_curve(name: str, metric: str, dataset: str) -> bool:
    """Whether there is a published curve of codec *name* in *metric* on *dataset*."""
    place = (name.removeprefix(PREFIX), metric, dataset)
    return any((point.codec, point.metric, point.dataset) == place for point in published_points())


def list_published(names: Iterable[str]) -> list[dict[str, Any]]:
    """The published curves of the codecs that *names* stand for: a dict for each codec, data set and source."""
    codecs = find_published(names)
    groups: dict[tuple[str, ...], list[PublishedPoint]] = {}
    for point in published_points():
        if point.codec in codecs:
            key = (point.codec, point.dataset, point.source, point.commit, point.protocol)
            groups.setdefault(key, []).append(point)
    return [
        {
            **dict(zip(("codec", "dataset", "source", "commit", "protocol"), key, strict=True)),
            "metrics": list(dict.fromkeys(point.metric for point in points)),
            "points": len({point.bpp for point in points}),
            "lowest_bpp": min(point.bpp for point in points),
            "highest_bpp": max(point.bpp for point in points),
        }
        for key, points in groups.items()
    ]


def extent(points: Iterable[PublishedPoint]) -> str:
    """The metrics that *points* have on each data set: ``psnr, ms-ssim on kodak; psnr on clic2020-test``."""
    metrics: dict[str, dict[str, None]] = {}
    for point in points:
        metrics.setdefault(point.dataset, {})[point.metric] = None
    return "; ".join(f"{', '.join(names)} on {dataset}" for dataset, names in metrics.items())


@lru_cache
def _read(path: Path, modified: int, size: int) -> tuple[PublishedPoint, ...]:
    return read_points(path)
