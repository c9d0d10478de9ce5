"""Both trainers on a few real crops: they learn, stop, resume, and leave weights that the codecs accept."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hvqbench.errors import HvqbenchError
from hvqbench.training.index_model import train_index_model
from hvqbench.training.loop import Average, Run, cosine, read_config
from hvqbench.training.photos import Photos
from hvqbench.training.quantizer import CodebookTrainer
from hvqbench.training.tokenizer import TokenizerTraining, train_tokenizer
from hvqbench.vq.hyperprior import Hyperprior
from hvqbench.vq.tokenizer import Tokenizer

TOKENIZER = """
steps = 130
batch = 4
crop = 32
learning_rate = 4e-3
perceptual = []
adversarial = 0.1
adversarial_from = 0.9
rate = 1.0
rate_from = 60
codebook_from = 20
[model]
codewords = 24
dim = 4
encoder_widths = [8, 8, 12]
decoder_widths = [8, 8, 12]
encoder_blocks = [1, 1, 1]
decoder_blocks = [1, 1, 1]
head_width = 4
"""
INDEX_MODEL = """
tokenizer = "tokenizer"
steps = 150
batch = 4
crop = 64
crops = 60
width = 12
z_channels = 2
learning_rate = 5e-3
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skimage.data import astronaut, chelsea, coffee

    from hvqbench.image import write_image

    folder = tmp_path_factory.mktemp("photos")
    for name, image in {"a": astronaut(), "b": chelsea(), "c": coffee()}.items():
        write_image(folder / f"{name}.png", image[:256, :256])
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and, on top of it, index models; each trained in two goes."""
    root = tmp_path_factory.mktemp("runs")
    (root / "tokenizer.toml").write_text(TOKENIZER)
    (root / "index.toml").write_text(INDEX_MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HVQBENCH_DATA", raising=False)
        train_tokenizer(root / "tokenizer.toml", photos, root / "tokenizer", steps=100)
        train_tokenizer(root / "tokenizer.toml", photos, root / "tokenizer")
        train_index_model(root / "index.toml", photos, root / "index", steps=100)
        train_index_model(root / "index.toml", photos, root / "index")
    return root


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_tokenizer_learns_and_resumes(trained: Path, photos: Path) -> None:
    lines = log(trained / "tokenizer")
    assert [line["step"] for line in lines] == [100]  # step 130 ends between two lines of the log
    checkpoint = torch.load(trained / "tokenizer" / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 130
    tokenizer = Tokenizer.load(trained / "tokenizer" / "tokenizer.safetensors")
    batch = Photos(photos, 64).batch(8, np.random.default_rng(0))
    with torch.no_grad():
        output = tokenizer.decoder(tokenizer.encode(batch))
    assert float((output - batch).abs().mean()) < float((batch - batch.mean()).abs().mean())


def test_index_model_beats_static_frequencies_and_leaves_a_card(trained: Path) -> None:
    last = log(trained / "index")[-1]
    assert last["held_out_indices"] <= 1.02 * last["held_out_static"]
    card = (trained / "index" / "README.md").read_text()
    assert "| device | CPU" in card
    assert "Loss curve" in card
    assert not list((trained / "index").glob("latents-*"))


def test_weights_make_codecs(trained: Path) -> None:
    from hvqbench.catalog import load_codec

    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    for kind, weights in {"static": "frequencies", "hyperprior": "hyperprior"}.items():
        folder = trained / kind
        folder.mkdir()
        text = f'adapter = "vq"\nsummary = "test"\npoints = [0]\npoint_name = "L"\n[options]\nindex_model = "{kind}"\n'
        text += f'tokenizer = "../tokenizer"\nweights = "../index/{weights}.safetensors"\n'
        (folder / "codec.toml").write_text(text)
        codec = load_codec(str(folder))
        stream = codec.encode(image, 0)
        assert codec.digest(stream.data, codec.decode(stream.data)) == stream.digest


def test_joint_training_leaves_a_hyperprior_for_its_tokenizer(trained: Path) -> None:
    import hashlib

    digest = hashlib.sha256((trained / "tokenizer" / "tokenizer.safetensors").read_bytes()).hexdigest()
    model, _, made_for = Hyperprior.load(trained / "tokenizer" / "hyperprior.safetensors")
    assert made_for == digest
    assert model.bias.std() > 0


def test_configuration_with_an_unknown_key(tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_text("stepps = 3")
    with pytest.raises(HvqbenchError, match=r"unknown key 'stepps'.*steps"):
        read_config(TokenizerTraining, tmp_path / "train.toml")


def test_damaged_checkpoint_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(HvqbenchError, match="delete it to start afresh"):
        Run(tmp_path, 10).restore()


def test_checkpoint_survives_an_interrupt(tmp_path: Path) -> None:
    run = Run(tmp_path, 10)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the interrupt comes from within the loop
        for step in run.each_step(lambda: {"value": 3}, "test"):
            if step == 4:
                raise KeyboardInterrupt
    again = Run(tmp_path, 10)
    state = again.restore()
    assert state is not None
    assert (state["step"], state["value"]) == (4, 3)
    assert list(again.each_step(dict, "test")) == [4, 5, 6, 7, 8, 9]


def test_photos_from_a_zip_equal_those_from_the_folder(photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in photos.iterdir():
            archive.write(path, path.name)
    batches = [Photos(source, 64).batch(4, np.random.default_rng(3)) for source in (photos, tmp_path / "photos.zip")]
    assert torch.equal(*batches)
    assert float(batches[0].min()) >= -1
    assert float(batches[0].max()) <= 1


def test_photos_too_small_or_broken(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match="no image of at least 999x999"):
        Photos(photos, 999)
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(HvqbenchError, match=r"bad\.png is not a readable image"):
        Photos(tmp_path, 16)


def test_codebook_starts_at_clusters_and_revives_the_dead() -> None:
    torch.manual_seed(0)
    centres = 10 * torch.eye(4)
    data = centres.repeat(50, 1) + 0.1 * torch.randn(200, 4)
    codebook = torch.zeros(8, 4)
    trainer = CodebookTrainer(codebook)
    trainer.collect(data)
    trainer.start()
    distance = torch.cdist(centres, codebook).min(1).values
    assert float(distance.max()) < 0.5
    trainer.counts[3] = 0
    before = codebook[3].clone()
    far = torch.full((16, 4), -30.0)
    assert trainer.revive(far) >= 1
    assert not torch.equal(codebook[3], before)
    assert torch.equal(codebook[3], far[0])


def test_learning_rate_and_average() -> None:
    assert cosine(0, 1000) < cosine(199, 1000)
    assert cosine(200, 1000) == pytest.approx(1.0, abs=0.01)
    assert cosine(1000, 1000) == pytest.approx(0.03, abs=1e-6)
    layer = torch.nn.Linear(1, 1)
    average = Average(layer, decay=0.5)
    start = average.state["weight"].clone()
    with torch.no_grad():
        layer.weight += 1
    for step in range(2, 40):
        average.update(layer, step * 100)
    assert torch.allclose(average.state["weight"], start + 1, atol=1e-6)
