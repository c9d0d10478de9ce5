"""One image: ``compress`` and ``decompress``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvqbench.commands.options import PLAIN, CatalogOption, Device, use_catalog

app = typer.Typer(**PLAIN)


@app.command()
def compress(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An image.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The bitstream to write.")],
    codec: Annotated[str, typer.Option("--codec", help="Codec id or path of a codec.toml.")],
    point: Annotated[
        float | None, typer.Option("--point", help="Operating point; default: the ladder's first.")
    ] = None,
    weight: Annotated[
        float | None, typer.Option("--lambda", help="L of a VQ codec, distortion per bit; the same as --point.")
    ] = None,
    bpp: Annotated[
        float | None, typer.Option("--bpp", help="Bits per pixel to meet; finds the operating point.")
    ] = None,
    quality: Annotated[
        str | None, typer.Option("--quality", help="Like lpips-alex=0.2; finds the smallest stream that good.")
    ] = None,
    granularity: Annotated[
        str | None, typer.Option("--granularity", help="Shares of a quadtree: coarse=0.3,medium=0.5,fine=0.2.")
    ] = None,
    roi: Annotated[
        Path | None, typer.Option("--roi", help="A picture of the same size, white where quality matters more.")
    ] = None,
    roi_weight: Annotated[float, typer.Option("--roi-weight", help="How many times more.", min=1)] = 4.0,
    device: Device = "cpu",
    catalog: CatalogOption = None,
) -> None:
    """Compress one image at a point, to a rate, or to a quality."""
    use_catalog(catalog)
    from hvqbench.single import compress_file

    rate = {"weight": weight, "bpp": bpp, "quality": quality}
    steering = {"granularity": granularity, "roi": roi, "roi_weight": roi_weight}
    typer.echo(compress_file(source, target, codec, point, device, **rate, **steering))  # type: ignore[arg-type]


@app.command()
def decompress(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A bitstream.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The PNG file to write.")],
    codec: Annotated[str, typer.Option("--codec", help="The codec that made the bitstream.")],
    device: Device = "cpu",
    max_pixels: Annotated[
        int | None, typer.Option("--max-pixels", help="Refuse a VQ stream that claims a larger image.", min=1)
    ] = None,
    catalog: CatalogOption = None,
) -> None:
    """Reconstruct one image."""
    use_catalog(catalog)
    from hvqbench.single import decompress_file

    typer.echo(decompress_file(source, target, codec, device, max_pixels))
