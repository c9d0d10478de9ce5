from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from hvqbench.data import load_dataset
from hvqbench.errors import HvqbenchError
from hvqbench.image import read_image, write_image
from hvqbench.metrics import METRICS, load_metric, metric_ids, metric_info, vgg
from hvqbench.metrics.networks import dists_network, lpips_network

OF_IMAGES = [name for name, info in METRICS.items() if not info.of_set]


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A photograph of odd size, and a noisy copy."""
    original = load_dataset("sample").images[1].read()[40:217, 100:305]
    noise = np.random.default_rng(0).normal(0, 20, original.shape)
    return original, np.clip(np.rint(original + noise), 0, 255).astype(np.uint8)


def test_the_registry_loads_nothing_heavy() -> None:
    assert metric_ids()[:6] == ["psnr", "ms-ssim", "ssimulacra2", "lpips-alex", "lpips-vgg", "dists"]
    script = """
        import sys
        from hvqbench.metrics import EXTRAS, metric_ids, metric_info
        assert all(metric_info(name).unavailable() is None for name in metric_ids() if name not in EXTRAS)
        heavy = {"torch", "torchvision", "lpips", "DISTS_pytorch", "pytorch_msssim", "torch_fidelity", "ssimulacra2"}
        heavy = (heavy | {"PIL", "scipy", "pyiqa"}) & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_unknown_metric() -> None:
    with pytest.raises(HvqbenchError, match="did you mean 'lpips-alex'"):
        load_metric("lpips-alx")


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install lpips" in (load_metric("lpips-vgg").unavailable() or "")
    assert load_metric("psnr").unavailable() is None


@pytest.mark.parametrize(
    ("metric", "original", "decoded", "expected"),
    [
        ("lpips-alex", "ex_ref", "ex_p0", 0.721881),
        ("lpips-alex", "ex_ref", "ex_p1", 0.137566),
        ("lpips-vgg", "ex_ref", "ex_p0", 0.568613),
        ("lpips-vgg", "ex_ref", "ex_p1", 0.421664),
        ("dists", "r0", "r1", 0.334674),
    ],
)
def test_the_authors_own_values(
    backbones: None, data_root: Path, metric: str, original: str, decoded: str, expected: float
) -> None:
    images = [read_image(data_root / "golden" / f"{name}.png") for name in (original, decoded)]
    assert load_metric(metric)(*images) == pytest.approx(expected, abs=1e-4)


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.tensor(image).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_equals_the_package(backbones: None, pair: tuple[np.ndarray, np.ndarray], net: str) -> None:
    direct = lpips_network(net)(*map(as_tensor, pair), normalize=True)  # type: ignore[arg-type]
    assert load_metric(f"lpips-{net}")(*pair) == pytest.approx(float(direct), abs=1e-6)
    assert float(direct) > 0.05


def test_dists_equals_the_package(backbones: None, pair: tuple[np.ndarray, np.ndarray]) -> None:
    direct = dists_network()(*map(as_tensor, pair))
    assert load_metric("dists")(*pair) == pytest.approx(float(direct), abs=1e-6)
    assert float(direct) > 0.05


