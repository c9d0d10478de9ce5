"""The quadtree of a codec with granularities, over its picture, and where its bits go."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hvqbench.report.style import WIDTH, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from hvqbench.codec import Image
    from hvqbench.vq.inspect import Inspection


def has_quadtree(inspection: Inspection) -> bool:
    """Whether positions of its finer grids exist only where masks say so."""
    return any(name.startswith("split ") for name in inspection.grids)


def quadtree_figure(image: Image, bits: Sequence[Tensor], inspection: Inspection) -> Figure:
    """The picture (H×W×3) under its quadtree's lines, and the bits per pixel of each coarsest cell, z left out.

    *bits* has the cost of each symbol of the grids that were sent, h×w, NaN where it is absent.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    height, width = image.shape[:2]
    factors = inspection.factors[: len(bits)]
    rate = region_bits(bits, factors) / factors[0] ** 2
    with style():
        figure = Figure(figsize=(WIDTH, WIDTH / 2 * height / width + 0.35), layout="constrained")
        tree, map_ = figure.subplots(1, 2)
        tree.imshow(image)
        lines = quadtree_lines(bits, factors)
        tree.add_collection(LineCollection(lines, colors="white", linewidths=0.35, alpha=0.8))
        shares = ", ".join(f"{100 * share:.0f} %" for share in shares_drawn(bits, factors))
        tree.set_title(f"granularities, coarse to fine: {shares}")
        shown: Any = map_.imshow(image.mean(2), cmap="gray", vmin=-255, vmax=255)
        extent = (-0.5, rate.shape[1] * factors[0] - 0.5, rate.shape[0] * factors[0] - 0.5, -0.5)
        shown = map_.imshow(rate, cmap="viridis", alpha=0.8, extent=extent, vmin=0)
        map_.set_title("bits per pixel of each region")
        figure.colorbar(shown, ax=map_, shrink=0.8, pad=0.01)
        for ax in (tree, map_):
            ax.set_axis_off()
            ax.set_xlim(-0.5, width - 0.5)
            ax.set_ylim(height - 0.5, -0.5)
    return figure


def region_bits(bits: Sequence[Tensor], factors: Sequence[int]) -> NDArray[np.float64]:
    """Bits of all grids and masks in each cell of the coarsest grid."""
    rows, columns = bits[0].shape
    total = np.zeros((rows, columns))
    for part, factor in zip(bits, factors, strict=True):
        scale = factors[0] // factor
        total += np.nan_to_num(part.double().numpy()).reshape(rows, scale, columns, scale).sum((1, 3))
    return total


def quadtree_lines(bits: Sequence[Tensor], factors: Sequence[int]) -> list[list[tuple[float, float]]]:
    """The upper and left side of each cell that exists, in pixels."""
    lines = []
    for part, factor in zip(bits[::2], factors[::2], strict=True):
        for y, x in (~part.isnan()).nonzero().tolist():
            top, left, side = y * factor - 0.5, x * factor - 0.5, factor
            lines.append([(left, top + side), (left, top), (left + side, top)])
    return lines


def shares_drawn(bits: Sequence[Tensor], factors: Sequence[int]) -> list[float]:
    """The share of the picture at each granularity."""
    exist = [float((~part.isnan()).double().mean()) for part in bits[::2]] + [0.0]
    return [above - below for above, below in pairwise(exist)]
