"""Bjøntegaard deltas, many at once: the guard and the integration, over whole arrays of curves.

A bootstrap needs thousands of BD-rates, and the package ``bjontegaard`` does one at a time. Here R pairs of curves are
R rows of an array, and a single pair is an array of one row: guard (what is sorted, merged, left out, refused) and
integral are written once. The interpolants are those of SciPy, which ``bjontegaard`` uses; tests hold the two equal.

Sources: Akima, J. ACM 17(4), 1970; Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5(2), 1984, with the ends of Moler,
Numerical Computing with MATLAB, 2004, section 3.6, as SciPy has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

METHODS: Mapping[str, int] = {"akima": 2, "pchip": 2, "cubic": 4}
"""Interpolation of log-rate over quality: the fewest points that each can work with. ``pchip`` is JVET's."""


ROUNDING = 1e-9
"""Of a curve's range of quality: a point that near its end is at its end, by the rounding of a mean."""


@dataclass(frozen=True, eq=False)
class Monotone:
    """Curves whose rate and quality both rise strictly; shape R×N, of which *kept* says which points are so.

    *not_finite*, *tied* and *falling* mark the points that were left out, and why.
    """

    rate: Array
    quality: Array
    kept: Mask
    not_finite: Mask
    tied: Mask
    falling: Mask

    @property
    def counts(self) -> NDArray[np.int64]:
        """Points of each curve; shape ``(R,)``."""
        return self.kept.sum(1)

    def of(self, rows: Mask, count: int) -> tuple[Array, Array]:
        """Rates and qualities of those *rows*, all of which have *count* points; shape ``(rows, count)``."""
        kept = self.kept[rows]
        return self.rate[rows][kept].reshape(-1, count), self.quality[rows][kept].reshape(-1, count)


def monotone(rate: Array, quality: Array) -> Monotone:
    """R×N points sorted by rate, of which those are kept that cost more than all before them and are better.

    At equal rate the best quality comes first, so that a tie is never the better of two points.
    """
    finite = np.isfinite(rate) & np.isfinite(quality) & (rate > 0)
    rate, quality = np.where(finite, rate, np.inf), np.where(finite, quality, -np.inf)
    order = np.lexsort((-quality, rate), axis=-1)
    rate, quality = np.take_along_axis(rate, order, -1), np.take_along_axis(quality, order, -1)
    finite = np.take_along_axis(finite, order, -1)
    kept, tied = np.zeros(rate.shape, bool), np.zeros(rate.shape, bool)
    last_rate, last_quality = np.full(len(rate), -np.inf), np.full(len(rate), -np.inf)
    for j in range(rate.shape[1]):
        r, q = rate[:, j], quality[:, j]
        keep = finite[:, j] & (r > last_rate) & (q > last_quality)
        kept[:, j] = keep
        tied[:, j] = finite[:, j] & ~keep & ((r == last_rate) | (q == last_quality))
        last_rate, last_quality = np.where(keep, r, last_rate), np.where(keep, q, last_quality)
    return Monotone(rate, quality, kept, ~finite, tied, finite & ~kept & ~tied)


def bd_rates(anchor: tuple[Array, Array], test: tuple[Array, Array], method: str = "akima") -> Array:
    """BD-rates of R pairs of curves in per cent.

    Parameters
    ----------
    anchor, test
        Rates and qualities, higher is better; each R×N, in any order of points.

    Returns
    -------
    Array
        Shape ``(R,)``; NaN where the quality ranges do not overlap or a curve has too few points.
    """
    result = np.full(len(anchor[0]), np.nan)
    for rows, first, second in _pairs(monotone(*anchor), monotone(*test), method):
        difference = mean_difference(first[1], np.log(first[0]), second[1], np.log(second[0]), method)
        result[rows] = 100 * np.expm1(difference)
    return result


