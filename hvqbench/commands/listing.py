"""``hvqbench ls``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Json, use_catalog
from hvqbench.errors import did_you_mean, say

app = typer.Typer(help="List what there is, and whether it can run here.", **PLAIN)

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these; * matches.")]
Ready = Annotated[bool, typer.Option("--ready", help="Only what can run here.")]
Reasons = Annotated[bool, typer.Option("--reasons", help="Also why the others cannot, and what to do.")]

Listing = list[dict[str, Any]]


@app.command("codecs")
def ls_codecs(
    codecs: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these ids or tags (classic, vq); * matches.")
    ] = None,
    ready: Ready = False,
    reasons: Reasons = False,
    json: Json = False,
    catalog: CatalogOption = None,
) -> None:
    """List the codecs, one a line."""
    use_catalog(catalog)
    from hvqbench.listing import list_codecs

    _print(_chosen(list_codecs(), "codec", codecs, ready), reasons, json)


@app.command("comparators")
def ls_comparators(catalog: CatalogOption = None) -> None:
    """Write the table of all that a result can be compared with, as Markdown."""
    use_catalog(catalog)
    from hvqbench.comparators import comparators_page

    typer.echo(comparators_page(), nl=False)


@app.command("datasets")
def ls_datasets(
    datasets: Names = None,
    ready: Ready = False,
    reasons: Reasons = False,
    json: Json = False,
    catalog: CatalogOption = None,
) -> None:
    """List the data sets, one a line."""
    use_catalog(catalog)
    from hvqbench.listing import list_datasets

    _print(_chosen(list_datasets(), "dataset", datasets, ready), reasons, json)


@app.command("metrics")
def ls_metrics(metrics: Names = None, ready: Ready = False, reasons: Reasons = False, json: Json = False) -> None:
    """List the metrics, one a line."""
    from hvqbench.listing import list_metrics

    _print(_chosen(list_metrics(), "metric", metrics, ready), reasons, json)


def _chosen(entries: Listing, kind: str, names: Sequence[str] | None, ready: bool) -> Listing:
    """The entries whose id or tag one of *names* matches.

    Raises
    ------
    HvqbenchError
        A name that matches none.
    """
    for name in names or ():
        if not any(_matches(entry, name) for entry in entries):
            raise did_you_mean(kind, name, [entry["id"] for entry in entries])
    named = [entry for entry in entries if not names or any(_matches(entry, name) for name in names)]
    return [entry for entry in named if entry["ready"] or not ready]


def _matches(entry: dict[str, Any], name: str) -> bool:
    return fnmatchcase(entry["id"], name) or name in entry.get("tags", ())


def _print(entries: Listing, reasons: bool, as_json: bool) -> None:
    if as_json:
        from json import dumps

        typer.echo(dumps(entries, indent=2))
        return
    width = max((len(entry["id"]) for entry in entries), default=0)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    reasons |= len(entries) == 1
    for entry in entries:
        size = entry.get("megabytes") if not entry["ready"] else 0
        summary = entry["summary"] + (f" ({size} MB to download)" if size else "")
        line = f"{entry['id']:<{width}}  {'ready' if entry['ready'] else '-':<5}  {summary}"
        typer.echo(line if len(line) <= columns else f"{line[: columns - 1]}…")
        if reasons and entry["reason"]:
            typer.echo(f"{'':<{width}}         {entry['reason']}")
    others = sum(not entry["ready"] for entry in entries)
    if others and not reasons:
        say(f"{others} not ready here (-): --reasons says why, and what to do")
