"""FID and KID: the tiles of HiFiC's protocol, the network, and the distances against torchmetrics'."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from hvqbench.data import load_dataset
from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.metrics import load_metric, load_set_metric, metric_info
from hvqbench.metrics.fid import TILE, tile_origins
from hvqbench.metrics.networks import import_torchvision


@pytest.fixture(scope="session")
def weights() -> dict[str, torch.Tensor]:
    """FID's InceptionV3; the test is skipped where no source of it can be reached."""
    pytest.importorskip("torch_fidelity")
    from hvqbench.metrics.inception import inception_weights

    try:
        return inception_weights()
    except UnavailableError as error:
        pytest.skip(str(error))


class AsIs(torch.nn.Module):
    """For torchmetrics: images that are features already."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def torchmetrics_fid(first: np.ndarray, second: np.ndarray) -> float:
    import_torchvision()
    fid = pytest.importorskip("torchmetrics.image.fid").FrechetInceptionDistance(AsIs(first.shape[1]))
    fid.set_dtype(torch.float64)
    fid.update(torch.tensor(first, dtype=torch.float64), real=True)
    fid.update(torch.tensor(second, dtype=torch.float64), real=False)
    return float(fid.compute())


def torchmetrics_kid(first: np.ndarray, second: np.ndarray, **options: Any) -> tuple[float, float]:
    """Mean and spread over its random subsets."""
    import_torchvision()
    kid = pytest.importorskip("torchmetrics.image.kid").KernelInceptionDistance(AsIs(first.shape[1]), **options)
    kid.update(torch.tensor(first, dtype=torch.float64), real=True)
    kid.update(torch.tensor(second, dtype=torch.float64), real=False)
    mean, spread = kid.compute()
    return float(mean), float(spread)


def features(count: int, size: int = 64, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    """Positive and correlated, as Inception's are."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(size, size)) / 4
    return np.maximum(rng.normal(size=(count, size)) @ mixing + 0.3 + shift, 0).astype(np.float32)


@pytest.mark.parametrize("count", [20, 65, 300])
def test_fid_is_torchmetrics(count: int) -> None:
    first, second = features(count), features(count + 7, shift=0.1, seed=1)
    fid = load_set_metric("fid-256")
    value = fid.distance(first, second)
    assert value == pytest.approx(torchmetrics_fid(first, second), abs=1e-3)
    assert value > 0.3
    assert fid.distance(second, first) == pytest.approx(value, abs=1e-9)
    assert fid.distance(first, first) == pytest.approx(0, abs=1e-9)


def test_kid_is_torchmetrics_over_all() -> None:
    first, second = features(150), features(150, shift=0.1, seed=1)
    kid = load_set_metric("kid-256").distance(first, second)
    assert kid == pytest.approx(torchmetrics_kid(first, second, subsets=1, subset_size=150)[0], abs=1e-9)
    # What the authors' random subsets estimate.
    torch.manual_seed(0)
    mean, spread = torchmetrics_kid(first, second, subsets=400, subset_size=140)
    assert kid == pytest.approx(mean, abs=4 * spread / 400**0.5)
    assert kid > 8 * spread / 400**0.5


