"""A little of the fault suite (``make faults`` runs all of it): each part finds nothing, and is able to find something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "faults"
PARTS = {
    "streams": ["--streams", "40", "--codec", "static-vq", "--codec", "hypervq-rvq-context"],
    "kills": ["--kills", "2"],
    "flips": ["--flips", "100"],
    "disk": ["--disk", "2"],
    "writers": ["--writers", "1"],
}


@pytest.mark.parametrize("part", PARTS)
def test_a_little_of_the_fault_suite(part: str) -> None:
    command = [sys.executable, str(SUITE), "--only", part, *PARTS[part]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    assert head == ["part", "faults", "tried", "outcome", "failed", "took"]
    tried = {row[0]: (int(row[2]), row[4]) for row in rows}
    assert [failed for count, failed in tried.values() if count] == ["0"] * sum(
        count > 0 for count, _ in tried.values()
    )
    assert next(iter(tried.values()))[0] == int(PARTS[part][1])


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    """A decoder that takes any checksum, a store that reads what is there: the suite fails, and says how to see it."""
    hurt = tmp_path / "sitecustomize.py"
    hurt.write_text(
        "import hvqbench.vq.container as container\n"
        "container._checksum = lambda body: type('Any', (bytes,), {'__ne__': lambda *_: False})(3)\n"
    )
    command = [sys.executable, str(SUITE), "--only", "streams", "--streams", "30", "--codec", "static-vq"]
    environment = {"PYTHONPATH": f"{tmp_path}:{SUITE.parents[1]}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a wrong checksum was taken" in done.stdout
    assert "python tests/faults/streams.py static-vq 30 1" in done.stdout
