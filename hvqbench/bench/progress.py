"""Progress with the time that is left, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

PLAIN_INTERVAL_S = 30.0


class Advance(Protocol):
    """To be called for each finished row."""

    def __call__(self, label: str, failed: bool) -> None: ...


@contextmanager
def progress(total: int, show: bool = True) -> Iterator[Advance]:
    """A bar in a terminal; elsewhere a line every half a minute, so that a log stays readable."""
    if not show:
        yield lambda label, failed: None
    elif sys.stderr.isatty():
        with _bar(total) as advance:
            yield advance
    else:
        yield _lines(total)


@contextmanager
def _bar(total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    failures = 0
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=total)

        def advance(label: str, failed: bool) -> None:
            nonlocal failures
            failures += failed
            text = f"{label}, {failures} failed" if failures else label
            bar.update(task, advance=1, description=escape(text))

        yield advance


def _lines(total: int) -> Advance:
    begin = last = monotonic()
    done = failures = 0

    def advance(label: str, failed: bool) -> None:
        nonlocal last, done, failures
        done += 1
        failures += failed
        if monotonic() - last >= PLAIN_INTERVAL_S:
            last = monotonic()
            left = (last - begin) / done * (total - done)
            sys.stderr.write(f"hvqbench: {done}/{total} rows, {failures} failed, {duration(left)} left ({label})\n")

    return advance


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``1:02:03`` or ``2:03``.

    >>> duration(3723), duration(123.4)
    ('1:02:03', '2:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
