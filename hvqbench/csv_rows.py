"""Rows of a CSV file that people write: each knows its place, so that an error names file and row.

>>> (row,) = csv_rows("bpp,value\\n0.1,30\\n", "a.csv")[1]
>>> row["value"], row.number("bpp"), row.where
('30', 0.1, 'a.csv: row 2')
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from hvqbench.errors import HvqbenchError


@dataclass(frozen=True)
class CsvRow:
    """The cells of a row, without blanks around them, by column."""

    where: str
    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def number(self, column: str) -> float:
        """A cell as a finite number."""
        text = self[column]
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise HvqbenchError(f"{self.where}: {column} {text!r} is not a finite number; write it like 0.125")
        return number


def read_text(path: Path) -> str:
    """The text of the CSV file *path*."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise HvqbenchError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
    except UnicodeDecodeError:
        raise HvqbenchError(f"{path} is not UTF-8: save it as CSV in UTF-8") from None


def csv_rows(text: str, where: str) -> tuple[tuple[str, ...], list[CsvRow]]:
    """The header of the CSV *text* that is from *where*, and its rows.

    Raises
    ------
    HvqbenchError
        A row has more or fewer cells than the header.
    """
    lines = csv.reader(io.StringIO(text, newline=""))
    header = tuple(column.strip() for column in next(lines, ()))
    rows = []
    for cells in lines:
        row = f"{where}: row {lines.line_num}"
        if len(cells) != len(header):
            raise HvqbenchError(f"{row}: {len(cells)} cells instead of {len(header)}; quote a cell with a comma")
        rows.append(CsvRow(row, lines.line_num, dict(zip(header, map(str.strip, cells), strict=True))))
    return header, rows
