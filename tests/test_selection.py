"""Codecs are named in one way everywhere: ids, tags and paths, each with points of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import hvqbench
from hvqbench import cli
from hvqbench.bench.plan import find_entries
from hvqbench.errors import HvqbenchError
from hvqbench.selection import Choice, choose_among, choose_codecs, only_points, parse_choices


@pytest.mark.parametrize(
    ("texts", "choices"),
    [
        (["hypervq@0,1.6"], [Choice("hypervq", (0, 1.6))]),
        (["a@0", "1.6", "b@5", "20", "c"], [Choice("a", (0, 1.6)), Choice("b", (5, 20)), Choice("c")]),
        (["published:vtm@diffeic"], [Choice("published:vtm@diffeic")]),
        (["a/codec.toml@-1e-3"], [Choice("a/codec.toml", (-0.001,))]),
        ("jpeg", [Choice("jpeg")]),
    ],
)  # fmt: skip
def test_points_follow_the_name(texts: list[str], choices: list[Choice]) -> None:
    assert parse_choices(texts) == choices


@pytest.mark.parametrize("text", ["hypervq@", "hypervq@x", "hypervq@0,x", "hypervq@nan", "hypervq@0,inf"])
def test_what_is_no_point_is_refused(text: str) -> None:
    with pytest.raises(HvqbenchError, match=r"is not a point; write points like hypervq@0,1\.6"):
        parse_choices(text)


def test_a_path_that_has_an_at_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "jpeg@2"
    folder.mkdir()
    assert parse_choices(str(folder)) == [Choice(str(folder))]
    assert parse_choices(f"{folder}@7") == [Choice(str(folder), (7,))]


def test_own_points_go_before_those_of_all_and_these_before_the_ladder() -> None:
    ladder = hvqbench.load_codec("jpeg").points

    def points(codecs: list[str], points: list[float] | None = None) -> list[tuple[float, ...]]:
        return [entry.points for entry in find_entries(codecs, points)]

    assert points(["jpeg@5", "webp"]) == [(5,), ()]
    assert points(["jpeg@5", "jpeg@20,5"]) == [(5, 20)]
    assert points(["jpeg", "jpeg@5.5"]) == [(*ladder, 5.5)]
    assert points(["jpeg", "jpeg@5.5"], [1]) == [(1, 5.5)]
    assert all(own == [(3.0,)] for own in choose_codecs("classic@3").values())


def test_names_among_results() -> None:
    known = ["jpeg", "webp", "mine"]
    assert choose_among("classic@5", known) == {"jpeg": (5,), "webp": (5,)}
    assert choose_among(["my/mine/codec.toml", "jpeg@5", "jpeg"], known) == {"mine": (), "jpeg": ()}
    with pytest.raises(HvqbenchError, match=r"no codec 'jpge': did you mean 'jpeg'\? they have jpeg, mine, webp"):
        choose_among("jpge", known)


def test_rows_at_other_points_go_and_rows_without_one_stay() -> None:
    rows = pd.DataFrame({"codec": ["a", "a", "a", "b"], "point": [0.0, 1.0, float("nan"), 1.0]})
    assert list(only_points(rows, {"a": (0.0,)}).index) == [0, 2, 3]
    assert only_points(rows, {"a": (), "b": (1.0,)}) is rows


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments])
    return int(caught.value.code or 0)


def test_run_bd_and_show_with_points_of_their_own(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--results", str(tmp_path / "results")]
    codecs = ["--codec", "jpeg@5,30,60,90", "--codec", "webp@10,40,70,95"]
    assert run("run", *codecs, "--dataset", str(images), "--metric", "psnr", *place) == 0
    rows = hvqbench.read_results(tmp_path / "results")
    assert rows.groupby("codec")["point"].unique().map(list).to_dict() == (
        {"jpeg": [5, 30, 60, 90], "webp": [10, 40, 70, 95]}
    )
    capsys.readouterr()
    bd = ["bd", "--metric", "psnr", "--json", *place]
    records = {}
    for anchor, codec in (("jpeg", "webp"), ("jpeg@30,60,90", "webp"), ("jpeg", "webp@10,40")):
        run(*bd, "--anchor", anchor, "--codec", codec)
        (record,) = json.loads(capsys.readouterr().out)
        records[anchor, codec] = record
    assert [(r["anchor_points"], r["codec_points"]) for r in records.values()] == [(4, 4), (3, 4), (4, 2)]
    run("show", "--codec", "classic@40,60", "--json", *place)
    assert {r["codec"]: r["points"] for r in json.loads(capsys.readouterr().out)} == {"jpeg": [60], "webp": [40]}
