"""Where the bits go: the streams of each codec's files as stacked bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hvqbench.report.spec import WIDTHS
from hvqbench.report.style import COLOURS, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BAR = 0.19
"""Inches of height for each bar."""


def ledger_points(points: pd.DataFrame, codecs: Sequence[str], point: float | None = None) -> pd.DataFrame:
    """Of one data set's :func:`hvqbench.report.tables.points_table` a row for each codec with streams to tell apart.

    That is, with more than a header and a payload; at *point*, or at the codec's first one.
    """
    streams = [name for name in points.columns if name.startswith("bpp.") and name not in ("bpp.header", "bpp.payload")]
    some = points[points[streams].notna().any(axis=1)]
    if point is not None:
        some = some[some["point"] == point]
    first = some.sort_values("point", kind="stable").groupby("codec", sort=False).head(1)
    return first.set_index("codec").loc[[codec for codec in codecs if codec in set(first["codec"])]].reset_index()


def ledger_figure(rows: pd.DataFrame, width: str = "single") -> Figure:
    """A bar for each of *rows* (:func:`ledger_points`), in bits per pixel, stacked by stream."""
    from matplotlib.figure import Figure

    streams = [name for name in rows.columns if name.startswith("bpp.") and rows[name].notna().any()]
    with style():
        figure = Figure(figsize=(WIDTHS[width], BAR * len(rows) + 0.75), layout="constrained")
        ax = figure.subplots()
        left = rows["bpp"] * 0
        for number, stream in enumerate(streams):
            value = rows[stream].fillna(0)
            label = stream.removeprefix("bpp.")
            colour = COLOURS[(number + 1) % len(COLOURS)]
            ax.barh(range(len(rows)), value, left=left, height=0.72, color=colour, label=label)
            left = left + value
        for y, total in enumerate(rows["bpp"]):
            ax.annotate(f"{total:.4f}", (total, y), (3, 0), textcoords="offset points", va="center", fontsize=7)
        ax.set_yticks(range(len(rows)), [_name(row) for row in rows.itertuples()])
        ax.invert_yaxis()
        ax.margins(x=0.16, y=0.5 / max(1, len(rows)))
        ax.set_xlim(left=0)
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel("rate [bpp]")
        figure.legend(loc="outside lower center", ncols=len(streams), handlelength=1.0, handleheight=0.8)
    return figure


def _name(row: object) -> str:
    point = f"{row.point_name} {row.point:g}" if getattr(row, "point_name", "") else f"{row.point:g}"  # type: ignore[attr-defined]
    return f"{row.codec}, {point}"  # type: ignore[attr-defined]
