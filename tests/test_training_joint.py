"""Tokenizer and transformer trained together: gradients go where they should, and bits fall as the weight rises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hvqbench.catalog import load_codec
from hvqbench.errors import HvqbenchError
from hvqbench.training import train_joint
from hvqbench.training.joint import bits_per_pixel, relaxed
from hvqbench.vq.bottleneck import BottleneckConfig
from hvqbench.vq.models.transformer import Transformer, TransformerConfig
from hvqbench.vq.painted import PainterTokenizer


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pyramid and its transformer, both untrained."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    tokenizer = PainterTokenizer(BottleneckConfig((16, 8), 24, 4, 24, 16, 1, 1, 1))
    tokenizer.codebooks.normal_()
    tokenizer.save(folder / "tokenizer.safetensors")
    tokenizer = PainterTokenizer.load(folder / "tokenizer.safetensors")
    model = Transformer(TransformerConfig.of(tokenizer, (4, 4), window=64, width=32, layers=1, heads=2, hidden=32))
    model.start([torch.arange(24), torch.arange(24)], list(tokenizer.codebooks))
    model.save(folder / "transformer.safetensors", tokenizer.digest)
    return folder


def loaded(start: Path) -> tuple[PainterTokenizer, Transformer]:
    return PainterTokenizer.load(start / "tokenizer.safetensors"), Transformer.load(start / "transformer.safetensors")[
        0
    ]


def test_the_rate_reaches_the_encoder_on_two_ways_and_no_codebook(start: Path) -> None:
    tokenizer, model = loaded(start)
    torch.nn.init.normal_(model.head[1].weight, std=0.3)  # type: ignore[arg-type]
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    found = {}
    for name in ("both", "shares", "context"):
        sent = relaxed(tokenizer, tokenizer.encode(image), 0.3, "absolute")
        if name == "shares":
            sent.context[:] = [part.detach() for part in sent.context]
        if name == "context":
            sent.shares[:] = [part.detach() for part in sent.shares]
        rate = bits_per_pixel(model, tokenizer, sent)
        (found[name],) = torch.autograd.grad(rate, next(tokenizer.encoder.parameters()))
        assert all(
            torch.equal(a, b) for a, b in zip(sent.maps, tokenizer.quantize(tokenizer.encode(image)), strict=True)
        )
    assert all(float(part.abs().sum()) > 0 for part in found.values())
    assert torch.allclose(found["both"], found["shares"] + found["context"], rtol=1e-3, atol=1e-9)
    assert not tokenizer.codebooks.requires_grad


def test_a_cold_relaxation_is_the_rate_itself(start: Path) -> None:
    tokenizer, model = loaded(start)
    with torch.no_grad():
        latent = tokenizer.encode(torch.rand(1, 3, 64, 64) * 2 - 1)
        sent = relaxed(tokenizer, latent, 1e-6, "absolute")
        hard = sum(float(part.sum()) for part in model.bits(sent.maps, list(tokenizer.codebooks))["indices"])
        assert float(bits_per_pixel(model, tokenizer, sent)) == pytest.approx(hard / 64**2, rel=1e-3)
        spread = float(tokenizer.codebooks[0].var(0).mean())
        own, absolute = (
            relaxed(tokenizer, latent, *how).shares[0] for how in ((0.1, "spread"), (0.1 * spread, "absolute"))
        )
        assert torch.allclose(own, absolute, atol=1e-6)


def test_bits_fall_along_the_ladder_and_a_run_goes_on(start: Path, photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    config.write_text(
        f'tokenizer = "{start}"\ntransformer = "{start}/transformer.safetensors"\nlambdas = [0.0, 150.0]\nsteps = 24\n'
        "batch = 2\ncrop = 64\nlearning_rate = 2e-3\ntransformer_learning_rate = 1e-3\nwarmup = 2\nlog_every = 6\n"
        "perceptual = []\n"
    )
    folders = train_joint(config, [photos], tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "bpp" in row]
    assert [row["weight"] for row in steps] == [0, 0, 0, 0, 150, 150, 150, 150]
    assert steps[-1]["bpp"] < 0.8 * steps[3]["bpp"]
    assert (tmp_path / "run/README.md").is_file()
    codebooks = [PainterTokenizer.load(folder / "tokenizer.safetensors").codebooks for folder in (start, *folders)]
    assert all(torch.equal(codebooks[0], other) for other in codebooks[1:])
    (folders[1] / "codec.toml").write_text(
        'adapter = "vq"\nsummary = "test"\npoints = [0]\npoint_name = "L"\n[options]\nindex_model = "transformer"\n'
        'tokenizer = "."\nweights = "transformer.safetensors"\nfrequencies = "frequencies.safetensors"\n'
    )
    codec = load_codec(str(folders[1]))
    assert codec.unavailable() is None
    codec.prepare()
    assert train_joint(config, [photos], tmp_path / "run") == folders  # nothing is left to do


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lambdas = [2.0, 1.0]", "do not go from high rate to low"),
        ("temperature = 0.0", "is not above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(key: str, message: str, start: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_text(f'tokenizer = "{start}"\ntransformer = "x"\n{key}\n')
    with pytest.raises(HvqbenchError, match=message):
        train_joint(tmp_path / "train.toml", [photos], tmp_path / "run")
