"""What a table of the page is made of: cells with a text for the reader and a value to sort by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[Any, Any]
"""A row of a data frame, by column."""

NONE = "–"
"""Where there is no number: never zero, and never empty."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    value: float | str | None = None
    """What it is sorted by; the text if None."""
    note: str = ""
    """A second, smaller line."""
    marks: str = ""
    """Footnotes, set high after the text."""
    hint: str = ""
    """Said on hover."""
    kind: str = ""
    """``number``, ``none``, ``better``, ``worse``, ``codec``, ``code``, ``command`` (with a button that copies it),
    ``button`` (that copies the text, which is not shown) or ``bar``."""
    bars: tuple[tuple[str, float, str], ...] = ()
    """Of a ``bar``: for each stream its name, its per cent of the widest bar, and its text."""


@dataclass(frozen=True)
class Column:
    """A column's head."""

    title: str
    number: bool = False
    hint: str = ""
    sortable: bool = True


CODEC = Column("codec")


@dataclass(frozen=True)
class Table:
    """A table with its caption and the remarks below it."""

    name: str
    title: str
    intro: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    """Of a table with bars: the streams, for their legend."""


@dataclass(frozen=True)
class Fact:
    """A number worth a large type, and what it is."""

    value: str
    text: str
    note: str = ""
    link: str = ""
    """Id of the section that says more."""


def number(value: float, decimals: int, sign: bool = False, kind: str = "number", note: str = "") -> Cell:
    """A rounded number, with a real minus sign; a dash for none.

    >>> number(-1234.567, 1).text, number(float("nan"), 1).text, number(2, 1, sign=True).text
    ('−1234.6', '–', '+2.0')
    """
    if value is None or not math.isfinite(value):
        return Cell(NONE, math.inf, kind="none")
    return Cell(signed(value, decimals, sign), float(value), kind=kind, note=note)


def signed(value: float, decimals: int, sign: bool = True) -> str:
    """A number as text, with a real minus sign, and a plus where *sign* asks for it."""
    return f"{value:{'+' if sign else ''}.{decimals}f}".replace("-", "−")


def setting(name: object, point: object) -> str:
    """An operating point for a reader.

    >>> setting("qp", 42.0), setting(None, 1.6)
    ('qp 42', '1.6')
    """
    unit = f"{name} " if isinstance(name, str) and name else ""
    return f"{unit}{float(str(point)):g}"
