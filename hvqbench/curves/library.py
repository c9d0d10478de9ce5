"""Finds published curves: every ``reports/curves/*.csv`` of the catalog, built-in and the user's own.

A curve is asked for by its codec's name, ``published:vtm`` where a measured codec could stand as well. A name belongs
to one file, so that no curve is put together from two sources. A second file, ``reports/curves/images/*.csv``, may hold
the images behind the means (:mod:`hvqbench.curves.images`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hvqbench.analysis.curves import Curve
from hvqbench.catalog import content_folders
from hvqbench.curves.format import PublishedPoint, read_points
from hvqbench.curves.images import PublishedSet, read_images
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
    """Every published point of the catalog, the means of published images included.

    Raises
    ------
    HvqbenchError
        If a file is not in the format, or two files have a codec of one name.
    """
    points: list[PublishedPoint] = []
    home: dict[str, Path] = {}
    for path, stamp in _files("*.csv"):
        of_file = _read(path, *stamp)
        _claim(home, path, (point.codec for point in of_file))
        points += of_file
    known = {(point.codec, point.dataset, point.metric) for point in points}
    for of_set in published_sets():
        points += [p for p in of_set.means() if (p.codec, p.dataset, p.metric) not in known]
    return tuple(points)


def published_sets() -> tuple[PublishedSet, ...]:
    """All that is published image by image; errors as of :func:`published_points`."""
    sets: list[PublishedSet] = []
    home: dict[str, Path] = {}
    for path, stamp in _files("images/*.csv"):
        of_file = _read_images(path, *stamp)
        _claim(home, path, (one.codec for one in of_file))
        sets += of_file
    return tuple(sets)


def _files(pattern: str) -> Iterator[tuple[Path, tuple[int, int]]]:
    """The catalog's files of curves, each with what tells that it has changed."""
    for folder in content_folders("reports"):
        for path in sorted((folder / "curves").glob(pattern)):
            stat = path.stat()
            yield path, (stat.st_mtime_ns, stat.st_size)


def _claim(home: dict[str, Path], path: Path, codecs: Iterable[str]) -> None:
    """Note that *codecs* are in the file *path*; raise if another one has one of them."""
    for codec in dict.fromkeys(codecs):
        if home.setdefault(codec, path) != path:
            raise HvqbenchError(
                f"two files have published curves of {codec!r}: {home[codec]} and {path}; "
                f"rename it in one, like {codec}@authors"
            )


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

    It has images, to be paired with those of another curve, where they were published.

    Raises
    ------
    HvqbenchError
        If there is none: with what there is of that codec. If the images do not add up to the published means.
    """
    codec = name.removeprefix(PREFIX)
    points = [p for p in published_points() if p.codec == codec]
    if not points:
        find_published([codec])
    chosen = sorted((p.bpp, p.value) for p in points if p.metric == metric and p.dataset == dataset)
    if not chosen:
        raise HvqbenchError(f"no published curve of {codec} in {metric} on {dataset}: there is {extent(points)}")
    for of_set in published_sets():
        if (of_set.codec, of_set.dataset) == (codec, dataset) and metric in of_set.values:
            of_set.check_means(metric, chosen)
            return _curve_of_images(of_set, metric)
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


def _curve_of_images(of_set: PublishedSet, metric: str) -> Curve:
    order = np.argsort(of_set.bpp.mean(0), kind="stable")
    bpp, values = of_set.bpp[:, order], of_set.values[metric][:, order]
    return Curve(
        codec=of_set.codec,
        dataset=of_set.dataset,
        metric=metric,
        points=tuple(of_set.points[place] for place in order),
        bpp=bpp.mean(0),
        values=values.mean(0),
        images=of_set.images,
        published=True,
        image_bpp=bpp,
        image_values=values,
        pixels=of_set.pixels,
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
            "images": max((len(s.images) for s in published_sets() if (s.codec, s.dataset) == key[:2]), default=0),
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


@lru_cache
def _read_images(path: Path, modified: int, size: int) -> tuple[PublishedSet, ...]:
    return read_images(path)
