"""Diagnostics of VQ indices as something to read: two tables, the use of the codebook, and where the bits go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hvqbench.catalog import load_codec, select_codecs
from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.files import atomic_write, file_name, image_file_name
from hvqbench.grid import to_markdown
from hvqbench.report.quadtree import has_quadtree, quadtree_figure
from hvqbench.report.sheet import SCALE, lightest
from hvqbench.report.style import COLOURS, WIDTH, save_figure, style
from hvqbench.shown import csv_of
from hvqbench.vq.inspect import Inspection, codes_table, images_table, inspect_codec, usage_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor

    from hvqbench.codec import Image
    from hvqbench.data import ImageFile
    from hvqbench.metrics.maps import Map

TITLES: Mapping[str, str] = {
    "entropy": "entropy, bits",
    "model": "model, bits",
    "bits_per_index": "bits per index",
    "saved_percent": "saved %",
    "z_percent": "z %",
}
DECIMALS: Mapping[str, int] = {
    "perplexity": 0,
    "entropy": 3,
    "model": 3,
    "bits_per_index": 3,
    "saved_percent": 2,
    "z_percent": 2,
}
PANELS = 3
"""Panels in a row of a map."""

BAR = 0.75
"""Inches: of the bar of colours beside a map."""


def inspect_codecs(
    codecs: Sequence[str],
    dataset: str,
    point: float = 0.0,
    limit: int | None = None,
    out: Path | None = None,
    device: str = "cpu",
    maps: Sequence[str] = (),
) -> str:
    """Inspect the indices that *codecs* send at L = *point* for (the first *limit* images of) *dataset*.

    Returns the tables as Markdown; the folder *out*, if given, receives what :func:`write_inspection` writes, with maps
    of the metrics *maps* beside those of the bits.
    """
    from hvqbench.bench.plan import check_device
    from hvqbench.bench.progress import progress
    from hvqbench.data import load_dataset
    from hvqbench.metrics.maps import load_maps

    check_device(device)
    if maps and out is None:
        raise HvqbenchError("--map makes pictures: name a folder for them with --out")
    mappers = load_maps(maps)
    ready = [load_codec(name) for name in select_codecs(codecs)]
    for codec in ready:
        if reason := codec.unavailable():
            raise UnavailableError(f"codec {codec.id} cannot run here: {reason}")
    images = load_dataset(dataset).images[:limit]
    inspections = []
    with progress(len(images) * len(ready)) as advance:
        for codec in ready:
            codec.prepare(device)
            inspections.append(inspect_codec(codec, images, point, lambda name: advance(name, False), mappers))
    if out:
        write_inspection(inspections, images, out)
    return inspection_text(inspections)


def inspection_text(inspections: Sequence[Inspection]) -> str:
    """Both tables as Markdown."""
    tables = (usage_table(inspections), codes_table(inspections))
    return "\n\n".join(to_markdown(table, DECIMALS, TITLES) for table in tables) + "\n"


def write_inspection(inspections: Sequence[Inspection], images: Sequence[ImageFile], out: Path) -> list[Path]:
    """Write tables, usage figures and, per codec and image, maps of the bits and of metrics into the folder *out*.

    ``indices.md``; ``usage.csv``, ``codes.csv`` and ``images.csv``; ``usage-<codec>.png`` and ``.pdf``;
    ``<codec>/<image>.png``, and ``<image>-quadtree.png`` of a codec with granularities. *images* are those that were
    inspected. Returns the paths.
    """
    out.mkdir(parents=True, exist_ok=True)
    tables: dict[str, pd.DataFrame] = {
        "usage": usage_table(inspections),
        "codes": codes_table(inspections),
        "images": images_table(inspections),
    }
    written = [out / "indices.md", *(out / f"{name}.csv" for name in tables)]
    for path, table in zip(written[1:], tables.values(), strict=True):
        atomic_write(path, csv_of(table))
    figures: list[Path] = []
    scale = lightest(own for inspection in inspections for own in inspection.seen)
    for inspection in inspections:
        codec = file_name(inspection.codec)
        figures += save_figure(usage_figure(inspection), out / f"usage-{codec}")
        (out / codec).mkdir(exist_ok=True)
        seen = inspection.seen or ({},) * len(images)
        for file, bits, own in zip(images, inspection.maps, seen, strict=True):
            figure = bits_figure(file.read(), bits, inspection, own, scale)
            written += save_figure(figure, out / codec / image_file_name(file.name), ["png"])
            if has_quadtree(inspection):
                tree = quadtree_figure(file.read(), bits, inspection)
                written += save_figure(tree, out / codec / f"{image_file_name(file.name)}-quadtree", ["png"])
    drawn = [f"![Use of the codebook]({path.name})" for path in figures if path.suffix == ".png"]
    text = "\n\n".join(["# VQ indices", inspection_text(inspections).rstrip(), *drawn]) + "\n"
    atomic_write(written[0], text.encode())
    return [*written, *figures]


def usage_figure(inspection: Inspection) -> Figure:
    """Share of the indices that each codeword has, the most frequent first, per stage; dashed in the training set."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(WIDTH / 2, 2.6), layout="constrained")
        ax = figure.subplots()
        codewords = max(len(counts) for counts in inspection.counts)
        for stage, counts in enumerate(inspection.counts):
            colour = COLOURS[stage % len(COLOURS)]
            grid = inspection.grids[stage]
            label = inspection.codec if len(inspection.counts) == 1 else f"{inspection.codec}, {grid}"
            if stage == 0:
                label += f", {len(inspection.images)} image{'s' * (len(inspection.images) > 1)}"
            ax.plot(*_ranked(counts), color=colour, label=label)
            if inspection.training is not None:
                dashed: dict[str, Any] = {
                    "linestyle": (0, (3, 1.5)),
                    "linewidth": 0.8,
                    "label": "training set" if stage == 0 else None,
                }
                ax.plot(*_ranked(inspection.training[stage] - 1), color=colour, **dashed)
        ax.axhline(1 / codewords, color="black", linewidth=0.6, linestyle=":", zorder=1, label="uniform")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel(f"codeword by rank, of {codewords}")
        ax.set_ylabel("share of indices")
        ax.legend()
    return figure