def test_lpips_and_dists_share_the_first_stage_and_their_values_do_not_change(
    backbones: None, pair: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, noisy = pair
    direct = {"lpips-vgg": lpips_network("vgg")(*map(as_tensor, pair), normalize=True)}
    direct["dists"] = dists_network()(*map(as_tensor, pair))
    metrics = {name: load_metric(name) for name in direct}
    references = {name: metric.reference(original) for name, metric in metrics.items()}
    passes = []
    stage = vgg.first_stage("cpu")
    layers = stage._layers
    monkeypatch.setattr(stage, "_layers", lambda pixels: passes.append(1) or layers(pixels))
    for image in (noisy, noisy.copy(), original):
        for name, metric in metrics.items():
            value = metric.score(references[name], image)
            assert value == pytest.approx(0.0 if image is original else float(direct[name]), abs=1e-6)
    assert len(passes) == 2  # one for each image, by its pixels
    noisy = noisy.copy()
    before = metrics["dists"].score(references["dists"], noisy)
    noisy[:20] = 0  # changed in place
    assert metrics["dists"].score(references["dists"], noisy) > before


def test_dists_has_the_packages_own_weights(backbones: None) -> None:
    network = dists_network()
    stored = torch.load(Path(sys.modules["DISTS_pytorch"].__file__ or "").parent / "weights.pt", weights_only=True)
    assert torch.equal(network.alpha, stored["alpha"])
    assert torch.equal(network.beta, stored["beta"])


@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_reference_serves_many_images(backbones: None, pair: tuple[np.ndarray, np.ndarray], name: str) -> None:
    original, noisy = pair
    metric = load_metric(name)
    reference = metric.reference(original)
    first, equal, again = (metric.score(reference, image) for image in (noisy, original, noisy))
    assert first == again == metric(original, noisy)
    low, high = metric.info.range
    assert low <= first <= high
    best = high if metric.info.higher_is_better else low
    assert equal == pytest.approx(best, abs=1e-6)
    assert (first < equal) == metric.info.higher_is_better


@pytest.mark.parametrize("name", OF_IMAGES)
def test_wrong_input_is_refused(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    original, noisy = pair
    metric = load_metric(name)
    with pytest.raises(HvqbenchError, match="uint8"):
        metric(original / 255, noisy / 255)
    small = np.zeros((8, 8, 3), np.uint8)
    reference = metric.reference(small)
    with pytest.raises(HvqbenchError, match="is 5x8 but the original 8x8"):
        metric.score(reference, small[:, :5])
    with pytest.raises(HvqbenchError, match="float"):
        metric.score(reference, small.astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 1, 3), (5000, 3, 3), (3, 5000, 3)])
@pytest.mark.parametrize("name", OF_IMAGES)
def test_tiny_images_are_undefined_not_padded(name: str, shape: tuple[int, ...]) -> None:
    image = np.full(shape, 100, np.uint8)
    value = load_metric(name)(image, image + 1)
    assert math.isnan(value) == (metric_info(name).minimum_side > min(shape[:2]))


@pytest.mark.parametrize("name", [name for name in OF_IMAGES if name != "psnr"])
def test_the_smallest_defined_image(backbones: None, name: str) -> None:
    side = metric_info(name).minimum_side
    image = np.random.default_rng(1).integers(0, 250, (side, side, 3), dtype=np.uint8)
    assert math.isfinite(load_metric(name)(image, image + 5))
    assert math.isnan(load_metric(name)(image[1:], image[1:] + 5))


def test_psnr_by_hand() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    decoded = black.copy()
    decoded[0, 0] = [255, 0, 10]
    assert load_metric("psnr")(black, decoded) == pytest.approx(
        10 * math.log10(255**2 * 12 / (255**2 + 100)), abs=1e-12
    )
    assert load_metric("psnr")(black, black) == math.inf
    assert load_metric("psnr")(black, black + 255) == 0


