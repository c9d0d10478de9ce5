"""What the VQ codecs are measured with and against, at 768×512 on the CPU: a classic codec, and the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hvqbench.catalog import load_codec
from hvqbench.codec import Codec, Image
from hvqbench.errors import UnavailableError
from hvqbench.metrics import load_metric, metric_ids, metric_info

QUALITY = 30


@pytest.fixture(scope="module")
def jpeg() -> Codec:
    return load_codec("jpeg")


def test_jpeg_encode(jpeg: Codec, photo: Image, benchmark: Any) -> None:
    benchmark.group = "jpeg: files"
    benchmark(jpeg.encode, photo, QUALITY)


def test_jpeg_decode(jpeg: Codec, photo: Image, benchmark: Any) -> None:
    benchmark.group = "jpeg: files"
    image = benchmark(jpeg.decode, jpeg.encode(photo, QUALITY).data)
    assert image.shape == photo.shape


@pytest.fixture(scope="module", params=[name for name in metric_ids() if not metric_info(name).of_set])
def metric(request: pytest.FixtureRequest) -> Any:
    if reason := metric_info(request.param).unavailable():
        pytest.skip(reason)
    metric = load_metric(request.param)
    try:
        metric.prepare()
    except UnavailableError as error:
        pytest.skip(str(error))
    return metric


def test_metric_of_the_original(metric: Any, photo: Image, benchmark: Any) -> None:
    """What is computed once for each original."""
    benchmark.group = f"{metric.info.id}: metric"
    benchmark.pedantic(metric.reference, (photo,), rounds=5, warmup_rounds=1)


def test_metric_of_a_reconstruction(metric: Any, photo: Image, jpeg: Codec, benchmark: Any) -> None:
    """What is computed for each reconstruction."""
    decoded = jpeg.decode(jpeg.encode(photo, QUALITY).data)
    reference = metric.reference(photo)
    benchmark.group = f"{metric.info.id}: metric"
    score = benchmark.pedantic(metric.score, (reference, decoded), rounds=5, warmup_rounds=1)
    assert np.isfinite(score)
