"""``report``: figures, tables and pages of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Results, split, use_catalog

app = typer.Typer(**PLAIN)


@app.command()
def report(
    spec: Annotated[
        str | None, typer.Argument(metavar="[SPEC]", help="A spec: its name (paper) or path; default: all there is.")
    ] = None,
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option("--out", help="Folder for figures and tables.")] = Path("report"),
    anchor: Annotated[
        str | None, typer.Option("--anchor", help="The codec that BD-rates are against; published:NAME too.")
    ] = None,
    published: Annotated[
        list[str] | None, typer.Option("--published", help="Published curves to show as well; commas or repeat.")
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="One HTML file with everything, too.")] = False,
    catalog: CatalogOption = None,
) -> None:
    """Figures and tables of results: all there is, or what a spec asks for."""
    use_catalog(catalog)
    from hvqbench.report import report_results

    names = split(published, "published") if published else []
    files = report_results(results, out, anchor, names, spec=spec, html=html)
    for line in files.missing:
        typer.echo(f"hvqbench: {line}", err=True)
    pages = (files.markdown, *([files.html] if files.html else []))
    typer.echo("\n".join(str(path) for path in (*pages, *files.figures, *files.tables, files.claims)))
