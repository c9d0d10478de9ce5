"""``curves ls``, ``curves import``, ``curves export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Json, Results, split, use_catalog
from hvqbench.errors import HvqbenchError

app = typer.Typer(help="Published curves: list, import and export them.", **PLAIN)


@app.command("ls")
def ls_curves(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these; * matches.")] = None,
    json: Json = False,
    catalog: CatalogOption = None,
) -> None:
    """List the published curves."""
    use_catalog(catalog)
    from hvqbench.curves.library import list_published

    entries = list_published(names or ["*"])
    if json:
        from json import dumps

        typer.echo(dumps(entries, indent=2))
        return
    width = max(len(entry["codec"]) for entry in entries)
    for entry in entries:
        rates = f"{entry['points']} points, {entry['lowest_bpp']:g} to {entry['highest_bpp']:g} bpp"
        rates += f", {entry['images']} images" if entry["images"] else ""
        typer.echo(f"{entry['codec']:<{width}}  {entry['dataset']}: {', '.join(entry['metrics'])}; {rates}")
        typer.echo(f"{'':<{width}}  {entry['source']} {entry['commit']} ({entry['protocol']})")


@app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of another tool.")],
    source: Annotated[str, typer.Option("--source", help="Where the numbers stand: repository and file, or paper.")],
    commit: Annotated[str, typer.Option("--commit", help="Commit of the repository.")] = "",
    protocol: Annotated[
        str, typer.Option("--protocol", help="What the bits are: file, payload, estimated, nominal; a colon; words.")
    ] = "unknown",
    codec: Annotated[str | None, typer.Option("--codec", help="The codec's id, instead of the file's.")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="The data set's id, where the files do not say it.")
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=METRIC", help="Which metric a name in a file stands for; repeat."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file to write; default: standard output.")] = None,
) -> None:
    """Turn curves of CompressAI, tensorflow/compression or codec-compare into CSV for reports/curves/."""
    from hvqbench.curves.exchange import import_curves
    from hvqbench.files import atomic_write

    pairs = [name.partition("=") for name in names or []]
    if wrong := [name for name, equals, metric in pairs if not (name and equals and metric)]:
        raise HvqbenchError(f"--map {wrong[0]!r} is no NAME=METRIC: write it like --map lpips=lpips-alex")
    maps = {name: metric for name, _, metric in pairs}
    text = import_curves(files, source, codec=codec, dataset=dataset, commit=commit, protocol=protocol, names=maps)
    if out is None:
        typer.echo(text, nl=False)
    elif out.exists():
        raise HvqbenchError(f"{out} exists: choose another --out, or remove it")
    else:
        atomic_write(out, text.encode())
        typer.echo(out)


@app.command("export")
def export_files(
    codec: Annotated[list[str], typer.Option("--codec", help="Measured codecs, or published:NAME; commas or repeat.")],
    kind: Annotated[str, typer.Option("--format", help="csv, compressai, tensorflow or codec-compare.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write into.")],
    dataset: Annotated[str | None, typer.Option("--dataset", help="The data set; needed if there are several.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Metric ids; default: all there are.")] = None,
    results: Results = Path("results"),
    catalog: CatalogOption = None,
) -> None:
    """Write curves for another tool, from results or from published curves."""
    use_catalog(catalog)
    from hvqbench.bench import read_results
    from hvqbench.curves import is_published
    from hvqbench.curves.exchange import export_curves

    codecs = split(codec, "codec")
    rows = None if all(map(is_published, codecs)) else read_results(results)
    metrics = split(metric, "metric") if metric else None
    typer.echo("\n".join(str(path) for path in export_curves(codecs, kind, out, rows, dataset, metrics)))
