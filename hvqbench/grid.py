"""Tables in plain text, for terminals, logs and pipes, and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hvqbench.shown import no_foreign_html

if TYPE_CHECKING:
    import pandas as pd

NONE = "–"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns of equal width under *head*, the first *left* of them flush left, the others flush right.

    >>> print(grid(["codec", "bpp"], [["hypervq", "0.0327"], ["jpeg", "0.3"]]))
    codec       bpp
    -------  ------
    hypervq  0.0327
    jpeg        0.3
    """
    from tabulate import SEPARATING_LINE, tabulate

    align = ["left" if number < left else "right" for number in range(len(head))]
    # As a row, since tabulate makes columns two characters wider than their heads. Without a head it adds two rules.
    text = tabulate([head, SEPARATING_LINE, *rows], tablefmt="simple", colalign=align, disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines()[1:-1])


def markdown_grid(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """A table in Markdown, the *numeric* columns flush right."""
    from tabulate import tabulate

    body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    align = ["right" if own else "left" for own in numeric]
    return str(tabulate(body, head, "pipe", colalign=align if body else None, disable_numparse=True))


def to_markdown(table: pd.DataFrame, decimals: Mapping[str, int], titles: Mapping[str, str]) -> str:
    """*table* as Markdown: numbers rounded to *decimals*, a dash where there is none, columns named by *titles*."""
    names = list(table.columns)
    rows = [
        [text_of(value, decimals.get(name)) for name, value in zip(names, values, strict=True)]
        for values in table.itertuples(index=False, name=None)
    ]
    numeric = [is_numeric(table[name]) for name in names]
    return no_foreign_html(markdown_grid([titles.get(name, name) for name in names], rows, numeric))


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
