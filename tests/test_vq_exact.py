"""The integer path: it follows the floating-point networks, and nothing about the machine can change it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from hvqbench.errors import HvqbenchError
from hvqbench.vq import exact
from hvqbench.vq.exact import (
    ANCHOR_BITS,
    EXPONENT_BITS,
    LARGEST_EXPONENT,
    LOG_PRECISION_BITS,
    LOGIT_BITS,
    MEAN_BITS,
    IntegerContext,
    IntegerConvolution,
    IntegerPEE,
)
from hvqbench.vq.layout import Layout
from hvqbench.vq.models.hyperprior import Context, Hyperprior, HyperpriorConfig, first_pass, with_mask
from hvqbench.vq.models.hyperprior_coding import ExactHyperprior, HyperpriorModel
from hvqbench.vq.pee import LOG_PRECISION_LIMITS, anchor_logits
from hvqbench.vq.tokenizer import Tokenizer

K, D, N = 64, 6, 50
LOW, HIGH = (int(limit * 2**LOG_PRECISION_BITS) for limit in LOG_PRECISION_LIMITS)


@pytest.fixture
def position() -> tuple[torch.Tensor, ...]:
    """Mean and log precision on their grids, codebook, bias."""
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(N, D, generator=generator, dtype=torch.float64)
    log_precision = torch.randn(N, D, generator=generator, dtype=torch.float64)
    codebook = torch.randn(K, D, generator=generator, dtype=torch.float64)
    bias = torch.randn(K, generator=generator, dtype=torch.float64)
    return (mean * 2**MEAN_BITS).round(), (log_precision * 2**LOG_PRECISION_BITS).round(), codebook, bias


@pytest.fixture
def model() -> Hyperprior:
    """Two stages with context, and weights that make every part count."""
    torch.manual_seed(0)
    model = Hyperprior(HyperpriorConfig(D, K, stages=2, width=16, z_channels=3, context=True))
    with torch.no_grad():
        model.head.weight.normal_(std=0.3)
        for context in model.context:
            assert isinstance(context, Context)
            context.out.weight.normal_(std=0.3)
            context.out.bias.normal_(std=0.3)  # type: ignore[union-attr]
    return model.requires_grad_(False)


def exact_of(model: Hyperprior) -> ExactHyperprior:
    codebooks = torch.zeros(model.config.stages, model.config.codewords, model.config.dim)
    return ExactHyperprior(model, model.z_frequencies(), list(codebooks))


def integer_context(context: Context) -> IntegerContext:
    return IntegerContext(context.known, context.features, context.hidden, context.out, 800)


def test_weights_give_the_same_probabilities(position: tuple[torch.Tensor, ...]) -> None:
    mean, log_precision, codebook, bias = position
    weights = IntegerPEE(codebook, bias).weights(mean, log_precision)
    assert torch.equal(weights * 2**EXPONENT_BITS, (weights * 2**EXPONENT_BITS).round())
    grids = (mean / 2**MEAN_BITS, log_precision / 2**LOG_PRECISION_BITS)
    expected = anchor_logits(*grids, codebook, bias).softmax(1)
    divergence = (expected * (expected / (weights / weights.sum(1, keepdim=True))).log2()).sum(1)
    assert float(divergence.max()) < 1e-3
    assert float(divergence.mean()) < 5e-4


def test_every_codeword_can_be_sent(position: tuple[torch.Tensor, ...]) -> None:
    """At the sharpest precision, far from all anchors: no weight is 0, and none is above the largest."""
    mean, log_precision, codebook, bias = position
    weights = IntegerPEE(codebook, bias).weights(mean.sign() * 2**14, torch.full_like(log_precision, 10**6))
    assert float(weights.min()) == 1
    assert (weights.amax(1) == 2**LARGEST_EXPONENT).all()


def test_weights_do_not_hang_on_the_order_of_summation(position: tuple[torch.Tensor, ...]) -> None:
    """The worst case of the exactness claim: extreme means and precisions, dimensions summed in another order."""
    _, _, codebook, bias = position
    codebook = codebook.clamp(-2, 2) * 2
    generator = torch.Generator().manual_seed(2)
    mean = torch.randint(-(2**13), 2**13 + 1, (N, D), generator=generator).double()
    log_precision = torch.randint(LOW, HIGH + 1, (N, D), generator=generator).double()
    order = torch.randperm(D, generator=generator)
    straight = IntegerPEE(codebook, bias).weights(mean, log_precision)
    shuffled = IntegerPEE(codebook[:, order], bias).weights(mean[:, order], log_precision[:, order])
    assert torch.equal(straight, shuffled)


def test_weights_equal_python_integers(position: tuple[torch.Tensor, ...]) -> None:
    """One position computed again in unbounded integers and by its definition: float64 lost nothing."""
    mean, log_precision, codebook, bias = position
    pee = IntegerPEE(codebook, bias)
    precision = [round(math.exp(int(i) / 2**LOG_PRECISION_BITS) / math.log(2) * 2**12) for i in log_precision[0]]
    anchors = [[int(v) for v in row] for row in (codebook * 2**ANCHOR_BITS).round()]
    logits = [
        round(float(b) / math.log(2) * 2**LOGIT_BITS)
        + sum(p * (2 * int(m) * e - e * e) for p, m, e in zip(precision, mean[0], row, strict=True))
        for row, b in zip(anchors, bias, strict=True)
    ]
    top = LARGEST_EXPONENT << LOGIT_BITS
    exponents = [max(0, value - max(logits) + top) >> (LOGIT_BITS - EXPONENT_BITS) for value in logits]
    one = 2**EXPONENT_BITS
    expected = [2 ** (x // one) * (1 + x % one / one) for x in exponents]
    assert pee.weights(mean[:1], log_precision[:1])[0].tolist() == expected


def test_too_wide_a_codebook_is_refused(position: tuple[torch.Tensor, ...]) -> None:
    _, _, codebook, bias = position
    with pytest.raises(HvqbenchError, match="exceed"):
        IntegerPEE(codebook * 10, bias)
    with pytest.raises(HvqbenchError, match="too wide for exact logits"):
        IntegerPEE(torch.full((2, 1000), 16.0), torch.zeros(2))


def test_a_convolution_that_could_round_is_refused() -> None:
    layer = nn.Conv2d(3, 2, 3, padding=1)
    assert IntegerConvolution(layer, 10, 2**16, 10)
    with pytest.raises(HvqbenchError, match="too wide for exact sums"):
        IntegerConvolution(layer, 10, 2**40, 10)


def test_synthesis_follows_the_network_and_no_channel_order(model: Hyperprior) -> None:
    z, size = torch.randint(-9, 10, (3, 4, 5)), (14, 19)
    features, parameters = exact_of(model).parameters(z, size)
    expected_features, expected = model.synthesise(z[None].float(), size)
    assert torch.equal(parameters, parameters.round())
    assert parameters.shape == (4 * D, 14 * 19)
    grids = torch.tensor((([MEAN_BITS] * D) + [LOG_PRECISION_BITS] * D) * 2)[:, None]
    difference = (parameters / 2.0**grids - expected[0].flatten(1)).abs()
    assert float(difference.max()) < 0.03
    assert float(expected.std()) > 0.3  # the comparison is not between constants
    assert float((features / 2**exact.ACTIVATION_BITS - expected_features[0].flatten(1)).abs().max()) < 0.01

    order = torch.randperm(16)
    first, second = model.synthesis[0], model.synthesis[2]
    first.weight.copy_(first.weight[order])  # type: ignore[index, operator, union-attr]
    first.bias.copy_(first.bias[order])  # type: ignore[index, operator, union-attr]
    second.weight.copy_(second.weight[:, order])  # type: ignore[index, operator, union-attr]
    assert torch.equal(parameters, exact_of(model).parameters(z, size)[1])


def test_context_follows_the_network_at_any_positions(model: Hyperprior) -> None:
    """The update of the second pass, from the embeddings of the first."""
    torch.manual_seed(3)
    size, context = (7, 9), model.context[1]
    assert isinstance(context, Context)
    features = torch.randint(0, 4 * 2**10, (1, 16, *size)).float() / 2**10
    decoded, entries = (torch.randint(-400, 400, (1, D, *size)).float() / 2**ANCHOR_BITS for _ in range(2))
    first = first_pass(size)
    known = with_mask(decoded, entries, first)
    expected = context(features, known)[0].flatten(1)
    positions = (~first).flatten().nonzero()[:, 0]
    exact = integer_context(context)
    inputs = features[0].flatten(1).double() * 2**10, known[0].double() * 2**ANCHOR_BITS
    update = exact(*inputs, positions)
    assert update.shape == (2 * D, len(positions))
    assert torch.equal(update, update.round())
    grids = torch.tensor([MEAN_BITS] * D + [LOG_PRECISION_BITS] * D)[:, None]
    assert float((update / 2.0**grids - expected[:, positions]).abs().max()) < 0.03
    assert float(expected.std()) > 0.1
    # Positions alone or together, and known channels in another order: to the last bit the same.
    assert torch.equal(exact(*inputs, positions[5:6]), update[:, 5:6])
    order = torch.randperm(D + 1)
    context.known.weight.copy_(context.known.weight[:, order])
    assert torch.equal(integer_context(context)(inputs[0], inputs[1][order], positions), update)


@pytest.mark.parametrize("family", ["tiny", "rvq", "large"])
@pytest.mark.parametrize("name", ["hyperprior", "context"])
def test_coded_bits_are_those_of_the_float_model(vq_catalog: Path, family: str, name: str) -> None:
    """All of it at once: z, every stage and every pass, for the same latent and indices."""
    folder = vq_catalog / "codecs/tokenizers" / family
    tokenizer = Tokenizer.load(folder / "tokenizer.safetensors")
    coder = HyperpriorModel.load(folder / f"{name}.safetensors", tokenizer)
    model = Hyperprior.load(folder / f"{name}.safetensors")[0]
    latent = 0.5 * torch.randn(1, tokenizer.config.dim, 21, 30, generator=torch.Generator().manual_seed(0))
    indices = tokenizer.quantize(latent)
    with torch.no_grad():
        index_bits, z_bits = model(latent, torch.stack(indices, 1), tokenizer.codebooks)
    layout, maps = Layout.of(tokenizer, 21 * 16, 30 * 16), [part[0] for part in indices]
    ideal = coder.code(layout, maps, coder.side(tokenizer.embed(indices))).ideal_bits
    assert ideal["z"] == pytest.approx(float(z_bits), rel=0.002)
    assert ideal["indices"] == pytest.approx(float(index_bits.sum()), rel=0.005)
    assert float(index_bits.sum()) > 100


@pytest.mark.parametrize("name", ["hyperprior", "context"])
def test_blocks_leave_no_trace_in_the_bytes(vq_catalog: Path, name: str) -> None:
    folder = vq_catalog / "codecs/tokenizers/rvq"
    tokenizer = Tokenizer.load(folder / "tokenizer.safetensors")
    coder = HyperpriorModel.load(folder / f"{name}.safetensors", tokenizer)
    latent = 0.5 * torch.randn(1, 5, 11, 13, generator=torch.Generator().manual_seed(0))
    layout = Layout.of(tokenizer, 11 * 16, 13 * 16)
    maps, side = [part[0] for part in tokenizer.quantize(latent)], coder.side([latent])
    whole = coder.code(layout, maps, side).payload
    coder.parts[0].block = 7
    assert coder.code(layout, maps, side).payload == whole
    assert all(torch.equal(*pair) for pair in zip(coder.decode(layout, whole), maps, strict=True))
