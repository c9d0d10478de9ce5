"""From rows to conclusions: rate-distortion curves, BD-rates and savings.

>>> from hvqbench import read_results                                           # doctest: +SKIP
>>> from hvqbench.analysis import bd_rate                                       # doctest: +SKIP
>>> bd_rate(read_results("results"), "hypervq", "huffman-vq", "lpips-alex").text  # doctest: +SKIP
'hypervq needs 12.3 % fewer bits than huffman-vq at equal lpips-alex (kodak, 24 images; akima, overlap 0.87)'
"""

from __future__ import annotations

from hvqbench.analysis.bd import BDRate, bd_rate, bd_rate_from_curves, bd_table
from hvqbench.analysis.bd_metric import BDMetric, bd_metric, bd_metric_from_curves
from hvqbench.analysis.bootstrap import Band, curve_band
from hvqbench.analysis.curves import Curve, mean_curve
from hvqbench.analysis.estimands import PerImage, per_image
from hvqbench.analysis.matrix import anchor_matrix, square_matrix
from hvqbench.analysis.pairs import Curves
from hvqbench.analysis.rate_gap import RateGap, rate_gaps
from hvqbench.analysis.rcd import rate_over_quality
from hvqbench.analysis.savings import saving_table

__all__ = [
    "BDMetric",
    "BDRate",
    "Band",
    "Curve",
    "Curves",
    "PerImage",
    "RateGap",
    "anchor_matrix",
    "bd_metric",
    "bd_metric_from_curves",
    "bd_rate",
    "bd_rate_from_curves",
    "bd_table",
    "curve_band",
    "mean_curve",
    "per_image",
    "rate_gaps",
    "rate_over_quality",
    "saving_table",
    "square_matrix",
]
