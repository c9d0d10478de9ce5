"""A stream decodes to the same indices elsewhere: other threads, another process, another precision, a later version.

Streams of record lie in ``tests/streams``. Write them again only when weights or format change on purpose::

    python tests/test_vq_streams.py hypervq hypervq-rvq streams/codecs/rvq-context
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hvqbench.catalog import codec_files, load_codec, load_spec
from hvqbench.codec import Codec

HERE = Path(__file__).parent
RECORD = HERE / "streams/record.json"
SHIPPED = [name for name in codec_files() if load_spec(name).adapter == "vq"]


def photo(height: int, width: int) -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[:height, :width])


def codec_of_record(name: str) -> Codec:
    """A shipped codec, or a small one by its path below this folder."""
    return load_codec(str(HERE / name) if "/" in name else name)


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
    shipped = load_codec(name)
    assert shipped.unavailable() is None
    image = photo(384, 512)
    stream = shipped.encode(image, 0)
    decoded = shipped.decode(stream.data)
    assert shipped.digest(stream.data, decoded) == stream.digest
    assert float(np.mean((decoded.astype(float) - image) ** 2)) < 1000  # it is a picture of the same thing
    if shipped.spec.options["index_model"] != "huffman":
        assert len(stream.data) <= 1.002 * stream.ideal_bits / 8 + 16  # type: ignore[operator]


@pytest.mark.parametrize("entry", json.loads(RECORD.read_text()), ids=lambda entry: entry["file"])
def test_streams_of_record(entry: dict[str, str]) -> None:
    """Format promise: what this version's ancestors wrote still decodes to the same indices, on every platform."""
    codec, data = codec_of_record(entry["codec"]), (RECORD.parent / entry["file"]).read_bytes()
    assert codec.digest(data, codec.decode(data)) == entry["digest"]


def write_record(names: list[str]) -> None:
    """Replace the streams of these codecs, and leave those of others."""
    entries = [entry for entry in json.loads(RECORD.read_text()) if entry["codec"] not in names]
    for name in names:
        for point in (0, 0.05):
            file, stream = f"{Path(name).name}-{point:g}.vq", codec_of_record(name).encode(photo(240, 320), point)
            (RECORD.parent / file).write_bytes(stream.data)
            entries.append({"file": file, "codec": name, "digest": str(stream.digest)})
    RECORD.write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    write_record(sys.argv[1:])
