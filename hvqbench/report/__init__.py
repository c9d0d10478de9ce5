"""Results as something to read: an RD figure per data set, a Markdown report, and its tables as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.analysis import Curve
    from hvqbench.metrics import MetricInfo

FIXED_LENGTH = "fixed-vq"
"""The codec whose bytes a saving is measured against."""

DEFAULT_ANCHORS = ("huffman-vq", "vvenc", "jpeg")
"""The anchor of the BD-rates where none is named: the first of these that has results, else the first codec.

Fixed length is none of them: it has one rate whatever the distortion, hence no curve.
"""

TITLES: Mapping[str, str] = {
    "saved_percent": "saved %",
    "mean_saved_percent": "mean of images %",
    "same_pixels": "same pixels",
    "anchor_bytes": "bytes of anchor",
    "bd_rate_percent": "BD-rate %",
    "anchor_points": "points of anchor",
    "codec_points": "points",
    "point_name": "",
    "bpp_range": "bpp",
}
PUBLISHED_SPAN = 4.0
"""Published points are drawn up to this factor beyond the measured rates: farther ones would squeeze all others."""

DECIMALS: Mapping[str, int] = {
    "bpp": 4,
    "bytes": 0,
    "saved_percent": 2,
    "mean_saved_percent": 2,
    "overlap": 2,
    "bd_rate_percent": 2,
    "images": 0,
    "patches": 0,
}


@dataclass(frozen=True)
class ReportFiles:
    """What :func:`make_report` wrote."""

    markdown: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]


def make_report(
    results: pd.DataFrame, out: str | Path, anchor: str | None = None, published: Sequence[str] = ()
) -> ReportFiles:
    """Write ``report.md``, ``rd-<dataset>.png`` and ``.pdf``, and one CSV per table into the folder *out*.

    The same results give the same bytes.

    Parameters
    ----------
    results
        As :func:`hvqbench.read_results` returns them; failed and unavailable rows are reported with their reasons.
    anchor
        The codec that BD-rates are against, measured or ``published:NAME``; see :data:`DEFAULT_ANCHORS`.
    published
        Published curves to show as well (:mod:`hvqbench.curves`), dotted and named as such; the anchor's too.

    Raises
    ------
    HvqbenchError
        If there are no results, or none of *anchor*, or *out* cannot be written; if a published curve does not exist,
        or has nothing in common with the results.
    """
    from hvqbench.analysis import bd_table, saving_table
    from hvqbench.curves import find_published, is_published
    from hvqbench.report import tables

    if results.empty:
        raise HvqbenchError(
            "there are no results to report: run `hvqbench run` first, or name the folder with --results"
        )
    infos = _metrics_in(results)
    anchor = _anchor(results, anchor)
    others = find_published([*([anchor] if is_published(anchor) else []), *published])
    own = tables.published_table(results, others, list(infos))
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HvqbenchError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from None

    ok = results[results["status"].isin(["ok", "set"])]
    of_images = [name for name, info in infos.items() if not info.of_set]
    of_sets = [name for name, info in infos.items() if info.of_set]
    # Of all rows and not of the finished ones alone, so that an anchor that failed is said with each comparison.
    bd = bd_table(results, anchor, list(infos), published=others)
    named = {
        "points": tables.points_table(results, of_images),
        **({"sets": tables.sets_table(results, of_sets)} if of_sets else {}),
        "saving": saving_table(results, FIXED_LENGTH),
        "bd-rate": bd,
        **({"published": own} if others else {}),
        "problems": tables.problems_table(results),
        "metrics": tables.metrics_table(results, infos),
        "provenance": tables.provenance_table(results),
    }
    figures = _figures(ok, infos, out, others)
    csvs = tuple(out / f"{name}.csv" for name in named)
    for path, table in zip(csvs, named.values(), strict=True):
        table.to_csv(path, index=False, lineterminator="\n")
    markdown = out / "report.md"
    text = _markdown(named, infos, anchor, figures, tables.curve_notes(ok, list(infos)))
    markdown.write_text(text, encoding="utf-8", newline="\n")
    return ReportFiles(markdown, figures, csvs)


def _metrics_in(results: pd.DataFrame) -> dict[str, MetricInfo]:
    """The metrics that have a value anywhere in the results, in the registry's order, then pyiqa's."""
    from hvqbench.metrics import PYIQA, metric_ids, metric_info

    names = [*metric_ids(), *(name for name in results.columns if name.startswith(PYIQA))]
    return {name: metric_info(name) for name in names if name in results.columns and results[name].notna().any()}


def _anchor(results: pd.DataFrame, anchor: str | None) -> str:
    from hvqbench.curves import find_published, is_published

    if anchor is not None and is_published(anchor):
        find_published([anchor])
        return anchor
    codecs = list(results["codec"].unique())
    if anchor is not None and anchor not in codecs:
        raise HvqbenchError(f"the results have no anchor {anchor!r}: run it too, or choose one of {', '.join(codecs)}")
    finished = list(results.loc[results["status"] == "ok", "codec"].unique()) or codecs
    return anchor or next((name for name in DEFAULT_ANCHORS if name in finished), finished[0])


def _figures(
    ok: pd.DataFrame, infos: Mapping[str, MetricInfo], out: Path, published: Sequence[str]
) -> tuple[Path, ...]:
    from hvqbench.analysis import mean_curve
    from hvqbench.report.figures import classic_codecs, file_name, rd_figure, save_figure

    written: list[Path] = []
    for dataset, rows in ok.groupby("dataset", sort=True):
        codecs = list(rows["codec"].unique())
        curves = {m: [mean_curve(rows, codec, m, str(dataset)) for codec in codecs] for m in infos}
        drawn = {m: [c for c in of_metric if c.points] for m, of_metric in curves.items()}
        drawn = {m: [*of_metric, *_beside(of_metric, published)] for m, of_metric in drawn.items() if of_metric}
        if drawn:
            figure = rd_figure(drawn, infos, classic_codecs(codecs))
            written.extend(save_figure(figure, out / f"rd-{file_name(str(dataset))}"))
    return tuple(written)


def _beside(measured: Sequence[Curve], published: Sequence[str]) -> list[Curve]:
    """Those of the *published* curves that share metric and data set with the *measured*, near the rates of these."""
    from hvqbench.curves.library import has_curve, published_curve

    first = measured[0]
    curves = [
        published_curve(c, first.metric, first.dataset) for c in published if has_curve(c, first.metric, first.dataset)
    ]
    lowest = min(curve.bpp.min() for curve in measured) / PUBLISHED_SPAN
    highest = max(curve.bpp.max() for curve in measured) * PUBLISHED_SPAN
    near = [(curve, (curve.bpp >= lowest) & (curve.bpp <= highest)) for curve in curves]
    return [replace(curve, bpp=curve.bpp[kept], values=curve.values[kept]) for curve, kept in near if kept.any()]


def _markdown(
    named: Mapping[str, pd.DataFrame],
    infos: Mapping[str, MetricInfo],
    anchor: str,
    figures: Sequence[Path],
    notes: Sequence[str],
) -> str:
    from hvqbench.analysis.bd import FLAGS
    from hvqbench.report import tables
    from hvqbench.report.tables import to_markdown

    decimals = {**DECIMALS, **{name: 2 if info.unit == "dB" else 4 for name, info in infos.items()}}
    titles = {**TITLES, **{name: f"{name} {'↑' if info.higher_is_better else '↓'}" for name, info in infos.items()}}

    def section(title: str, name: str, intro: str) -> list[str]:
        table = named[name].drop(columns="text", errors="ignore")  # the sentences are for the CSV and the command line
        if table.empty:
            return []
        table = table.drop(columns=[column for column in table.columns if column.startswith("bytes.")])
        rates = [column for column in table.columns if column.startswith("bpp.")]
        named_rates = {column: f"bpp {column.removeprefix('bpp.')}" for column in rates}
        return [
            f"## {title}",
            intro,
            to_markdown(table, {**decimals, **dict.fromkeys(rates, DECIMALS["bpp"])}, titles | named_rates),
        ]

    parts = ["# hvqbench report"]
    parts += [f"![Rate-distortion curves]({path.name})" for path in figures if path.suffix == ".png"]
    if not figures:
        parts.append("No figure: no codec finished an image with a metric.")
    rate = "Means over images. Rate is the whole file over the original's pixels; the rates by stream add up to it."
    parts += section("Operating points", "points", rate)
    if "sets" in named:
        whole = "One value over all images of a point, and the number of patches it is of: with fewer, FID is higher."
        parts += section("Metrics of whole sets", "sets", whole)
    if unlike := tables.protocol_notes(named["points"], named.get("published")):
        parts += ["Not like for like, as the codecs declare:", "\n".join(f"- {note}" for note in unlike)]
    if notes:
        parts += ["Curves leave out:", "\n".join(f"- {note}" for note in notes)]
    exact = "Bytes at equal operating point, headers and side information counted; exact where the pixels are the same."
    parts += section(f"Bytes saved against {FIXED_LENGTH}", "saving", exact)
    meaning = (
        "Change of rate at equal quality, of the mean curve: negative is fewer bits. A dash is no result, never zero."
    )
    against = tables.label(anchor)
    if against != anchor:
        meaning += " Data sets and metrics that this anchor was not published in have no row."
    parts += section(f"BD-rate against {against}", "bd-rate", meaning)
    raised = {flag for flags in named["bd-rate"]["flags"] for flag in str(flags).split()}
    if raised:
        parts.append("\n".join(f"- `{flag}`: {FLAGS[flag]}" for flag in FLAGS if flag in raised))
    if "published" in named:
        source = (
            "By others, as they published it; dotted in figures, drawn up to "
            f"{PUBLISHED_SPAN:g} times beyond the measured rates, and in no mean above. Rates and scores follow the "
            "protocol of the source, and may differ from hvqbench's in what the last column does not say."
        )
        parts += section("Published curves", "published", source)
    parts += section("What did not run", "problems", "These rows are in no mean, no curve and no BD-rate.")
    parts += section("Metrics", "metrics", "What the ids stand for. No curve joins two versions.")
    parts += section("Provenance", "provenance", "How the rows were made.")
    return "\n\n".join(parts) + "\n"
