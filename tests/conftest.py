"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hvqbench.assets import backbone
from hvqbench.errors import UnavailableError


@pytest.fixture
def data_root() -> Path:
    """The folder of real data that ``HVQBENCH_DATA`` names; the test is skipped where there is none."""
    folder = os.environ.get("HVQBENCH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HVQBENCH_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def backbones() -> None:
    """The real AlexNet and VGG16 convolutions; the test is skipped where no source of them can be reached."""
    try:
        backbone("alexnet")
        backbone("vgg16")
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def vq_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with small, untrained VQ codecs: fast, and hard on the coder, since nothing is where the prior expects.

    ``tiny-fixed``, ``tiny-huffman``, ``tiny-static`` and ``tiny-hyperprior`` share one tokenizer; ``other-hyperprior``
    has the same shape and other weights.
    """
    import hashlib

    import torch

    from hvqbench.vq.hyperprior import Hyperprior, HyperpriorConfig
    from hvqbench.vq.tokenizer import Tokenizer, TokenizerConfig
    from hvqbench.vq.weights import save_weights

    root = tmp_path_factory.mktemp("catalog")
    folder = root / "codecs" / "tokenizers" / "tiny"
    torch.manual_seed(7)
    widths = {"encoder_widths": (8, 12, 16), "decoder_widths": (8, 12, 16), "head_width": 4}
    blocks = {"encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1, 1)}
    tokenizer = Tokenizer(TokenizerConfig(factor=16, codewords=37, dim=5, **widths, **blocks))
    tokenizer.codebook.normal_(std=0.3)
    tokenizer.save(folder / "tokenizer.safetensors")
    digest = hashlib.sha256((folder / "tokenizer.safetensors").read_bytes()).hexdigest()
    counts = torch.arange(37) ** 2
    save_weights(folder / "frequencies.safetensors", {"counts": counts}, {"tokenizer": digest})
    models = {"fixed": "", "huffman": "frequencies", "static": "frequencies", "hyperprior": "tiny", "other": "other"}
    for name, weights in models.items():
        kind = "hyperprior" if name == "other" else name
        codec = root / "codecs" / ("other-hyperprior" if name == "other" else f"tiny-{name}")
        codec.mkdir()
        text = 'adapter = "vq"\nsummary = "test"\npoints = [0, 0.1]\npoint_name = "L"\n[options]\n'
        text += f'index_model = "{kind}"\ntokenizer = "../tokenizers/tiny"\n'
        if weights:
            text += f'weights = "../tokenizers/tiny/{weights}.safetensors"\n'
        (codec / "codec.toml").write_text(text)
        if kind == "hyperprior":
            model = Hyperprior(HyperpriorConfig(dim=5, codewords=37, width=16, z_channels=3))
            with torch.no_grad():
                model.synthesis[-1].weight.normal_(std=0.3)
                model.analysis[-1].weight.mul_(20)
            model.save(folder / f"{weights}.safetensors", digest)
    return root
