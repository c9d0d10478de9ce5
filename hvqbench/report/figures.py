"""Rate-distortion figures: one per data set, one panel per metric, bits per pixel on a logarithmic axis.

Drawn with matplotlib's objects and not with pyplot, so that no global state is touched and no display is needed. The
same curves give the same files, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvqbench.analysis.curves import Curve
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hvqbench.metrics import MetricInfo

STYLE = Path(__file__).with_name("hvqbench.mplstyle")
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette for all kinds of colour vision, without its yellow, which no white page shows."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
COLUMNS, MAXIMUM_COLUMNS = 2, 3
"""Panels in a row: up to three metrics share one row, more are set two by two."""
WIDTH, PANEL_HEIGHT = 7.16, 2.6
"""Inches: the width of a two-column page, of which a lone panel takes half, and the height of a row."""


def rd_figure(
    curves: Mapping[str, Sequence[Curve]], infos: Mapping[str, MetricInfo], classic: frozenset[str]
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
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    codecs = list(dict.fromkeys(curve.label for of_metric in curves.values() for curve in of_metric))
    columns = len(curves) if len(curves) <= MAXIMUM_COLUMNS else COLUMNS
    rows = -(-len(curves) // columns)
    # Codec names below the panels and not in them, where they would cover data.
    legend_rows = -(-len(codecs) // (2 * columns))
    with mpl.rc_context(fname=STYLE):
        size = (WIDTH / 2 if columns == 1 else WIDTH, PANEL_HEIGHT * rows + 0.2 * legend_rows)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flat
        handles: dict[str, Any] = {}
        for metric, of_metric in curves.items():
            ax = next(axes)
            for curve in of_metric:
                number = codecs.index(curve.label)
                handles[curve.label] = _draw(ax, curve, number, not curve.published and curve.codec in classic)
            _label(ax, infos[metric])
        for ax in axes:
            ax.set_axis_off()
        named = [codec for codec in codecs if codec in handles]
        figure.legend(
            [handles[c] for c in named], named, loc="outside lower center", ncols=2 * columns, handlelength=2.6
        )
    return figure


def save_figure(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write *figure* as ``<stem>.png`` and ``<stem>.pdf``, without a date in them."""
    import matplotlib as mpl

    png, pdf = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".pdf")
    with mpl.rc_context(fname=STYLE):
        figure.savefig(png, metadata={"Software": None})
        figure.savefig(pdf, metadata={"CreationDate": None})
    return png, pdf


def classic_codecs(codecs: Sequence[str]) -> frozenset[str]:
    """Those of *codecs* whose ``codec.toml`` has the tag ``classic``; one that the catalog does not know has none."""
    from hvqbench.catalog import load_spec

    found = set()
    for codec in codecs:
        try:
            if "classic" in load_spec(codec).tags:
                found.add(codec)
        except HvqbenchError:
            continue
    return frozenset(found)


def file_name(text: str) -> str:
    """*text* with everything replaced that is no letter, digit, dot, dash or underscore."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "data"


def _draw(ax: Axes, curve: Curve, number: int, is_classic: bool) -> Any:
    order = curve.bpp.argsort(kind="stable")
    is_hollow = is_classic or curve.published
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    (line,) = ax.plot(
        curve.bpp[order],
        curve.values[order],
        color=colour,
        marker=marker,
        linestyle=(0, (1, 1.5)) if curve.published else (0, (4, 1.6)) if is_classic else "-",
        markerfacecolor="white" if is_hollow else colour,
        markeredgecolor=colour if is_hollow else "white",
        markeredgewidth=1.0 if is_hollow else 0.5,
        # A codec with a single point (fixed length) shares it with others at L = 0: a larger marker below theirs.
        markersize=None if len(curve.bpp) > 1 else 8,
        zorder=2 if len(curve.bpp) > 1 else 1.9,
        label=curve.label,
    )
    return line


def _label(ax: Axes, info: MetricInfo) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    ax.set_xscale("log")
    lowest, highest = ax.get_xlim()
    # Up to three decades 1, 2, 5 in each are few enough to read; more have room for the powers of ten alone.
    narrow = highest / lowest < 1000
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=20))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("rate [bpp]")
    unit = f" [{info.unit}]" if info.unit else ""
    ax.set_ylabel(f"{info.title}{unit} {'↑' if info.higher_is_better else '↓'}")
