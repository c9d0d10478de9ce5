"""The PEE's formula in floating point, against its definition and its limits."""

from __future__ import annotations

import math

import pytest
import torch

from hvqbench.vq.distance import nearest
from hvqbench.vq.pee import anchor_logits, code_length, index_bits

K, D, N = 64, 6, 50


@pytest.fixture
def position() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(N, D, generator=generator, dtype=torch.float64)
    log_precision = torch.randn(N, D, generator=generator, dtype=torch.float64)
    codebook = torch.randn(K, D, generator=generator, dtype=torch.float64)
    bias = torch.randn(K, generator=generator, dtype=torch.float64)
    return mean, log_precision, codebook, bias


def test_two_products_equal_the_gaussian_at_the_anchors(position: tuple[torch.Tensor, ...]) -> None:
    mean, log_precision, codebook, bias = position
    distance = (codebook[None] - mean[:, None]).square() * log_precision.exp()[:, None]
    direct = (bias - 0.5 * distance.sum(2)).log_softmax(1)
    assert torch.allclose(anchor_logits(*position).log_softmax(1), direct, atol=1e-10)


def test_autocast_leaves_prices_and_neighbours_as_they_are(position: tuple[torch.Tensor, ...]) -> None:
    mean, log_precision, codebook, bias = (values.float() for values in position)
    logits, chosen = anchor_logits(mean, log_precision, codebook, bias), nearest(mean, codebook)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(anchor_logits(mean, log_precision, codebook, bias), logits)
        assert torch.equal(nearest(mean, codebook), chosen)


def test_flat_gaussian_is_the_static_code_of_the_bias(position: tuple[torch.Tensor, ...]) -> None:
    mean, _, codebook, bias = position
    flat = anchor_logits(mean, torch.full_like(mean, -60), codebook, bias).log_softmax(1)
    assert torch.allclose(flat, bias.log_softmax(0).expand_as(flat), atol=1e-10)


def test_sharp_gaussian_on_an_anchor_costs_nothing(position: tuple[torch.Tensor, ...]) -> None:
    _, _, codebook, bias = position
    sharp = anchor_logits(codebook, torch.full_like(codebook, 8.0), codebook, bias)
    assert float(index_bits(sharp, torch.arange(K)).max()) < 1e-6


def test_gradient_is_the_precision_weighted_mean_gap(position: tuple[torch.Tensor, ...]) -> None:
    mean, log_precision, codebook, bias = position
    mean.requires_grad_()
    targets = torch.arange(N) % K
    logits = anchor_logits(mean, log_precision, codebook, bias)
    torch.nn.functional.cross_entropy(logits, targets, reduction="sum").backward()
    expected = log_precision.exp() * (logits.softmax(1).detach() @ codebook - codebook[targets])
    assert torch.allclose(mean.grad, expected, atol=1e-9)


def test_straight_through_has_the_hard_value_and_pulls_towards_the_mean(position: tuple[torch.Tensor, ...]) -> None:
    mean, log_precision, codebook, bias = position
    latent = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    targets = torch.arange(N) % K
    bits = code_length("ste", latent, targets, mean, log_precision, codebook, bias)
    assert torch.allclose(bits.float(), index_bits(anchor_logits(*position), targets), atol=1e-4)
    bits.sum().backward()
    expected = log_precision.exp() * (codebook[targets] - mean) / math.log(2)
    assert torch.allclose(latent.grad, expected, atol=1e-9)


def test_hard_has_the_value_and_no_gradient_towards_the_latent(position: tuple[torch.Tensor, ...]) -> None:
    latent = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    targets = torch.arange(N) % K
    bits = code_length("hard", latent, targets, *position)
    assert torch.equal(bits, index_bits(anchor_logits(*position), targets))
    assert not bits.requires_grad


def test_soft_becomes_hard_as_it_cools_and_reaches_the_latent(position: tuple[torch.Tensor, ...]) -> None:
    *_, codebook, _ = position
    targets = torch.arange(N) % K
    latent = codebook[targets].clone().requires_grad_()
    cold = code_length("soft", latent, targets, *position, temperature=1e-4)
    assert torch.allclose(cold.float(), code_length("hard", latent, targets, *position), atol=1e-3)
    warm = code_length("soft", latent, targets, *position, temperature=1.0)
    warm.sum().backward()
    assert float(latent.grad.abs().max()) > 0  # type: ignore[union-attr]
