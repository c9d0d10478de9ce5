"""Tails: the tenth that is worst, in the metric's own direction, and the image that a mean hides."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from hvqbench.analysis.tails import COLUMNS, tails, tails_table
from hvqbench.report.scope import ReportData, Scope, Selection
from hvqbench.report.sections import tails as tails_section
from hvqbench.report.spec import TableSpec
from hvqbench.report.summary import summarize

NAMES = [f"photo{number}" for number in range(11)]


def test_good_and_bad_follow_the_metrics_direction() -> None:
    values = np.arange(11.0)
    psnr, lpips = (tails(values, NAMES, higher_is_better=up) for up in (True, False))
    assert (psnr.good, psnr.bad, psnr.worst, psnr.image) == (9, 1, 0, "photo0")
    assert (lpips.good, lpips.bad, lpips.worst, lpips.image) == (1, 9, 10, "photo10")
    assert psnr.mean == lpips.mean == 5


def test_one_ruined_picture_shows_where_the_mean_hides_it() -> None:
    fine, ruined = [0.1] * 11, [0.09] * 10 + [0.2]
    hidden, shown = (tails(values, NAMES, higher_is_better=False) for values in (fine, ruined))
    assert hidden.mean == pytest.approx(shown.mean)
    assert (shown.worst, shown.image, shown.bad) == (0.2, "photo10", 0.09)


def test_few_images_have_a_worst_one_and_no_percentiles() -> None:
    found = tails([30.0, 20.0, 25.0, 40.0, *[50.0] * 5], list("abcdefghi"), higher_is_better=True)
    assert math.isnan(found.good)
    assert math.isnan(found.bad)
    assert (found.worst, found.image, found.images) == (20.0, "b", 9)


def test_what_is_undefined_is_left_out_and_infinity_is_good() -> None:
    values = [math.nan, math.inf, 20.0, 30.0, 40.0, math.inf, *[35.0] * 5]
    found = tails(values, NAMES, higher_is_better=True)
    assert (found.images, found.worst, found.image) == (10, 20.0, "photo2")
    assert found.good == math.inf
    assert tails([math.nan], ["a"], higher_is_better=True).images == 0


def test_the_first_of_equally_bad_images_is_named() -> None:
    assert tails([3.0, 1.0, 1.0], ["c", "b", "a"], higher_is_better=True).image == "a"
    assert tails([1.0, 3.0, 3.0], ["c", "b", "a"], higher_is_better=False).image == "a"


def test_the_table_has_a_row_for_each_codec_point_and_metric() -> None:
    rows = pd.DataFrame(
        [
            {"dataset": "d", "codec": c, "point_name": "q", "point": p, "image": i, "status": "ok"}
            | {"psnr": 20.0 + n + p, "dists": 0.1 * n if c == "a" else math.nan}
            for c in "ab"
            for p in (1.0, 2.0)
            for n, i in enumerate(NAMES)
        ]
    )
    failed = pd.DataFrame([{**rows.iloc[0].to_dict(), "status": "failed", "psnr": 0.0}])
    table = tails_table(pd.concat([rows, failed]), ["psnr", "dists", "lpips-alex"])
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 6  # b has no DISTS, nobody LPIPS
    first = table.iloc[0]
    assert (first["codec"], first["point"], first["metric"], first["images"]) == ("a", 1.0, "psnr", 11)
    assert (first["bad"], first["worst"], first["worst_image"]) == (22.0, 21.0, "photo0")


def test_the_summary_of_a_run_names_the_picture_that_the_codec_ruins() -> None:
    record = {"dataset": "d", "codec": "a", "point_name": "q", "point": 1.0, "status": "ok", "reason": "", "bpp": 0.5}
    record |= {"width": 64, "height": 64, "bytes": 9, "encode_s": 0.1, "decode_s": 0.1, "jobs": 1, "protocol": ""}
    record |= {"metrics": '{"psnr": "1", "lpips-alex": "1"}', "reconstruction_sha256": "x"}
    values = [0.1] * 9 + [0.9]
    rows = pd.DataFrame([record | {"image": NAMES[n], "psnr": 30.0, "lpips-alex": v} for n, v in enumerate(values)])
    said = summarize(rows)
    assert "tails of lpips-alex: a tenth of the images is better, a tenth worse" in said
    assert said.splitlines()[-1].split()[3:] == ["10", "0.1800", "0.1000", "0.1800", "0.9000", "photo9"]
    assert "tails" not in summarize(rows[:9])


def test_a_report_has_them_for_every_metric() -> None:
    record = {"dataset": "d", "codec": "a", "point_name": "q", "point": 1.0, "status": "ok", "bpp": 0.5}
    rows = pd.DataFrame([record | {"image": name, "psnr": 30.0 + n} for n, name in enumerate(NAMES)])
    (table,) = tails_section(TableSpec(kind="tails"), Scope(ReportData(rows), Selection()))
    assert table.name == "tails"
    assert [cell.text for cell in table.cells[0]][-5:] == ["35.0000", "39.0000", "31.0000", "30.0000", "photo0"]
    few = Scope(ReportData(rows[:9]), Selection())
    assert list(tails_section(TableSpec(kind="tails"), few)) == []
