"""Pictures side by side, each with a detail enlarged: the figure that papers show codecs with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hvqbench.errors import HvqbenchError
from hvqbench.report.compare import Shot, reading
from hvqbench.report.style import COLOURS, WIDTH, save_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from hvqbench.codec import Image
    from hvqbench.metrics.maps import Map

DPI = 300
LINE, LETTER = 0.133, 0.06
"""Inches: the height of a line below a picture, and the width of a letter in it."""

DETAIL, ZOOM = 0.22, 0.46
"""The side of a detail, as a share of the picture's shorter side, and of its enlargement."""

STEP = 8
"""Pixels between the places where a detail is looked for."""

FRAME = COLOURS[5]

SCALE, MOST = "magma", 99.5
"""The colours of maps, and the percentile of a metric's values in one that has the lightest colour."""


@dataclass(frozen=True)
class Crop:
    """A square detail: its left and upper edge and its side, in pixels of the original."""

    x: int
    y: int
    side: int

    def of(self, image: Image) -> Image:
        """The detail's pixels."""
        return image[self.y : self.y + self.side, self.x : self.x + self.side]


def sheet_figure(rows: Sequence[Sequence[Shot]], crop: Crop | None = None) -> Figure:
    """A row for each image, a column for each codec, the original first; below them a row for each metric's maps.

    Parameters
    ----------
    crop
        The detail that is enlarged; by default, in each image, where the decoded pictures differ most.

    Raises
    ------
    HvqbenchError
        The detail is not in an image.
    """
    from matplotlib.figure import Figure

    for height, width, _ in (row[0].pixels.shape for row in rows):
        if crop and (crop.x + crop.side > width or crop.y + crop.side > height):
            detail = f"{crop.x},{crop.y},{crop.side}"
            raise HvqbenchError(f"the detail {detail} is not in images of {width}x{height}: choose another --crop")
    columns = max(len(row) for row in rows)
    width = WIDTH / columns
    letters = int(width / LETTER)
    captions = [[_lines(shot, letters) for shot in row] for row in rows]
    below = [LINE * max(len(lines) for lines in row) + 0.1 for row in captions]
    heights = [(width - 0.04) * row[0].pixels.shape[0] / row[0].pixels.shape[1] for row in rows]
    most = _scales(rows)
    total = sum((1 + len(most)) * (height + 0.04) + space for height, space in zip(heights, below, strict=True))
    with style():
        figure = Figure(figsize=(WIDTH, total), dpi=DPI)

        def cell(column: int, top: float, height: float) -> Axes:
            place = (column * width + 0.02, top - height, width - 0.04, height)
            left, bottom, across, up = (v / s for v, s in zip(place, (WIDTH, total) * 2, strict=True))
            return figure.add_axes((left, bottom, across, up))

        top = total
        for row, height, space, texts in zip(rows, heights, below, captions, strict=True):
            shown = crop or find_detail([shot.pixels for shot in row])
            # The caption stands below the last picture of a column, be it a map.
            for column, shot in enumerate(row):
                ax = cell(column, top, height)
                _picture(ax, shot.pixels, shown)
                for number, (name, limit) in enumerate(most.items(), 1):
                    ax = cell(column, top - number * (height + 0.04), height)
                    if shot.codec:
                        _map(ax, shot.maps[name], limit, shown)
                    else:
                        _legend(ax, name, limit)
                _caption(ax, texts[column])
            top -= (1 + len(most)) * (height + 0.04) + space
    return figure


def _scales(rows: Sequence[Sequence[Shot]]) -> dict[str, float]:
    """The metrics with maps, and the value that has the lightest colour: the same for all codecs and images."""
    return lightest(shot.maps for row in rows for shot in row)


def lightest(maps: Iterable[Mapping[str, Map]]) -> dict[str, float]:
    """For each metric the value that has the lightest colour in all of its *maps*, so that they compare."""
    found: dict[str, float] = {}
    for own in maps:
        for name, values in own.items():
            found[name] = max(found.get(name, 0.0), float(np.percentile(values, MOST)))
    return {name: value or 1.0 for name, value in found.items()}


def save_sheet(figure: Figure, out: Path) -> tuple[Path, ...]:
    """Write ``<out>.png`` and ``<out>.pdf``, or the one that *out* ends in."""
    kinds = [out.suffix[1:]] if out.suffix else ["png", "pdf"]
    stem = out.with_suffix("") if out.suffix else out
    stem.parent.mkdir(parents=True, exist_ok=True)
    return save_figure(figure, stem, kinds, dpi=DPI)


