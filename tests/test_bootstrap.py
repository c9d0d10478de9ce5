"""Intervals by resampling: the batch against the package, coverage of known truths, and what has no interval."""

from __future__ import annotations

import re
import time
import warnings

import bjontegaard
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from hvqbench.analysis import (
    bd_metric,
    bd_rate,
    bootstrap,
    curve_band,
    per_image,
    rate_gaps,
    rate_over_quality,
    square_matrix,
)
from hvqbench.analysis.batch import METHODS, bd_metrics, bd_rates, log_rates
from hvqbench.analysis.bd import bd_rate_from_curves
from hvqbench.analysis.bootstrap import Resampling, bd_interval, mean_interval
from hvqbench.analysis.curves import Curve
from hvqbench.analysis.estimands import ESTIMANDS
from hvqbench.analysis.matrix import anchor_matrix
from hvqbench.errors import HvqbenchError

POINTS = np.arange(6)


def simulate(rng: np.random.Generator, images: int, saving: float, spread: float = 0.08) -> tuple[Curve, Curve]:
    """An anchor, and a codec that spends a share of its bits drawn for each image; all at the same qualities.

    Images differ in difficulty, as photographs do. The BD-rate of the mean curves of endless images is *saving* in
    per cent, since the shares have that mean and are independent of the rates.
    """
    difficulty = np.exp(rng.normal(0, 0.5, (images, 1)))
    bpp = 0.1 * difficulty * np.exp(0.45 * POINTS + rng.normal(0, 0.02, (images, 6)))
    quality = 28 + 1.8 * POINTS + rng.normal(0, 1.5, (images, 1))
    share = (1 + saving / 100) * np.exp(rng.normal(0, spread, (images, 1)) - spread**2 / 2)
    return curve("old", bpp, quality), curve("new", share * bpp, quality.copy())


def curve(codec: str, bpp: np.ndarray, values: np.ndarray, pixels: np.ndarray | None = None) -> Curve:
    names = tuple(f"image{number:03}" for number in range(len(bpp)))
    points = tuple(map(float, range(bpp.shape[1])))
    of_images = {"image_bpp": bpp, "image_values": values, "pixels": np.ones(len(bpp)) if pixels is None else pixels}
    return Curve(codec, "toy", "psnr", points, bpp.mean(0), values.mean(0), names, **of_images)


def as_results(*curves: Curve) -> pd.DataFrame:
    rows = [
        {
            "codec": one.codec,
            "dataset": "toy",
            "point": point,
            "image": image,
            "status": "ok",
            "bpp": one.image_bpp[i, j],
            "psnr": one.image_values[i, j],
            "width": one.pixels[i],
            "height": 1,
        }
        for one in curves
        for i, image in enumerate(one.images)
        for j, point in enumerate(one.points)
    ]
    return pd.DataFrame(rows)


def coverage(trials: int, images: int = 24, saving: float = -10) -> float:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(trials):
        low, high = bd_interval(*simulate(rng, images, saving), True)
        inside += low <= saving <= high
    return inside / trials


@pytest.mark.slow
@pytest.mark.parametrize(("images", "saving"), [(24, -10.0), (8, 3.0)])
def test_the_interval_covers_a_known_bd_rate(images: int, saving: float) -> None:
    assert 0.92 <= coverage(500, images, saving) <= 0.98


@pytest.mark.parametrize(("images", "widened", "plain"), [(5, 0.86, 0.61), (8, 0.97, 0.77), (24, 1.0, 0.92)])
def test_the_percentiles_are_widened_to_what_students_t_has(images: int, widened: float, plain: float) -> None:
    """Of a mean the width is nearly that of Student's interval. Five images have too few resamples for all of it."""
    rng = np.random.default_rng(2)
    ratios = []
    for _ in range(50):
        values = rng.normal(0, 1, images)
        low, high = mean_interval(values)
        half = scipy.stats.t.ppf(0.975, images - 1) * values.std(ddof=1) / np.sqrt(images)
        ratios.append((high - low) / (2 * half))
    assert np.mean(ratios) == pytest.approx(widened, abs=0.03)
    assert np.mean(ratios) > plain + 0.04


def test_intervals_of_few_images_cover_what_they_say() -> None:
    """The mean of 8 images: 94.6 % of 2000, and 88.7 % by plain percentiles. BD-rates have the slow test above."""
    rng = np.random.default_rng(1)
    intervals = np.array([mean_interval(rng.normal(3, 1, 8)) for _ in range(2000)])
    inside = (intervals[:, 0] <= 3) & (intervals[:, 1] >= 3)
    assert 0.93 < inside.mean() < 0.96