def bd_metrics(anchor: tuple[Array, Array], test: tuple[Array, Array], method: str = "akima") -> Array:
    """As :func:`bd_rates`, but the mean difference of quality at equal rate, in the metric's own unit."""
    result = np.full(len(anchor[0]), np.nan)
    for rows, first, second in _pairs(monotone(*anchor), monotone(*test), method):
        result[rows] = mean_difference(np.log(first[0]), first[1], np.log(second[0]), second[1], method)
    return result


def mean_difference(x1: Array, y1: Array, x2: Array, y2: Array, method: str) -> Array:
    """Mean of y2 - y1 over the x that both curves have; shape ``(R,)``, NaN where they share no range of x.

    *x1* and *y1* are R×N, *x2* and *y2* R×M, and x rises strictly along each row.
    """
    low, high = np.maximum(x1[:, 0], x2[:, 0]), np.minimum(x1[:, -1], x2[:, -1])
    shared = high > low
    high = np.where(shared, high, low + 1)
    area = _integral(x2, y2, low, high, method) - _integral(x1, y1, low, high, method)
    return np.where(shared, area / (high - low), np.nan)


Curves = tuple[Array, Array]


def _pairs(anchor: Monotone, test: Monotone, method: str) -> Iterator[tuple[Mask, Curves, Curves]]:
    """The pairs of curves that can be compared, in groups of equal numbers of points."""
    counts = np.stack([anchor.counts, test.counts], 1)
    for first, second in np.unique(counts, axis=0):
        if min(first, second) >= METHODS[method]:
            rows = (counts == (first, second)).all(1)
            yield rows, anchor.of(rows, first), test.of(rows, second)


def log_rates(curves: tuple[Array, Array], quality: Array, method: str = "akima") -> Array:
    """The natural logarithm of the rate at which each curve has a quality.

    Parameters
    ----------
    curves
        Rates and qualities, higher is better; each R×N, in any order of points.
    quality
        R×M qualities.

    Returns
    -------
    Array
        Shape R×M; NaN outside of a curve's range, and where it has too few points.
    """
    usable = monotone(*curves)
    counts = usable.counts
    result = np.full(quality.shape, np.nan)
    for count in np.unique(counts):
        if count >= METHODS[method]:
            rows = counts == count
            rate, x = usable.of(rows, count)
            at = quality[rows]
            nearest = np.clip(at, x[:, [0]], x[:, [-1]])
            inside = np.abs(at - nearest) <= ROUNDING * (x[:, [-1]] - x[:, [0]])
            values = _evaluate(x, np.log(rate), nearest, method)
            result[rows] = np.where(inside, values, np.nan)
    return result


def quality_range(curves: tuple[Array, Array]) -> tuple[Array, Array]:
    """Lowest and highest quality of each curve, of the points that the guard keeps; each of shape ``(R,)``."""
    usable = monotone(*curves)
    lowest = np.where(usable.kept, usable.quality, np.inf).min(1)
    return lowest, np.where(usable.kept, usable.quality, -np.inf).max(1)


def _evaluate(x: Array, y: Array, at: Array, method: str) -> Array:
    """The interpolants at R×M places *at*, all inside of them."""
    if method == "cubic":
        middle, half, coefficients = _polynomial(x, y)
        scaled = (at - middle[:, None]) / half[:, None]
        return np.asarray(np.einsum("rmk,rk->rm", scaled[..., None] ** POWERS, coefficients))
    segment = (at[:, :, None] >= x[:, None, 1:-1]).sum(2)
    c1, c2, c3 = (np.take_along_axis(c, segment, 1) for c in _segments(x, y, method))
    t = at - np.take_along_axis(x, segment, 1)
    return np.asarray(np.take_along_axis(y, segment, 1) + t * (c1 + t * (c2 + t * c3)))


