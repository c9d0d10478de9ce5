"""BD-rate: how many per cent more or fewer bits a codec needs than an anchor for equal quality, on average.

The integration is that of :mod:`hvqbench.analysis.batch`, which tests hold equal to the ``bjontegaard`` package's. What
this module adds is the guard around it: lower-is-better metrics and unsorted, tied or non-monotone points make a number
that means nothing. Here every such case is mended and said, or refused with NaN and said: nothing is extrapolated, and
a comparison that could not be made is never 0.0.

Sources: Bjontegaard, VCEG-M33, 2001; Herglotz et al., "The Bjøntegaard Bible", arXiv:2304.12852, for Akima.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvqbench.analysis.batch import METHODS, mean_difference, monotone
from hvqbench.analysis.bootstrap import bd_interval
from hvqbench.analysis.pairs import Curves, comparisons, curve_pair
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd

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
    "pixels_differ": "images of one name with other pixels were left out: keep folders of one name apart (--results)",
    "images_differ": "only the images that both codecs have were compared",
    "published": "a published curve is of means: no images to pair, and its protocol is its authors'",
    "published_images": "a published curve's images were paired by name, and its protocol is its authors'",
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
        Number of images averaged; 0 if the curves were given as numbers, or are published ones of means.
    flags
        Keys of :data:`FLAGS`.
    ci_low, ci_high
        95 % interval of *percent*, by resampling the images in pairs (:mod:`hvqbench.analysis.bootstrap`); NaN if
        there is none.
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
    ci_low: float = math.nan
    ci_high: float = math.nan

    @property
    def text(self) -> str:
        """The result in one line, for a person."""
        said, where = "; ".join(FLAGS[flag] for flag in self.flags), on_images(self.dataset, self.images)
        if math.isnan(self.percent):
            return f"no BD-rate of {self.codec} against {self.anchor} in {self.metric}{where}: {said}"
        fewer_or_more = "fewer" if self.percent < 0 else "more"
        needs = f"{self.codec} needs {abs(self.percent):.2f} % {fewer_or_more} bits than {self.anchor}"
        how = f"{self.method}, overlap {self.overlap:.2f}"
        if not math.isnan(self.ci_low):
            how = f"{self.ci_low:+.2f} to {self.ci_high:+.2f} %; {how}"
        return f"{needs} at equal {self.metric}{where} [{how}]" + (f"; caution: {said}" if said else "")


def bd_rate(
    results: pd.DataFrame | Curves,
    codec: str,
    anchor: str,
    metric: str,
    dataset: str | None = None,
    method: str = "akima",
    *,
    interval: bool = True,
) -> BDRate:
    """BD-rate of *codec* against *anchor* in *metric*, over the images that both have at all of their points.

    With its *interval*, unless that is not asked for, or there are no images to resample.

    This is the BD-rate of the data set's mean curve, not the mean of the images' BD-rates: the two differ. Either
    codec may be a published one, ``published:vtm``: then the other's curve is of all of its images.

    Raises
    ------
    HvqbenchError
        If the codec, the anchor, the metric, the data set or the method is unknown.
    """
    from hvqbench.metrics.published import curve_metric

    pair = curve_pair(results, codec, anchor, metric, dataset)
    first, second = pair.anchor, pair.test
    higher_is_better = curve_metric(metric).higher_is_better
    bd = bd_rate_from_curves(first.bpp, first.values, second.bpp, second.values, higher_is_better, method)
    if "versions_differ" in pair.flags:
        bd = replace(bd, percent=math.nan)
    if interval and not math.isnan(bd.percent):
        low, high = bd_interval(first, second, higher_is_better, method)
        bd = replace(bd, ci_low=low, ci_high=high)
    flags = tuple(flag for flag in FLAGS if flag in {*bd.flags, *pair.flags})
    bd = replace(bd, flags=flags, codec=second.label, anchor=first.label)
    return replace(bd, metric=metric, dataset=pair.dataset, images=pair.images)


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
    check_method(method)
    flags: set[str] = set()
    first = guard(rate_anchor, quality_anchor, higher_is_better, flags)
    second = guard(rate_test, quality_test, higher_is_better, flags)
    points = (len(first[0]), len(second[0]))
    overlap = common_range(first[1], second[1], method, flags)
    percent = math.nan
    if not flags & {"no_overlap", "too_few_points"}:
        logs = [np.log(curve[0])[None] for curve in (first, second)]
        difference = mean_difference(first[1][None], logs[0], second[1][None], logs[1], method)
        percent = float(100 * np.expm1(difference[0]))
    return BDRate(percent, method, overlap, points, tuple(flag for flag in FLAGS if flag in flags))


def bd_table(
    results: pd.DataFrame | Curves,
    anchor: str,
    metric: str | Sequence[str],
    dataset: str | None = None,
    method: str = "akima",
    published: Sequence[str] = (),
) -> pd.DataFrame:
    """BD-rate of every other codec in the results against *anchor*; one row per data set, metric and codec.

    All data sets that have the anchor are taken unless one is named. *published* are codecs to compare as well, with
    their published curves, where they have one; the anchor may be published too. Then its metrics are those it has.

    Columns: ``dataset, metric, codec, anchor, bd_rate_percent, ci_low, ci_high, overlap, anchor_points, codec_points,
    images, method, flags, text``. The interval is of 95 %, and NaN where there is none.
    """
    import pandas as pd

    curves = results if isinstance(results, Curves) else Curves(results)
    metrics = [metric] if isinstance(metric, str) else list(metric)
    found = [
        bd_rate(curves, codec, anchor, one_metric, name, method)
        for name, one_metric, codec in comparisons(curves.results, anchor, metrics, dataset, published)
    ]
    return pd.DataFrame(map(_as_row, found), columns=list(_as_row(BDRate(math.nan, method, math.nan, (0, 0)))))


def _as_row(bd: BDRate) -> dict[str, object]:
    return {
        "dataset": bd.dataset,
        "metric": bd.metric,
        "codec": bd.codec,
        "anchor": bd.anchor,
        "bd_rate_percent": bd.percent,
        "ci_low": bd.ci_low,
        "ci_high": bd.ci_high,
        "overlap": bd.overlap,
        "anchor_points": bd.points[0],
        "codec_points": bd.points[1],
        "images": bd.images,
        "method": bd.method,
        "flags": " ".join(bd.flags),
        "text": bd.text,
    }


def guard(
    rate: ArrayLike, quality: ArrayLike, higher_is_better: bool, flags: set[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One curve's points with rate and quality rising strictly, higher is better; mends are added to *flags*."""
    sign = 1.0 if higher_is_better else -1.0
    found = monotone(np.asarray(rate, float)[None], sign * np.asarray(quality, float)[None])
    for flag, marked in (
        ("not_finite", found.not_finite),
        ("merged_ties", found.tied),
        ("non_monotone", found.falling),
    ):
        if marked.any():
            flags.add(flag)
    return found.rate[found.kept], found.quality[found.kept]


def check_method(method: str) -> None:
    """Raises if there is no interpolation of that name."""
    if method not in METHODS:
        raise HvqbenchError(f"unknown BD-rate method {method!r}: choose one of {', '.join(METHODS)}")


def common_range(first: NDArray[np.float64], second: NDArray[np.float64], method: str, flags: set[str]) -> float:
    """Intersection over union of the ranges of two curves' points; too few points and little overlap go to *flags*."""
    points = min(len(first), len(second))
    if points < METHODS[method]:
        flags.add("too_few_points")
    elif points < FEW_POINTS:
        flags.add("few_points")
    if points < 2:  # one point has no range
        return math.nan
    union = max(first.max(), second.max()) - min(first.min(), second.min())
    intersection = min(first.max(), second.max()) - max(first.min(), second.min())
    overlap = float(max(intersection, 0.0) / union)
    if overlap < LOW_OVERLAP:
        flags.add("low_overlap" if overlap else "no_overlap")
    return overlap


def on_images(dataset: str, images: int) -> str:
    """The place of a result in its sentence: `` on kodak (24 images)``."""
    counted = f" ({images} image{'s' * (images != 1)})" if images else ""
    return f" on {dataset}{counted}" if dataset else ""