def test_two_thousand_resamples_of_kodak_take_less_than_a_second() -> None:
    anchor, test = simulate(np.random.default_rng(1), 24, -10)
    bd_interval(anchor, test, True)  # imports, and the first draw of the images
    start = time.process_time()
    bd_interval(anchor, test, True, how=Resampling(seed=5))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("first", "second"), [(4, 4), (6, 5), (4, 9), (3, 2), (2, 2)])
def test_a_batch_is_what_the_package_gives_one_by_one(method: str, first: int, second: int) -> None:
    if min(first, second) < METHODS[method]:
        pytest.skip("too few points for that method")
    rng = np.random.default_rng(first * 10 + second)
    anchor, test = (_random_curves(rng, 40, count) for count in (first, second))
    pairs = list(zip(*anchor, *test, strict=True))
    options = {"method": method, "require_matching_points": False, "min_overlap": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that curves do not overlap
        rates = [bjontegaard.bd_rate(*pair, **options) for pair in pairs]
        gains = [bjontegaard.bd_psnr(*pair, **options) for pair in pairs]
    assert np.isfinite(rates).sum() > 20
    np.testing.assert_allclose(bd_rates(anchor, test, method), rates, rtol=1e-6)
    np.testing.assert_allclose(bd_metrics(anchor, test, method), gains, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_ragged_and_broken_curves_in_a_batch_are_what_the_guard_makes_of_each(method: str) -> None:
    rng = np.random.default_rng(7)
    anchor, test = _random_curves(rng, 200, 6), _random_curves(rng, 200, 6)
    for rate, quality in (anchor, test):
        quality += rng.normal(0, 1, quality.shape)  # many are not monotone now
        quality[rng.random(quality.shape) < 0.1] = np.nan
        rate[rng.random(rate.shape) < 0.05] = 0
        rate[:, 3] = np.where(rng.random(200) < 0.3, rate[:, 2], rate[:, 3])
    each = [bd_rate_from_curves(*pair, method=method).percent for pair in zip(*anchor, *test, strict=True)]
    assert 0 < np.isnan(each).sum() < 200
    np.testing.assert_allclose(bd_rates(anchor, test, method), each, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_rates_at_a_quality_pass_through_the_points_and_end_with_them(method: str) -> None:
    quality = np.array([30.0, 33, 35, 38])
    rate = np.exp(0.1 * quality + 0.001 * quality**2)
    at = np.array([29.99, 30, 31, 33, 38, 38 + 1e-12, 38.01])
    found = log_rates((rate[None, ::-1], quality[None, ::-1]), at[None], method)[0]
    assert np.isnan(found[[0, -1]]).all()
    np.testing.assert_allclose(found[1:-1], (0.1 * at + 0.001 * at**2)[1:-1], atol=5e-4)


def test_an_interval_holds_the_estimate_and_shrinks_with_more_images() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for images in (8, 200):
        results = as_results(*simulate(rng, images, -10))
        bd = bd_rate(results, "new", "old", "psnr")
        assert bd.ci_low < bd.percent < bd.ci_high
        assert f"[{bd.ci_low:+.2f} to {bd.ci_high:+.2f} %; akima" in bd.text
        widths.append(bd.ci_high - bd.ci_low)
    assert widths[1] < widths[0] / 3


def test_images_are_drawn_in_pairs() -> None:
    # Every image's rate is halved: whatever images are drawn, it is exactly half, though the images differ by far.
    anchor, test = simulate(np.random.default_rng(3), 24, -50, spread=0)
    assert bd_interval(anchor, test, True) == pytest.approx((-50, -50))


def test_the_same_images_give_the_same_interval_and_another_seed_another() -> None:
    anchor, test = simulate(np.random.default_rng(3), 24, -10)
    assert bd_interval(anchor, test, True) == bd_interval(anchor, test, True)
    assert bd_interval(anchor, test, True) != bd_interval(anchor, test, True, how=Resampling(seed=1))


def test_many_images_are_drawn_some_at_a_time_from_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(5, 1, 50)
    whole = mean_interval(values)
    monkeypatch.setattr(bootstrap, "LARGEST", 50 * 300)
    assert mean_interval(values) == pytest.approx(whole, abs=0.02)


def test_too_few_images_and_other_images_have_no_interval() -> None:
    anchor, test = simulate(np.random.default_rng(3), 4, -10)
    assert np.isnan(bd_interval(anchor, test, True)).all()
    assert np.isnan(bd_rate(as_results(anchor, test), "new", "old", "psnr").ci_low)
    assert np.isnan(mean_interval(np.arange(4.0))).all()
    other = simulate(np.random.default_rng(3), 6, -10)[1]
    assert np.isnan(bd_interval(anchor, other, True)).all()


def test_resamples_without_overlap_are_not_left_out_in_silence() -> None:
    anchor, test = simulate(np.random.default_rng(3), 8, -10)
    # The ranges of the means overlap by a hair, since one image is a decibel worse: half of the resamples do not.
    shifted = test.image_values + 1.8 * 5
    shifted[0] -= 1
    bd = bd_rate(as_results(anchor, curve("new", test.image_bpp, shifted)), "new", "old", "psnr")
    assert np.isfinite(bd.percent)
    assert np.isnan(bd.ci_low)


def test_the_interval_of_a_mean_is_two_standard_errors_wide_on_either_side() -> None:
    values = np.random.default_rng(4).normal(5, 1, 400)
    low, high = mean_interval(values)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)
    assert high - low == pytest.approx(2 * 1.966 * values.std(ddof=1) / 20, rel=0.1)


def test_the_band_of_a_curve_holds_its_means() -> None:
    results = as_results(*simulate(np.random.default_rng(3), 24, -10))
    band = curve_band(results, "new", "psnr", "toy")
    assert band.values.shape == band.low.shape == band.bpp.shape == (6,)
    assert (band.low < band.values).all()
    assert (band.values < band.high).all()
    few = curve_band(results[results["image"] < "image003"], "new", "psnr")
    assert np.isnan(few.low).all()
    assert np.isfinite(few.values).all()


def test_the_three_estimands_differ_where_images_do() -> None:
    """Two kinds of images: large ones that save a fifth of their bits, and small ones of ten times the rate."""
    bpp = 0.1 * 2.0**POINTS * np.array([[1.0]] * 6 + [[10.0]] * 6)
    quality = np.broadcast_to(30 + 2.0 * POINTS, bpp.shape)
    share = np.array([[0.8]] * 6 + [[1.0]] * 6)
    pixels = np.array([1000.0] * 6 + [10.0] * 6)
    results = as_results(curve("old", bpp, quality, pixels), curve("new", share * bpp, quality, pixels))
    found = per_image(results, "new", "old", "psnr")
    assert [one.name for one in found.estimands] == list(ESTIMANDS)
    of_means, of_images, by_pixels = (one.percent for one in found.estimands)
    assert of_means == pytest.approx(100 * (10.8 / 11 - 1))
    assert of_images == pytest.approx(-10)
    assert by_pixels == pytest.approx(100 * ((0.8 * 1000 + 10 * 10) / (1000 + 10 * 10) - 1))
    assert all(one.ci_low < one.percent < one.ci_high for one in found.estimands)
    assert (found.images, found.fewer) == (12, 6)
    assert found.quartiles == pytest.approx((-20, -10, 0))
    assert list(found.table["bd_rate_percent"]) == sorted(found.table["bd_rate_percent"])


def test_wilcoxon_tells_a_codec_that_is_always_better_from_one_that_is_not() -> None:
    rng = np.random.default_rng(5)
    better = per_image(as_results(*simulate(rng, 24, -10, spread=0.02)), "new", "old", "psnr")
    assert better.p_value < 1e-5
    assert better.fewer == 24
    same = per_image(as_results(*simulate(rng, 24, 0, spread=0.02)), "new", "old", "psnr")
    assert same.p_value > 0.01
    nothing = per_image(as_results(*simulate(rng, 24, 0, spread=0)), "new", "old", "psnr")
    assert np.isnan(nothing.p_value)


def test_wilcoxon_does_not_depend_on_which_codec_is_the_anchor() -> None:
    results = as_results(*simulate(np.random.default_rng(6), 24, 0, spread=0.4))
    there, back = (per_image(results, *pair, "psnr") for pair in (("new", "old"), ("old", "new")))
    assert there.p_value == pytest.approx(back.p_value)


def test_one_image_without_a_bd_rate_is_counted() -> None:
    anchor, test = simulate(np.random.default_rng(3), 8, -10)
    test.image_values[2] += 100
    found = per_image(as_results(anchor, test), "new", "old", "psnr")
    assert (found.images, len(found.table)) == (7, 8)
    assert found.table["image"].iloc[-1] == "image002"
    assert "1 image has no BD-rate" in found.text


def test_images_of_published_curves_cannot_be_compared() -> None:
    anchor, _ = simulate(np.random.default_rng(3), 8, -10)
    results = as_results(anchor).assign(dataset="kodak")
    with pytest.raises(HvqbenchError, match="no images to compare"):
        per_image(results, "published:vtm", "old", "psnr")


@pytest.mark.parametrize("higher", [True, False])
def test_bd_metric_is_in_the_metrics_own_direction(higher: bool) -> None:
    metric, sign = ("psnr", 1) if higher else ("lpips-alex", -0.01)
    anchor, _ = simulate(np.random.default_rng(3), 8, 0)
    results = as_results(anchor, curve("new", anchor.image_bpp, anchor.image_values + 0.5))
    results[metric] = sign * results["psnr"]
    found = bd_metric(results, "new", "old", metric)
    assert found.change == pytest.approx(0.5 * sign)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.5 * sign, 0.5 * sign))
    assert "better" in found.text


