"""``why``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Results, use_catalog

app = typer.Typer(**PLAIN)


@app.command("why")
def explain(
    row: Annotated[str, typer.Argument(metavar="ROW", help="The beginning of its key, or CODEC/POINT/IMAGE.")],
    results: Results = Path("results"),
    catalog: CatalogOption = None,
) -> None:
    """Where a row comes from: what its key is made of, and the command that makes it again."""
    use_catalog(catalog)
    from hvqbench.bench.provenance import why

    typer.echo(why(row, results).text)
