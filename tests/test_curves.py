"""Mean curves over complete images, and exact savings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hvqbench.analysis.curves import mean_curve, the_dataset
from hvqbench.errors import HvqbenchError


@pytest.fixture
def results() -> pd.DataFrame:
    """Two images at three points, stored out of order: bpp is 1, 2, 3 for image a and ten times that for image b."""
    rows = []
    for point in (30, 10, 20):
        for factor, image in ((10, "b"), (1, "a")):
            row = {"codec": "jpeg", "dataset": "toy", "point": point, "image": image, "status": "ok", "reason": ""}
            rows.append(row | {"bpp": factor * point / 10, "psnr": float(point + factor)})
    return pd.DataFrame(rows)


def test_a_curve_is_the_mean_over_images_at_each_point(results: pd.DataFrame) -> None:
    curve = mean_curve(results, "jpeg", "psnr")
    assert curve.points == (10, 20, 30)
    np.testing.assert_allclose(curve.bpp, [5.5, 11.0, 16.5])
    np.testing.assert_allclose(curve.values, [15.5, 25.5, 35.5])
    assert curve.images == ("a", "b")
    assert curve.notes == ()


@pytest.mark.parametrize("damage", ["failed", "nan", "inf", "missing"])
def test_an_image_without_a_point_is_in_none_of_them_and_this_is_said(results: pd.DataFrame, damage: str) -> None:
    lost = (results["image"] == "b") & (results["point"] == 20)
    if damage == "failed":
        results.loc[lost, ["status", "psnr"]] = ["failed", np.nan]
    elif damage == "missing":
        results = results[~lost]
    else:
        results.loc[lost, "psnr"] = float(damage)
    curve = mean_curve(results, "jpeg", "psnr")
    np.testing.assert_allclose(curve.bpp, [1, 2, 3])
    assert curve.images == ("a",)
    assert "1 of 2 images left out, not usable at every point: b" in curve.notes
    assert any("no finite psnr" in note for note in curve.notes) == (damage in ("nan", "inf"))


def test_a_point_that_nothing_survived_is_left_out_and_said(results: pd.DataFrame) -> None:
    results.loc[results["point"] == 30, "status"] = "failed"
    curve = mean_curve(results, "jpeg", "psnr")
    assert curve.points == (10, 20)
    assert curve.images == ("a", "b")
    assert curve.notes == ("no usable row at point 30",)


def test_a_codec_that_could_not_run_has_a_curve_without_points(results: pd.DataFrame) -> None:
    row = {
        "codec": "vtm",
        "dataset": "toy",
        "point": np.nan,
        "image": "",
        "status": "unavailable",
        "reason": "no binary",
    }
    both = pd.concat([results, pd.DataFrame([row])], ignore_index=True)
    curve = mean_curve(both, "vtm", "psnr")
    assert (curve.points, curve.images, len(curve.bpp), len(curve.values)) == ((), (), 0, 0)


def test_values_of_an_older_version_of_the_metric_are_in_no_mean_and_this_is_said(results: pd.DataFrame) -> None:
    results = results.assign(metrics='{"psnr": "psnr/2"}', started="2026-02")
    stale = results["image"] == "b"
    results.loc[stale, ["metrics", "started"]] = ['{"psnr": "psnr/1"}', "2026-01"]
    curve = mean_curve(results, "jpeg", "psnr")
    assert (curve.version, curve.images) == ("psnr/2", ("a",))
    np.testing.assert_allclose(curve.values, [11, 21, 31])
    assert any("3 rows have an older psnr than psnr/2" in note for note in curve.notes)


def test_images_can_be_chosen(results: pd.DataFrame) -> None:
    curve = mean_curve(results, "jpeg", "psnr", images=["b"])
    np.testing.assert_allclose(curve.bpp, [10, 20, 30])
    assert curve.images == ("b",)


def test_the_data_set_must_be_clear(results: pd.DataFrame) -> None:
    assert the_dataset(results, None) == "toy"
    two = pd.concat([results, results.assign(dataset="kodak")])
    assert the_dataset(two, "kodak") == "kodak"
    with pytest.raises(HvqbenchError, match=r"several data sets.*kodak, toy"):
        the_dataset(two, None)
    with pytest.raises(HvqbenchError, match="no data set 'clic'"):
        the_dataset(two, "clic")
    with pytest.raises(HvqbenchError, match="there are no results"):
        the_dataset(results.iloc[:0], None)
