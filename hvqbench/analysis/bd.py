"""BD-rate: how many per cent more or fewer bits a codec needs than an anchor for equal quality, on average.

The integration is that of the ``bjontegaard`` package. What this module adds is the guard around it, since the package
answers lower-is-better metrics and unsorted, tied or non-monotone points with a bare assertion, or with a number that
means nothing. Here every such case is mended and said, or refused with NaN and said: nothing is extrapolated, and a
comparison that could not be made is never 0.0.

Sources: Bjontegaard, VCEG-M33, 2001; Herglotz et al., "The Bjøntegaard Bible", arXiv:2304.12852, for Akima.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvqbench.analysis.curves import Curve, mean_curve, the_dataset
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd

METHODS: Mapping[str, int] = {"akima": 2, "pchip": 2, "cubic": 4}
"""Interpolation of log-rate over quality: the fewest points that each can work with. ``pchip`` is JVET's."""

LOW_OVERLAP = 0.5
"""Below this share of common quality range a BD-rate describes less than half of what was measured."""

FEW_POINTS = 4
"""Below this number of points on a curve its shape is mostly the interpolation's."""

FLAGS: Mapping[str, str] = {
    "no_overlap": "the quality ranges do not overlap",
    "too_few_points": "a curve has too few points to interpolate",
    "versions_differ": "the curves are of different versions of the metric: `hvqbench score` renews the older one",
    "few_points": f"a curve has fewer than {FEW_POINTS} points",
    "low_overlap": f"less than {LOW_OVERLAP:.0%} of the quality range is common",
    "non_monotone": "points that cost more bits for no better quality were left out",
    "merged_ties": "points of equal rate or equal quality were merged",
    "not_finite": "points without a finite rate and quality were left out",
    "images_differ": "only the images that both codecs have were compared",
    "published": "a published curve is of means: no images to pair, and its protocol is its authors'",
    "part_of_set": "a part of the data set was measured, the published curve is of all of it",
}
"""Every flag of a :class:`BDRate`, in the order in which they are said; the first three come with NaN."""


@dataclass(frozen=True)
class BDRate:
    """The BD-rate of the mean curve of *codec* against that of *anchor*.

    Parameters
    ----------
    percent
        Change of rate at equal quality in per cent, negative where the codec needs fewer bits; NaN if there is none.
    overlap
        Intersection over union of the two quality ranges, from 0 to 1; NaN if a curve has fewer than two points.
    points
        Points used of the anchor's curve and of the codec's.
    images
        Number of images averaged; 0 if the curves were given as numbers, or both are published.
    flags
        Keys of :data:`FLAGS`.
    """

    percent: float
    method: str
    overlap: float
    points: tuple[int, int]
    flags: tuple[str, ...] = ()
    codec: str = "test"
    anchor: str = "anchor"
    metric: str = "quality"
    dataset: str = ""
    images: int = 0

    @property
    def text(self) -> str:
        """The result in one line, for a person."""
        said = "; ".join(FLAGS[flag] for flag in self.flags)
        if math.isnan(self.percent):
            return f"no BD-rate of {self.codec} against {self.anchor} in {self.metric}{self._where}: {said}"
        fewer_or_more = "fewer" if self.percent < 0 else "more"
        needs = f"{self.codec} needs {abs(self.percent):.2f} % {fewer_or_more} bits than {self.anchor}"
        how = f"{self.method}, overlap {self.overlap:.2f}"
        return f"{needs} at equal {self.metric}{self._where} [{how}]" + (f"; caution: {said}" if said else "")

    @property
    def _where(self) -> str:
        images = f" ({self.images} image{'s' * (self.images != 1)})" if self.images else ""
        return f" on {self.dataset}{images}" if self.dataset else ""


