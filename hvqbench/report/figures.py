"""Rate-distortion figures: a panel for each metric, bits per pixel on a logarithmic axis where the rates ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hvqbench.analysis.curves import Curve
from hvqbench.report.labels import label_directly
from hvqbench.report.spec import WIDTHS
from hvqbench.report.style import COLOURS, STYLE, WIDTH, classic_codecs, looks, save_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hvqbench.metrics import MetricInfo

__all__ = ["COLOURS", "STYLE", "WIDTH", "classic_codecs", "rd_figure", "save_figure"]

COLUMNS, MAXIMUM_COLUMNS = 2, 3
"""Panels in a row: up to three metrics share one row, more are set two by two."""

PANEL_HEIGHT, LEGEND_ROW, NOTE_ROW = 2.3, 0.155, 0.2
"""Inches: of a row of panels, of a row of the legend below, and of a note above."""

NOTE_COLOUR = "#B00020"
"""Of a note: a red that is no codec's."""

LOG_SPAN = 8.0
"""A greatest rate this many times the least asks for a logarithmic axis."""

DIRECT = 8
"""Up to so many curves a lone panel is tried without a legend."""


def rd_figure(
    curves: Mapping[str, Sequence[Curve]],
    infos: Mapping[str, MetricInfo],
    classic: frozenset[str],
    *,
    bands: Mapping[tuple[str, str], Any] | None = None,
    order: Sequence[str] = (),
    width: str = "double",
    labels: str = "auto",
    bpp: Sequence[float] = (),
    note: str = "",
) -> Figure:
    """Draw the curves of one data set.

    Parameters
    ----------
    curves
        Metric id to the curves of that metric; a codec keeps its colour and marker in every panel. Published curves
        are dotted, and the legend says that they are.
    infos
        Metric id to title, unit and polarity.
    classic
        Ids of the codecs drawn dashed.
    bands
        ``(metric, codec)`` to what :func:`hvqbench.analysis.bootstrap.curve_band` returns: shaded below the curve.
    order
        Names of codecs in the order that gives them their looks, so that other figures agree; by default as they come.
    width, labels, bpp
        As of :class:`~hvqbench.report.spec.FigureSpec`.
    note
        Above the panels: what a reader must not overlook.
    """
    from matplotlib.figure import Figure

    named = list(dict.fromkeys(curve.label for of_metric in curves.values() for curve in of_metric))
    published = {curve.label for of_metric in curves.values() for curve in of_metric if curve.published}
    of_codecs = looks([*order, *named], classic, published)
    panels = len(curves)
    columns = 1 if width == "single" or panels == 1 else panels if panels <= MAXIMUM_COLUMNS else COLUMNS
    inches = WIDTHS["single"] if columns == 1 else WIDTHS["double"]
    rows = -(-panels // columns)
    with style():
        figure = Figure(figsize=(inches, PANEL_HEIGHT * rows), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        if note:
            figure.set_figheight(figure.get_figheight() + NOTE_ROW)
            figure.suptitle(note, fontsize=7.5, color=NOTE_COLOUR)
        lines: list[dict[str, Any]] = []
        for ax, (metric, of_metric) in zip(axes, curves.items(), strict=False):
            lines.append({})
            for curve in of_metric:
                of_codec = of_codecs[curve.label].line
                lines[-1][curve.label] = _draw(ax, curve, of_codec, (bands or {}).get((metric, curve.codec)))
            _axes(ax, of_metric, infos[metric], bpp)
        for ax in axes[panels:]:
            ax.set_axis_off()
        if labels == "direct" or (labels == "auto" and panels == 1 and len(named) <= DIRECT):
            figure.draw_without_rendering()
            drawn = [label_directly(ax, of_ax) for ax, of_ax in zip(axes, lines, strict=False)]
            if all(drawn):
                return figure
            for ax in axes:
                for text in list(ax.texts):
                    text.remove()
        handles: dict[str, Any] = {name: line for of_ax in lines for name, line in of_ax.items()}
        _legend(figure, {name: handles[name] for name in named}, inches)
    return figure


def _legend(figure: Figure, handles: Mapping[str, Any], inches: float) -> None:
    """Codec names below the panels and not in them, where they would cover data: as many in a row as fit."""
    widest = max((len(name) for name in handles), default=1)
    # A handle and its gaps are less than half an inch, a letter of 7.5 pt is about a seventeenth.
    columns = max(1, min(len(handles), int(inches / (0.42 + widest / 17))))
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * rows)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
        handlelength=2.2,
        columnspacing=1.2,
    )


def _draw(ax: Axes, curve: Curve, of_codec: Mapping[str, Any], band: Any) -> Any:
    order = curve.bpp.argsort(kind="stable")
    alone = len(curve.bpp) == 1
    if band is not None and not alone:
        up = np.argsort(band.bpp, kind="stable")
        ax.fill_between(
            band.bpp[up], band.low[up], band.high[up], color=of_codec["color"], alpha=0.16, linewidth=0, zorder=1.5
        )
    elif band is not None:
        spread = np.abs(np.stack([band.values - band.low, band.high - band.values]))
        ax.errorbar(band.bpp, band.values, spread, fmt="none", ecolor=of_codec["color"], elinewidth=0.8, zorder=1.8)
    (line,) = ax.plot(
        curve.bpp[order],
        curve.values[order],
        **of_codec,
        # A codec with a single point (fixed length) shares it with others at L = 0: a larger marker below theirs.
        markersize=6.5 if alone else None,
        zorder=1.9 if alone else 2,
        label=curve.label,
    )
    return line


def _axes(ax: Axes, curves: Sequence[Curve], info: MetricInfo, bpp: Sequence[float]) -> None:
    rates = np.concatenate([curve.bpp for curve in curves])
    values = np.concatenate([curve.values for curve in curves])
    lowest, highest = rates.min(), rates.max()
    inside = (rates >= bpp[0]) & (rates <= bpp[1]) if bpp else np.ones(len(rates), bool)
    if bpp and inside.any():
        low, high = values[inside].min(), values[inside].max()
        margin = 0.05 * (high - low) or 1.0
        ax.set_ylim(low - margin, high + margin)
        # No wider than what there is to see.
        lowest, highest = max(bpp[0], lowest / 1.15), min(bpp[1], highest * 1.15)
        ax.set_xlim(lowest, highest)
    if lowest > 0 and highest / lowest > LOG_SPAN:
        log_rates(ax)
    elif not bpp:
        ax.set_xlim(left=max(0.0, ax.get_xlim()[0]))
    ax.set_xlabel("rate [bpp]")
    unit = f" [{info.unit}]" if info.unit else ""
    ax.set_ylabel(f"{info.title}{unit} {'↑' if info.higher_is_better else '↓'}")


def log_rates(ax: Axes, axis: str = "x") -> None:
    """A logarithmic axis with plain numbers at it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    of_axis = ax.xaxis if axis == "x" else ax.yaxis
    (ax.set_xscale if axis == "x" else ax.set_yscale)("log")
    lowest, highest = ax.get_xlim() if axis == "x" else ax.get_ylim()
    # Up to two decades 1, 2, 5 in each are few enough to read side by side; more have room for powers of ten alone.
    subs = (1.0, 2.0, 5.0) if highest / lowest < 100 else (1.0, 3.0) if highest / lowest < 1000 else (1.0,)
    of_axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    of_axis.set_minor_locator(NullLocator())
    of_axis.set_minor_formatter(NullFormatter())
    of_axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
