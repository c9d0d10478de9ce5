"""``hvqbench match``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Codecs, Device, Json, split, use_catalog
from hvqbench.errors import HvqbenchError

app = typer.Typer(**PLAIN)


@app.command()
def match(
    codec: Codecs,
    metric: Annotated[str, typer.Option("--metric", help="The target: bpp=0.1, or a metric like lpips-alex=0.2.")],
    dataset: Annotated[str | None, typer.Option("--dataset", help="A data set's id, or a folder of images.")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="One image.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for streams, pictures and the table.")] = Path("match"),
    json: Json = False,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Bring codecs to the same rate or quality on each image, for like-for-like pictures."""
    use_catalog(catalog)
    from hvqbench import matching
    from hvqbench.rate_control import Target

    source = dataset if dataset is not None else image
    if source is None or None not in (dataset, image):
        raise HvqbenchError("name the images: either --dataset or --image")
    target, names = Target.parse(metric), split(codec, "codec")
    matches = matching.match(names, target, source, out, limit=limit, device=device)
    if json:
        typer.echo((out / matching.RECORDS).read_text(encoding="utf-8"), nl=False)
    else:
        typer.echo(matching.as_table(matches, target))
        typer.echo(f"\nstreams and pictures in {out}, the table in {out / matching.TABLE}")
    statuses = {found.status for found in matches}
    raise typer.Exit(int("failed" in statuses or not statuses & {"ok", "missed"}))