def bd_rate(
    results: pd.DataFrame, codec: str, anchor: str, metric: str, dataset: str | None = None, method: str = "akima"
) -> BDRate:
    """BD-rate of *codec* against *anchor* in *metric*, over the images that both have at all of their points.

    This is the BD-rate of the data set's mean curve, not the mean of the images' BD-rates: the two differ. Either
    codec may be a published one, ``published:vtm``: then the other's curve is of all of its images.

    Raises
    ------
    HvqbenchError
        If the codec, the anchor, the metric, the data set or the method is unknown.
    """
    from hvqbench.curves.library import is_published, published_curve
    from hvqbench.curves.metrics import curve_metric

    higher_is_better = curve_metric(metric).higher_is_better
    names = (anchor, codec)
    if dataset is None or not all(map(is_published, names)):
        dataset = the_dataset(results, dataset)
    first, second = (
        published_curve(name, metric, dataset) if is_published(name) else mean_curve(results, name, metric, dataset)
        for name in names
    )
    said: list[str] = []
    if first.published or second.published:
        measured = [curve for curve in (first, second) if not curve.published]
        images = len(measured[0].images) if measured else 0
        said = ["published", *(["part_of_set"] if any(map(_is_part, measured)) else [])]
    else:
        common = sorted(set(first.images) & set(second.images))
        images = len(common)
        if any(len(curve.images) != images for curve in (first, second)):
            said = ["images_differ"]
            first, second = (mean_curve(results, name, metric, dataset, images=common) for name in names)
    bd = bd_rate_from_curves(first.bpp, first.values, second.bpp, second.values, higher_is_better, method)
    if first.version and second.version and first.version != second.version:
        bd = replace(bd, percent=math.nan, flags=tuple(f for f in FLAGS if f in {*bd.flags, "versions_differ"}))
    bd = replace(bd, flags=(*bd.flags, *said), codec=second.label, anchor=first.label)
    return replace(bd, metric=metric, dataset=dataset, images=images)


def bd_rate_from_curves(
    rate_anchor: ArrayLike,
    quality_anchor: ArrayLike,
    rate_test: ArrayLike,
    quality_test: ArrayLike,
    higher_is_better: bool = True,
    method: str = "akima",
) -> BDRate:
    """BD-rate of two curves given as numbers, in any order of points.

    Parameters
    ----------
    rate_anchor, rate_test
        Rates > 0 in any unit that both share.
    quality_anchor, quality_test
        The metric at those rates, as it is: lower-is-better metrics are negated here.

    Examples
    --------
    >>> psnr = [30.0, 33.0, 36.0, 39.0]
    >>> bd = bd_rate_from_curves([0.2, 0.4, 0.8, 1.6], psnr, [0.1, 0.2, 0.4, 0.8], psnr)
    >>> round(bd.percent, 6), bd.overlap
    (-50.0, 1.0)
    >>> bd_rate_from_curves([0.2, 0.4], [20, 22], [0.1, 0.2], [30, 32]).text
    'no BD-rate of test against anchor in quality: the quality ranges do not overlap; a curve has fewer than 4 points'
    """
    if method not in METHODS:
        raise HvqbenchError(f"unknown BD-rate method {method!r}: choose one of {', '.join(METHODS)}")
    sign = 1.0 if higher_is_better else -1.0
    flags: set[str] = set()
    first = _monotone(np.asarray(rate_anchor, float), sign * np.asarray(quality_anchor, float), flags)
    second = _monotone(np.asarray(rate_test, float), sign * np.asarray(quality_test, float), flags)
    points = (len(first[0]), len(second[0]))
    overlap = _overlap(first[1], second[1]) if min(points) > 1 else math.nan  # one point has no range
    if min(points) < METHODS[method]:
        flags.add("too_few_points")
    elif min(points) < FEW_POINTS:
        flags.add("few_points")
    if overlap == 0:
        flags.add("no_overlap")
    elif overlap < LOW_OVERLAP:
        flags.add("low_overlap")

    percent = math.nan
    if not flags & {"no_overlap", "too_few_points"}:
        import bjontegaard  # here and not above, since it imports matplotlib.pyplot

        options = {"method": method, "require_matching_points": False, "min_overlap": 0}
        percent = float(bjontegaard.bd_rate(*first, *second, **options))
    return BDRate(percent, method, overlap, points, tuple(flag for flag in FLAGS if flag in flags))


