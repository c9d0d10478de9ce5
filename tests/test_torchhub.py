"""Models of torch hub: a tiny repository with MS-ILLM's interface and random weights, written where the test runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hvqbench import cli
from hvqbench.adapters.learned.container import unpack
from hvqbench.catalog import load_codec
from hvqbench.codec import Codec, Image
from hvqbench.errors import BitstreamError, HvqbenchError, UnavailableError

ROOT = Path(__file__).parents[1]
GITHUB = "someone/tiny-lic:v1.0"
HUBCONF = '''
"""Compresses as facebookresearch/NeuralCompression's HiFiCAutoencoder does, by other networks and another coder."""
import zlib
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

dependencies = ["torch"]


class Compressed(NamedTuple):
    latent_strings: list
    hyper_latent_strings: list
    image_size: tuple
    padded_size: tuple


class Coder(torch.nn.Module):
    entropy_coder = "zlib"  # what CompressAI's entropy models have

    def quantize(self, inputs, mode, means=None):
        assert mode == "symbols"
        return inputs.round().int()

    def dequantize(self, symbols, means=None, dtype=torch.float):
        return symbols.type(dtype)

    def compress(self, x):
        return [zlib.compress(self.quantize(x, "symbols").short().numpy().tobytes())]

    def decompress(self, strings, shape):
        symbols = np.frombuffer(zlib.decompress(strings[0]), np.int16).reshape(shape)
        return self.dequantize(torch.from_numpy(symbols.astype(np.int32)))


