"""The journeys of new users, as scripts of ``tests/journeys/`` in an empty folder: only what the documentation says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JOURNEYS = sorted((ROOT / "tests" / "journeys").glob("*.sh"))


@pytest.mark.parametrize("script", JOURNEYS, ids=lambda path: path.stem)
@pytest.mark.usefixtures("backbones")
def test_a_journey_ends_where_it_should(script: Path, tmp_path: Path) -> None:
    programs, folder = tmp_path / "bin", tmp_path / "empty"
    programs.mkdir()
    folder.mkdir()
    for name, command in {"hvqbench": f"{sys.executable} -m hvqbench", "python": sys.executable}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HVQBENCH_CATALOG")}
    environment |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment |= {"OMP_NUM_THREADS": "1", "WORKFLOW": str(ROOT / ".github" / "workflows" / "bd-rate.yml")}
    done = subprocess.run(
        ["bash", "-x", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
