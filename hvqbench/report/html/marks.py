"""How a codec is drawn on a page: colour, shape and dashes, in charts and legends alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hvqbench.analysis.curves import Curve
from hvqbench.errors import HvqbenchError
from hvqbench.report.style import MARKERS, looks

SHAPES = (
    "M.8,0A.8,.8,0,1,1,-.8,0A.8,.8,0,1,1,.8,0Z",  # circle
    "M-.72,-.72H.72V.72H-.72Z",  # square
    "M0,-.9L.9,.7H-.9Z",  # triangle up
    "M0,-1L.8,0L0,1L-.8,0Z",  # diamond
    "M0,.9L.9,-.7H-.9Z",  # triangle down
    "M-.3,-.95H.3V-.3H.95V.3H.3V.95H-.3V.3H-.95V-.3H-.3Z",  # plus
    "M-.9,-.5L-.5,-.9L0,-.4L.5,-.9L.9,-.5L.4,0L.9,.5L.5,.9L0,.4L-.5,.9L-.9,.5L-.4,0Z",  # cross
    "M-.9,0L.7,-.9V.9Z",  # triangle left
    "M.9,0L-.7,-.9V.9Z",  # triangle right
    "M0,-1L.25,-.35L.95,-.31L.4,.13L.59,.81L0,.42L-.59,.81L-.4,.13L-.95,-.31L-.25,-.35Z",  # star
    "M0,-.95L.82,-.47V.47L0,.95L-.82,.47V-.47Z",  # hexagon
)
"""SVG paths in a square from -1 to 1, in the order of matplotlib's markers in :mod:`hvqbench.report.style`."""

DASHES = {"classic": [7, 3], "published": [1.5, 3], "": [1, 0]}


@dataclass(frozen=True)
class Mark:
    """The look of one codec: that of the figures, in a browser's words."""

    codec: str
    colour: str
    """``ink`` for the palette's black, which is white on a dark page."""
    shape: str
    kind: str
    """``classic`` (dashed), ``published`` (dotted), or empty; the marks of both are hollow."""
    summary: str
    points: int
    """Of its longest curve."""

    def as_data(self) -> dict[str, Any]:
        return asdict(self) | {"dash": DASHES[self.kind]}


def marks(curves: Iterable[Curve], classic: Collection[str], order: Sequence[str] = ()) -> dict[str, Mark]:
    """A look for each codec by its label: the one that :func:`hvqbench.report.figures.rd_figure` gives it.

    Parameters
    ----------
    curves, classic, order
        As of that function.

    Returns
    -------
    dict
        In the order of the page's legend: new kinds of codec first, then classic ones, those of one point, published.
    """
    longest: dict[str, Curve] = {}
    for curve in curves:
        if len(curve.bpp) > len(longest.get(curve.label, curve).bpp) or curve.label not in longest:
            longest[curve.label] = curve
    published = {label for label, curve in longest.items() if curve.published}
    shown_as = looks([*order, *longest], classic, published)
    found = {}
    for curve in sorted(longest.values(), key=lambda c: (c.published, len(c.bpp) < 2, c.codec in classic)):
        look = shown_as[curve.label]
        found[curve.label] = Mark(
            codec=curve.codec,
            colour="ink" if look.colour == "#000000" else look.colour,
            shape=SHAPES[MARKERS.index(look.marker)],
            kind="published" if curve.published else "classic" if curve.codec in classic else "",
            summary=_summary(curve),
            points=len(curve.bpp),
        )
    return found


def _summary(curve: Curve) -> str:
    from hvqbench.catalog import load_spec

    if curve.published:
        return "published by its authors, not measured here"
    try:
        return load_spec(curve.codec).summary
    except HvqbenchError:
        return ""
