"""Tables in plain text: they fit a terminal, a log and a pipe alike."""

from __future__ import annotations

from collections.abc import Sequence


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
