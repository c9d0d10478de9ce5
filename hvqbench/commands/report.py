"""``report``: figures, tables and pages of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Results, split, use_catalog
from hvqbench.errors import HvqbenchError, say

app = typer.Typer(**PLAIN)


@app.command()
def report(
    spec: Annotated[
        str | None, typer.Argument(metavar="SPEC", help="A spec: its name (paper) or path; default: all there is.")
    ] = None,
    codec: Annotated[
        list[str] | None, typer.Option("--codec", help="Only these codecs: ids or tags, each with @POINTS.")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="Only these data sets.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Only these metrics.")] = None,
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder for figures and tables.")] = Path(
        "report"
    ),
    anchor: Annotated[
        str | None, typer.Option("--anchor", help="The codec that BD-rates are against; published:NAME too.")
    ] = None,
    published: Annotated[
        list[str] | None, typer.Option("--published", help="Published curves to show as well; commas or repeat.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option("--init", metavar="FILE", help="Only write a spec to start from, of what the results have."),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Also write one HTML file with everything.")] = False,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", help="That file, with maps of where lpips-alex, lpips-vgg or dists sees a difference."),
    ] = None,
    catalog: CatalogOption = None,
) -> None:
    """Figures and tables of results: all there is, what a spec asks for, or what options name."""
    use_catalog(catalog)
    from hvqbench.report import report_results

    options = {"codec": codec, "dataset": dataset, "metric": metric}
    chosen = {f"{kind}s": split(values, kind) if values else [] for kind, values in options.items()}
    if init is not None:
        from hvqbench.report.template import init_spec

        if spec is not None or published or html or maps:
            raise HvqbenchError(
                "--init writes a new spec: leave SPEC, --published, --html and --map out, and put them into it"
            )
        typer.echo(init_spec(init, results, anchor=anchor, **chosen))
        return
    names = split(published, "published") if published else []
    of_pictures = split(maps, "map") if maps else []
    files = report_results(results, out, anchor, names, spec=spec, html=html or bool(maps), maps=of_pictures, **chosen)
    for line in files.missing:
        say(line)
    pages = (files.markdown, *([files.html] if files.html else []))
    typer.echo("\n".join(str(path) for path in (*pages, *files.figures, *files.tables, files.claims)))
