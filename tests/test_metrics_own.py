"""The metric of one's own in docs/metrics.md does what the page says, with a stand-in for the reader of text."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The page's module; what is read of an image is a letter for each of its bright rows, if red comes last."""

    class RapidOCR:
        def __call__(self, image: np.ndarray) -> tuple[list[tuple[list[int], str, float]] | None, float]:
            assert image[..., 2].max() >= image[..., 0].max()
            rows = np.flatnonzero(image[:, 0, 2] > 128)
            return [([0], chr(97 + int(row) % 26), 0.9) for row in rows] or None, 0.1

    package = ModuleType("rapidocr_onnxruntime")
    package.RapidOCR = RapidOCR  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", package)
    text = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {"__name__": "my_package"}
    exec(compile(text, "my_package.py", "exec"), names)
    return names


def test_it_is_the_share_of_the_text_that_is_still_read(own: dict[str, Any]) -> None:
    metric = own["OCRAgreement"](own["INFO"])
    original = np.zeros((40, 40, 3), np.uint8)
    original[5:13, :, 0] = 200
    half = original.copy()
    half[9:13] = 0
    assert metric(original, original) == 1
    assert metric(original, half) == pytest.approx(2 * 7 / (15 + 7))  # letters and the blanks between them
    assert metric(original, original * 0) == 0
    assert math.isnan(metric(original * 0, original))
    assert math.isnan(metric(original[:31], original[:31]))
    assert own["INFO"].libraries == ("rapidocr-onnxruntime",)
