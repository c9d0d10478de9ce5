"""``store compact`` and ``store rm``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Results, numbers, split, use_catalog
from hvqbench.errors import HvqbenchError, say

app = typer.Typer(help="Look after the folder of the results.", **PLAIN)


@app.command()
def compact(
    results: Results = Path("results"),
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only this data set.")] = None,
) -> None:
    """Merge the files of each data set and codec into one: nothing is lost, and reading is faster."""
    from hvqbench.bench.store import Store

    done = Store(results).compact(dataset)
    if not done.files:
        raise HvqbenchError(f"no results in {str(results)!r}: run `hvqbench run` first, or name its folder (--results)")
    before, after = (f"{count} files, {size / 1e6:.1f} MB" for count, size in done.sizes)
    typer.echo(f"{before} -> {after}")
    if done.problem:
        raise HvqbenchError(done.problem)


@app.command("rm")
def rm(
    results: Results = Path("results"),
    codec: Annotated[
        list[str] | None, typer.Option("--codec", help="Rows of these codecs; with @POINTS, only at these points.")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="Rows of these data sets.")] = None,
    points: Annotated[
        list[str] | None, typer.Option("--points", "--point", help="Only rows at these points; commas or repeat.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it, only list what would go.")] = False,
    catalog: CatalogOption = None,
) -> None:
    """Remove rows of codecs, data sets or points, and the bitstreams that only they have."""
    use_catalog(catalog)
    from hvqbench.bench.removal import remove

    codecs, datasets = split(codec, "codec") if codec else [], split(dataset, "dataset") if dataset else []
    removal = remove(results, codecs, datasets, numbers(points) if points else (), only_look=not yes)
    typer.echo(removal.text)
    if not yes:
        say("nothing was removed: add --yes to the same command")
