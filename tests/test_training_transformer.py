"""The transformer learns what slices tell about each other, and its integers lose next to nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hvqbench.adapters.vq import VQCodec
from hvqbench.catalog import load_codec
from hvqbench.errors import HvqbenchError
from hvqbench.training import train_index_model
from hvqbench.training.index_model import fit
from hvqbench.training.loop import Run
from hvqbench.training.transformer import TransformerTraining, integer_cost
from hvqbench.vq.inspect import grid_counts
from hvqbench.vq.layout import ABSENT, GridSpec, Where
from hvqbench.vq.models.transformer import Transformer, TransformerConfig

SMALL = (
    'model = "transformer"\n'
    "width = 32\nlayers = 1\nheads = 2\nhidden = 64\nwindow = 64\nslices = [16, 4, 4]\nbatch = 4\ncrop = 64\ncrops = 40"
)


def toy_maps(count: int) -> torch.Tensor:
    """8×8 maps of 8 codewords: a position is the one to its left in its unit plus 1, the second row is the first."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 8, (count, 8, 8), generator=generator)
    maps[:, :, 1::2] = (maps[:, :, ::2] + 1) % 8
    maps[:, 1::2] = maps[:, ::2]
    noise = torch.rand(maps.shape, generator=generator) < 0.03
    return torch.where(noise, torch.randint(0, 8, maps.shape, generator=generator), maps)


def test_bits_fall_far_below_static_where_slices_tell(tmp_path: Path) -> None:
    torch.manual_seed(0)
    maps, codebook = toy_maps(400), torch.randn(8, 4)
    toy = SimpleNamespace(grids=(GridSpec("f16", 16),), codebooks=[codebook], factor=16)
    settings = TransformerTraining("toy", steps=150, batch=16, learning_rate=5e-3, warmup=10, log_every=75)
    model = Transformer(TransformerConfig.of(toy, (4,), window=128, width=32, layers=1, heads=2, hidden=64))  # type: ignore[arg-type]
    counts = grid_counts([maps], [8])
    model.start(counts, [codebook])
    run = Run(tmp_path, settings.steps)
    fit(settings, run, model, [maps], counts, [codebook], "cpu")
    *_, last = run.history()
    assert last["held_out_static"] == pytest.approx(3, abs=0.02)
    assert last["held_out_indices"] < 1.6  # a quarter of the positions cost 3 bits, the rest what their noise costs
    first, *others = json.loads((tmp_path / "slices.jsonl").read_text().splitlines()[-1])["bits"]
    assert first == pytest.approx(3, abs=0.05)
    assert others[0] < 1  # told by the residual path
    model.eval().save(tmp_path / "t.safetensors", "toy")
    stored, _ = Transformer.load(tmp_path / "t.safetensors")
    assert abs(integer_cost(stored, toy, [maps[:40]])) < 0.005  # type: ignore[arg-type]


def test_absent_positions_cost_nothing_and_count_for_nothing(tmp_path: Path) -> None:
    """A mask of a bit for each 2x2 positions, and symbols of three bits where it is 1."""
    torch.manual_seed(0)
    mask = torch.randint(0, 2, (200, 4, 4))
    there = mask.repeat_interleave(2, 1).repeat_interleave(2, 2) == 1
    maps = [mask, torch.where(there, torch.randint(0, 8, there.shape), ABSENT)]
    codebooks = [torch.zeros(2, 0), torch.randn(8, 4)]
    grids = (GridSpec("mask", 32), GridSpec("f16", 16, Where("mask", (1,))))
    toy = SimpleNamespace(grids=grids, codebooks=codebooks, factor=32)
    settings = TransformerTraining("toy", steps=20, warmup=10, log_every=20)
    model = Transformer(TransformerConfig.of(toy, (4, 4), window=128, width=32, layers=1, heads=2, hidden=64))  # type: ignore[arg-type]
    counts = grid_counts(maps, [2, 8])
    model.start(counts, codebooks)
    run = Run(tmp_path, settings.steps)
    fit(settings, run, model, maps, counts, codebooks, "cpu")
    (last,) = run.history()
    masks, symbols = maps[0][-10:].numel(), int(there[-10:].sum())
    expected = (masks + 3 * symbols) / (masks + symbols)  # all is noise: no model does better
    for name in ("bits_per_index", "held_out_indices", "held_out_static"):
        assert last[name] == pytest.approx(expected, rel=0.02), name
    assert last["held_out_saving_percent"] == pytest.approx(0, abs=2)


@pytest.fixture(scope="module")
def codec(photos: Path, vq_catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> VQCodec:
    """The three-stage tokenizer with a transformer that was trained in two goes."""
    folder = tmp_path_factory.mktemp("transformer-vq-rvq")
    tokenizer = vq_catalog / "codecs/tokenizers/rvq"
    (folder / "train.toml").write_text(f'tokenizer = "{tokenizer}"\nsteps = 30\nlog_every = 15\n{SMALL}\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HVQBENCH_DATA", raising=False)
        train_index_model(folder / "train.toml", photos, folder, steps=15)
        train_index_model(folder / "train.toml", photos, folder)
    (folder / "codec.toml").write_text(
        'adapter = "vq"\nsummary = "test"\npoints = [0, 0.1]\npoint_name = "L"\n[options]\n'
        f'index_model = "transformer"\ntokenizer = "{tokenizer}"\nweights = "transformer.safetensors"\n'
        'frequencies = "frequencies.safetensors"\n'
    )
    found = load_codec(str(folder))
    assert isinstance(found, VQCodec)
    return found


def test_a_run_goes_on_and_leaves_weights_log_and_card(codec: VQCodec) -> None:
    folder = codec.spec.folder
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [15, 30]
    slices = [json.loads(line) for line in (folder / "slices.jsonl").read_text().splitlines()]
    assert len(slices[-1]["bits"]) == 24
    card = (folder / "README.md").read_text()
    assert "integers against float" in card
    assert not list(folder.glob("indices-*"))


def test_a_codec_of_it_codes_and_searches(codec: VQCodec) -> None:
    from skimage.data import astronaut

    image = np.ascontiguousarray(astronaut()[30:110, 40:150])
    sizes = []
    for point in (0, 0.1):
        stream = codec.encode(image, point)
        decoded = codec.decode(stream.data)
        assert decoded.shape == image.shape
        assert codec.digest(stream.data, decoded) == stream.digest
        sizes.append(len(stream.data))
    assert sizes[1] < sizes[0]


def test_a_start_of_another_shape_is_refused(codec: VQCodec, photos: Path, tmp_path: Path) -> None:
    folder = codec.spec.folder
    text = (
        (folder / "train.toml")
        .read_text()
        .replace("heads = 2", f'heads = 4\nstart = "{folder}/transformer.safetensors"')
    )
    (tmp_path / "train.toml").write_text(text)
    with pytest.raises(HvqbenchError, match="is not a start for this transformer"):
        train_index_model(tmp_path / "train.toml", photos, tmp_path)
