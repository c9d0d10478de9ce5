"""Where along the curve the bits are saved: rate relative to the anchor over quality, the plot behind a BD-rate.

A BD-rate is one number for a curve of differences. This is the curve: at each quality that both have, the codec's rate
over the anchor's, with the 95 % interval of each place in the shared range. The BD-rate is its mean in the logarithm.

Source: the relative curve difference (RCD) plot of Herglotz et al., arXiv:2304.12852.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hvqbench.analysis.batch import log_rates, quality_range
from hvqbench.analysis.bd import check_method
from hvqbench.analysis.bootstrap import pointwise_interval
from hvqbench.analysis.pairs import Curves, curve_pair

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
SAMPLES = 100


def rate_over_quality(
    results: pd.DataFrame | Curves,
    codec: str,
    anchor: str,
    metric: str,
    dataset: str | None = None,
    method: str = "akima",
) -> pd.DataFrame:
    """The change of rate of *codec* against *anchor* at each quality that both mean curves have.

    Returns
    -------
    pandas.DataFrame
        ``dataset, metric, codec, anchor, value`` (of the metric), ``percent, ci_low, ci_high``: one row for each of
        100 qualities; no row if the curves share no range, or are of different versions of the metric.
    """
    import pandas as pd

    from hvqbench.metrics.published import curve_metric

    check_method(method)
    pair = curve_pair(results, codec, anchor, metric, dataset)
    first, second = pair.anchor, pair.test
    sign = 1.0 if curve_metric(metric).higher_is_better else -1.0
    columns = ["dataset", "metric", "codec", "anchor", "value", "percent", "ci_low", "ci_high"]
    if not first.points or not second.points or "versions_differ" in pair.flags:
        return pd.DataFrame(columns=columns)

    def percent(shares: Array, curves: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
        means = [(shares @ bpp, sign * (shares @ values)) for bpp, values in curves]
        ranges = [quality_range(curve) for curve in means]
        low, high = np.maximum(ranges[0][0], ranges[1][0]), np.minimum(ranges[0][1], ranges[1][1])
        # At the same place of the shared range: other images shift the whole range, often by more than its width.
        at = low[:, None] + np.linspace(0, 1, SAMPLES) * np.where(high > low, high - low, np.nan)[:, None]
        logs = [log_rates(curve, at, method) for curve in means]
        return at, np.asarray(100 * np.expm1(logs[1] - logs[0]))

    quality, estimate = percent(np.ones((1, 1)), [(curve.bpp[None], curve.values[None]) for curve in (first, second)])
    ends = np.full((2, SAMPLES), np.nan)
    if len(first.image_values) and first.images == second.images:
        of_images = [(curve.image_bpp, curve.image_values) for curve in (first, second)]
        ends = pointwise_interval(lambda drawn: percent(drawn, of_images)[1], len(first.images), SAMPLES)
    table = pd.DataFrame({"value": sign * quality[0], "percent": estimate[0], "ci_low": ends[0], "ci_high": ends[1]})
    table = table[np.isfinite(table["percent"])]
    return table.assign(dataset=pair.dataset, metric=metric, codec=second.label, anchor=first.label)[columns]
