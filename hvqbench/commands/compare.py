"""``compare``: codecs side by side on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Device, Json, Results, split, use_catalog
from hvqbench.errors import HvqbenchError, say

app = typer.Typer(**PLAIN)


@app.command()
def compare(
    codecs: Annotated[
        list[str], typer.Argument(metavar="CODEC...", help="Codecs, each with @POINT to choose its point.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", help="A data set's id, a folder of images, or an image.")],
    image: Annotated[
        list[str] | None, typer.Option("--image", help="Names of images in it; default: the first.")
    ] = None,
    bpp: Annotated[float | None, typer.Option("--bpp", min=0, help="The rate to match; default: one kept.")] = None,
    crop: Annotated[
        str | None, typer.Option("--crop", help="The detail to show, X,Y,SIDE in pixels; default: where codecs differ.")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Metrics to name; commas or repeat.")] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", help="Show where a metric sees the difference: lpips-alex, lpips-vgg, dists."),
    ] = None,
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option("--out", help="The sheet: a .png or .pdf, or both.")] = Path("compare"),
    json: Json = False,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Pictures of codecs at one rate, with a detail enlarged: from kept streams, else by encoding."""
    use_catalog(catalog)
    from hvqbench.report.compare import reading, shots, uneven
    from hvqbench.report.sheet import save_sheet, sheet_figure

    detail = _crop(crop)
    names = split(metric, "metric") if metric else []
    rows = shots(
        codecs,
        dataset,
        split(image, "image") if image else [],
        bpp=bpp,
        metrics=names,
        maps=split(maps, "map") if maps else [],
        results=results,
        device=device,
    )
    for line in uneven(rows, bpp):
        say(line)
    paths = save_sheet(sheet_figure(rows, detail), out)
    if json:
        import json as text

        typer.echo(text.dumps([shot.record() for row in rows for shot in row if shot.codec], indent=2))
        return
    for shot in (shot for row in rows for shot in row if shot.codec):
        values = "  ".join(f"{name} {reading(value, '.4g')}" for name, value in shot.values.items())
        where = f"{shot.codec} {shot.image}  {shot.point_name} {shot.point:.4g}"
        typer.echo(f"{where}  {shot.bpp:.4f} bpp  {values}  ({shot.how})")
    typer.echo("\n".join(str(path) for path in paths))


def _crop(text: str | None):  # type: ignore[no-untyped-def]
    """``X,Y,SIDE`` as a :class:`~hvqbench.report.sheet.Crop`."""
    if text is None:
        return None
    from hvqbench.report.sheet import Crop

    try:
        x, y, side = (int(part) for part in text.split(","))
        if min(x, y) < 0 or side < 1:
            raise ValueError
    except ValueError:
        raise HvqbenchError(f"--crop {text}: write the detail as X,Y,SIDE in pixels, like 320,160,128") from None
    return Crop(x, y, side)
