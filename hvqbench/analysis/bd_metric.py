"""BD-metric: how much better or worse a codec's quality is at equal rate, on average; BD-PSNR for one.

The other reading of the same two curves, integrated over log-rate, under the guard of :mod:`hvqbench.analysis.bd`. It
is in the metric's own unit, which nothing makes comparable between metrics: a BD-rate travels better. Where quality
ranges do not meet, as between a generative codec and a classic one, it may be all there is.

Source: Bjontegaard, VCEG-M33, 2001.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hvqbench.analysis.batch import mean_difference
from hvqbench.analysis.bd import FLAGS, check_method, common_range, guard, on_images
from hvqbench.analysis.bootstrap import bd_interval
from hvqbench.analysis.pairs import Curves, curve_pair

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class BDMetric:
    """The mean change of a metric at equal rate, in its own unit and direction; NaN if there is none.

    *overlap* is of the two ranges of log-rate. *ci_low* and *ci_high* are a 95 % interval, as in
    :class:`~hvqbench.analysis.bd.BDRate`, and NaN if there is none. The flag ``no_overlap`` is of rates here.
    """

    change: float
    method: str
    overlap: float
    flags: tuple[str, ...] = ()
    codec: str = "test"
    anchor: str = "anchor"
    metric: str = "quality"
    unit: str = ""
    higher_is_better: bool = True
    dataset: str = ""
    images: int = 0
    ci_low: float = math.nan
    ci_high: float = math.nan

    @property
    def text(self) -> str:
        """The result in one line, for a person."""
        where = on_images(self.dataset, self.images)
        said = "; ".join(FLAGS[flag].replace("quality range", "rate range") for flag in self.flags)
        if math.isnan(self.change):
            return f"no BD-metric of {self.codec} against {self.anchor} in {self.metric}{where}: {said}"
        better = "better" if (self.change > 0) == self.higher_is_better else "worse"
        unit = f" {self.unit}" if self.unit else ""
        interval = "" if math.isnan(self.ci_low) else f"{self.ci_low:+.4g} to {self.ci_high:+.4g}{unit}; "
        how = f"[{interval}{self.method}, overlap {self.overlap:.2f}]"
        told = f"{self.codec} has {self.change:+.4g}{unit} {self.metric} against {self.anchor} at equal rate{where}"
        return f"{told}, {better} {how}" + (f"; caution: {said}" if said else "")


def bd_metric(
    results: pd.DataFrame | Curves,
    codec: str,
    anchor: str,
    metric: str,
    dataset: str | None = None,
    method: str = "akima",
) -> BDMetric:
    """BD-metric of *codec* against *anchor*, of their mean curves; see :func:`hvqbench.analysis.bd_rate`."""
    from hvqbench.metrics.published import curve_metric

    info = curve_metric(metric)
    pair = curve_pair(results, codec, anchor, metric, dataset)
    first, second = pair.anchor, pair.test
    bd = bd_metric_from_curves(first.bpp, first.values, second.bpp, second.values, info.higher_is_better, method)
    if "versions_differ" in pair.flags:
        bd = replace(bd, change=math.nan)
    if not math.isnan(bd.change):
        low, high = bd_interval(first, second, info.higher_is_better, method, equal="rate")
        bd = replace(bd, ci_low=low, ci_high=high)
    flags = tuple(flag for flag in FLAGS if flag in {*bd.flags, *pair.flags})
    bd = replace(bd, flags=flags, codec=second.label, anchor=first.label, metric=metric, unit=info.unit)
    return replace(bd, dataset=pair.dataset, images=pair.images)


def bd_metric_from_curves(
    rate_anchor: ArrayLike,
    quality_anchor: ArrayLike,
    rate_test: ArrayLike,
    quality_test: ArrayLike,
    higher_is_better: bool = True,
    method: str = "akima",
) -> BDMetric:
    """BD-metric of two curves given as numbers, in any order of points.

    >>> rate = [0.2, 0.4, 0.8, 1.6]
    >>> round(bd_metric_from_curves(rate, [30.0, 33.0, 36.0, 39.0], rate, [31.0, 34.0, 37.0, 40.0]).change, 6)
    1.0
    """
    check_method(method)
    flags: set[str] = set()
    first = guard(rate_anchor, quality_anchor, higher_is_better, flags)
    second = guard(rate_test, quality_test, higher_is_better, flags)
    logs = np.log(first[0]), np.log(second[0])
    overlap = common_range(*logs, method, flags)
    change = math.nan
    if not flags & {"no_overlap", "too_few_points"}:
        difference = mean_difference(logs[0][None], first[1][None], logs[1][None], second[1][None], method)
        change = float(difference[0]) * (1 if higher_is_better else -1)
    ordered = tuple(flag for flag in FLAGS if flag in flags)
    return BDMetric(change, method, overlap, ordered, higher_is_better=higher_is_better)
