"""``hvqbench show`` draws curves in a terminal, and is a plain table or JSON elsewhere."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from hvqbench import cli
from hvqbench.report.terminal import CurveView


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    """Two codecs over six images, of which one has a single point."""
    rows = []
    for (codec, points), image in itertools.product({"jpeg": (10, 30, 50), "webp": (40,)}.items(), range(6)):
        for point in points:
            values = {"psnr": 20.0 + point / 5 + image, "bpp": 0.1 * point + 0.01 * image}
            place = {"dataset": "toy", "codec": codec, "point": float(point), "image": str(image), "status": "ok"}
            rows.append(place | values)
    return pd.DataFrame(rows)


def test_charts_have_every_point_by_letter_and_fit(results: pd.DataFrame) -> None:
    text = CurveView(results).charts(70, colour=False)
    assert "\x1b" not in text
    body = text.split("┌")[1].split("└")[0]
    assert (body.count("a"), body.count("b")) == (3, 1)
    assert text.splitlines()[-1] == "a jpeg   b webp"
    assert "toy (6 images): PSNR (RGB) [dB] ↑" in text
    assert max(map(len, text.splitlines())) <= 70
    # Quality rises from left to right, and up is better.
    rows = [line.index("a") for line in body.splitlines() if "a" in line]
    assert rows == sorted(rows, reverse=True)


def test_colour_changes_nothing_else(results: pd.DataFrame) -> None:
    coloured = CurveView(results).charts(70)
    assert "\x1b[38;5;166m" in coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == CurveView(results).charts(70, colour=False).splitlines()


def test_records_have_points_and_intervals(results: pd.DataFrame) -> None:
    jpeg, webp = CurveView(results, metrics=["psnr"]).records()
    assert (jpeg["points"], jpeg["images"], jpeg["published"]) == ([10.0, 30.0, 50.0], 6, False)
    assert jpeg["values"] == pytest.approx([24.5, 28.5, 32.5])
    assert all(low < value < high for low, value, high in zip(jpeg["low"], jpeg["values"], jpeg["high"], strict=True))
    assert len(webp["bpp"]) == 1
    json.dumps([jpeg, webp])


def test_what_is_asked_for_and_not_there_is_said(results: pd.DataFrame) -> None:
    curves = CurveView(results, codecs=["jpeg", "vtm"], datasets=["kodak", "toy"], metrics=["psnr", "dists"])
    assert [record["codec"] for record in curves.records()] == ["jpeg"]
    said = "\n".join(curves.missing)
    assert "codec vtm: no results" in said
    assert "data set kodak: no results" in said
    assert "metric dists: the results have none" in said


def test_published_curves_are_named_as_such(results: pd.DataFrame) -> None:
    kodak = results.assign(dataset="kodak", bpp=results["bpp"] / 2)
    text = CurveView(kodak, published=["vtm"]).text()
    assert "vtm (published)" in text


def test_piped_it_is_a_table_and_json_is_json(
    results: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hvqbench.bench.read_results", lambda path: results)
    assert _run("show", "--results", str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:6] == ["dataset", "metric", "codec", "images", "bpp", "value"]
    assert len(lines) == 2 + 4
    assert _run("show", "--codec", "jpeg", "--json") == 0
    assert [record["codec"] for record in json.loads(capsys.readouterr().out)] == ["jpeg"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert _run("show", "--metric", "psnr") == 0
    assert "┌" in capsys.readouterr().out


def test_failures_alone_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failed = pd.DataFrame([{"dataset": "toy", "codec": "jpeg", "point": 1.0, "image": "a", "status": "failed"}])
    monkeypatch.setattr("hvqbench.bench.read_results", lambda path: failed)
    assert _run("show") == 2
    assert capsys.readouterr().err == (
        "hvqbench: no codec finished an image with a metric: `hvqbench report` says what failed\n"
    )


def _run(*arguments: str) -> int:
    try:
        cli.main(list(arguments))
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0
