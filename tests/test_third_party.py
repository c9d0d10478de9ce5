"""Codecs of others run without a change in hvqbench, as docs/codecs.md shows: every file is taken from that page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as PillowImage

import hvqbench

ROOT = Path(__file__).parents[1]
"""Of the checkout: it comes first for the processes that are started."""
OWN = "How do I add my own?"
PROGRAM = "How do I run an external encoder and decoder?"


def blocks(title: str, language: str) -> list[str]:
    """The fenced blocks of a section of docs/codecs.md."""
    page = (ROOT / "docs" / "codecs.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    assert found, title
    return re.findall(rf"^```{language}\n(.*?)^```$", found[1], re.DOTALL | re.MULTILINE)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (11, 18, 3), np.uint8)
    PillowImage.fromarray(pixels).save(folder / "one.png")
    return folder


def run(images: Path, results: Path, *arguments: str, path: Path | None = None, **more: str) -> pd.DataFrame:
    """The rows of ``hvqbench run``, in a process of its own that finds *path* as if it were installed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*([str(path)] if path else []), str(ROOT)])} | more
    line = [sys.executable, "-m", "hvqbench", "run", "--dataset", str(images), "--metric", "psnr"]
    done = subprocess.run(
        [*line, "--results", str(results), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=results.parent,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return hvqbench.read_results(results)


def test_an_adapter_and_a_program_in_a_users_folder_run(images: Path, tmp_path: Path) -> None:
    import imageio_ffmpeg

    mine = tmp_path / "my" / "codecs" / "mine"
    mine.mkdir(parents=True)
    (mine / "codec.toml").write_text(blocks(OWN, "toml")[0])
    (mine / "adapter.py").write_text(blocks(OWN, "python")[0])
    (mine.parent / "program").mkdir()
    (mine.parent / "program" / "codec.toml").write_text(blocks(PROGRAM, "toml")[0])
    (tmp_path / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    rows = run(
        *(images, tmp_path / "results", "--catalog", str(tmp_path / "my"), "--codec", "mine,program"),
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    )
    assert rows.groupby("codec").size().to_dict() == {"mine": 1, "program": 5}
    assert set(rows["status"]) == {"ok"}
    assert rows.loc[rows["codec"] == "mine", "bytes"].item() == 8 + 3 * 11 * 18
    sizes = rows.loc[rows["codec"] == "program", "bytes"]
    assert list(sizes) == sorted(sizes, reverse=True)


def test_a_codec_of_an_installed_package_runs(images: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    folder = site / "my_package" / "mine"
    folder.mkdir(parents=True)
    (folder / "codec.toml").write_text(blocks(OWN, "toml")[0])
    (folder / "adapter.py").write_text(blocks(OWN, "python")[0])
    (folder.parent / "__init__.py").write_text(blocks(OWN, "python")[1])
    info = site / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hvqbench.codecs]\nmine = my_package:codec_toml\n")
    assert 'mine = "my_package:codec_toml"' in blocks(OWN, "toml")[1]
    rows = run(images, tmp_path / "results", "--codec", "mine", path=site)
    assert list(rows[["codec", "status", "bytes"]].iloc[0]) == ["mine", "ok", 8 + 3 * 11 * 18]
