"""The command line. A command parses, calls one library function, and prints.

Results go to stdout, progress and errors to stderr. Exit codes: 0 fine; 1 rows failed, or nothing could run; 2 an error
that the user can mend, told in one line; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hvqbench.errors import HvqbenchError

# Plain help: rich's takes longer to import than a command should take to answer.
OPTIONS: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}
app = typer.Typer(help="Benchmark for generative image compression.", pretty_exceptions_enable=False, **OPTIONS)
ls_app = typer.Typer(help="What there is, and whether it can run here.", **OPTIONS)
train_app = typer.Typer(help="Train the VQ codec.", **OPTIONS)
app.add_typer(ls_app, name="ls")
app.add_typer(train_app, name="train")

Codecs = Annotated[list[str], typer.Option("--codec", help="Codec ids or paths of codec.toml; commas or repeat.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of the results.")]
Device = Annotated[str, typer.Option("--device", help="Where codecs run: cpu, cuda, ...")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CatalogOption = Annotated[
    Path | None, typer.Option("--catalog", help="A folder with your codecs/, datasets/, reports/.")
]


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command ``hvqbench``."""
    try:
        app(args=arguments, prog_name="hvqbench")
    except HvqbenchError as error:
        _fail(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}; check the path, its permissions and the free space")
    except KeyboardInterrupt:
        sys.stderr.write("hvqbench: interrupted\n")
        sys.exit(130)


def _fail(message: str) -> None:
    sys.stderr.write(f"hvqbench: {' '.join(message.split())}\n")
    sys.exit(2)


def _version(value: bool) -> None:
    if value:
        import hvqbench

        typer.echo(f"hvqbench {hvqbench.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
    catalog: CatalogOption = None,
) -> None:
    _use_catalog(catalog)


@ls_app.command("codecs")
def ls_codecs(json: Json = False, catalog: CatalogOption = None) -> None:
    """List the codecs."""
    _use_catalog(catalog)
    from hvqbench.listing import list_codecs

    _print_listing(list_codecs(), json)


@ls_app.command("datasets")
def ls_datasets(json: Json = False, catalog: CatalogOption = None) -> None:
    """List the data sets."""
    _use_catalog(catalog)
    from hvqbench.listing import list_datasets

    _print_listing(list_datasets(), json, problem="")


@ls_app.command("metrics")
def ls_metrics(json: Json = False) -> None:
    """List the metrics."""
    from hvqbench.listing import list_metrics

    _print_listing(list_metrics(), json)


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
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Run codecs over a data set. Run it again to resume."""
    _use_catalog(catalog)
    if timing:
        if jobs > 1:
            raise HvqbenchError(f"--timing with --jobs {jobs}: calls side by side are no speed; leave --jobs out")
        if metric or rerun != "missing":
            raise HvqbenchError("--timing measures all times anew, and no quality: leave --metric and --rerun out")
        _time(codec, dataset, points, limit=limit, results=results, device=device, **_given(repeats=repeats))
    if repeats:
        raise HvqbenchError("--repeats is how often --timing times each call: add --timing, or leave it out")
    from hvqbench.bench import run as run_codecs
    from hvqbench.bench.summary import exit_code, summarize

    rows = run_codecs(
        _split(codec, "codec"),
        dataset,
        metrics=_split(metric, "metric") if metric else None,
        points=_numbers(points) if points else None,
        results=results,
        jobs=jobs,
        rerun=rerun,  # type: ignore[arg-type]
        device=device,
        limit=limit,
    )
    typer.echo(summarize(rows))
    raise typer.Exit(exit_code(rows))


def _time(codec: list[str], dataset: str, points: list[str] | None, **options: Any) -> None:
    from hvqbench.bench.summary import exit_code, summarize_timing
    from hvqbench.bench.timing import time_codecs

    chosen = _numbers(points) if points else None
    rows = time_codecs(_split(codec, "codec"), dataset, points=chosen, **options)
    typer.echo(summarize_timing(rows))
    raise typer.Exit(exit_code(rows))


@app.command()
def bd(
    anchor: Annotated[str, typer.Option("--anchor", help="The codec to compare with.")],
    metric: Annotated[list[str], typer.Option("--metric", help="Metric ids; commas or repeat.")],
    codec: Annotated[list[str] | None, typer.Option("--codec", help="Only these codecs.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only this data set.")] = None,
    method: Annotated[str, typer.Option("--method", help="Interpolation: akima, pchip or cubic.")] = "akima",
    results: Results = Path("results"),
    json: Json = False,
) -> None:
    """BD-rate: the change of rate at equal quality."""
    from hvqbench.analysis.bd import bd_table
    from hvqbench.bench import read_results
    from hvqbench.errors import did_you_mean

    rows = read_results(results)
    chosen = _split(codec, "codec") if codec else []
    for name in chosen:
        if name not in set(rows["codec"]):
            raise did_you_mean("codec", name, set(rows["codec"]))
    if chosen:
        rows = rows[rows["codec"].isin([*chosen, anchor])]
    table = bd_table(rows, anchor, _split(metric, "metric"), dataset, method)
    if table.empty:
        raise HvqbenchError(f"{results} has no codec to compare with {anchor!r}: run one more over the same images")
    typer.echo(table.to_json(orient="records", indent=2) if json else "\n".join(table["text"]))
    if table["bd_rate_percent"].isna().all():
        raise typer.Exit(1)


@app.command()
def report(
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option("--out", help="Folder for figures and tables.")] = Path("report"),
    anchor: Annotated[str | None, typer.Option("--anchor", help="The codec that BD-rates are against.")] = None,
) -> None:
    """Rate-distortion figures and tables from results."""
    from hvqbench.bench import read_results
    from hvqbench.report import make_report

    files = make_report(read_results(results), out, anchor)
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
    _use_catalog(catalog)
    from hvqbench.report.indices import inspect_codecs

    typer.echo(inspect_codecs(_split(codec, "codec"), dataset, point, limit, out, device), nl=False)


@app.command()
def compress(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An image.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The bitstream to write.")],
    codec: Annotated[str, typer.Option("--codec", help="Codec id or path of a codec.toml.")],
    point: Annotated[
        float | None, typer.Option("--point", help="Operating point; by default the ladder's first.")
    ] = None,
    weight: Annotated[
        float | None, typer.Option("--lambda", help="L of a VQ codec, distortion per bit: --point by that name.")
    ] = None,
    bpp: Annotated[float | None, typer.Option("--bpp", help="Bits per pixel: finds the point.")] = None,
    quality: Annotated[
        str | None, typer.Option("--quality", help="Like lpips-alex=0.2: finds the smallest stream at least as good.")
    ] = None,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Compress one image at a point, to a rate, or to a quality."""
    _use_catalog(catalog)
    from hvqbench.single import compress_file

    typer.echo(compress_file(source, target, codec, point, device, weight=weight, bpp=bpp, quality=quality))


