"""``store compact``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, Results
from hvqbench.errors import HvqbenchError

app = typer.Typer(help="The folder of the results.", **PLAIN)


@app.callback()
def _group() -> None:
    """Makes ``compact`` a command of its own, though it is the only one."""


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
