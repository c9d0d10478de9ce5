"""Maps are the package's where it has one, and the score where a window is the whole image."""

from __future__ import annotations

import numpy as np
import pytest

from hvqbench.codec import Image
from hvqbench.data import load_dataset
from hvqbench.errors import HvqbenchError
from hvqbench.metrics import load_metric
from hvqbench.metrics.maps import MAPS, DISTSMap, load_map, load_maps


@pytest.fixture(scope="module")
def pair() -> tuple[Image, Image]:
    """A photograph of 128x176, and a copy whose left half is blurred."""
    original = load_dataset("sample").images[1].read()[40:168, 100:276]
    blurred = original.astype(float)
    for axis in (0, 1):
        for _ in range(4):
            blurred = (np.roll(blurred, 1, axis) + blurred + np.roll(blurred, -1, axis)) / 3
    decoded = original.copy()
    decoded[:, :80] = blurred.round()[:, :80]
    return original, decoded


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_the_packages_own_map(net: str, pair: tuple[Image, Image]) -> None:
    import torch

    from hvqbench.metrics.networks import lpips_network

    network = lpips_network(net)  # type: ignore[arg-type]
    network.spatial = True
    tensors = [torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in pair]
    with torch.inference_mode():
        expected = network(*tensors)[0, 0].numpy()
    own = load_map(f"lpips-{net}").map(*pair)
    assert own.shape == pair[0].shape[:2]
    assert own.dtype == np.float32
    np.testing.assert_allclose(own, expected, atol=2e-5)
    assert own.mean() == pytest.approx(load_metric(f"lpips-{net}")(*pair), rel=0.05)


def test_a_window_as_large_as_the_image_gives_the_score_of_dists(pair: tuple[Image, Image]) -> None:
    dists = load_map("dists")
    assert isinstance(dists, DISTSMap)
    whole = dists.map(*pair, window=512)
    assert whole == pytest.approx(load_metric("dists")(*pair), abs=1e-3)
    local = dists.map(*pair)
    assert local.mean() > whole.mean()


@pytest.mark.parametrize("metric", MAPS)
def test_it_shows_where_the_images_differ(metric: str, pair: tuple[Image, Image]) -> None:
    original, decoded = pair
    found = load_map(metric).map(original, decoded)
    assert found.shape == original.shape[:2]
    assert found.min() >= 0
    assert found[:, :40].mean() > 20 * found[:, 160:].mean()
    assert load_map(metric).map(original, original).max() < 1e-5


def test_sides_that_are_no_multiple_of_anything(pair: tuple[Image, Image]) -> None:
    for metric in MAPS:
        assert load_map(metric).map(pair[0][:67, :101], pair[1][:67, :101]).shape == (67, 101)


@pytest.mark.parametrize("level", [0, 90, 200, 255])
def test_equal_pictures_have_no_difference_anywhere_however_plain(backbones: None, level: int) -> None:
    """In float32 the variance of a plain window is rounding, and the map of 200 was 1 nearly everywhere."""
    plain = np.full((96, 128, 3), level, np.uint8)
    nearly = np.clip(plain.astype(int) + (-1 if level > 128 else 1), 0, 255).astype(np.uint8)
    mapper = load_map("dists")
    assert mapper.map(plain, plain.copy()).max() == 0
    score = load_metric("dists")(plain, nearly)
    assert mapper.map(plain, nearly, window=512) == pytest.approx(score, abs=1e-4)
    assert load_map("lpips-alex").map(plain, plain.copy()).max() == 0


def test_an_alias_is_the_metric_that_it_stands_for() -> None:
    assert list(load_maps(["lpips", "dists", "lpips-alex"])) == ["lpips-alex", "dists"]
    assert load_map("lpips").info.id == "lpips-alex"


def test_what_has_no_map_is_said(pair: tuple[Image, Image]) -> None:
    with pytest.raises(HvqbenchError, match="psnr has no map: choose one of lpips-alex, lpips-vgg, dists"):
        load_map("psnr")
    with pytest.raises(HvqbenchError, match="unknown metric 'lpisp'"):
        load_map("lpisp")
    with pytest.raises(HvqbenchError, match="dists: a map needs two images of one size"):
        load_map("dists").map(pair[0], pair[1][:64])
    with pytest.raises(HvqbenchError, match="lpips-alex is undefined below 32 pixels"):
        load_map("lpips-alex").map(pair[0][:20], pair[1][:20])
