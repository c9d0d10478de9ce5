"""Progress is a live table in a terminal, a line now and then elsewhere, and nothing when it is not wanted."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from hvqbench import cli, read_results
from hvqbench.bench import progress as module
from hvqbench.bench.progress import duration, progress
from hvqbench.bench.rows import Row
from hvqbench.image import write_image


def row(codec: str, point: float, **values: float) -> Row:
    place = {"codec": codec, "point_name": "q", "point": point, "image": "a"}
    return place | {"metrics": json.dumps(dict.fromkeys(values, "1")), "bpp": 0.5} | values


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_live_table_has_a_line_for_each_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress(4) as advance:
        advance("jpeg 1 a", False, row("jpeg", 1, psnr=30.0))
        advance("webp 1 a", False, row("webp", 1, psnr=31.5))
        advance("jpeg 2 a", True, row("jpeg", 2))
        advance("fid of jpeg", False)
    last = screen.getvalue().rsplit("codec", 1)[-1]
    lines = {line.split()[0]: line.split() for line in last.splitlines() if line.strip()}
    assert lines["jpeg"][1:] == ["q", "1", "a", "2", "1", "0.5000", "30.0000"]
    assert lines["webp"][1:] == ["q", "1", "a", "1", "0.5000", "31.5000"]
    assert "4/4" in last
    assert "1 failed" in last


def test_elsewhere_it_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 10.0, 40.0, 40.0])
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    with progress(4) as advance:
        advance("jpeg 1 a", False, row("jpeg", 1))
        advance("jpeg 2 a", True, row("jpeg", 2))
    assert capsys.readouterr().err == "hvqbench: 2/4 rows, 1 failed, 0:40 left (jpeg 2 a)\n"


def test_none_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(1, show=False) as advance:
        advance("jpeg 1 a", False, row("jpeg", 1))
    assert capsys.readouterr().err == ""


def test_durations() -> None:
    assert [duration(s) for s in (59.6, 3599.6)] == ["1:00", "1:00:00"]


def test_the_summary_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.png", np.full((16, 24, 3), 90 + ord(name), np.uint8))
    place = ["--dataset", str(tmp_path / "images"), "--results", str(tmp_path / "results")]
    run = ["run", "--codec", "jpeg", "--metric", "psnr", "--points", "20,50", "--json"]
    with pytest.raises(SystemExit) as exit:
        cli.main([*run, *place])
    first, second = json.loads(capsys.readouterr().out)
    assert exit.value.code in (0, None)
    assert (first["codec"], first["point"], first["images"], first["failed"]) == ("jpeg", 20.0, 2, 0)
    rows = read_results(tmp_path / "results")
    assert second["psnr"] == pytest.approx(rows.loc[(rows["codec"] == "jpeg") & (rows["point"] == 50), "psnr"].mean())
