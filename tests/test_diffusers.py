"""Tokenizers of the diffusers library: small VQModels with random weights, saved where the test runs."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hvqbench.errors import HvqbenchError
from hvqbench.vq import hub
from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.loading import load_tokenizer, tokenizer_files, tokenizer_unavailable

needs_diffusers = pytest.mark.skipif(
    find_spec("diffusers") is None, reason="diffusers is not installed: run `pip install diffusers`"
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def images(count: int = 2, height: int = 48, width: int = 64) -> torch.Tensor:
    """Crops of a photograph, B×3×H×W in [-1, 1]."""
    from skimage.data import astronaut

    tensor = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 127.5 - 1
    crops = [tensor[..., 80 * i : 80 * i + height, 150:][..., :width] for i in range(count)]
    return torch.cat(crops)


def vqmodel(magnitude: float = 1.0, **options: Any) -> Any:
    """A VQModel of factor 4 with 37 codewords of 6 dimensions that occur; *magnitude* scales its latent, no picture."""
    from diffusers import VQModel

    torch.manual_seed(3)
    channels = (64, 64, 64)
    shape = {"latent_channels": 6, "num_vq_embeddings": 37, "norm_num_groups": 4, "block_out_channels": channels}
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    model = VQModel(**(shape | blocks | options)).eval()
    with torch.no_grad():
        model.quant_conv.weight.mul_(magnitude)
        model.quant_conv.bias.mul_(magnitude)
        entrances = [model.post_quant_conv]
        entrances += [
            conv for norm in model.modules() if hasattr(norm, "conv_y") for conv in (norm.conv_y, norm.conv_b)
        ]
        for layer in entrances:
            layer.weight.div_(magnitude)
        model.decoder.conv_out.weight.mul_(0.3)
        latents = model.encode(images()).latents.permute(0, 2, 3, 1).flatten(0, 2)
        model.quantize.embedding.weight.copy_(latents[torch.randperm(len(latents))[: model.quantize.n_e]])
    return model


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    vqmodel().save_pretrained(folder)
    return folder


@pytest.fixture
def saved(original: Path, tmp_path: Path) -> Path:
    """A folder with a saved model in ``models/vqvae``."""
    shutil.copytree(original, tmp_path / "models" / "vqvae")
    return tmp_path


def wrap(model: Any, folder: Path) -> BaseTokenizer:
    model.save_pretrained(folder)
    return load_tokenizer(f"diffusers:{folder.name}", folder.parent)


@needs_diffusers
@pytest.mark.parametrize("magnitude", [1, 1e-5, 3000])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm_type": "spatial"},
        {"lookup_from_codebook": True, "mid_block_add_attention": False},
        {"vq_embed_dim": 3},
    ],
    ids=["group", "spatial", "lookup", "narrow"],
)
@torch.inference_mode()
def test_our_indices_paint_what_diffusers_paints(options: dict[str, Any], magnitude: float, tmp_path: Path) -> None:
    model = vqmodel(magnitude, **options)
    tokenizer = wrap(model, tmp_path / "model")
    latent = tokenizer.encode(images())
    indices = tokenizer.quantize(latent)
    assert [part.shape for part in indices] == [(2, 12, 16)]
    assert len(indices[0].unique()) > 20
    expected = model(images()).sample.clamp(-1, 1)
    assert (tokenizer.decode(indices) - expected).abs().max() < 1e-5
    # Not a picture that hardly depends on the indices: other ones paint something else.
    assert (tokenizer.decode([indices[0].flip(-1)]) - expected).abs().max() > 1e-2


@needs_diffusers
def test_contract(tmp_path: Path) -> None:
    tokenizer = wrap(vqmodel(1e-4), tmp_path / "model")
    assert (tokenizer.factor, [spec.factor for spec in tokenizer.grids]) == (4, [4])
    assert tokenizer.codebooks.shape == (1, 37, 6)
    assert tokenizer.codebooks.dtype == torch.float32
    assert 4 <= tokenizer.codebooks.abs().max() < 8
    assert not tokenizer.training
    latent = tokenizer.encode(images())
    assert latent.shape == (2, 6, 12, 16)
    indices = torch.arange(36).view(1, 6, 6)
    embedded = tokenizer.embed([indices])[0]
    assert torch.equal(tokenizer.quantize(embedded)[0], indices)
    assert tokenizer.decode([indices]).shape == (1, 3, 24, 24)
    with pytest.raises(HvqbenchError, match="62x48 pixels are no multiples of 4"):
        tokenizer.encode(images(width=62))


@needs_diffusers
@pytest.mark.parametrize("magnitude", [1e-6, 0.3, 1, 77])
def test_scale_is_a_power_of_two_and_exact(magnitude: float, tmp_path: Path) -> None:
    model = vqmodel(magnitude)
    tokenizer = wrap(model, tmp_path / "model")
    scale = tokenizer.codebooks[0] / model.quantize.embedding.weight.detach()
    assert scale.min() == scale.max()
    assert math.frexp(float(scale.max()))[0] == 0.5


@needs_diffusers
def test_widest_codebook_is_exact_and_a_wider_one_refused(tmp_path: Path) -> None:
    from hvqbench.vq.exact import IntegerPEE

    one_block = {"block_out_channels": (8,), "down_block_types": ["DownEncoderBlock2D"]}
    one_block |= {"up_block_types": ["UpDecoderBlock2D"]}
    model = vqmodel(**one_block, vq_embed_dim=256)
    # The worst that can be: every entry as large as the largest.
    model.quantize.embedding.weight.data.fill_(0.9999)
    tokenizer = wrap(model, tmp_path / "widest")
    assert tokenizer.config.factor == 1
    assert float(tokenizer.codebooks.abs().min()) > 7.99
    IntegerPEE(tokenizer.codebooks[0], torch.full((37,), -1000.0))
    with pytest.raises(HvqbenchError, match=r"has 257 dimensions, and exact coding can sum 256; choose"):
        wrap(vqmodel(**one_block, vq_embed_dim=257), tmp_path / "wider")


@needs_diffusers
def test_a_model_of_other_images_is_refused(tmp_path: Path) -> None:
    from diffusers import VQModel

    with pytest.raises(HvqbenchError, match=r"made for \(1, 3\) channels, not for RGB"):
        wrap(VQModel(in_channels=1, block_out_channels=(32,)), tmp_path / "grey")


@needs_diffusers
def test_names(saved: Path) -> None:
    folder = saved / "models" / "vqvae"
    files = [folder / "config.json", folder / "diffusion_pytorch_model.safetensors"]
    digests = set()
    for name, base in [
        ("diffusers:models/vqvae", saved),
        ("diffusers:models:vqvae", saved),
        ("diffusers:../models:vqvae", saved / "codec"),
        (f"diffusers:{folder}", Path("elsewhere")),
    ]:
        assert tokenizer_files(name, base) == files
        assert tokenizer_unavailable(name, base) is None
        digests.add(load_tokenizer(name, base).digest)
    assert len(digests) == 1


@needs_diffusers
def test_digest_is_of_weights_and_configuration(saved: Path) -> None:
    config, weights = tokenizer_files("diffusers:models/vqvae", saved)
    first = load_tokenizer("diffusers:models/vqvae", saved).digest
    assert len(first) == 64
    config.write_text(config.read_text() + "\n")
    second = load_tokenizer("diffusers:models/vqvae", saved).digest
    tensors = load_file(weights)
    tensors["decoder.conv_out.bias"] += 1e-3
    save_file(tensors, weights)
    third = load_tokenizer("diffusers:models/vqvae", saved).digest
    assert len({first, second, third}) == 3


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def break_pickle(folder: Path) -> None:
    (folder / hub.WEIGHTS).unlink()
    (folder / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Trap(folder / "sprung")))


def break_class(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": "AutoencoderKL"}))


def break_tensor(folder: Path) -> None:
    tensors = load_file(folder / hub.WEIGHTS)
    del tensors["quantize.embedding.weight"]
    save_file(tensors, folder / hub.WEIGHTS)


def break_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_vq_embeddings": 38}))


ON_SIGHT = [
    (lambda f: (f / "config.json").unlink(), "holds no config.json; name the folder of a diffusers VQModel"),
    (lambda f: (f / "config.json").write_text("{"), "config.json is no model's configuration"),
    (lambda f: (f / "config.json").write_text("[]"), "config.json is no model's configuration"),
    (break_class, "config.json describes a model of class AutoencoderKL; only a VQModel is a tokenizer"),
    (break_pickle, "holds no diffusion_pytorch_model.safetensors; fetch it, or convert its weights to safetensors"),
]
ON_LOADING = [
    (lambda f: (f / hub.WEIGHTS).write_bytes(b"x" * 99), "does not load"),
    (break_tensor, "lacks quantize.embedding.weight"),
    (break_shape, "does not load"),
]


@needs_diffusers
@pytest.mark.parametrize(("change", "reason"), ON_SIGHT + ON_LOADING)
def test_what_is_wrong_is_one_line(change: Any, reason: str, saved: Path) -> None:
    folder = saved / "models" / "vqvae"
    change(folder)
    with pytest.raises(HvqbenchError) as caught:
        load_tokenizer("diffusers:models/vqvae", saved)
    message = str(caught.value)
    assert reason in message
    assert str(folder) in message
    assert "\n" not in message
    assert not (folder / "sprung").exists()
    if (change, reason) in ON_SIGHT:
        assert tokenizer_unavailable("diffusers:models/vqvae", saved) == message


@needs_diffusers
def test_a_forgotten_subfolder_is_suggested(saved: Path) -> None:
    with pytest.raises(HvqbenchError, match=r"holds no config\.json; name a subfolder of it, as :vqvae"):
        load_tokenizer("diffusers:models", saved)


def test_without_diffusers(saved_without: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    for name in ("diffusers:model", "diffusers:amused/amused-256:vqvae"):
        reason = "the package diffusers is not installed: run `pip install diffusers`"
        assert tokenizer_unavailable(name, saved_without) == reason
        with pytest.raises(HvqbenchError, match=reason):
            load_tokenizer(name, saved_without)
    assert tokenizer_files("diffusers:amused/amused-256:vqvae", saved_without) == []


@pytest.fixture
def saved_without(tmp_path: Path) -> Path:
    """A folder that looks like a saved model, for tests that do not need the library."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "VQModel"}')
    save_file({"x": torch.zeros(1)}, folder / hub.WEIGHTS)
    return tmp_path


