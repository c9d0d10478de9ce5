"""Results as something to read: an RD figure per data set, a Markdown report, and its tables as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd

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
}
DECIMALS: Mapping[str, int] = {
    "bpp": 4,
    "bytes": 0,
    "saved_percent": 2,
    "mean_saved_percent": 2,
    "overlap": 2,
    "bd_rate_percent": 2,
}


@dataclass(frozen=True)
class ReportFiles:
    """What :func:`make_report` wrote."""

    markdown: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]


def make_report(results: pd.DataFrame, out: str | Path, anchor: str | None = None) -> ReportFiles:
    """Write ``report.md``, ``rd-<dataset>.png`` and ``.pdf``, and one CSV per table into the folder *out*.

    The same results give the same bytes.

    Parameters
    ----------
    results
        As :func:`hvqbench.read_results` returns them; failed and unavailable rows are reported with their reasons.
    anchor
        The codec that BD-rates are against; see :data:`DEFAULT_ANCHORS`.

    Raises
    ------
    HvqbenchError
        If there are no results, or none of *anchor*, or *out* cannot be written.
    """
    from hvqbench.analysis import bd_table, saving_table
    from hvqbench.report import tables

    if results.empty:
        raise HvqbenchError(
            "there are no results to report: run `hvqbench run` first, or name the folder with --results"
        )
    infos = _metrics_in(results)
    anchor = _anchor(results, anchor)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HvqbenchError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from None

    ok = results[results["status"] == "ok"]
    # Of all rows and not of the finished ones alone, so that an anchor that failed is said with each comparison.
    bd = bd_table(results, anchor, list(infos))
    named = {
        "points": tables.points_table(results, list(infos)),
        "saving": saving_table(results, FIXED_LENGTH),
        "bd-rate": bd,
        "problems": tables.problems_table(results),
        "provenance": tables.provenance_table(results),
    }
    figures = _figures(ok, infos, out)
    csvs = tuple(out / f"{name}.csv" for name in named)
    for path, table in zip(csvs, named.values(), strict=True):
        table.to_csv(path, index=False, lineterminator="\n")
    markdown = out / "report.md"
    text = _markdown(named, infos, anchor, figures, tables.curve_notes(ok, list(infos)))
    markdown.write_text(text, encoding="utf-8", newline="\n")
    return ReportFiles(markdown, figures, csvs)


def _metrics_in(results: pd.DataFrame) -> dict[str, MetricInfo]:
    """The metrics that have a value anywhere in the results, in the registry's order."""
    from hvqbench.metrics import metric_ids, metric_info

    known = (name for name in metric_ids() if name in results.columns and results[name].notna().any())
    return {name: metric_info(name) for name in known}


def _anchor(results: pd.DataFrame, anchor: str | None) -> str:
    codecs = list(results["codec"].unique())
    if anchor is not None and anchor not in codecs:
        raise HvqbenchError(f"the results have no anchor {anchor!r}: run it too, or choose one of {', '.join(codecs)}")
    finished = list(results.loc[results["status"] == "ok", "codec"].unique()) or codecs
    return anchor or next((name for name in DEFAULT_ANCHORS if name in finished), finished[0])


def _figures(ok: pd.DataFrame, infos: Mapping[str, MetricInfo], out: Path) -> tuple[Path, ...]:
    from hvqbench.analysis import mean_curve
    from hvqbench.report.figures import classic_codecs, file_name, rd_figure, save_figure

    written: list[Path] = []
    for dataset, rows in ok.groupby("dataset", sort=True):
        codecs = list(rows["codec"].unique())
        curves = {m: [mean_curve(rows, codec, m, str(dataset)) for codec in codecs] for m in infos}
        drawn = {m: [c for c in of_metric if c.points] for m, of_metric in curves.items()}
        drawn = {m: of_metric for m, of_metric in drawn.items() if of_metric}
        if drawn:
            figure = rd_figure(drawn, infos, classic_codecs(codecs))
            written.extend(save_figure(figure, out / f"rd-{file_name(str(dataset))}"))
    return tuple(written)


def _markdown(
    named: Mapping[str, pd.DataFrame],
    infos: Mapping[str, MetricInfo],
    anchor: str,
    figures: Sequence[Path],
    notes: Sequence[str],
) -> str:
    from hvqbench.analysis.bd import FLAGS
    from hvqbench.report.tables import to_markdown

    decimals = {**DECIMALS, **{name: 2 if info.unit == "dB" else 4 for name, info in infos.items()}}
    titles = {**TITLES, **{name: f"{name} {'↑' if info.higher_is_better else '↓'}" for name, info in infos.items()}}

    def section(title: str, name: str, intro: str) -> list[str]:
        table = named[name].drop(columns="text", errors="ignore")  # the sentences are for the CSV and the command line
        if table.empty:
            return []
        streams = [column for column in table.columns if column.startswith("bytes.")]
        streams_of = {**titles, **{column: column.removeprefix("bytes.") for column in streams}}
        return [f"## {title}", intro, to_markdown(table, {**decimals, **dict.fromkeys(streams, 1)}, streams_of)]

    parts = ["# hvqbench report"]
    parts += [f"![Rate-distortion curves]({path.name})" for path in figures if path.suffix == ".png"]
    if not figures:
        parts.append("No figure: no codec finished an image with a metric.")
    rate = "Means over images. Rate is the whole file over the original's pixels; the last columns are bytes by stream."
    parts += section("Operating points", "points", rate)
    if notes:
        parts += ["Curves leave out:", "\n".join(f"- {note}" for note in notes)]
    exact = "Bytes at equal operating point, headers and side information counted; exact where the pixels are the same."
    parts += section(f"Bytes saved against {FIXED_LENGTH}", "saving", exact)
    meaning = (
        "Change of rate at equal quality, of the mean curve: negative is fewer bits. A dash is no result, never zero."
    )
    parts += section(f"BD-rate against {anchor}", "bd-rate", meaning)
    raised = {flag for flags in named["bd-rate"]["flags"] for flag in str(flags).split()}
    if raised:
        parts.append("\n".join(f"- `{flag}`: {FLAGS[flag]}" for flag in FLAGS if flag in raised))
    parts += section("What did not run", "problems", "These rows are in no mean, no curve and no BD-rate.")
    parts += section("Provenance", "provenance", "How the rows were made.")
    return "\n\n".join(parts) + "\n"
