"""Names beside their curves instead of a legend, wherever all of them fit without covering anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Bbox

DIRECTIONS = ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 1), (-1, -1), (-1, 0))
"""Where a name stands from its point, best first."""

GAPS = (3.0, 6.0, 10.0)
"""Points (1/72 inch) between a name's box and its point; farther, it would belong to nothing."""

ALIGN: Mapping[int, tuple[str, str]] = {1: ("left", "bottom"), 0: ("center", "center"), -1: ("right", "top")}


def label_directly(ax: Axes, lines: Mapping[str, Line2D], clearance: float = 1.0) -> bool:
    """Write each name of *lines* in its colour beside its curve, so that no name covers a curve or another name.

    Nor is a name nearer to another curve than to its own.

    All names or none: False, and nothing is written, if one has no free place. The axes must have their final size and
    limits (:meth:`~matplotlib.figure.Figure.draw_without_rendering`).

    Parameters
    ----------
    clearance
        Points that every name keeps from everything else.
    """
    pixels = ax.figure.dpi / 72
    inner = ax.get_window_extent().padded(-pixels)
    paths = {name: _path(ax, line) for name, line in lines.items()}
    bars = [ax.transData.transform(segment) for segment in _segments(ax)]
    everything = np.concatenate([*paths.values(), *(_dense(bar) for bar in bars)])
    nowhere = np.full((1, 2), np.inf)
    others = {name: np.concatenate([nowhere, *(p for n, p in paths.items() if n != name)]) for name in paths}
    placed: list[tuple[Any, Bbox]] = []
    # Short curves have the fewest places.
    for name in sorted(lines, key=lambda name: len(paths[name])):
        for text in _candidates(ax, name, lines[name]):
            box = text.get_window_extent().padded(clearance * pixels)
            if (
                inner.x0 <= box.x0
                and box.x1 <= inner.x1
                and inner.y0 <= box.y0
                and box.y1 <= inner.y1
                and not any(box.overlaps(other) for _, other in placed)
                and not box.count_contains(everything)
                and _distance(box, paths[name]) <= _distance(box, others[name])
            ):
                placed.append((text, box))
                break
            text.remove()
        else:
            for text, _ in placed:
                text.remove()
            return False
    return True


def _candidates(ax: Axes, name: str, line: Line2D) -> Iterator[Any]:
    """The name at each place that it may have, the best first: nearest, and at the ends of the curve."""
    points = np.asarray(line.get_xydata())
    low, high = ax.get_xlim()
    points = points[(points[:, 0] >= low) & (points[:, 0] <= high)]
    if not len(points):
        return
    middle = (len(points) - 1) / 2
    order = sorted(range(len(points)), key=lambda i: (-abs(i - middle), -i))
    for gap in GAPS:
        for i in order:
            for dx, dy in DIRECTIONS:
                reach = gap if 0 in (dx, dy) else gap * 0.7
                yield ax.annotate(
                    name,
                    points[i],
                    xytext=(dx * reach, dy * reach),
                    textcoords="offset points",
                    ha=ALIGN[dx][0],
                    va=ALIGN[dy][1],
                    color=line.get_color(),
                    annotation_clip=False,
                    in_layout=False,
                )


def _path(ax: Axes, line: Line2D) -> NDArray[np.float64]:
    """The curve in pixels, and the edges of its markers, which are wider than their points."""
    points = ax.transData.transform(np.asarray(line.get_xydata()))
    radius = line.get_markersize() * ax.figure.dpi / 72 / 2
    edges = [points + radius * np.array(d) for d in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    return np.concatenate([_dense(points), *edges])


def _dense(points: NDArray[np.float64], step: float = 2.0) -> NDArray[np.float64]:
    """A polyline's points, with more between them so that none is farther than *step* pixels from the next."""
    parts = [points]
    for start, end in pairwise(points):
        count = int(np.hypot(*(end - start)) / step) + 1
        parts.append(start + (end - start) * np.linspace(0, 1, count, endpoint=False)[:, None])
    return np.concatenate(parts)


def _segments(ax: Axes) -> list[Any]:
    """Error bars."""
    from matplotlib.collections import LineCollection

    return [segment for c in ax.collections if isinstance(c, LineCollection) for segment in c.get_segments()]


def _distance(box: Bbox, points: NDArray[np.float64]) -> float:
    """From the box to the nearest of *points*, in pixels."""
    x, y = points.T
    aside = np.maximum(np.maximum(box.x0 - x, x - box.x1), 0)
    above = np.maximum(np.maximum(box.y0 - y, y - box.y1), 0)
    return float(np.hypot(aside, above).min())