class Tiny(torch.nn.Module):
    factor = 16

    def __init__(self, seed, gain):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = torch.nn.Conv2d(3, 4, 8, stride=8)
        self.decoder = torch.nn.ConvTranspose2d(4, 3, 8, stride=8)
        self.hyper = torch.nn.AvgPool2d(2)
        self.latent_bottleneck, self.hyper_bottleneck = Coder(), Coder()
        self.gain, self.updated = gain, False

    def update(self):
        self.updated = True

    def compress(self, image, force_cpu=True):
        assert self.updated and not force_cpu and not self.training
        height, width = image.shape[-2:]
        image = pad(image, (0, -width % 16, 0, -height % 16), mode="reflect")
        latent = self.gain * self.encoder(image)
        strings = [coder.compress(x) for coder, x in
                   ((self.hyper_bottleneck, self.hyper(latent)), (self.latent_bottleneck, latent))]
        return Compressed(strings[1], strings[0], (height, width), tuple(image.shape[-2:]))

    def decompress(self, coded, force_cpu=True):
        height, width = (side // 8 for side in coded.padded_size)
        self.hyper_bottleneck.decompress(coded.hyper_latent_strings, (1, 4, height // 2, width // 2))
        latent = self.latent_bottleneck.decompress(coded.latent_strings, (1, 4, height, width))
        image = self.decoder(latent / self.gain)
        return image[..., : coded.image_size[0], : coded.image_size[1]].clamp(0, 1)


def tiny_quality_1(gain=20):
    return Tiny(1, gain)


def tiny_quality_2(gain=100):
    return Tiny(2, gain)
'''


def photo(height: int = 37, width: int = 50) -> Image:
    from skimage.data import astronaut

    return astronaut()[100 : 100 + height, 180 : 180 + width].copy()


def write(folder: Path, repository: str, **options: str) -> str:
    """A codec.toml of the two qualities of *repository*; the folder's path."""
    folder.mkdir(exist_ok=True)
    content = {"repository": repr(repository), "models": '["tiny_quality_1", "tiny_quality_2"]'} | options
    lines = ['adapter = "torchhub"', 'summary = "test"', "points = [1, 2]", 'point_name = "quality"', "[options]"]
    (folder / "codec.toml").write_text(
        "\n".join([*lines, *(f"{key} = {value}" for key, value in content.items())]) + "\n"
    )
    return str(folder)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    return folder


@pytest.fixture
def source(repository: Path, tmp_path: Path) -> str:
    return write(tmp_path / "tiny", "../repository")


def tiny(source: str, point: int = 1) -> torch.nn.Module:
    """What torch hub itself loads."""
    folder = Path(source).parent / "repository"
    return torch.hub.load(str(folder), f"tiny_quality_{point}", source="local").eval()


@pytest.mark.parametrize("point", [1, 2])
@pytest.mark.parametrize("size", [(37, 50), (48, 32), (9, 30)])
def test_our_file_holds_what_the_model_returned(point: int, size: tuple[int, int], source: str) -> None:
    encoder, decoder, model = load_codec(source), load_codec(source), tiny(source, point)
    image = photo(*size)
    stream = encoder.encode(image, point)
    restored = decoder.decode(stream.data)
    model.update()  # type: ignore[operator]
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        coded = model.compress(pixels, force_cpu=False)  # type: ignore[operator]
        expected = model.decompress(coded)[0].permute(1, 2, 0)  # type: ignore[operator]
    assert unpack(stream.data, "c").strings == [coded.latent_strings[0], coded.hyper_latent_strings[0]]
    assert np.abs(restored - (expected * 255).numpy()).max() <= 0.5 + 1e-3
    assert restored.shape == image.shape
    sizes = {name: part.bytes for name, part in stream.ledger.items()}
    y, z = len(coded.latent_strings[0]), len(coded.hyper_latent_strings[0])
    assert sizes == {"header": len(stream.data) - y - z, "z": z, "y": y}
    assert stream.digest == decoder.digest(stream.data, restored)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (8, 8), (7, 200)])
def test_an_image_too_small_to_be_reflected_is_padded_by_its_edge(size: tuple[int, int], source: str) -> None:
    codec, image = load_codec(source), photo(*size)
    model = tiny(source)
    model.update()  # type: ignore[operator]
    with pytest.raises(RuntimeError, match=r"[Pp]adding size"):
        model.compress(torch.zeros(1, 3, *size), force_cpu=False)  # type: ignore[operator]
    stream = codec.encode(image, 1)
    assert codec.decode(stream.data).shape == image.shape
    height, width = (side + -side % 16 for side in size)
    padded = np.pad(image, ((0, height - size[0]), (0, width - size[1]), (0, 0)), mode="edge")
    assert unpack(codec.encode(padded, 1).data, "c").strings == unpack(stream.data, "c").strings


def test_the_digest_is_of_the_symbols(source: str) -> None:
    codec = load_codec(source)
    stream = codec.encode(photo(), 2)
    assert codec.digest(stream.data, np.zeros((1, 1, 3), np.uint8)) == stream.digest
    assert codec.encode(photo(37, 49), 2).digest != stream.digest


def test_weights_and_arguments_are_of_the_point(repository: Path, tmp_path: Path) -> None:
    names = []
    for point in (1, 2):
        model = torch.hub.load(str(repository), "tiny_quality_1", source="local")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(point)
        names.append(f"{point}.safetensors")
        save_file(model.state_dict(), tmp_path / names[-1])
    weights = repr([f"../{name}" for name in names])
    models = '["tiny_quality_1", "tiny_quality_1"]'
    trained = load_codec(write(tmp_path / "trained", "../repository", weights=weights, models=models))
    plain = load_codec(write(tmp_path / "plain", "../repository", models=models, arguments="{ gain = 40 }"))
    first, second = (unpack(trained.encode(photo(), point).data, "c").strings for point in (1, 2))
    assert first != second
    assert unpack(plain.encode(photo(), 2).data, "c").strings == second  # twice the gain of weights half as large
    with pytest.raises(BitstreamError, match="made by model"):
        plain.decode(trained.encode(photo(), 2).data)


def test_another_process_decodes_the_same(source: str, tmp_path: Path) -> None:
    stream = load_codec(source).encode(photo(), 1)
    (tmp_path / "stream").write_bytes(stream.data)
    code = f"""
from pathlib import Path
from hvqbench.catalog import load_codec
codec, data = load_codec({source!r}), Path({str(tmp_path / "stream")!r}).read_bytes()
print(codec.digest(data, codec.decode(data)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == stream.digest, done.stderr


def test_the_code_is_part_of_the_fingerprint(source: str, repository: Path) -> None:
    before = load_codec(source).fingerprint
    (repository / "part").mkdir()
    (repository / "part" / "layers.py").write_text("x = 1\n")
    after = load_codec(source).fingerprint
    assert before != after
    (repository / "part" / "layers.py").write_text("x = 2\n")
    assert load_codec(source).fingerprint != after


@pytest.fixture
def hub(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Torch hub's cache in a folder of the test, with a download that needs no network; the names it was asked for."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    asked: list[str] = []

    def download(place: str, trust_repo: object = None) -> list[str]:
        assert trust_repo is True
        asked.append(place)
        shutil.copytree(repository, tmp_path / "home" / "hub" / "someone_tiny-lic_v1.0")
        return ["tiny_quality_1"]

    monkeypatch.setattr(torch.hub, "list", download)
    return asked


def test_code_of_others_runs_only_where_the_user_trusts_it(
    hub: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "mine", GITHUB)
    codec = load_codec(source)
    remedy = (
        "torch hub runs its code: read https://github.com/someone/tiny-lic/tree/v1.0, "
        "then run `hvqbench fetch mine --trust-repo`"
    )
    assert codec.unavailable() == f"{GITHUB} is not in torch hub's cache, and {remedy}"
    with pytest.raises(UnavailableError, match="torch hub runs its code"):
        codec.prepare()
    with pytest.raises(UnavailableError) as caught:
        codec.fetch()
    assert str(caught.value) == f"mine: {remedy}"
    assert hub == []

    for _ in range(2):
        with pytest.raises(SystemExit) as left:
            cli.main(["fetch", source, "--trust-repo"])
        assert left.value.code == 0
    assert capsys.readouterr().out == "mine: ready\nmine: ready\n"
    assert hub == [GITHUB]
    assert codec.decode(codec.encode(photo(), 1).data).shape == photo().shape


def test_a_repository_that_cannot_be_had_is_one_line(
    hub: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(place: str, trust_repo: object = None) -> list[str]:
        raise OSError("<urlopen error\nno route>")

    monkeypatch.setattr(torch.hub, "list", fail)
    with pytest.raises(UnavailableError) as caught:
        load_codec(write(tmp_path / "mine", GITHUB)).fetch(trust_repo=True)
    assert str(caught.value) == f"mine: torch hub cannot load {GITHUB}: <urlopen error; check the network"


def test_what_is_wrong_is_one_line(source: str, repository: Path, tmp_path: Path) -> None:
    missing = load_codec(write(tmp_path / "a", "../nowhere"))
    assert str(missing.unavailable()).startswith(
        f"{tmp_path}/nowhere holds no hubconf.py; correct the option repository"
    )
    package = load_codec(write(tmp_path / "b", "../repository", libraries='["no-such-package"]'))
    assert str(package.unavailable()).startswith("the package no-such-package is not installed: ")
    entry = load_codec(write(tmp_path / "c", "../repository", models='["tiny_quality_9", "tiny_quality_2"]'))
    with pytest.raises(HvqbenchError, match=r"c: point 1 does not make a model \(RuntimeError: Cannot find callable"):
        entry.encode(photo(), 1)
    (repository / "hubconf.py").write_text(HUBCONF.replace('["torch"]', '["torch", "no_such_package"]'))
    with pytest.raises(HvqbenchError, match=r"\(RuntimeError: Missing dependencies: no_such_package\)"):
        load_codec(source).encode(photo(), 1)
    (repository / "hubconf.py").write_text(HUBCONF.replace("tuple(image.shape[-2:])", "(64, 64)"))
    with pytest.raises(HvqbenchError, match="the model pads otherwise than to multiples of 16"):
        load_codec(source).encode(photo(), 1)


@pytest.mark.parametrize("name", ["msillm", "msillm-vlo", "msillm-nogan"])
def test_the_shipped_ones_wait_for_trust(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    codec: Codec = load_codec(name)
    assert codec.spec.options["arguments"] == {"pretrained": False}  # or torch hub would unpickle what it downloads
    assert len(codec.spec.options["weights"]) == len(codec.points)
    reason = str(codec.unavailable())
    assert reason.endswith(f"run `hvqbench fetch {name} --trust-repo`") or "is not installed" in reason
    code = f"""
import sys
from hvqbench.catalog import load_codec
load_codec({name!r}).unavailable()
print("torch" in sys.modules)
"""
    environment = os.environ | {"TORCH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