def bits_figure(
    image: Image,
    bits: Sequence[Tensor],
    inspection: Inspection,
    seen: Mapping[str, Map] | None = None,
    scale: Mapping[str, float] | None = None,
) -> Figure:
    """The picture (H×W×3), and for each grid what its indices cost (*bits*, h×w each), laid over it.

    White is what fixed length costs, blue less, red more. Maps of metrics (*seen*, H×W) follow, dark for no difference,
    with the lightest colour at *scale*.
    """
    from hvqbench.metrics import metric_info

    seen, scale = seen or {}, scale or lightest([seen or {}])
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure

    height, width = image.shape[:2]
    fixed = np.log2(max(len(counts) for counts in inspection.counts))
    panels = 1 + len(bits) + len(seen)
    columns = min(PANELS, panels)
    rows = -(-panels // columns)
    with style():
        figure = Figure(figsize=(WIDTH, (WIDTH - BAR) / columns * rows * height / width + 0.25), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax in axes:
            ax.set_axis_off()
        axes[0].imshow(image)
        axes[0].set_title("picture")
        grey = image.mean(2)
        for stage, (ax, costs) in enumerate(zip(axes[1:], bits, strict=False)):
            ax.imshow(grey, cmap="gray", vmin=-255, vmax=255)
            factor = inspection.factors[stage]
            shown: Any = ax.imshow(
                costs.numpy(),
                cmap="RdBu_r",
                norm=TwoSlopeNorm(fixed, 0, 2 * fixed),
                alpha=0.7,
                extent=(-0.5, costs.shape[1] * factor - 0.5, costs.shape[0] * factor - 0.5, -0.5),
            )
            ax.set_xlim(-0.5, width - 0.5)  # the last patches may reach beyond the picture
            ax.set_ylim(height - 0.5, -0.5)
            name = f"{inspection.grids[stage]}: " if len(bits) > 1 else ""
            ax.set_title(f"{name}{float(costs.nanmean()):.2f} bits per index")
        for ax, (metric, values) in zip(axes[1 + len(bits) :], seen.items(), strict=False):
            ax.imshow(values, cmap=SCALE, vmin=0, vmax=scale[metric], interpolation="antialiased")
            ax.set_title(f"{metric_info(metric).title}: light is {scale[metric]:.2g}")
        bar = figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.01, extend="max")
        bar.set_label(f"bits (fixed length: {fixed:g})")
    return figure


def _ranked(counts: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Ranks from 1, and shares, of the codewords that occur."""
    shares = np.sort(counts[counts > 0].double().numpy())[::-1] / max(1.0, float(counts.sum()))
    return np.arange(1, len(shares) + 1), shares
