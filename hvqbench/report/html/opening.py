"""Where the picture room opens: not on the best case and not on the worst, but on the median one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvqbench.report.html.finding import Finding
    from hvqbench.report.html.page_pictures import Wanted
    from hvqbench.report.names import Names


@dataclass(frozen=True)
class Opening:
    """What the room shows first: *codec* at *point* beside *rival* at the nearest rate, on *image*; *says* why that."""

    image: str
    codec: str
    point: float
    rival: str
    says: str


def median_case(wanted: Sequence[Wanted], finding: Finding, names: Names) -> Opening | None:
    """The image on which the two codecs of *finding* differ in its metric as they do in the middle of all images.

    The codec is at the point whose rates the rival comes nearest to, and the rival, on each image, at its point of the
    nearest rate. Of an even number of images it is the lower one of the two in the middle.

    Parameters
    ----------
    wanted
        The decodes that the room could show.
    names
        What codecs and metrics are called.

    Returns
    -------
    Opening or None
        None where the two have no image in common, or no value of the metric.
    """
    own = [item for item in wanted if item.codec == finding.codec and _is_number(item, finding.metric)]
    others: dict[str, list[Wanted]] = {}
    for item in wanted:
        if item.codec == finding.rival and _is_number(item, finding.metric):
            others.setdefault(item.image, []).append(item)
    cases: dict[float, list[tuple[Wanted, Wanted]]] = {}
    for item in own:
        if item.image in others:
            nearest = min(others[item.image], key=lambda other: _gap(item, other))
            cases.setdefault(item.point, []).append((item, nearest))
    if not cases:
        return None
    point = min(cases, key=lambda point: (sum(_gap(*pair) for pair in cases[point]) / len(cases[point]), point))
    order = sorted(cases[point], key=lambda pair: (_change(pair, finding.metric), pair[0].image))
    shown = order[(len(order) - 1) // 2][0]
    pair = f"{names(finding.codec)} and {names(finding.rival)}"
    says = f"Opens on {shown.image}, with {pair} at near rates."
    if len(order) > 2:
        title = names.title(finding.metric)
        median = f"the median of {len(order)} images by how much {pair} differ in {title} at near rates"
        says = f"Opens on {shown.image}, {median}: half of the others differ less, half differ more."
    return Opening(shown.image, finding.codec, point, finding.rival, says)


def _is_number(item: Wanted, metric: str) -> bool:
    value = item.row.get(metric)
    return value is not None and math.isfinite(float(value)) and float(item.row["bpp"]) > 0


def _gap(item: Wanted, other: Wanted) -> float:
    """How far apart two rates are, as a logarithm of their ratio."""
    return abs(math.log(float(item.row["bpp"]) / float(other.row["bpp"])))


def _change(pair: tuple[Wanted, Wanted], metric: str) -> float:
    return float(pair[0].row[metric]) - float(pair[1].row[metric])
