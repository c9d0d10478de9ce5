"""``make CPU=1`` asks the index of PyTorch without CUDA once, and says what it does where that does not answer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/sh
[ "$1" = -c ] && { echo "no route" >&2; exit %d; }
echo "$@" >> called
"""
"""Stands for ``.venv/bin/python``: ends with the given status where it is asked for the index."""

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")


def install(folder: Path, status: int, *options: str) -> tuple[str, str]:
    """What pip is called with, and what is said on stderr."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON % status)
    python.chmod(0o755)
    done = subprocess.run(["make", ".venv", *options], cwd=folder, capture_output=True, text=True, check=True)
    return (folder / "called").read_text(), done.stderr


def test_an_index_that_answers_is_given_to_pip(tmp_path: Path) -> None:
    called, said = install(tmp_path, 0, "CPU=1")
    assert "--extra-index-url https://download.pytorch.org/whl/cpu -e ." in called
    assert not said


def test_an_index_that_does_not_answer_is_said_in_one_line_and_not_tried(tmp_path: Path) -> None:
    called, said = install(tmp_path, 1, "CPU=1")
    assert "pip install" in called
    assert "index-url" not in called
    assert "is not reachable: installing PyTorch with CUDA, 3 GB to download" in said
    assert said.count("\n") == 1


def test_without_cpu_no_index_is_asked(tmp_path: Path) -> None:
    called, said = install(tmp_path, 1)
    assert "index-url" not in called
    assert not said
