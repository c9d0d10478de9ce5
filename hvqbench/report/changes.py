"""Figures of changes of rate: over quality (what is behind a BD-rate), and from one saved baseline to the next."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from hvqbench.report.style import WIDTH, Look, look, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 2.6
"""Inches of a panel, as in rate-distortion figures."""


def rate_figure(table: pd.DataFrame) -> Figure:
    """Draw rows of :func:`hvqbench.analysis.rate_over_quality`; below zero is fewer bits, better is to the right."""
    from hvqbench.metrics.published import curve_metric

    def draw(ax: Axes, rows: pd.DataFrame, codec_look: Look) -> None:
        ax.plot(rows["value"], rows["percent"], color=codec_look.colour, label=rows["codec"].iloc[0])
        ax.fill_between(rows["value"], rows["ci_low"], rows["ci_high"], color=codec_look.colour, alpha=0.2, linewidth=0)

    def name(ax: Axes, place: tuple[str, str], rows: pd.DataFrame) -> None:
        info = curve_metric(place[1])
        ax.set_xlabel(f"{info.title}{f' [{info.unit}]' if info.unit else ''} on {place[0]}")
        ax.set_ylabel(f"rate against {rows['anchor'].iloc[0]} [%]")
        if not info.higher_is_better:
            ax.invert_xaxis()

    return _panels(table, draw, name)


def history_figure(table: pd.DataFrame) -> Figure:
    """Draw rows of :func:`hvqbench.report.history.history_table`: BD-rate over baselines, oldest first."""
    names = list(dict.fromkeys(table["baseline"]))

    def draw(ax: Axes, rows: pd.DataFrame, codec_look: Look) -> None:
        x = [names.index(name) for name in rows["baseline"]]
        percent = rows["bd_rate_percent"]
        whiskers = (
            (percent - rows["ci_low"]).clip(lower=0).fillna(0),
            (rows["ci_high"] - percent).clip(lower=0).fillna(0),
        )
        ax.errorbar(
            x, percent, yerr=whiskers, capsize=2, elinewidth=0.8, label=rows["codec"].iloc[0], **codec_look.line
        )

    def name(ax: Axes, place: tuple[str, str], rows: pd.DataFrame) -> None:
        ax.set_title(f"{place[1]} on {place[0]}")
        ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
        ax.set_ylabel(f"BD-rate against {rows['anchor'].iloc[0]} [%]")

    return _panels(table, draw, name)


def _panels(
    table: pd.DataFrame,
    draw: Callable[[Axes, pd.DataFrame, Look], None],
    name: Callable[[Axes, tuple[str, str], pd.DataFrame], None],
) -> Figure:
    """A panel for each data set and metric, with a line at zero and, in it, each codec drawn with its own look."""
    from matplotlib.figure import Figure

    codecs: list[Hashable] = list(dict.fromkeys(table["codec"]))
    places = list(dict.fromkeys(zip(table["dataset"], table["metric"], strict=True)))
    with style():
        figure = Figure(figsize=(WIDTH / 2 * len(places), HEIGHT), layout="constrained")
        handles: dict[str, Any] = {}
        for ax, place in zip(figure.subplots(1, len(places), squeeze=False)[0], places, strict=True):
            rows = table[(table["dataset"] == place[0]) & (table["metric"] == place[1])]
            ax.axhline(0, color="black", linewidth=0.8, zorder=0.5)
            for codec, own in rows.groupby("codec", sort=False):
                draw(ax, own, look(codecs.index(codec)))
            name(ax, place, rows)
            lines, labels = ax.get_legend_handles_labels()
            handles |= dict(zip(labels, lines, strict=True))
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2 * len(places))
    return figure
