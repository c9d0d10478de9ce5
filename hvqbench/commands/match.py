"""``hvqbench match``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Codecs, Device, Json, Limit, split, use_catalog
from hvqbench.errors import HvqbenchError, say

app = typer.Typer(**PLAIN)


@app.command()
def match(
    codec: Codecs,
    dataset: Annotated[str, typer.Option("--dataset", help="A data set's id, a folder of images, or an image.")],
    bpp: Annotated[float | None, typer.Option("--bpp", help="The rate to meet.")] = None,
    quality: Annotated[
        str | None, typer.Option("--quality", help="The quality to meet with the fewest bytes, like lpips-alex=0.2.")
    ] = None,
    image: Annotated[list[str] | None, typer.Option("--image", help="Names of images in it; default: all.")] = None,
    limit: Limit = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for streams, pictures and the table.")] = Path("match"),
    json: Json = False,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Bring codecs to the same rate or quality on each image, for like-for-like pictures.
    Exits with 1 if one misses it.
    """
    use_catalog(catalog)
    from hvqbench import matching
    from hvqbench.rate_control import Target

    target = Target.of_options(bpp, quality)
    if target is None:
        raise HvqbenchError("name what the codecs are to meet: --bpp 0.1, or --quality lpips-alex=0.2")
    images = split(image, "image") if image else []
    matches = matching.match(split(codec, "codec"), target, dataset, out, images=images, limit=limit, device=device)
    if json:
        typer.echo((out / matching.RECORDS).read_text(encoding="utf-8"), nl=False)
    else:
        typer.echo(matching.as_table(matches, target))
        typer.echo(f"\nstreams and pictures in {out}, the table in {out / matching.TABLE}")
    statuses = [found.status for found in matches]
    if missed := statuses.count("missed"):
        say(f"{missed} of {len(matches)} did not reach {target.quantity} {target.value:g}: their nearest is there")
    raise typer.Exit(int("ok" not in statuses or bool({"failed", "missed"} & {*statuses})))
