"""Where the time goes: named spans, recorded only while somebody listens.

>>> with record() as seconds:
...     with span("coding"):
...         total = sum(range(1000))
>>> list(seconds)
['coding']

A span costs next to nothing where no recorder is active, so the code that is measured is the code that runs. A GPU is
synchronised at both ends of a span, which is why spans belong around stages and not into inner loops.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

_recorder: ContextVar[dict[str, float] | None] = ContextVar("hvqbench.timing", default=None)


@contextmanager
def record() -> Iterator[dict[str, float]]:
    """Collect the seconds of every :func:`span` below, by name; spans of one name add up.

    Recorders nest: the innermost gets the spans.
    """
    seconds: dict[str, float] = {}
    token = _recorder.set(seconds)
    try:
        yield seconds
    finally:
        _recorder.reset(token)


@contextmanager
def span(name: str) -> Iterator[None]:
    """Charge what runs inside to *name*. A span inside another is charged to both."""
    seconds = _recorder.get()
    if seconds is None:
        yield
        return
    _synchronise()
    start = perf_counter()
    try:
        yield
    finally:
        _synchronise()
        seconds[name] = seconds.get(name, 0.0) + perf_counter() - start


def _synchronise() -> None:
    torch = sys.modules.get("torch")  # never imported for a clock's sake
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
