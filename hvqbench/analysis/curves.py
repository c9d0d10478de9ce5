"""Rate-distortion curves, from the table of results.

A curve is a data set's mean: at each operating point the mean of the images' bits per pixel and the mean of their
metric, over the same images at every point. An image that failed at one point would otherwise bend the curve there. A
metric of whole sets (FID) has one value at each point, over all images; its rate is their mean.

A curve holds one version of its metric: values of older ones are left out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd


COLUMNS = (
    *("dataset", "codec", "image", "point", "status", "bpp", "width", "height", "metrics", "started", "image_sha256"),
)
"""What a curve is made of, beside its metric."""


@dataclass(frozen=True, eq=False)
class Curve:
    """The mean rate-distortion curve of one codec on one data set.

    Parameters
    ----------
    codec, dataset, metric
        Their ids.
    points
        Operating points, sorted, in the codec's own unit.
    bpp, values
        Mean bits per pixel and mean metric at each point; shape ``(len(points),)``.
    images
        Names of the images averaged, the same at every point.
    notes
        What was left out and why, one line each; empty if nothing was.
    published
        Whether others measured it: then it is of means only, and *points* count its points.
    version
        The metric's version and those of its libraries; empty if unknown.
    image_bpp, image_values
        What the means are of, for resampling; shape ``(len(images), len(points))``; empty where only means are known.
    pixels
        Of each image, to weigh it by; shape ``(len(images),)``, NaN where the results do not say.
    sha256
        Of each image's pixels, by its name; without those of which the results do not say.
    """

    codec: str
    dataset: str
    metric: str
    points: tuple[float, ...]
    bpp: NDArray[np.float64]
    values: NDArray[np.float64]
    images: tuple[str, ...]
    notes: tuple[str, ...] = ()
    published: bool = False
    version: str = ""
    image_bpp: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    image_values: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    pixels: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The codec's name for a reader, who must not take a published curve for a measured one."""
        return f"{self.codec} (published)" if self.published else self.codec

    def of(self, images: Collection[str]) -> Curve:
        """The same curve, of those of its *images* only. The value of a whole set cannot be had of a part of it."""
        if set(images) == set(self.images):
            return self
        kept = [number for number, name in enumerate(self.images) if name in set(images)]
        if not kept or not len(self.image_values):
            reason = f"{self.metric} is of {len(self.images)} images, and cannot be had of {len(kept)} of them"
            return replace(
                _no_points(self.codec, self.dataset, self.metric), notes=(*self.notes, reason), version=self.version
            )
        bpp, values = self.image_bpp[kept], self.image_values[kept]
        return replace(
            self,
            bpp=bpp.mean(0),
            values=values.mean(0),
            images=tuple(self.images[number] for number in kept),
            image_bpp=bpp,
            image_values=values,
            pixels=self.pixels[kept],
        )


def _no_points(codec: str, dataset: str, metric: str) -> Curve:
    return Curve(codec, dataset, metric, (), np.empty(0), np.empty(0), ())


def mean_curve(
    results: pd.DataFrame, codec: str, metric: str, dataset: str | None = None, *, images: Collection[str] | None = None
) -> Curve:
    """The mean curve of *codec* in *metric*, over the images that have a finite value at all of its points.

    The curve of a metric of whole sets is of all images of the codec, or it has no points.

    Parameters
    ----------
    results
        One row per codec, operating point and image, as :func:`hvqbench.read_results` returns them.
    dataset
        May be left out if the results hold only one.
    images
        Average over these only, to compare two codecs on the images that both have.

    Raises
    ------
    HvqbenchError
        If the codec, the metric or the data set is not in the results. A codec without one usable image is no error:
        its curve has no points, and its notes say why.
    """
    dataset = the_dataset(results, dataset)
    if metric not in results.columns:
        raise HvqbenchError(f"the results have no metric {metric!r}: `hvqbench score --metric {metric}` adds it")
    needed = [name for name in (*COLUMNS, metric) if name in results.columns]  # to copy a wide table takes longest
    rows = results.loc[(results["dataset"] == dataset) & (results["codec"] == codec), needed]
    if rows.empty:
        known = ", ".join(sorted(results.loc[results["dataset"] == dataset, "codec"].unique()))
        raise HvqbenchError(f"the results have no codec {codec!r} on {dataset}: they have {known}; run it first")
    rows, version, notes = _one_version(rows, metric)
    of_set = rows[rows["status"] == "set"]
    rows = rows[rows["status"] != "set"]
    if of_set[metric].notna().any():
        return _set_curve(of_set[of_set[metric].notna()], rows, codec, metric, version, images)
    if images is not None:
        rows = rows[rows["image"].isin(list(images))]

    if {"width", "height"} <= set(rows.columns):
        rows = rows.assign(pixels=rows["width"] * rows["height"])
    else:
        rows = rows.assign(pixels=np.nan)
    is_finite = np.isfinite(rows[metric].to_numpy(float, na_value=np.nan))
    usable = rows[(rows["status"] == "ok").to_numpy() & is_finite]
    names, points, matrices = _by_image(usable, ["bpp", metric, "pixels"])
    sha256, mixed = _pixels_of(usable)
    complete = ~np.isnan(matrices[1]).any(1) & ~np.isin(names, list(mixed))
    bpp, value, pixels = (matrix[complete] for matrix in matrices)
    notes += _notes(rows, usable, names[~complete], metric)
    if mixed:
        notes.append(f"{len(mixed)} images left out, of other pixels at other points: {', '.join(sorted(mixed)[:3])}")
    if not len(value):
        return replace(_no_points(codec, dataset, metric), notes=tuple(notes), version=version)
    return Curve(
        codec=codec,
        dataset=dataset,
        metric=metric,
        points=tuple(float(p) for p in points),
        bpp=bpp.mean(0),
        values=value.mean(0),
        images=tuple(str(name) for name in names[complete]),
        notes=tuple(notes),
        version=version,
        image_bpp=bpp,
        image_values=value,
        pixels=pixels[:, 0],
        sha256=sha256,
    )


