"""BD-rates as a table of the page: a row for each codec, a column for each metric, and why a number is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hvqbench.analysis.bd import FLAGS
from hvqbench.errors import HvqbenchError
from hvqbench.report.html.cells import CODEC, Cell, Column, Row, Table, signed

if TYPE_CHECKING:
    from hvqbench.report.scope import Scope

REFUSALS = {"no_overlap": "no overlap", "too_few_points": "too few points", "versions_differ": "versions differ"}
"""Why there is no BD-rate, short enough for a cell; :data:`hvqbench.analysis.bd.FLAGS` says it in full."""


def bd_rows(scope: Scope, dataset: str, anchor: str) -> list[Row]:
    """The BD-rates of the codecs that ran against *anchor*: rows of :func:`hvqbench.analysis.bd_table`."""
    from hvqbench.analysis import bd_table

    rows = scope.with_anchors
    finished = set(rows.loc[rows["status"].isin(["ok", "set"]), "codec"]) | {anchor}
    rows = rows[rows["codec"].isin(finished)]  # what did not run has its own table
    try:
        table = bd_table(scope.source.curves.part(rows), anchor, list(scope.infos), dataset, published=scope.published)
    except HvqbenchError:  # a published anchor without a curve on this data set
        return []
    return list(table.to_dict("records"))


def bd_table_of(scope: Scope, anchor: str, rows: Sequence[Row]) -> Table:
    """One row for each codec and one column for each metric."""
    from hvqbench.report.tables import label

    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    of_codec: dict[str, list[Row]] = {}
    for row in rows:
        of_codec.setdefault(row["codec"], []).append(row)
    # A codec without a number in any metric, all for one reason, needs no row to say so.
    without: dict[str, list[str]] = {}
    for codec, own in of_codec.items():
        reasons = {_refusal(row) for row in own}
        if len(reasons) == 1 and (reason := reasons.pop()):
            without.setdefault(reason, []).append(codec)
    left_out = {codec for codecs in without.values() for codec in codecs}
    shown = [row for row in rows if row["codec"] not in left_out]
    flags = [flag for flag in FLAGS if any(flag in row["flags"].split() for row in shown)]
    marks = {flag: str(place) for place, flag in enumerate((f for f in flags if f not in REFUSALS), 1)}
    body = []
    for codec in dict.fromkeys(row["codec"] for row in shown):
        of_metric = {row["metric"]: row for row in of_codec[codec]}
        body.append((Cell(codec, kind="codec"), *(_bd_cell(of_metric.get(metric), marks) for metric in metrics)))
    said = [f"[{marks[f]}] {FLAGS[f]}" if f in marks else f"{REFUSALS[f]}: {FLAGS[f]}" for f in flags]
    said += [f"No number in any metric, {reason}: {', '.join(codecs)}" for reason, codecs in without.items()]
    return Table(
        f"bd-{anchor}",
        f"BD-rate against {label(anchor)}",
        "Change of rate at equal quality, of the mean curve: negative is fewer bits. Below each, the 95\u00a0% "
        "interval over the images; in colour where all of it is on one side. Nothing is extrapolated: where curves do "
        "not meet, there is no number.",
        (CODEC, *(Column(metric, True, metric_hint(scope, metric)) for metric in metrics)),
        tuple(body),
        tuple(said),
    )


def _refusal(row: Row) -> str:
    """Why there is no BD-rate; empty if there is one."""
    if not math.isnan(row["bd_rate_percent"]):
        return ""
    return next((REFUSALS[flag] for flag in row["flags"].split() if flag in REFUSALS), "no result")


def _bd_cell(row: Row | None, marks: Mapping[str, str]) -> Cell:
    if row is None:
        return Cell("not in the results", math.inf, kind="none")
    if refusal := _refusal(row):
        return Cell(refusal, math.inf, hint=row["text"], kind="none")
    percent = row["bd_rate_percent"]
    return Cell(
        f"{signed(percent, 1)} %",
        percent,
        note=interval(row),
        marks=", ".join(marks[flag] for flag in row["flags"].split() if flag in marks),
        hint=row["text"],
        kind=_verdict(row),
    )


def _verdict(row: Row) -> str:
    """Better or worse only where the whole interval is."""
    if row.get("ci_high", math.nan) < 0:
        return "better"
    return "worse" if row.get("ci_low", math.nan) > 0 else "number"


def interval(row: Row, lead: str = "") -> str:
    """The ends of a BD-rate's interval after *lead*; empty if there is none."""
    low, high = row.get("ci_low", math.nan), row.get("ci_high", math.nan)
    return "" if math.isnan(low) else f"{lead}{signed(low, 1)} to {signed(high, 1)}"


def metric_hint(scope: Scope, metric: str) -> str:
    """A metric in words, with its polarity."""
    info = scope.infos.get(metric)
    return "" if info is None else f"{info.title}: {'higher' if info.higher_is_better else 'lower'} is better"
