"""The part of the results that a figure or a table is about, and what was asked for and is not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hvqbench.catalog import dataset_files
from hvqbench.errors import HvqbenchError, closest
from hvqbench.report.names import Names
from hvqbench.report.spec import Selection
from hvqbench.report.style import classic_codecs
from hvqbench.selection import Points, choose_among, only_points, parse_choices

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.analysis import Curve
    from hvqbench.analysis.pairs import Curves
    from hvqbench.metrics import MetricInfo

DEFAULT_ANCHORS = ("huffman-vq", "vvenc", "jpeg")
"""The anchor of the BD-rates where none is named: the first of these that has results, else the first codec.

Fixed length is none of them: it has one rate whatever the distortion, hence no curve.
"""

PUBLISHED_SPAN = 4.0
"""Published points are drawn up to this factor beyond the measured rates: farther ones would squeeze all others."""


class ReportData:
    """All that a report is made of: quality rows, timing rows, and the curves computed from them, each once."""

    def __init__(
        self,
        results: pd.DataFrame,
        timing: pd.DataFrame | None = None,
        folder: str | Path | None = None,
        names: Names | None = None,
    ) -> None:
        self.results, self.timing, self.folder, self.names = results, timing, folder, names or Names()
        self.missing: dict[str, None] = {}
        """What was asked for and is not there, one line each, in order."""
        self._bands: dict[tuple[str, str, str], Any] = {}
        self._parts: dict[tuple[tuple[str, Points], ...], ReportData] = {}

    @cached_property
    def infos(self) -> dict[str, MetricInfo]:
        """The metrics that have a value anywhere in the results, in the registry's order, then pyiqa's."""
        from hvqbench.metrics import PYIQA, metric_ids, metric_info

        columns = self.results.columns
        names = [*metric_ids(), *(name for name in columns if name.startswith(PYIQA))]
        return {name: metric_info(name) for name in names if name in columns and self.results[name].notna().any()}

    @cached_property
    def codecs(self) -> list[str]:
        """The codecs that have rows, in their order."""
        return list(self.results["codec"].unique())

    @cached_property
    def datasets(self) -> list[str]:
        """The data sets that have rows, sorted."""
        return sorted(self.results["dataset"].unique())

    @cached_property
    def finished(self) -> list[str]:
        """The codecs that finished an image."""
        return list(self.results.loc[self.results["status"] == "ok", "codec"].unique())

    @cached_property
    def classic(self) -> frozenset[str]:
        """The classic codecs among those of the results."""
        return classic_codecs(self.codecs)

    @cached_property
    def curves(self) -> Curves:
        """All mean curves of the results."""
        from hvqbench.analysis.pairs import Curves

        return Curves(self.results)

    def only(self, chosen: Mapping[str, Points]) -> ReportData:
        """The source without the points of the *chosen* codecs that are not theirs; itself where it has no others."""
        rows = only_points(self.results, chosen)
        if len(rows) == len(self.results):
            return self
        key = tuple(sorted(chosen.items()))
        if key not in self._parts:
            self._parts[key] = ReportData(rows, self.timing, self.folder, self.names)
            self._parts[key].missing = self.missing
        return self._parts[key]

    @cached_property
    def _commands(self) -> list[str]:
        """The commands that made the rows."""
        return list(self.results["command"].dropna().unique()) if "command" in self.results else []

    def run_command(self, codecs: Iterable[str], dataset: str, *options: str) -> str:
        """The command line that runs *codecs* over *dataset*, here."""
        from hvqbench.advice import codec_source, command, dataset_source

        names = ",".join(codec_source(name, self._commands) for name in codecs)
        place = dataset_source(dataset, self._commands)
        return command("run", "--codec", names, "--dataset", place, *options, results=self.folder)

    def run_advice(self, codec: str = "", *options: str, dataset: str = "") -> str:
        """How to run *codec*, by default all that there are, over *dataset*, by default the first."""
        line = self.run_command([codec] if codec else self.codecs, dataset or self.datasets[0], *options)
        return f"`{line}` makes them"

    def lack(self, line: str) -> None:
        """Note, once, that something is not there."""
        self.missing[line] = None

    def lack_codec(self, role: str, name: str) -> None:
        """Note that there are no results of that codec or tag, and how to make them if there is one of that name."""
        from hvqbench.advice import is_known

        unknown = f"{closest(name, self.codecs)}`hvqbench ls codecs` lists those that there are"
        self.lack(f"{role} {name}: no results; {self.run_advice(codec=name) if is_known(name) else unknown}")

    def band(self, codec: str, metric: str, dataset: str) -> Any:
        """:func:`hvqbench.analysis.bootstrap.curve_band`; None where there is no interval."""
        from hvqbench.analysis.bootstrap import curve_band

        key = (codec, metric, dataset)
        if key not in self._bands:
            band = curve_band(self.curves, codec, metric, dataset)
            self._bands[key] = band if np.isfinite(band.low).any() else None
        return self._bands[key]


class Scope:
    """What of a *source* a *selection* names; what it names and the source lacks is noted in ``source.missing``."""

    def __init__(self, source: ReportData, selection: Selection) -> None:
        from hvqbench.curves import is_published

        chosen = _codecs(source, selection.codecs)
        anchors = _anchors(source, selection.anchors)
        # Of a codec that is both the points that it is shown with are those of its curve.
        self.source = source = source.only(anchors | chosen)
        self.codecs, self.anchors = list(chosen), list(anchors)
        self.infos = _metrics(source, selection.metrics)
        self.datasets = _datasets(source, selection.datasets)
        others = [*(name for name in selection.anchors if is_published(name)), *selection.published]
        self.published = _published(source, others, self.datasets, self.infos)
        self.results = _rows(source, self.codecs, self.datasets)
        self.classic = source.classic & set(self.codecs)

    def part(self, dataset: str, codecs: Sequence[str] | None = None) -> Scope:
        """Of one data set alone, with the anchors that it has; if *codecs* are named, of these alone."""
        from hvqbench.curves.library import has_curve, is_published

        def published(name: str) -> bool:
            return any(has_curve(name, metric, dataset) for metric in self.infos)

        part = copy(self)
        part.__dict__.pop("ok", None)
        part.datasets = [dataset]
        part.codecs = self.codecs if codecs is None else [name for name in self.codecs if name in codecs]
        part.published = [name for name in self.published if published(name)]
        measured = set(self.source.results.loc[self.source.results["dataset"] == dataset, "codec"].unique())
        part.anchors = [n for n in self.anchors if n in measured or (is_published(n) and published(n))]
        part.results = _rows(self.source, part.codecs, part.datasets)
        return part

    @cached_property
    def ok(self) -> pd.DataFrame:
        """The rows of finished images."""
        return self.results[self.results["status"] == "ok"]

    @property
    def names(self) -> Names:
        """What codecs, data sets and metrics are called."""
        return self.source.names

    @property
    def named_infos(self) -> dict[str, MetricInfo]:
        """The metrics under the titles that they are shown with."""
        return self.names.infos(self.infos)

    @property
    def of_images(self) -> dict[str, MetricInfo]:
        """The metrics of one image."""
        return {name: info for name, info in self.infos.items() if not info.of_set}

    @property
    def with_anchors(self) -> pd.DataFrame:
        """The rows, and those of the anchors, of all codecs that have any."""
        return _rows(self.source, [*self.codecs, *self.anchors], self.datasets)

    def curves(self, dataset: str) -> dict[str, list[Curve]]:
        """For each metric the measured curves that have points on *dataset*, and the published ones near them."""
        finished = set(self.ok.loc[self.ok["dataset"] == dataset, "codec"].unique())
        codecs = [codec for codec in self.codecs if codec in finished]
        curves: dict[str, list[Curve]] = {}
        for metric in self.infos:
            measured = [self.source.curves.get(codec, metric, dataset) for codec in codecs]
            if measured := [curve for curve in measured if curve.points]:
                curves[metric] = [*measured, *near(measured, self.published)]
        return curves


def near(measured: list[Curve], published: Iterable[str]) -> list[Curve]:
    """Those of the *published* curves that share metric and data set with the *measured*, near the rates of these."""
    from hvqbench.curves.library import has_curve, published_curve

    first = measured[0]
    curves = [
        published_curve(c, first.metric, first.dataset) for c in published if has_curve(c, first.metric, first.dataset)
    ]
    lowest = min(curve.bpp.min() for curve in measured) / PUBLISHED_SPAN
    highest = max(curve.bpp.max() for curve in measured) * PUBLISHED_SPAN
    inside = [(curve, (curve.bpp >= lowest) & (curve.bpp <= highest)) for curve in curves]
    return [replace(curve, bpp=curve.bpp[kept], values=curve.values[kept]) for curve, kept in inside if kept.any()]


def _rows(source: ReportData, codecs: list[str], datasets: list[str]) -> pd.DataFrame:
    """The rows of those codecs on those data sets; to copy a large table takes long, so all of them are no copy."""
    if {*source.codecs} <= {*codecs} and {*source.datasets} <= {*datasets}:
        return source.results
    return source.results[source.results["codec"].isin(codecs) & source.results["dataset"].isin(datasets)]


def _metrics(source: ReportData, wanted: tuple[str, ...]) -> dict[str, MetricInfo]:
    from hvqbench.advice import command
    from hvqbench.metrics import PYIQA, metric_id, metric_ids

    def is_computed(name: str) -> bool:
        return name in metric_ids() or name.startswith(PYIQA)

    wanted = tuple(dict.fromkeys(map(metric_id, wanted)))
    for name in wanted:
        if name not in source.infos:
            if is_computed(name):
                score = command("score", "--metric", name, results=source.folder)
                source.lack(f"metric {name}: the results have none; `{score}` adds it")
            else:
                source.lack(f"metric {name}: the results have none, and hvqbench computes none of that id")
    return {n: source.infos[n] for n in wanted if n in source.infos} if wanted else dict(source.infos)


def _datasets(source: ReportData, wanted: tuple[str, ...]) -> list[str]:
    for name in wanted:
        if name not in source.datasets:
            remedy = (
                source.run_advice(dataset=name) if name in dataset_files() else "`hvqbench ls datasets` lists them all"
            )
            source.lack(f"data set {name}: no results; {remedy}")
    return [name for name in wanted if name in source.datasets] if wanted else source.datasets


def _codecs(source: ReportData, wanted: tuple[str, ...]) -> dict[str, Points]:
    """In the order of the spec, each with its points; of a tag, those that have results."""
    if not wanted:
        return dict.fromkeys(source.codecs, ())
    present = []
    for choice in parse_choices(wanted):
        try:
            choose_among(choice.name, source.codecs)
            present.append(choice)
        except HvqbenchError:
            source.lack_codec("codec", choice.name)
    return choose_among(present, source.codecs)


def _anchors(source: ReportData, wanted: tuple[str, ...]) -> dict[str, Points]:
    from hvqbench.curves import is_published

    found: dict[str, Points] = {}
    for choice in parse_choices(wanted):
        try:
            found |= {choice.name: ()} if is_published(choice.name) else choose_among([choice], source.codecs)
        except HvqbenchError:
            source.lack_codec("anchor", choice.name)
    if wanted:
        return found
    finished = source.finished or source.codecs
    return {next((name for name in DEFAULT_ANCHORS if name in finished), finished[0]): ()}


def _published(
    source: ReportData, wanted: Iterable[str], datasets: list[str], metrics: Mapping[str, object]
) -> list[str]:
    """The published codecs that *wanted* names and that share a data set and a metric with what is shown."""
    from hvqbench.curves import find_published
    from hvqbench.curves.library import has_curve

    found: dict[str, None] = {}
    for name in wanted:
        try:
            codecs = find_published([name])
        except HvqbenchError as error:
            source.lack(str(error))
            continue
        shared = [c for c in codecs if any(has_curve(c, metric, d) for metric in metrics for d in datasets)]
        if not shared:
            source.lack(
                f"published curve {name}: of other data sets or metrics; `hvqbench curves ls` lists what there is"
            )
        found |= dict.fromkeys(shared)
    return list(found)
