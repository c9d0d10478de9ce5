"""The rate gap at equal quality: what a codec of one point needs, against the anchor's curve at that very quality.

A codec without a curve (fixed length, a network at one rate) has no BD-rate. Its point still has a quality, and where
the anchor's curve passes through it, the anchor's rate there is known by interpolation: that of BD-rates, under the
same guard. Outside of the anchor's curve there is no gap; nothing is extrapolated. A curve's points have gaps as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hvqbench.analysis.batch import METHODS, log_rates
from hvqbench.analysis.bd import FLAGS, check_method, guard
from hvqbench.analysis.bootstrap import NONE, interval
from hvqbench.analysis.pairs import CurvePair, Curves, curve_pair

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RateGap:
    """Rate of one operating point over the anchor's at equal quality, in per cent; NaN where the anchor has no rate.

    Both are means over *images* images; 0 where that is unknown, as of two published curves.
    """

    codec: str
    anchor: str
    metric: str
    dataset: str
    point: float
    bpp: float
    value: float
    rate_gap_percent: float
    images: int = 0
    ci_low: float = math.nan
    ci_high: float = math.nan
    flags: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The result in one line, for a person."""
        said = "; ".join(FLAGS[flag] for flag in self.flags)
        of = f" ({self.images} image{'' if self.images == 1 else 's'})" if self.images else ""
        where = f"{self.metric} {self.value:.4g} on {self.dataset}{of}"
        if math.isnan(self.rate_gap_percent):
            reason = said or f"{self.anchor}'s curve does not reach it, and nothing is extrapolated"
            return f"no rate gap of {self.codec} at {self.point:g} against {self.anchor} at {where}: {reason}"
        more = "fewer" if self.rate_gap_percent < 0 else "more"
        interval = "" if math.isnan(self.ci_low) else f" [{self.ci_low:+.2f} to {self.ci_high:+.2f} %]"
        gap = f"{abs(self.rate_gap_percent):.2f} % {more} bits than {self.anchor} at {where}"
        return f"{self.codec} at {self.point:g} ({self.bpp:.4f} bpp) needs {gap}{interval}" + (
            f"; caution: {said}" if said else ""
        )


def rate_gaps(
    results: pd.DataFrame | Curves,
    codec: str,
    anchor: str,
    metric: str,
    dataset: str | None = None,
    method: str = "akima",
) -> list[RateGap]:
    """The rate gap of each operating point of *codec* to the mean curve of *anchor*, over the images that both have."""
    from hvqbench.metrics.published import curve_metric

    check_method(method)
    pair = curve_pair(results, codec, anchor, metric, dataset)
    first, second = pair.anchor, pair.test
    sign = 1.0 if curve_metric(metric).higher_is_better else -1.0
    flags = set(pair.flags)
    points = len(guard(first.bpp, first.values, sign > 0, flags)[0])
    if points < METHODS[method]:
        flags.add("too_few_points")
    logs = log_rates((first.bpp[None], sign * first.values[None]), sign * second.values[None], method)[0]
    gaps = 100 * (second.bpp / np.exp(logs) - 1)
    if "versions_differ" in flags:
        gaps[:] = np.nan
    said = tuple(flag for flag in FLAGS if flag in flags)
    found = []
    for number, point in enumerate(second.points):
        low, high = NONE if math.isnan(gaps[number]) else _interval(pair, number, sign, method)
        place = (second.label, first.label, metric, pair.dataset, point)
        values = (float(second.bpp[number]), float(second.values[number]), float(gaps[number]))
        found.append(RateGap(*place, *values, pair.images, low, high, said))
    return found


def _interval(pair: CurvePair, number: int, sign: float, method: str) -> tuple[float, float]:
    first, second = pair.anchor, pair.test
    if not len(first.image_values) or first.images != second.images:
        return NONE

    def statistic(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        curve = (drawn @ first.image_bpp, sign * (drawn @ first.image_values))
        own = drawn @ second.image_bpp[:, number], sign * (drawn @ second.image_values[:, number])
        return np.asarray(100 * (own[0] / np.exp(log_rates(curve, own[1][:, None], method)[:, 0]) - 1))

    return interval(statistic, len(first.images))
