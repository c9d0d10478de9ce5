"""What a part of the suite found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

SHOWN = 5
"""Failures that are told in full."""


@dataclass
class Outcome:
    """How often a fault was tried, what came of it, and where that was wrong."""

    part: str
    faults: str
    tried: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0

    def add(self, what: str, failure: str = "") -> None:
        """One fault: what came of it, and, if that is wrong, how to see it again."""
        self.tried += 1
        self.counts[what] += 1
        if failure:
            self.failures.append(failure)

    @contextmanager
    def timed(self) -> Iterator[None]:
        start = monotonic()
        try:
            yield
        finally:
            self.seconds += monotonic() - start

    @property
    def cells(self) -> list[str]:
        found = ", ".join(f"{count} {what}" for what, count in self.counts.most_common())
        verdict = f"skipped: {self.skipped}" if self.skipped else str(len(self.failures))
        return [self.part, self.faults, str(self.tried), found, verdict, f"{self.seconds:.0f} s"]


def table(outcomes: list[Outcome]) -> str:
    """All of them, as Markdown."""
    from tabulate import tabulate

    head = ["part", "faults", "tried", "outcome", "failed", "took"]
    return str(tabulate([o.cells for o in outcomes], head, tablefmt="github", disable_numparse=True))
