"""Two codecs that nothing compares: their curves share neither a quality nor a rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hvqbench.analysis.pairs import Curves

APART = "no_overlap"
"""The flag of a BD-rate and of a BD-metric; both together mean that nothing is shared."""


def apart(curves: Curves, codec: str, anchor: str, metric: str, dataset: str) -> str:
    """What to say, and to measure, of two codecs whose mean curves share nothing; empty where they do share something.

    Either may be published; then there is nothing to measure of that one.
    """
    from hvqbench.analysis import bd_rate
    from hvqbench.analysis.bd_metric import bd_metric
    from hvqbench.analysis.pairs import curve_pair

    at_quality = bd_rate(curves, codec, anchor, metric, dataset, interval=False)
    at_rate = bd_metric(curves, codec, anchor, metric, dataset)
    if APART not in at_quality.flags or APART not in at_rate.flags:
        return ""
    pair = curve_pair(curves, codec, anchor, metric, dataset)
    low, high = sorted((pair.test, pair.anchor), key=lambda curve: float(np.median(curve.bpp)))
    said = f"{pair.test.label} and {pair.anchor.label} share neither quality nor rate, so neither can be"
    remedies = [f"{high.label} at lower rates"] * (not high.published)
    remedies += [f"{low.label} at higher rates"] * (not low.published)
    return f"{said} said to win" + (f": measure {' or '.join(remedies)}" if remedies else "")
