"""The painter: its start from TAEF2's tensors, and what a value depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.errors import HvqbenchError
from hvqbench.training.start import start_painter
from hvqbench.vq.painter import CHANNELS, FACTOR, PainterDecoder, PainterEncoder
from hvqbench.vq.weights import eight_bit, full_precision, save_weights


def theirs(shift: int, convolutions: dict[int, tuple[int, int, bool]], blocks: dict[int, bool]) -> dict[str, Tensor]:
    """Random tensors of TAEF2's names and shapes: layers that are convolutions, and blocks, with a pool or without."""
    torch.manual_seed(shift)
    tensors = {}
    for layer, (inputs, outputs, bias) in convolutions.items():
        tensors[f"{layer}.weight"] = torch.randn(outputs, inputs, 3, 3) * 0.1
        if bias:
            tensors[f"{layer}.bias"] = torch.randn(outputs) * 0.1
    for layer, pool in blocks.items():
        for part in (0, 2, 4):
            tensors[f"{layer}.conv.{part}.weight"] = torch.randn(64, 64, 3, 3) * 0.03
            tensors[f"{layer}.conv.{part}.bias"] = torch.randn(64) * 0.1
        if pool:
            tensors[f"{layer}.pool.0.weight"] = torch.randn(256, 64, 1, 1) * 0.2
            tensors[f"{layer}.pool.1.weight"] = torch.rand(256)
            tensors[f"{layer}.pool.1.bias"] = torch.randn(256) * 0.1
            tensors[f"{layer}.pool.3.weight"] = torch.randn(64, 256, 1, 1) * 0.05
    return tensors


def reference(tensors: dict[str, Tensor], layers: list[str], x: Tensor) -> Tensor:
    """TAEF2's own way through the layers, GroupNorms and all."""
    for number, kind in enumerate(layers):
        own = {n.split(".", 1)[1]: t for n, t in tensors.items() if n.startswith(f"{number}.")}
        if kind == "block":
            if "pool.0.weight" in own:
                pooled = functional.conv2d(x, own["pool.0.weight"])
                pooled = functional.group_norm(pooled, 4, own["pool.1.weight"], own["pool.1.bias"]).relu()
                x = x + functional.conv2d(pooled, own["pool.3.weight"])
            inner = x
            for part in (0, 2, 4):
                inner = functional.conv2d(inner, own[f"conv.{part}.weight"], own[f"conv.{part}.bias"], padding=1)
                inner = inner.relu() if part < 4 else inner
            x = (x + inner).relu()
        elif kind == "relu":
            x = x.relu()
        elif kind == "up":
            x = functional.interpolate(x, scale_factor=2)
        elif kind == "clamp":
            x = 3 * torch.tanh(x / 3)
        else:
            x = functional.conv2d(x, own["weight"], own.get("bias"), stride=2 if kind == "down" else 1, padding=1)
    return x


ENCODER = ["conv", "block", *["down", "block", "block", "block"] * 3, "conv"]
DECODER = ["clamp", "conv", "relu", *["block", "block", "block", "up", "conv"] * 3, "block", "conv"]


@pytest.fixture
def start(tmp_path: Path) -> tuple[Path, dict[str, Tensor], dict[str, Tensor]]:
    convolutions = {0: (3, 64, True), 14: (64, 32, True)} | dict.fromkeys((2, 6, 10), (64, 64, False))
    encoder = theirs(1, convolutions, {1: False} | {n: n > 10 for n in (3, 4, 5, 7, 8, 9, 11, 12, 13)})
    convolutions = {1: (32, 64, True), 19: (64, 3, True)} | dict.fromkeys((7, 12, 17), (64, 64, False))
    decoder = theirs(2, convolutions, {18: False} | {n: n < 6 for n in (3, 4, 5, 8, 9, 10, 13, 14, 15)})
    save_weights(tmp_path / "taef2_encoder.safetensors", encoder, {})
    save_weights(tmp_path / "taef2_decoder.safetensors", decoder, {})
    return tmp_path, encoder, decoder


def test_start_is_the_original_where_its_statistics_hold(start: tuple[Path, dict, dict]) -> None:
    folder, theirs_in, theirs_out = start
    image = torch.rand(1, 3, 48, 64) * 2 - 1
    encoder, decoder = PainterEncoder(), PainterDecoder()
    start_painter(encoder, decoder, folder, image)
    with torch.no_grad():
        latent = reference(theirs_in, ENCODER, image * 0.5 + 0.5)
        assert torch.allclose(encoder(image), latent, atol=1e-4)
        assert torch.allclose(decoder(latent), reference(theirs_out, DECODER, latent) * 2 - 1, atol=1e-4)


def test_start_of_another_shape_is_refused(start: tuple[Path, dict, dict]) -> None:
    folder, theirs_in, _ = start
    save_weights(
        folder / "taef2_encoder.safetensors", {n: t for n, t in theirs_in.items() if n != "12.conv.0.bias"}, {}
    )
    with pytest.raises(HvqbenchError, match="another shape than the painter at layer 12"):
        start_painter(PainterEncoder(), PainterDecoder(), folder, torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_reach_is_what_the_networks_see(part: str) -> None:
    """What a latent vector, or a patch of pixels, depends on ends exactly where ``reach`` says."""
    torch.manual_seed(0)
    side = 2 * 21 + 1
    network: nn.Module = PainterEncoder() if part == "encoder" else PainterDecoder()
    for module in network.modules():  # every path carries something: no dead ReLU, no weight of the wrong sign
        if isinstance(module, nn.Conv2d):
            module.weight.data.abs_()
    x = torch.rand(1, 3, FACTOR * side, FACTOR * side) if part == "encoder" else torch.rand(1, CHANNELS, side, side)
    x.requires_grad_()
    if part == "encoder":
        network(x)[0, :, 21, 21].sum().backward()
    else:
        network(x)[0, :, FACTOR * 21 : FACTOR * 22, FACTOR * 21 : FACTOR * 22].sum().backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum(0) > 0
    rows = seen.any(1).nonzero().flatten()
    first, last = int(rows[0]), int(rows[-1])
    if part == "encoder":
        first, last = first // FACTOR, last // FACTOR
    assert max(21 - first, last - 21) == network.reach


def test_eight_bits_keep_a_network() -> None:
    torch.manual_seed(0)
    network = PainterDecoder()
    latent = torch.randn(1, CHANNELS, 6, 6)
    with torch.no_grad():
        before = network(latent)
        packed = eight_bit(network.state_dict())
        assert {t.dtype for n, t in packed.items() if t.dim() == 4 and not n.endswith(".scale")} == {torch.int8}
        network.load_state_dict(full_precision(packed))
        noise = (network(latent) - before).square().mean() / before.var()
    assert float(noise) < 1e-3
    again = full_precision(eight_bit(network.state_dict()))
    assert all(torch.equal(t, network.state_dict()[n]) for n, t in again.items() if t.dim() == 4)
