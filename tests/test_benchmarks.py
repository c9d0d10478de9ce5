"""The benchmarks run: once through each, with small codecs and without a clock."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_benchmarks_run(vq_catalog: Path) -> None:
    files = sorted(str(path) for path in (ROOT / "tests" / "benchmarks").glob("bench_*.py"))
    chosen = "tiny-hyperprior or (rvq-context and not hypervq) or jpeg or psnr"
    command = [sys.executable, "-m", "pytest", *files, "--benchmark-disable", "-k", chosen, "-p", "no:cacheprovider"]
    environment = os.environ | {"HVQBENCH_CATALOG": str(vq_catalog), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = set(re.findall(r"SKIPPED.* (there is no .*)", done.stdout))
    # A decoder analyses nothing, and tiny-hyperprior has no context; all else has its span in the codec.
    assert skipped == {"there is no h-analysis here", "there is no context here"}
    # Two codecs with 5 parts and 6, of which a decoder has one fewer; whole, tokenizer and files; jpeg and psnr.
    assert f"{(5 + 4) + (6 + 5) + 2 * (2 + 2 + 3) + 2 + 2} passed" in done.stdout


def test_only_make_bench_collects_them() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/benchmarks"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "no tests collected" in done.stdout


def script(name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / name), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr  # small inputs may miss the targets
    return done.stdout


def test_metrics_are_compared_with_their_packages(backbones: None) -> None:
    said = script("compare_packages.py", "--images", "1", "--points", "2", "--crop", "176")
    found = re.fullmatch(r"packages [\d.]+ s, hvqbench [\d.]+ s of CPU: [\d.]+ times .*difference (\S+)\n", said)
    assert found
    assert float(found[1]) < 1e-5


def test_the_overhead_of_a_run_is_measured() -> None:
    said = script("run_overhead.py", "--codec", "jpeg", "--metric", "psnr", "--dataset", "sample", "--limit", "1")
    for line in ("plain loop", "run --jobs 1", "run --jobs 2", "cached rows only"):
        assert re.search(rf"^{line} [\d.]+ s", said, re.MULTILINE)


def test_a_large_store_is_made_and_asked() -> None:
    said = script("million_rows.py", "--rows", "2000")
    assert [line.partition(":")[0] for line in said.splitlines()] == ["bd of two codecs", "bd of all", "report"]
