"""ColorVideoVDP: how the package is called, with a stand-in of its interface, and its values where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hvqbench.bench.sweep import usable_metrics
from hvqbench.curves import curve_metric
from hvqbench.data import load_dataset
from hvqbench.errors import UnavailableError
from hvqbench.metrics import EXTRAS, METRICS, load_metric, metric_ids, metric_info

PACKAGE = """
import numpy, torch

class cvvdp:
    def __init__(self, display_name, device, quiet):
        assert (display_name, quiet) == ("standard_4k", True) and isinstance(device, torch.device)

    def predict(self, test, reference, dim_order):
        assert dim_order == "HWC" and test.dtype == numpy.uint8 and test.shape == reference.shape
        return torch.tensor(10 - float(test.mean() - reference.mean())), {"more": 1}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "pycvvdp.py").write_text(PACKAGE)
    about = tmp_path / "cvvdp-9.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: cvvdp\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    known = sys.modules.pop("pycvvdp", None)
    yield
    sys.modules.pop("pycvvdp", None)
    if known is not None:
        sys.modules["pycvvdp"] = known


def test_the_decoded_image_is_the_one_that_is_judged(package: None) -> None:
    dark, light = np.full((40, 50, 3), 10, np.uint8), np.full((40, 50, 3), 12, np.uint8)
    assert load_metric("cvvdp")(dark, light) == pytest.approx(8)
    assert load_metric("cvvdp")(light, dark) == pytest.approx(12)
    assert np.isnan(load_metric("cvvdp")(dark[:31], light[:31]))


def test_it_has_to_be_named(package: None) -> None:
    assert "cvvdp" not in usable_metrics(None)
    assert usable_metrics(["cvvdp"]) == ["cvvdp"]
    assert "cvvdp" in metric_ids()
    assert "cvvdp" not in METRICS
    assert curve_metric("cvvdp") is EXTRAS["cvvdp"]


def test_without_the_package_it_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert metric_info("cvvdp").unavailable() == "the package cvvdp is not installed: run `pip install cvvdp`"
    monkeypatch.setitem(sys.modules, "pycvvdp", None)
    with pytest.raises(UnavailableError, match=r"run `pip install 'hvqbench\[cvvdp\]'`"):
        load_metric("cvvdp").prepare()


def test_values_of_the_package_itself() -> None:
    pytest.importorskip("pycvvdp", reason="the extra cvvdp is not installed")
    image = load_dataset("sample").images[1].read()[:128, :160]
    blurred = image.copy()
    blurred[1:-1] = (image[:-2].astype(int) + image[1:-1] + image[2:]) // 3
    metric = load_metric("cvvdp")
    assert metric(image, image) == pytest.approx(10)
    values = [metric(image, other) for other in (blurred, image // 64 * 64, 255 - image)]
    assert 10 > values[0] > values[1] > values[2]
