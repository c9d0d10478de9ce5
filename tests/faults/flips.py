"""Single bits flipped in what a store keeps: files of rows and of times, and bitstreams.

Right is one line that says so, or the very rows that were written; a changed value is never read.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
from outcome import Outcome
from workplace import Workplace, difference

import hvqbench
from hvqbench.bench import read_timing
from hvqbench.bench.store import Store
from hvqbench.errors import HvqbenchError

OTHERS = 0.1
"""Part of the flips that are in times, and part that are in bitstreams; the others are in rows."""


def flip(place: Workplace, count: int, seed: int) -> Outcome:
    """*count* flips, each read at once, and undone."""
    outcome = Outcome("bit flips", "one bit of a file of rows or of times, or of a kept stream")
    rng = random.Random(seed)
    with outcome.timed():
        place.whole()
        folder = place.root / "flipped"
        shutil.copytree(place.root / "whole", folder)
        timing = ["run", "--timing", "--repeats", "1", "--codec", "coarse", "--points", "4", "--dataset", "images"]
        place.must([*timing, "--results", "flipped"])
        files = {
            "rows": sorted(folder.rglob("codec=*/*.parquet")),
            "times": sorted(folder.rglob("_timing/*.parquet")),
            "streams": sorted(folder.rglob("_streams/**/*.bin")),
        }
        whole, times = hvqbench.read_results(folder), read_timing(folder)
        for _ in range(count):
            (kind,) = rng.choices(list(files), [1 - 2 * OTHERS, OTHERS, OTHERS])
            path = rng.choice(files[kind])
            bit = rng.randrange(8 * path.stat().st_size)
            checks = {
                "rows": partial(_table, hvqbench.read_results, folder, whole),
                "times": partial(_table, read_timing, folder, times),
                "streams": partial(_stream, folder, path.stem),
            }
            what, wrong = _with_bit(path, bit, checks[kind])
            outcome.add(f"{kind} {what}", f"bit {bit} of {path.relative_to(folder)}: {wrong}" if wrong else "")
    return outcome


def _with_bit(path: Path, bit: int, check: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    content = path.read_bytes()
    hurt = bytearray(content)
    hurt[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(hurt))
    try:
        return check()
    except Exception as error:  # the kind of thing that is looked for
        return "crashed", f"{type(error).__name__}: {error}"
    finally:
        path.write_bytes(content)


def _table(reader: Callable[[Path], pd.DataFrame], folder: Path, whole: pd.DataFrame) -> tuple[str, str]:
    try:
        read = reader(folder)
    except HvqbenchError as error:
        return "noticed", "" if "\n" not in str(error) else f"not one line: {error}"
    changed = difference(read, whole)
    return ("changed", changed) if changed else ("harmless", "")


def _stream(folder: Path, sha256: str) -> tuple[str, str]:
    data = Store(folder).stream(sha256)
    return ("noticed", "") if data is None else ("changed", "an altered stream was read")