def _integral(x: Array, y: Array, low: Array, high: Array, method: str) -> Array:
    """The interpolant's integral over x from *low* to *high*, both inside of it; shape ``(R,)``."""
    if method == "cubic":
        middle, half, coefficients = _polynomial(x, y)
        ends = [((edge - middle) / half)[:, None] ** (POWERS + 1) for edge in (low, high)]
        return np.asarray(half * (coefficients / (POWERS + 1) * (ends[1] - ends[0])).sum(1))
    c1, c2, c3 = _segments(x, y, method)

    def antiderivative(t: Array) -> Array:
        return t * (y[:, :-1] + t * (c1 / 2 + t * (c2 / 3 + t * c3 / 4)))

    start, end = (np.clip(edge[:, None] - x[:, :-1], 0, np.diff(x)) for edge in (low, high))
    return np.asarray((antiderivative(end) - antiderivative(start)).sum(1))


def _segments(x: Array, y: Array, method: str) -> tuple[Array, Array, Array]:
    """Coefficients of t, t² and t³ in each segment, t from its left end (Hermite's cubics); each R×(N-1)."""
    h, slope = np.diff(x), np.diff(y) / np.diff(x)
    d = slope[:, [0, 0]] if x.shape[1] == 2 else _akima(slope) if method == "akima" else _pchip(h, slope)
    left, right = d[:, :-1], d[:, 1:]
    return left, (3 * slope - 2 * left - right) / h, (left + right - 2 * slope) / h**2


def _akima(slope: Array) -> Array:
    """Akima's derivatives at N ≥ 3 points from the R×(N-1) *slope* between them."""
    first = 2 * slope[:, [0]] - slope[:, [1]]
    last = 2 * slope[:, [-1]] - slope[:, [-2]]
    m = np.concatenate([2 * first - slope[:, [0]], first, slope, last, 2 * last - slope[:, [-1]]], 1)
    change = np.abs(np.diff(m))
    before, after = change[:, :-2], change[:, 2:]
    weight = before + after
    defined = weight > 1e-9 * weight.max(1, keepdims=True)  # where both vanish, Akima takes the mean of the two slopes
    share = np.divide(before, weight, out=np.zeros_like(weight), where=defined)
    return np.where(defined, m[:, 1:-2] + share * (m[:, 2:-1] - m[:, 1:-2]), (m[:, 3:] + m[:, :-3]) / 2)


def _pchip(h: Array, slope: Array) -> Array:
    """PCHIP's derivatives at N ≥ 3 points from the R×(N-1) steps *h* and *slope* between them."""
    before, after = slope[:, :-1], slope[:, 1:]
    w1, w2 = 2 * h[:, 1:] + h[:, :-1], h[:, 1:] + 2 * h[:, :-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.where(before * after > 0, (w1 + w2) / (w1 / before + w2 / after), 0)
    first = _pchip_end(h[:, 0], h[:, 1], slope[:, 0], slope[:, 1])
    last = _pchip_end(h[:, -1], h[:, -2], slope[:, -1], slope[:, -2])
    return np.concatenate([first[:, None], inner, last[:, None]], 1)


def _pchip_end(h0: Array, h1: Array, m0: Array, m1: Array) -> Array:
    d = ((2 * h0 + h1) * m0 - h0 * m1) / (h0 + h1)
    steep = (np.sign(m0) != np.sign(m1)) & (np.abs(d) > 3 * np.abs(m0))
    return np.where(np.sign(d) != np.sign(m0), 0, np.where(steep, 3 * m0, d))


POWERS = np.arange(4)


def _polynomial(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """The cubic that fits all points best, VCEG-M33's: middle and half of the range of x, and R×4 coefficients.

    They are of powers of (x - middle) / half, which is in [-1, 1], for the conditioning.
    """
    middle, half = (x[:, -1] + x[:, 0]) / 2, (x[:, -1] - x[:, 0]) / 2
    powers: Any = ((x - middle[:, None]) / half[:, None])[..., None] ** POWERS
    return middle, half, (np.linalg.pinv(powers) @ y[..., None])[..., 0]
