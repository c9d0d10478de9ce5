"""A stream decodes to the same indices elsewhere: other threads, another process, another precision, a later version.

Golden streams lie in ``tests/streams``: of every index model and shape of tokenizer on small committed weights, with
the indices that they must decode to, and of the shipped codecs, with the digest of theirs. ``record.json`` lists them.
Write them again only when weights or format change on purpose::

    python tests/test_vq_streams.py hypervq hypervq-rvq streams/codecs/rvq-context
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hvqbench.adapters.vq import VQCodec
from hvqbench.catalog import codec_files, load_codec, load_spec
from hvqbench.errors import HvqbenchError
from hvqbench.vq.container import SLICES_VERSION, VERSION, Container, pack, unpack
from hvqbench.vq.layout import Layout
from hvqbench.vq.prefix import completion
from hvqbench.vq.walk import given

HERE = Path(__file__).parent


def is_trained(name: str) -> bool:
    """Whether its weights are there; transformers and granularities may still be without."""
    weights = load_spec(name).folder / str(load_spec(name).options.get("weights", ""))
    return load_spec(name).options["index_model"] not in ("transformer", "granular") or weights.is_file()


RECORD = HERE / "streams/record.json"
ENTRIES = json.loads(RECORD.read_text())
VQ = [name for name in codec_files() if load_spec(name).adapter == "vq"]
UNTRAINED = [name for name in VQ if not is_trained(name)]
SHIPPED = [name for name in VQ if name not in UNTRAINED]


def photo(height: int, width: int) -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[:height, :width])


def codec_of_record(name: str) -> VQCodec:
    """A shipped codec, or a small one by its path below this folder."""
    codec = load_codec(str(HERE / name) if "/" in name else name)
    assert isinstance(codec, VQCodec)
    return codec


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


@pytest.mark.parametrize("codec", ["tiny-hyperprior", "rvq-context", "large-context"])
def test_one_thread_encodes_two_threads_decode_elsewhere(vq_catalog: Path, tmp_path: Path, codec: str) -> None:
    name = f"{vq_catalog}/codecs/{codec}"
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


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_codec(name: str) -> None:
    """The shipped weights belong together, decode to their indices, and stay near the ideal code length."""
    shipped = codec_of_record(name)
    assert shipped.unavailable() is None
    image = photo(384, 512)
    stream = shipped.encode(image, 0)
    decoded = shipped.decode(stream.data)
    assert shipped.digest(stream.data, decoded) == stream.digest
    assert float(np.mean((decoded.astype(float) - image) ** 2)) < 1000  # it is a picture of the same thing
    if shipped.options.index_model != "huffman":
        assert len(stream.data) <= 1.002 * stream.ideal_bits / 8 + 16  # type: ignore[operator]


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_codec_without_its_weights_says_so_and_what_to_do(name: str) -> None:
    codec = load_codec(name)
    assert re.fullmatch(
        r"weights \S+ are missing; train them \(docs/training.md\) or fetch the file", str(codec.missing())
    )
    with pytest.raises(HvqbenchError, match="are missing; train them"):
        codec.prepare()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_golden_streams(entry: dict[str, Any]) -> None:
    """Format promise: what this version's ancestors wrote still decodes to the same indices, on every platform."""
    codec, data = codec_of_record(entry["codec"]), (RECORD.parent / entry["file"]).read_bytes()
    indices = codec.decode_indices(data)
    assert codec.digest(data, codec.decode(data)) == entry["digest"]
    if "indices" in entry:
        assert [part.tolist() for part in indices] == entry["indices"]


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if "indices" in entry], ids=lambda entry: entry["file"])
def test_what_a_golden_stream_decodes_to_is_coded_in_the_same_bytes(entry: dict[str, Any]) -> None:
    codec, data = codec_of_record(entry["codec"]), (RECORD.parent / entry["file"]).read_bytes()
    assert coded_again(codec, data) == data


def test_golden_streams_cover_every_index_model_and_shape_of_tokenizer() -> None:
    toys = {Path(entry["codec"]).name for entry in ENTRIES if "indices" in entry}
    assert toys >= {"f16-transformer", "rvq-transformer", "rvq-prefix"}
    kinds = ("fixed", "huffman", "static", "hyperprior")
    assert toys >= {f"{shape}-{kind}" for shape in ("f16", "rvq", "large", "f8") for kind in kinds}
    assert toys >= {f"{shape}-context" for shape in ("f16", "rvq", "large")}
    searching = {name for name in SHIPPED if "search" in load_spec(name).options}  # the decoder knows nothing of it
    assert {entry["codec"] for entry in ENTRIES if "indices" not in entry} >= set(SHIPPED) - searching


def test_the_page_on_the_bitstream_promises_the_version_that_is_written() -> None:
    page = (HERE.parent / "docs" / "bitstream.md").read_text(encoding="utf-8")
    named = re.findall(r"(?:format version|reads version|Format version\*\* is) (\d+)(?:,? or (\d+))?", page)
    assert len(named) >= 3
    assert {version for pair in named for version in pair if version} == {str(VERSION), str(SLICES_VERSION)}


def coded_again(codec: VQCodec, data: bytes) -> bytes:
    """The stream of the symbols, indices and z, that *data* holds."""
    content = unpack(data, codec.model_fingerprint, codec.id)
    layout = Layout.of(codec.tokenizer, content.height, content.width).first(content.stages)
    sent = codec.index_model.read(layout, content.payload, content.slices, completion(content.seed))
    *_, coded = codec.index_model.encode(layout, given(sent), content.slices)
    return pack(replace(content, payload=coded.payload), codec.model_fingerprint)


def write_record(names: list[str]) -> None:
    """Write the streams of these codecs, and leave all others."""
    entries: list[dict[str, Any]] = []
    for name in names:
        codec, image = codec_of_record(name), photo(100, 140) if "/" in name else photo(240, 320)
        if "/" not in name:
            for point in (0, 0.8):
                file, stream = f"{name}-{point:g}.vq", codec.encode(image, point)
                (RECORD.parent / file).write_bytes(stream.data)
                entries.append({"file": file, "codec": name, "digest": str(stream.digest)})
            continue
        if codec.options.point == "slices":
            for point in codec.points:
                stream, file = codec.encode(image, point), f"{Path(name).name}-{point:g}.vq"
                (RECORD.parent / file).write_bytes(stream.data)
                entry = {"file": file, "codec": name, "digest": str(stream.digest)}
                entries.append(entry | {"indices": [part.tolist() for part in codec.decode_indices(stream.data)]})
            continue
        # Of these untrained models fixed length is shorter: their own mode is asked for.
        nearest = codec.tokenizer.quantize(codec.features(image))
        for stages in sorted({len(nearest), min(2, len(nearest))}):
            layout = Layout.of(codec.tokenizer, 100, 140).first(stages)
            side = codec.index_model.side(codec.tokenizer.embed(nearest[:stages]))
            coded = codec.index_model.code(layout, [symbols[0] for symbols in nearest[:stages]], side)
            content = Container(140, 100, 0, coded.payload, stages)
            file, data = f"{Path(name).name}-{stages}.vq", pack(content, codec.model_fingerprint)
            (RECORD.parent / file).write_bytes(data)
            entry = {"file": file, "codec": name, "digest": codec.digest(data, image)}
            entries.append(entry | {"indices": [part.tolist() for part in codec.decode_indices(data)]})
    kept = [entry for entry in ENTRIES if entry["file"] not in {entry["file"] for entry in entries}]
    lines = ",\n".join(json.dumps(entry) for entry in kept + entries)
    RECORD.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    write_record(sys.argv[1:])
