"""Streams of the first slices alone: what they say, what completes them, and which slices a point sends."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hvqbench.adapters.vq import VQCodec
from hvqbench.catalog import load_codec
from hvqbench.errors import BitstreamError, HvqbenchError
from hvqbench.rate_control import Target, find_point
from hvqbench.vq.choose import Prefix, Source, cheapest, refined
from hvqbench.vq.container import SLICES_VERSION, VERSION, Container, pack, unpack
from hvqbench.vq.layout import Layout
from hvqbench.vq.options import VQOptions

TOYS = Path(__file__).parent / "streams/codecs"
FINGERPRINT = b"abc"


def photo(height: int, width: int) -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[20 : 20 + height, 30 : 30 + width])


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A copy, to change options in."""
    shutil.copytree(TOYS, tmp_path / "codecs")
    return tmp_path / "codecs"


def variant(toys: Path, options: str, points: str = "[0, 0.1]", base: str = "rvq-transformer") -> VQCodec:
    toml = (toys / base / "codec.toml").read_text().replace("points = [0, 0.1]", f"points = {points}")
    folder = toys / f"mine-{len(list(toys.iterdir()))}"
    folder.mkdir()
    (folder / "codec.toml").write_text(toml + options)
    codec = load_codec(str(folder))
    assert isinstance(codec, VQCodec)
    return codec


@pytest.mark.parametrize("seed", [None, 0, 2**32 - 1])
@pytest.mark.parametrize("stages", [1, 3])
def test_slices_and_seed_are_fields_of_the_header(stages: int, seed: int | None) -> None:
    content = Container(300, 5, 0, b"payload", stages, 12, seed)
    data = pack(content, FINGERPRINT)
    assert unpack(data, FINGERPRINT, "toy") == content
    assert data[2] >> 4 == SLICES_VERSION
    whole = pack(replace(content, slices=None, seed=None), FINGERPRINT)
    assert whole[2] >> 4 == VERSION
    assert len(data) - len(whole) == 1 + 4 * (seed is not None)


@pytest.mark.parametrize("content", [Container(8, 8, 0, b"p", 1, 0), Container(8, 8, 1, b"p", 1, 3)])
def test_no_slices_and_slices_of_another_mode_are_refused(content: Container) -> None:
    with pytest.raises(BitstreamError, match=r"toy: the header says \d slices in index mode \d; the stream"):
        unpack(pack(content, FINGERPRINT), FINGERPRINT, "toy")


def test_more_slices_than_there_are_left_out_are_refused(toys: Path) -> None:
    codec = variant(toys, 'point = "slices"\n', "[11, 2]")
    good = codec.encode(photo(64, 64), 2).data
    content = unpack(good, codec.model_fingerprint, codec.id)
    for slices, stages in ((12, 3), (8, 2), (200, 3)):
        bad = pack(replace(content, slices=slices, stages=stages), codec.model_fingerprint)
        with pytest.raises(BitstreamError, match=f"header says that {slices} of {4 * stages} slices are sent"):
            codec.decode(bad)


def test_the_digest_covers_what_is_completed_and_a_seed_decides_it(toys: Path) -> None:
    image, found, sizes = photo(100, 140), {}, {}
    for seed in (None, 1, 2):
        codec = variant(toys, 'point = "slices"\n' + (f"seed = {seed}\n" if seed else ""), "[11, 2]")
        stream = codec.encode(image, 5)
        indices = codec.decode_indices(stream.data)
        assert [part.shape for part in indices] == [(7, 9)] * 3
        again = load_codec(str(codec.spec.folder))
        assert codec.digest(stream.data, codec.decode(stream.data)) == stream.digest
        assert again.digest(stream.data, again.decode(stream.data)) == stream.digest
        found[seed], sizes[seed] = stream.digest, len(stream.data)
    assert len(set(found.values())) == 3
    assert sizes[1] == sizes[2] == sizes[None] + 4
    # What is sent is the same.
    nearest = codec.tokenizer.quantize(codec.features(image))[0][0].numpy()
    numbers = codec.index_model.slice_numbers(Layout.of(codec.tokenizer, 100, 140))["stage 1"].view(7, 9).numpy()  # type: ignore[attr-defined]
    assert np.array_equal(indices[0][numbers < 4], nearest[numbers < 4])


def test_a_user_may_complete_otherwise(toys: Path) -> None:
    codec = variant(toys, 'point = "slices"\n', "[11, 2]")
    data = codec.encode(photo(100, 140), 3).data
    own, likeliest, first, second = (codec.decode(data, complete=c) for c in (None, "likeliest", 1, 2))  # type: ignore[arg-type]
    assert np.array_equal(own, likeliest)
    assert not np.array_equal(first, second)
    assert not np.array_equal(codec.decode(data, stages=1), own)


def test_a_point_that_is_a_number_of_slices(toys: Path) -> None:
    codec, image = variant(toys, 'point = "slices"\n', "[11, 7, 2]"), photo(100, 140)
    sizes = [len(codec.encode(image, count).data) for count in (1, 2, 3, 5, 8, 11)]
    assert sizes == sorted(set(sizes))
    assert codec.encode(image, 12).data[2] >> 4 == VERSION  # all of them: an ordinary stream
    assert not codec.has_weight
    for point in (0, 13, 2.5, -1):
        with pytest.raises(HvqbenchError, match=f"{point:g} is not a number of slices; a point is one from 1 to 12"):
            codec.encode(image, point)
    wanted = 8 * sizes[3] / (100 * 140)
    found = find_point(codec, image, Target("bpp", wanted))
    assert found.reached
    assert found.trial.point == 5


