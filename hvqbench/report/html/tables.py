"""The page's tables of one data set, made from those of :mod:`hvqbench.report.tables` and of the analysis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hvqbench.advice import repr_point
from hvqbench.report.html import sources
from hvqbench.report.html.bd import bd_rows, bd_table_of, interval, metric_hint
from hvqbench.report.html.cells import CODEC, Cell, Column, Fact, Row, Table, number, setting, signed

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.metrics import MetricInfo
    from hvqbench.report.scope import Scope

SETTING = Column("setting", hint="the operating point, in the codec's own unit")


def of_dataset(scope: Scope, dataset: str) -> tuple[dict[str, Table], list[Fact]]:
    """The tables of *dataset* that say something, by name, in the order of the page; and what should be seen first."""
    rows = scope.results[scope.results["dataset"] == dataset]
    savings = _exact_savings(rows)
    bd = {anchor: bd_rows(scope, dataset, anchor) for anchor in scope.anchors}
    made = [
        *(bd_table_of(scope, anchor, of_anchor) for anchor, of_anchor in bd.items()),
        _saving(rows, savings),
        _ledger(rows),
        _points(rows, scope),
        _sets(rows, scope),
        sources.problems_of(rows),
        sources.published_of(scope, dataset),
        sources.metrics_of(rows, scope),
        sources.codecs_of(rows),
        sources.provenance_of(rows),
    ]
    named = {table.name: table for table in made if table is not None and (table.rows or table.notes)}
    return named, _facts(rows, dataset, savings, next(iter(bd.values()), []))


def _facts(rows: pd.DataFrame, dataset: str, savings: Sequence[Row], bd: Sequence[Row]) -> list[Fact]:
    """How much was measured, and the largest gains."""
    ok = rows[rows["status"] == "ok"]
    codecs, images = ok["codec"].nunique(), ok["image"].nunique()
    found = [
        Fact(str(codecs), _plural("codec", codecs), "measured from real bitstreams"),
        Fact(str(images), _plural("image", images), f"of {dataset}"),
    ]
    best = max(savings, key=lambda row: row["mean_saved_percent"], default=None)
    if best and best["mean_saved_percent"] > 0:
        text = f"fewer bytes by {best['codec']} than {best['anchor']}"
        of = f"mean of {best['images']} images" if best["images"] > 1 else "of one image"
        value = f"{signed(best['mean_saved_percent'], 1, False)} %"
        found.append(Fact(value, text, f"for the same pixels, {of}", "saving"))
    clear = [row for row in bd if row["ci_high"] < 0 and not row["flags"]]
    best = min(clear, key=lambda row: row["bd_rate_percent"], default=None)
    if best:
        text = f"BD-rate of {best['codec']} against {best['anchor']}"
        found.append(
            Fact(
                f"{signed(best['bd_rate_percent'], 1)} %",
                text,
                best["metric"] + interval(best, ", 95\u00a0% interval "),
            )
        )
    bad = int(rows["status"].isin(["failed", "unavailable"]).sum())
    if bad:
        found.append(Fact(str(bad), f"{_plural('row', bad)} without result", "", "problems"))
    return found


def decimals(info: MetricInfo) -> int:
    """Digits after the point that are worth showing."""
    return 2 if info.unit == "dB" else 4


def point_name(results: pd.DataFrame, codec: str) -> str:
    """The unit of a codec's operating points, like ``qp``; empty if it has none."""
    if "point_name" not in results:
        return ""
    names = results.loc[results["codec"] == codec, "point_name"].dropna()
    return str(names.iloc[0]) if len(names) else ""


def _exact_savings(rows: pd.DataFrame) -> list[Row]:
    """Bytes against the fixed-length codec of the same tokenizer: where the pixels are the same."""
    from hvqbench.analysis import saving_table

    return [row for row in saving_table(rows).to_dict("records") if row["same_pixels"]]


def _saving(rows: pd.DataFrame, savings: Sequence[Row]) -> Table:
    body = []
    names = _names(rows)
    for row in savings:
        images = row["images"]
        line = (
            Cell(row["codec"], kind="codec"),
            Cell(row["anchor"], kind="codec"),
            Cell(setting(names.get(row["codec"]), row["point"]), row["point"]),
            number(row["bytes"] / images, 0),
            number(row["anchor_bytes"] / images, 0),
            number(row["mean_saved_percent"], 2, kind="better" if row["mean_saved_percent"] > 0 else "worse"),
            number(row["saved_percent"], 2),
            number(images, 0),
        )
        body.append(line)
    columns = (
        *(CODEC, Column("against", hint="the same indices at a fixed length"), SETTING),
        *(Column("bytes per image", True), Column("fixed length", True)),
        Column("saved %, mean of images", True, "what an image drawn at random can expect"),
        *(Column("saved %, all bytes", True, "large images count for more"), Column("images", True)),
    )
    return Table(
        "saving",
        "Bytes saved against fixed length",
        "At equal operating point, header and side information counted. Both restore the same pixels, so the saving is "
        "exact: no curve, no interpolation. The mean of the images' savings is the number that the page begins with.",
        columns,
        tuple(body),
    )


