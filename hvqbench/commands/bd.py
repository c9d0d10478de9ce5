"""Codecs compared at equal quality: ``bd``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Json, Results, split, use_catalog
from hvqbench.errors import HvqbenchError

app = typer.Typer(**PLAIN)


@app.command()
def bd(
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Metric ids; commas or repeat; required.")
    ] = None,
    anchor: Annotated[
        str | None, typer.Option("--anchor", help="The codec to compare with; published:NAME too.")
    ] = None,
    codec: Annotated[list[str] | None, typer.Option("--codec", help="Only these; published:NAME too.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only this data set.")] = None,
    method: Annotated[str, typer.Option("--method", help="Interpolation: akima, pchip or cubic.")] = "akima",
    per_image: Annotated[bool, typer.Option("--per-image", help="Image by image, and three averages.")] = False,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Codecs by metrics; all against all without anchor.")
    ] = False,
    gap: Annotated[bool, typer.Option("--gap", help="Each point's rate over the anchor's curve.")] = False,
    at_rate: Annotated[bool, typer.Option("--at-rate", help="Change of the metric at equal rate.")] = False,
    figure: Annotated[Path | None, typer.Option("--figure", help="File for a figure of rate over quality.")] = None,
    results: Results = Path("results"),
    json: Json = False,
    catalog: CatalogOption = None,
) -> None:
    """BD-rate: the change of rate at equal quality. With published curves: of their means."""
    use_catalog(catalog)
    from hvqbench.report.views import Comparison

    if per_image + matrix + gap + at_rate + (figure is not None) > 1:
        raise HvqbenchError("--per-image, --matrix, --gap, --at-rate and --figure are views of their own: give one")
    if metric is None:
        raise _no_metric(results)
    pairs = Comparison(
        results, anchor, split(metric, "metric"), split(codec, "codec") if codec else (), dataset, method
    )
    if figure is not None:
        view = pairs.over_quality(figure)
    elif per_image:
        view = pairs.images()
    elif matrix:
        view = pairs.matrix()
    elif gap:
        view = pairs.gaps()
    elif at_rate:
        view = pairs.at_rate()
    else:
        view = pairs.rates()
    typer.echo(view.json if json else view.text)
    if view.nothing:
        raise typer.Exit(1)


def _no_metric(results: Path) -> HvqbenchError:
    """Which metrics *results* could be compared in."""
    from hvqbench.analysis.baseline import metrics_of
    from hvqbench.bench.reading import read_results

    rows = read_results(results, columns={"metrics", "status"})
    known = metrics_of(rows) if len(rows) else []
    remedy = f"name one of those that {str(results)!r} has: {', '.join(known)}" if known else "name one, like psnr"
    return HvqbenchError(f"bd needs --metric, what quality is measured by: {remedy}")
