"""BD-rate over saved baselines, and the views of ``hvqbench bd``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvqbench import cli
from hvqbench.analysis.baseline import Baseline
from hvqbench.bench.store import Store
from hvqbench.errors import HvqbenchError
from hvqbench.report.history import COLUMNS, history_table, history_text

IMAGES = [f"image{number}" for number in range(6)]


def make_rows(codec: str, share: float, points: int = 4) -> pd.DataFrame:
    rows = []
    for number, image in enumerate(IMAGES):
        for point in range(points):
            size = share * 1000 * (1 + number) * 2**point
            row = {"dataset": "toy", "codec": codec, "point": float(point), "point_name": "q", "image": image}
            row |= {"status": "ok", "reason": "", "width": 100, "height": 100, "bytes": size, "bpp": 8 * size / 1e4}
            row |= {"psnr": 30.0 + 3 * point + 0.1 * number, "metrics": '{"psnr": "psnr/1"}', "started": ""}
            rows.append(row | {"key": f"{codec} {image} {point}", "codec_fingerprint": codec})
    return pd.DataFrame(rows)


def baseline(name: str, saved: str, *rows: pd.DataFrame) -> Baseline:
    return Baseline(name, pd.concat(rows, ignore_index=True), saved, "0")


@pytest.fixture
def releases() -> list[Baseline]:
    """The codec ``mine`` saves a tenth in the second release and loses it in the third; ``jpeg`` stays as it is."""
    jpeg = make_rows("jpeg", 2)
    return [
        baseline("v3", "2026-03-01T00:00:00", jpeg, make_rows("mine", 1)),
        baseline("v1", "2026-01-01T00:00:00", jpeg, make_rows("mine", 1), make_rows("one", 1, points=1)),
        baseline("v2", "2026-02-01T00:00:00", jpeg, make_rows("mine", 0.9), make_rows("one", 0.8, points=1)),
    ]


def test_each_codec_against_itself_in_its_first_baseline(releases: list[Baseline]) -> None:
    table = history_table(releases)
    assert list(table.columns) == list(COLUMNS)
    mine = table[table["codec"] == "mine"]
    assert mine["baseline"].tolist() == ["v1", "v2", "v3"]
    assert mine["anchor"].unique().tolist() == ["v1"]
    np.testing.assert_allclose(mine["bd_rate_percent"], [0, -10, 0], atol=1e-9)
    np.testing.assert_allclose(mine["ci_low"], [0, -10, 0], atol=1e-9)
    np.testing.assert_allclose(table.loc[table["codec"] == "jpeg", "bd_rate_percent"], [0, 0, 0])


def test_a_codec_of_one_point_has_its_bytes(releases: list[Baseline]) -> None:
    one = history_table(releases, codecs=["one"])
    assert one["bd_rate_percent"].isna().all()
    np.testing.assert_allclose(one["bytes_percent"], [0, -20], atol=1e-9)
    assert "-20.00 %" in history_text(one)


def test_against_a_codec_of_the_same_baseline(releases: list[Baseline]) -> None:
    table = history_table(releases, codecs=["mine"], anchor="jpeg")
    assert table["anchor"].unique().tolist() == ["jpeg"]
    np.testing.assert_allclose(table["bd_rate_percent"], [-50, -55, -50])


def test_no_baseline_is_an_error() -> None:
    with pytest.raises(HvqbenchError, match="baseline save"):
        history_table([])


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    store = Store("results")
    store.open()
    for rows in (make_rows("jpeg", 2), make_rows("mine", 1), make_rows("one", 1.5, points=1)):
        for row in rows.assign(started="2026", image_sha256="", digest="").to_dict("records"):
            store.append({str(name): value for name, value in row.items()})
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    return int(stop.value.code or 0)


def test_history_on_the_command_line(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("history") == 2
    assert "baseline save" in capsys.readouterr().err
    assert run("baseline", "save", "first") == 0
    assert run("baseline", "save", "second", "--codec", "mine,jpeg") == 0
    capsys.readouterr()
    assert run("history", "--codec", "mine", "--anchor", "jpeg", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["baseline"], round(row["bd_rate_percent"])) for row in rows] == [("first", -50), ("second", -50)]
    assert run("history", "--metric", "dists") == 2
    assert run("history", "--figure", "history.png") == 0
    assert (workplace / "history.png").read_bytes().startswith(b"\x89PNG")


def test_views_of_bd_on_the_command_line(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bd = ("bd", "--anchor", "jpeg", "--metric", "psnr")
    assert run(*bd) == 0
    text = capsys.readouterr().out
    assert "mine needs 50.00 % fewer bits than jpeg at equal psnr on toy (6 images) [-50.00 to -50.00 %; akima" in text
    assert "--gap has what it needs" in text
    assert run(*bd, "--codec", "mine", "--per-image", "--json") == 0
    (of_images,) = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in of_images["estimands"]] == ["curve of means", "mean of images", "by pixels"]
    assert [row["bd_rate_percent"] for row in of_images["table"]] == pytest.approx([-50] * 6)
    assert run(*bd, "--codec", "one", "--gap") == 0
    text = capsys.readouterr().out
    assert re.search(
        r"^one at 0 \(4\.2000 bpp\) needs 25\.00 % fewer bits than jpeg at psnr \S+ on toy \(6 images\)", text
    )
    assert run(*bd, "--codec", "one", "--gap", "--json") == 0
    assert [gap["images"] for gap in json.loads(capsys.readouterr().out)] == [6]
    assert run(*bd, "--matrix", "--json") == 0
    records = json.loads(capsys.readouterr().out)
    assert [(row["codec"], row["psnr"]) for row in records] == [("mine", pytest.approx(-50)), ("one", None)]
    assert run("bd", "--metric", "psnr", "--matrix") == 0
    assert "+100.00 %" in capsys.readouterr().out
    assert run(*bd, "--at-rate") == 0
    assert "mine has +3 dB psnr against jpeg at equal rate on toy (6 images), better" in capsys.readouterr().out
    assert run(*bd, "--figure", "rate.png") == 0
    assert (workplace / "rate.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--matrix", "--gap", "--anchor", "jpeg"), "give one"),
        ((), "name one with --anchor"),
        (("--anchor", "jpeg", "--codec", "minn"), "did you mean 'mine'"),
        (("--anchor", "jpeg", "--codec", "jpeg"), "no codec to compare with 'jpeg'"),
    ],
)
def test_what_bd_refuses(
    workplace: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run("bd", "--metric", "psnr", *arguments) == 2
    assert said in capsys.readouterr().err
