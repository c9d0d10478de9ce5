"""CompressAI's models: small ones with random weights, saved where the test runs. No network is asked for anything."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import threading
import tomllib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hvqbench.adapters.learned.container import Content, ledger, pack, unpack
from hvqbench.adapters.learned.weights import Weights
from hvqbench.catalog import load_codec
from hvqbench.codec import Codec, Image
from hvqbench.errors import BitstreamError, HvqbenchError, UnavailableError

ROOT = Path(__file__).parents[1]
INSTALL = "pip install 'hvqbench[compressai]'"
needs_compressai = pytest.mark.skipif(find_spec("compressai") is None, reason=f"compressai is not installed: {INSTALL}")

SIZES = {
    "bmshj2018-factorized": (8, 12),
    "bmshj2018-hyperprior": (8, 12),
    "mbt2018-mean": (8, 12),
    "mbt2018": (8, 12),
    "cheng2020-anchor": (8,),
    "cheng2020-attn": (8,),
    "cheng2020-anchor-checkerboard": (8,),
    "elic2022-official": (8,),
}
"""Architectures, each with the channels (N, M) of a small model; the first six are the zoo's."""


def photo(height: int = 71, width: int = 100) -> Image:
    from skimage.data import astronaut

    return astronaut()[100 : 100 + height, 180 : 180 + width].copy()


def make(architecture: str, seed: int = 0) -> Any:
    """A small model whose latents are far from zero, so that there is something to code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import compressai.zoo  # noqa: F401
        from compressai.registry import MODELS

    torch.manual_seed(seed)
    model = MODELS[architecture](*SIZES[architecture]).eval()
    for part in (model.g_a, getattr(model, "h_a", None)):
        convolutions = [layer for layer in part.modules() if isinstance(layer, torch.nn.Conv2d)] if part else []
        for layer in convolutions[-1:]:
            layer.weight.data.mul_(30)
    return model


def write(folder: Path, architecture: str, weights: list[str], more: dict[str, str] | None = None) -> str:
    """A codec.toml that names *weights*, one for each point from 1; the folder's path."""
    folder.mkdir(exist_ok=True)
    points = list(range(1, len(weights) + 1))
    lines = ['adapter = "compressai"', 'summary = "test"', f"points = {points}", 'point_name = "quality"', "[options]"]
    options = {"architecture": repr(architecture), "weights": repr(weights)} | (more or {})
    (folder / "codec.toml").write_text("\n".join([*lines, *(f"{k} = {v}" for k, v in options.items())]) + "\n")
    return str(folder)


def save(model: Any, path: Path) -> str:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path.name


@pytest.fixture
def mean(tmp_path: Path) -> Codec:
    """Two models of mbt2018-mean, points 1 and 2."""
    names = [save(make("mbt2018-mean", seed), tmp_path / f"{seed}.safetensors") for seed in (0, 1)]
    return load_codec(write(tmp_path, "mbt2018-mean", names))


@needs_compressai
@pytest.mark.parametrize("architecture", [*list(SIZES)[:-1], pytest.param("elic2022-official", marks=pytest.mark.slow)])
def test_our_file_holds_the_strings_of_compressai_and_nothing_else_is_needed(architecture: str, tmp_path: Path) -> None:
    model = make(architecture)
    source = write(tmp_path, architecture, [save(model, tmp_path / "model.safetensors")])
    encoder, decoder = load_codec(source), load_codec(source)
    image = photo()
    stream = encoder.encode(image, 1)
    restored = decoder.decode(stream.data)

    # What CompressAI itself makes of the image, padded as its eval_model pads it.
    from compressai.ops import compute_padding

    pad, unpad = compute_padding(*image.shape[:2], min_div=64)
    model.update()
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        coded = model.compress(torch.nn.functional.pad(pixels, pad))
        out = model.decompress(coded["strings"], coded["shape"])["x_hat"]
        expected = torch.nn.functional.pad(out, unpad)[0].permute(1, 2, 0)
    assert unpack(stream.data, "c").strings == [string for (string,) in coded["strings"]]
    assert np.abs(restored - (expected * 255).clamp(0, 255).numpy()).max() <= 0.5 + 1e-3
    assert restored.shape == image.shape
    assert restored.dtype == np.uint8

    *latents, last = [len(string) for (string,) in coded["strings"]]
    sizes = {"z": last, "y": sum(latents)} if latents else {"y": last}
    sizes["header"] = len(stream.data) - sum(sizes.values())
    assert {name: part.bytes for name, part in stream.ledger.items()} == sizes
    assert sizes["y"] > 100
    assert sizes["header"] <= 13 + 2 * len(latents)
    assert stream.digest == decoder.digest(stream.data, restored)


