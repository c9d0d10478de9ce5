"""What the page says first: one sentence about who needs fewer bits than whom, written from the numbers.

The newer codecs (all but the classic ones) are held against the classic codec that is hardest to beat, in the metric
that the page opens on; where only one kind was measured, against the report's anchor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.analysis.bd import LOW_OVERLAP, BDRate
from hvqbench.report.apart import apart
from hvqbench.report.table import signed

if TYPE_CHECKING:
    from hvqbench.analysis.curves import Curve
    from hvqbench.metrics import MetricInfo
    from hvqbench.report.scope import Scope

LEADING = ("lpips-alex", "dists", "lpips-vgg", "ms-ssim", "ssimulacra2", "psnr")
"""The page opens on the first of these that has a curve: what generative codecs are judged by goes before fidelity."""

FIDELITY = "psnr"
"""Told beside the leading metric: a codec that looks better may keep less of the original's pixels."""

LEAST_DB = 0.05
"""Less than this at equal rate is not told: it would read as 0.0 dB."""


@dataclass(frozen=True)
class Finding:
    """Who needs fewer bits than whom.

    Parameters
    ----------
    sentence
        For the reader; *details* says what it is of: estimand, interval, overlap, images.
    codec, rival
        Ids of the two codecs, of which the picture room shows the median case; empty where nothing compares any two.
    metric
        The quality at which the rates are compared.
    """

    sentence: str
    details: str
    codec: str
    rival: str
    metric: str


def opening_metric(metrics: Iterable[str]) -> str:
    """The one of *metrics*, ids with a curve, that the page opens on; empty if there is none.

    >>> opening_metric(["psnr", "lpips-alex", "dists"]), opening_metric(["mine"]), opening_metric([])
    ('lpips-alex', 'mine', '')
    """
    known = list(metrics)
    return next((name for name in (*LEADING, *known) if name in known), "")


def find(scope: Scope, dataset: str, curves: Mapping[str, Sequence[Curve]]) -> Finding | None:
    """The finding on *dataset*; None where there are no two curves of the leading metric to hold together.

    Where no two of them meet, in quality or in rate, it says so, and what to measure.

    Parameters
    ----------
    curves
        As :meth:`~hvqbench.report.scope.Scope.curves` returns them.
    """
    metric = opening_metric(curves)
    names = [curve.codec for curve in curves.get(metric, []) if not curve.published]
    rivals = [name for name in names if name in scope.classic]
    if not rivals or len(rivals) == len(names):
        rivals = [name for name in scope.anchors if name in names][:1]
    newer = [name for name in names if name not in rivals and (name not in scope.classic or len(rivals) == 1)]
    best = _hardest(scope, dataset, metric, newer, rivals)
    if best is not None:
        return _told(scope, best, curves)
    return _at_equal_rate(scope, dataset, metric, newer, rivals) or _apart(scope, dataset, metric, newer, rivals)


def _hardest(scope: Scope, dataset: str, metric: str, newer: Sequence[str], rivals: Sequence[str]) -> BDRate | None:
    """The best BD-rate of any of *newer* against the rival of which that is least."""
    from hvqbench.analysis import bd_rate

    best = []
    for rival in rivals:
        every = [bd_rate(scope.source.curves, codec, rival, metric, dataset, interval=False) for codec in newer]
        if meet := [bd for bd in every if not math.isnan(bd.percent)]:
            # What is of little common quality speaks only where nothing better does.
            best.append(min(meet, key=lambda bd: (bd.overlap < LOW_OVERLAP, bd.percent)))
    if not best:
        return None
    chosen = max(best, key=lambda bd: bd.percent)
    return bd_rate(scope.source.curves, chosen.codec, chosen.anchor, metric, dataset)