def bd_table(
    results: pd.DataFrame,
    anchor: str,
    metric: str | Sequence[str],
    dataset: str | None = None,
    method: str = "akima",
    published: Sequence[str] = (),
) -> pd.DataFrame:
    """BD-rate of every other codec in the results against *anchor*; one row per data set, metric and codec.

    All data sets that have the anchor are taken unless one is named. *published* are codecs to compare as well, with
    their published curves, where they have one; the anchor may be published too. Then its metrics are those it has.

    Columns: ``dataset, metric, codec, anchor, bd_rate_percent, overlap, anchor_points, codec_points, images, method,
    flags, text``.
    """
    import pandas as pd

    from hvqbench.curves.library import PREFIX, has_curve, is_published

    metrics = [metric] if isinstance(metric, str) else list(metric)
    extra = [PREFIX + name.removeprefix(PREFIX) for name in published]
    rows = []
    for name in _datasets(results, anchor, metrics, dataset):
        measured = list(results.loc[results["dataset"] == name, "codec"].unique())
        for one_metric in metrics:
            if is_published(anchor) and not has_curve(anchor, one_metric, name):
                continue
            for codec in [*measured, *(codec for codec in extra if has_curve(codec, one_metric, name))]:
                if codec != anchor:
                    rows.append(_as_row(bd_rate(results, codec, anchor, one_metric, name, method)))
    return pd.DataFrame(rows, columns=list(_as_row(BDRate(math.nan, method, math.nan, (0, 0)))))


def _datasets(results: pd.DataFrame, anchor: str, metrics: Sequence[str], dataset: str | None) -> list[str]:
    """The data sets on which there is a curve of *anchor*, or *dataset* alone."""
    from hvqbench.curves.library import extent, find_published, is_published, published_points

    if not is_published(anchor):
        if dataset is not None:
            return [the_dataset(results, dataset)]
        datasets = sorted(results.loc[results["codec"] == anchor, "dataset"].unique())
        if not datasets:
            known = ", ".join(sorted(results["codec"].unique()))
            raise HvqbenchError(f"the results have no codec {anchor!r}: they have {known}; run it first")
        return datasets
    codecs = find_published([anchor])
    if len(codecs) > 1:
        raise HvqbenchError(
            f"{anchor} is {len(codecs)} published curves, an anchor is one: name one of {', '.join(codecs)}"
        )
    own = [point for point in published_points() if point.codec == codecs[0]]
    wanted = {dataset} if dataset else set(results["dataset"]) or {point.dataset for point in own}
    datasets = sorted({point.dataset for point in own if point.metric in metrics and point.dataset in wanted})
    if not datasets:
        asked = f"{', '.join(metrics)} on {', '.join(sorted(wanted))}"
        raise HvqbenchError(f"no published curve of {codecs[0]} in {asked}: there is {extent(own)}; choose among these")
    return datasets


def _is_part(curve: Curve) -> bool:
    """Whether a measured *curve* is of fewer images than its data set has, where the catalog knows that."""
    from hvqbench.catalog import dataset_files
    from hvqbench.data import read_manifest

    files = dataset_files()
    return curve.dataset in files and len(curve.images) < read_manifest(files[curve.dataset]).images


def _as_row(bd: BDRate) -> dict[str, object]:
    return {
        "dataset": bd.dataset,
        "metric": bd.metric,
        "codec": bd.codec,
        "anchor": bd.anchor,
        "bd_rate_percent": bd.percent,
        "overlap": bd.overlap,
        "anchor_points": bd.points[0],
        "codec_points": bd.points[1],
        "images": bd.images,
        "method": bd.method,
        "flags": " ".join(bd.flags),
        "text": bd.text,
    }


Points = tuple[NDArray[np.float64], NDArray[np.float64]]


def _monotone(rate: NDArray[np.float64], quality: NDArray[np.float64], flags: set[str]) -> Points:
    """The points sorted by rate with strictly rising quality; what had to be done for that is added to *flags*."""
    finite = np.isfinite(rate) & np.isfinite(quality) & (rate > 0)
    if not finite.all():
        flags.add("not_finite")
    kept: list[tuple[float, float]] = []
    # At equal rate the best quality comes first, so that a tie is never the better of the two points.
    for r, q in sorted(zip(rate[finite].tolist(), quality[finite].tolist(), strict=True), key=lambda p: (p[0], -p[1])):
        if not kept or (q > kept[-1][1] and r > kept[-1][0]):
            kept.append((r, q))
        else:
            flags.add("merged_ties" if r == kept[-1][0] or q == kept[-1][1] else "non_monotone")
    return np.array([r for r, _ in kept]), np.array([q for _, q in kept])


def _overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Intersection over union of the two quality ranges."""
    union = max(first.max(), second.max()) - min(first.min(), second.min())
    intersection = min(first.max(), second.max()) - max(first.min(), second.min())
    return float(max(intersection, 0.0) / union)
