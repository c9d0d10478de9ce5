"""How a codec is drawn on a page: colour, shape and dashes, in charts and legends alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from hvqbench.analysis.curves import Curve
from hvqbench.errors import HvqbenchError
from hvqbench.report.style import COLOURS

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
    """The look of one codec."""

    codec: str
    colour: str
    """``ink`` for the palette's black, which is white on a dark page."""
    shape: str
    kind: str
    """``classic`` (dashed), ``published`` (dotted), or empty."""
    summary: str
    points: int
    """Of its longest curve."""

    def as_data(self) -> dict[str, Any]:
        return asdict(self) | {"dash": DASHES[self.kind]}


def marks(curves: Iterable[Curve], classic: Iterable[str]) -> dict[str, Mark]:
    """A look for each codec by its label. Those with the most points come first and so have colours of their own."""
    longest: dict[str, Curve] = {}
    for curve in curves:
        if len(curve.bpp) > len(longest.get(curve.label, curve).bpp) or curve.label not in longest:
            longest[curve.label] = curve
    dashed = set(classic)
    order = sorted(longest.values(), key=lambda c: (c.published, len(c.bpp) < 2, c.codec in dashed))
    found = {}
    for number, curve in enumerate(order):
        colour = COLOURS[number % len(COLOURS)]
        kind = "published" if curve.published else "classic" if curve.codec in dashed else ""
        found[curve.label] = Mark(
            codec=curve.codec,
            colour="ink" if colour == "#000000" else colour,
            shape=SHAPES[number % len(SHAPES)],
            kind=kind,
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
