"""Single bits flipped in what a store keeps: files of rows, and bitstreams.

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
from hvqbench.bench.store import Store
from hvqbench.errors import HvqbenchError

STREAMS = 0.1
"""Part of the flips that are in bitstreams."""


def flip(place: Workplace, count: int, seed: int) -> Outcome:
    """*count* flips, each read at once, and undone."""
    outcome = Outcome("bit flips", "one bit of a file of rows, or of a kept stream")
    rng = random.Random(seed)
    with outcome.timed():
        place.whole()
        folder = place.root / "flipped"
        shutil.copytree(place.root / "whole", folder)
        whole = hvqbench.read_results(folder)
        rows = sorted(folder.rglob("codec=*/*.parquet"))
        streams = sorted(folder.rglob("_streams/**/*.bin"))
        for _ in range(count):
            of_stream = rng.random() < STREAMS
            path = rng.choice(streams if of_stream else rows)
            bit = rng.randrange(8 * path.stat().st_size)
            check = partial(_stream, folder, path.stem) if of_stream else partial(_table, folder, whole)
            what, wrong = _with_bit(path, bit, check)
            kind = "streams" if of_stream else "rows"
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


def _table(folder: Path, whole: pd.DataFrame) -> tuple[str, str]:
    try:
        read = hvqbench.read_results(folder)
    except HvqbenchError as error:
        return "noticed", "" if "\n" not in str(error) else f"not one line: {error}"
    changed = difference(read, whole)
    return ("changed", changed) if changed else ("harmless", "")


def _stream(folder: Path, sha256: str) -> tuple[str, str]:
    data = Store(folder).stream(sha256)
    return ("noticed", "") if data is None else ("changed", "an altered stream was read")