def _ledger(rows: pd.DataFrame) -> Table | None:
    """Where the bits go, of the codecs that say more than header and payload."""
    from hvqbench.report.tables import points_table

    if not len(rows[rows["status"] == "ok"]):
        return None
    table = points_table(rows, [])
    streams = [name for name in table.columns if name.startswith("bpp.")]
    detail = [name for name in streams if name not in ("bpp.header", "bpp.payload")]
    if not detail:
        return None
    table = table[table[detail].notna().any(axis=1)]
    streams = [name for name in streams if table[name].notna().any()]
    widest = table["bpp"].max()
    body = []
    for row in table.to_dict("records"):
        parts = [(name.removeprefix("bpp."), row[name]) for name in streams if row[name] == row[name] and row[name] > 0]
        bars = tuple(
            (name, 100 * bpp / widest, f"{name}: {bpp:.4f} bpp, {100 * bpp / row['bpp']:.1f} %") for name, bpp in parts
        )
        line = (
            Cell(row["codec"], kind="codec"),
            Cell(setting(row.get("point_name"), row["point"]), row["point"]),
            Cell("; ".join(text for _, _, text in bars), row["bpp"], kind="bar", bars=bars),
            number(row["bpp"], 4),
            *(number(row[name], 4) for name in streams),
        )
        body.append(line)
    names = tuple(name.removeprefix("bpp.") for name in streams)
    return Table(
        "ledger",
        "Where the bits go",
        "Mean bits per pixel of each stream; they add up to the whole file. Codecs that write one payload are not "
        "listed.",
        (CODEC, SETTING, Column("bits", sortable=False), Column("bpp", True), *(Column(name, True) for name in names)),
        tuple(body),
        streams=names,
    )


def _points(rows: pd.DataFrame, scope: Scope) -> Table | None:
    from hvqbench.report.tables import curve_notes, points_table, protocol_notes

    ok = rows[rows["status"] == "ok"]
    if ok.empty:
        return None
    metrics = list(scope.of_images)
    table = points_table(rows, metrics)
    body = []
    for row in table.to_dict("records"):
        line = (
            Cell(row["codec"], kind="codec", note=row.get("protocol", "") or ""),
            Cell(setting(row.get("point_name"), row["point"]), row["point"]),
            number(row["images"], 0),
            number(row["bpp"], 4),
            number(row["bytes"], 0),
            *(number(row[metric], decimals(scope.infos[metric])) for metric in metrics),
            Cell(_command(row, metrics, scope), kind="button"),
        )
        body.append(line)
    arrows = [f"{m} {'↑' if scope.infos[m].higher_is_better else '↓'}" for m in metrics]
    datasets = list(rows["dataset"].unique())
    left_out = curve_notes(scope.source.curves, scope.codecs, list(scope.infos), datasets)
    return Table(
        "points",
        "Operating points",
        "Means over images. Rate is the whole file over the original's pixels. Each row carries the command that "
        "measures it.",
        (
            *(CODEC, SETTING, Column("images", True), Column("bpp", True), Column("bytes", True)),
            *(Column(title, True, metric_hint(scope, m)) for title, m in zip(arrows, metrics, strict=True)),
            Column("command", sortable=False),
        ),
        tuple(body),
        (*protocol_notes(table), *(f"A curve leaves out: {note}" for note in left_out)),
    )


def _command(row: Row, metrics: Sequence[str], scope: Scope) -> str:
    options = ["--points", repr_point(row["point"]), *(["--metric", ",".join(metrics)] if metrics else [])]
    return scope.source.run_command([row["codec"]], row["dataset"], *options)


def _sets(rows: pd.DataFrame, scope: Scope) -> Table | None:
    from hvqbench.report.tables import sets_table

    metrics = [name for name, info in scope.infos.items() if info.of_set]
    if not metrics:
        return None
    body = [
        (
            Cell(row["codec"], kind="codec"),
            Cell(setting(row["point_name"], row["point"]), row["point"]),
            *(number(row[name], 0) for name in ("images", "patches")),
            number(row["bpp"], 4),
            *(number(row[metric], decimals(scope.infos[metric])) for metric in metrics),
        )
        for row in sets_table(rows, metrics).to_dict("records")
    ]
    names = [*("images", "patches", "bpp"), *metrics]
    intro = "One value over all images of a point, and the number of patches it is of: with fewer, FID is higher."
    columns = (CODEC, SETTING, *(Column(name, True) for name in names))
    return Table("sets", "Metrics of whole sets", intro, columns, tuple(body))


def _names(rows: pd.DataFrame) -> dict[str, str]:
    return {codec: point_name(rows, codec) for codec in rows["codec"].unique()}


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
