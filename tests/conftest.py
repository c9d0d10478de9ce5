"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hvqbench.assets import backbone
from hvqbench.errors import UnavailableError
from hvqbench.image import write_image

if TYPE_CHECKING:
    from hvqbench.adapters.vq import VQCodec
    from hvqbench.bench.store import Store


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
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three photographs of 256x256 to train on."""
    from skimage.data import astronaut, chelsea, coffee

    folder = tmp_path_factory.mktemp("photos")
    for name, image in {"a": astronaut(), "b": chelsea(), "c": coffee()}.items():
        write_image(folder / f"{name}.png", image[:256, :256])
    return folder


@pytest.fixture(scope="session")
def vq_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with small, untrained VQ codecs: fast, and hard on the coder, since nothing is where the prior expects.

    ``tiny-``, ``rvq-`` (three stages) and ``large-`` (512 codewords) are followed by ``fixed``, ``huffman``,
    ``static``, ``hyperprior`` or ``context``, which share the tokenizer ``tokenizers/tiny`` and so on;
    ``other-hyperprior`` has the shape of ``tiny-hyperprior`` and other weights.
    """
    import torch

    from hvqbench.vq.models.hyperprior import Hyperprior, HyperpriorConfig
    from hvqbench.vq.tokenizer import Autoencoder, AutoencoderConfig, Tokenizer, TokenizerConfig, save_autoencoder
    from hvqbench.vq.weights import save_weights

    root = tmp_path_factory.mktemp("catalog")
    tokenizers = root / "codecs" / "tokenizers"
    torch.manual_seed(7)
    autoencoder = Autoencoder(AutoencoderConfig((8, 12, 16), (1, 1, 1), (8, 12, 16), (1, 1, 1), head_width=4))
    save_autoencoder(autoencoder, tokenizers / "autoencoder.safetensors")

    def write_codec(name: str, tokenizer: str, kind: str, **options: object) -> None:
        folder = root / "codecs" / name
        folder.mkdir()
        lines = ['adapter = "vq"', 'summary = "test"', "points = [0, 0.1]", 'point_name = "L"', "[options]"]
        lines += [f'index_model = "{kind}"', f'tokenizer = "../tokenizers/{tokenizer}"']
        lines += [f'{key} = "../tokenizers/{tokenizer}/{file}.safetensors"' for key, file in options.items()]
        (folder / "codec.toml").write_text("\n".join(lines) + "\n")

    for family, shape in {"tiny": (37, 5, 1), "rvq": (37, 5, 3), "large": (512, 4, 1)}.items():
        codewords, dim, stages = shape
        tokenizer = Tokenizer(TokenizerConfig(16, codewords, dim, stages), autoencoder)
        tokenizer.codebooks.normal_(std=0.3)
        tokenizer.save(tokenizers / family / "tokenizer.safetensors", tokenizers / "autoencoder.safetensors")
        digest = Tokenizer.load(tokenizers / family / "tokenizer.safetensors").digest
        counts = (torch.arange(codewords) ** 2).expand(stages, codewords)
        save_weights(tokenizers / family / "frequencies.safetensors", {"counts": counts}, {"tokenizer": digest})
        for name in ("hyperprior", "context", *(["other"] if family == "tiny" else [])):
            model = Hyperprior(HyperpriorConfig(dim, codewords, stages, 16, 3, context=name == "context"))
            with torch.no_grad():
                model.head.weight.normal_(std=0.3)
                model.analysis[-1].weight.mul_(20)  # type: ignore[operator, union-attr]
                for context in model.context if name == "context" else ():
                    context.out.weight.normal_(std=0.3)  # type: ignore[operator, union-attr]
            model.save(tokenizers / family / f"{name}.safetensors", digest)
        write_codec(f"{family}-fixed", family, "fixed")
        write_codec(f"{family}-huffman", family, "huffman", weights="frequencies")
        write_codec(f"{family}-static", family, "static", weights="frequencies")
        for name in ("hyperprior", "context"):
            write_codec(f"{family}-{name}", family, "hyperprior", weights=name, frequencies="frequencies")
    write_codec("other-hyperprior", "tiny", "hyperprior", weights="other", frequencies="frequencies")
    return root


@pytest.fixture
def load(vq_catalog: Path) -> Callable[[str], VQCodec]:
    """Loads a codec of :func:`vq_catalog` by its name."""
    from hvqbench.adapters.vq import VQCodec
    from hvqbench.catalog import load_codec

    def load_vq(name: str) -> VQCodec:
        codec = load_codec(f"{vq_catalog}/codecs/{name}")
        assert isinstance(codec, VQCodec)
        return codec

    return load_vq


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two small pictures, the first of them dark."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    write_image(folder / "a-dark.png", rng.integers(0, 90, (7, 9, 3), dtype=np.uint8))
    write_image(folder / "b-light.png", rng.integers(0, 256, (12, 5, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty one."""
    from hvqbench.bench.store import Store

    store = Store(tmp_path / "results")
    store.open()
    return store