def run(code: str, **environment: str) -> str:
    """What Python prints for *code* in a fresh process."""
    command = [sys.executable, "-c", "from pathlib import Path; from hvqbench.vq.hub import Source\n" + code]
    return subprocess.run(
        command, env=os.environ | environment, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]
    ).stdout.strip()


def test_looking_for_files_imports_neither_torch_nor_diffusers(saved_without: Path) -> None:
    code = f"""
import sys
from hvqbench.vq.loading import tokenizer_files, tokenizer_unavailable
for name in ("diffusers:model", "diffusers:owner/none", "model"):
    tokenizer_files(name, Path({str(saved_without)!r}))
    tokenizer_unavailable(name, Path({str(saved_without)!r}))
print({{"torch", "diffusers"}} & sys.modules.keys())
"""
    assert run(code, HF_HUB_CACHE=str(saved_without)) == "set()"


@pytest.fixture
def hub_server(saved: Path) -> Iterator[str]:
    """A hub on this machine that has one repository, owner/name, with a model and one that is pickled."""
    pickled = saved / "models" / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text('{"_class_name": "VQModel"}')

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            repository, _, name = self.path.strip("/").partition("/resolve/main/")
            file = saved / "models" / name
            known = repository == "owner/name"
            self.send_response(200 if known and file.is_file() else 404)
            self.send_header("X-Repo-Commit", COMMIT)
            if known and file.is_file():
                self.send_header("ETag", f'"{name.replace("/", "-")}"')
                self.send_header("Content-Length", str(file.stat().st_size))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(file.read_bytes())
            else:
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


