"""Curves of record: rate-distortion curves that others published, each point with its source.

They stand beside measured curves in figures and serve as anchors of BD-rates, always marked as published and never
averaged with measured rows: a published curve is of means, without the images behind them.

>>> from hvqbench.curves import published_curve
>>> curve = published_curve("vtm", "psnr", "kodak")
>>> round(float(curve.bpp[0]), 4), round(float(curve.values[0]), 2), curve.label
(0.0482, 26.14, 'vtm (published)')
"""

from __future__ import annotations

from hvqbench.curves.format import COLUMNS, PublishedPoint, format_points, read_points
from hvqbench.curves.library import PREFIX, find_published, is_published, published_curve, published_points
from hvqbench.metrics.published import curve_metric

__all__ = [
    "COLUMNS",
    "PREFIX",
    "PublishedPoint",
    "curve_metric",
    "find_published",
    "format_points",
    "is_published",
    "published_curve",
    "published_points",
    "read_points",
]
