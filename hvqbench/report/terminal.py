"""Rate-distortion curves in a terminal; elsewhere the same numbers as a plain table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_letters
from typing import TYPE_CHECKING, Any

import numpy as np

from hvqbench.grid import grid
from hvqbench.report.scope import ReportData, Scope
from hvqbench.report.spec import Selection

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.analysis import Curve
    from hvqbench.metrics import MetricInfo

COLOURS = (166, 25, 36, 175, 74, 178, 245)
"""Of a terminal's 256, those nearest to the figures' palette; grey for its black, which a dark terminal hides."""

TICKS = tuple(base * 10.0**power for power in range(-4, 3) for base in (1, 2, 5))
HEIGHT, WIDEST = 20, 110


class CurveView:
    """The curves of *results* that a selection names; what it names and they lack is in :attr:`missing`."""

    def __init__(
        self,
        results: pd.DataFrame,
        codecs: Sequence[str] = (),
        datasets: Sequence[str] = (),
        metrics: Sequence[str] = (),
        published: Sequence[str] = (),
    ) -> None:
        self._source = ReportData(results)
        chosen = Selection(
            codecs=tuple(codecs), datasets=tuple(datasets), metrics=tuple(metrics), published=tuple(published)
        )
        scope = Scope(self._source, chosen)
        self.infos = scope.infos
        self._of = {dataset: scope.curves(dataset) for dataset in scope.datasets}
        self.missing = tuple(self._source.missing)

    def __bool__(self) -> bool:
        return any(self._of.values())

    def records(self) -> list[dict[str, Any]]:
        """For machines: a dict for each curve, with its points and the 95 % interval of each, or None."""
        return [self._record(curve) for of_dataset in self._of.values() for cs in of_dataset.values() for curve in cs]

    def _record(self, curve: Curve) -> dict[str, Any]:
        place = (curve.codec, curve.metric, curve.dataset)
        band = None if curve.published else self._source.band(*place)
        return {
            "dataset": curve.dataset,
            "metric": curve.metric,
            "codec": curve.codec,
            "published": curve.published,
            "images": len(curve.images),
            "points": list(curve.points),
            "bpp": curve.bpp.tolist(),
            "values": curve.values.tolist(),
            "low": band.low.tolist() if band is not None else None,
            "high": band.high.tolist() if band is not None else None,
        }

    def text(self) -> str:
        """For pipes and logs: a line for each point."""
        lines = [
            (r["dataset"], r["metric"], r["codec"], r["images"] or "", f"{bpp:.4f}", f"{value:.4f}", interval)
            for r in map(self._with_label, self.records())
            for bpp, value, interval in zip(r["bpp"], r["values"], _intervals(r), strict=True)
        ]
        head = ("dataset", "metric", "codec", "images", "bpp", "value", "95 % interval")
        return grid(head, [tuple(map(str, line)) for line in lines], left=3)

    @staticmethod
    def _with_label(record: dict[str, Any]) -> dict[str, Any]:
        return record | {"codec": f"{record['codec']} (published)"} if record["published"] else record

    def charts(self, width: int, colour: bool = True) -> str:
        """For a terminal of that many columns: a chart for each data set and metric."""
        parts = []
        for dataset, of_dataset in self._of.items():
            names = list(dict.fromkeys(curve.label for curves in of_dataset.values() for curve in curves))
            places = {name: number for number, name in enumerate(names)}
            parts += [
                chart(curves, self.infos[metric], places, f"{dataset}{_count(curves)}: ", min(width, WIDEST), colour)
                for metric, curves in of_dataset.items()
            ]
        return "\n\n".join(parts)


def chart(
    curves: Sequence[Curve], info: MetricInfo, places: Mapping[str, int], heading: str, width: int, colour: bool
) -> str:
    """One chart: each curve is a line with a letter at its points, by its codec's place in *places*."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(width, HEIGHT)
    rates = np.concatenate([curve.bpp for curve in curves])
    for curve in curves:
        order = curve.bpp.argsort(kind="stable")
        x, y = np.log10(curve.bpp[order]).tolist(), curve.values[order].tolist()
        place = places[curve.label]
        of_codec = COLOURS[place % len(COLOURS)]
        letter = ascii_letters[place % len(ascii_letters)]
        if len(x) > 1:
            plotext.plot(x, y, marker="braille", color=of_codec)
        plotext.scatter(x, y, marker=letter, color=of_codec)
    low, high = rates.min() / 1.01, rates.max() * 1.01
    ticks = [tick for tick in TICKS if low <= tick <= high]
    plotext.xticks(np.log10(ticks).tolist(), [f"{tick:g}" for tick in ticks])
    plotext.xlabel("rate [bpp]")
    unit = f" [{info.unit}]" if info.unit else ""
    plotext.title(f"{heading}{info.title}{unit} {'↑' if info.higher_is_better else '↓'}")
    drawn: str = plotext.build()
    plotext.clear_figure()
    text = drawn if colour else plotext.uncolorize(drawn)
    return "\n".join([*(line.rstrip() for line in text.splitlines()), *_legend(curves, places, width, colour)])


def _legend(curves: Sequence[Curve], places: Mapping[str, int], width: int, colour: bool) -> list[str]:
    """Below the chart and not in it, where it would cover curves."""
    lines, used = [""], 0
    for curve in curves:
        place = places[curve.label]
        entry = f"{ascii_letters[place % len(ascii_letters)]} {curve.label}"
        if used and used + len(entry) + 3 > width:
            lines.append("")
            used = 0
        lines[-1] += ("   " if used else "") + (f"\x1b[38;5;{COLOURS[place % len(COLOURS)]}m" if colour else "")
        lines[-1] += entry + ("\x1b[0m" if colour else "")
        used += len(entry) + 3
    return lines


def _count(curves: Sequence[Curve]) -> str:
    """Of how many images the measured *curves* are, which may differ."""
    counts = sorted({len(curve.images) for curve in curves if not curve.published})
    return f" ({' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} images)" if counts else ""


def _intervals(record: Mapping[str, Any]) -> list[str]:
    if record["low"] is None:
        return [""] * len(record["bpp"])
    return [f"{low:.4f} to {high:.4f}" for low, high in zip(record["low"], record["high"], strict=True)]
