"""The kinds of tables: what each shows of a scope, as :class:`~hvqbench.report.table.Table`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvqbench.errors import HvqbenchError
from hvqbench.grid import NONE, text_of
from hvqbench.report import tables
from hvqbench.report.apart import APART, apart
from hvqbench.report.columns import COLUMNS, headings, metric_heading
from hvqbench.report.scope import Scope
from hvqbench.report.spec import TableSpec
from hvqbench.report.table import ARROWS, Cell, Column, Heading, Table, plain_table, ranked, sorting

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.analysis.pairs import Curves
    from hvqbench.metrics import MetricInfo


def points(spec: TableSpec, scope: Scope) -> Iterator[Table]:
    """Means at each operating point, and the rate of each stream."""
    frame = tables.points_table(scope.results, list(scope.of_images))
    rates = [column for column in frame.columns if column.startswith("bpp.")]
    of_streams = {name: Heading(f"bpp {name.removeprefix('bpp.')}", COLUMNS["bpp"].decimals) for name in rates}
    intro = "Means over images. Rate is the whole file over the original's pixels; the rates by stream add up to it."
    yield plain_table(
        spec.name or "points", spec.title or "Operating points", intro, frame,
        headings(scope.infos) | of_streams,
        hidden=[column for column in frame.columns if column.startswith("bytes.")],
    )  # fmt: skip


def tails(spec: TableSpec, scope: Scope) -> Iterator[Table]:
    """The worst tenth and the worst image behind each mean."""
    from hvqbench.analysis.tails import FEWEST_IMAGES, tails_table

    frame = tails_table(scope.results, list(scope.of_images))
    if frame.empty or frame["images"].max() < FEWEST_IMAGES:
        if spec.name:
            scope.source.lack(f"table {spec.name}: no point has {FEWEST_IMAGES} images")
        return
    intro = (
        "A mean hides the picture that a codec ruins. A tenth of the images is better than the value of the best "
        "tenth, and a tenth worse than that of the worst, in the metric's own direction."
    )
    yield plain_table(spec.name or "tails", spec.title or "Worst images", intro, frame, COLUMNS)


def sets(spec: TableSpec, scope: Scope) -> Iterator[Table]:
    """Metrics of whole sets at each operating point."""
    of_sets = [name for name, info in scope.infos.items() if info.of_set]
    if not of_sets:
        return
    frame = tables.sets_table(scope.results, of_sets)
    intro = "One value over all images of a point, and the number of patches it is of: with fewer, FID is higher."
    title = spec.title or "Metrics of whole sets"
    yield plain_table(spec.name or "sets", title, intro, frame, headings(scope.infos))


def bd_rate(spec: TableSpec, scope: Scope) -> Iterator[Table]:
    """BD-rates against each anchor: codecs by metrics, with intervals and flags."""
    from hvqbench.analysis import bd_table
    from hvqbench.analysis.bd import FLAGS

    for anchor in scope.anchors:
        rows = scope.source.curves.part(scope.with_anchors)
        # Of all rows and not of the finished ones alone, so that an anchor that failed is said with each comparison.
        published = [name for name in scope.published if name != tables.bare(anchor)]
        try:
            frame = bd_table(rows, anchor, list(scope.infos), published=published)
        except HvqbenchError as error:
            scope.source.lack(f"table bd-rate: {error}")
            continue
        frame = frame[frame["dataset"].isin(scope.datasets)].reset_index(drop=True)
        if frame.empty:
            continue
        name = spec.name or "bd-rate"
        meaning = (
            "Change of rate at equal quality in per cent, of the mean curve: negative is fewer bits. In brackets the "
            "95 % interval, of resampled images. Where there is no number there is no result, and never zero."
        )
        against = tables.label(anchor)
        if against != anchor:
            meaning += " Data sets and metrics that this anchor was not published in have no row."
        title = spec.title or f"BD-rate against {against}"
        name += f"-{tables.bare(anchor)}" if len(scope.anchors) > 1 else ""
        table = _bd_grid(name, title, meaning, frame, scope.infos, FLAGS)
        yield replace(table, outro=(*table.outro, *_apart(frame, rows, anchor)))


def _apart(frame: pd.DataFrame, curves: Curves, anchor: str) -> Iterator[str]:
    """What to measure of each codec that shares nothing with *anchor*, in any metric."""
    measured = set(curves.results["codec"].unique())  # a published one is called by a label here, and no id
    for (dataset, codec), own in frame.groupby(["dataset", "codec"], sort=False):
        of_all = own["flags"].str.split().map(lambda flags: APART in flags).all()
        if of_all and codec in measured:
            where = f"{dataset}: " if frame["dataset"].nunique() > 1 else ""
            if said := apart(curves, str(codec), anchor, own["metric"].iloc[0], str(dataset)):
                yield f"{where}{said}."


def _bd_grid(
    name: str, title: str, intro: str, frame: pd.DataFrame, infos: Mapping[str, MetricInfo], flags: Mapping[str, str]
) -> Table:
    """Codecs by metrics; a value over little common quality is no candidate for the best."""
    sure = frame.assign(sure=frame["bd_rate_percent"].where(~frame["flags"].str.contains("low_overlap")))
    frame_ranks = ranked(sure, "sure", False, ("dataset", "metric"))
    shown: dict[tuple[str, str], dict[str, Cell]] = {}
    without: dict[str, dict[str, None]] = {}
    numbers = frame.groupby(["dataset", "codec"])["bd_rate_percent"].transform("count")
    for rank, count, row in zip(frame_ranks, numbers, frame.to_dict("records"), strict=True):
        cell = _bd_cell(row, rank)
        if count:
            shown.setdefault((row["dataset"], row["codec"]), {})[row["metric"]] = cell
        else:
            reason = next(iter(cell.notes), "")
            without.setdefault(reason, {})[row["codec"]] = None
    if not shown:  # the table of a paper is not empty: a dash for each, and why
        for row in frame.to_dict("records"):
            shown.setdefault((row["dataset"], row["codec"]), {})[row["metric"]] = _bd_cell(row, 0)
    metrics = [metric for metric in infos if any(metric in cells for cells in shown.values())]
    one = frame["dataset"].nunique() == 1
    cells = tuple(
        (*([] if one else [Cell(dataset)]), Cell(codec), *(own.get(metric, Cell(NONE)) for metric in metrics))
        for (dataset, codec), own in shown.items()
    )
    columns = [Column(name, name) for name in (["codec"] if one else ["dataset", "codec"])]
    columns += [Column(m, f"{m} {ARROWS[False]}", True, metric_heading(m, infos[m]).hint) for m in metrics]
    intro = f"{intro} All on {frame['dataset'].iloc[0]}." if one else intro
    outro = tuple(f"Without a number: {', '.join(own)} (`{r}`: {flags.get(r, '')})." for r, own in without.items())
    return Table(name, title, intro, frame, tuple(columns), cells, flags, outro)


def _bd_cell(row: Mapping[Any, Any], rank: int) -> Cell:
    """Better or worse only where the whole interval is."""
    percent, low, high = (row.get(name, math.nan) for name in ("bd_rate_percent", "ci_low", "ci_high"))
    known = not math.isnan(percent)
    return Cell(
        text_of(percent, 1), rank, tuple(str(row["flags"]).split()),
        detail=f"[{text_of(low, 1)}, {text_of(high, 1)}]" if known and not math.isnan(low) else "",
        value=sorting(percent), hint=str(row.get("text", "")),
        kind="better" if known and high < 0 else "worse" if known and low > 0 else "",
    )  # fmt: skip


def saving(spec: TableSpec, scope: Scope) -> Iterator[Table]:
    """Bytes saved against fixed length by each index model, for each tokenizer."""
    from hvqbench.analysis import saving_table

    rows = scope.source.results  # with the fixed-length codecs, though the scope may have none
    frame = saving_table(rows[rows["dataset"].isin(scope.datasets)], scope.codecs)
    if frame.empty:
        if spec.name:
            scope.source.lack("table saving: no codec of indices has results at a point of the fixed-length codec")
        return
    order = {name: place for place, name in enumerate(frame["tokenizer"].unique())}
    frame = frame.sort_values(
        ["dataset", "tokenizer", "point", "saved_percent"], kind="stable", ignore_index=True,
        key=lambda column: column.map(order) if column.name == "tokenizer" else column,
    )  # fmt: skip
    intro = "Bytes at equal operating point, headers and side information counted; exact where the pixels are the same."
    yield plain_table(
        spec.name or "saving", spec.title or "Bytes saved against fixed length", intro, frame, COLUMNS,
        best={"saved_percent": True}, within=["dataset", "tokenizer", "point"],
        hidden=["tokenizer"] if not frame["tokenizer"].astype(bool).any() else [],
    )  # fmt: skip


def timing(spec: TableSpec, scope: Scope) -> Iterator[Table]:
    """Median times and speed of each codec, from the timing pass."""
    import pandas as pd

    calls = scope.source.timing
    if calls is None or not len(calls):
        if spec.name or spec.title:
            scope.source.lack(f"table timing: no timing pass; {scope.source.run_advice('', '--timing')}")
        return
    calls = calls[(calls["status"] == "ok") & calls["codec"].isin(scope.codecs) & calls["dataset"].isin(scope.datasets)]
    rows = [_times(own, calls) for _, own in calls.groupby(["dataset", "codec", "point"], sort=False)]
    frame = pd.DataFrame(rows).dropna(axis=1, how="all")
    if frame.empty:
        return
    first = calls.iloc[0]
    where = f"{first['cpu']}, {first['threads']:g} threads"
    where += f", {first['device_name']}" if first["device_name"] else ""
    intro = (
        f"Medians of one serial pass ({where}); speed is megapixels over the images' median times. Ratios are times "
        "over those of the first line, the median over images."
    )
    if calls["busy"].any():
        intro += " Of rounds beside which others were working there are ratios, and no seconds."
    best = {name: True for name in ("encode_speed", "decode_speed") if name in frame}
    title = spec.title or "Speed"
    yield plain_table(spec.name or "timing", title, intro, frame, COLUMNS, best=best, within=["dataset"])


def _times(own: pd.DataFrame, calls: pd.DataFrame) -> dict[str, Any]:
    """A line of the timing table: of one codec at one point; *calls* are those of all."""
    first = own.iloc[0]
    row: dict[str, Any] = {name: first[name] for name in ("dataset", "codec", "point_name", "point")}
    row["calls"] = len(own)
    quiet = own[~own["busy"].astype(bool)]
    reference = calls[calls["dataset"] == first["dataset"]]
    reference = reference[(reference["codec"] == reference.iloc[0]["codec"])]
    reference = reference[reference["point"] == reference.iloc[0]["point"]]
    for side in ("encode", "decode"):
        row[f"{side}_ms"] = 1000 * quiet[f"{side}_s"].median()
        row[f"{side}_speed"] = speed(quiet, side)
        times, others = (part.groupby("image")[f"{side}_s"].median() for part in (own, reference))
        row[f"{side}_ratio"] = (times / others).median()
    row["memory_mb"] = own[["encode_memory", "decode_memory"]].max().max() / 1e6
    for name in ("parameters", "encode_macs_per_pixel", "decode_macs_per_pixel"):
        row[name] = first.get(name, math.nan)
    return row


def speed(calls: pd.DataFrame, side: str) -> float:
    """Megapixels per second: of each image and point the median time; NaN of no calls."""
    times = calls.groupby(["point", "image"])[[f"{side}_s", "width", "height"]].median()
    seconds = times[f"{side}_s"].sum()
    return float((times["width"] * times["height"]).sum() / 1e6 / seconds) if seconds else math.nan


def ablation(spec: TableSpec, scope: Scope) -> Iterator[Table]:
    """The table that ``hvqbench ablate`` wrote."""
    import pandas as pd

    from hvqbench.training import ablation_table as source

    path = Path(spec.source or "runs/ablations/ablation.csv")
    if not path.is_file():
        scope.source.lack(f"table ablation: {path} does not exist; `hvqbench ablate` writes it, `source` names another")
        return
    frame = pd.read_csv(path).dropna(axis=1, how="all")
    best = {"saved_percent": True} if "saved_percent" in frame else {}
    shown = {
        name: Heading(title.rstrip(" ↑↓") if name in best else title, source.DECIMALS.get(name))
        for name in map(str, frame)
        for title in [source.TITLES.get(name, name)]
    }
    hidden = [name for name in ("seed", "steps", "tokenizer_seed", "tokenizer_steps", "minutes") if name in frame]
    yield plain_table(
        spec.name or "ablation", spec.title or "Ablation", source.INTRODUCTION, frame, shown,
        best=best, within=["tokenizer"] if "tokenizer" in frame else [], hidden=hidden,
    )  # fmt: skip


KINDS: Mapping[str, Callable[[TableSpec, Scope], Iterator[Table]]] = {
    "points": points,
    "tails": tails,
    "sets": sets,
    "saving": saving,
    "bd-rate": bd_rate,
    "timing": timing,
    "ablation": ablation,
}


def always(scope: Scope, published: pd.DataFrame | None) -> Iterator[Table]:
    """What no report leaves out: what was published where, what did not run, what metrics are, how rows were made."""
    rows, infos = scope.results, scope.infos
    if published is not None and len(published):
        source = (
            "By others, as they published it; dotted in figures, drawn up to "
            "4 times beyond the measured rates, and in no mean above. Rates and scores follow the "
            "protocol of the source, and may differ from hvqbench's in what the last column does not say."
        )
        yield plain_table("published", "Published curves", source, published, COLUMNS)
    for name, title, intro, frame in (
        ("problems", "What did not run", "These rows are in no mean, no curve and no BD-rate.",
         tables.problems_table(rows)),
        ("metrics", "Metrics", "What the ids stand for. No curve joins two versions.",
         tables.metrics_table(rows, infos)),
        ("provenance", "Provenance", "How the rows were made.", tables.provenance_table(rows)),
    ):  # fmt: skip
        yield plain_table(name, title, intro, frame, COLUMNS)
