"""Progress with the time that is left, on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from hvqbench.bench.rows import Row
from hvqbench.errors import say
from hvqbench.shown import visible

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_INTERVAL_S = 30.0
SHOWN_METRICS = 4


class Advance(Protocol):
    """To be called for each finished row, with the row where there is one to show."""

    def __call__(self, label: str, failed: bool, row: Row | None = None) -> None: ...


@contextmanager
def progress(total: int, show: bool = True) -> Iterator[Advance]:
    """A live table and a bar in a terminal; elsewhere a line every half a minute, so that a log stays readable."""
    if not show:
        yield lambda label, failed, row=None: None
    elif sys.stderr.isatty():
        with _bar(total) as advance:
            yield advance
    else:
        yield _lines(total)


@contextmanager
def _bar(total: int) -> Iterator[Advance]:
    """The bar, and above it a line for each codec: how many rows, and what the last one said."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    failures = 0
    codecs: dict[str, _Latest] = {}
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
    bar = Progress(*columns)
    task = bar.add_task("starting", total=total)
    with Live(bar, console=Console(stderr=True), transient=True, refresh_per_second=4) as live:

        def advance(label: str, failed: bool, row: Row | None = None) -> None:
            nonlocal failures
            failures += failed
            text = f"{label}, {failures} failed" if failures else label
            bar.update(task, advance=1, description=escape(visible(text)))
            if row is not None:
                codecs.setdefault(row["codec"], _Latest()).add(row, failed)
                live.update(Group(_table(codecs), bar))

        yield advance


@dataclass
class _Latest:
    """What is known of one codec while it runs."""

    rows: int = 0
    failed: int = 0
    row: Row = field(default_factory=dict)

    def add(self, row: Row, failed: bool) -> None:
        self.rows += 1
        self.failed += failed
        if not failed:
            self.row = row


def _table(codecs: Mapping[str, _Latest]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    names = list(dict.fromkeys(n for own in codecs.values() for n in json.loads(own.row.get("metrics") or "{}")))
    names = names[:SHOWN_METRICS]
    table = Table(box=None, pad_edge=False)
    for title in ("codec", "last row"):
        table.add_column(title)
    for title in ("rows", "failed", "bpp", *names):
        table.add_column(title, justify="right")
    for codec, own in codecs.items():
        row = own.row
        place = f"{row['point_name']} {row['point']:g} {row['image']}" if row else ""
        values = [f"{row[name]:.4f}" if isinstance(row.get(name), float) else "" for name in ("bpp", *names)]
        table.add_row(escape(visible(codec)), escape(visible(place)), f"{own.rows}", f"{own.failed or ''}", *values)
    return table


def _lines(total: int) -> Advance:
    begin = last = monotonic()
    done = failures = 0

    def advance(label: str, failed: bool, row: Row | None = None) -> None:
        nonlocal last, done, failures
        done += 1
        failures += failed
        if monotonic() - last >= PLAIN_INTERVAL_S:
            last = monotonic()
            left = (last - begin) / done * (total - done)
            say(f"{done}/{total} rows, {failures} failed, {duration(left)} left ({label})")

    return advance


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``1:02:03`` or ``2:03``.

    >>> duration(3723), duration(123.4)
    ('1:02:03', '2:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
