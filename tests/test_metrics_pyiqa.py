"""pyiqa's metrics, with a stand-in of its interface: the package itself is an extra that brings 28 others."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hvqbench.bench.plan import metric_versions
from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.metrics import load_metric, metric_info
from hvqbench.metrics import pyiqa as own

CONFIGS = """
DEFAULT_CONFIGS = {
    "diff": {"metric_opts": {"type": "Diff"}, "metric_mode": "FR", "lower_better": True, "score_range": "0, 1"},
    "bright": {"metric_opts": {"type": "Bright", "net": "none"}, "metric_mode": "NR", "score_range": "~0, 2"},
    "away": {"metric_opts": {"type": "Away"}, "metric_mode": "FR", "score_range": "0, ~"},
    "fid": {"metric_opts": {"type": "FID"}, "metric_mode": "NR", "lower_better": True, "score_range": "0, ~"},
}
"""
PACKAGE = """
import torch

def create_metric(name, device=None, **options):
    assert isinstance(device, torch.device)
    if name == "away":
        raise RuntimeError("cannot reach huggingface.co\\nand more lines")

    def metric(target, ref=None):
        assert target.dtype == torch.float32 and target.dim() == 4 and target.shape[1] == 3
        assert 0 <= target.min() and target.max() <= 1
        if target.shape[2] < 4:
            raise AssertionError("image too small")
        return target.mean()[None] if name == "bright" else (target - ref).abs().mean()[None, None]

    return metric
"""


@pytest.fixture
def pyiqa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "pyiqa"
    package.mkdir()
    (package / "__init__.py").write_text(PACKAGE)
    (package / "default_model_configs.py").write_text(CONFIGS)
    about = tmp_path / "pyiqa-9.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pyiqa\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    sys.modules.pop("pyiqa", None)
    own._configs.cache_clear()
    yield
    sys.modules.pop("pyiqa", None)
    own._configs.cache_clear()


def test_polarity_range_and_version_are_pyiqas(pyiqa: None) -> None:
    diff, bright = metric_info("pyiqa:diff"), metric_info("pyiqa:bright")
    assert (diff.higher_is_better, diff.range) == (False, (0.0, 1.0))
    assert (bright.higher_is_better, bright.range) == (True, (-math.inf, 2.0))
    assert "no reference" in bright.summary
    assert diff.unavailable() is None
    assert metric_versions(["pyiqa:diff"]) == {"pyiqa:diff": "pyiqa:diff/1 pyiqa==9.9"}
    assert "pyiqa" not in sys.modules  # nothing was imported to know all this


def test_values(pyiqa: None) -> None:
    original = np.full((8, 6, 3), 100, np.uint8)
    assert load_metric("pyiqa:diff")(original, original + 51) == pytest.approx(0.2, abs=1e-6)
    assert load_metric("pyiqa:bright")(original, original + 51) == pytest.approx(151 / 255, abs=1e-6)


def test_what_fails_is_said_in_one_line(pyiqa: None) -> None:
    image = np.zeros((2, 6, 3), np.uint8)
    with pytest.raises(HvqbenchError, match=r"^pyiqa:diff fails on this image: image too small$"):
        load_metric("pyiqa:diff")(image, image)
    with pytest.raises(UnavailableError, match=r"^pyiqa cannot load away \(cannot reach huggingface.co\); check the"):
        load_metric("pyiqa:away").prepare()
    with pytest.raises(HvqbenchError, match=r"did you mean .*'pyiqa:diff'"):
        metric_info("pyiqa:dif")
    with pytest.raises(HvqbenchError, match="use fid-256 and kid-256"):
        metric_info("pyiqa:fid")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_configs", lambda: None)
    with pytest.raises(UnavailableError, match=r"^metric pyiqa:niqe .* not installed: run `pip install 'hvqbench\[pyi"):
        metric_info("pyiqa:niqe")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~-1, ~0.1", (-math.inf, math.inf)),
        ("-2, 2", (-2.0, 2.0)),
        ("~, 2", (-math.inf, 2.0)),
        ("quality: 0, 1; rank: 0, 2", (-math.inf, math.inf)),
        ("", (-math.inf, math.inf)),
    ],
)
def test_ranges(text: str, expected: tuple[float, float]) -> None:
    assert own.parse_range(text) == expected
