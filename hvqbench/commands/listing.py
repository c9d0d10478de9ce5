"""``hvqbench ls``."""

from __future__ import annotations

from typing import Any

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Json, use_catalog

app = typer.Typer(help="What there is, and whether it can run here.", **PLAIN)


@app.command("codecs")
def ls_codecs(json: Json = False, catalog: CatalogOption = None) -> None:
    """List the codecs."""
    use_catalog(catalog)
    from hvqbench.listing import list_codecs

    _print_listing(list_codecs(), json)


@app.command("comparators")
def ls_comparators(catalog: CatalogOption = None) -> None:
    """Write the table of all that a result can be compared with, as Markdown."""
    use_catalog(catalog)
    from hvqbench.comparators import comparators_page

    typer.echo(comparators_page(), nl=False)


@app.command("datasets")
def ls_datasets(json: Json = False, catalog: CatalogOption = None) -> None:
    """List the data sets."""
    use_catalog(catalog)
    from hvqbench.listing import list_datasets

    _print_listing(list_datasets(), json, problem="")


@app.command("metrics")
def ls_metrics(json: Json = False) -> None:
    """List the metrics."""
    from hvqbench.listing import list_metrics

    _print_listing(list_metrics(), json)


def _print_listing(entries: list[dict[str, Any]], as_json: bool, problem: str = "cannot run here: ") -> None:
    if as_json:
        from json import dumps

        typer.echo(dumps(entries, indent=2))
        return
    width = max((len(entry["id"]) for entry in entries), default=0)
    for entry in entries:
        typer.echo(f"{entry['id']:<{width}}  {entry['summary']}")
        typer.echo(f"{'':<{width}}  {'ready' if entry['ready'] else problem + entry['reason']}")
