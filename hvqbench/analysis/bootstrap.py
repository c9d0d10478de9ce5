"""How far a data set's numbers would move with other images: intervals by resampling the images.

A benchmark's images are a sample. Each resample draws as many of them again, with replacement, takes the same ones for
both codecs (so that what an image does to both cancels), and computes mean curves and BD-rate anew. The interval is
that of the resamples' percentiles, widened for the small number of images, since plain percentiles of 24 images cover
about 93 % where they claim 95 %: Hesterberg's "expanded percentile interval", The American Statistician 69(4), 2015,
doi:10.1080/00031305.2015.1089789, and with it about 95 % (``tests/test_bootstrap.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hvqbench.analysis.batch import bd_metrics, bd_rates
from hvqbench.analysis.curves import Curve, the_dataset
from hvqbench.analysis.pairs import Curves

if TYPE_CHECKING:
    import pandas as pd

FEWEST_IMAGES = 5
"""With fewer images no resampling covers what it claims: of n values all resamples lie within their range, and that
misses the median once in 2^(n-1)."""

LARGEST = 8_000_000
"""Images times resamples that are drawn at once: 64 MB."""

LOST_SHARE = 0.01
"""Above this share of resamples without a number there is no interval: the rest would be a selection."""

Array = NDArray[np.float64]
Interval = tuple[float, float]
NONE: Interval = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Resampling:
    """How an interval is made: what it says to cover, of so many resamples, drawn from that seed."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Band:
    """A mean curve with a pointwise interval of its metric; all of shape ``(points,)``, sorted by operating point.

    *low* and *high* are NaN where there is no interval: published curves, metrics of whole sets, fewer than
    :data:`FEWEST_IMAGES` images.
    """

    bpp: Array
    values: Array
    low: Array
    high: Array


def curve_band(
    rows: pd.DataFrame | Curves,
    codec: str,
    metric: str,
    dataset: str | None = None,
    how: Resampling = Resampling(),
) -> Band:
    """The mean curve of *codec* and, at each operating point, the interval of its mean metric over the images."""
    curves = rows if isinstance(rows, Curves) else Curves(rows)
    curve = curves.get(codec, metric, the_dataset(curves.results, None) if dataset is None else dataset)
    images = len(curve.image_values)  # none where only means are known
    low, high = pointwise_interval(lambda drawn: drawn @ curve.image_values, images, len(curve.values), how)
    return Band(curve.bpp, curve.values, low, high)


def bd_interval(
    anchor: Curve,
    test: Curve,
    higher_is_better: bool,
    method: str = "akima",
    *,
    by_pixels: bool = False,
    equal: str = "quality",
    how: Resampling = Resampling(),
) -> Interval:
    """Interval of the BD-rate of the mean curves of the same images, in per cent; NaN if there is none.

    Parameters
    ----------
    by_pixels
        Weigh each image by its pixels.
    equal
        ``"quality"``: BD-rate; ``"rate"``: the difference of quality, in the metric's unit and direction.
    """
    if not len(anchor.image_values) or anchor.images != test.images:
        return NONE
    sign = 1.0 if higher_is_better else -1.0
    delta = bd_rates if equal == "quality" else bd_metrics

    def statistic(drawn: Array) -> Array:
        share = drawn
        if by_pixels:
            share = drawn * anchor.pixels
            share /= share.sum(1, keepdims=True)
        pairs = [(share @ curve.image_bpp, sign * (share @ curve.image_values)) for curve in (anchor, test)]
        found = delta(pairs[0], pairs[1], method)
        return found if equal == "quality" else sign * found

    return interval(statistic, len(anchor.images), how)


def mean_interval(values: Array, how: Resampling = Resampling()) -> Interval:
    """Interval of the mean of one value for each image; NaN if there is none."""
    return interval(lambda drawn: drawn @ values, len(values), how)


def interval(statistic: Callable[[Array], Array], images: int, how: Resampling = Resampling()) -> Interval:
    """The interval of *statistic*, which takes resamples×images weights (rows add up to 1) to a value each."""
    low, high = pointwise_interval(lambda drawn: statistic(drawn)[:, None], images, 1, how)
    return float(low[0]), float(high[0])


def pointwise_interval(
    statistics: Callable[[Array], Array], images: int, count: int, how: Resampling = Resampling()
) -> Array:
    """As :func:`interval`, of *count* statistics at once, each for itself; shape ``(2, count)``."""
    result = np.full((2, count), np.nan)
    if images >= FEWEST_IMAGES:
        values = np.concatenate([statistics(drawn) for drawn in _draws(images, how)])
        finite = np.isfinite(values)
        known = finite.mean(0) >= 1 - LOST_SHARE
        if known.any():
            kept = np.where(finite, values, np.nan)[:, known]
            quantile = np.quantile if finite.all() else np.nanquantile  # the latter is many times slower
            result[:, known] = quantile(kept, _tails(images, how.level), axis=0)
    return result


def _draws(images: int, how: Resampling) -> Iterator[Array]:
    """All resamples at once, or of very many images some at a time, for the memory."""
    if images * how.resamples <= LARGEST:
        yield weights(images, how)
    else:
        rng, size = np.random.default_rng(how.seed), max(1, LARGEST // images)
        for done in range(0, how.resamples, size):
            yield rng.multinomial(images, np.full(images, 1 / images), min(size, how.resamples - done)) / images


@lru_cache(maxsize=4)
def weights(images: int, how: Resampling) -> Array:
    """Share of each image in each resample; resamples×images, read-only. The same arguments draw the same images."""
    drawn = np.random.default_rng(how.seed).multinomial(images, np.full(images, 1 / images), how.resamples) / images
    drawn.setflags(write=False)
    return drawn


def _tails(images: int, level: float) -> tuple[float, float]:
    """The two quantiles of the resamples that are *level* apart, with Student's t for the normal's tail."""
    from scipy.special import ndtr, stdtrit

    t = stdtrit(images - 1, (1 + level) / 2) * np.sqrt(images / (images - 1))
    return float(ndtr(-t)), float(ndtr(t))