def find_detail(images: Sequence[Image]) -> Crop:
    """Where the decoded ones of *images* differ most from each other; a lone one from the original, the first."""
    height, width = images[0].shape[:2]
    side = max(8, round(DETAIL * min(height, width)))
    shown = [image.mean(2) for image in (images[1:] if len(images) > 2 else images)]
    spread = np.max(shown, axis=0) - np.min(shown, axis=0)
    total = np.pad(spread.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    ys, xs = np.arange(0, max(1, height - side), STEP), np.arange(0, max(1, width - side), STEP)
    low, high = np.minimum(ys + side, height), np.minimum(xs + side, width)
    sums = total[np.ix_(low, high)] - total[np.ix_(ys, high)] - total[np.ix_(low, xs)] + total[np.ix_(ys, xs)]
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    return Crop(int(xs[x]), int(ys[y]), side)


def _picture(ax: Axes, image: Image, crop: Crop) -> None:
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    ax.imshow(image, interpolation="antialiased")
    ax.set_axis_off()
    edge: dict[str, Any] = {"edgecolor": FRAME, "facecolor": "none"}
    ax.add_patch(Rectangle((crop.x - 0.5, crop.y - 0.5), crop.side, crop.side, linewidth=0.9, **edge))
    # In the corner that is farthest from the detail.
    share = ZOOM * min(height, width)
    right, below = crop.x + crop.side / 2 < width / 2, crop.y + crop.side / 2 < height / 2
    corner = ((width - share) / width if right else 0.0, 0.0 if below else (height - share) / height)
    inset = ax.inset_axes((*corner, share / width, share / height))
    inset.imshow(crop.of(image), interpolation="nearest")
    inset.set_xticks([])
    inset.set_yticks([])
    inset.grid(visible=False)
    for spine in inset.spines.values():
        spine.set(visible=True, color=FRAME, linewidth=1.2)


def _map(ax: Axes, values: NDArray[np.float32], most: float, crop: Crop) -> None:
    from matplotlib.patches import Rectangle

    ax.imshow(values, cmap=SCALE, vmin=0, vmax=most, interpolation="antialiased")
    ax.set_axis_off()
    edge: dict[str, Any] = {"edgecolor": FRAME, "facecolor": "none"}
    ax.add_patch(Rectangle((crop.x - 0.5, crop.y - 0.5), crop.side, crop.side, linewidth=0.9, **edge))


def _legend(ax: Axes, name: str, most: float) -> None:
    """The scale of a metric's maps, in the place below the original."""
    from hvqbench.metrics import metric_info

    ax.set_axis_off()
    bar = ax.inset_axes((0.1, 0.5, 0.8, 0.08))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=SCALE, aspect="auto")
    bar.set_xticks([0, 255], ["0", f"{most:.2g}"], fontsize=7)
    bar.set_yticks([])
    bar.grid(visible=False)
    ax.text(
        0.5, 0.62, f"map of {metric_info(name).title}", transform=ax.transAxes, ha="center", va="bottom", fontsize=7
    )


def _lines(shot: Shot, letters: int) -> list[str]:
    """What stands below a picture, in lines of at most so many *letters*."""
    from textwrap import wrap

    from hvqbench.metrics import metric_info

    if not shot.codec:
        return ["original", shot.image]
    lines = [shot.codec, f"{shot.bpp:.4f} bpp ({shot.point_name} {shot.point:.4g})"]
    infos = {name: metric_info(name) for name in shot.values}
    values = [
        f"{infos[name].title.partition(' (')[0]}\xa0{reading(value, '.2f' if infos[name].unit == 'dB' else '.3f')}"
        for name, value in shot.values.items()
    ]
    return [*lines, *wrap(", ".join(values), letters, break_long_words=False, break_on_hyphens=False)]


def _caption(ax: Axes, lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        first = number == 0
        ax.annotate(
            line, (0.5, 0), (0, -2.5 - 72 * LINE * number), xycoords="axes fraction", textcoords="offset points",
            ha="center", va="top", fontsize=8 if first else 7, weight="bold" if first else "normal",
            annotation_clip=False,
        )  # fmt: skip
