"""Losses are the metrics of their names, and can be descended."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hvqbench.errors import HvqbenchError
from hvqbench.metrics import load_metric
from hvqbench.metrics.perceptual import PerceptualLoss
from hvqbench.training.photos import to_tensor


def test_dists_is_the_metric_and_falls_downhill() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    noisy = np.clip(photo + rng.normal(0, 30, photo.shape), 0, 255).astype(np.uint8)
    loss, output, target = PerceptualLoss("dists"), to_tensor(noisy[None]).requires_grad_(), to_tensor(photo[None])
    value = loss(output, target, rng)
    value.backward()
    assert value.item() == pytest.approx(load_metric("dists")(photo, noisy), abs=1e-5)
    with torch.no_grad():
        assert loss(output - 0.01 * output.grad / output.grad.abs().mean(), target, rng) < value
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert loss(output, target, rng).item() == pytest.approx(value.item(), rel=0.02)


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(
        HvqbenchError, match=r"net = 'dist': did you mean 'dists'\? known are vgg, alex, squeeze, dists"
    ):
        PerceptualLoss("dist")
