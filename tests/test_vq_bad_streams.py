"""What is wrong with a stream, or with the weights, is said in one line; nothing crashes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hvqbench.adapters.vq import VQCodec
from hvqbench.catalog import load_codec
from hvqbench.errors import BitstreamError, HvqbenchError
from hvqbench.single import decompress_file
from hvqbench.vq.container import Container, pack
from hvqbench.vq.models.hyperprior import Hyperprior, HyperpriorConfig
from hvqbench.vq.tokenizer import Tokenizer

CODECS = [f"{f}-{k}" for f in ("tiny", "rvq", "large") for k in ("fixed", "huffman", "static", "hyperprior", "context")]


def picture(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "other model"])
def test_a_bad_stream_is_one_clear_line(load: Callable[[str], VQCodec], damage: str) -> None:
    codec = load("tiny-hyperprior")
    good = codec.encode(picture(64), 0).data
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    other = load("other-hyperprior").encode(picture(64), 0).data
    bad = {
        "truncated": good[:-5],
        "flipped": bytes(flipped),
        "empty": b"",
        "foreign": b"RIFF" + good,
        "other model": other,
    }
    with pytest.raises(BitstreamError) as caught:
        codec.decode(bad[damage])
    assert "\n" not in str(caught.value)
    assert codec.id in str(caught.value)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_a_payload_that_lies_is_an_image_or_one_clear_line(
    load: Callable[[str], VQCodec], name: str, mode: int
) -> None:
    """A valid container around anything: whatever comes of it, no crash and no index outside the codebook."""
    codec = load(name)
    for payload in (b"", b"\xff" * 5, b"\xff" * 2000, bytes(40), bytes(range(256)) * 3):
        stream = pack(Container(256, 256, mode, payload), codec.model_fingerprint)
        message = codec.id
        try:
            found = codec.decode_indices(stream)[0]
        except BitstreamError as error:
            found, message = np.zeros(1), str(error)
        assert found.min() >= 0
        assert found.max() < len(codec.tokenizer.codebooks[0])
        assert codec.id in message
        assert "\n" not in message


@pytest.mark.parametrize("kind", ["fixed", "huffman", "static", "hyperprior", "context"])
@pytest.mark.parametrize("family", ["tiny", "rvq"])
@pytest.mark.parametrize("payload", [b"", b"\xff" * 5, bytes(40), b"\x5a" * 99])
def test_a_few_bytes_that_claim_a_large_image_are_refused_before_anything_is_made_of_them(
    load: Callable[[str], VQCodec], family: str, kind: str, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory and time follow what the bytes can hold: no network sees 268 megapixels."""
    codec = load(f"{family}-{kind}")
    codec.prepare()

    def called(*arguments: object) -> None:
        raise MemoryError("a network was asked")

    monkeypatch.setattr("hvqbench.vq.exact.IntegerNetwork.__call__", called)
    monkeypatch.setattr("hvqbench.vq.networks.Networks.paint", called)
    for mode in (0, 1, 2) if kind in ("hyperprior", "context") else (0,):
        with pytest.raises(BitstreamError, match="cannot be decoded"):
            codec.decode(pack(Container(2**14, 2**14, mode, payload), codec.model_fingerprint))


def test_a_stream_above_the_limit_of_pixels_is_refused(
    load: Callable[[str], VQCodec], vq_catalog: Path, tmp_path: Path
) -> None:
    codec = load("tiny-static")
    (tmp_path / "a.vq").write_bytes(codec.encode(picture(64), 0).data)
    name = f"{vq_catalog}/codecs/tiny-static"
    with pytest.raises(BitstreamError, match="64x64 pixels, above the limit of 4095"):
        decompress_file(tmp_path / "a.vq", tmp_path / "a.png", name, max_pixels=4095)
    assert not (tmp_path / "a.png").exists()
    assert "64x64" in decompress_file(tmp_path / "a.vq", tmp_path / "a.png", name, max_pixels=4096)
    with pytest.raises(HvqbenchError, match="knows no limit"):
        decompress_file(tmp_path / "a.vq", tmp_path / "b.png", "jpeg", max_pixels=9)


def test_more_stages_than_the_tokenizer_has_are_refused(load: Callable[[str], VQCodec]) -> None:
    codec = load("rvq-static")
    stream = pack(Container(64, 64, 0, bytes(100), stages=4), codec.model_fingerprint)
    with pytest.raises(BitstreamError, match="4 stages, but the tokenizer has 3"):
        codec.decode(stream)


def test_an_unknown_index_mode_is_refused(load: Callable[[str], VQCodec]) -> None:
    codec = load("tiny-static")
    with pytest.raises(BitstreamError, match="unknown index mode 2"):
        codec.decode(pack(Container(64, 64, 2, bytes(100)), codec.model_fingerprint))


@pytest.mark.parametrize("kind", ["hyperprior", "static"])
def test_index_model_of_another_tokenizer_is_refused(vq_catalog: Path, tmp_path: Path, kind: str) -> None:
    shutil.copytree(vq_catalog / "codecs", tmp_path / "codecs")
    path = tmp_path / "codecs/tokenizers/tiny/tokenizer.safetensors"
    tokenizer = Tokenizer.load(path)
    tokenizer.codebooks += 0.1
    tokenizer.save(path, path.parents[1] / "autoencoder.safetensors")
    with pytest.raises(HvqbenchError, match="was trained for tokenizer"):
        load_codec(f"{tmp_path}/codecs/tiny-{kind}").prepare()


def test_a_head_that_only_training_has_is_refused(vq_catalog: Path, tmp_path: Path) -> None:
    shutil.copytree(vq_catalog / "codecs", tmp_path / "codecs")
    digest = Tokenizer.load(tmp_path / "codecs/tokenizers/tiny/tokenizer.safetensors").digest
    model = Hyperprior(HyperpriorConfig(5, 37, 1, 16, 3, head="free"))
    model.save(tmp_path / "codecs/tokenizers/tiny/hyperprior.safetensors", digest)
    with pytest.raises(HvqbenchError, match="free head, which cannot code"):
        load_codec(f"{tmp_path}/codecs/tiny-hyperprior").prepare()


def test_missing_weights_are_said_with_a_remedy(vq_catalog: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    text = 'adapter = "vq"\nsummary = "test"\npoints = [0]\npoint_name = "L"\n[options]\nindex_model = "fixed"\n'
    (folder / "codec.toml").write_text(text + 'tokenizer = "nowhere"\n')
    assert "missing" in str(load_codec(str(folder)).unavailable())
    shutil.copytree(vq_catalog / "codecs", tmp_path / "codecs")
    (tmp_path / "codecs/tokenizers/tiny/frequencies.safetensors").unlink()
    assert "frequencies.safetensors are missing" in str(load_codec(f"{tmp_path}/codecs/tiny-static").unavailable())
