"""Results as something to read: the figures and tables of a spec (:mod:`hvqbench.report.spec`), or of what there is.

make_report(read_results("results"), "report")
make_report(read_results("results"), "paper", spec=find_spec("paper"))
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.report.spec import (
    WIDTHS,
    FigureSpec,
    ReportSpec,
    TableSpec,
    find_spec,
    inherit,
    override,
    report_files,
)
from hvqbench.shown import csv_of, no_foreign_html

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.report.scope import ReportData, Scope
    from hvqbench.report.table import Table

__all__ = ["ReportFiles", "ReportSpec", "find_spec", "make_report", "report_files", "report_results"]

CAPTIONS: Mapping[str, str] = {
    "rd": "Rate-distortion curves",
    "ledger": "Where the bits go",
    "per-image": "BD-rate of each image",
    "speed": "Rate against speed",
    "usage": "Use of the codebook",
    "bits": "Bits of each index",
}


@dataclass(frozen=True)
class ReportFiles:
    """What :func:`make_report` wrote."""

    markdown: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    claims: Path
    html: Path | None = None
    missing: tuple[str, ...] = ()
    """What was asked for and is not there, one line each."""


def make_report(
    results: pd.DataFrame,
    out: str | Path,
    anchor: str | None = None,
    published: Sequence[str] = (),
    *,
    spec: ReportSpec | None = None,
    timing: pd.DataFrame | None = None,
    html: bool = False,
    streams: Path | None = None,
) -> ReportFiles:
    """Write ``report.md``, its figures, each table as CSV and LaTeX, and ``claims.json`` into the folder *out*.

    A table without a row is CSV alone.

    The same results give the same bytes.

    Parameters
    ----------
    results
        As :func:`hvqbench.read_results` returns them; failed and unavailable rows are reported with their reasons.
    anchor
        The codec that BD-rates are against, measured or ``published:NAME``, instead of the spec's; by default see
        :data:`hvqbench.report.scope.DEFAULT_ANCHORS`.
    published
        Published curves to show as well (:mod:`hvqbench.curves`), dotted and named as such; the anchor's too.
    spec
        What to make; by default everything that the results have something for.
    timing
        As :func:`hvqbench.bench.read_timing` returns it.
    html
        Whether to write the one-file HTML report, too, if the spec does not say so; *streams*, the folder of results
        whose kept bitstreams it shows pictures from.

    Raises
    ------
    HvqbenchError
        If there are no results, or none of *anchor*, or *out* cannot be written; if a published curve does not exist,
        or has nothing in common with the results. What a *spec* names and the results lack is no error: it is in
        :attr:`ReportFiles.missing`.
    """
    from hvqbench.curves import find_published, is_published
    from hvqbench.files import atomic_write
    from hvqbench.metrics.maps import load_maps
    from hvqbench.report import sections, tables
    from hvqbench.report.captions import captioned
    from hvqbench.report.claims import claims
    from hvqbench.report.latex import latex
    from hvqbench.report.names import Names
    from hvqbench.report.scope import ReportData, Scope
    from hvqbench.selection import choose_among

    if results.empty:
        raise HvqbenchError(
            "there are no results to report: run `hvqbench run` first, or name the folder with --results"
        )
    spec = spec or ReportSpec()
    load_maps(spec.maps)  # refuses what has none
    source = ReportData(results, timing, streams, Names(spec.names))
    if anchor is not None:
        if not is_published(anchor):
            choose_among(anchor, source.codecs)  # refuses one that is not there
        spec = override(spec, anchors=(anchor,))
    asked = find_published([*([anchor] if anchor and is_published(anchor) else []), *published])
    tables.published_table(results, asked, list(source.infos))  # refuses one that has nothing in common
    spec = replace(spec, published=(*spec.published, *published))
    whole = Scope(source, spec)
    if whole.results.empty:
        raise HvqbenchError(f"the results have nothing of this report: {'; '.join(source.missing)}")
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HvqbenchError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from None

    figures = _figures(spec, source, out)
    of_items = _tables(spec, source)
    of_report = list(sections.always(whole, _published(whole)))
    # What the ids stand for, and how rows were made, is told of the ids.
    shown = [*(source.names.table(table) for table, _ in of_items), *of_report]
    tables_of = [*(table for table, _ in of_items), *of_report]
    written: list[Path] = []
    for table in shown:
        path = out / f"{table.name}.csv"
        atomic_write(path, csv_of(table.frame))
        written.append(path)
        typeset = path.with_suffix(".tex")
        if table.cells:
            atomic_write(typeset, latex(captioned(table, whole.named_infos, source.names)).encode())
            written.append(typeset)
        else:  # LaTeX sets no table without a row; one of an earlier report would be of other results
            typeset.unlink(missing_ok=True)
    paths = {"claims": out / "claims.json", "markdown": out / "report.md"}
    rows = {table.name: scope.source.results for table, scope in of_items}
    atomic_write(paths["claims"], claims(results, tables_of, rows).encode())
    notes = tables.curve_notes(whole.source.curves, whole.codecs, list(whole.infos), whole.datasets)
    text = _markdown(spec.title, shown, figures, notes, list(source.missing))
    atomic_write(paths["markdown"], text.encode())
    page = None
    if html or spec.html:
        from hvqbench.report.html import write_html

        page = write_html(
            whole.source.results,
            out / "report.html",
            published=whole.published,
            anchor=next(iter(whole.anchors), None),
            streams=streams,
            spec=spec,
        )
    files = tuple(path for figure in figures for path in figure.paths)
    return ReportFiles(paths["markdown"], files, tuple(written), paths["claims"], page, tuple(source.missing))


def report_results(
    results: Path,
    out: Path,
    anchor: str | None = None,
    published: Sequence[str] = (),
    *,
    spec: str | Path | None = None,
    html: bool = False,
    maps: Sequence[str] = (),
    codecs: Sequence[str] = (),
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> ReportFiles:
    """:func:`make_report` of the folder *results*, with its timing pass if there is one, and the spec of that name.

    *codecs*, *datasets*, *metrics* and *maps* go before what the spec says, the first three in each of its figures and
    tables too.
    """
    from hvqbench.bench import read_results, read_timing

    chosen = override(
        find_spec(spec) if spec is not None else ReportSpec(), codecs=codecs, datasets=datasets, metrics=metrics
    )
    chosen = replace(chosen, maps=tuple(maps) or chosen.maps)
    try:
        timing = read_timing(results)
    except HvqbenchError:  # none was made
        timing = None
    rows = read_results(results)
    return make_report(rows, out, anchor, published, spec=chosen, timing=timing, html=html, streams=results)


@dataclass(frozen=True)
class _Written:
    """A figure's files, its title and its caption."""

    paths: tuple[Path, ...]
    title: str
    caption: str


