"""From rows to conclusions: rate-distortion curves, BD-rates and savings.

>>> from hvqbench import read_results                                           # doctest: +SKIP
>>> from hvqbench.analysis import bd_rate                                       # doctest: +SKIP
>>> bd_rate(read_results("results"), "hypervq", "huffman-vq", "lpips-alex").text  # doctest: +SKIP
'hypervq needs 12.3 % fewer bits than huffman-vq at equal lpips-alex (kodak, 24 images; akima, overlap 0.87)'
"""

from __future__ import annotations

from hvqbench.analysis.bd import BDRate, bd_rate, bd_rate_from_curves, bd_table
from hvqbench.analysis.curves import Curve, mean_curve, saving_table

__all__ = ["BDRate", "Curve", "bd_rate", "bd_rate_from_curves", "bd_table", "mean_curve", "saving_table"]
