"""A table of a report: its plain numbers, and how they are shown: rounded, ranked, with footnotes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

ARROWS: Mapping[bool, str] = {True: "↑", False: "↓"}
NONE = "–"
BEST, SECOND = 1, 2


@dataclass(frozen=True)
class Cell:
    """What a cell shows: text, whether it is the :data:`BEST` or :data:`SECOND`, and keys of its footnotes."""

    text: str
    rank: int = 0
    notes: tuple[str, ...] = ()


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
    headers, cells
        What is shown, row by row.
    numeric
        Whether each column is flush right.
    footnotes
        Key to text, of every note that a cell may have.
    outro
        Sentences below the table.
    """

    name: str
    title: str
    intro: str
    frame: pd.DataFrame
    headers: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    numeric: tuple[bool, ...]
    footnotes: Mapping[str, str] = field(default_factory=dict)
    outro: tuple[str, ...] = ()

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
    decimals: Mapping[str, int],
    titles: Mapping[str, str],
    *,
    best: Mapping[str, bool] | None = None,
    within: Sequence[str] = (),
    hidden: Collection[str] = (),
) -> Table:
    """A table that shows *frame* as it is.

    Parameters
    ----------
    decimals, titles
        Of columns: to round by, and to head them.
    best
        Columns whose best two values are marked, and whether higher is better there; *within* equal values of these
        columns.
    hidden
        Columns that are in the CSV alone.
    """
    shown = frame.drop(columns=[column for column in frame.columns if column in hidden])
    ranks = {column: ranked(frame, column, higher, within) for column, higher in (best or {}).items()}
    cells = tuple(
        tuple(
            Cell(text_of(value, decimals.get(column)), ranks[column][number] if column in ranks else 0)
            for column, value in zip(shown.columns, values, strict=True)
        )
        for number, values in enumerate(shown.itertuples(index=False, name=None))
    )
    headers = tuple(
        titles.get(column, column) + (f" {ARROWS[best[column]]}" if best and column in best else "")
        for column in shown.columns
    )
    return Table(name, title, intro, frame, headers, cells, tuple(is_numeric(shown[c]) for c in shown.columns))


def ranked(frame: pd.DataFrame, column: str, higher_is_better: bool, within: Sequence[str] = ()) -> list[int]:
    """The rank of each row in *column*: best, second, or 0; none where there are no two to compare."""
    values = frame[column].astype(float)
    groups = values.groupby([frame[name] for name in within] if within else [0] * len(frame))
    order = groups.rank(method="min", ascending=not higher_is_better)
    pairs = zip(order, groups.transform("count"), strict=True)
    return [int(rank) if count > 1 and rank in (BEST, SECOND) else 0 for rank, count in pairs]


def text_of(value: object, decimals: int | None = None) -> str:
    """*value* for a reader: rounded, with a true minus, and a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    if isinstance(value, float):
        return (f"{value:.{decimals}f}" if decimals is not None else f"{value:g}").replace("-", "−", 1)
    return " ".join(str(value).split())


def is_numeric(column: pd.Series) -> bool:
    """Whether a column is of numbers, and so flush right."""
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def markdown(table: Table) -> str:
    """*table* and its footnotes: the best value bold, the second underlined."""
    from tabulate import tabulate

    marks = table.marks

    def text(cell: Cell) -> str:
        shown = cell.text.replace("|", "\\|")
        shown = f"**{shown}**" if cell.rank == BEST else f"<u>{shown}</u>" if cell.rank == SECOND else shown
        letters = ",".join(marks[note] for note in sorted(cell.notes, key=lambda note: marks.get(note, "")))
        return f"{shown}<sup>{letters}</sup>" if letters else shown

    body = [[text(cell) for cell in row] for row in table.cells]
    align = ["right" if numeric else "left" for numeric in table.numeric]
    grid = tabulate(
        body, headers=table.headers, tablefmt="pipe", colalign=align if body else None, disable_numparse=True
    )
    notes = [f"- <sup>{letter}</sup> `{key}`: {table.footnotes[key]}" for key, letter in marks.items()]
    parts = [str(grid)] if table.cells else []
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else []), *table.outro])