def test_ms_ssim_equals_its_definition(pair: tuple[np.ndarray, np.ndarray]) -> None:
    from scipy.ndimage import gaussian_filter1d

    def blur(a: np.ndarray) -> np.ndarray:
        for axis in (0, 1):  # 11 taps of sigma 1.5, valid part only
            a = gaussian_filter1d(a, 1.5, axis=axis, radius=5)
        return a[5:-5, 5:-5]

    x, y = (image[:176, :192].astype(float) for image in pair)  # even at every scale: the package pads odd sizes
    product = np.ones(3)
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mx, my = blur(x), blur(y)
        cs = (2 * (blur(x * y) - mx * my) + 58.5225) / (blur(x * x) - mx**2 + blur(y * y) - my**2 + 58.5225)
        ssim = cs * (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
        product *= (ssim if scale == 4 else cs).mean((0, 1)) ** weight
        x, y = (
            a[: a.shape[0] // 2 * 2].reshape(a.shape[0] // 2, 2, a.shape[1] // 2, 2, 3).mean((1, 3)) for a in (x, y)
        )
    expected = product.mean()
    assert load_metric("ms-ssim")(pair[0][:176, :192], pair[1][:176, :192]) == pytest.approx(expected, abs=1e-4)


def test_ssimulacra2_equals_the_package(pair: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    from ssimulacra2 import compute_ssimulacra2_with_alpha

    paths = [tmp_path / "original.png", tmp_path / "decoded.png"]
    for path, image in zip(paths, pair, strict=True):
        write_image(path, image)
    value = load_metric("ssimulacra2")(*pair)
    assert value == pytest.approx(compute_ssimulacra2_with_alpha(*map(str, paths)), abs=1e-9)
    assert value < 70


def test_psnr_and_ms_ssim_equal_torchmetrics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    functional = pytest.importorskip("torchmetrics.functional.image")
    original, decoded = (image[:176, :192] for image in pair)  # even at every scale, where the packages pad alike
    assert load_metric("psnr")(original, decoded) == pytest.approx(peak_signal_noise_ratio(original, decoded), abs=1e-9)
    theirs = functional.multiscale_structural_similarity_index_measure(
        as_tensor(decoded), as_tensor(original), data_range=1.0, gaussian_kernel=True, sigma=1.5, kernel_size=11
    )
    assert load_metric("ms-ssim")(original, decoded) == pytest.approx(float(theirs), abs=1e-3)


def test_what_an_id_stands_for_is_data() -> None:
    for info in METRICS.values():
        low, high = info.range
        assert low < high
        assert info.input.startswith(("[0, 255]", "[-1, 1]", "[0, 1]", "[-1, 1)"))
        assert isinstance(info.higher_is_better, bool)
    assert {name for name, info in METRICS.items() if info.net} == {
        *("lpips-alex", "lpips-vgg", "dists", "fid-256", "kid-256")
    }


def test_torchvision_of_another_build_is_mended(tmp_path: Path) -> None:
    """A stand-in for a torchvision without its extension: it describes an operator that nobody declared."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations\n")
    (package / "_meta_registrations.py").write_text(
        "import torch\n@torch.library.register_fake('torchvision::nms')\ndef meta_nms(dets, scores, t): return dets\n"
    )
    script = """
        import sys
        sys.path.insert(0, sys.argv[1])
        try:
            import torchvision
        except RuntimeError as error:
            assert "torchvision::nms does not exist" in str(error)
        else:
            raise SystemExit("the stand-in works, so that this tests nothing")
        from hvqbench.metrics.networks import import_torchvision
        assert import_torchvision().__file__.startswith(sys.argv[1])
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True)


def _dists_in_float64(original: np.ndarray, decoded: np.ndarray) -> float:
    """Equations 5 to 7 of the paper, as they stand, in float64, on whole layers."""
    network = dists_network().double()
    mean, deviation = network.mean.double(), network.std.double()

    def layers(image: np.ndarray) -> list[torch.Tensor]:
        x = torch.tensor(image).permute(2, 0, 1)[None].double() / 255
        found = [x]
        h = (x - mean) / deviation
        for stage in (network.stage1, network.stage2, network.stage3, network.stage4, network.stage5):
            h = stage(h)
            found.append(h)
        return found

    total = network.alpha.sum() + network.beta.sum()
    weights = [(w / total).split(network.chns, dim=1) for w in (network.alpha, network.beta)]
    score = 1.0
    for x, y, alpha, beta in zip(layers(original), layers(decoded), *weights, strict=True):
        mx, my = x.mean((2, 3), keepdim=True), y.mean((2, 3), keepdim=True)
        vx, vy = ((x - mx) ** 2).mean((2, 3), keepdim=True), ((y - my) ** 2).mean((2, 3), keepdim=True)
        covariance = ((x - mx) * (y - my)).mean((2, 3), keepdim=True)
        score -= float((alpha * (2 * mx * my + 1e-6) / (mx**2 + my**2 + 1e-6)).sum())
        score -= float((beta * (2 * covariance + 1e-6) / (vx + vy + 1e-6)).sum())
    return score


def test_dists_is_exact_where_nothing_changes_along_an_image(backbones: None) -> None:
    """The package says 0.066 of two equal plain images: E[xy] - E[x] E[y] in float32 is rounding error there."""
    metric = load_metric("dists")
    plain = {value: np.full((64, 80, 3), value, np.uint8) for value in (0, 100, 101, 128, 255)}
    page = plain[255].copy()
    page[40:44, 20:60] = 0
    for image in (*plain.values(), page):
        assert metric(image, image) == 0
    spotted = page.copy()
    spotted[10:18, 60:68] = 200
    for pair in ((plain[100], plain[101]), (page, spotted)):
        assert metric(*pair) == pytest.approx(_dists_in_float64(*pair), abs=2e-6)
