"""Options that several commands share, and what reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from hvqbench.commands.groups import PLAIN
from hvqbench.errors import HvqbenchError

__all__ = [
    "PLAIN",
    "CatalogOption",
    "Codecs",
    "Device",
    "Json",
    "Limit",
    "Results",
    "amounts",
    "given",
    "numbers",
    "split",
    "use_catalog",
]

Codecs = Annotated[
    list[str], typer.Option("--codec", help="Codec ids, tags (classic) or paths of codec.toml; commas or repeat.")
]
Results = Annotated[Path, typer.Option("--results", help="Folder of the results.")]
Device = Annotated[str, typer.Option("--device", help="Where codecs run: cpu, cuda, ...")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CatalogOption = Annotated[
    Path | None, typer.Option("--catalog", help="A folder with your codecs/, datasets/, reports/.")
]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def use_catalog(folder: Path | None) -> None:
    """Through the environment, so that worker processes look there as well. Several are joined as in ``PATH``."""
    if folder is not None:
        from hvqbench.catalog import CATALOG_VARIABLE

        known = os.environ.get(CATALOG_VARIABLE, "").split(os.pathsep)
        new = [str(Path(part).resolve()) for part in str(folder).split(os.pathsep)]
        os.environ[CATALOG_VARIABLE] = os.pathsep.join(filter(None, dict.fromkeys([*known, *new])))


def split(values: list[str], kind: str) -> list[str]:
    """``["a,b", "c"]`` as ``["a", "b", "c"]``; *kind* names them in the error if there is none.

    Of metrics, ids: ``lpips`` is short for ``lpips-alex`` in every command.
    """
    parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
    if not parts:
        raise HvqbenchError(f"--{kind} names nothing: name at least one")
    if kind == "metric":
        from hvqbench.metrics import metric_id

        return list(dict.fromkeys(map(metric_id, parts)))
    return parts


def numbers(values: list[str]) -> list[float]:
    numbers = []
    for part in split(values, "points"):
        try:
            numbers.append(float(part))
        except ValueError:
            raise HvqbenchError(f"point {part!r} is not a number; write them like --points 10,30,50") from None
    return numbers


def amounts(text: str) -> dict[str, float]:
    """``"cpu=4,memory=16"`` as a mapping."""
    found = {}
    for part in split([text], "per-job"):
        name, _, number = part.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise HvqbenchError(f"--per-job {text!r} is not a list of amounts; write cpu=4,gpu=1,memory=16") from None
    return found
