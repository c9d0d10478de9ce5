"""A table of a report: its plain numbers, and how they are shown: rounded, ranked, with footnotes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import TYPE_CHECKING

from hvqbench.grid import is_numeric, markdown_grid, text_of

if TYPE_CHECKING:
    import pandas as pd

ARROWS: Mapping[bool, str] = {True: "↑", False: "↓"}
BEST, SECOND = 1, 2


@dataclass(frozen=True)
class Heading:
    """How a column is shown: its title, the name in the frame if None, decimals, and what it means in a sentence."""

    title: str | None = None
    decimals: int | None = None
    hint: str = ""


@dataclass(frozen=True)
class Column:
    """A column that is shown: its name in the frame, its title, whether it is flush right, and what it means."""

    name: str
    title: str
    numeric: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Cell:
    """What a cell shows.

    Parameters
    ----------
    text
        For the reader.
    rank
        Whether it is the :data:`BEST` or :data:`SECOND`.
    notes
        Keys of its footnotes.
    detail
        Said after the text, or in a smaller line below it: an interval.
    value
        What a page sorts it by; the text if None.
    hint
        Said on a page when the pointer rests on it.
    kind
        How a page shows it: ``better`` or ``worse`` in colour, ``code``, ``command`` (with a button that copies it),
        ``button`` (that copies the text, which is not shown), ``bar``.
    bars
        Of a ``bar``: for each stream its name, its per cent of the widest bar, and its text.
    """

    text: str
    rank: int = 0
    notes: tuple[str, ...] = ()
    detail: str = ""
    value: float | str | None = None
    hint: str = ""
    kind: str = ""
    bars: tuple[tuple[str, float, str], ...] = ()

    @property
    def whole(self) -> str:
        """Text and detail."""
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True, eq=False)
class Table:
    """A table of a report.

    Parameters
    ----------
    name
        Of its files.
    title, intro
        Its heading, and the sentences between that and the table.
    frame
        The numbers as they are, which the CSV and ``claims.json`` hold.
    columns, cells
        What is shown, row by row.
    footnotes
        Key to text, of every note that a cell may have.
    outro
        Sentences below the table.
    """

    name: str
    title: str
    intro: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]
    footnotes: Mapping[str, str] = field(default_factory=dict)
    outro: tuple[str, ...] = ()

    @property
    def headers(self) -> tuple[str, ...]:
        """The titles of the columns."""
        return tuple(column.title for column in self.columns)

    @property
    def marks(self) -> dict[str, str]:
        """The letter of each footnote that a cell has, in the order of :attr:`footnotes`."""
        used = {note for row in self.cells for cell in row for note in cell.notes}
        return dict(zip((key for key in self.footnotes if key in used), ascii_lowercase, strict=False))


def plain_table(
    name: str,
    title: str,
    intro: str,
    frame: pd.DataFrame,
    headings: Mapping[str, Heading],
    *,
    best: Mapping[str, bool] | None = None,
    within: Sequence[str] = (),
    hidden: Collection[str] = (),
) -> Table:
    """A table that shows *frame* as it is.

    Parameters
    ----------
    headings
        Of columns that are not shown under their names and as they are.
    best
        Columns whose best two values are marked, and whether higher is better there; *within* equal values of these
        columns.
    hidden
        Columns that are in the CSV alone.
    """
    names = [column for column in frame.columns if column not in hidden]
    ranks = {column: ranked(frame, column, higher, within) for column, higher in (best or {}).items()}
    of = {column: headings.get(column, Heading()) for column in names}
    numeric = {column: is_numeric(frame[column]) for column in names}
    cells = tuple(
        tuple(
            Cell(
                text_of(value, of[column].decimals),
                ranks[column][number] if column in ranks else 0,
                value=sorting(value) if numeric[column] else None,
            )
            for column, value in zip(names, values, strict=True)
        )
        for number, values in enumerate(frame[names].itertuples(index=False, name=None))
    )
    columns = []
    for column in names:
        shown = column if (given := of[column].title) is None else given
        shown += f" {ARROWS[best[column]]}" if best and column in best else ""
        columns.append(Column(column, shown, numeric[column], of[column].hint))
    return Table(name, title, intro, frame, tuple(columns), cells)


def sorting(value: float | None) -> float:
    """What a number is sorted by: what is none comes last."""
    return math.inf if value is None or math.isnan(value) else float(value)


def ranked(frame: pd.DataFrame, column: str, higher_is_better: bool, within: Sequence[str] = ()) -> list[int]:
    """The rank of each row in *column*: best, second, or 0; none where there are no two to compare."""
    values = frame[column].astype(float)
    groups = values.groupby([frame[name] for name in within] if within else [0] * len(frame))
    order = groups.rank(method="min", ascending=not higher_is_better)
    pairs = zip(order, groups.transform("count"), strict=True)
    return [int(rank) if count > 1 and rank in (BEST, SECOND) else 0 for rank, count in pairs]


def signed(value: float, decimals: int, sign: bool = True) -> str:
    """A number as text, with a real minus, and a plus where *sign* asks for it.

    >>> signed(-1234.567, 1), signed(2, 1), signed(2, 1, sign=False)
    ('−1234.6', '+2.0', '2.0')
    """
    return f"{value:{'+' if sign else ''}.{decimals}f}".replace("-", "−")


def markdown(table: Table) -> str:
    """*table* and its footnotes: the best value bold, the second underlined."""
    marks = table.marks

    def text(cell: Cell) -> str:
        shown = cell.whole
        shown = f"**{shown}**" if cell.rank == BEST else f"<u>{shown}</u>" if cell.rank == SECOND else shown
        letters = ",".join(marks[note] for note in sorted(cell.notes, key=lambda note: marks.get(note, "")))
        return f"{shown}<sup>{letters}</sup>" if letters else shown

    body = [[text(cell) for cell in row] for row in table.cells]
    grid = markdown_grid(table.headers, body, [column.numeric for column in table.columns])
    notes = [f"- <sup>{letter}</sup> `{key}`: {table.footnotes[key]}" for key, letter in marks.items()]
    parts = [grid] if table.cells else []
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else []), *table.outro])
