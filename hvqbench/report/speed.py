"""Rate against speed: what a codec's bits cost in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.report.figures import log_rates
from hvqbench.report.labels import label_directly
from hvqbench.report.spec import WIDTHS
from hvqbench.report.style import Look, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def speed_figure(rows: pd.DataFrame, looks: Mapping[str, Look], anchor: str, metric: str, width: str) -> Figure:
    """A point for each codec: its BD-rate over its speed, encoding and decoding.

    Parameters
    ----------
    rows
        ``codec, bd_rate_percent, ci_low, ci_high, encode, decode``: the last two in megapixels per second.
    """
    from matplotlib.figure import Figure

    with style():
        columns = 1 if width == "single" else 2
        figure = Figure(figsize=(WIDTHS[width], 2.3 * (2 // columns)), layout="constrained")
        axes = list(figure.subplots(2 // columns, columns, squeeze=False, sharey=columns == 2).flat)
        drawn = []
        for ax, side in zip(axes, ("encode", "decode"), strict=True):
            lines = {}
            for row in rows.to_dict("records"):
                of_codec, speed = looks[row["codec"]], row[side]
                if np.isfinite(row["ci_low"]):
                    ax.vlines(speed, row["ci_low"], row["ci_high"], color=of_codec.colour, linewidth=0.8, zorder=1.9)
                (lines[row["codec"]],) = ax.plot(speed, row["bd_rate_percent"], markersize=5.5, **of_codec.line)
            ax.axhline(0, color="black", linewidth=0.6, zorder=1)
            ax.margins(x=0.2, y=0.12)
            log_rates(ax)
            ax.set_xlabel(f"{side[:-1]}ing speed [MP/s] →")
            drawn.append((ax, lines))
        for ax in axes if columns == 1 else axes[:1]:
            ax.set_ylabel(f"BD-rate against {anchor} [%]\nat equal {metric} ↓")
        figure.draw_without_rendering()
        fit = [label_directly(ax, lines) for ax, lines in drawn]
        if not all(fit):
            for ax, _ in drawn:
                for text in list(ax.texts):
                    text.remove()
            names = list(drawn[0][1])
            figure.set_figheight(figure.get_figheight() + 0.16 * -(-len(names) // 4))
            figure.legend(list(drawn[0][1].values()), names, loc="outside lower center", ncols=min(len(names), 4))
    return figure
