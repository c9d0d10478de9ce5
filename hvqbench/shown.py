"""Text of others where it is shown: names of files and codecs, reasons, what a library said.

It is kept as it is, and made harmless where it goes: a terminal obeys control characters, a spreadsheet computes cells
that begin with ``=``, and a Markdown viewer renders HTML.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pandas as pd

# C0 without tab and newline, DEL, C1, line and paragraph separators, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_COLOUR = re.compile(r"(\x1b\[(?:0|[34]8;5;\d{1,3})m)")
_FOREIGN_TAG = re.compile(r"<(?!/?(?:sup|u|br|details|summary)>)")
_FORMULA = re.compile(r"[=+\-@\t\r](?=.)(?![\d.,]+(?:e[+-]?\d+)?$)", re.DOTALL | re.IGNORECASE)


def visible(text: str) -> str:
    r"""*text* with control characters written out; tabs and line ends stay.

    >>> print(visible("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def no_foreign_html(markdown: str) -> str:
    """Markdown of which only the tags that hvqbench itself writes are HTML, and all else is text.

    >>> no_foreign_html("a<sup>b</sup> <script>")
    'a<sup>b</sup> &lt;script>'
    """
    return _FOREIGN_TAG.sub("&lt;", visible(markdown))


def csv_of(frame: pd.DataFrame) -> bytes:
    """*frame* as CSV; a text that a spreadsheet would compute begins with an apostrophe instead.

    Raises
    ------
    UnicodeEncodeError
        A text is not valid Unicode.
    """
    import pandas as pd

    texts = {
        name: column.map(csv_cell)
        for name, column in frame.items()
        if not pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    }
    return frame.assign(**{str(n): t for n, t in texts.items()}).to_csv(index=False, lineterminator="\n").encode()


def csv_cell(value: Any) -> Any:
    """*value* as it may stand in a CSV file.

    >>> csv_cell("=HYPERLINK(1)"), csv_cell("-1.5"), csv_cell("-")
    ("'=HYPERLINK(1)", '-1.5', '-')
    """
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if _FORMULA.match(value) else visible(value)


class VisibleStream:
    """A text stream that lets no control character through but the colours of :mod:`hvqbench.report.terminal`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        parts = _COLOUR.split(text)
        self._stream.write("".join(part if number % 2 else visible(part) for number, part in enumerate(parts)))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def visible_output() -> Iterator[None]:
    """Within the block all that is printed goes through a :class:`VisibleStream`."""
    before = sys.stdout
    sys.stdout = VisibleStream(before)
    try:
        yield
    finally:
        sys.stdout = before