def test_a_single_point_has_a_rate_gap_and_nothing_is_extrapolated() -> None:
    anchor, _ = simulate(np.random.default_rng(3), 24, 0)
    single = curve("single", 0.7 * anchor.image_bpp[:, [2]], anchor.image_values[:, [2]])
    above = curve("above", anchor.image_bpp[:, [5]], anchor.image_values[:, [5]] + 0.1)
    results = as_results(anchor, single, above)
    (gap,) = rate_gaps(results, "single", "old", "psnr")
    assert gap.rate_gap_percent == pytest.approx(-30)
    assert (gap.ci_low, gap.ci_high) == pytest.approx((-30, -30))
    (none,) = rate_gaps(results, "above", "old", "psnr")
    assert np.isnan(none.rate_gap_percent)
    assert re.search(r"on \S+ \(24 images\): .*nothing is extrapolated", none.text)
    (no_curve,) = rate_gaps(results, "above", "single", "psnr")
    assert no_curve.flags == ("too_few_points",)
    short = as_results(curve("three", anchor.image_bpp[:, 1:4], anchor.image_values[:, 1:4]), single)
    (too_short,) = rate_gaps(short, "single", "three", "psnr", method="cubic")
    assert too_short.flags == ("too_few_points",)


def test_matrices() -> None:
    anchor, half = simulate(np.random.default_rng(3), 8, -50, spread=0)
    results = as_results(anchor, half)
    square = square_matrix(results, "psnr")
    assert list(square.index) == list(square.columns) == ["old", "new"]
    np.testing.assert_allclose(square, [[np.nan, 100], [-50, np.nan]])
    table = pd.DataFrame(
        {"dataset": "toy", "codec": ["b", "a"] * 2, "metric": ["psnr"] * 2 + ["dists"] * 2, "bd_rate_percent": range(4)}
    )
    wide = anchor_matrix(table)
    assert list(wide.columns) == ["psnr", "dists"]
    assert list(wide.index) == [("toy", "b"), ("toy", "a")]
    assert wide.to_numpy().tolist() == [[0, 2], [1, 3]]


def test_rate_over_quality_averages_to_the_bd_rate() -> None:
    anchor, test = simulate(np.random.default_rng(3), 24, -10)
    test.image_bpp[:, 3:] *= 0.8
    results = as_results(anchor, test)
    table = rate_over_quality(results, "new", "old", "psnr")
    bd = bd_rate(results, "new", "old", "psnr")
    mean = np.trapezoid(np.log1p(table["percent"] / 100), table["value"]) / np.ptp(table["value"])
    assert 100 * np.expm1(mean) == pytest.approx(bd.percent, abs=0.01)
    assert table["percent"].iloc[0] > -15 > -20 > table["percent"].iloc[-1]
    assert (table["ci_low"] <= table["percent"]).all()
    assert (table["percent"] <= table["ci_high"]).all()


def _random_curves(rng: np.random.Generator, rows: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    rate = np.exp(np.cumsum(rng.uniform(0.05, 1, (rows, points)), 1))
    return rate, 30 + np.cumsum(rng.uniform(0.05, 2, (rows, points)), 1)
