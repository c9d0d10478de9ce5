"""Tables about where the numbers come from: what did not run, published curves, metrics, codecs, commands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError
from hvqbench.report.html.cells import CODEC, Cell, Column, Table, number

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.report.scope import Scope


def problems_of(rows: pd.DataFrame) -> Table:
    """What failed or could not run, and why."""
    from hvqbench.report.tables import problems_table

    columns = ("codec", "status", "rows", "points", "images", "reason")
    body = [
        tuple(
            number(row[name], 0)
            if name == "rows"
            else Cell(str(row[name] or "") or "–", kind="codec" if name == "codec" else "")
            for name in columns
        )
        for row in problems_table(rows).to_dict("records")
    ]
    return Table(
        "problems",
        "What did not run",
        "These rows are in no mean, no curve and no BD-rate.",
        tuple(Column(name, name == "rows") for name in columns),
        tuple(body),
    )


def published_of(scope: Scope, dataset: str) -> Table | None:
    """The published curves on *dataset*, and where they are from."""
    from hvqbench.report.tables import published_table

    body = []
    rows = scope.results[scope.results["dataset"] == dataset]
    for codec in scope.published:
        try:
            found = published_table(rows, [codec], list(scope.infos)).to_dict("records")
        except HvqbenchError:  # on other data sets only
            continue
        for row in found:
            names = ("codec", "metrics", "points", "bpp_range", "source", "commit", "protocol")
            body.append(tuple(Cell(str(row[name]), kind="codec" if name == "codec" else "") for name in names))
    titles = ("codec", "metrics", "points", "bpp", "source", "commit", "protocol")
    intro = (
        "By others, as they published it: dotted in the chart, and in no mean. Rates and scores follow the protocol of "
        "the source."
    )
    columns = tuple(Column(title) for title in titles)
    return Table("published", "Published curves", intro, columns, tuple(body))


def metrics_of(rows: pd.DataFrame, scope: Scope) -> Table:
    """What each metric's id stands for."""
    from hvqbench.report.tables import metrics_table

    names = ("metric", "version", "network", "input", "range", "better")
    table = metrics_table(rows, scope.infos).to_dict("records")
    body = [tuple(Cell(str(row[name]), kind="codec" if name == "metric" else "") for name in names) for row in table]
    intro = "What the ids stand for. No curve joins two versions."
    return Table("metrics", "Metrics", intro, tuple(Column(name) for name in names), tuple(body))


def codecs_of(rows: pd.DataFrame) -> Table:
    """What each codec is, and which version of it was measured."""
    from hvqbench.catalog import load_spec

    body = []
    for codec, own in rows.groupby("codec", sort=False):
        try:
            summary = load_spec(str(codec)).summary
        except HvqbenchError:
            summary = "not in this catalog"
        prints = [str(text) for text in own.get("codec_fingerprint", own["codec"].iloc[:0]).dropna().unique() if text]
        short = Cell(", ".join(text[:12] for text in prints) or "–", hint=", ".join(prints), kind="code")
        body.append((Cell(str(codec), kind="codec"), Cell(summary), short, number(len(own), 0)))
    what = Column("fingerprint", hint="of adapter, version, options, weights and libraries")
    return Table("codecs", "Codecs", "", (CODEC, Column("what it is"), what, Column("rows", True)), tuple(body))


def provenance_of(rows: pd.DataFrame) -> Table:
    """Versions, machines and commands behind the rows."""
    from hvqbench.report.tables import provenance_table

    body = []
    for row in provenance_table(rows).to_dict("records"):
        if row["what"] == "codec_fingerprint":
            continue  # in the table of codecs
        value = re.sub(r"^__main__\.py ", "hvqbench ", row["value"])  # as `python -m hvqbench` calls itself
        kind = "command" if row["what"] == "command" else "code"
        body.append((Cell(row["what"]), Cell(value, kind=kind), number(row["rows"], 0)))
    columns = (Column("what"), Column("value"), Column("rows", True))
    return Table("provenance", "How the rows were made", "Commands as they were given.", columns, tuple(body))
