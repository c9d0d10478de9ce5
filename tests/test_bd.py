"""BD-rate: published values to 1e-4, and every guard."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvqbench.analysis.bd import FLAGS, bd_rate, bd_rate_from_curves, bd_table
from hvqbench.errors import HvqbenchError

CURVES = Path(os.environ.get("HVQBENCH_DATA", "")) / "curves"
needs_curves = pytest.mark.skipif(
    not (CURVES / "compressai-kodak").is_dir(), reason="HVQBENCH_DATA with its folder 'curves' is not set"
)

# README of the bjontegaard package.
ANCHOR = ([9487.76, 4593.60, 2486.44, 1358.24], [40.037, 38.615, 36.845, 34.851])
TEST = ([9787.80, 4469.00, 2451.52, 1356.24], [40.121, 38.651, 36.970, 34.987])
SIMPLE = ([0.1, 0.2, 0.4, 0.8], [30.0, 33.0, 36.0, 39.0])


@pytest.mark.parametrize(("method", "percent"), [("cubic", -4.420463), ("pchip", -4.417485), ("akima", -4.425245)])
def test_example_of_the_bjontegaard_package(method: str, percent: float) -> None:
    bd = bd_rate_from_curves(*ANCHOR, *TEST, method=method)
    assert bd.percent == pytest.approx(percent, abs=1e-4)
    assert bd.flags == ()
    assert bd.points == (4, 4)


@needs_curves
@pytest.mark.parametrize(
    ("codec", "cubic", "pchip", "akima", "overlap"),
    [
        ("bpg_444_x265_ycbcr", 22.051, 21.987, 21.985, 0.95),
        ("hm", 23.390, 23.307, 23.303, 0.94),
        ("av1", 16.221, 16.178, 16.180, 0.85),
        ("compressai-bmshj2018-hyperprior_mse_cuda", 30.139, 30.486, 30.466, 0.63),
        ("compressai-mbt2018_mse_cuda", 10.614, 11.017, 11.014, 0.61),
        ("compressai-cheng2020-anchor_mse_cuda", 3.789, 3.681, 3.587, 0.40),
        ("paper-elic2022_mse", -7.165, -7.024, -7.060, 0.42),
    ],
)
def test_published_curves_against_vtm(codec: str, cubic: float, pchip: float, akima: float, overlap: float) -> None:
    anchor, test = _compressai("vtm"), _compressai(codec)
    for method, percent in (("cubic", cubic), ("pchip", pchip), ("akima", akima)):
        bd = bd_rate_from_curves(*anchor, *test, method=method)
        # The values are recorded with three digits.
        assert bd.percent == pytest.approx(percent, abs=5e-4 + 1e-4)
        assert bd.overlap == pytest.approx(overlap, abs=0.006)
    assert ("low_overlap" in bd.flags) == (overlap < 0.5)


@needs_curves
@pytest.mark.parametrize(
    ("column", "cubic", "pchip", "akima"),
    [("lpips", -14.0504, -12.9479, -12.9692), ("dists", 97.0790, 96.0037, 95.6102)],
)
def test_lower_is_better_on_published_curves(column: str, cubic: float, pchip: float, akima: float) -> None:
    anchor, test = (_csv("msillm.csv", column, model=model, dataset="kodak") for model in ("MS-ILLM", "No-GAN"))
    for method, percent in (("cubic", cubic), ("pchip", pchip), ("akima", akima)):
        bd = bd_rate_from_curves(*anchor, *test, higher_is_better=False, method=method)
        assert bd.percent == pytest.approx(percent, abs=1e-4)


@needs_curves
@pytest.mark.parametrize(
    ("dataset", "pchip", "akima"), [("clic2020", 7.24, 7.49), ("div2k", 8.75, 8.84), ("kodak", 10.52, 10.56)]
)
def test_published_curves_of_low_overlap(dataset: str, pchip: float, akima: float) -> None:
    anchor, test = (
        _csv("msillm.csv", "lpips", model="MS-ILLM", dataset=dataset),
        _csv("hific.csv", "LPIPS", dataset=dataset),
    )
    for method, percent in (("pchip", pchip), ("akima", akima)):
        bd = bd_rate_from_curves(*anchor, *test, higher_is_better=False, method=method)
        assert bd.percent == pytest.approx(percent, abs=0.005 + 1e-4)  # recorded with two digits
        assert bd.flags == ("few_points", "low_overlap")


@needs_curves
def test_published_curves_without_overlap_are_refused() -> None:
    anchor = _csv("msillm.csv", "lpips", model="MS-ILLM", dataset="div2k")
    bd = bd_rate_from_curves(
        *anchor, *_csv("rdvq_digitised.csv", "lpips_alex", dataset="div2k-val"), higher_is_better=False
    )
    assert math.isnan(bd.percent)
    assert bd.flags == ("no_overlap",)


def test_half_the_rate_is_minus_fifty_percent_in_both_polarities() -> None:
    rate, quality = SIMPLE
    half = [r / 2 for r in rate]
    assert bd_rate_from_curves(rate, quality, half, quality).percent == pytest.approx(-50)
    lower = [1 / q for q in quality]
    assert bd_rate_from_curves(rate, lower, half, lower, higher_is_better=False).percent == pytest.approx(-50)


def test_the_order_of_points_does_not_matter() -> None:
    shuffled = [2, 0, 3, 1]
    mixed = tuple([values[i] for i in shuffled] for values in TEST)
    assert bd_rate_from_curves(*ANCHOR, *mixed) == bd_rate_from_curves(*ANCHOR, *TEST)


def test_identical_curves_are_zero_with_full_overlap() -> None:
    bd = bd_rate_from_curves(*SIMPLE, *SIMPLE)
    assert bd.percent == 0
    assert bd.overlap == 1
    assert bd.flags == ()


@pytest.mark.parametrize("offset", [9.0, 20.0])
def test_disjoint_quality_ranges_are_refused_and_never_zero(offset: float) -> None:
    # At 9 dB the two ranges touch in one value.
    rate, quality = SIMPLE
    bd = bd_rate_from_curves(rate, quality, rate, [q + offset for q in quality])
    assert math.isnan(bd.percent)
    assert bd.overlap == 0
    assert bd.flags == ("no_overlap",)
    assert "do not overlap" in bd.text


def test_low_overlap_gives_a_number_and_says_so() -> None:
    rate, quality = SIMPLE
    bd = bd_rate_from_curves(rate, quality, rate, [q + 6 for q in quality])
    assert bd.percent < 0
    assert bd.overlap == pytest.approx(3 / 15)
    assert bd.flags == ("low_overlap",)
    assert "caution" in bd.text


def test_a_point_that_costs_more_for_less_is_left_out_and_said() -> None:
    rate, quality = SIMPLE
    bd = bd_rate_from_curves(rate, quality, [*rate, 0.3], [*quality, 32.0])
    assert bd.percent == pytest.approx(0)
    assert bd.points == (4, 4)
    assert bd.flags == ("non_monotone",)


@pytest.mark.parametrize("tie", [(0.2, 33.0), (0.2, 32.0), (0.3, 33.0)])
def test_ties_are_merged_into_the_better_point(tie: tuple[float, float]) -> None:
    rate, quality = SIMPLE
    bd = bd_rate_from_curves(rate, quality, [*rate, tie[0]], [*quality, tie[1]])
    assert bd.percent == pytest.approx(0)
    assert bd.flags == ("merged_ties",)


def test_points_without_a_number_are_left_out_and_said() -> None:
    rate, quality = SIMPLE
    bd = bd_rate_from_curves(rate, quality, [*rate, 1.6, 0.0], [*quality, math.inf, 20.0])
    assert bd.percent == pytest.approx(0)
    assert bd.flags == ("not_finite",)


@pytest.mark.parametrize(
    ("count", "method", "flag"),
    [
        *((0, "akima", "too_few_points"), (1, "pchip", "too_few_points"), (3, "cubic", "too_few_points")),
        *((2, "akima", "few_points"), (2, "pchip", "few_points"), (3, "akima", "few_points")),
    ],
)
def test_few_points(count: int, method: str, flag: str) -> None:
    rate, quality = SIMPLE
    bd = bd_rate_from_curves(rate, quality, [r / 2 for r in rate[:count]], quality[:count], method=method)
    assert flag in bd.flags
    assert "no_overlap" not in bd.flags
    assert math.isnan(bd.percent) == (flag == "too_few_points")
    if flag == "few_points":
        assert bd.percent == pytest.approx(-50)


def test_every_flag_has_words() -> None:
    rate = [0.1, 0.1, 0.3, 0.2]
    bd = bd_rate_from_curves(rate, [30, 30, 31, 32], *SIMPLE)
    assert bd.flags
    assert all(FLAGS[flag] in bd.text for flag in bd.flags)


def test_unknown_method() -> None:
    with pytest.raises(HvqbenchError, match="akima, pchip, cubic"):
        bd_rate_from_curves(*SIMPLE, *SIMPLE, method="spline")


def test_bd_rate_of_results_uses_the_images_that_both_codecs_have() -> None:
    results = _results()
    bd = bd_rate(results, "half", "full", "lpips-alex")
    assert bd.percent == pytest.approx(-50)
    assert (bd.images, bd.dataset, bd.flags) == (3, "toy", ())
    assert "half needs 50.00 % fewer bits than full at equal lpips-alex on toy (3 images)" in bd.text

    # The third image failed for one codec, and would be an easy one for the other.
    lost = (results["codec"] == "half") & (results["image"] == "c") & (results["point"] == 2)
    results.loc[lost, ["status", "lpips-alex"]] = ["failed", np.nan]
    results.loc[(results["codec"] == "full") & (results["image"] == "c"), "bpp"] /= 100
    bd = bd_rate(results, "half", "full", "lpips-alex")
    assert bd.percent == pytest.approx(-50)
    assert (bd.images, bd.flags) == (2, ("images_differ",))


def test_a_codec_that_failed_everywhere_has_no_bd_rate() -> None:
    results = _results()
    results.loc[results["codec"] == "half", "status"] = "failed"
    bd = bd_rate(results, "half", "full", "lpips-alex")
    assert math.isnan(bd.percent)
    assert "too_few_points" in bd.flags
    assert bd.images == 0


def test_bd_table_has_a_row_for_each_other_codec_and_metric() -> None:
    table = bd_table(_results(), "full", ["lpips-alex", "psnr"])
    assert list(zip(table["metric"], table["codec"], strict=True)) == [("lpips-alex", "half"), ("psnr", "half")]
    assert table["bd_rate_percent"].tolist() == pytest.approx([-50, -50])


def test_bd_table_takes_the_data_sets_that_have_the_anchor() -> None:
    results = _results()
    other = results[results["codec"] == "half"].assign(dataset="without anchor")
    table = bd_table(pd.concat([results, other], ignore_index=True), "full", "psnr")
    assert table["dataset"].tolist() == ["toy"]
    with pytest.raises(HvqbenchError, match="no codec 'nope'"):
        bd_table(results, "nope", "psnr")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nope", "full", "psnr"), "no codec 'nope'"),
        (("half", "nope", "psnr"), "no codec 'nope'"),
        (("half", "full", "nope"), "metric 'nope'"),
        (("half", "full", "dists"), "no metric 'dists'"),
        (("half", "full", "psnr", "nope"), "no data set 'nope'"),
    ],
)
def test_unknown_names_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(HvqbenchError, match=said) as error:
        bd_rate(_results(), *arguments)
    assert "\n" not in str(error.value)


def _results() -> pd.DataFrame:
    rows = []
    for codec, share in (("full", 1.0), ("half", 0.5)):
        for offset, image in enumerate("abc"):
            for point in range(4):
                bpp = share * 0.1 * 2**point * (1 + offset)
                values = {"lpips-alex": 0.5 - 0.1 * point, "psnr": 25.0 + 3 * point}
                row = {"codec": codec, "dataset": "toy", "point": point, "image": image, "bpp": bpp, "status": "ok"}
                rows.append(row | values)
    return pd.DataFrame(rows)


def _compressai(name: str) -> tuple[list[float], list[float]]:
    results = json.loads((CURVES / "compressai-kodak" / f"{name}.json").read_text())["results"]
    return results["bpp"], results.get("psnr-rgb") or results["psnr"]


def _csv(name: str, column: str, **wanted: str) -> tuple[list[float], list[float]]:
    """Rate and *column* of the rows of a published table in which each column of *wanted* has that value."""
    with (CURVES / name).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items())]
    return [float(row["bpp"]) for row in rows], [float(row[column]) for row in rows]