@needs_compressai
@pytest.mark.parametrize("architecture", ["bmshj2018-factorized", "mbt2018"])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 3)])
def test_sizes(architecture: str, size: tuple[int, int], tmp_path: Path) -> None:
    source = write(tmp_path, architecture, [save(make(architecture), tmp_path / "model.safetensors")])
    encoder, decoder = load_codec(source), load_codec(source)
    image = photo(*size)
    stream = encoder.encode(image, 1)
    restored = decoder.decode(stream.data)
    assert restored.shape == image.shape
    assert stream.digest == decoder.digest(stream.data, restored)
    assert encoder.encode(image, 1).data == stream.data


@needs_compressai
def test_the_digest_is_of_what_is_coded(mean: Codec) -> None:
    streams = [mean.encode(image, 1) for image in (photo(), np.flip(photo(), 1))]
    assert streams[0].digest != streams[1].digest
    # Of the bytes and not of what was decoded last, and not of the pixels.
    blank = np.zeros((1, 1, 3), np.uint8)
    assert [mean.digest(stream.data, blank) for stream in streams] == [stream.digest for stream in streams]


@needs_compressai
def test_a_decoder_whose_symbols_differ_is_found_out(mean: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    from compressai.entropy_models import GaussianConditional

    stream = mean.encode(photo(), 1)
    original = GaussianConditional.build_indexes
    shift = lambda self, scales: (original(self, scales) + 1).clamp(max=63)  # noqa: E731 - probabilities of its own
    monkeypatch.setattr(GaussianConditional, "build_indexes", shift)
    assert mean.digest(stream.data, mean.decode(stream.data)) != stream.digest


@needs_compressai
def test_another_process_with_other_threads_decodes_the_same(tmp_path: Path) -> None:
    source = write(tmp_path, "mbt2018", [save(make("mbt2018"), tmp_path / "model.safetensors")])
    stream = load_codec(source).encode(photo(), 1)
    (tmp_path / "stream").write_bytes(stream.data)
    code = f"""
import sys, torch
from pathlib import Path
from hvqbench.catalog import load_codec
torch.set_num_threads(3)
codec, data = load_codec({source!r}), Path({str(tmp_path / "stream")!r}).read_bytes()
print(codec.digest(data, codec.decode(data)), torch.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == [stream.digest, "3"], done.stderr


@needs_compressai
def test_probabilities_come_from_one_thread_and_transforms_from_all(mean: Codec) -> None:
    threads: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda *_: threads.update({name: torch.get_num_threads()})

    mean.encode(photo(), 1)
    model = mean._networks[1].model  # type: ignore[attr-defined]
    for name in ("g_a", "h_a", "h_s", "g_s"):
        next(getattr(model, name).children()).register_forward_hook(note(name))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        mean.decode(mean.encode(photo(), 1).data)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert threads == {"g_a": 3, "h_a": 1, "h_s": 1, "g_s": 3}


@needs_compressai
def test_each_point_is_a_model(mean: Codec) -> None:
    first, second = (mean.encode(photo(), point) for point in (1, 2))
    assert first.data != second.data
    assert not np.array_equal(mean.decode(first.data), mean.decode(second.data))
    with pytest.raises(HvqbenchError, match="3 is no model; correct the operating point to one of 1, 2"):
        mean.encode(photo(), 3)


@needs_compressai
@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:9], lambda d: b"", lambda d: d[:40] + b"x" + d[41:]])
def test_damaged_streams_are_refused(damage: Callable[[bytes], bytes], mean: Codec) -> None:
    with pytest.raises(BitstreamError, match="stream"):
        mean.decode(damage(mean.encode(photo(), 1).data))


@needs_compressai
def test_a_stream_of_other_weights_is_refused(mean: Codec, tmp_path: Path) -> None:
    stream = mean.encode(photo(), 1)
    other = load_codec(write(tmp_path / "other", "mbt2018-mean", ["../1.safetensors"]))
    with pytest.raises(
        BitstreamError, match=r"made by model [0-9a-f]{6}, but model 1 is [0-9a-f]{6} here; decode it wi"
    ):
        other.decode(stream.data)
    fewer = load_codec(write(tmp_path / "fewer", "mbt2018-mean", ["../0.safetensors"]))
    with pytest.raises(BitstreamError, match="the stream needs model 2; add it to 'points'"):
        fewer.decode(mean.encode(photo(), 2).data)


@needs_compressai
def test_tables_in_the_file_are_used(tmp_path: Path) -> None:
    model = make("bmshj2018-hyperprior")
    without = load_codec(
        write(tmp_path / "a", "bmshj2018-hyperprior", ["../" + save(model, tmp_path / "a.safetensors")])
    )
    model.update(scale_table=torch.linspace(0.5, 40, 20))
    own = load_codec(write(tmp_path / "b", "bmshj2018-hyperprior", ["../" + save(model, tmp_path / "b.safetensors")]))
    assert own.decode(own.encode(photo(), 1).data).shape == photo().shape
    assert own.encode(photo(), 1).data[6:] != without.encode(photo(), 1).data[6:]
    with pytest.raises(BitstreamError, match="tables"):
        own.decode(without.encode(photo(), 1).data)


@needs_compressai
def test_checkpoints_of_training_scripts_and_of_old_versions(mean: Codec, tmp_path: Path) -> None:
    state = make("mbt2018-mean", 0).state_dict()
    old = {f"module.{key}": value for key, value in state.items()}
    for kind, name in (("matrices", "_matrices"), ("biases", "_biases"), ("factors", "_factors")):
        old = {key.replace(f"entropy_bottleneck.{kind}", f"entropy_bottleneck.{name}"): v for key, v in old.items()}
    torch.save({"epoch": 3, "state_dict": old, "optimizer": {"lr": 0.1}}, tmp_path / "old.pth.tar")
    codec = load_codec(write(tmp_path / "old", "mbt2018-mean", ["../old.pth.tar"]))
    assert codec.encode(photo(), 1).data == mean.encode(photo(), 1).data


@needs_compressai
def test_a_class_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mean: Codec) -> None:
    (tmp_path / "own_lic.py").write_text(
        "from compressai.models import MeanScaleHyperprior\nclass Own(MeanScaleHyperprior):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    codec = load_codec(write(tmp_path / "own", "own_lic:Own", ["../0.safetensors"]))
    stream = codec.encode(photo(), 1)
    assert unpack(stream.data, "c").strings == unpack(mean.encode(photo(), 1).data, "c").strings
    with pytest.raises(BitstreamError, match="made by model"):  # another class, whatever its weights
        mean.decode(stream.data)


@needs_compressai
def test_what_does_not_fit_is_one_line(mean: Codec, tmp_path: Path) -> None:
    for architecture, reason in [
        ("cheng2020-attn", "0.safetensors does not make a model (KeyError"),
        ("elic2022-offical", "CompressAI has no architecture 'elic2022-offical': did you mean 'elic2022-official'"),
        ("no_such_package:Class", "cannot load 'no_such_package:Class'"),
    ]:
        codec = load_codec(write(tmp_path / "wrong", architecture, ["../0.safetensors"]))
        with pytest.raises(HvqbenchError) as caught:
            codec.encode(photo(), 1)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


@needs_compressai
def test_the_zoo_is_whole_and_names_the_files_of_compressai() -> None:
    from compressai.zoo.image import model_urls

    for architecture in list(SIZES)[:6]:
        for metric in ("mse", "ms-ssim"):
            codec = load_codec(architecture if metric == "mse" else f"{architecture}-{metric}")
            urls = model_urls[architecture][metric]
            assert codec.spec.options == {"architecture": architecture, "weights": list(urls.values())}
            assert codec.points == tuple(urls)


@pytest.mark.parametrize("name", ["mbt2018-mean", "cheng2020-attn-ms-ssim"])
def test_absent_weights_and_packages_are_said_without_importing_anything(name: str, tmp_path: Path) -> None:
    code = f"""
import sys
from hvqbench.catalog import load_codec
codec = load_codec({name!r})
print(codec.unavailable())
try:
    codec.fingerprint
except ModuleNotFoundError:
    pass  # CompressAI's version is part of it
print({{"torch", "compressai"}} & sys.modules.keys())
"""
    environment = os.environ | {"TORCH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    reason, imported = done.stdout.splitlines()
    assert imported == "set()"
    if find_spec("compressai") is None:
        assert reason.startswith(f"the package compressai is not installed: {INSTALL}")
    else:
        count = len(load_codec(name).points)
        assert f"are not in {tmp_path}/hub/checkpoints ({count} of {count} files)" in reason
        assert reason.endswith(f"run `hvqbench fetch {name}` where compressai.s3.amazonaws.com can be reached")


def test_absent_files_of_ones_own(tmp_path: Path) -> None:
    codec = load_codec(write(tmp_path, "mbt2018-mean", ["none.safetensors"]))
    reason = f"weights {tmp_path}/none.safetensors are missing"
    if find_spec("compressai"):
        assert str(codec.unavailable()).startswith(f"{reason} (1 of 1 files)")
        with pytest.raises(UnavailableError, match=r"none\.safetensors are missing"):
            codec.prepare()
    with pytest.raises(UnavailableError, match=r"none\.safetensors are missing; put the file there"):
        codec.fetch()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"weights": "['a', 'b']", "quality": "1"},
            "option 'quality' is unknown; this adapter has architecture, weights",
        ),
        ({"weights": "'a'"}, "option 'weights' must be a list with an entry for each of 'points'"),
        ({"weights": "['a', 'b', 'c']"}, "option 'weights' must be a list with an entry for each of 'points'"),
    ],
)
def test_wrong_options(options: dict[str, str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match=reason):
        load_codec(write(tmp_path, "mbt2018", ["a", "b"], options))


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled_but_tensors(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "extra": Trap(sprung)}, tmp_path / "zipped.pth")
    torch.save(Trap(sprung), tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(sprung)))
    (tmp_path / "disguised.safetensors").write_bytes(pickle.dumps(Trap(sprung)))
    for name in ("zipped.pth", "legacy.pth", "plain.pth", "disguised.safetensors"):
        with pytest.raises(HvqbenchError) as caught:
            Weights(name, tmp_path).read()
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not sprung.exists()


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(1)], {"state_dict": {"a": 1}}])
def test_a_file_without_tensors_is_said_to_be_one(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(HvqbenchError, match=r"x\.pth holds no state_dict"):
        Weights("x.pth", tmp_path).read()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serves the folder ``web`` on this machine; torch hub's cache is the folder ``home``."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    (tmp_path / "web").mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "web")))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()


def test_weights_are_fetched_once_and_checked(server: str, tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3)}, tmp_path / "web" / "model.pth")
    content = (tmp_path / "web" / "model.pth").read_bytes()
    name = f"model-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "web" / "model.pth").rename(tmp_path / "web" / name)
    weights = Weights(f"{server}/{name}", tmp_path)
    assert weights.path == tmp_path / "home" / "hub" / "checkpoints" / name
    weights.fetch()
    (tmp_path / "web" / name).unlink()
    weights.fetch()
    assert torch.equal(weights.read()["a"], torch.arange(3))
    weights.path.write_bytes(content[:-1] + b"x")
    with pytest.raises(HvqbenchError, match="its sha256 differs"):
        weights.read()

    (tmp_path / "web" / "other-00000000.pth").write_bytes(content)
    other = Weights(f"{server}/other-00000000.pth", tmp_path)
    with pytest.raises(UnavailableError, match=r"has sha256 [0-9a-f]{64}, not 00000000"):
        other.fetch()
    assert not other.path.exists()


@needs_compressai
def test_fetch_makes_a_codec_ready(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hvqbench import cli

    name = save(make("mbt2018-mean"), tmp_path / "web" / "model.safetensors")
    source = write(tmp_path / "mine", "mbt2018-mean", [f"{server}/{name}"])
    codec = load_codec(source)
    assert "run `hvqbench fetch mine` where 127.0.0.1" in str(codec.unavailable())
    fingerprint = codec.fingerprint
    with pytest.raises(SystemExit) as left:
        cli.main(["fetch", source])
    assert left.value.code == 0
    assert capsys.readouterr().out == "mine: ready\n"
    assert load_codec(source).fingerprint == fingerprint  # the URL stands for the content
    assert codec.decode(codec.encode(photo(), 1).data).shape == photo().shape


@needs_compressai
def test_fingerprint_is_of_ones_own_weights(mean: Codec, tmp_path: Path) -> None:
    assert load_codec(str(tmp_path)).fingerprint == mean.fingerprint
    (tmp_path / "0.safetensors").write_bytes((tmp_path / "1.safetensors").read_bytes())
    assert load_codec(str(tmp_path)).fingerprint != mean.fingerprint


@pytest.mark.parametrize("strings", [[b"abc"], [b"y" * 300, b"z"], [b"", b""], [b"1", b"", b"333", b"4" * 200]])
def test_container(strings: list[bytes]) -> None:
    content = Content(768, 512, 8, b"\x01\x02\x03", strings)
    data = pack(content)
    assert unpack(data, "c") == content
    sizes = {name: part.bytes for name, part in ledger(data, strings).items()}
    assert sum(sizes.values()) == len(data)
    assert sizes["header"] == len(data) - len(b"".join(strings))
    assert len(pack(Content(768, 512, 8, b"\x01\x02\x03", [b"y" * 5000, b"z" * 200]))) == 5200 + 16


def test_documented_in_every_codec_toml() -> None:
    for path in ROOT.glob("codecs/*/codec.toml"):
        spec = tomllib.loads(path.read_text())
        if spec["adapter"] in ("compressai", "torchhub"):
            assert spec["protocol"]["rate"] == "file"
            assert spec["needs"]["licence"]
            assert f"hvqbench fetch {path.parent.name}" in spec["needs"]["install"]
