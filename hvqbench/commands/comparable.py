"""``comparable``: may two codecs' numbers stand side by side?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Json, Results, split, use_catalog

app = typer.Typer(**PLAIN)


@app.command()
def comparable(
    codec: Annotated[str, typer.Argument(metavar="CODEC", help="A codec that has results, or published:NAME.")],
    anchor: Annotated[
        str, typer.Argument(metavar="ANCHOR", help="What to compare it with: a codec, or published:NAME.")
    ],
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Only these metrics.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only this data set.")] = None,
    results: Results = Path("results"),
    json: Json = False,
    catalog: CatalogOption = None,
) -> None:
    """May I compare? Same images, same metric, real bytes, no resizing. Exit 0: yes, or with care; 1: no."""
    use_catalog(catalog)
    from hvqbench.analysis.comparable import judge_results

    found = judge_results(results, codec, anchor, split(metric, "metric") if metric else [], dataset)
    if json:
        import json as text

        typer.echo(text.dumps([one.record() for one in found], indent=2))
    else:
        typer.echo("\n".join(one.text for one in found))
    raise typer.Exit(int(all(one.verdict == "no" for one in found)))
