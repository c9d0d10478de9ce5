"""Codecs over a data set: ``run``, ``bd``, ``report``, ``inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hvqbench.commands.options import (
    PLAIN,
    CatalogOption,
    Codecs,
    Device,
    Json,
    Results,
    given,
    numbers,
    split,
    use_catalog,
)
from hvqbench.errors import HvqbenchError

app = typer.Typer(**PLAIN)
SmallSets = Annotated[bool, typer.Option("--small-sets", help="FID and KID of sets too small for them, too.")]


@app.command()
def run(
    codec: Codecs,
    dataset: Annotated[str, typer.Option("--dataset", help="A data set's id, or a folder of images.")],
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Metric ids; by default all that run.")] = None,
    points: Annotated[list[str] | None, typer.Option("--points", help="Points, instead of the codec's ladder.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")] = None,
    results: Results = Path("results"),
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Images at once; above 1 no speed is shown.")] = 1,
    rerun: Annotated[str, typer.Option("--rerun", help="What to measure: missing, failed, all or never.")] = "missing",
    timing: Annotated[bool, typer.Option("--timing", help="Measure time and memory, instead of quality.")] = False,
    repeats: Annotated[int | None, typer.Option("--repeats", min=1, help="How often to time each call; 3.")] = None,
    small_sets: SmallSets = False,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Run codecs over a data set. Run it again to resume."""
    use_catalog(catalog)
    if timing:
        if jobs > 1:
            raise HvqbenchError(f"--timing with --jobs {jobs}: calls side by side are no speed; leave --jobs out")
        if metric or rerun != "missing":
            raise HvqbenchError("--timing measures all times anew, and no quality: leave --metric and --rerun out")
        _time(codec, dataset, points, limit=limit, results=results, device=device, **given(repeats=repeats))
    if repeats:
        raise HvqbenchError("--repeats is how often --timing times each call: add --timing, or leave it out")
    from hvqbench.bench import run as run_codecs
    from hvqbench.bench.summary import exit_code, summarize

    rows = run_codecs(
        split(codec, "codec"),
        dataset,
        metrics=split(metric, "metric") if metric else None,
        points=numbers(points) if points else None,
        results=results,
        jobs=jobs,
        rerun=rerun,  # type: ignore[arg-type]
        device=device,
        limit=limit,
        small_sets=small_sets,
    )
    typer.echo(summarize(rows))
    raise typer.Exit(exit_code(rows))


@app.command()
def score(
    metric: Annotated[list[str], typer.Option("--metric", help="Metric ids; commas or repeat.")],
    results: Results = Path("results"),
    codec: Annotated[list[str] | None, typer.Option("--codec", help="Only these codecs.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", help="Only these: ids, or folders run over.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Images at once.")] = 1,
    small_sets: SmallSets = False,
    catalog: CatalogOption = None,
) -> None:
    """New metrics for old results, from the kept bitstreams: nothing is encoded. Run it again to resume."""
    use_catalog(catalog)
    from hvqbench.bench.score import score as score_results
    from hvqbench.bench.summary import exit_code, summarize

    scored = score_results(
        split(metric, "metric"),
        results,
        codecs=split(codec, "codec") if codec else None,
        datasets=split(dataset, "dataset") if dataset else None,
        jobs=jobs,
        small_sets=small_sets,
    )
    for name, rows in scored.rows.groupby("dataset") if len(scored.rows) else ():
        typer.echo(f"{name}\n\n{summarize(rows)}\n")
    for line in scored.left_out:
        typer.echo(f"left out: {line}")
    raise typer.Exit(1 if scored.left_out or scored.rows.empty else exit_code(scored.rows))


def _time(codec: list[str], dataset: str, points: list[str] | None, **options: Any) -> None:
    from hvqbench.bench.summary import exit_code, summarize_timing
    from hvqbench.bench.timing import time_codecs

    chosen = numbers(points) if points else None
    rows = time_codecs(split(codec, "codec"), dataset, points=chosen, **options)
    typer.echo(summarize_timing(rows))
    raise typer.Exit(exit_code(rows))


@app.command()
def bd(
    anchor: Annotated[str, typer.Option("--anchor", help="The codec to compare with; published:NAME too.")],
    metric: Annotated[list[str], typer.Option("--metric", help="Metric ids; commas or repeat.")],
    codec: Annotated[list[str] | None, typer.Option("--codec", help="Only these; published:NAME too.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only this data set.")] = None,
    method: Annotated[str, typer.Option("--method", help="Interpolation: akima, pchip or cubic.")] = "akima",
    results: Results = Path("results"),
    json: Json = False,
    catalog: CatalogOption = None,
) -> None:
    """BD-rate: the change of rate at equal quality. With published curves: of their means."""
    use_catalog(catalog)
    from hvqbench.analysis.bd import bd_table
    from hvqbench.bench.store import read_results, to_frame
    from hvqbench.curves import find_published, is_published
    from hvqbench.errors import did_you_mean

    chosen = split(codec, "codec") if codec else []
    published = find_published(name for name in chosen if is_published(name))
    measured = [name for name in chosen if not is_published(name)]
    no_results = chosen and not measured and is_published(anchor)
    rows = to_frame([]) if no_results else read_results(results)
    for name in measured:
        if name not in set(rows["codec"]):
            raise did_you_mean("codec", name, set(rows["codec"]))
    if chosen:
        rows = rows[rows["codec"].isin([*measured, anchor])]
    table = bd_table(rows, anchor, split(metric, "metric"), dataset, method, published)
    if table.empty:
        raise HvqbenchError(f"{results} has no codec to compare with {anchor!r}: run one more over the same images")
    typer.echo(table.to_json(orient="records", indent=2) if json else "\n".join(table["text"]))
    if table["bd_rate_percent"].isna().all():
        raise typer.Exit(1)


@app.command()
def report(
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option("--out", help="Folder for figures and tables.")] = Path("report"),
    anchor: Annotated[
        str | None, typer.Option("--anchor", help="The codec that BD-rates are against; published:NAME too.")
    ] = None,
    published: Annotated[
        list[str] | None, typer.Option("--published", help="Published curves to show as well; commas or repeat.")
    ] = None,
    catalog: CatalogOption = None,
) -> None:
    """Rate-distortion figures and tables from results."""
    use_catalog(catalog)
    from hvqbench.bench import read_results
    from hvqbench.report import make_report

    names = split(published, "published") if published else []
    files = make_report(read_results(results), out, anchor, names)
    typer.echo("\n".join(str(path) for path in (files.markdown, *files.figures, *files.tables)))


@app.command()
def inspect(
    codec: Codecs,
    dataset: Annotated[str, typer.Option("--dataset", help="A data set's id, or a folder of images.")],
    point: Annotated[float, typer.Option("--point", min=0, help="L at which the indices are chosen.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for tables, figures and maps of the bits.")] = None,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """VQ codecs' indices: use of the codebook, and what they cost under which code."""
    use_catalog(catalog)
    from hvqbench.report.indices import inspect_codecs

    typer.echo(inspect_codecs(split(codec, "codec"), dataset, point, limit, out, device), nl=False)
