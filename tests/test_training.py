"""Both trainers on a few real crops: they learn, stop, resume, and leave weights that the codecs accept."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hvqbench.errors import HvqbenchError
from hvqbench.training.binding import bind_index_models
from hvqbench.training.hyperprior import HyperpriorTraining
from hvqbench.training.index_model import read_training, train_index_model
from hvqbench.training.loop import Average, Run, cosine, read_config
from hvqbench.training.photos import Photos
from hvqbench.training.quantizer import CodebookTrainer
from hvqbench.training.tokenizer import TokenizerTraining, train_tokenizer
from hvqbench.vq.distance import nearest
from hvqbench.vq.models.hyperprior import Hyperprior, HyperpriorConfig, first_pass
from hvqbench.vq.models.pyramid import Hyperpriors
from hvqbench.vq.models.static import static_bits
from hvqbench.vq.tokenizer import Tokenizer

TOKENIZER = """
steps = 130
crop = 32
learning_rate = 3e-3
perceptual = []
adversarial = 0.02
adversarial_from = 0.9
rate = 0.05
rate_from = 60
codebook_from = 20
[autoencoder]
encoder_widths = [8, 8, 12]
decoder_widths = [8, 8, 12]
encoder_blocks = [1, 1, 1]
decoder_blocks = [1, 1, 1]
head_width = 4
[[tokenizer]]
name = "fine"
factor = 8
codewords = 24
dim = 3
encoder_blocks = 1
[[tokenizer]]
name = "single"
share = 2
codewords = 24
dim = 4
[[tokenizer]]
name = "residual"
codewords = 16
dim = 4
stages = 2
decoder_blocks = 1
"""
NAMES = ("fine", "single", "residual")
WITHOUT_RATE = TOKENIZER.replace("\nrate =", "\n# rate =")

INDEX_MODEL = """
tokenizer = "tokenizers/residual"
steps = 150
batch = 4
crop = 64
crops = 60
positions = 0.5
width = 12
z_channels = 2
learning_rate = 3e-3
"""


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and, on top of it, index models; each trained in two goes."""
    root = tmp_path_factory.mktemp("runs")
    (root / "tokenizer.toml").write_text(TOKENIZER)
    (root / "index.toml").write_text(INDEX_MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HVQBENCH_DATA", raising=False)
        train_tokenizer(root / "tokenizer.toml", photos, root / "tokenizers", steps=100)
        train_tokenizer(root / "tokenizer.toml", photos, root / "tokenizers")
        train_index_model(root / "index.toml", photos, root / "index", steps=100)
        train_index_model(root / "index.toml", photos, root / "index")
    return root


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_tokenizers_learn_and_resume(trained: Path, photos: Path) -> None:
    lines = log(trained / "tokenizers")
    assert [line["step"] for line in lines] == [100]  # step 130 ends between two lines of the log
    checkpoint = torch.load(trained / "tokenizers" / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 130
    batch = Photos(photos, 64).batch(8, np.random.default_rng(0))
    for name in NAMES:
        tokenizer = Tokenizer.load(trained / "tokenizers" / name / "tokenizer.safetensors")
        with torch.no_grad():
            output = tokenizer.decode(tokenizer.quantize(tokenizer.encode(batch)))
        assert float((output - batch).abs().mean()) < float((batch - batch.mean()).abs().mean())


def test_more_stages_leave_less(trained: Path, photos: Path) -> None:
    tokenizer = Tokenizer.load(trained / "tokenizers" / "residual" / "tokenizer.safetensors")
    with torch.no_grad():
        latent = tokenizer.encode(Photos(photos, 64).batch(8, np.random.default_rng(0)))
        indices = tokenizer.quantize(latent)
        entries = tokenizer.embed(indices)
        left = [float((latent - sum(entries[:stages])).square().mean()) for stages in (1, 2)]
    assert left[1] < left[0]


def test_training_goes_on_from_an_export(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HVQBENCH_DATA", raising=False)
    start = trained / "tokenizers"
    (tmp_path / "train.toml").write_text(f'start = "{start.as_posix()}"\n' + TOKENIZER.replace("dim = 3", "dim = 5"))
    with pytest.raises(HvqbenchError, match="'fine' has another shape"):
        train_tokenizer(tmp_path / "train.toml", photos, tmp_path / "out", steps=1)
    more = TOKENIZER.replace('name = "fine"', 'name = "new"').replace("learning_rate = 3e-3", "learning_rate = 1e-9")
    (tmp_path / "train.toml").write_text(f'start = "{start.as_posix()}"\n' + more)
    paths = train_tokenizer(tmp_path / "train.toml", photos, tmp_path / "out", steps=1)
    assert [path.parent.name for path in paths] == ["single", "residual", "new"]
    before, after = (
        Tokenizer.load(folder / "single" / "tokenizer.safetensors") for folder in (start, tmp_path / "out")
    )
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.allclose(old, new, atol=1e-6)


def test_decoders_alone_learn_and_leave_every_index(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HVQBENCH_DATA", raising=False)  # no card with Kodak's numbers
    start = trained / "tokenizers"
    (tmp_path / "train.toml").write_text(f'start = "{start.as_posix()}"\nlearn = "decoder"\n' + WITHOUT_RATE)
    paths = train_tokenizer(tmp_path / "train.toml", photos, tmp_path / "out", steps=3)
    batch = Photos(photos, 64).batch(4, np.random.default_rng(0))
    for path in paths:
        before, after = Tokenizer.load(start / path.parent.name / path.name), Tokenizer.load(path)
        with torch.no_grad():
            indices = before.quantize(before.encode(batch))
            found = after.quantize(after.encode(batch))
            assert all(torch.equal(*pair) for pair in zip(found, indices, strict=True))
            assert not torch.equal(after.decode(indices), before.decode(indices))


def test_index_models_follow_a_tokenizer_whose_decoder_alone_has_changed(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HVQBENCH_DATA", raising=False)
    start = trained / "tokenizers"
    (tmp_path / "train.toml").write_text(f'start = "{start.as_posix()}"\nlearn = "decoder"\n' + WITHOUT_RATE)
    train_tokenizer(tmp_path / "train.toml", photos, tmp_path / "out", steps=2)
    files = [tmp_path / f"{name}.safetensors" for name in ("hyperprior", "frequencies")]
    for file in files:
        shutil.copy(trained / "index" / file.name, file)
    before, after = start / "residual", tmp_path / "out" / "residual"
    with pytest.raises(HvqbenchError, match="give other indices"):
        bind_index_models(files, start / "single", before)
    with pytest.raises(HvqbenchError, match="belongs to neither"):
        bind_index_models(files, start / "single", start / "single")
    assert bind_index_models(files, after, before) == files
    assert bind_index_models(files, after, before) == []
    model, _, made_for = Hyperprior.load(files[0])
    assert made_for == Tokenizer.load(after / "tokenizer.safetensors").digest
    old = Hyperprior.load(trained / "index" / "hyperprior.safetensors")[0]
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("more", ["", 'start = "elsewhere"\nrate = 1.0\n'])
def test_decoders_alone_need_a_start_and_no_rate(more: str, tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_text(f'learn = "decoder"\n{more}' + WITHOUT_RATE)
    with pytest.raises(HvqbenchError, match="needs start"):
        train_tokenizer(tmp_path / "train.toml", tmp_path, tmp_path / "out")


def test_bits_of_some_positions_are_those_positions() -> None:
    torch.manual_seed(0)
    model = Hyperprior(HyperpriorConfig(3, 8, 2, 12, 2)).eval()
    latent, indices, codebooks = torch.randn(2, 3, 8, 8), torch.randint(8, (2, 2, 8, 8)), torch.randn(2, 8, 3)
    kept = torch.tensor([0, 17, 127])
    with torch.no_grad():
        every, z_bits = model(latent, indices, codebooks)
        some, same_z_bits = model(latent, indices, codebooks, kept=kept)
    assert torch.allclose(some, every[:, kept], atol=1e-5)
    assert z_bits == same_z_bits


def test_index_model_beats_static_frequencies_and_leaves_a_card(trained: Path) -> None:
    last = log(trained / "index")[-1]
    assert last["held_out_indices"] <= 1.02 * last["held_out_static"]
    card = (trained / "index" / "README.md").read_text()
    assert "| device | CPU" in card
    assert "Loss curve" in card
    assert not list((trained / "index").glob("indices-*"))


def test_weights_make_codecs(trained: Path) -> None:
    from hvqbench.catalog import load_codec

    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    for kind, weights in {"static": "frequencies", "hyperprior": "hyperprior"}.items():
        folder = trained / kind
        folder.mkdir()
        text = f'adapter = "vq"\nsummary = "test"\npoints = [0]\npoint_name = "L"\n[options]\nindex_model = "{kind}"\n'
        text += f'tokenizer = "../tokenizers/residual"\nweights = "../index/{weights}.safetensors"\n'
        (folder / "codec.toml").write_text(text)
        codec = load_codec(str(folder))
        stream = codec.encode(image, 0)
        assert codec.digest(stream.data, codec.decode(stream.data)) == stream.digest


def test_joint_training_leaves_a_hyperprior_for_each_tokenizer(trained: Path) -> None:
    for name in NAMES:
        folder = trained / "tokenizers" / name
        model, _, made_for = Hyperprior.load(folder / "hyperprior.safetensors")
        assert made_for == Tokenizer.load(folder / "tokenizer.safetensors").digest
        assert model.bias.std() > 0


@pytest.mark.parametrize("mode", ["hard", "ste", "soft"])
def test_rate_reaches_the_latent_as_the_mode_says(mode: str) -> None:
    torch.manual_seed(0)
    model = Hyperprior(HyperpriorConfig(dim=4, codewords=16, stages=2, width=8, z_channels=2))
    codebooks = torch.randn(2, 16, 4)
    model.start_static(torch.ones(2, 16), codebooks)
    latent = torch.randn(1, 4, 8, 8, requires_grad=True)
    indices = torch.randint(16, (1, 2, 8, 8))
    bits, _ = model(latent, indices, codebooks, mode)
    hard, _ = model(latent, indices, codebooks, "hard")
    if mode == "ste":
        assert torch.allclose(bits, hard, atol=1e-4)
    # Without z's part: the gradient that comes through the synthesis is there in every mode.
    model.analysis[-1].weight.data.zero_()
    gradient = torch.autograd.grad(model(latent, indices, codebooks, mode)[0].sum(), latent)[0]
    assert (float(gradient.abs().sum()) > 0) == (mode != "hard")


def test_hyperprior_starts_near_the_static_code_at_every_stage() -> None:
    torch.manual_seed(0)
    data, stages = 2 * torch.randn(16384, 4) + 1, []
    left, codebooks = data, torch.zeros(3, 32, 4)
    for codebook in codebooks:
        CodebookTrainer(codebook, decay=0.99).start(left, per_batch=512)
        stages.append(nearest(left, codebook))
        left = left - codebook[stages[-1]]
    indices = torch.stack(stages).view(3, 128, 128)[None]
    counts = torch.stack([torch.bincount(stage, minlength=32) for stage in stages])
    model = Hyperprior(HyperpriorConfig(dim=4, codewords=32, stages=3, width=8, z_channels=2)).eval()
    model.start_static(counts, codebooks)
    bits, _ = model(data.T.view(1, 4, 128, 128), indices, codebooks)
    static = torch.stack([costs.mean() for costs in static_bits(list(counts), stages)])
    assert torch.allclose(bits.mean(1), static, rtol=0.1)


def test_stages_join_one_by_one_and_begin_with_what_is_learned() -> None:
    settings = HyperpriorTraining("tokenizer", steps=100, z_free=0.4)
    four = Hyperpriors([HyperpriorConfig(dim=4, codewords=16, stages=4, width=8, z_channels=2)])
    course = [settings.curriculum(step, four, 4) for step in range(-1, 100)]
    assert course[0] == (0, 1)
    assert [stages for _, stages in course].index(2) == 10
    assert {stages for _, stages in course} == {1, 2, 3, 4}
    assert [price for price, _ in course] == sorted(price for price, _ in course)
    assert set(course[40:]) == {(1, 4)}
    assert replace(settings, start="hyperprior.safetensors").curriculum(0, four, 4) == (1, 4)

    model = Hyperprior(HyperpriorConfig(dim=4, codewords=16, stages=3, width=8, z_channels=2))
    z = torch.randn(1, 2, 2, 2)
    _, before = model.synthesise(z, (8, 8))
    model.start_stage(1)
    _, after = model.synthesise(z, (8, 8))
    assert torch.equal(after[:, 8:16], before[:, :8])
    assert not torch.equal(after[:, 8:16], before[:, 8:16])
    assert torch.equal(after[:, 16:], before[:, 16:])


def test_a_train_toml_is_read_as_its_model_says(tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    config.write_text('tokenizer = "t"\n')
    assert type(read_training(config)) is HyperpriorTraining
    with pytest.raises(HvqbenchError, match=r"train.toml: unknown key 'layers': known are tokenizer, model, .*z_free"):
        read_training(config, {"layers": 2})
    assert read_training(config, {"layers": 2, "model": "transformer"}).layers == 2
    own = "hvqbench.training.transformer:TransformerTraining"
    assert read_training(config, {"model": own}).file == "transformer.safetensors"
    with pytest.raises(HvqbenchError, match="model = 'transfomer': did you mean 'transformer'"):
        read_training(config, {"model": "transfomer"})
    with pytest.raises(HvqbenchError, match=r"is not a subclass of .*IndexModelTraining; correct model"):
        read_training(config, {"model": "pathlib:Path"})


def test_context_starts_without_effect_and_sees_only_what_is_decoded() -> None:
    torch.manual_seed(0)
    codebooks = torch.randn(2, 16, 4)
    model = Hyperprior(HyperpriorConfig(dim=4, codewords=16, stages=2, width=8, z_channels=2, context=True)).eval()
    plain = Hyperprior(HyperpriorConfig(dim=4, codewords=16, stages=2, width=8, z_channels=2)).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    latent, indices = torch.randn(1, 4, 6, 6), torch.randint(16, (1, 2, 6, 6))
    assert torch.equal(model(latent, indices, codebooks)[0], plain(latent, indices, codebooks)[0])

    for context in model.context:
        context.out.weight.data.normal_()
    model.analysis[-1].weight.data.zero_()  # z, which knows all indices
    before = model(latent, indices, codebooks)[0].view(2, 6, 6)
    changed = indices.clone()
    changed[0, 0, 2, 3] = (changed[0, 0, 2, 3] + 1) % 16  # an odd position: of the second pass
    after = model(latent, changed, codebooks)[0].view(2, 6, 6)
    same = before[0] == after[0]
    same[2, 3] = True
    assert same.all()  # nothing of this stage depends on its second pass
    assert (before[1] != after[1]).sum() > 9  # the next stage sees it
    changed = indices.clone()
    changed[0, 0, 2, 2] = (changed[0, 0, 2, 2] + 1) % 16  # of the first pass
    after = model(latent, changed, codebooks)[0].view(2, 6, 6)
    first = first_pass((6, 6))
    first[2, 2] = False
    assert (before[0] == after[0])[first].all()
    assert (before[0] != after[0])[~first].sum() >= 10


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
    trainer = CodebookTrainer(codebook, decay=0.99)
    trainer.start(data, per_batch=50)
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


def test_more_steps_go_on_with_the_stages_that_there_are(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose curriculum has ended, continued with so many steps that its share of them would begin again."""
    monkeypatch.delenv("HVQBENCH_DATA", raising=False)
    text = INDEX_MODEL.replace("tokenizers", str(trained / "tokenizers")) + "z_free = 0.6\n"
    (tmp_path / "index.toml").write_text(text)
    train_index_model(tmp_path / "index.toml", photos, tmp_path / "index", steps=10)
    started: list[int] = []
    monkeypatch.setattr(Hyperprior, "start_stage", lambda _, stage: started.append(stage))
    train_index_model(tmp_path / "index.toml", photos, tmp_path / "index", steps=40)
    assert started == []
    assert torch.load(tmp_path / "index" / "checkpoint.pt", weights_only=True)["reached"] == (1.0, 2)


def test_a_run_stopped_where_codebooks_begin_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HVQBENCH_DATA", raising=False)
    (tmp_path / "tokenizer.toml").write_text(TOKENIZER.replace("rate_from = 60", "rate_from = 0"))
    for steps in (20, 22):
        train_tokenizer(tmp_path / "tokenizer.toml", photos, tmp_path / "out", steps=steps)
    checkpoint = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    assert all(member["ready"] for member in checkpoint["members"])
