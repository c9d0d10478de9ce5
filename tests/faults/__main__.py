"""The fault suite: hurt hvqbench in every way that its documentation promises to survive, and print one table.

    python tests/faults                      all of it: some minutes
    python tests/faults --small              a little of each part: what the tests run
    python tests/faults --only kills --kills 200 --seed 7

Exits with 1 if anything came out wrong, after a line for each that says how to see it again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import disk
import flips
import kills
import streams
import writers
from outcome import SHOWN, Outcome, table
from workplace import Workplace

FULL = {"streams": 20000, "kills": 50, "flips": 2000, "disk": 60, "writers": 5}
SMALL = {"streams": 120, "kills": 4, "flips": 60, "disk": 4, "writers": 1}


def main() -> int:
    parser = argparse.ArgumentParser(description="Hurt hvqbench in every way that it promises to survive.")
    parser.add_argument("--small", action="store_true", help="a little of each part")
    for name, count in FULL.items():
        parser.add_argument(f"--{name}", type=int, help=f"how many; {count}, or {SMALL[name]} with --small")
    parser.add_argument("--only", action="append", choices=[*FULL, "mount"], help="only this part")
    parser.add_argument("--codec", action="append", help="of streams: only this VQ codec; may be repeated")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes that decode")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    sizes = (SMALL if asked.small else FULL) | {n: v for n in FULL if (v := getattr(asked, n)) is not None}
    seed, codecs = asked.seed, asked.codec or streams.vq_codecs()
    parts: dict[str, Callable[[Workplace], Outcome]] = {
        "streams": lambda place: streams.fuzz(place, codecs, sizes["streams"], asked.jobs, seed),
        "kills": lambda place: kills.kill(place, sizes["kills"], seed),
        "flips": lambda place: flips.flip(place, sizes["flips"], seed),
        "disk": lambda place: disk.hurt(place, sizes["disk"], seed),
        "mount": disk.mounted,
        "writers": lambda place: writers.write_together(place, sizes["writers"]),
    }
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        place = Workplace(Path(folder))
        for name in asked.only or parts:
            outcomes.append(parts[name](place))
            print(f"{outcomes[-1].part}: {outcomes[-1].seconds:.0f} s", file=sys.stderr)  # noqa: T201
    print(table(outcomes))  # noqa: T201
    for outcome in outcomes:
        for line in outcome.failures[:SHOWN]:
            print(f"\n{outcome.part}: {line}")  # noqa: T201
        if (more := len(outcome.failures) - SHOWN) > 0:
            print(f"\n{outcome.part}: and {more} more")  # noqa: T201
    return int(any(outcome.failures for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
