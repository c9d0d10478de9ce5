"""``hvqbench fetch``."""

from __future__ import annotations

from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, use_catalog

app = typer.Typer(**PLAIN)


@app.command()
def fetch(
    codecs: Annotated[list[str], typer.Argument(metavar="CODEC...", help="Codec ids or paths of codec.toml.")],
    trust_repo: Annotated[
        bool, typer.Option("--trust-repo", help="Also fetch code that the codec runs, from where its codec.toml says.")
    ] = False,
    catalog: CatalogOption = None,
) -> None:
    """Download what codecs need and do not find here: weights, and code that you trust."""
    use_catalog(catalog)
    from hvqbench.catalog import load_codec

    for name in codecs:
        codec = load_codec(name)
        codec.fetch(trust_repo)
        typer.echo(f"{codec.id}: {codec.unavailable() or 'ready'}")
