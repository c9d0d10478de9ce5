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
