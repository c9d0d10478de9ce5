"""VQ codecs from end to end: bytes alone decode to the indices that were meant, whatever the model, size or process."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from hvqbench.adapters.vq import VQCodec
from hvqbench.catalog import load_codec
from hvqbench.errors import HvqbenchError
from hvqbench.timing import record
from hvqbench.vq.models.hyperprior import Hyperprior, HyperpriorConfig
from hvqbench.vq.weights import save_weights

FAMILIES, KINDS = ["tiny", "rvq", "large"], ["fixed", "huffman", "static", "hyperprior", "context"]
CODECS = [f"{family}-{kind}" for family in FAMILIES for kind in KINDS]
STAGES = {"tiny": 1, "rvq": 3, "large": 1}
SIZES = [(1, 1), (1, 40), (3, 700), (16, 16), (65, 129)]


def photo(height: int, width: int) -> np.ndarray:
    from skimage.data import astronaut

    tiled = np.tile(astronaut(), (1, 1 + width // 512, 1))
    return np.ascontiguousarray(tiled[:height, :width])


def variant(catalog: Path, target: Path, name: str, *lines: str) -> VQCodec:
    """The codec *name* of a copy of the catalog, with more options."""
    if not target.exists():
        shutil.copytree(catalog / "codecs", target)
    toml = target / name / "codec.toml"
    toml.write_text("\n".join([toml.read_text(), *lines]) + "\n")
    codec = load_codec(str(toml))
    assert isinstance(codec, VQCodec)
    return codec


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", SIZES)
def test_round_trip_of_any_size(load: Callable[[str], VQCodec], name: str, size: tuple[int, int]) -> None:
    codec, image = load(name), photo(*size)
    for point in (0, 0.02):
        stream = codec.encode(image, point)
        decoded = codec.decode(stream.data)
        assert decoded.shape == image.shape
        assert decoded.dtype == np.uint8
        assert codec.digest(stream.data, decoded) == stream.digest
        assert sum(s.bytes for s in stream.ledger.values()) == len(stream.data)


@pytest.mark.parametrize("family", FAMILIES)
def test_at_l_zero_all_index_models_send_the_same_indices(load: Callable[[str], VQCodec], family: str) -> None:
    image = photo(100, 140)
    streams = {kind: load(f"{family}-{kind}").encode(image, 0) for kind in KINDS}
    assert len({stream.digest for stream in streams.values()}) == 1
    indices = load(f"{family}-context").decode_indices(streams["context"].data)
    assert [part.shape for part in indices] == STAGES[family] * [(7, 9)]
    bits = {"tiny": 6, "rvq": 6, "large": 9}[family]
    assert streams["fixed"].ledger["indices"].bytes == -(-len(indices) * 63 * bits // 8)


@pytest.mark.parametrize("name", [name for name in CODECS if not name.endswith("fixed")])
def test_a_larger_l_costs_fewer_bits(load: Callable[[str], VQCodec], name: str) -> None:
    encode = load(name).encoder(photo(256, 256)).encode
    sizes = [len(encode(weight).data) for weight in (0, 0.02, 0.1, 1, 10)]
    assert all(later <= 1.02 * earlier for earlier, later in pairwise(sizes))
    assert sizes[-1] < sizes[0]


def test_one_image_at_many_points_is_what_each_point_alone_is(load: Callable[[str], VQCodec]) -> None:
    codec, image = load("rvq-context"), photo(80, 120)
    encode = codec.encoder(image).encode
    for point in (0.1, 0, 0.02):
        assert encode(point) == codec.encode(image, point)


@pytest.mark.parametrize("name", ["rvq-fixed", "rvq-huffman", "rvq-static", "rvq-hyperprior", "rvq-context"])
def test_first_stages_are_painted_without_the_rest(load: Callable[[str], VQCodec], name: str) -> None:
    codec, image = load(name), photo(64, 96)
    data = codec.encode(image, 0).data
    indices = [torch.from_numpy(part).long()[None] for part in codec.decode_indices(data)]
    for stages in (1, 2, 3):
        expected = codec.tokenizer.decode(indices[:stages])[0]
        pixels = ((expected + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).byte().detach().numpy()
        assert np.array_equal(codec.decode(data, stages=stages), pixels)
    assert np.array_equal(codec.decode(data), codec.decode(data, stages=9))
    with pytest.raises(HvqbenchError, match="0 stages"):
        codec.decode(data, stages=0)


def test_the_option_stages_limits_what_is_sent(vq_catalog: Path, tmp_path: Path) -> None:
    image = photo(64, 96)
    codec = variant(vq_catalog, tmp_path / "codecs", "rvq-hyperprior", "stages = 2")
    whole = load_codec(f"{vq_catalog}/codecs/rvq-hyperprior").encode(image, 0)
    short = codec.encode(image, 0)
    assert len(codec.decode_indices(short.data)) == 2
    assert len(short.data) < len(whole.data)
    # The same model: each reads the other's streams, and the first stages are the same ones.
    assert np.array_equal(codec.decode(whole.data, stages=2), codec.decode(short.data))
    with pytest.raises(HvqbenchError, match="stages = 0 is no whole number"):
        variant(vq_catalog, tmp_path / "wrong", "rvq-hyperprior", "stages = 0")


def test_each_image_goes_the_shortest_way(vq_catalog: Path, tmp_path: Path) -> None:
    """Own model, static and fixed length each win somewhere, and the winner is never longer than either baseline."""
    folder = tmp_path / "codecs/tokenizers/large"
    codec = variant(vq_catalog, tmp_path / "codecs", "large-hyperprior")
    flat, noise = np.full((128, 128, 3), 200, np.uint8), np.random.default_rng(0).integers(0, 256, (128, 128, 3))
    images = {0: photo(128, 128), 2: flat, 1: noise.astype(np.uint8)}
    counts = {}
    for mode, image in images.items():
        indices = codec.decode_indices(codec.encode(image, 0).data)
        counts[mode] = torch.from_numpy(np.bincount(indices[0].ravel(), minlength=512))[None]
    tokenizer = codec.tokenizer
    model = Hyperprior(HyperpriorConfig(4, 512, 1, 16, 3))
    model.start_static(1000 * counts[0], tokenizer.codebooks)
    model.analysis[-1].weight.data.zero_()  # type: ignore[union-attr, operator]
    model.save(folder / "hyperprior.safetensors", tokenizer.digest)
    save_weights(folder / "frequencies.safetensors", {"counts": 1000 * counts[2]}, {"tokenizer": tokenizer.digest})

    codecs = {kind: load_codec(f"{tmp_path}/codecs/large-{kind}") for kind in ("hyperprior", "static", "fixed")}
    for mode, image in images.items():
        for point in (0, 0.001):
            sizes = {kind: len(codec.encode(image, point).data) for kind, codec in codecs.items()}
            stream = codecs["hyperprior"].encode(image, point)
            assert stream.data[2] & 7 == mode
            assert sizes["hyperprior"] == min(sizes.values())
            decoded = codecs["hyperprior"].decode(stream.data)
            assert codecs["hyperprior"].digest(stream.data, decoded) == stream.digest


@pytest.mark.parametrize("name", ["large-hyperprior", "rvq-context"])
def test_each_part_of_the_work_is_timed(load: Callable[[str], VQCodec], name: str) -> None:
    codec, image = load(name), photo(64, 64)
    codec.prepare()
    with record() as encoding:
        stream = codec.encode(image, 0.01)
    with record() as decoding:
        codec.decode(stream.data)
    entropy = {"z", "h-synthesis", "pee", "coding", "container"} | ({"context"} if "context" in name else set())
    assert set(encoding) == entropy | {"tokenizer-encode", "h-analysis", "rdo"}
    if stream.data[2] & 7 == 0:
        assert set(decoding) == entropy | {"tokenizer-decode"}


@pytest.mark.parametrize("name", ["tiny-hyperprior", "rvq-context"])
def test_codec_with_tiles_writes_and_reads_the_same_streams(vq_catalog: Path, tmp_path: Path, name: str) -> None:
    whole, tiled = (
        variant(vq_catalog, tmp_path / kind, name, line) for kind, line in {"a": "", "b": "tile = 64"}.items()
    )
    image = photo(200, 333)
    assert torch.allclose(whole.features(image), tiled.features(image), atol=1e-5)
    stream = tiled.encode(image, 0.02)
    assert whole.encode(image, 0.02).digest == stream.digest
    difference = whole.decode(stream.data).astype(int) - tiled.decode(stream.data)
    assert np.abs(difference).max() <= 1


def test_no_such_tile(vq_catalog: Path, tmp_path: Path) -> None:
    codec = variant(vq_catalog, tmp_path / "codecs", "tiny-fixed", "tile = 7")
    with pytest.raises(HvqbenchError, match="no number of pixels from 16 on"):
        codec.encode(photo(32, 32), 0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("serach = 12", "unknown key 'serach': did you mean 'search'"),
        (
            'precision = "bfloat61"',
            "precision = 'bfloat61': did you mean 'bfloat16' or 'float32'? set it to one of float32, bfloat16",
        ),
        ("tile = 64.0", "tile = 64.0: set it to a whole number"),
        ('tile = "big"', "tile = 'big': set it to a whole number"),
        ("tile = 0", "tile = 0 is no whole number from 1"),
        ("search = true", "search = True: set it to a whole number"),
        ("search = -1", "search = -1 is no whole number from 0"),
    ],
)
def test_an_option_that_is_unknown_or_ill_typed_is_one_line(
    vq_catalog: Path, tmp_path: Path, line: str, said: str
) -> None:
    with pytest.raises(HvqbenchError, match=re.escape(said)) as caught:
        variant(vq_catalog, tmp_path / "codecs", "tiny-fixed", line)
    assert "\n" not in str(caught.value)
    assert "codec.toml" in str(caught.value)
