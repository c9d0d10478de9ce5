"""Codecs over a data set: ``run``, ``score``, ``inspect``."""

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
    amounts,
    given,
    numbers,
    split,
    use_catalog,
)
from hvqbench.errors import HvqbenchError

app = typer.Typer(**PLAIN)
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", help="Seconds for one image in an encoder, decoder or metric; default: 14400."),
]
SmallSets = Annotated[
    bool, typer.Option("--small-sets", help="FID and KID also of sets of too few images: such values are biased.")
]


@app.command()
def run(
    codec: Codecs,
    dataset: Annotated[str, typer.Option("--dataset", help="A data set's id, or a folder of images.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Metric ids; default: all that can run here.")
    ] = None,
    points: Annotated[
        list[str] | None,
        typer.Option(
            "--points", "--point", help="Operating points; default: a codec's @POINTS, or its own list of points."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")] = None,
    results: Results = Path("results"),
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Images at once; above 1 no speeds are reported.")] = 1,
    rerun: Annotated[str, typer.Option("--rerun", help="What to measure: missing, failed, all or never.")] = "missing",
    timing: Annotated[bool, typer.Option("--timing", help="Measure time and memory, instead of quality.")] = False,
    repeats: Annotated[int | None, typer.Option("--repeats", min=1, help="Timings of each call; default: 3.")] = None,
    small_sets: SmallSets = False,
    executor: Annotated[str, typer.Option("--executor", help="Where jobs run: local, or ray, a cluster.")] = "local",
    address: Annotated[str | None, typer.Option("--address", help="Address of the Ray cluster, HOST:PORT.")] = None,
    per_job: Annotated[str | None, typer.Option("--per-job", help="A job's share: cpu=1,gpu=0,memory=0 (GB).")] = None,
    timeout: Timeout = None,
    json: Json = False,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Run codecs over a data set. Run it again to resume."""
    use_catalog(catalog)
    if timing:
        if json:
            raise HvqbenchError("--timing prints a table alone: leave --json out, and read the times with read_timing")
        if jobs > 1:
            raise HvqbenchError(
                f"--timing with --jobs {jobs}: calls that run side by side cannot be timed; leave out --jobs"
            )
        if executor != "local":
            raise HvqbenchError("--timing measures this machine: leave --executor out, and run it on each machine")
        if metric or rerun != "missing":
            raise HvqbenchError("--timing measures all times anew, and no quality: leave --metric and --rerun out")
        options = given(repeats=repeats, timeout_s=timeout)
        _time(codec, dataset, points, limit=limit, results=results, device=device, **options)
    if repeats:
        raise HvqbenchError("--repeats is how often --timing times each call: add --timing, or leave it out")
    from hvqbench.bench import run as run_codecs
    from hvqbench.report.summary import exit_code, summarize, summary_json

    rows = run_codecs(
        split(codec, "codec"),
        dataset,
        metrics=split(metric, "metric") if metric else None,
        points=numbers(points) if points else None,
        results=results,
        jobs=jobs,
        rerun=rerun,
        device=device,
        limit=limit,
        small_sets=small_sets,
        executor=executor,
        address=address,
        per_job=amounts(per_job) if per_job else None,
        **given(timeout_s=timeout),
    )
    typer.echo(summary_json(rows) if json else summarize(rows))
    raise typer.Exit(exit_code(rows))


@app.command()
def score(
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Metric ids; commas or repeat.")] = None,
    results: Results = Path("results"),
    codec: Annotated[list[str] | None, typer.Option("--codec", help="Only these codecs.")] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            help="Only results on these data sets: ids, or folders. With pictures of others: their originals.",
        ),
    ] = None,
    reconstructions: Annotated[
        Path | None, typer.Option("--reconstructions", help="Folder of pictures that others decoded, as a new codec.")
    ] = None,
    sizes: Annotated[
        Path | None, typer.Option("--sizes", help="CSV of their bytes: image,bytes[,point][,file].")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The new codec's name.")] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", help="What those bytes are: file, payload, estimated, nominal, unknown.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Images at once.")] = 1,
    small_sets: SmallSets = False,
    timeout: Timeout = None,
    catalog: CatalogOption = None,
) -> None:
    """New metrics for old results, or pictures of others as new results: nothing is encoded. Run it again to resume."""
    use_catalog(catalog)
    from hvqbench.report.summary import exit_code, summarize

    names = split(metric, "metric") if metric else None
    datasets = split(dataset, "dataset") if dataset else None
    options: dict[str, Any] = {"results": results, "jobs": jobs, "small_sets": small_sets}
    if reconstructions is None:
        from hvqbench.bench.score import score as score_results

        if sizes or name or rate:
            raise HvqbenchError("--sizes, --name and --rate are of pictures: name their folder, --reconstructions DIR")
        if names is None:
            raise HvqbenchError("no metric to add: name one with --metric, or pictures to score with --reconstructions")
        scored = score_results(
            names,
            codecs=split(codec, "codec") if codec else None,
            datasets=datasets,
            **options,
            **given(timeout_s=timeout),
        )
    else:
        from hvqbench.bench.reconstructions import score_reconstructions

        if sizes is None or name is None or datasets is None or len(datasets) != 1 or codec:
            needed = "--sizes FILE, --name CODEC and one --dataset, and no --codec"
            raise HvqbenchError(f"--reconstructions {reconstructions} needs {needed}")
        options["rate"] = rate
        scored = score_reconstructions(reconstructions, sizes, name, datasets[0], metrics=names, **options)
    for place, rows in scored.rows.groupby("dataset") if len(scored.rows) else ():
        typer.echo(f"{place}\n\n{summarize(rows)}\n")
    for line in scored.left_out:
        typer.echo(f"left out: {line}")
    for line in scored.notes:
        typer.echo(f"note: {line}")
    raise typer.Exit(1 if scored.left_out or scored.rows.empty else exit_code(scored.rows))


def _time(codec: list[str], dataset: str, points: list[str] | None, **options: Any) -> None:
    from hvqbench.bench.timing import time_codecs
    from hvqbench.report.summary import exit_code, summarize_timing

    chosen = numbers(points) if points else None
    rows = time_codecs(split(codec, "codec"), dataset, points=chosen, **options)
    typer.echo(summarize_timing(rows))
    raise typer.Exit(exit_code(rows))


@app.command()
def inspect(
    codec: Codecs,
    dataset: Annotated[str, typer.Option("--dataset", help="A data set's id, or a folder of images.")],
    point: Annotated[float, typer.Option("--point", min=0, help="L at which the indices are chosen.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for tables, figures and maps of the bits.")] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="Beside them, maps of where a metric sees a difference: lpips-alex, lpips-vgg, dists."
        ),
    ] = None,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """VQ codecs' indices: use of the codebook, and what they cost under which code."""
    use_catalog(catalog)
    from hvqbench.report.indices import inspect_codecs

    of_metrics = split(maps, "map") if maps else []
    typer.echo(inspect_codecs(split(codec, "codec"), dataset, point, limit, out, device, of_metrics), nl=False)
