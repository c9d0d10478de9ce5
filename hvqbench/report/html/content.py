"""What the page shows, gathered from the results: curves as numbers for the charts, tables as text for the reader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvqbench.report.columns import decimals_of
from hvqbench.report.html import tables
from hvqbench.report.html.finding import Finding, find, opening_metric
from hvqbench.report.html.marks import Mark, marks
from hvqbench.report.html.tables import Fact
from hvqbench.report.names import Names
from hvqbench.report.scope import ReportData, Scope
from hvqbench.report.spec import ReportSpec
from hvqbench.report.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.analysis.curves import Curve
    from hvqbench.metrics import MetricInfo


@dataclass(frozen=True)
class Section:
    """A section of the page: its id, its short title for the navigation, and, if it is of tables, their names.

    What follows a dash in a table's name (an anchor) does not count.
    """

    id: str
    short: str
    title: str
    tables: tuple[str, ...] = ()


SECTIONS = (
    Section("curves", "Curves", "Rate and distortion"),
    Section("pictures", "Pictures", "Picture room"),
    Section("bd", "BD-rate", "BD-rate", ("bd",)),
    Section("saving", "Bits", "Savings and the bits ledger", ("saving", "ledger")),
    Section("points", "Points", "Operating points", ("points", "sets", "published")),
    Section("problems", "Problems", "What did not run", ("problems",)),
    Section("provenance", "Provenance", "Metrics, codecs and provenance", ("metrics", "codecs", "provenance")),
)


@dataclass
class Part:
    """What the page says about one data set, pictures apart."""

    name: str
    facts: list[Fact]
    tables: dict[str, Table]
    metrics: list[str]
    """Those with a curve."""
    images: int
    finding: Finding | None = None


@dataclass
class Page:
    """All of the page but its pictures."""

    title: str
    made: str = ""
    results: Any = None
    """The rows that are shown, a DataFrame; None if there are none."""
    image_metrics: list[str] = field(default_factory=list)
    infos: Mapping[str, MetricInfo] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    missing: list[str] = field(default_factory=list)
    """What was asked for and is not there."""
    data: dict[str, Any] = field(default_factory=dict)
    """What the scripts read."""

    @property
    def sections(self) -> list[Section]:
        """The sections that have something to show."""
        there = {name.partition("-")[0] for part in self.parts for name in part.tables}
        return [section for section in SECTIONS if self.parts and (not section.tables or there & set(section.tables))]


def gather(
    results: pd.DataFrame,
    published: Sequence[str] = (),
    anchor: str | None = None,
    spec: ReportSpec | None = None,
    folder: str | Path | None = None,
) -> Page:
    """Everything the page says about *results*, which lie in *folder*; the rest as of :func:`write_html`."""
    spec = spec or ReportSpec()
    anchors = dict.fromkeys([*([anchor] if anchor else []), *spec.anchors])
    spec = replace(spec, published=(*spec.published, *published), anchors=tuple(anchors))
    if results.empty:
        return Page(spec.title)
    source = ReportData(results, folder=folder, names=Names(spec.names))
    scope = Scope(source, spec)
    curves = {name: scope.curves(name) for name in scope.datasets}
    every = [curve for of_set in curves.values() for of_metric in of_set.values() for curve in of_metric]
    shown_as = marks(every, scope.classic, scope.codecs)
    ids = [*scope.source.codecs, *shown_as, *scope.source.datasets, *scope.infos]
    page = Page(
        title=spec.title,
        made=_made(scope.results),
        results=scope.results,
        image_metrics=list(scope.of_images),
        infos=scope.infos,
        marks=shown_as,
        names=scope.names,
        data={
            "datasets": {
                name: {metric: [_as_data(curve, source) for curve in of_metric] for metric, of_metric in of_set.items()}
                for name, of_set in curves.items()
            },
            "codecs": {label: mark.as_data() for label, mark in shown_as.items()},
            "metrics": {name: _metric(info) for name, info in scope.named_infos.items()},
            "names": {name: called for name in ids if (called := scope.names(name)) != name},
            "opens": {name: opening_metric(of_set) for name, of_set in curves.items()},
        },
    )
    for name in scope.datasets:
        rows = scope.results[scope.results["dataset"] == name]
        if rows.empty:
            continue
        of_set, facts = tables.of_dataset(scope, name)
        ok = rows[rows["status"] == "ok"]
        finding = find(scope, name, curves[name])
        page.parts.append(Part(name, facts, of_set, list(curves[name]), ok["image"].nunique(), finding))
    page.missing = list(source.missing)
    return page


def _as_data(curve: Curve, source: ReportData) -> dict[str, Any]:
    """A curve for the charts, its points sorted by rate."""
    band = None if curve.published else source.band(curve.codec, curve.metric, curve.dataset)
    none = [math.nan] * len(curve.bpp)
    low, high = (none, none) if band is None else (band.low, band.high)
    points = [None] * len(curve.bpp) if curve.published else curve.points
    order = sorted(range(len(curve.bpp)), key=lambda i: curve.bpp[i])
    unit = "" if curve.published else tables.point_name(source.results, curve.codec)
    return {
        "codec": curve.label,
        "images": len(curve.images),
        "unit": unit,
        "points": [points[i] for i in order],
        "bpp": [_round(curve.bpp[i]) for i in order],
        "values": [_round(curve.values[i]) for i in order],
        "low": [_round(low[i]) for i in order],
        "high": [_round(high[i]) for i in order],
    }


def _metric(info: MetricInfo) -> dict[str, Any]:
    return {
        "title": info.title,
        "unit": info.unit,
        "higher": info.higher_is_better,
        "decimals": decimals_of(info),
        "summary": info.summary,
    }


def _round(value: float) -> float | None:
    """Six significant digits, more than a chart can show; None where there is no number."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _made(results: pd.DataFrame) -> str:
    """When and with what the rows were measured; never when the page was, so that the same rows give the same page."""
    if results.empty or "started" not in results:
        return ""
    days = sorted({str(text)[:10] for text in results["started"].dropna()})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    versions = ", ".join(sorted(str(v) for v in results["version"].dropna().unique())) if "version" in results else ""
    return f"Measured {when}" + (f" with hvqbench {versions}" if versions else "")
