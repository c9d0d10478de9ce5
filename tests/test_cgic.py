"""The codec of granularities as a whole: files, rate control, steering, damaged streams, pictures of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hvqbench.adapters.vq import VQCodec
from hvqbench.catalog import load_codec
from hvqbench.errors import BitstreamError, HvqbenchError
from hvqbench.image import write_image
from hvqbench.rate_control import Target, find_point
from hvqbench.single import compress_file
from hvqbench.vq.bottleneck import BottleneckConfig
from hvqbench.vq.container import Container, pack, unpack
from hvqbench.vq.granular import GranularTokenizer
from hvqbench.vq.layout import ABSENT
from hvqbench.vq.loading import load_tokenizer
from hvqbench.vq.models.granular import GranularPrior
from hvqbench.vq.painted import PainterTokenizer
from hvqbench.vq.steering import Steering, read_region, read_shares

TOY = Path(__file__).parent / "toy_pyramid.py"
CODEC = """
adapter = "vq"
summary = "test"
points = [0, 0.01, 0.1, 1]
point_name = "L"
[options]
index_model = "granular"
weights = "granular.safetensors"
router = "rd"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec with a toy pyramid, whose frequencies are those of a photograph, and untrained networks."""
    from skimage.data import astronaut

    root = tmp_path_factory.mktemp("hvq-cgic")
    view = GranularTokenizer(load_tokenizer(f"{TOY}:Pyramid", root))
    crop = torch.from_numpy(astronaut()[:256, :256].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    maps = view.inner.quantize(view.encode(crop))
    books = list(view.inner.codebooks)
    counts = [torch.bincount(part.flatten(), minlength=len(book)) for part, book in zip(maps, books, strict=True)]
    fresh = GranularPrior.of(view, split_width=8, width=8, z_channels=2)
    fresh.start(counts, books)
    fresh.sensitivity.copy_(torch.tensor([1.0, 0.3, 0.1]))
    fresh.save(root / "granular.safetensors", view.digest)
    (root / "codec.toml").write_text(f'{CODEC}tokenizer = "{TOY}:Pyramid"\ndistortion = "painted"\n')
    return root


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec with small, untrained networks around a painter of the real shape."""
    root = tmp_path_factory.mktemp("hvq-cgic-painter")
    torch.manual_seed(3)
    tokenizer = PainterTokenizer(BottleneckConfig((32, 16, 8), 64, 4, 16, 12, blocks_in=1, blocks_out=1))
    tokenizer.codebooks.normal_()
    tokenizer.save(root / "tokenizer/tokenizer.safetensors")
    view = GranularTokenizer(PainterTokenizer.load(root / "tokenizer/tokenizer.safetensors"))
    prior = GranularPrior.of(view, split_width=8, width=8, z_channels=2)
    prior.start([torch.arange(64)] * 3, list(view.inner.codebooks))
    prior.save(root / "granular.safetensors", view.digest)
    return root


@pytest.fixture(scope="module")
def codec(folder: Path) -> VQCodec:
    loaded = load_codec(str(folder))
    assert isinstance(loaded, VQCodec)
    loaded.prepare()
    return loaded


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[:150, :200])


