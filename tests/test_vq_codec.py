"""VQ codecs from end to end: bytes alone decode to the indices that were meant, whatever the model, size or process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hvqbench.catalog import load_codec
from hvqbench.codec import Codec
from hvqbench.errors import BitstreamError, HvqbenchError

KINDS = ["fixed", "huffman", "static", "hyperprior"]
SIZES = [(1, 1), (1, 40), (3, 700), (16, 16), (65, 129)]


def photo(height: int, width: int) -> np.ndarray:
    from skimage.data import astronaut

    tiled = np.tile(astronaut(), (1, 1 + width // 512, 1))
    return np.ascontiguousarray(tiled[:height, :width])


@pytest.fixture
def codecs(vq_catalog: Path) -> dict[str, Codec]:
    return {kind: load_codec(f"{vq_catalog}/codecs/tiny-{kind}") for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_round_trip_of_any_size(codecs: dict[str, Codec], kind: str, size: tuple[int, int]) -> None:
    codec, image = codecs[kind], photo(*size)
    stream = codec.encode(image, 0.05)
    decoded = codec.decode(stream.data)
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    assert codec.digest(stream.data, decoded) == stream.digest
    assert sum(s.bytes for s in stream.ledger.values()) == len(stream.data)


def test_at_l_zero_all_index_models_send_the_same_indices(codecs: dict[str, Codec]) -> None:
    image = photo(100, 140)
    digests = {codec.encode(image, 0).digest for codec in codecs.values()}
    assert len(digests) == 1
    assert codecs["fixed"].encode(image, 0).ledger["indices"].bytes == -(-7 * 9 * 6 // 8)


@pytest.mark.parametrize("kind", ["huffman", "static", "hyperprior"])
def test_a_larger_l_costs_fewer_bits(codecs: dict[str, Codec], kind: str) -> None:
    codec, image = codecs[kind], photo(256, 256)
    bits = [codec.encode(image, weight).ideal_bits for weight in (0, 0.02, 0.1, 1, 10)]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < bits[0]


def test_an_image_dearer_than_fixed_length_is_sent_fixed_length(codecs: dict[str, Codec]) -> None:
    """The untrained hyperprior is worse than nothing; never worse than fixed length is the promise."""
    image = photo(256, 256)
    assert len(codecs["hyperprior"].encode(image, 0).data) <= len(codecs["fixed"].encode(image, 0).data)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "other model"])
def test_a_bad_stream_is_one_clear_line(codecs: dict[str, Codec], vq_catalog: Path, damage: str) -> None:
    codec = codecs["hyperprior"]
    good = codec.encode(photo(64, 64), 0).data
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    other = load_codec(f"{vq_catalog}/codecs/other-hyperprior").encode(photo(64, 64), 0).data
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


def test_a_payload_that_lies_is_refused(codecs: dict[str, Codec]) -> None:
    """A valid container around a payload of the wrong length, for every index model."""
    from hvqbench.vq.container import Container, pack

    for codec in codecs.values():
        stream = pack(Container(256, 256, 0, b"\xff" * 5), codec.model_fingerprint)  # type: ignore[attr-defined]
        with pytest.raises(BitstreamError):
            codec.decode(stream)


def test_hyperprior_of_another_tokenizer_is_refused(vq_catalog: Path, tmp_path: Path) -> None:
    import shutil

    from hvqbench.vq.tokenizer import Tokenizer

    shutil.copytree(vq_catalog / "codecs", tmp_path / "codecs")
    path = tmp_path / "codecs/tokenizers/tiny/tokenizer.safetensors"
    tokenizer = Tokenizer.load(path)
    tokenizer.codebook += 0.1
    tokenizer.save(path)
    with pytest.raises(HvqbenchError, match="was trained for tokenizer"):
        load_codec(f"{tmp_path}/codecs/tiny-hyperprior").prepare()


def test_missing_weights_are_said_with_a_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    text = 'adapter = "vq"\nsummary = "test"\npoints = [0]\npoint_name = "L"\n[options]\nindex_model = "fixed"\n'
    (folder / "codec.toml").write_text(text + 'tokenizer = "nowhere"\n')
    assert "missing" in str(load_codec(str(folder)).unavailable())


DECODE_ELSEWHERE = """
import sys, torch
torch.set_num_threads(int(sys.argv[3]))
from hvqbench.catalog import load_codec
codec = load_codec(sys.argv[1])
print(codec.digest(open(sys.argv[2], "rb").read(), None))
"""


def decode_elsewhere(codec: str, stream: Path, threads: int) -> str:
    command = [sys.executable, "-c", DECODE_ELSEWHERE, codec, str(stream), str(threads)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_one_thread_encodes_two_threads_decode_elsewhere(vq_catalog: Path, tmp_path: Path) -> None:
    import torch

    name = f"{vq_catalog}/codecs/tiny-hyperprior"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stream = load_codec(name).encode(photo(300, 400), 0.02)
    finally:
        torch.set_num_threads(before)
    (tmp_path / "a.vq").write_bytes(stream.data)
    assert {decode_elsewhere(name, tmp_path / "a.vq", threads) for threads in (1, 2)} == {stream.digest}


def test_float32_decodes_what_bfloat16_encoded(vq_catalog: Path, tmp_path: Path) -> None:
    """Only the analysis runs in bfloat16; what it found is in the bytes, so any decoder sees the same indices."""
    import shutil

    shutil.copytree(vq_catalog / "codecs", tmp_path / "codecs")
    toml = tmp_path / "codecs/tiny-hyperprior/codec.toml"
    toml.write_text(toml.read_text() + 'precision = "bfloat16"\n')
    half = load_codec(str(toml))
    full = load_codec(f"{vq_catalog}/codecs/tiny-hyperprior")
    stream = half.encode(photo(200, 200), 0.02)
    assert full.digest(stream.data, full.decode(stream.data)) == stream.digest
    assert half.digest(stream.data, half.decode(stream.data)) == stream.digest
    difference = full.decode(stream.data).astype(int) - half.decode(stream.data)
    assert np.abs(difference).max() > 0  # the networks really ran at another precision


@pytest.mark.parametrize("codec", ["hypervq", "huffman-vq", "static-vq", "fixed-vq"])
def test_shipped_codec(codec: str) -> None:
    """The shipped weights belong together, decode to their indices, and stay near the ideal code length."""
    shipped = load_codec(codec)
    assert shipped.unavailable() is None
    image = photo(384, 512)
    stream = shipped.encode(image, 0)
    decoded = shipped.decode(stream.data)
    assert shipped.digest(stream.data, decoded) == stream.digest
    assert float(np.mean((decoded.astype(float) - image) ** 2)) < 1000  # it is a picture of the same thing
    if codec != "huffman-vq":
        assert len(stream.data) <= 1.005 * stream.ideal_bits / 8 + 16  # type: ignore[operator]


def test_shipped_streams_of_record() -> None:
    """Format promise: streams written by this version's ancestors still decode to the same indices.

    Regenerate with ``HVQBENCH_RECORD=1`` only when the weights or the format version change on purpose.
    """
    import os

    folder = Path(__file__).parent / "streams"
    codec = load_codec("hypervq")
    if os.environ.get("HVQBENCH_RECORD"):
        folder.mkdir(exist_ok=True)
        stream = codec.encode(photo(240, 320), 0.05)
        (folder / "hypervq.vq").write_bytes(stream.data)
        (folder / "record.json").write_text(json.dumps({"hypervq.vq": stream.digest}) + "\n")
    record = json.loads((folder / "record.json").read_text())
    data = (folder / "hypervq.vq").read_bytes()
    assert codec.digest(data, codec.decode(data)) == record["hypervq.vq"]
