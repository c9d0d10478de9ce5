"""The PEE's formula, in floating point and in integers, against its definition and its limits."""

from __future__ import annotations

import math

import pytest
import torch

from hvqbench.errors import HvqbenchError
from hvqbench.vq.hyperprior import LOG_PRECISION_LIMITS, Hyperprior, HyperpriorConfig
from hvqbench.vq.integer import EXP_BITS, LOG_PRECISION_BITS, LOGIT_BITS, MEAN_BITS, IntegerPEE, IntegerSynthesis
from hvqbench.vq.pee import anchor_logits, index_bits, straight_through_bits

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
    bits = straight_through_bits(latent, targets, mean, log_precision, codebook, bias)
    assert torch.allclose(bits.float(), index_bits(anchor_logits(*position), targets), atol=1e-4)
    bits.sum().backward()
    expected = log_precision.exp() * (codebook[targets] - mean) / math.log(2)
    assert torch.allclose(latent.grad, expected, atol=1e-9)


def test_integer_weights_give_the_same_probabilities(position: tuple[torch.Tensor, ...]) -> None:
    mean, log_precision, codebook, bias = position
    mean = (mean * 2**MEAN_BITS).round()
    log_precision = (log_precision * 2**LOG_PRECISION_BITS).round()
    weights = torch.from_numpy(IntegerPEE(codebook, bias).weights(mean, log_precision))
    assert torch.equal(weights, weights.round())
    grids = (mean / 2**MEAN_BITS, log_precision / 2**LOG_PRECISION_BITS)
    expected = anchor_logits(*grids, codebook, bias).softmax(1)
    divergence = (expected * (expected / (weights / weights.sum(1, keepdim=True)).clamp_min(1e-12)).log()).sum(1)
    assert float(divergence.max()) < 1e-4


def test_integer_weights_do_not_hang_on_the_order_of_summation(position: tuple[torch.Tensor, ...]) -> None:
    """The worst case of the exactness claim: extreme means and precisions, dimensions summed in another order."""
    _, _, codebook, bias = position
    codebook = codebook.clamp(-2, 2) * 2
    generator = torch.Generator().manual_seed(2)
    mean = torch.randint(-(2**13), 2**13 + 1, (N, D), generator=generator).double()
    low, high = (int(limit * 2**LOG_PRECISION_BITS) for limit in LOG_PRECISION_LIMITS)
    log_precision = torch.randint(low, high + 1, (N, D), generator=generator).double()
    order = torch.randperm(D, generator=generator)
    straight = IntegerPEE(codebook, bias).weights(mean, log_precision)
    shuffled = IntegerPEE(codebook[:, order], bias).weights(mean[:, order], log_precision[:, order])
    assert (straight == shuffled).all()


def test_integer_weights_equal_python_integers(position: tuple[torch.Tensor, ...]) -> None:
    """One position computed again in unbounded integers: float64 lost nothing."""
    mean, log_precision, codebook, bias = position
    pee = IntegerPEE(codebook, bias)
    mean = (mean * 2**MEAN_BITS).round()[:1]
    log_precision = (log_precision * 2**LOG_PRECISION_BITS).round()[:1]
    low = int(LOG_PRECISION_LIMITS[0] * 2**LOG_PRECISION_BITS)
    precision = [int(pee.precision[int(i) - low]) for i in log_precision[0]]
    anchors = [[int(v) // 2 for v in row] for row in pee.anchors_twice.T]
    logits = [
        int(b) + sum(p * (2 * int(m) * e - e * e) for p, m, e in zip(precision, mean[0], row, strict=True))
        for row, b in zip(anchors, pee.bias, strict=True)
    ]
    steps = [min((max(logits) - value) >> (LOGIT_BITS - EXP_BITS), len(pee.exp) - 1) for value in logits]
    assert pee.weights(mean, log_precision)[0].tolist() == [pee.exp[s] for s in steps]


def test_too_wide_a_codebook_is_refused(position: tuple[torch.Tensor, ...]) -> None:
    _, _, codebook, bias = position
    with pytest.raises(HvqbenchError, match="exceed"):
        IntegerPEE(codebook * 10, bias)


def test_integer_synthesis_follows_the_float_network_and_any_channel_order() -> None:
    torch.manual_seed(0)
    model = Hyperprior(HyperpriorConfig(dim=D, codewords=K, width=16, z_channels=3))
    with torch.no_grad():
        model.synthesis[-1].weight.mul_(30)
    z = torch.randint(-9, 10, (3, 4, 5))
    mean, log_precision = IntegerSynthesis(model.synthesis, D)(z, (14, 19))
    with torch.no_grad():
        expected_mean, expected_log_precision = model.synthesise(z[None].float(), (14, 19))
    assert mean.shape == (14 * 19, D)
    assert torch.equal(mean, mean.round())
    assert float((mean / 2**MEAN_BITS - expected_mean).abs().max()) < 0.01
    assert float((log_precision / 2**LOG_PRECISION_BITS - expected_log_precision).abs().max()) < 0.03
    assert float(expected_mean.std()) > 0.05  # the comparison is not between constants
    first, second = model.synthesis[0], model.synthesis[2]
    order = torch.randperm(16)
    with torch.no_grad():
        first.weight.copy_(first.weight[order])
        first.bias.copy_(first.bias[order])
        second.weight.copy_(second.weight[:, order])
    again, _ = IntegerSynthesis(model.synthesis, D)(z, (14, 19))
    assert torch.equal(mean, again)
