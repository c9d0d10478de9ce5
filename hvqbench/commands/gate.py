"""Regressions: ``check``, ``baseline save``, ``history``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Device, Json, Results, split, use_catalog
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_write
from hvqbench.scratch import scratch_folder

app = typer.Typer(**PLAIN)
baselines = typer.Typer(help="Save results to compare with later.", **PLAIN)
app.add_typer(baselines, name="baseline")
FOLDER = Path("reports") / "baselines"
Names = list[str] | None


@baselines.callback()
def _baselines() -> None:
    """So that ``save`` stays a command of its own, though it is the only one."""


@app.command()
def check(
    baseline: Annotated[str, typer.Option("--baseline", help="The baseline: its file, or its name.")],
    results: Annotated[
        Path | None, typer.Option("--results", help="Compare these results; default: the codecs are run.")
    ] = None,
    tolerance: Annotated[str, typer.Option("--tolerance", help="Up to this much worse is fine.")] = "0.5%",
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Also write Markdown, for a pull request.")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Images at once.")] = 1,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Compare with a saved baseline. Exit 0: fine; 1: worse; 2: not measured."""
    use_catalog(catalog)
    from hvqbench.analysis.baseline import read_baseline
    from hvqbench.analysis.gate import check as check_results
    from hvqbench.analysis.gate_report import to_junit, to_markdown, to_text
    from hvqbench.bench.again import run_again
    from hvqbench.bench.reading import read_results

    allowed, saved = _percent(tolerance), read_baseline(baseline)
    if results is not None:
        report = check_results(saved, read_results(results), allowed)
    else:
        with scratch_folder() as folder:
            run_again(saved.rows, saved.metrics, folder, jobs, device)
            report = check_results(saved, read_results(folder), allowed)
    typer.echo(to_text(report))
    if markdown:
        _write(markdown, to_markdown(report))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(to_markdown(report))
    if junit:
        _write(junit, to_junit(report))
    raise typer.Exit(report.exit_code)


@baselines.command()
def save(
    name: Annotated[str, typer.Argument(help="Name of the baseline; an older one of that name is replaced.")],
    results: Results = Path("results"),
    codec: Annotated[Names, typer.Option("--codec", help="Only these; commas or repeat.")] = None,
    dataset: Annotated[Names, typer.Option("--dataset", help="Only these; commas or repeat.")] = None,
    exact: Annotated[
        Names, typer.Option("--exact", help="Codecs whose bitstreams must stay the same, or none; default: all.")
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Folder of the baselines.")] = FOLDER,
    catalog: CatalogOption = None,
) -> None:
    """Save results as a baseline: bytes, metrics and digests, no times."""
    use_catalog(catalog)
    from hvqbench.analysis.baseline import save_baseline
    from hvqbench.bench.reading import read_results

    if Path(name).name != name or not name:
        raise HvqbenchError(f"{name!r} is not a name for a file: use letters, digits, dots and dashes")
    held = None if exact is None else [one for one in split(exact, "exact") if one != "none"]
    chosen = {
        "codecs": split(codec, "codec") if codec else (),
        "datasets": split(dataset, "dataset") if dataset else (),
    }
    path = folder / f"{name}.parquet"
    saved = save_baseline(read_results(results), path, exact=held, **chosen)
    codecs = ", ".join(saved.rows["codec"].unique())
    typer.echo(f"{path}: {len(saved.rows)} rows of {codecs}; metrics {', '.join(saved.metrics) or 'none'}")
    typer.echo(f"{path.with_suffix('.csv')}: the same as text, for the diff; commit both")


@app.command()
def history(
    baseline: Annotated[Names, typer.Option("--baseline", help="Files or names; default: all in --folder.")] = None,
    metric: Annotated[Names, typer.Option("--metric", help="Only these; commas or repeat.")] = None,
    codec: Annotated[Names, typer.Option("--codec", help="Only these; commas or repeat.")] = None,
    anchor: Annotated[
        str | None, typer.Option("--anchor", help="A codec of the same baseline, instead of the codec's first.")
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="File for a figure, like history.png.")] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Folder of the baselines.")] = FOLDER,
    json: Json = False,
    catalog: CatalogOption = None,
) -> None:
    """BD-rate over saved baselines, oldest first."""
    use_catalog(catalog)
    from hvqbench.analysis.baseline import read_baseline
    from hvqbench.report.history import history_table, history_text, save_history_figure

    names = split(baseline, "baseline") if baseline else sorted(str(path) for path in folder.glob("*.parquet"))
    metrics, codecs = split(metric, "metric") if metric else [], split(codec, "codec") if codec else []
    table = history_table([read_baseline(name) for name in names], metrics, codecs, anchor)
    if table.empty:
        raise HvqbenchError("the baselines have nothing of that: leave out --metric, --codec or --anchor")
    typer.echo(table.to_json(orient="records", indent=2) if json else history_text(table))
    if figure:
        typer.echo(save_history_figure(table, figure))


def _percent(text: str) -> float:
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise HvqbenchError(f"tolerance {text!r} is not a share of zero or more: write it like --tolerance 0.5%")
    return value


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text.encode())
