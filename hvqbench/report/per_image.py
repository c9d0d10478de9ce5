"""BD-rate of each image as a dot: whether a mean is of many small gains, or of a few great ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.report.spec import WIDTHS
from hvqbench.report.style import Look, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from hvqbench.analysis.pairs import Curves
    from hvqbench.report.scope import Scope

ROW = 0.24
"""Inches of height for each codec."""

FAR = 2.0
"""Dots beyond this many times the range of the 5 to 95 % of them would squeeze all others: they are cut and counted."""


def image_bd_rates(
    curves: Curves, codec: str, anchor: str, metric: str, dataset: str
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names of the images that both codecs have, and the BD-rate of each in per cent; NaN where there is none."""
    from hvqbench.analysis.batch import bd_rates
    from hvqbench.analysis.pairs import curve_pair
    from hvqbench.metrics import metric_info

    pair = curve_pair(curves, codec, anchor, metric, dataset)
    if pair.anchor.images != pair.test.images or not pair.images:
        return (), np.empty(0)
    sign = 1.0 if metric_info(metric).higher_is_better else -1.0
    first, second = ((curve.image_bpp, sign * curve.image_values) for curve in (pair.anchor, pair.test))
    return pair.test.images, bd_rates(first, second)


def codec_percents(scope: Scope, dataset: str, anchor: str, metric: str) -> dict[str, NDArray[np.float64]]:
    """For each codec of *scope* with at least two finite BD-rates of images against *anchor*: these, in per cent."""
    rows = scope.with_anchors
    there = set(rows.loc[(rows["dataset"] == dataset) & (rows["status"] == "ok"), "codec"].unique())
    percents = {}
    for codec in (c for c in scope.codecs if c != anchor and {c, anchor} <= there):
        values = image_bd_rates(scope.source.curves, codec, anchor, metric, dataset)[1]
        if np.isfinite(values).sum() > 1:
            percents[codec] = values[np.isfinite(values)]
    return percents


def per_image_figure(
    percents: Mapping[str, NDArray[np.float64]], looks: Mapping[str, Look], anchor: str, metric: str, width: str
) -> Figure:
    """A row for each codec of *percents* (BD-rate of each image, finite): its images as dots, their median as a bar."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(WIDTHS[width], ROW * len(percents) + 0.7), layout="constrained")
        ax = figure.subplots()
        low, high = _limits([*percents.values()])
        for y, (codec, values) in enumerate(percents.items()):
            of_codec = looks[codec]
            inside = values[(values >= low) & (values <= high)]
            dots = {"linestyle": "", "marker": "o", "markersize": 3, "markeredgewidth": 0, "alpha": 0.6}
            ax.plot(inside, y + _spread(len(inside)), color=of_codec.colour, **dots)  # type: ignore[arg-type]
            ax.plot([np.median(values)] * 2, [y - 0.36, y + 0.36], color="black", linewidth=1.4, solid_capstyle="butt")
            if outside := len(values) - len(inside):
                place = (high, "right") if (values > high).sum() * 2 >= outside else (low, "left")
                ax.annotate(
                    f"{outside} beyond", (place[0], y), (0, 5.5), textcoords="offset points", ha=place[1], va="center",
                    fontsize=7, color="0.35",
                )  # fmt: skip
        ax.axvline(0, color="black", linewidth=0.6, zorder=1)
        ax.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        ax.set_ylim(len(percents) - 0.45, -0.55)
        ax.set_yticks(range(len(percents)), list(percents))
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel(f"BD-rate of each image against {anchor} [%]\nat equal {metric} ↓")
    return figure


def _limits(percents: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    values = np.concatenate([*percents, [0.0]])
    low, high = np.quantile(values, [0.05, 0.95])
    reach = FAR * max(high - low, 1.0)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    return float(inside.min()), float(inside.max())


def _spread(count: int) -> NDArray[np.float64]:
    """Small offsets that keep neighbours apart, the same ones every time."""
    return np.asarray(0.28 * (2 * ((np.arange(count) * 0.618034) % 1) - 1), float)