def test_a_ladder_leaves_out_slices_from_an_l_on(toys: Path) -> None:
    codec, image = variant(toys, "ladder = [[0.05, 9], [0.2, 3]]\n"), photo(100, 140)
    streams = [codec.encode(image, point).data for point in (0, 0.04, 0.05, 0.1, 0.2, 0.5)]
    fields = [unpack(data, codec.model_fingerprint, codec.id) for data in streams]
    assert [content.slices for content in fields] == [None, None, 9, 9, 3, 3]
    assert {content.stages for content in fields[2:]} == {3}
    sizes = [len(data) for data in streams]
    assert sizes[2:] == sorted(sizes[2:], reverse=True)
    assert sizes[2] < sizes[0]
    for data in streams:
        assert codec.decode(data).shape == image.shape
    encoder = codec.encoder(image)
    assert set(encoder.variants) == {*(f"{n} of 3 stages" for n in (1, 2, 3)), "9 of 12 slices", "3 of 12 slices"}
    data = encoder.encode(0, "3 of 12 slices").data  # a rate within the ladder's step
    assert unpack(data, codec.model_fingerprint, codec.id).slices == 3
    assert sizes[4] < len(data) < sizes[3]


@pytest.mark.parametrize("ladder", [((0.1, 3), (0.2, 5)), ((0.2, 5), (0.1, 3)), ((0.1, 0),)])
def test_a_ladder_that_is_not_monotone_is_refused(ladder: tuple[tuple[float, int], ...]) -> None:
    with pytest.raises(HvqbenchError, match="option ladder has no pairs"):
        VQOptions("t", "transformer", ladder=ladder)
    with pytest.raises(HvqbenchError, match="takes more than 32 bits"):
        VQOptions("t", "transformer", seed=2**32)


def test_other_index_models_cut_at_their_grids(toys: Path) -> None:
    codec, image = variant(toys, 'point = "slices"\nseed = 3\n', "[1, 2]", "rvq-hyperprior"), photo(100, 140)
    for count in (1, 2):
        stream = codec.encode(image, count)
        assert unpack(stream.data, codec.model_fingerprint, codec.id).slices == count
        assert codec.digest(stream.data, codec.decode(stream.data)) == stream.digest


@torch.inference_mode()
def test_a_view_of_what_follows_saves_bits(toys: Path) -> None:
    """The gradient is that of the bits that follow, and passes with it never end above greedy choice."""
    codec, image = variant(toys, ""), photo(128, 128)
    model, layout = codec.index_model, Layout.of(codec.tokenizer, 128, 128)
    source = Source(codec.tokenizer, layout, codec.features(image))
    greedy = cheapest(model, source, {}, 0.05, range(3, 4))
    better = refined(model, source, {}, 0.05, range(3, 4), passes=2)
    assert better.cost < greedy.cost
    cut = Prefix(7)
    prefix = cheapest(model, source, {}, 0.05, range(3, 4), cut)
    assert refined(model, source, {}, 0.05, range(3, 4), cut, 2).cost <= prefix.cost
    assert len(prefix.coded.payload) < len(greedy.coded.payload)


@torch.inference_mode()
def test_what_follows_is_the_slope_of_the_bits(toys: Path) -> None:
    codec = variant(toys, "")
    model, layout = codec.index_model, Layout.of(codec.tokenizer, 100, 140)
    maps = [part[0] for part in codec.tokenizer.quantize(codec.features(photo(100, 140)))]
    ahead = model.ahead(layout, maps)
    network, books = model.exact.model, list(codec.tokenizer.codebooks)  # type: ignore[attr-defined]
    context = codec.tokenizer.embed([part[None] for part in maps])
    direction = torch.randn_like(context[1])

    def bits(step: float) -> float:
        moved = [context[0], context[1] + step * direction, context[2]]
        return float(
            torch.cat(network.bits([part[None] for part in maps], books, context=moved)["indices"]).double().sum()
        )

    slope = float((ahead["stage 2"] * direction[0].flatten(1)).sum())
    assert slope == pytest.approx((bits(1e-3) - bits(-1e-3)) / 2e-3, rel=0.05, abs=0.05)
    # Of slices that are not sent no bit counts: a cut behind the first grid leaves it nothing that follows.
    cut = model.ahead(layout, maps, 4)
    assert float(cut["stage 2"].abs().sum()) == float(cut["stage 3"].abs().sum()) == 0
    assert float(cut["stage 1"].abs().sum()) > 0


DECODE = """
import sys, torch
torch.set_num_threads(int(sys.argv[2]))
from hvqbench.catalog import load_codec
for name in sys.argv[3:]:
    codec = load_codec(sys.argv[1])
    print(codec.digest(open(name, "rb").read(), None))
"""


@pytest.mark.parametrize(("capability", "threads"), [("default", 1), ("avx2", 2)])
def test_other_kernels_complete_alike(capability: str, threads: int, tmp_path: Path) -> None:
    """What is completed hangs on the weights alone, which no kernel changes."""
    import os

    codec = load_codec(str(TOYS / "rvq-prefix"))
    files, digests = [], []
    for number, (size, point) in enumerate([((100, 140), 7), ((64, 64), 3), ((200, 130), 11)]):
        stream = codec.encode(photo(*size), point)
        files.append(str(tmp_path / f"{number}.vq"))
        Path(files[-1]).write_bytes(stream.data)
        digests.append(stream.digest)
    command = [sys.executable, "-c", DECODE, str(TOYS / "rvq-prefix"), str(threads), *files]
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.split() == digests
