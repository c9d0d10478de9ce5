"""The page's tables of one data set: those of :mod:`hvqbench.report.sections`, and two that only a page can show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hvqbench.advice import repr_point
from hvqbench.errors import HvqbenchError
from hvqbench.grid import NONE, text_of
from hvqbench.report import sections, tables
from hvqbench.report.columns import COLUMNS
from hvqbench.report.spec import TableSpec
from hvqbench.report.table import Cell, Column, Table, plain_table, sorting

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.report.names import Names
    from hvqbench.report.scope import Scope

Row = Mapping[Any, Any]
ORDER = (
    "bd",
    "saving",
    "ledger",
    "points",
    "tails",
    "sets",
    "problems",
    "published",
    "metrics",
    "codecs",
    "provenance",
)
"""Of the tables on the page, by the name before a dash."""


@dataclass(frozen=True)
class Fact:
    """A number worth a large type, and what it is."""

    value: str
    text: str
    note: str = ""
    link: str = ""
    """Id of the section that says more."""


def of_dataset(scope: Scope, dataset: str) -> tuple[dict[str, Table], list[Fact]]:
    """The tables of *dataset* that say something, by name, in the order of the page; and what should be seen first."""
    part = scope.part(dataset)
    rows = part.results
    finished = rows.loc[rows["status"].isin(["ok", "set"]), "codec"]  # the others have a table of their own
    ran = part.part(dataset, list(finished.unique()))
    bd = [replace(table, intro=table.intro + IN_COLOUR) for table in sections.bd_rate(TableSpec(kind="bd-rate"), ran)]
    saving, points, tails, sets = (
        list(sections.KINDS[kind](TableSpec(kind=kind), part)) for kind in ("saving", "points", "tails", "sets")
    )
    published = tables.published_table(rows, part.published, list(part.infos)) if part.published else None
    sources = {table.name: table for table in sections.always(part, published)}
    sources["provenance"] = _with_commands(sources["provenance"])
    units = {codec: point_name(rows, codec) for codec in part.codecs}
    of_codecs = [*bd, *saving, *(_with_remarks(table, part) for table in points), *tails, *sets]
    named = [scope.names.table(table) for table in (*(_for_page(table, units) for table in of_codecs), _ledger(rows))]
    # What the ids stand for, and how rows were made, is told of the ids.
    made = [*named, *(_for_page(table, units) for table in sources.values()), _codecs(rows, scope.names)]
    made = [table for table in made if table.cells or table.outro]
    made.sort(key=lambda table: ORDER.index(table.name.partition("-")[0]))
    return {table.name: table for table in made}, _facts(rows, dataset, saving, bd, scope.names)


IN_COLOUR = " In colour where all of the interval is on one side of zero."


def _for_page(table: Table, units: Mapping[str, str]) -> Table:
    """*table* without what the page says elsewhere: the data set, the points' unit, and the rate of each stream.

    *units* are those of the codecs' points, which stand beside the number here.
    """
    codec = next((place for place, column in enumerate(table.columns) if column.name == "codec"), None)
    kept = [
        place
        for place, column in enumerate(table.columns)
        if column.name not in ("dataset", "point_name") and not column.name.startswith("bpp.")
    ]

    def cell(row: tuple[Cell, ...], place: int) -> Cell:
        name, own = table.columns[place].name, row[place]
        if name in ("saved_percent", "mean_saved_percent"):
            return replace(own, kind="better" if float(own.value or 0) > 0 else "worse")
        if name == "point" and codec is not None:
            return replace(own, text=f"{units.get(row[codec].text, '')} {own.text}".strip())
        return own

    # The point is a setting with its unit, and no number to align.
    columns = tuple(replace(c, numeric=c.numeric and c.name != "point") for c in (table.columns[n] for n in kept))
    cells = tuple(tuple(cell(row, place) for place in kept) for row in table.cells)
    return replace(table, columns=columns, cells=cells)


def _with_remarks(table: Table, scope: Scope) -> Table:
    """The operating points with the command that measures each, and what is not like for like or left out."""
    metrics = list(scope.of_images)
    left_out = tables.curve_notes(scope.source.curves, scope.codecs, list(scope.infos), scope.datasets)
    return replace(
        table,
        intro=f"{table.intro} Each row carries the command that measures it.",
        columns=(*table.columns, Column("button", "command")),
        cells=tuple(
            (*cells, Cell(_command(row, metrics, scope), kind="button"))
            for cells, row in zip(table.cells, table.frame.to_dict("records"), strict=True)
        ),
        outro=(*tables.protocol_notes(table.frame), *(f"A curve leaves out: {note}" for note in left_out)),
    )


def _command(row: Row, metrics: Sequence[str], scope: Scope) -> str:
    options = ["--points", repr_point(row["point"]), *(["--metric", ",".join(metrics)] if metrics else [])]
    return scope.source.run_command([row["codec"]], row["dataset"], *options)


def _with_commands(table: Table) -> Table:
    """How the rows were made, with commands to copy; fingerprints are in the table of codecs."""
    cells = []
    for what, value, rows in table.cells:
        # As `python -m hvqbench` calls itself.
        shown = re.sub(r"^__main__\.py ", "hvqbench ", value.text)
        if what.text != "codec_fingerprint":
            cells.append((what, Cell(shown, kind="command" if what.text == "command" else "code"), rows))
    return replace(table, cells=tuple(cells))


def _ledger(rows: pd.DataFrame) -> Table:
    """Where the bits go, of the codecs that say more than header and payload."""
    frame = tables.points_table(rows, [])
    rates = [name for name in map(str, frame) if name.startswith("bpp.")]
    detail = [name for name in rates if name not in ("bpp.header", "bpp.payload")]
    frame = frame[frame[detail].notna().any(axis=1)]
    streams = [name for name in rates if frame[name].notna().any()]
    widest = frame["bpp"].max()
    body = []
    for row in frame.to_dict("records"):
        bars = tuple(
            (name.removeprefix("bpp."), 100 * row[name] / widest, f"{name.removeprefix('bpp.')}: {row[name]:.4f} bpp, "
             f"{100 * row[name] / row['bpp']:.1f} %")
            for name in streams if row[name] > 0
        )  # fmt: skip
        unit = f"{row['point_name']} " if row.get("point_name") else ""
        line = (
            Cell(row["codec"]),
            Cell(f"{unit}{row['point']:g}", value=row["point"]),
            Cell("; ".join(text for _, _, text in bars), value=row["bpp"], kind="bar", bars=bars),
            *(Cell(text_of(row[name], 4), value=sorting(row[name])) for name in ("bpp", *streams)),
        )
        body.append(line)
    columns = (
        *(Column("codec", "codec"), Column("point", "point", hint=COLUMNS["point"].hint), Column("bar", "bits")),
        *(Column(name, name.removeprefix("bpp."), True) for name in ("bpp", *streams)),
    )
    intro = "Mean bits per pixel of each stream; they add up to the whole file. Codecs that write one payload are not "
    return Table("ledger", "Where the bits go", f"{intro}listed.", frame, columns, tuple(body))


def _codecs(rows: pd.DataFrame, names: Names) -> Table:
    """What each codec is, and which version of it was measured."""
    import pandas as pd

    from hvqbench.catalog import load_spec

    found = []
    for codec, own in rows.groupby("codec", sort=False):
        try:
            summary = load_spec(str(codec)).summary
        except HvqbenchError:
            summary = "not in this catalog"
        prints = [str(text) for text in own.get("codec_fingerprint", own["codec"].iloc[:0]).dropna().unique() if text]
        short = ", ".join(text[:12] for text in prints) or NONE
        found.append((str(codec), names(str(codec)), summary, short, len(own)))
    frame = pd.DataFrame(found, columns=["codec", "called", "what it is", "fingerprint", "rows"])
    if (frame["called"] == frame["codec"]).all():
        frame = frame.drop(columns="called")
    place = list(frame).index("fingerprint")
    table = plain_table("codecs", "Codecs", "", frame, COLUMNS)
    cells = tuple((*row[:place], replace(row[place], kind="code"), *row[place + 1 :]) for row in table.cells)
    return replace(table, cells=cells)


def _facts(rows: pd.DataFrame, dataset: str, saving: Sequence[Table], bd: Sequence[Table], names: Names) -> list[Fact]:
    """How much was measured, and the largest gains."""
    ok = rows[rows["status"] == "ok"]
    codecs, images = ok["codec"].nunique(), ok["image"].nunique()
    found = [
        Fact(str(codecs), _plural("codec", codecs), "measured from real bitstreams"),
        Fact(str(images), _plural("image", images), f"of {names(dataset)}"),
    ]
    exact = [row for table in saving for row in table.frame.to_dict("records") if row["same_pixels"]]
    best: Row | None = max(exact, key=lambda row: row["mean_saved_percent"], default=None)
    if best and best["mean_saved_percent"] > 0:
        text = f"fewer bytes by {names(best['codec'])} than {names(best['anchor'])}"
        of = f"mean of {best['images']} images" if best["images"] > 1 else "of one image"
        found.append(Fact(f"{text_of(best['mean_saved_percent'], 1)} %", text, f"for the same pixels, {of}", "saving"))
    first = bd[0].frame.to_dict("records") if bd else []
    clear = [row for row in first if row["ci_high"] < 0 and not row["flags"]]
    best = min(clear, key=lambda row: row["bd_rate_percent"], default=None)
    if best:
        text = f"BD-rate of {names(best['codec'])} against {names(best['anchor'])}"
        low, high = (text_of(best[name], 1) for name in ("ci_low", "ci_high"))
        note = f"{names(best['metric'])}, 95\u00a0% interval {low} to {high}"
        found.append(Fact(f"{text_of(best['bd_rate_percent'], 1)} %", text, note))
    bad = int(rows["status"].isin(["failed", "unavailable"]).sum())
    if bad:
        found.append(Fact(str(bad), f"{_plural('row', bad)} without result", "", "problems"))
    return found


def point_name(results: pd.DataFrame, codec: str) -> str:
    """The unit of a codec's operating points, like ``qp``; empty if it has none."""
    if "point_name" not in results:
        return ""
    names = results.loc[results["codec"] == codec, "point_name"].dropna()
    return str(names.iloc[0]) if len(names) else ""


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