def _figures(spec: ReportSpec, source: ReportData, out: Path) -> list[_Written]:
    """What :func:`hvqbench.report.kinds.KINDS` draws, and a LaTeX float for each that LaTeX can include."""
    from hvqbench.files import atomic_write
    from hvqbench.report.captions import float_of
    from hvqbench.report.kinds import KINDS
    from hvqbench.report.scope import Scope
    from hvqbench.report.style import save_figure

    default = [FigureSpec(kind="rd"), FigureSpec(kind="ledger", width="single")]
    if source.timing is not None:
        default.append(FigureSpec(kind="speed"))
    written: list[_Written] = []
    formats = spec.formats
    for item in spec.figure or ([] if spec.table else default):
        scope = Scope(source, inherit(item, spec))
        count = len(written)
        for drawn in KINDS[item.kind](item, scope):
            stem = out / f"{item.name or item.kind}-{drawn.name}"
            try:
                paths = save_figure(drawn.figure, stem, formats)
            except UnavailableError as error:
                source.lack(str(error))
                formats = tuple(kind for kind in formats if kind != "pgf")
                paths = save_figure(drawn.figure, stem, formats)
            if {"pdf", "png"} & {*formats}:
                wide = drawn.figure.get_figwidth() > WIDTHS["single"]
                atomic_write(_float_path(paths[0]), float_of(stem.name, drawn.caption, stem.name, wide).encode())
            written.append(_Written(paths, f"{CAPTIONS[item.kind]}: {drawn.name}", drawn.caption))
        if len(written) == count and spec.figure:
            source.lack(f"figure {item.name or item.kind}: the results have nothing to draw in it")
    return written


def _float_path(figure: Path) -> Path:
    return figure.with_name(f"{figure.stem}.tex")


def _tables(spec: ReportSpec, source: ReportData) -> list[tuple[Table, Scope]]:
    """The tables that the spec asks for, each with what it is of."""
    from hvqbench.report.scope import Scope
    from hvqbench.report.sections import KINDS

    default = [TableSpec(kind=kind) for kind in ("points", "tails", "sets", "saving", "bd-rate", "timing")]
    found: list[tuple[Table, Scope]] = []
    for item in spec.table or ([] if spec.figure else default):
        scope = Scope(source, inherit(item, spec))
        of_item = [(table, scope) for table in KINDS[item.kind](item, scope) if table.cells or table.outro]
        if not of_item and spec.table:
            source.lack(f"table {item.name or item.kind}: the results have nothing for it")
        found += of_item
    return found


def _published(scope: Scope) -> pd.DataFrame | None:
    from hvqbench.report import tables

    return tables.published_table(scope.results, scope.published, list(scope.infos)) if scope.published else None


def _markdown(
    title: str,
    shown: Sequence[Table],
    figures: Sequence[_Written],
    notes: Sequence[str],
    missing: Sequence[str],
) -> str:
    from hvqbench.report import tables
    from hvqbench.report.table import markdown

    parts = [f"# {title}"]
    if missing:
        parts += ["Asked for, and not there:", "\n".join(f"- {line}" for line in missing)]
    for figure in figures:
        drawn = next((path for kind in (".svg", ".png") for path in figure.paths if path.suffix == kind), None)
        parts += [f"![{figure.title}]({drawn.name})", figure.caption] if drawn else []
    if not figures:
        parts.append("No figure: no codec finished an image with a metric.")
    by_name = {table.name: table for table in shown}
    for table in shown:
        if not table.cells and not table.outro:
            continue
        parts += [f"## {table.title}", table.intro, markdown(table)]
        if table.name == "points":
            published = by_name["published"].frame if "published" in by_name else None
            if unlike := tables.protocol_notes(table.frame, published):
                parts += ["Not like for like, as the codecs declare:", "\n".join(f"- {note}" for note in unlike)]
            if notes:
                parts += ["Curves leave out:", "\n".join(f"- {note}" for note in notes)]
    return no_foreign_html(re.sub(r"\n{3,}", "\n\n", "\n\n".join(parts)) + "\n")
