"""Two runs, a compaction and a reader at once on one folder of results.

Right is: all end well, and the rows are those of one run, none lost and none double.
"""

from __future__ import annotations

import threading

from outcome import Outcome
from workplace import Workplace, difference

import hvqbench
from hvqbench.errors import HvqbenchError


def write_together(place: Workplace, count: int) -> Outcome:
    """*count* rounds."""
    outcome = Outcome("writers", "two runs, compactions and a reader at once")
    with outcome.timed():
        reference = place.whole()
        for number in range(count):
            results = f"together-{number}"
            runs = [place.start(place.sweep(results), f"{results}-{side}.txt") for side in "ab"]
            troubles: list[str] = []
            over = threading.Event()
            reader = threading.Thread(target=_read, args=(place, results, over, troubles))
            reader.start()
            compactions = 0
            while any(run.poll() is None for run in runs):
                status, said = place.call(["store", "compact", "--results", results], f"{results}-c.txt")
                compactions += 1
                if status and "no results" not in said:
                    troubles.append(f"compaction exits with {status}: {said[-300:]}")
            over.set()
            reader.join()
            for run, side in zip(runs, "ab", strict=True):
                if run.wait():
                    said = (place.root / f"{results}-{side}.txt").read_text()
                    troubles.append(f"a run exits with {run.returncode}: {said[-300:]}")
            place.must(["store", "compact", "--results", results])
            raw = len(hvqbench.read_results(place.root / results, history=True))
            troubles.append(difference(place.rows(results), reference))
            troubles.append(f"{raw} rows, where {len(reference)} are right" if raw != len(reference) else "")
            wrong = "; ".join(filter(None, troubles))
            outcome.add("agreed" if not wrong else "disagreed", f"round {number}: {wrong}" if wrong else "")
            outcome.counts["compactions"] += compactions
    return outcome


def _read(place: Workplace, results: str, over: threading.Event, troubles: list[str]) -> None:
    while not over.wait(0.02):
        try:
            rows = hvqbench.read_results(place.root / results)
            if rows["key"].duplicated().any():
                troubles.append("a row was read twice")
        except HvqbenchError as error:
            if "no results in" not in str(error):
                troubles.append(f"a reader was told {error}")
        except Exception as error:  # the kind of thing that is looked for
            troubles.append(f"a reader met {type(error).__name__}: {error}")
