"""What "the BD-rate" can mean for a set of images: three numbers with names, and the images' own BD-rates.

``curve of means``
    of the two mean curves: :func:`hvqbench.analysis.bd_rate`. What a table of means shows, and the most stable. Images
    of many bits weigh most in its rates.
``mean of images``
    the mean of the images' own BD-rates: what an image drawn at random can expect. Needs curves of each image that can
    be compared, so images are lost where quality ranges do not meet.
``by pixels``
    of the two mean curves with each image weighed by its pixels: what an archive of such images would need. The same
    as the curve of means where all images are of one size.

They differ, and none is wrong; a paper names the one that it reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.analysis.bd import BDRate, bd_rate_from_curves
from hvqbench.analysis.bootstrap import bd_interval, mean_interval
from hvqbench.analysis.pairs import CurvePair, Curves, curve_pair
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd

ESTIMANDS = ("curve of means", "mean of images", "by pixels")


@dataclass(frozen=True)
class Estimand:
    """One of :data:`ESTIMANDS`: a BD-rate in per cent with its 95 % interval, over so many images; NaN if none."""

    name: str
    percent: float
    ci_low: float
    ci_high: float
    images: int


@dataclass(frozen=True, eq=False)
class PerImage:
    """The BD-rates of the images, one by one, and what they add up to.

    Parameters
    ----------
    table
        One row per image, best first: ``image, bd_rate_percent, overlap, flags``; NaN where there is no BD-rate.
    quartiles
        25 %, 50 % and 75 % of the BD-rates, in per cent.
    fewer
        Images for which the codec needs fewer bits; of *images* with a BD-rate.
    p_value
        Of Wilcoxon's signed-rank test, two-sided: how often differences as lopsided would come up if the codec were as
        often better as worse. NaN with fewer than two images, or no difference at all.
    """

    codec: str
    anchor: str
    metric: str
    dataset: str
    table: pd.DataFrame
    quartiles: tuple[float, float, float]
    fewer: int
    images: int
    p_value: float
    estimands: tuple[Estimand, ...]

    @property
    def text(self) -> str:
        """The summary in some lines, for a person."""
        if not self.images:
            return f"no image has a BD-rate of {self.codec} against {self.anchor} in {self.metric} on {self.dataset}"
        lost = len(self.table) - self.images
        lines = [
            f"{self.codec} against {self.anchor} at equal {self.metric} on {self.dataset}: "
            f"{self.fewer} of {self.images} images need fewer bits, Wilcoxon p = {self.p_value:.2g}; "
            "quartiles " + ", ".join(f"{q:+.2f}" for q in self.quartiles) + " %"
        ]
        if lost:
            lines.append(f"{lost} image{'s have' if lost > 1 else ' has'} no BD-rate")
        for one in self.estimands:
            interval = "no interval" if math.isnan(one.ci_low) else f"{one.ci_low:+.2f} to {one.ci_high:+.2f}"
            lines.append(f"  {one.name:<15}{one.percent:+8.2f} % [{interval}; {one.images} images]")
        return "\n".join(lines)


def per_image(
    results: pd.DataFrame | Curves,
    codec: str,
    anchor: str,
    metric: str,
    dataset: str | None = None,
    method: str = "akima",
) -> PerImage:
    """The BD-rate of *codec* against *anchor* for each image that both have.

    Raises
    ------
    HvqbenchError
        If there are no images to look at: a published curve, a metric of whole sets, no image that both have.
    """
    import pandas as pd

    from hvqbench.metrics.published import curve_metric

    pair = curve_pair(results, codec, anchor, metric, dataset)
    first, second = pair.anchor, pair.test
    if "versions_differ" in pair.flags:
        raise HvqbenchError(
            f"{codec} and {anchor} have different versions of {metric}: `hvqbench score --metric {metric}` renews them"
        )
    if not len(first.image_values) or not len(second.image_values):
        raise HvqbenchError(
            f"no images to compare {codec} with {anchor} one by one in {metric}: published curves of means and metrics "
            "of whole sets have none; name codecs with images in common, and a metric of images"
        )
    higher = curve_metric(metric).higher_is_better
    curves = zip(first.image_bpp, first.image_values, second.image_bpp, second.image_values, strict=True)
    own = [bd_rate_from_curves(*of_image, higher, method) for of_image in curves]
    table = pd.DataFrame(
        {
            "image": first.images,
            "bd_rate_percent": [bd.percent for bd in own],
            "overlap": [bd.overlap for bd in own],
            "flags": [" ".join(bd.flags) for bd in own],
        }
    ).sort_values("bd_rate_percent", kind="stable", ignore_index=True)
    found = np.array([bd.percent for bd in own if not math.isnan(bd.percent)])
    quartiles = np.quantile(found, [0.25, 0.5, 0.75]) if len(found) else np.full(3, np.nan)
    return PerImage(
        codec=second.label,
        anchor=first.label,
        metric=metric,
        dataset=pair.dataset,
        table=table,
        quartiles=(float(quartiles[0]), float(quartiles[1]), float(quartiles[2])),
        fewer=int((found < 0).sum()),
        images=len(found),
        p_value=_wilcoxon(found),
        estimands=_estimands(pair, own, higher, method),
    )


def _estimands(pair: CurvePair, own: list[BDRate], higher: bool, method: str) -> tuple[Estimand, ...]:
    first, second = pair.anchor, pair.test
    of_means = bd_rate_from_curves(first.bpp, first.values, second.bpp, second.values, higher, method).percent
    found = np.array([bd.percent for bd in own if not math.isnan(bd.percent)])
    mean = float(found.mean()) if len(found) else math.nan
    share = first.pixels / first.pixels.sum()
    by_pixels = [(share @ curve.image_bpp, share @ curve.image_values) for curve in (first, second)]
    weighed = bd_rate_from_curves(*by_pixels[0], *by_pixels[1], higher, method).percent
    intervals = (
        bd_interval(first, second, higher, method),
        mean_interval(found),
        bd_interval(first, second, higher, method, by_pixels=True),
    )
    counts = (pair.images, len(found), pair.images)
    return tuple(
        Estimand(name, percent, low, high, images)
        for name, percent, (low, high), images in zip(
            ESTIMANDS, (of_means, mean, weighed), intervals, counts, strict=True
        )
    )


def _wilcoxon(values: np.ndarray) -> float:
    """p of BD-rates in per cent, by their logarithms: the test is of symmetric differences, and ratios are none."""
    from scipy.stats import wilcoxon

    if len(values) < 2 or not values.any():
        return math.nan
    return float(wilcoxon(np.log1p(values / 100)).pvalue)
