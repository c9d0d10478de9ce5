"""The tails of a mean: how good the best and the worst tenth of the images are, and which image is the worst.

A mean hides the picture that a codec ruins, and that is the one a user complains of. ``good`` and ``bad`` are the 10th
and the 90th percentile in the order from good to bad, whichever way the metric counts, so that they read alike for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import pandas as pd

SHARE = 0.1
"""Of the images that are better than ``good``, and worse than ``bad``."""

FEWEST_IMAGES = 10
"""With fewer, a tenth of the images is less than one: the percentiles are NaN, and the worst image is all there is."""

COLUMNS = ("dataset", "codec", "point_name", "point", "metric", "images", "mean", "good", "bad", "worst", "worst_image")


@dataclass(frozen=True)
class Tails:
    """What :func:`tails` finds.

    Parameters
    ----------
    mean
        Of all images.
    good, bad
        The values that a tenth of the images is better than, and worse than; NaN with fewer than
        :data:`FEWEST_IMAGES`.
    worst, image
        The worst value, and whose it is: of several the first by name.
    images
        How many have a value.
    """

    mean: float
    good: float
    bad: float
    worst: float
    image: str
    images: int


def tails(values: ArrayLike, images: ArrayLike, higher_is_better: bool) -> Tails:
    """The tails of *values*, one for each of *images*; what is NaN is left out, and infinity (of a PSNR) is good.

    Quantiles are interpolated linearly between the two images next to them.

    >>> tails([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2], list("abcdefghijk"), higher_is_better=False)
    Tails(mean=0.681818181818, good=0.2, bad=1.0, worst=2.0, image='k', images=11)
    """
    numbers = np.asarray(values, float)
    known = ~np.isnan(numbers)
    numbers, names = numbers[known], np.asarray(images, object)[known]
    if not len(numbers):
        return Tails(math.nan, math.nan, math.nan, math.nan, "", 0)
    sign = 1 if higher_is_better else -1
    good = bad = math.nan
    if len(numbers) >= FEWEST_IMAGES:
        good, bad = (_quantile(numbers, q) for q in ((1 - SHARE, SHARE) if higher_is_better else (SHARE, 1 - SHARE)))
    worst = (sign * numbers).min()
    image = min(names[sign * numbers == worst])
    return Tails(_round(numbers.mean()), good, bad, sign * float(worst), image, len(numbers))


def tails_table(results: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The tails of each of *metrics* over the finished rows of each data set, codec and point.

    Returns
    -------
    pandas.DataFrame
        One row for each data set, codec, point and metric that has a value, with :data:`COLUMNS`.
    """
    import pandas as pd

    from hvqbench.metrics.published import curve_metric

    ok = results[results["status"] == "ok"]
    if "point_name" not in ok:
        ok = ok.assign(point_name="")
    records = []
    keys = ["dataset", "codec", "point_name", "point"]
    images = ok["image"].to_numpy(object)
    values = {metric: ok[metric].to_numpy(float) for metric in metrics if metric in ok}
    groups: Mapping[Any, Any] = ok.groupby(keys, sort=False).indices
    for place, own in groups.items():
        for metric, of_metric in values.items():
            if np.isnan(of_metric[own]).all():
                continue
            found = tails(of_metric[own], images[own], curve_metric(metric).higher_is_better)
            records.append((*place, metric, found.images, found.mean, found.good, found.bad, found.worst, found.image))
    return pd.DataFrame(records, columns=list(COLUMNS))


def _quantile(numbers: np.ndarray, share: float) -> float:
    ordered = np.sort(numbers).tolist()
    below, weight = divmod(share * (len(ordered) - 1), 1)
    low, high = ordered[int(below)], ordered[math.ceil(below + weight)]
    # NumPy's own quantile is NaN at or between infinite values, as those of equal images are.
    return _round(low if low == high or not weight else low + weight * (high - low))


def _round(value: float) -> float:
    """Without the last digits of a sum, in which machines differ."""
    return float(f"{value:.12g}")