def _told(scope: Scope, bd: BDRate, curves: Mapping[str, Sequence[Curve]]) -> Finding:
    title = _short(scope.named_infos[bd.metric])
    images = f"{bd.images} image{'' if bd.images == 1 else 's'}"
    here = f"at equal {title} on {'this image' if bd.images == 1 else 'these images'}"
    size, codec, rival = abs(bd.percent), scope.names(bd.codec), scope.names(bd.anchor)
    if bd.ci_low <= 0 <= bd.ci_high:
        said = f"{codec} and {rival} need about the same bits {here}"
    else:
        said = f"{codec} needs {size:.0f}\u00a0% {'fewer' if bd.percent < 0 else 'more'} bits than {rival} {here}"
    shared = f"{100 * bd.overlap:.0f}" if bd.overlap >= 0.01 else "less than 1"
    if bd.overlap < LOW_OVERLAP:  # the threshold below which the table's value is no candidate for the best
        only = "" if bd.overlap < 0.01 else "only "
        said += f", but over {only}{shared}\u00a0% of their quality range"
    details = [f"BD-rate of the mean curves over {images} of {scope.names(bd.dataset)}: {signed(bd.percent, 1)}\u00a0%"]
    if not math.isnan(bd.ci_low):
        details.append(f"95\u00a0% interval {signed(bd.ci_low, 1)} to {signed(bd.ci_high, 1)}\u00a0%")
    details.append(f"the curves share {shared}\u00a0% of their quality range")
    sentence = f"{said}{_fidelity(scope, bd, curves.get(FIDELITY, ()))}."
    return Finding(sentence, f"{'; '.join(details)}.", bd.codec, bd.anchor, bd.metric)


def _fidelity(scope: Scope, bd: BDRate, curves: Sequence[Curve]) -> str:
    """Which of the two keeps more of the pixels at equal rate; empty where that is not clear.

    At each of the codec's points whose rate the rival's curve has, not as a BD-metric: a searched codec's PSNR may fall
    as its rate rises, and then has no curve to integrate.
    """
    of = {curve.codec: curve for curve in curves if not curve.published}
    if bd.metric == FIDELITY or not {bd.codec, bd.anchor} <= of.keys():
        return ""
    own, rival = of[bd.codec], of[bd.anchor]
    order = np.argsort(rival.bpp)
    inside = (own.bpp >= rival.bpp.min()) & (own.bpp <= rival.bpp.max())
    if not inside.any():
        return ""
    there = np.interp(np.log(own.bpp[inside]), np.log(rival.bpp[order]), rival.values[order])
    changes = own.values[inside] - there
    if not np.isfinite(changes).all() or abs(changes).min() < LEAST_DB or len(set(np.sign(changes))) > 1:
        return ""
    keeps, amount = bd.codec if changes[0] > 0 else bd.anchor, f"{abs(changes).mean():.1f}\u00a0dB"
    return f"; {scope.names(keeps)} keeps more {_short(scope.named_infos[FIDELITY])}, {amount} at equal rate"


def _at_equal_rate(
    scope: Scope, dataset: str, metric: str, newer: Sequence[str], rivals: Sequence[str]
) -> Finding | None:
    """Where no qualities meet, the rates may: then the difference in quality, of the pair that shares most rates."""
    from hvqbench.analysis.bd_metric import bd_metric

    pairs = [bd_metric(scope.source.curves, codec, rival, metric, dataset) for rival in rivals for codec in newer]
    pairs = [pair for pair in pairs if not math.isnan(pair.change)]
    if not pairs:
        return None
    pair = max(pairs, key=lambda pair: pair.overlap)
    better = (pair.change > 0) == pair.higher_is_better
    first, second = (pair.codec, pair.anchor) if better else (pair.anchor, pair.codec)
    unit = f"\u00a0{pair.unit}" if pair.unit else ""
    title = _short(scope.named_infos[metric])
    better_by = f"by {abs(pair.change):.3g}{unit} on average"
    sentence = f"{scope.names(first)} has a better {title} than {scope.names(second)} at equal rate, {better_by}."
    details = (
        f"BD-metric of the mean curves over {pair.images} images of {scope.names(dataset)}; the curves share no "
        f"quality, so there is no BD-rate, and {100 * pair.overlap:.0f}\u00a0% of their rates."
    )
    return Finding(sentence, details, first, second, metric)


def _apart(scope: Scope, dataset: str, metric: str, newer: Sequence[str], rivals: Sequence[str]) -> Finding | None:
    """Where nothing meets at all: that nobody wins, and what to measure, of the first pair of which that is so."""
    said = (apart(scope.source.curves, codec, rival, metric, dataset) for rival in rivals for codec in newer)
    sentence = next(filter(None, said), "")
    if not sentence:
        return None
    details = f"Of the mean curves of rate and {_short(scope.named_infos[metric])} on {scope.names(dataset)}."
    return Finding(f"{scope.names.text(sentence)}.", details, "", "", metric)


def _short(info: MetricInfo) -> str:
    """``LPIPS`` of ``LPIPS (AlexNet)``."""
    return info.title.partition(" (")[0]
