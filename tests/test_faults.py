"""A little of the fault suite (``make faults`` runs all of it): it finds nothing, and is able to find something."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hvqbench.errors import BitstreamError
from hvqbench.vq.container import crc24

SUITE = Path(__file__).parent / "faults"
TRANSFORMER = str(SUITE.parent / "streams/codecs/rvq-prefix")
PARTS = {
    "streams": ["--streams", "40", "--codec", "static-vq", "--codec", "hypervq-rvq-context"],
    "kills": ["--kills", "2"],
    "flips": ["--flips", "100"],
    "disk": ["--disk", "2"],
    "mount": [],
    "writers": ["--writers", "1"],
}


@pytest.mark.parametrize("part", PARTS)
def test_a_little_of_the_fault_suite(part: str) -> None:
    little(part, PARTS[part])


def test_three_hundred_damaged_streams_of_a_transformer() -> None:
    little("streams", ["--streams", "300", "--codec", TRANSFORMER])


def little(part: str, options: list[str]) -> None:
    command = [sys.executable, str(SUITE), "--only", part, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    assert head == ["part", "faults", "tried", "outcome", "failed", "took"]
    ((_, _, tried, _, failed, _),) = rows
    if failed.startswith("skipped: "):
        pytest.skip(failed)
    assert failed == "0", done.stdout
    assert int(tried) == int((options or ["", "4"])[1])


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The suite's own modules can be imported."""
    monkeypatch.syspath_prepend(str(SUITE))
    return SUITE


def test_a_decoder_that_is_wrong_is_told(suite: Path) -> None:
    import streams

    class Decoder:
        id = "mine"

        def __init__(self, answer: object) -> None:
            self.answer = answer

        def decode(self, data: bytes) -> object:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    data = bytes(streams.HEAD) + bytes([7, 5]) + bytes(20)  # 7 wide, 5 high
    cases = [
        (np.zeros((5, 7, 3), np.uint8), "decoded", ""),
        (np.zeros((7, 5, 3), np.uint8), "decoded", r"uint8 \(7, 5, 3\) for a header of \(5, 7, 3\)"),
        (BitstreamError("mine: damaged"), "refused", ""),
        (BitstreamError("damaged"), "refused", "not one line that names the codec"),
        (IndexError("4"), "crashed", "IndexError: 4"),
    ]
    for answer, what, wrong in cases:
        found = streams._decode(Decoder(answer), data)
        assert found[0] == what
        assert re.search(wrong, found[1]) if wrong else not found[1]
    checksums = {}
    for seed in range(200):
        stream, good = streams.damaged(bytes(range(60)), random.Random(seed))
        right = (crc24(stream[:-3]) ^ 0xFFFFFF).to_bytes(3) == stream[-3:]
        assert right == good
        checksums[good] = checksums.get(good, 0) + 1
    assert 5 < checksums[False] < 50


def test_a_changed_value_is_told(suite: Path, tmp_path: Path) -> None:
    import flips

    path = tmp_path / "file"
    path.write_bytes(b"ab")
    seen: list[bytes] = []
    assert flips._with_bit(path, 9, lambda: (seen.append(path.read_bytes()) or "noticed", "")) == ("noticed", "")
    assert seen == [b"a`"]
    assert path.read_bytes() == b"ab"
    assert flips._with_bit(path, 0, lambda: 1 / 0)[0] == "crashed"  # type: ignore[arg-type,return-value]


def test_a_full_disk_is_told_in_one_line(suite: Path) -> None:
    import disk

    line = "hvqbench: cannot write to results: No space left on device; make room"
    assert disk._judged(2, f"hvqbench: a notice\n{line}\n") == ""
    for status, said in ((0, ""), (1, line), (2, "hvqbench: cannot read it"), (2, f"Traceback\n{line}")):
        assert disk._judged(status, said)