def _pixels_of(rows: pd.DataFrame) -> tuple[dict[str, str], set[str]]:
    """The sha256 of each image's pixels as far as *rows* know it, and the images that have several."""
    if "image_sha256" not in rows.columns:
        return {}, set()
    pairs = rows.loc[rows["image_sha256"].fillna("") != "", ["image", "image_sha256"]].drop_duplicates()
    known = dict(zip(_texts(pairs["image"]), _texts(pairs["image_sha256"]), strict=True))
    return known, set(_texts(pairs["image"][pairs["image"].duplicated()]))


def _texts(column: pd.Series[str]) -> list[str]:
    """By way of NumPy: to go through a column of Arrow's takes ten times as long."""
    return [str(text) for text in column.to_numpy(object)]


def _by_image(
    rows: pd.DataFrame, columns: list[str]
) -> tuple[NDArray[np.object_], NDArray[np.float64], list[NDArray[np.float64]]]:
    """Sorted images and points of *rows*, and each of *columns* as images×points; NaN where there is no row."""
    images, i = np.unique(rows["image"].to_numpy(object), return_inverse=True)
    points, j = np.unique(rows["point"].to_numpy(float), return_inverse=True)
    counts = np.zeros((len(images), len(points)))
    np.add.at(counts, (i, j), 1)
    sums = [np.zeros_like(counts) for _ in columns]
    for name, total in zip(columns, sums, strict=True):
        np.add.at(total, (i, j), rows[name].to_numpy(float))
    with np.errstate(invalid="ignore"):
        return images, points, [total / counts for total in sums]


def _one_version(rows: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, str, list[str]]:
    """*rows* without the values of *metric* in any version but its newest, that version, and a note if some had one."""
    if not {"metrics", "started"} <= set(rows.columns):
        return rows, "", []
    known = {text: json.loads(text or "{}").get(metric, "") for text in rows["metrics"].unique()}
    if len(only := {*known.values()}) == 1 and "" not in only:
        return rows, only.pop() if rows[metric].notna().any() else "", []
    versions = rows["metrics"].map(known)
    measured = rows[(versions != "") & rows[metric].notna()]
    if measured.empty:
        return rows, "", []
    newest: str = max(zip(measured["started"], versions[measured.index], strict=True))[1]
    old = measured.index[versions[measured.index] != newest]
    if old.empty:
        return rows, newest, []
    rows = rows.copy()
    rows.loc[old, metric] = np.nan
    note = f"{len(old)} rows have an older {metric} than {newest}: `hvqbench score --metric {metric}` renews them"
    return rows, newest, [note]


def _set_curve(
    of_set: pd.DataFrame,
    rows: pd.DataFrame,
    codec: str,
    metric: str,
    version: str,
    images: Collection[str] | None,
) -> Curve:
    own = tuple(sorted(str(name) for name in rows.loc[rows["status"] == "ok", "image"].unique()))
    notes = []
    if images is not None and set(images) != set(own):
        notes.append(f"{metric} is of all {len(own)} images, and cannot be had of {len(set(images))} of them")
        of_set = of_set[:0]
    lost = sorted(set(rows["point"].dropna()) - set(of_set["point"]))
    if lost and not notes:
        notes.append(f"no {metric} at point {', '.join(f'{p:g}' for p in lost)}")
    of_set = of_set.sort_values("point")
    return Curve(
        codec=codec,
        dataset=str(rows["dataset"].iloc[0]) if len(rows) else "",
        metric=metric,
        points=tuple(float(p) for p in of_set["point"]),
        bpp=of_set["bpp"].to_numpy(float),
        values=of_set[metric].to_numpy(float),
        images=own,
        notes=tuple(notes),
        version=version,
        sha256=_pixels_of(rows[rows["status"] == "ok"])[0],
    )


def the_dataset(results: pd.DataFrame, dataset: str | None) -> str:
    """*dataset* if the results hold it, or the only one that they hold."""
    if results.empty:
        raise HvqbenchError("there are no results: run `hvqbench run` first, or name the folder with --results")
    known = sorted(results["dataset"].unique())
    if dataset is None and len(known) == 1:
        return str(known[0])
    if dataset is None or dataset not in known:
        problem = (
            "several data sets are in the results" if dataset is None else f"the results have no data set {dataset!r}"
        )
        raise HvqbenchError(f"{problem}: name one of {', '.join(known)} with --dataset")
    return dataset


def _notes(rows: pd.DataFrame, usable: pd.DataFrame, incomplete: Iterable[str], metric: str) -> list[str]:
    """What a curve leaves out of *rows*, in words."""
    notes = []
    lost_points = sorted({*rows["point"].dropna().unique()} - {*usable["point"].unique()})
    if lost_points:
        notes.append(f"no usable row at point {', '.join(f'{p:g}' for p in lost_points)}")
    not_finite = int((rows["status"] == "ok").sum()) - len(usable)
    if not_finite:
        notes.append(f"{not_finite} of {len(rows)} rows have no finite {metric}")
    known = {*_texts(rows["image"].dropna())} - {""}  # a codec that cannot run has one row, without an image
    unusable = sorted(known - {*_texts(usable["image"])})
    dropped = [*unusable, *incomplete]
    if dropped:
        names = ", ".join(str(name) for name in dropped[:3]) + (", ..." if len(dropped) > 3 else "")
        notes.append(f"{len(dropped)} of {len(known)} images left out, not usable at every point: {names}")
    return notes