@app.command()
def decompress(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A bitstream.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The PNG file to write.")],
    codec: Annotated[str, typer.Option("--codec", help="The codec that made the bitstream.")],
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Reconstruct one image."""
    _use_catalog(catalog)
    from hvqbench.single import decompress_file

    typer.echo(decompress_file(source, target, codec, device))


ConfigOption = Annotated[Path, typer.Option("--config", help="A train.toml.")]
DataOption = Annotated[Path, typer.Option("--data", help="A folder or zip archive of images.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder for checkpoints, log and weights; runs/<folder of the config>.")
]
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Steps, instead of the configuration's.")]


@train_app.command("tokenizer")
def train_tokenizer(
    config: ConfigOption, data: DataOption, out: OutOption = None, steps: StepsOption = None, device: Device = "cpu"
) -> None:
    """Train a VQ tokenizer: encoder, codebook and decoder. Run it again to resume."""
    from hvqbench import training

    typer.echo(training.train_tokenizer(config, data, _run_folder(config, out), device, **_given(steps=steps)))


@train_app.command("index-model")
def train_index_model(
    config: ConfigOption, data: DataOption, out: OutOption = None, steps: StepsOption = None, device: Device = "cpu"
) -> None:
    """Train an index model on a tokenizer's indices. Run it again to resume."""
    from hvqbench import training

    typer.echo(training.train_index_model(config, data, _run_folder(config, out), device, **_given(steps=steps)))


@app.command()
def ablate(
    specification: Annotated[Path, typer.Argument(metavar="SPEC", help="Variants, like reports/ablations.toml.")],
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for the variants and the table.")] = Path("runs/ablations"),
    dataset: Annotated[str | None, typer.Option("--dataset", help="Measure on this, not on the SPEC's.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only on the first so many images.")] = None,
    device: Device = "cpu",
) -> None:
    """Train variants of the VQ codec and compare them. Run it again to resume."""
    from hvqbench import training

    typer.echo(training.ablate(specification, data, out, dataset, limit, device).read_text(encoding="utf-8"), nl=False)


def _run_folder(config: Path, out: Path | None) -> Path:
    return out or Path("runs") / config.resolve().parent.name


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _use_catalog(folder: Path | None) -> None:
    """Through the environment, so that worker processes look there as well."""
    if folder is not None:
        from hvqbench.catalog import CATALOG_VARIABLE

        known = os.environ.get(CATALOG_VARIABLE)
        os.environ[CATALOG_VARIABLE] = os.pathsep.join(filter(None, [known, str(folder.resolve())]))


def _split(values: list[str], kind: str) -> list[str]:
    """``["a,b", "c"]`` as ``["a", "b", "c"]``; *kind* names them in the error if there is none."""
    parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
    if not parts:
        raise HvqbenchError(f"--{kind} names nothing: name at least one")
    return parts


def _numbers(values: list[str]) -> list[float]:
    numbers = []
    for part in _split(values, "points"):
        try:
            numbers.append(float(part))
        except ValueError:
            raise HvqbenchError(f"point {part!r} is no number; write them like --points 10,30,50") from None
    return numbers


def _print_listing(entries: list[dict[str, Any]], as_json: bool, problem: str = "cannot run here: ") -> None:
    if as_json:
        from json import dumps

        typer.echo(dumps(entries, indent=2))
        return
    width = max((len(entry["id"]) for entry in entries), default=0)
    for entry in entries:
        typer.echo(f"{entry['id']:<{width}}  {entry['summary']}")
        typer.echo(f"{'':<{width}}  {'ready' if entry['ready'] else problem + entry['reason']}")
