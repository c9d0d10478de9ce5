"""``show``: rate-distortion curves in the terminal."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Json, Results, split, use_catalog
from hvqbench.errors import HvqbenchError, say

app = typer.Typer(**PLAIN)


@app.command()
def show(
    results: Results = Path("results"),
    codec: Annotated[list[str] | None, typer.Option("--codec", help="Only these: ids or tags.")] = None,
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="Only these.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Only these; commas or repeat.")] = None,
    published: Annotated[
        list[str] | None, typer.Option("--published", help="Published curves as well; commas or repeat.")
    ] = None,
    json: Json = False,
    catalog: CatalogOption = None,
) -> None:
    """Rate-distortion curves: drawn in a terminal, a plain table elsewhere."""
    use_catalog(catalog)
    from hvqbench.bench import read_results
    from hvqbench.report.terminal import CurveView

    options = {"codec": codec, "dataset": dataset, "metric": metric, "published": published}
    codecs, datasets, metrics, others = (split(values, name) if values else [] for name, values in options.items())
    curves = CurveView(read_results(results), codecs, datasets, metrics, others)
    for line in curves.missing:
        say(line)
    if json:
        import json as text

        typer.echo(text.dumps(curves.records(), indent=2))
    elif curves and sys.stdout.isatty():
        typer.echo(curves.charts(shutil.get_terminal_size().columns))
    elif curves:
        typer.echo(curves.text())
    if not curves:
        raise HvqbenchError("no codec finished an image with a metric: `hvqbench report` says what failed")