FETCH = """
from hvqbench.errors import HvqbenchError
source = Source.parse({name!r}, Path("."))
print(source.unavailable())
try:
    print(*source.fetch())
except HvqbenchError as error:
    print(error)
print(source.unavailable())
"""


@needs_diffusers
def test_a_repository_is_fetched_once_and_then_found(
    saved: Path, hub_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = saved / "cache"
    environment = {"HF_HUB_CACHE": str(cache), "HF_ENDPOINT": hub_server, "NO_PROXY": "127.0.0.1"}
    name = "diffusers:owner/name:vqvae"
    before, fetched, after = run(FETCH.format(name=name), **environment).splitlines()
    wanted = "vqvae/config.json vqvae/diffusion_pytorch_model.safetensors"
    assert before == (
        "owner/name is neither a folder in . nor in the Hugging Face cache; correct the name, or run "
        f"`hf download owner/name {wanted}` where the hub can be reached"
    )
    snapshot = cache / "models--owner--name" / "snapshots" / COMMIT / "vqvae"
    assert fetched == f"{snapshot / hub.CONFIG} {snapshot / hub.WEIGHTS}"
    assert after == "None"

    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    assert tokenizer_files(name, saved) == [snapshot / hub.CONFIG, snapshot / hub.WEIGHTS]
    tokenizer = load_tokenizer(name, saved)
    local = load_tokenizer("diffusers:models/vqvae", saved)
    assert tokenizer.digest == local.digest
    assert torch.equal(tokenizer.codebooks, local.codebooks)


@needs_diffusers
@pytest.mark.parametrize(
    ("name", "reachable", "reason"),
    [
        (
            "owner/name:pickled",
            True,
            "has no pickled/diffusion_pytorch_model.safetensors; convert its weights to safetens",
        ),
        ("owner/name", True, "owner/name on the Hugging Face hub has no config.json; name a subfolder"),
        (
            "owner/nome:vqvae",
            True,
            "owner/nome is neither a folder in . nor to be had from the Hugging Face hub (404 Client",
        ),
        ("owner/name:vqvae", False, "owner/name is neither a folder in . nor to be had from the Hugging Face hub ("),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(
    name: str, reachable: bool, reason: str, saved: Path, hub_server: str
) -> None:
    environment = {"HF_HUB_CACHE": str(saved / "cache"), "HF_ENDPOINT": hub_server, "NO_PROXY": "127.0.0.1"}
    if not reachable:
        environment["HF_HUB_OFFLINE"] = "1"  # without it, the library tries again for a minute
    before, error, after = run(FETCH.format(name=f"diffusers:{name}"), **environment).splitlines()
    assert before == after
    assert "nor in the Hugging Face cache" in before
    assert reason in error


@needs_diffusers
def test_search(tmp_path: Path) -> None:
    from hvqbench.vq.search import searched

    tokenizer, batch = wrap(vqmodel(), tmp_path), images(1, 64, 64)
    with torch.inference_mode():
        latent = tokenizer.encode(batch)
    moved = searched(tokenizer, batch, latent, 2)
    assert moved.shape == latent.shape
    assert 0 < float((moved - latent).abs().max()) < float(tokenizer.codebooks.std())


@needs_diffusers
def test_from_training_to_pictures(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hvqbench.catalog import load_codec
    from hvqbench.errors import BitstreamError
    from hvqbench.training.index_model import train_index_model

    monkeypatch.delenv("HVQBENCH_DATA", raising=False)  # or the model card would take minutes over Kodak
    photos = saved / "photos"
    write_photos(photos)
    (saved / "train.toml").write_text('tokenizer = "diffusers:models:vqvae"\n')
    small = {"steps": 3, "batch": 4, "crop": 64, "crops": 8, "width": 16, "z_channels": 2}
    train_index_model(saved / "train.toml", photos, saved / "run", "cpu", **small)
    for kind, weights in {"fixed": "", "static": "frequencies", "hyperprior": "hyperprior"}.items():
        folder = saved / f"codec-{kind}"
        folder.mkdir()
        text = 'adapter = "vq"\nsummary = "test"\npoints = [0]\npoint_name = "L"\n[options]\n'
        text += f'index_model = "{kind}"\ntokenizer = "diffusers:../models:vqvae"\n'
        text += f'weights = "../run/{weights}.safetensors"\n' if weights else ""
        (folder / "codec.toml").write_text(text)

    image = ((images(1, 46, 61)[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    pictures = []
    for kind in ("fixed", "static", "hyperprior"):
        toml = str(saved / f"codec-{kind}" / "codec.toml")
        encoder, decoder = load_codec(toml), load_codec(toml)
        assert encoder.unavailable() is None
        stream = encoder.encode(image, 0)
        picture = decoder.decode(stream.data)
        assert decoder.digest(stream.data, picture) == stream.digest
        pictures.append(picture)
    assert pictures[0].shape == image.shape
    assert all(np.array_equal(pictures[0], other) for other in pictures[1:])

    padded = np.pad(image, ((0, 2), (0, 3), (0, 0)), mode="edge")
    with torch.inference_mode():
        theirs = vqmodel()(torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 127.5 - 1).sample[0]
    theirs = ((theirs.clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()[:46, :61]
    assert np.abs(pictures[0] - theirs).max() < 0.51

    before = load_codec(toml).fingerprint
    config, weights_file = tokenizer_files("diffusers:models:vqvae", saved)
    config.write_text(config.read_text() + "\n")
    changed = load_codec(toml)
    assert changed.fingerprint != before
    with pytest.raises(HvqbenchError, match="trained for"):
        changed.decode(stream.data)
    with pytest.raises(BitstreamError):
        load_codec(str(saved / "codec-fixed" / "codec.toml")).decode(stream.data)
    weights_file.unlink()
    assert load_codec(toml).unavailable().startswith(f"{weights_file.parent} holds no {hub.WEIGHTS}; ")


def write_photos(folder: Path) -> None:
    from PIL import Image
    from skimage.data import astronaut, chelsea, coffee

    folder.mkdir()
    for photograph in (astronaut, chelsea, coffee):
        Image.fromarray(photograph()[:200, :260]).save(folder / f"{photograph.__name__}.png")
