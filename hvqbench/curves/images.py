"""Published rows of single images: what lets a published curve be compared image by image, as a measured one is.

CSV in ``reports/curves/images/``, a row for each image and operating point with a column for each metric::

    codec,dataset,image,point,width,height,bpp,psnr,lpips-alex,source,commit,protocol
    afp-gic,kodak,kodim01,0,768,512,0.0640869,22.4577,0.16121,yifeipet/AFP_GIC metrics/...,02575db,file

Images have the names that the data set's images have. Their mean is the published curve; where the source published
means as well, the two must agree, so that neither file has a slip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvqbench.csv_rows import CsvRow, csv_rows, read_text
from hvqbench.curves.format import PublishedPoint, parse_id, parse_origin, parse_rate, parse_value
from hvqbench.errors import HvqbenchError
from hvqbench.metrics.published import curve_metric

FRONT = ("codec", "dataset", "image", "point", "width", "height", "bpp")
BACK = ("source", "commit", "protocol")
"""The columns before and after those of the metrics, in their order."""

AGREE = 1e-4
"""How far, relatively, a mean of rows may be from the mean that was published: both are rounded to some digits."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PublishedImage:
    """One image at one operating point.

    Parameters
    ----------
    image
        Its name in the data set.
    point
        Operating point, in the codec's own unit.
    width, height
        Of the original, in pixels.
    bpp
        Bits per pixel, > 0.
    values
        Metric id to value.
    source, commit, protocol
        As in :class:`~hvqbench.curves.format.PublishedPoint`.
    """

    codec: str
    dataset: str
    image: str
    point: float
    width: int
    height: int
    bpp: float
    values: Mapping[str, float]
    source: str
    commit: str
    protocol: str


@dataclass(frozen=True, eq=False)
class PublishedSet:
    """All published images of one codec on one data set: *bpp* and each of *values* are of shape images×points."""

    codec: str
    dataset: str
    images: tuple[str, ...]
    points: tuple[float, ...]
    pixels: Array
    bpp: Array
    values: Mapping[str, Array]
    source: str
    commit: str
    protocol: str

    def means(self) -> list[PublishedPoint]:
        """The published points that the images add up to."""
        return [
            PublishedPoint(
                self.codec, self.dataset, metric, float(bpp), float(value), self.source, self.commit, self.protocol
            )
            for metric, values in self.values.items()
            for bpp, value in zip(self.bpp.mean(0), values.mean(0), strict=True)
        ]

    def check_means(self, metric: str, published: Sequence[tuple[float, float]]) -> None:
        """Raise unless the *published* pairs of rate and value are the means of the images, up to rounding."""
        own = sorted(zip(self.bpp.mean(0), self.values[metric].mean(0), strict=True))
        near = len(own) == len(published) and np.allclose(own, sorted(published), rtol=AGREE, atol=0)
        if not near:
            raise HvqbenchError(
                f"{self.codec} on {self.dataset}: the mean {metric} of its published images is not the published mean: "
                "correct one of the two files in reports/curves"
            )


def read_images(path: Path) -> tuple[PublishedSet, ...]:
    """The sets of images in the CSV file *path*.

    Raises
    ------
    HvqbenchError
        If a cell is missing or wrong, an image is there twice at a point or not at every point, or a set has two
        sources: one line with the file.
    """
    return parse_images(read_text(path), str(path))


def parse_images(text: str, where: str) -> tuple[PublishedSet, ...]:
    """The sets in a CSV file's *text*; errors name *where* it is from, and are those of :func:`read_images`."""
    header, rows = csv_rows(text, where)
    metrics = header[len(FRONT) : -len(BACK)]
    if header[: len(FRONT)] != FRONT or header[-len(BACK) :] != BACK or not metrics:
        wanted = f"{','.join(FRONT)}, then metrics, then {','.join(BACK)}"
        raise HvqbenchError(f"{where}: row 1: the header must be {wanted}; docs/curves.md explains it")
    for name in metrics:
        try:
            curve_metric(name)
        except HvqbenchError as error:
            raise HvqbenchError(f"{where}: row 1: {error}") from None
    groups: dict[tuple[str, str], list[PublishedImage]] = {}
    for row in rows:
        one = _parse(row, metrics)
        groups.setdefault((one.codec, one.dataset), []).append(one)
    if not groups:
        raise HvqbenchError(f"{where} holds no image: add rows below the header, or remove the file")
    return tuple(_gather(images, metrics, where) for images in groups.values())


def _parse(row: CsvRow, metrics: Sequence[str]) -> PublishedImage:
    if not row["image"]:
        raise HvqbenchError(f"{row.where}: no image: give its name in the data set")
    for side in ("width", "height"):
        if not row[side].isdecimal() or not int(row[side]):
            raise HvqbenchError(
                f"{row.where}: {side} {row[side]!r} is not a number of pixels: give that of the original"
            )
    return PublishedImage(
        parse_id(row, "codec"),
        parse_id(row, "dataset"),
        row["image"],
        row.number("point"),
        int(row["width"]),
        int(row["height"]),
        parse_rate(row),
        {name: parse_value(row, name, name) for name in metrics},
        *parse_origin(row),
    )


def _gather(rows: Sequence[PublishedImage], metrics: Sequence[str], where: str) -> PublishedSet:
    first = rows[0]
    what = f"{where}: {first.codec} on {first.dataset}"
    images, points = sorted({row.image for row in rows}), sorted({row.point for row in rows})
    bpp = np.full((len(images), len(points)), math.nan)
    values = {name: bpp.copy() for name in metrics}
    pixels = np.zeros(len(images))
    for row in rows:
        place = images.index(row.image), points.index(row.point)
        if not math.isnan(bpp[place]):
            raise HvqbenchError(f"{what} has {row.image} at {row.point:g} twice: keep one of the rows")
        if (row.source, row.commit, row.protocol) != (first.source, first.commit, first.protocol):
            raise HvqbenchError(f"{what} has two sources or protocols: give one of them a codec name of its own")
        if pixels[place[0]] not in (0, row.width * row.height):
            raise HvqbenchError(f"{what} has {row.image} in two sizes: give that of the original")
        bpp[place] = row.bpp
        pixels[place[0]] = row.width * row.height
        for name, value in row.values.items():
            values[name][place] = value
    if np.isnan(bpp).any():
        i, j = np.argwhere(np.isnan(bpp))[0]
        raise HvqbenchError(f"{what} has no {images[i]} at {points[j]:g}: a curve is of the same images at every point")
    return PublishedSet(
        first.codec, first.dataset, tuple(images), tuple(points), pixels, bpp, values,
        first.source, first.commit, first.protocol,
    )  # fmt: skip
