"""Tables as booktabs LaTeX, to be read with ``\\input``; they need the packages ``booktabs`` and ``longtable``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hvqbench.report.table import BEST, SECOND, Cell, Table
from hvqbench.shown import visible

if TYPE_CHECKING:
    import pandas as pd

COLUMN = 48
"""Above this many characters a table is as wide as the page, and not as a column of it."""

FEW = 3
"""From so many rows on, what all say is said in the caption."""

LONG = 40
"""Above this many rows a table is a ``longtable``, which breaks over pages."""

SYMBOLS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "−": "$-$", "–": "--", "λ": r"$\lambda$", "×": r"$\times$"}
PREAMBLE = "% \\usepackage{booktabs,longtable}\n"
_STYLES = {BEST: "textbf:--rwrap;", SECOND: "underline:--rwrap;"}


def latex(table: Table) -> str:
    """*table* with its caption, label and footnotes; the best value bold, the second underlined."""
    import pandas as pd

    marks = table.marks
    same = _same(table)
    kept = [number for number in range(len(table.headers)) if number not in same]
    columns = range(len(kept))

    def text(cell: Cell) -> str:
        return escape(cell.whole) + _superscript([marks[note] for note in cell.notes if note in marks])

    texts = pd.DataFrame([[text(row[n]) for n in kept] for row in table.cells], columns=columns)
    styles = pd.DataFrame([[_STYLES.get(row[n].rank, "") for n in kept] for row in table.cells], columns=columns)

    def ranks(_: pd.DataFrame) -> pd.DataFrame:
        return styles

    long = len(table.cells) > LONG
    wide = _width(table, kept) > COLUMN
    environment = "longtable" if long else "table*" if wide else "table"
    caption = ". ".join([table.title, *([f"All: {', '.join(same.values())}"] if same else [])])
    place: dict[str, Any] = {} if long else {"position": "t", "position_float": "centering"}
    body: str = (
        texts.style.apply(ranks, axis=None)
        .format_index(lambda number: escape(table.headers[kept[int(str(number))]]), axis="columns")
        .hide(axis="index")
        .to_latex(
            hrules=True,
            column_format="".join("r" if table.columns[n].numeric else "l" for n in kept),
            environment=environment,
            caption=escape(caption),
            label=f"tab:{table.name}",
            **place,
        )
    )
    notes = [f"{_superscript([letter])}~{escape(table.footnotes[key])}." for key, letter in marks.items()]
    notes += [escape(text.replace("`", "")) for text in table.outro]
    if notes:
        small = "\\par\\vspace{2pt}{\\footnotesize " + " ".join(notes) + "\\par}\n"
        body = body + small if long else body.replace(f"\\end{{{environment}}}", small + f"\\end{{{environment}}}")
    return PREAMBLE + body


def _same(table: Table) -> dict[int, str]:
    """Columns that say the same in every row, which the caption can say once."""
    if len(table.cells) < FEW:
        return {}
    found = {}
    for number, header in enumerate(table.headers):
        said = {(row[number].whole, row[number].rank, row[number].notes) for row in table.cells}
        if len(said) == 1:
            found[number] = f"{header} {table.cells[0][number].whole}".strip()
    return found


def _width(table: Table, columns: list[int]) -> int:
    """Characters in the longest row, roughly."""
    texts = [table.headers, *([cell.whole for cell in row] for row in table.cells)]
    return sum(max(len(text[n]) for text in texts) + 2 for n in columns)


def _superscript(letters: list[str]) -> str:
    return f"\\textsuperscript{{{','.join(sorted(letters))}}}" if letters else ""


def escape(text: str) -> str:
    """*text* as LaTeX sets it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: "\\" + character for character in "&%$#_{}"} | SYMBOLS
    return "".join(special.get(character, character) for character in visible(text))