def split_cells(codec: VQCodec, data: bytes) -> list[int]:
    """How many cells of each mask are split; none of a mask that was not sent."""
    maps = codec.decode_indices(data)
    return [int((part == 1).sum()) for part in maps[1::2]] + [0] * (2 - len(maps) // 2)


@pytest.mark.parametrize("point", [0, 0.02, 0.2, 100])
def test_a_file_decodes_to_what_was_sent(codec: VQCodec, photo: np.ndarray, point: float) -> None:
    stream = codec.encode(photo, point)
    decoded = codec.decode(stream.data)
    assert decoded.shape == photo.shape
    assert codec.digest(stream.data, decoded) == stream.digest
    assert unpack(stream.data, codec.model_fingerprint, "").mode == 0  # its own model, not fixed length
    if point == 0:
        assert list(stream.ledger) == ["header", "z", "f32", "split 32", "f16", "split 16", "f8"]
        assert split_cells(codec, stream.data) == [35, 140]
    if point == 100:
        assert unpack(stream.data, codec.model_fingerprint, "").stages == 1


def test_one_thread_encodes_another_process_with_two_decodes(
    codec: VQCodec, folder: Path, photo: np.ndarray, tmp_path: Path
) -> None:
    stream = codec.encode(photo, 0.1)
    (tmp_path / "a.vq").write_bytes(stream.data)
    script = (
        "import sys, torch; torch.set_num_threads(2); from hvqbench.catalog import load_codec; "
        "print(load_codec(sys.argv[1]).digest(open(sys.argv[2], 'rb').read(), None))"
    )
    command = [sys.executable, "-c", script, str(folder), str(tmp_path / "a.vq")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == stream.digest


@pytest.mark.parametrize("bpp", [0.03, 0.05])
def test_any_rate_within_two_percent(codec: VQCodec, photo: np.ndarray, bpp: float) -> None:
    found = find_point(codec, np.tile(photo, (2, 2, 1)), Target("bpp", bpp))
    assert found.reached
    assert found.trial.bpp == pytest.approx(bpp, rel=0.02)


def test_damaged_payloads_are_an_image_or_one_clear_line(codec: VQCodec, photo: np.ndarray) -> None:
    good = unpack(codec.encode(photo, 0.1).data, codec.model_fingerprint, "")
    rng = np.random.default_rng(0)
    payloads = [b"", b"\xff" * 40, bytes(60), good.payload[:-9], good.payload[: len(good.payload) // 3]]
    for _ in range(25):
        altered = bytearray(good.payload)
        altered[rng.integers(len(altered))] ^= 1 << int(rng.integers(8))
        payloads.append(bytes(altered))
    for payload in payloads:
        for mode in (0, 1):
            for stages in (1, 2, 3, 4, 5):
                data = pack(Container(200, 150, mode, payload, stages), codec.model_fingerprint)
                maps, message = None, ""
                try:
                    maps = codec.decode_indices(data)
                except BitstreamError as error:
                    message = str(error)
                assert "\n" not in message
                if maps is None:
                    continue
                assert [len(part) for part in maps] == [5, 5, 10, 10, 20][:stages]
                for part, codebook in zip(maps, codec.tokenizer.codebooks, strict=False):
                    assert part.min() >= ABSENT
                    assert part.max() < len(codebook)
                assert (maps[0] >= 0).all()


def test_a_few_bytes_that_claim_a_large_image_are_refused(codec: VQCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*arguments: object) -> None:
        raise MemoryError("a network was asked")

    monkeypatch.setattr("hvqbench.vq.exact.IntegerNetwork.__call__", called)
    for payload in (b"", b"\xff" * 5, bytes(40), b"\x5a" * 99):
        for mode in (0, 1):
            with pytest.raises(BitstreamError, match="cannot be decoded"):
                codec.decode(pack(Container(2**14, 2**14, mode, payload, 5), codec.model_fingerprint))


def test_the_first_grids_are_painted_alone(codec: VQCodec, photo: np.ndarray) -> None:
    data = codec.encode(photo, 0.02).data
    coarse = codec.decode(data, stages=1)
    assert coarse.shape == photo.shape
    assert not np.array_equal(coarse, codec.decode(data))
    assert np.array_equal(coarse, codec.decode(data, stages=2))  # a mask alone paints nothing


def test_variants_send_no_mask_without_its_grid(codec: VQCodec, photo: np.ndarray) -> None:
    encoder = codec.encoder(photo)
    assert list(encoder.variants) == ["1 of 5 stages", "3 of 5 stages", "5 of 5 stages", "one pass"]
    assert len(codec.decode_indices(encoder.encode(0, "1 of 5 stages").data)) == 1
    assert len(codec.decode_indices(encoder.encode(0.001, "3 of 5 stages").data)) == 3


def test_compress_with_shares_or_a_region(folder: Path, codec: VQCodec, photo: np.ndarray, tmp_path: Path) -> None:
    mask = np.zeros_like(photo)
    mask[:64, :64] = 255
    write_image(tmp_path / "a.png", photo)
    write_image(tmp_path / "roi.png", mask)
    source, target, name = tmp_path / "a.png", tmp_path / "a.vq", str(folder)
    compress_file(source, target, name, 0, granularity="coarse=0.4, medium=0.3, fine=0.3")
    assert split_cells(codec, target.read_bytes()) == [21, 42]
    sizes, inside = [], []
    for roi in (None, tmp_path / "roi.png"):
        compress_file(source, target, name, bpp=0.1, roi=roi, roi_weight=8)
        maps = codec.decode_indices(target.read_bytes())
        sizes.append(target.stat().st_size)
        inside.append(
            sum(int((part[: len(part) * 2 // 5, : part.shape[1] * 2 // 7] >= 0).sum()) for part in maps[2::2])
        )
    assert sizes[1] == pytest.approx(sizes[0], rel=0.04)
    assert inside[1] > inside[0]
    with pytest.raises(HvqbenchError, match="has no granularities: leave out --granularity and --roi"):
        compress_file(source, target, "jpeg", granularity="fine=1")
    write_image(tmp_path / "roi.png", mask[:9])
    with pytest.raises(HvqbenchError, match="has 200x9 pixels, the image 200x150"):
        compress_file(source, target, name, 1, roi=tmp_path / "roi.png")
    with pytest.raises(HvqbenchError, match="number from 1 on"):
        read_region(tmp_path / "roi.png", 0.5)
    for text, reason in {"fine=2": "add up to 2", "rough=1": "none of coarse", "fine=all": "has no number"}.items():
        with pytest.raises(HvqbenchError, match=reason):
            read_shares(text)


@pytest.mark.parametrize("router", ["rd", "entropy"])
@pytest.mark.parametrize("distortion", ["latent", "jacobian", "painted", "perceptual"])
@pytest.mark.usefixtures("backbones")
def test_distortions_and_routers_of_a_painter(painter: Path, photo: np.ndarray, router: str, distortion: str) -> None:
    text = CODEC.replace('router = "rd"', f'router = "{router}"')
    (painter / "codec.toml").write_text(f'{text}tokenizer = "tokenizer"\ndistortion = "{distortion}"\n')
    codec = load_codec(str(painter))
    stream = codec.encode(photo, 0.05)
    assert codec.digest(stream.data, codec.decode(stream.data)) == stream.digest


def test_what_lacks_a_painter_has_no_latent_to_compare(folder: Path, photo: np.ndarray, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "codec")
    text = (tmp_path / "codec/codec.toml").read_text()
    (tmp_path / "codec/codec.toml").write_text(text.replace('"painted"', '"latent"'))
    with pytest.raises(HvqbenchError, match="use distortion = 'painted'"):
        load_codec(str(tmp_path / "codec")).encode(photo, 0.05)


def test_steering_is_of_the_image(codec: VQCodec, photo: np.ndarray) -> None:
    try:
        codec.steering = Steering((0.0, 1.0, 0.0))
        assert split_cells(codec, codec.encode(photo, 0).data) == [35, 0]
        assert len(codec.decode_indices(codec.encode(photo, 0).data)) == 3  # the second mask is not even sent
    finally:
        codec.steering = None


def test_a_router_needs_its_index_model(photo: np.ndarray, tmp_path: Path) -> None:
    text = CODEC.replace('"granular"', '"fixed"').replace('weights = "granular.safetensors"\n', "")
    (tmp_path / "codec.toml").write_text(f'{text}tokenizer = "{TOY}:Pyramid"\n')
    with pytest.raises(HvqbenchError, match="needs index_model = 'granular'"):
        load_codec(str(tmp_path)).encode(photo, 1)


def test_inspection_draws_the_quadtree(folder: Path, photo: np.ndarray, tmp_path: Path) -> None:
    from hvqbench.report.indices import inspect_codecs
    from hvqbench.report.quadtree import quadtree_lines, region_bits

    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png", photo)
    inspect_codecs([str(folder)], str(tmp_path / "images"), 0.05, out=tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*/*-quadtree.png"))) == 1
    whole = torch.tensor([[1.0, 2.0]])
    finer = torch.full((2, 4), torch.nan)
    finer[:, :2] = 3.0
    bits = [whole, torch.tensor([[0.5, 0.25]]), finer]
    assert region_bits(bits, (32, 32, 16)).tolist() == [[13.5, 2.25]]
    assert len(quadtree_lines(bits, (32, 32, 16))) == 2 + 4
