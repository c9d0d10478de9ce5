"""Codecs as they are named everywhere: ids, tags or paths, each with ``@POINTS`` for some of its operating points.

>>> parse_choices("hypervq@0,1.6")
[Choice(name='hypervq', points=(0.0, 1.6))]
>>> parse_choices(["hypervq@0", "1.6", "jpeg"])  # as a command line's commas leave it
[Choice(name='hypervq', points=(0.0, 1.6)), Choice(name='jpeg', points=())]
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.catalog import select_codecs
from hvqbench.errors import HvqbenchError, closest

if TYPE_CHECKING:
    import pandas as pd

Points = tuple[float, ...]
"""Operating points; none for all that there are."""


@dataclass(frozen=True)
class Choice:
    """An id, a tag or a path, and which of its points; none for all."""

    name: str
    points: Points = ()


def parse_choices(texts: str | Iterable[str | Choice]) -> list[Choice]:
    """``hypervq@0,1.6`` as a codec and its points; a number of its own belongs to the codec before it.

    Raises
    ------
    HvqbenchError
        What follows the ``@`` is no number.
    """
    chosen: list[Choice] = []
    for text in [texts] if isinstance(texts, str) else texts:
        if isinstance(text, Choice):
            chosen.append(text)
        elif chosen and chosen[-1].points and (point := _number(text)) is not None:
            chosen[-1] = replace(chosen[-1], points=(*chosen[-1].points, point))
        else:
            chosen.append(_parse(text))
    return chosen


def choose_codecs(texts: str | Iterable[str | Choice]) -> dict[str, list[Points]]:
    """What can be run: each codec's source (for :func:`hvqbench.catalog.load_spec`), and the points of each mention."""
    chosen: dict[str, list[Points]] = {}
    for choice in parse_choices(texts):
        for source in select_codecs(choice.name):
            chosen.setdefault(source, []).append(choice.points)
    return chosen


def choose_among(texts: str | Iterable[str | Choice], known: Collection[str]) -> dict[str, Points]:
    """What *known* codecs, those of results, *texts* name, in that order, and which of their points.

    Raises
    ------
    HvqbenchError
        A name stands for none of them.
    """
    chosen: dict[str, Points] = {}
    for choice in parse_choices(texts):
        own = _among(choice.name, known)
        if not own:
            have = f"{closest(choice.name, known)}they have {', '.join(sorted(known)) or 'none'}"
            raise HvqbenchError(f"the results have no codec {choice.name!r}: {have}; run it first")
        for codec in own:
            earlier = chosen.get(codec, choice.points)
            both = earlier and choice.points  # once without points is with all
            chosen[codec] = tuple(dict.fromkeys((*earlier, *choice.points))) if both else ()
    return chosen


def only_points(rows: pd.DataFrame, chosen: Mapping[str, Points]) -> pd.DataFrame:
    """*rows* without those of the *chosen* codecs at other points than theirs; a row without a point stays."""
    limited = {codec: points for codec, points in chosen.items() if points}
    if not limited or rows.empty:
        return rows
    dropped = rows["codec"].isin(list(limited)) & rows["point"].notna()
    for codec, points in limited.items():
        dropped &= ~((rows["codec"] == codec) & rows["point"].isin(points))
    return rows[~dropped] if dropped.any() else rows


def _parse(text: str) -> Choice:
    name, at, tail = text.rpartition("@")
    if not at or (os.sep in text and Path(text).exists()):
        return Choice(text)
    points = [_number(part) for part in tail.split(",")]
    found = tuple(point for point in points if point is not None)
    if len(found) == len(points):
        return Choice(name, found)
    if text.startswith("published:") or os.sep in tail:  # NAME@AUTHORS, and a folder of such a name
        return Choice(text)
    raise HvqbenchError(f"{text!r}: {tail!r} is not a point; write points like hypervq@0,1.6")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _among(name: str, known: Collection[str]) -> list[str]:
    if name in known:
        return [name]
    if os.sep in name or name.endswith(".toml"):  # a codec that was run by its path has its folder's name
        folder = Path(name).parent if name.endswith(".toml") else Path(name)
        return [codec for codec in (folder.resolve().name,) if codec in known]
    tagged: list[str] = []
    with suppress(HvqbenchError):  # what is wrong with the catalog is `ls codecs`'s to say
        tagged = select_codecs(name)
    return [codec for codec in tagged if codec in known]