def test_kid_by_its_definition_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvqbench.metrics.fid.BLOCK", 4)
    x, y = features(7, 5).astype(float), features(9, 5, 0.2, 1).astype(float)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 5 + 1) ** 3)

    def pairs(z: np.ndarray) -> float:
        n = len(z)
        return sum(kernel(z[i], z[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    cross = sum(kernel(a, b) for a in x for b in y) / (7 * 9)
    assert load_set_metric("kid-256").distance(x, y) == pytest.approx(pairs(x) + pairs(y) - 2 * cross, abs=1e-9)


def test_kodak_has_192_tiles() -> None:
    assert 18 * len(tile_origins(768, 512)) + 6 * len(tile_origins(512, 768)) == 192


@pytest.mark.parametrize("size", [(256, 256), (255, 900), (383, 640), (384, 384), (640, 500), (700, 400)])
def test_tiles_are_those_of_the_protocol(size: tuple[int, int]) -> None:
    """NeuralCompression's: unfold the image, and again from (128, 128) if both sides have 1.5 tiles."""
    width, height = size
    image = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
    parts = [image] if min(size) >= TILE else []
    parts += [image[:, :, 128:, 128:]] if min(size) >= 1.5 * TILE else []
    unfolded = [torch.nn.functional.unfold(p, TILE, stride=TILE)[0, 0] for p in parts]  # each tile's first pixel
    expected = [divmod(int(first), width)[::-1] for part in unfolded for first in part]
    assert tile_origins(width, height) == expected
    assert load_set_metric("fid-256").patches(width, height) == len(expected)


def test_the_network_is_the_one_of_torchmetrics(weights: dict[str, torch.Tensor]) -> None:
    import_torchvision()
    fid = pytest.importorskip("torchmetrics.image.fid")
    import torch_fidelity.feature_extractor_inceptionv3 as package

    photo = load_dataset("sample").images[1].read()[:256, :256]
    own = load_set_metric("fid-256").describe(photo)
    assert own.shape == (1, 2048)
    assert own.dtype == np.float32

    class Theirs(fid.NoTrainInceptionV3):  # type: ignore[name-defined, misc]
        def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
            torch.nn.Module.load_state_dict(self, state, strict=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "load_state_dict_from_url", lambda *_, **__: weights)
        network = Theirs("inception-v3-compat", ["2048"], antialias=False)
    tile = torch.tensor(photo).permute(2, 0, 1)[None]
    assert np.abs(network(tile).numpy() - own).max() < 1e-4
    assert 0.1 < own.mean() < 1


def test_the_weights_are_the_ones_that_papers_use(weights: dict[str, torch.Tensor]) -> None:
    """A convolution and a batch norm of TensorFlow's graph, as clean-fid, StyleGAN and pytorch-fid have them."""
    assert len(weights) == 4 * 94
    assert weights["Conv2d_1a_3x3.conv.weight"].shape == (32, 3, 3, 3)
    assert weights["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)


def test_an_image_without_a_tile_describes_nothing(weights: dict[str, torch.Tensor]) -> None:
    assert load_set_metric("kid-256").describe(np.zeros((255, 400, 3), np.uint8)).shape == (0, 2048)


def test_a_metric_of_sets_has_no_value_for_an_image() -> None:
    with pytest.raises(HvqbenchError, match="of a whole set"):
        load_metric("fid-256")
    with pytest.raises(HvqbenchError, match="of one image"):
        load_set_metric("psnr")
    assert metric_info("fid-256").range == (0.0, math.inf)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = BytesIO()
    Pillow.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Pillow.open(file))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_div2k_between_originals_and_jpeg(data_root: Path, weights: dict[str, torch.Tensor]) -> None:
    """The same tiles and features in torchmetrics, at 2048 dimensions: a singular problem for both."""
    if not (data_root / "div2k-val-256").is_dir():
        pytest.skip("HVQBENCH_DATA has no div2k-val-256")
    images = [image.read() for image in load_dataset("div2k-val-256").images]
    fid, kid = load_set_metric("fid-256"), load_set_metric("kid-256")
    originals = np.concatenate([fid.describe(image) for image in images])
    decoded = np.concatenate([fid.describe(jpeg(image, 10)) for image in images])
    values = fid.distance(originals, decoded), kid.distance(originals, decoded)
    theirs = torchmetrics_fid(originals, decoded), torchmetrics_kid(originals, decoded, subsets=1, subset_size=100)[0]
    print(f"FID {values[0]:.6f} and {theirs[0]:.6f}, KID {values[1]:.8f} and {theirs[1]:.8f}")  # noqa: T201
    assert values == pytest.approx(theirs, abs=1e-3)
    assert values[0] > 10
    assert values[1] > 0.001
